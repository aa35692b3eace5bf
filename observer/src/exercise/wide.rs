//! One call over several page tables: A and P share a file of 4 GiB, of which each GiB has a table of its own, and
//! A takes all four away at once. One page of each GiB is touched. Whatever follows one unshare per call is wrong here.

use super::outcome::{OrSkip, Result};
use super::paths::{DONTNEED, MREMAP, NO_MREMAP, Pair, advise_dontneed, path};
use super::region::{AWAY, GIB, HugeFile, Region};
use super::{Context, Scenario};

const GIBS: usize = 4;
const BYTES: usize = GIBS * GIB;
/// A table shared in each GiB, once.
const EACH: u32 = GIBS as u32;

pub const SCENARIOS: &[Scenario] = &[
    path("wide-unmap", "munmap of 4 GiB, 4 shared tables, in one call", &[], unmap).unshares(EACH),
    path("wide-truncate", "ftruncate of a file whose 4 GiB are shared", &[], truncate).unshares(2 * EACH),
    path("wide-mprotect", "mprotect of 4 GiB in one call", &[], mprotect).unshares(EACH),
    path("wide-dontneed", "madvise(MADV_DONTNEED) of 4 GiB in one call", &[DONTNEED], dontneed)
        .unshares(2 * EACH),
    path("wide-remap", "mremap of 3 GiB in one call", &[MREMAP], remap).unshares(2 * MOVED as u32),
];

/// The kernel counts the bytes that it moved in an int: of 4 GiB it finds that none were, and says that there is no memory
/// (measured on 6.1 to 7.3).
const MOVED: usize = 3;

fn pair() -> Result<Pair> {
    pair_of(GIBS)
}

fn pair_of(gibs: usize) -> Result<Pair> {
    Pair::of(HugeFile::with_len(gibs * GIB)?, |file| Region::wide(file, gibs))
}

/// One of each table, by the unmap; P's exit is the last user's.
fn unmap(_: &Context) -> Result<String> {
    pair()?.end()?;
    Ok(format!("{GIBS} tables"))
}

/// One of each table by the truncation, from whichever of the two it meets first, and one by A's unmap of what was
/// shared again.
fn truncate(_: &Context) -> Result<String> {
    let mut pair = pair()?;
    pair.file.set_len(0)?;
    pair.file.set_len(BYTES)?;
    pair.touch_again()?;
    pair.end()?;
    Ok(format!("{GIBS} tables, shared twice"))
}

/// One of each table, by the change; the flags differ from P's afterwards, so A faults tables of its own in.
fn mprotect(_: &Context) -> Result<String> {
    let pair = pair()?;
    pair.region.protect(BYTES, libc::PROT_READ)?;
    pair.region.load()?;
    pair.end()?;
    Ok(format!("{GIBS} tables"))
}

/// One of each table by the advice, one by A's unmap of what was shared again.
fn dontneed(_: &Context) -> Result<String> {
    let pair = pair()?;
    advise_dontneed(&pair.region, BYTES)?;
    pair.region.fill()?;
    pair.end()?;
    Ok(format!("{GIBS} tables, shared twice"))
}

/// One of each table by the move, one by A's unmap of what was shared again at the new place.
fn remap(_: &Context) -> Result<String> {
    let mut pair = pair_of(MOVED)?;
    pair.region.remap_to(AWAY).or_skip(&[libc::EINVAL], NO_MREMAP)?;
    pair.region.fill()?;
    pair.end()?;
    Ok(format!("{MOVED} tables, shared twice"))
}
