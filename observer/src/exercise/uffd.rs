//! Userfaultfd as the scenarios need it. It never handles a fault, because no task touches a missing page or stores into a
//! protected one. The numbers and structures are from linux/userfaultfd.h, which libc lacks.

use std::os::fd::{AsRawFd, OwnedFd};

use libc::{c_int, c_ulong};

use super::outcome::{OrSkip, Result};
use super::sys::{self, check};

const API: u64 = 0xaa;
const FEATURE_MINOR_HUGETLBFS: u64 = 1 << 9;
const FEATURE_WP_HUGETLBFS_SHMEM: u64 = 1 << 12;
const FEATURE_POISON: u64 = 1 << 14;
const REGISTER_MODE_MISSING: u64 = 1 << 0;
const REGISTER_MODE_WP: u64 = 1 << 1;
const REGISTER_MODE_MINOR: u64 = 1 << 2;
const WRITEPROTECT_MODE_WP: u64 = 1 << 0;

const UFFDIO_API: c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: c_ulong = 0xc020_aa00;
const UFFDIO_COPY: c_ulong = 0xc028_aa03;
const UFFDIO_WRITEPROTECT: c_ulong = 0xc018_aa06;
const UFFDIO_CONTINUE: c_ulong = 0xc020_aa07;
const UFFDIO_POISON: c_ulong = 0xc020_aa08;

/// Features that are requested from userfaultfd.
#[derive(Clone, Copy)]
pub enum Mode {
    Missing,
    /// Pages that the file has but the mapping does not.
    Minor,
    /// Missing pages, and pages that the file has.
    MissingAndMinor,
    /// Missing pages, some of which will be poisoned.
    Poison,
    WriteProtect,
}

impl Mode {
    fn feature(self) -> u64 {
        match self {
            Mode::Missing => 0,
            Mode::Minor | Mode::MissingAndMinor => FEATURE_MINOR_HUGETLBFS,
            Mode::Poison => FEATURE_POISON,
            Mode::WriteProtect => FEATURE_WP_HUGETLBFS_SHMEM,
        }
    }

    fn register(self) -> u64 {
        match self {
            Mode::Missing | Mode::Poison => REGISTER_MODE_MISSING,
            Mode::Minor => REGISTER_MODE_MINOR,
            Mode::MissingAndMinor => REGISTER_MODE_MISSING | REGISTER_MODE_MINOR,
            Mode::WriteProtect => REGISTER_MODE_WP,
        }
    }

    fn none(self) -> &'static str {
        match self {
            Mode::Missing => "this kernel cannot fill hugetlbfs by userfaultfd",
            Mode::Minor | Mode::MissingAndMinor => {
                "this kernel has no minor faults of hugetlbfs for userfaultfd"
            }
            Mode::Poison => "this kernel cannot poison pages by userfaultfd",
            Mode::WriteProtect => "this kernel cannot write-protect hugetlbfs by userfaultfd",
        }
    }
}

/// A userfaultfd; its registrations end when it is dropped.
pub struct Userfault {
    fd: OwnedFd,
    mode: Mode,
}

impl Userfault {
    pub fn new(mode: Mode) -> Result<Userfault> {
        // SAFETY: the call takes only flags.
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
        self.protect(address, bytes, WRITEPROTECT_MODE_WP)
    }

    pub fn unprotect(&self, address: usize, bytes: usize) -> Result<()> {
        self.protect(address, bytes, 0)
    }

    fn protect(&self, address: usize, bytes: usize, mode: u64) -> Result<()> {
        // struct uffdio_writeprotect: start, len, mode
        let mut request = [address as u64, bytes as u64, mode];
        self.ioctl(UFFDIO_WRITEPROTECT, &mut request, "UFFDIO_WRITEPROTECT")
    }

    /// Fills missing pages at `address`, which must be registered.
    pub fn copy(&self, address: usize, bytes: &[u8]) -> Result<()> {
        // struct uffdio_copy: dst, src, len, mode, copy
        let mut request = [address as u64, bytes.as_ptr() as u64, bytes.len() as u64, 0, 0];
        self.ioctl(UFFDIO_COPY, &mut request, "UFFDIO_COPY")
    }

    /// Maps pages at `address` that the file already has.
    pub fn go_on(&self, address: usize, bytes: usize) -> Result<()> {
        // struct uffdio_continue: start, len, mode, mapped
        let mut request = [address as u64, bytes as u64, 0, 0];
        self.ioctl(UFFDIO_CONTINUE, &mut request, "UFFDIO_CONTINUE")
    }

    /// Poisons missing pages at `address`: a task that touches one gets SIGBUS.
    pub fn poison(&self, address: usize, bytes: usize) -> Result<()> {
        // struct uffdio_poison: start, len, mode, updated
        let mut request = [address as u64, bytes as u64, 0, 0];
        self.ioctl(UFFDIO_POISON, &mut request, "UFFDIO_POISON")
    }

    fn ioctl(&self, number: c_ulong, request: &mut [u64], name: &str) -> Result<()> {
        // SAFETY: each number above is paired with its structure, whose fields are all u64.
        let returned: c_int = unsafe { libc::ioctl(self.fd.as_raw_fd(), number, request.as_mut_ptr()) };
        check(returned.into(), || name.into()).map(drop).or_skip(&[libc::EINVAL], self.mode.none())
    }
}
