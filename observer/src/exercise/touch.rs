//! Touches a page that may be missing: one load or store that reports SIGBUS instead of dying from it. These are plain
//! user-mode accesses, so the kernel takes the same path as for real programs: a copy by a system call would fault under
//! mmap_lock instead of the per-VMA lock. x86-64 only, like the sharing of 2 MiB page tables that this tool observes.

use std::arch::asm;

use libc::{c_int, c_void, siginfo_t, ucontext_t};

use super::sys;

/// Result of an access that raised SIGBUS: beyond the end of the file, poisoned, or the pool was empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigBus;

/// Longest possible encoding of the two accesses below, in bytes.
const ACCESS_BYTES: i64 = 8;

/// Makes [`read`] and [`write`] return SIGBUS as a result, in the calling process and its children.
pub fn install() -> sys::Result<()> {
    // SAFETY: all zeros is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_sigbus as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler touches only its arguments and calls nothing but sigaction, which is signal safe.
    let returned = unsafe { libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) };
    sys::check(returned.into(), || "sigaction of SIGBUS".into()).map(drop)
}

/// # Safety
/// `address` must be in a mapping of ours that permits loads.
pub unsafe fn read(address: usize) -> Result<(), SigBus> {
    let failed: u64;
    // SAFETY: the caller vouches for the mapping. r10 and r11 are the contract with `on_sigbus`.
    unsafe {
        asm!(
            "xor r11d, r11d",
            "lea r10, [rip + 2f]",
            "test byte ptr [{address}], 1",
            "2:",
            address = in(reg) address,
            out("r10") _,
            out("r11") failed,
            options(nostack),
        )
    };
    if failed == 0 { Ok(()) } else { Err(SigBus) }
}

/// # Safety
/// `address` must be in a mapping of ours that permits stores and holds no Rust object.
pub unsafe fn write(address: usize) -> Result<(), SigBus> {
    let failed: u64;
    // SAFETY: as in `read`; the overwritten byte belongs to no object.
    unsafe {
        asm!(
            "xor r11d, r11d",
            "lea r10, [rip + 2f]",
            "mov byte ptr [{address}], 1",
            "2:",
            address = in(reg) address,
            out("r10") _,
            out("r11") failed,
            options(nostack),
        )
    };
    if failed == 0 { Ok(()) } else { Err(SigBus) }
}

/// Resumes after one of our accesses. They keep the address to resume at, directly after the access, in r10; that identifies
/// them. Any other instruction gets the signal's default action and dies as it should.
extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    const EARLY_WARNING: c_int = 5; // BUS_MCEERR_AO: a page was poisoned, and no task has touched it yet
    // SAFETY: the kernel passes valid pointers to a SA_SIGINFO handler, the third to a ucontext_t.
    let (info, context) = unsafe { (&*info, &mut *context.cast::<ucontext_t>()) };
    if info.si_code == EARLY_WARNING {
        return;
    }
    let registers = &mut context.uc_mcontext.gregs;
    let (at, go_on) = (registers[libc::REG_RIP as usize], registers[libc::REG_R10 as usize]);
    if (1..=ACCESS_BYTES).contains(&go_on.wrapping_sub(at)) {
        registers[libc::REG_R11 as usize] = 1;
        registers[libc::REG_RIP as usize] = go_on;
        return;
    }
    // SAFETY: all zeros is SIG_DFL without flags; on return the access is repeated and kills.
    unsafe {
        let action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, &action, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn touching_a_truncated_page_is_a_result() {
        install().unwrap();
        // SAFETY: the name is a valid C string.
        let file =
            sys::owned_fd(unsafe { libc::memfd_create(c"touch".as_ptr(), 0) }.into(), || "memfd".into())
                .unwrap();
        let resize = |bytes| {
            // SAFETY: the descriptor is open.
            assert_eq!(unsafe { libc::ftruncate(file.as_raw_fd(), bytes) }, 0);
        };
        resize(4096);
        // SAFETY: a fresh mapping of our own file, nobody else's address range.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(page, libc::MAP_FAILED);
        let page = page as usize;
        // SAFETY: the page is ours and holds no Rust object.
        unsafe {
            assert_eq!(write(page), Ok(()));
            assert_eq!(read(page), Ok(()));
            assert_eq!(*(page as *const u8), 1, "the store did not happen");
            resize(0);
            assert_eq!(write(page), Err(SigBus));
            assert_eq!(read(page), Err(SigBus));
            resize(4096);
            assert_eq!(read(page), Ok(()), "a page that is back");
            libc::munmap(page as *mut c_void, 4096);
        }
    }
}
