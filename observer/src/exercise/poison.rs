//! Memory failure that is real to the kernel. Both scenarios cost the machine one page until the next boot. They therefore
//! come last, are not repeated in a loop, and use a file of their own: a poisoned page stays in its file and kills every task
//! that touches it.

use super::outcome::{OrSkip, Result};
use super::paths::Pair;
use super::region::{BASE_PAGE, HUGE};
use super::{Context, Kind, Need, Scenario};

const MEMORY_FAILURE: Need = Need::Kernel("CONFIG_MEMORY_FAILURE");

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "soft-offline",
        "madvise(MADV_SOFT_OFFLINE): the page moves; costs one page until the next boot",
        Kind::Once,
        &[Need::Root, MEMORY_FAILURE],
        soft_offline,
    )
    .unshares(2),
    Scenario::new(
        "hwpoison",
        "madvise(MADV_HWPOISON): the page is unmapped everywhere; costs one page until the next boot",
        Kind::Once,
        &[Need::Root, MEMORY_FAILURE],
        hwpoison,
    )
    .unshares(1),
];

/// Offset of the page to fail: not the first, so that the range does not begin with it.
const VICTIM: usize = 3 * HUGE;
const NONE: &str = "this kernel is built without CONFIG_MEMORY_FAILURE";

/// 2 unshares: the migration, and A's unmap of the table that is shared again.
fn soft_offline(_: &Context) -> Result<String> {
    let mut pair = Pair::new()?;
    pair.region
        .advise(VICTIM, BASE_PAGE, libc::MADV_SOFT_OFFLINE, "MADV_SOFT_OFFLINE")
        .or_skip(&[libc::EINVAL], NONE)?;
    pair.touch_again()?;
    pair.end()?;
    Ok("1 page taken out of service".into())
}

/// 1 unshare, by the failure. Nobody touches the pages afterwards.
fn hwpoison(_: &Context) -> Result<String> {
    let pair = Pair::new()?;
    pair.region
        .advise(VICTIM, BASE_PAGE, libc::MADV_HWPOISON, "MADV_HWPOISON")
        .or_skip(&[libc::EINVAL], NONE)?;
    pair.end()?;
    Ok("1 page poisoned".into())
}
