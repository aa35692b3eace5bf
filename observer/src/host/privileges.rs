//! Privileges of this process.
//!
//! Decides which ones a live run keeps after everything is attached: the rings are memory and the programs are held by open files,
//! so that little is left to do that needs any. Everything else is dropped for good, and `no_new_privs` is set. The capabilities
//! of a thread are its own, and threads inherit them: this is called before other threads are made.

use std::{fs, io};

/// A capability: its name and number (include/uapi/linux/capability.h).
pub type Capability = (&'static str, u32);

/// Reading maps and the counters of programs; below 5.19 every call of bpf(2) asks for it (kernel/bpf/syscall.c, `__sys_bpf`).
pub const BPF: Capability = ("CAP_BPF", 39);
/// Ending the command, which may run as another user.
pub const KILL: Capability = ("CAP_KILL", 5);
/// Kept by every live run.
pub const KEPT: [Capability; 2] = [BPF, KILL];
/// Kept with a dashboard: writing where the person at the dashboard says, who may own the folder.
pub const DAC_OVERRIDE: Capability = ("CAP_DAC_OVERRIDE", 1);

/// Version of the two structures below: 64 capabilities (include/uapi/linux/capability.h).
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Head {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Drops all capabilities but those in `keep` that this process has, from every set, and forbids new privileges.
///
/// # Errors
/// The kernel refuses one of the steps; what was dropped until then stays dropped.
pub fn drop_all_but(keep: &[Capability]) -> io::Result<()> {
    let permitted = permitted()?;
    let kept = keep.iter().fold(0_u64, |all, (_, number)| all | 1 << number) & permitted;
    // From the bounding set: needs CAP_SETPCAP, without which nothing can be gained either, after `no_new_privs`.
    for number in (0..64).filter(|number| kept >> number & 1 == 0) {
        // SAFETY: numbers only. A number beyond the last capability is an error that means nothing.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number as libc::c_ulong, 0, 0, 0) };
    }
    // SAFETY: numbers only; kernels since 4.3 have ambient capabilities.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0, 0, 0) };
    let half = |shift: u32| Data {
        effective: (kept >> shift) as u32,
        permitted: (kept >> shift) as u32,
        inheritable: 0,
    };
    let (head, data) = (Head { version: VERSION_3, pid: 0 }, [half(0), half(32)]);
    // SAFETY: the structures that this version of the call has.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const head, data.as_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: numbers only.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Permitted capabilities of this thread.
fn permitted() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/thread-self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .ok_or_else(|| io::Error::other("/proc/thread-self/status has no CapPrm"))
}
