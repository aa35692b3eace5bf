//! One fault in a mapping that could share: it shows the kernel's variables and the offset of the lock in an inode.

use std::{fs, io, os::fd::FromRawFd as _, os::fd::OwnedFd};

use anyhow::{Context as _, Result};

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const GIB: usize = 1 << 30;
/// A multiple of a GiB with nothing mapped near it.
const ADDRESS: usize = 0x4200_0000_0000;

/// One additional huge page, until dropped.
struct Pool(u64);

impl Pool {
    fn raise() -> Result<Pool> {
        let pages = fs::read_to_string(POOL)?.trim().parse().context("a number of huge pages")?;
        fs::write(POOL, format!("{}", pages + 1))?;
        Ok(Pool(pages))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = fs::write(POOL, self.0.to_string());
    }
}

pub fn fault() -> Result<()> {
    let _pool = Pool::raise().context("cannot raise the pool of huge pages by one")?;
    let flags = libc::MFD_CLOEXEC | libc::MFD_HUGETLB | libc::MFD_HUGE_2MB;
    // SAFETY: the name is a valid C string.
    let fd = unsafe { libc::memfd_create(c"witness".as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("memfd_create of huge pages");
    }
    // SAFETY: the kernel just made it for us.
    let _file = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: an open descriptor; then a mapping of it where nothing is, one store into it, and its end. Its only page
    // is there, since the pool was raised.
    unsafe {
        if libc::ftruncate(fd, GIB as libc::off_t) != 0 {
            return Err(io::Error::last_os_error()).context("ftruncate to 1 GiB");
        }
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let at = libc::mmap(ADDRESS as *mut libc::c_void, GIB, protection, flags, fd, 0);
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("mmap of 1 GiB of huge pages");
        }
        at.cast::<u8>().write_volatile(1);
        libc::munmap(at, GIB);
    }
    Ok(())
}
