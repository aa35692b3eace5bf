//! The exerciser's system calls, each with an error that says what was tried on which object. This file holds no state and
//! does not know the scenarios.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use libc::{c_int, c_long, c_void, pid_t};

#[derive(Debug, thiserror::Error)]
#[error("{tried}: {source}")]
pub struct Error {
    tried: String,
    source: io::Error,
}

impl Error {
    pub fn new(tried: impl Into<String>, source: io::Error) -> Error {
        Error { tried: tried.into(), source }
    }

    pub fn last(tried: impl Into<String>) -> Error {
        Error::new(tried, io::Error::last_os_error())
    }

    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// Checks a system call's result: -1 means an error in errno.
pub fn check(returned: c_long, tried: impl FnOnce() -> String) -> Result<c_long> {
    if returned == -1 { Err(Error::last(tried())) } else { Ok(returned) }
}

pub fn read_text(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    fs::read_to_string(path).map_err(|source| Error::new(format!("read {}", path.display()), source))
}

pub fn read_bytes(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    let path = path.as_ref();
    fs::read(path).map_err(|source| Error::new(format!("read {}", path.display()), source))
}

pub fn write_text(path: impl AsRef<Path>, text: &str) -> Result<()> {
    let path = path.as_ref();
    fs::write(path, text).map_err(|source| Error::new(format!("write {text} to {}", path.display()), source))
}

/// Also moves pages that other tasks map; without it no shared page moves. linux/mempolicy.h, not in libc.
const MPOL_MF_MOVE_ALL: c_int = 1 << 2;

/// Calls `move_pages(2)`: moves the pages to `node`, or with `None` only queries their nodes. Returns the node of each page,
/// or a negative errno.
pub fn move_pages(pid: pid_t, pages: &[usize], node: Option<i32>) -> Result<Vec<i32>> {
    let nodes = node.map(|node| vec![node; pages.len()]);
    let mut status = vec![-libc::ENODATA; pages.len()];
    // SAFETY: all three arrays have `pages.len()` elements and live over the call; the kernel writes only `status`. A page
    // address is only looked up, not dereferenced.
    let left = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            pid,
            pages.len(),
            pages.as_ptr(),
            nodes.as_ref().map_or(std::ptr::null(), |nodes| nodes.as_ptr()),
            status.as_mut_ptr(),
            if node.is_some() { MPOL_MF_MOVE_ALL } else { 0 },
        )
    };
    check(left, || match node {
        Some(node) => format!("move_pages of {} pages of task {pid} to node {node}", pages.len()),
        None => format!("move_pages query of {} pages of task {pid}", pages.len()),
    })?;
    Ok(status)
}

/// Binds a range to the nodes, and checks that each page is on one of them. linux/mempolicy.h, not in libc.
pub fn mbind(address: usize, bytes: usize, nodes: &[i32]) -> Result<()> {
    const MPOL_MF_STRICT: c_int = 1 << 0;
    let tried = || format!("mbind(MPOL_BIND, MPOL_MF_STRICT) of {bytes} bytes at {address:#x}");
    let mask = mask(nodes).ok_or_else(|| Error::new(tried(), io::ErrorKind::Unsupported.into()))?;
    // SAFETY: the mask is one u64 and its length in bits is given; the kernel only reads it.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            address,
            bytes,
            libc::MPOL_BIND,
            &mask,
            // The kernel uses one bit less than the given length.
            u64::BITS as usize + 1,
            MPOL_MF_STRICT,
        )
    };
    check(returned, tried).map(drop)
}

fn mask(nodes: &[i32]) -> Option<u64> {
    nodes.iter().try_fold(0, |mask, &node| Some(mask | 1u64.checked_shl(node as u32)?))
}

/// Prefers one node for this task's next pages, while it has free pages. Children inherit it.
pub fn prefer_node(node: i32) -> Result<()> {
    let tried = || format!("set_mempolicy(MPOL_PREFERRED) to node {node}");
    let mask = mask(&[node]).ok_or_else(|| Error::new(tried(), io::ErrorKind::Unsupported.into()))?;
    // SAFETY: the mask is one u64 and its length in bits is given; the kernel only reads it.
    let returned =
        unsafe { libc::syscall(libc::SYS_set_mempolicy, libc::MPOL_PREFERRED, &mask, u64::BITS as usize) };
    check(returned, tried).map(drop)
}

/// Reads one byte at each address of a task's mm (which may be our own) through get_user_pages.
pub fn vm_read(pid: pid_t, pages: &[usize]) -> Result<usize> {
    let mut bytes = vec![0u8; pages.len()];
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast::<c_void>(), iov_len: bytes.len() };
    let remote: Vec<libc::iovec> =
        pages.iter().map(|&page| libc::iovec { iov_base: page as *mut c_void, iov_len: 1 }).collect();
    // SAFETY: `local` covers `bytes`, which lives over the call; the kernel checks remote addresses.
    let read = unsafe { libc::process_vm_readv(pid, &local, 1, remote.as_ptr(), remote.len() as u64, 0) };
    check(read as c_long, || format!("process_vm_readv of {} bytes of task {pid}", pages.len()))
        .map(|read| read as usize)
}

pub fn pread(file: &impl AsRawFd, buffer: &mut [u8], offset: u64, what: &str) -> Result<usize> {
    // SAFETY: the buffer is exclusively ours and its length is given.
    let read = unsafe {
        libc::pread(file.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), offset as libc::off_t)
    };
    check(read as c_long, || format!("pread of {} bytes of {what}", buffer.len())).map(|read| read as usize)
}

/// Wraps a file descriptor that a system call just returned.
pub fn owned_fd(returned: c_long, tried: impl FnOnce() -> String) -> Result<OwnedFd> {
    let fd = check(returned, tried)?;
    // SAFETY: a new descriptor that has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

pub fn is_root() -> bool {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() == 0 }
}
