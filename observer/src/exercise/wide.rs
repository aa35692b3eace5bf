//! One call over several page tables. A and P share a file of 4 GiB with one table per GiB, and A unlinks all four at once.
//! One page of each GiB is touched. An observer that assumes one unshare per call is wrong here.

use super::outcome::{OrSkip, Result};
use super::paths::{DONTNEED, MREMAP, NO_MREMAP, Pair, advise_dontneed, path};
use super::region::{AWAY, GIB, HugeFile, Region};
use super::{Context, Scenario};

const GIBS: usize = 4;
const BYTES: usize = GIBS * GIB;
/// Unshares if the table of each GiB is unshared once.
const EACH: u32 = GIBS as u32;

pub const SCENARIOS: &[Scenario] = &[
    path("wide-unmap", "munmap of 4 GiB, 4 shared tables, in one call", &[], unmap).unshares(EACH),
    path("wide-truncate", "ftruncate of a file whose 4 GiB are shared", &[], truncate).unshares(2 * EACH),
    path("wide-mprotect", "mprotect of 4 GiB in one call", &[], mprotect).unshares(EACH),
    path("wide-dontneed", "madvise(MADV_DONTNEED) of 4 GiB in one call", &[DONTNEED], dontneed)
        .unshares(2 * EACH),
    path("wide-remap", "mremap of 3 GiB in one call", &[MREMAP], remap).unshares(2 * MOVED as u32),
];

/// GiB to move in one call. The kernel counts the moved bytes in an int: for 4 GiB it counts 0 and fails with ENOMEM
/// (measured on 6.1 to 7.3).
const MOVED: usize = 3;

fn pair() -> Result<Pair> {
    pair_of(GIBS)
}

fn pair_of(gibs: usize) -> Result<Pair> {
    Pair::of(HugeFile::with_len(gibs * GIB)?, |file| Region::wide(file, gibs))
}

/// One unshare per table, by the unmap; P's exit frees the last link.
fn unmap(_: &Context) -> Result<String> {
    pair()?.end()?;
    Ok(format!("{GIBS} tables"))
}

/// Two unshares per table: the truncation unlinks the mapping that it meets first, and A unmaps after sharing again.
fn truncate(_: &Context) -> Result<String> {
    let mut pair = pair()?;
    pair.file.set_len(0)?;
    pair.file.set_len(BYTES)?;
    pair.touch_again()?;
    pair.end()?;
    Ok(format!("{GIBS} tables, shared twice"))
}

/// One unshare per table, by the change. Afterwards the flags differ from P's, so A faults in tables that are not shared.
fn mprotect(_: &Context) -> Result<String> {
    let pair = pair()?;
    pair.region.protect(BYTES, libc::PROT_READ)?;
    pair.region.load()?;
    pair.end()?;
    Ok(format!("{GIBS} tables"))
}

/// Two unshares per table: the advice, and A's unmap after sharing again.
fn dontneed(_: &Context) -> Result<String> {
    let pair = pair()?;
    advise_dontneed(&pair.region, BYTES)?;
    pair.region.fill()?;
    pair.end()?;
    Ok(format!("{GIBS} tables, shared twice"))
}

/// Two unshares per table: the move, and A's unmap after sharing again at the new place.
fn remap(_: &Context) -> Result<String> {
    let mut pair = pair_of(MOVED)?;
    pair.region.remap_to(AWAY).or_skip(&[libc::EINVAL], NO_MREMAP)?;
    pair.region.fill()?;
    pair.end()?;
    Ok(format!("{MOVED} tables, shared twice"))
}
