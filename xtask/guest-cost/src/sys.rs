//! The system calls of the operations, with the arguments that they need.

use std::{
    ffi::CStr,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// Size of a huge page in bytes.
pub const HUGE: usize = 2 << 20;
/// Bytes that one page table maps. A mapping shares its table only if it covers the whole aligned GiB.
pub const GIB: usize = 1 << 30;
/// Size of a base page in bytes.
pub const BASE_PAGE: usize = 4096;
/// Huge pages of the pool, half of them on each node.
const POOL: u32 = 64;

pub fn check(returned: impl Into<i64>) -> io::Result<i64> {
    match returned.into() {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// Fills the pool of huge pages.
pub fn reserve_huge_pages() -> io::Result<()> {
    const PATH: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    fs::write(PATH, POOL.to_string())?;
    let there = fs::read_to_string(PATH)?;
    if there.trim() != POOL.to_string() {
        return Err(io::Error::other(format!("only {} of {POOL} huge pages", there.trim())));
    }
    Ok(())
}

pub fn make_fifo(path: &CStr) -> io::Result<()> {
    // SAFETY: the path is a C string.
    check(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }).map(drop)
}

/// A sparse hugetlbfs file.
pub struct HugeFile(OwnedFd);

impl HugeFile {
    pub fn new(bytes: usize) -> io::Result<HugeFile> {
        let flags = libc::MFD_HUGETLB | libc::MFD_HUGE_2MB;
        // SAFETY: the name is a C string; the descriptor is new and has no other owner.
        let file = unsafe {
            let fd = check(libc::memfd_create(c"guest-cost".as_ptr(), flags))?;
            HugeFile(OwnedFd::from_raw_fd(fd as libc::c_int))
        };
        file.set_length(bytes)?;
        Ok(file)
    }

    /// Sets the length; a length of 0 frees the pages.
    pub fn set_length(&self, bytes: usize) -> io::Result<()> {
        // SAFETY: the descriptor is open.
        check(unsafe { libc::ftruncate(self.0.as_raw_fd(), bytes as libc::off_t) }).map(drop)
    }
}

/// A mapping, unmapped on drop.
pub struct Mapping {
    address: usize,
    bytes: usize,
}

impl Mapping {
    /// Maps the beginning of a file, shared.
    pub fn shared(file: &HugeFile, address: usize, bytes: usize) -> io::Result<Mapping> {
        Mapping::new(address, bytes, libc::MAP_SHARED | libc::MAP_NORESERVE, file.0.as_raw_fd())
    }

    /// Maps huge pages without a file.
    pub fn private_huge(address: usize, bytes: usize) -> io::Result<Mapping> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_HUGE_2MB;
        Mapping::new(address, bytes, flags, -1)
    }

    /// Maps base pages without a file, where the kernel likes: beside other mappings, whose page table is there already.
    pub fn private(bytes: usize) -> io::Result<Mapping> {
        Mapping::new(0, bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    fn new(address: usize, bytes: usize, flags: libc::c_int, fd: libc::c_int) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let fixed = if address == 0 { 0 } else { libc::MAP_FIXED_NOREPLACE };
        let flags = flags | fixed;
        // SAFETY: the flags never replace a range in use; the length is not zero.
        let mapped = unsafe { libc::mmap(address as *mut _, bytes, protection, flags, fd, 0) };
        let address = check(mapped as i64)? as usize;
        Ok(Mapping { address, bytes })
    }

    pub fn huge_page(&self, n: usize) -> usize {
        self.address + n % (self.bytes / HUGE) * HUGE
    }

    /// Stores into the n-th huge page, or into the first base page.
    #[inline(always)]
    pub fn touch(&self, n: usize) {
        let page = if self.bytes < HUGE { self.address } else { self.huge_page(n) };
        // SAFETY: inside the mapping, which is writable and holds no Rust object.
        unsafe { (page as *mut u8).write_volatile(1) };
    }

    pub fn protect(&self, protection: libc::c_int) -> io::Result<()> {
        // SAFETY: inside the mapping, which is not accessed while it is protected.
        check(unsafe { libc::mprotect(self.address as *mut _, self.bytes, protection) }).map(drop)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's, and nothing refers to its content.
        unsafe { libc::munmap(self.address as *mut _, self.bytes) };
    }
}

/// Moves one page of this process to a memory node.
pub fn move_page(page: usize, node: libc::c_int) -> io::Result<()> {
    /// linux/mempolicy.h, not in libc.
    const MPOL_MF_MOVE: libc::c_int = 1 << 1;
    let mut status = -libc::ENODATA;
    // SAFETY: one page, one node and one status, which live over the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            0,
            1_usize,
            &raw const page,
            &raw const node,
            &raw mut status,
            MPOL_MF_MOVE,
        )
    })?;
    if status == node {
        Ok(())
    } else {
        Err(io::Error::other(format!("a page is not moved to node {node}: status {status}")))
    }
}

/// Puts this thread and those that it makes into the real-time class, or back: tasks of one real-time priority take turns only
/// when one sleeps or yields, so that their order is the same in each run.
pub fn set_real_time(is_on: bool) -> io::Result<()> {
    let (policy, sched_priority) = if is_on { (libc::SCHED_FIFO, 1) } else { (libc::SCHED_OTHER, 0) };
    let parameter = libc::sched_param { sched_priority };
    // SAFETY: the structure lives over the call. 0 is the calling thread.
    check(unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameter) }).map(drop)
}
