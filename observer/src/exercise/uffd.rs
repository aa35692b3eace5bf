//! Userfaultfd as far as a scenario needs it: no fault is ever handled, because nobody touches a missing page or
//! stores into a protected one. The numbers and structures are those of linux/userfaultfd.h, which libc lacks.

use std::os::fd::{AsRawFd, OwnedFd};

use libc::{c_int, c_ulong};

use super::outcome::{OrSkip, Result};
use super::sys::{self, check};

const API: u64 = 0xaa;
const FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
const REGISTER_MODE_MISSING: u64 = 1 << 0;
const REGISTER_MODE_WP: u64 = 1 << 1;
const WRITEPROTECT_MODE_WP: u64 = 1 << 0;

const UFFDIO_API: c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: c_ulong = 0xc020_aa00;
const UFFDIO_COPY: c_ulong = 0xc028_aa03;
const UFFDIO_WRITEPROTECT: c_ulong = 0xc018_aa06;

/// What it is asked for.
#[derive(Clone, Copy)]
pub enum Mode {
    Missing,
    WriteProtect,
}

impl Mode {
    fn feature(self) -> u64 {
        match self {
            Mode::Missing => 0,
            Mode::WriteProtect => FEATURE_WP_HUGETLBFS_SHMEM,
        }
    }

    fn register(self) -> u64 {
        match self {
            Mode::Missing => REGISTER_MODE_MISSING,
            Mode::WriteProtect => REGISTER_MODE_WP,
        }
    }

    fn none(self) -> &'static str {
        match self {
            Mode::Missing => "this kernel cannot fill hugetlbfs by userfaultfd",
            Mode::WriteProtect => "this kernel cannot write-protect hugetlbfs by userfaultfd",
        }
    }
}

/// What was registered ends with it.
pub struct Userfault {
    fd: OwnedFd,
    mode: Mode,
}

impl Userfault {
    pub fn new(mode: Mode) -> Result<Userfault> {
        // SAFETY: takes flags only.
        let returned = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        let fd = sys::owned_fd(returned, || "userfaultfd".into()).or_skip(&[libc::ENOSYS], mode.none())?;
        let userfault = Userfault { fd, mode };
        // struct uffdio_api: api, features, ioctls
        userfault.ioctl(UFFDIO_API, &mut [API, mode.feature(), 0], "UFFDIO_API")?;
        Ok(userfault)
    }

    pub fn register(&self, address: usize, bytes: usize) -> Result<()> {
        // struct uffdio_register: start, len, mode, ioctls
        let mut request = [address as u64, bytes as u64, self.mode.register(), 0];
        self.ioctl(UFFDIO_REGISTER, &mut request, "UFFDIO_REGISTER")
    }

    pub fn write_protect(&self, address: usize, bytes: usize) -> Result<()> {
        // struct uffdio_writeprotect: start, len, mode
        let mut request = [address as u64, bytes as u64, WRITEPROTECT_MODE_WP];
        self.ioctl(UFFDIO_WRITEPROTECT, &mut request, "UFFDIO_WRITEPROTECT")
    }

    /// Fills missing pages at `address`, which is registered.
    pub fn copy(&self, address: usize, bytes: &[u8]) -> Result<()> {
        // struct uffdio_copy: dst, src, len, mode, copy
        let mut request = [address as u64, bytes.as_ptr() as u64, bytes.len() as u64, 0, 0];
        self.ioctl(UFFDIO_COPY, &mut request, "UFFDIO_COPY")
    }

    fn ioctl(&self, number: c_ulong, request: &mut [u64], name: &str) -> Result<()> {
        // SAFETY: each number above is paired with its structure, all of whose fields are u64.
        let returned: c_int = unsafe { libc::ioctl(self.fd.as_raw_fd(), number, request.as_mut_ptr()) };
        check(returned.into(), || name.into()).map(drop).or_skip(&[libc::EINVAL], self.mode.none())
    }
}
