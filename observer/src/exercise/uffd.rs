//! Userfaultfd in write-protect mode, as far as a scenario needs it: no fault is ever handled, because nobody
//! stores into a protected page. The numbers and structures are those of linux/userfaultfd.h, which libc lacks.

use std::os::fd::{AsRawFd, OwnedFd};

use libc::{c_int, c_ulong};

use super::outcome::{OrSkip, Result};
use super::sys::{self, check};

const API: u64 = 0xaa;
const FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
const REGISTER_MODE_WP: u64 = 1 << 1;
const WRITEPROTECT_MODE_WP: u64 = 1 << 0;

const UFFDIO_API: c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: c_ulong = 0xc020_aa00;
const UFFDIO_WRITEPROTECT: c_ulong = 0xc018_aa06;

const NONE: &str = "this kernel cannot write-protect hugetlbfs by userfaultfd";

/// What was registered ends with it.
pub struct Userfault {
    fd: OwnedFd,
}

impl Userfault {
    pub fn new() -> Result<Userfault> {
        // SAFETY: takes flags only.
        let returned = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        let fd = sys::owned_fd(returned, || "userfaultfd".into()).or_skip(&[libc::ENOSYS], NONE)?;
        let userfault = Userfault { fd };
        // struct uffdio_api: api, features, ioctls
        userfault.ioctl(UFFDIO_API, &mut [API, FEATURE_WP_HUGETLBFS_SHMEM, 0], "UFFDIO_API")?;
        Ok(userfault)
    }

    pub fn register(&self, address: usize, bytes: usize) -> Result<()> {
        // struct uffdio_register: start, len, mode, ioctls
        let mut request = [address as u64, bytes as u64, REGISTER_MODE_WP, 0];
        self.ioctl(UFFDIO_REGISTER, &mut request, "UFFDIO_REGISTER in write-protect mode")
    }

    pub fn write_protect(&self, address: usize, bytes: usize) -> Result<()> {
        // struct uffdio_writeprotect: start, len, mode
        let mut request = [address as u64, bytes as u64, WRITEPROTECT_MODE_WP];
        self.ioctl(UFFDIO_WRITEPROTECT, &mut request, "UFFDIO_WRITEPROTECT")
    }

    fn ioctl(&self, number: c_ulong, request: &mut [u64], name: &str) -> Result<()> {
        // SAFETY: each number above is paired with its structure, all of whose fields are u64.
        let returned: c_int = unsafe { libc::ioctl(self.fd.as_raw_fd(), number, request.as_mut_ptr()) };
        check(returned.into(), || name.into()).map(drop).or_skip(&[libc::EINVAL], NONE)
    }
}
