//! A harmless call of observer's own, which programs must be seen to fire for.
//!
//! Decides whether what is attached also runs. A kernel may accept a program and never call it, as with function tracing switched
//! off: such a run shows nothing, and must not end with "none".

use std::{io, ptr};

/// Bytes of the mapping: one page of 2 MiB. Every x86 kernel with hugetlbfs has a pool of that size.
const BYTES: usize = 2 << 20;

/// Address of the mapping, far from all others: a GiB without a page table, else the lookups of the unmap would find the table of
/// other mappings, and its lock would be watched.
const ADDRESS: usize = 0x3f00_0000_0000;

/// Maps one huge page and unmaps it, without reserving or touching it: it needs no page of the pool.
///
/// # Errors
/// The kernel has no hugetlbfs, or does not let this process use it.
pub fn map_and_unmap() -> io::Result<()> {
    let flags = libc::MAP_PRIVATE
        | libc::MAP_ANONYMOUS
        | libc::MAP_NORESERVE
        | libc::MAP_FIXED_NOREPLACE
        | libc::MAP_HUGETLB
        | libc::MAP_HUGE_2MB;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, which replaces no other and which nothing refers to.
    unsafe {
        let start = libc::mmap(ptr::without_provenance_mut(ADDRESS), BYTES, access, flags, -1, 0);
        if start == libc::MAP_FAILED || libc::munmap(start, BYTES) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
