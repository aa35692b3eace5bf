//! The deterministic scenarios: one path of page-table sharing each, with two or three tasks, one step after the other. A is
//! the scenario's main task, P its partner; both map the same GiB at the same address. Each row gives the number of unshares
//! on a stock kernel, and the comment of its function says where they occur. The number is for the observer's tests: a
//! scenario does not look at page tables, so it can run under any observer.

use super::outcome::{OrSkip, Result, Stop};
use super::process::{Child, Partner};
use super::region::{AWAY, GIB, HUGE, HugeFile, PAGES, Region, TOUCHED, take_tables};
use super::sys;
use super::uffd::{Mode, Userfault};
use super::{Context, Kind, Need, Scenario};

/// Length of a part of a mapping, which forces a split.
pub const PART: usize = TOUCHED / 2;

pub const MREMAP: Need = Need::Kernel("mremap of hugetlbfs, 5.16");
pub const NO_MREMAP: &str = "this kernel cannot mremap hugetlbfs";
pub const DONTNEED: Need = Need::Kernel("MADV_DONTNEED of hugetlbfs, 5.18");
const UFFD: Need = Need::Kernel("userfaultfd");
const UFFD_MINOR: Need = Need::Kernel("userfaultfd minor faults of hugetlbfs, 5.13");
const UFFD_POISON: Need = Need::Kernel("userfaultfd poisoning, 6.6");
const UFFD_WP: Need = Need::Kernel("userfaultfd write protection of hugetlbfs, 5.19");

pub const SCENARIOS: &[Scenario] = &[
    path("share", "two tasks share a table, the second exits", &[], share).unshares(1),
    path("fork", "a child shares its parent's table at its first fault and exits", &[], fork).unshares(1),
    path("three", "three tasks share a table and go one by one", &[], three).unshares(2),
    path("exit", "a third task joins a shared table and exits, then the first unmaps", &[], exit).unshares(2),
    path("unmap", "one of two tasks that share a table unmaps it", &[], unmap).unshares(1),
    path(
        "page-again",
        "a table is freed, and the task gets its page again for ordinary memory",
        &[],
        page_again,
    )
    .unshares(0),
    path("mprotect", "mprotect of a whole shared mapping", &[], mprotect).unshares(1),
    path("split-mprotect", "mprotect of a part: the VMA is split and unshared", &[], split_mprotect)
        .unshares(1),
    path("split-munmap", "munmap of a part: the VMA is split and unshared", &[], split_munmap).unshares(1),
    path("mremap", "mremap of a shared mapping to another GiB, where it shares again", &[MREMAP], mremap)
        .unshares(2),
    path("punch", "fallocate(PUNCH_HOLE) unshares the mappings of other tasks", &[], punch).unshares(2),
    path("truncate", "ftruncate to nothing and back unshares the mappings of other tasks", &[], truncate)
        .unshares(2),
    path("dontneed", "madvise(MADV_DONTNEED) of the touched pages", &[DONTNEED], dontneed).unshares(2),
    path("migrate", "move_pages to the second memory node and back", &[Need::Root, Need::TwoNodes], migrate)
        .unshares(2),
    path("uffd-copy", "userfaultfd fills a missing page of a shared mapping", &[Need::Root, UFFD], uffd_copy)
        .unshares(1),
    path(
        "uffd-continue",
        "userfaultfd maps pages that the file has into a shared mapping",
        &[Need::Root, UFFD_MINOR],
        uffd_continue,
    )
    .unshares(1),
    path(
        "uffd-poison",
        "userfaultfd poisons a missing page of a shared mapping",
        &[Need::Root, UFFD_POISON],
        uffd_poison,
    )
    .unshares(1),
    path("uffd-wp", "userfaultfd write protection of a shared mapping", &[Need::Root, UFFD_WP], uffd_wp)
        .unshares(1),
    path(
        "uffd-turns",
        "userfaultfd fills, maps and protects pages that another task punches and truncates, in turns",
        &[Need::Root, UFFD_WP],
        uffd_turns,
    )
    .unshares(0),
];

pub const fn path(
    name: &'static str,
    summary: &'static str,
    needs: &'static [Need],
    run: fn(&Context) -> Result<String>,
) -> Scenario {
    Scenario::new(name, summary, Kind::Path, needs, run)
}

/// A and P on one file that both have touched, so that the table is shared.
pub struct Pair {
    pub region: Region,
    pub partner: Partner,
    pub file: HugeFile,
}

impl Pair {
    pub fn new() -> Result<Pair> {
        Pair::of(HugeFile::new()?, Region::shared)
    }

    /// Makes a pair that maps the file by `map`.
    pub fn of(file: HugeFile, map: impl Fn(&HugeFile) -> sys::Result<Region>) -> Result<Pair> {
        let mut partner = Partner::mapper_of("partner", || map(&file))?;
        partner.map_and_touch()?;
        let region = map(&file)?;
        region.fill()?;
        Ok(Pair { region, partner, file })
    }

    /// Makes both touch again, which shares again if the mappings still allow it.
    pub fn touch_again(&mut self) -> Result<()> {
        self.partner.touch()?;
        Ok(self.region.fill()?)
    }

    /// Ends the pair: A unmaps while P still exists, then P exits.
    pub fn end(self) -> Result<()> {
        drop(self.region);
        self.partner.exit()
    }
}

/// 1 unshare, at P's exit.
fn share(_: &Context) -> Result<String> {
    let Pair { region, partner, .. } = Pair::new()?;
    partner.exit()?;
    drop(region);
    Ok(format!("2 tasks, {PAGES} pages"))
}

/// 1 unshare, at the child's exit.
fn fork(_: &Context) -> Result<String> {
    let file = HugeFile::new()?;
    let region = Region::shared(&file)?;
    region.fill()?;
    Child::fork("child", || i32::from(region.fill().is_err()))?.join()?;
    Ok(format!("parent and child, {PAGES} pages"))
}

/// 2 unshares: the last user's table is freed, not unshared.
fn three(_: &Context) -> Result<String> {
    let file = HugeFile::new()?;
    let mut second = Partner::mapper("partner", &file)?;
    let mut third = Partner::mapper("third", &file)?;
    let region = Region::shared(&file)?;
    region.fill()?;
    second.map_and_touch()?;
    third.map_and_touch()?;
    second.exit()?;
    third.exit()?;
    drop(region);
    Ok(format!("3 tasks, {PAGES} pages"))
}

/// 2 unshares: the third task's exit, and A's unmap while P exists.
fn exit(_: &Context) -> Result<String> {
    let file = HugeFile::new()?;
    let mut second = Partner::mapper("partner", &file)?;
    let mut third = Partner::mapper("third", &file)?;
    second.map_and_touch()?;
    let region = Region::shared(&file)?;
    region.fill()?;
    third.map_and_touch()?;
    third.exit()?;
    drop(region);
    second.exit()?;
    Ok(format!("3 tasks, {PAGES} pages"))
}

/// 1 unshare, at A's unmap.
fn unmap(_: &Context) -> Result<String> {
    Pair::new()?.end()?;
    Ok(format!("2 tasks, {PAGES} pages"))
}

/// No unshare. The page freed last is allocated first: a new table gets it, and that table's lock lies where the old one's
/// did. The exit acquires it.
fn page_again(_: &Context) -> Result<String> {
    const TABLES: usize = 16;
    let region = Region::shared(&HugeFile::new()?)?;
    region.fill()?;
    drop(region);
    take_tables(TABLES)?;
    Ok(format!("1 table freed, {TABLES} made"))
}

/// 1 unshare. Afterwards the flags differ from P's, so A faults in a table that is not shared.
fn mprotect(_: &Context) -> Result<String> {
    let pair = Pair::new()?;
    pair.region.protect(GIB, libc::PROT_READ)?;
    pair.region.load()?;
    pair.end()?;
    Ok("1 GiB made read-only".into())
}

/// 1 unshare, at the split; the remaining mapping does not cover the GiB.
fn split_mprotect(_: &Context) -> Result<String> {
    let pair = Pair::new()?;
    pair.region.protect(PART, libc::PROT_READ)?;
    pair.region.load()?;
    pair.end()?;
    Ok(format!("{} MiB made read-only", PART >> 20))
}

/// 1 unshare, at the split.
fn split_munmap(_: &Context) -> Result<String> {
    let pair = Pair::new()?;
    pair.region.unmap_head(PART)?;
    pair.end()?;
    Ok(format!("{} MiB unmapped", PART >> 20))
}

/// 2 unshares: the move, and the unmap of the table that is shared again at the new place.
///
/// Only a shared table may be moved to an address where sharing is possible. Otherwise the kernel tries to share there and
/// requests the i_mmap_rwsem that it already holds for the move: it waits for itself for ever (measured on 6.1 to 7.3).
fn mremap(_: &Context) -> Result<String> {
    let mut pair = Pair::new()?;
    pair.region.remap_to(AWAY).or_skip(&[libc::EINVAL], NO_MREMAP)?;
    pair.region.fill()?;
    pair.end()?;
    Ok(format!("1 GiB moved to {AWAY:#x}"))
}

/// Moves an unshared table to where it could be shared, so that the kernel waits for itself. Returns only if it does not.
pub fn mremap_alone(_: &Context) -> Result<String> {
    let file = HugeFile::new()?;
    let mut region = Region::shared(&file)?;
    region.fill()?;
    region.remap_to(AWAY).or_skip(&[libc::EINVAL], NO_MREMAP)?;
    Ok(format!("1 GiB moved to {AWAY:#x}"))
}

/// 2 unshares: the punch, and A's unmap of the table that is shared again.
fn punch(_: &Context) -> Result<String> {
    let mut pair = Pair::new()?;
    pair.file.punch(0, TOUCHED)?;
    pair.touch_again()?;
    pair.end()?;
    Ok(format!("{PAGES} pages dropped"))
}

/// 2 unshares, like a punch.
fn truncate(_: &Context) -> Result<String> {
    let mut pair = Pair::new()?;
    pair.file.set_len(0)?;
    pair.file.set_len(GIB)?;
    pair.touch_again()?;
    pair.end()?;
    Ok(format!("{PAGES} pages dropped"))
}

/// 2 unshares, both of A's mapping: by the advice, and by its unmap after sharing again.
fn dontneed(_: &Context) -> Result<String> {
    let pair = Pair::new()?;
    advise_dontneed(&pair.region, TOUCHED)?;
    pair.region.fill()?;
    pair.end()?;
    Ok(format!("{PAGES} pages unmapped"))
}

pub fn advise_dontneed(region: &Region, bytes: usize) -> Result<()> {
    region
        .advise(0, bytes, libc::MADV_DONTNEED, "MADV_DONTNEED")
        .or_skip(&[libc::EINVAL], "this kernel has no MADV_DONTNEED for hugetlbfs")
}

/// 2 unshares: the first move unlinks the table from one of the two (the way back finds it with one user), and A's unmap of
/// the table that is shared again.
fn migrate(context: &Context) -> Result<String> {
    let (home, away) = context.two_nodes()?;
    sys::prefer_node(home)?;
    let mut pair = Pair::new()?;
    let mut moved = Vec::new();
    for node in [away, home] {
        moved.push(format!("{} to node {node}", move_to(&pair.region.pages(), node)?));
    }
    pair.touch_again()?;
    pair.end()?;
    Ok(format!("of {PAGES} pages {} moved", moved.join(", ")))
}

/// Moves the pages and returns how many are on `node` now. It is a failure only if there are none: a page can be busy.
pub fn move_to(pages: &[usize], node: i32) -> Result<usize> {
    let status = sys::move_pages(0, pages, Some(node))?;
    match status.iter().filter(|&&on| on == node).count() {
        0 => Err(Stop::Fail(format!(
            "move_pages moved none of {} pages to node {node}: {status:?}",
            pages.len()
        ))),
        there => Ok(there),
    }
}

/// 1 unshare, at A's unmap: a mapping registered for missing pages keeps sharing. Nobody faults meanwhile.
fn uffd_copy(_: &Context) -> Result<String> {
    let pair = Pair::new()?;
    let userfault = Userfault::new(Mode::Missing)?;
    userfault.register(pair.region.address(), GIB)?;
    userfault.copy(pair.region.page(PAGES), &vec![1; HUGE])?;
    pair.end()?;
    Ok("1 GiB registered, 1 page filled".into())
}

/// 1 unshare, at the registration; a write-protected mapping does not share again.
fn uffd_wp(_: &Context) -> Result<String> {
    let pair = Pair::new()?;
    let userfault = Userfault::new(Mode::WriteProtect)?;
    userfault.register(pair.region.address(), GIB)?;
    userfault.write_protect(pair.region.address(), TOUCHED)?;
    pair.region.load()?;
    pair.end()?;
    Ok(format!("1 GiB registered, {PAGES} pages protected"))
}

/// 1 unshare, at the registration: a mapping registered for minor faults does not share.
fn uffd_continue(_: &Context) -> Result<String> {
    let pair = Pair::new()?;
    let userfault = Userfault::new(Mode::Minor)?;
    userfault.register(pair.region.address(), GIB)?;
    userfault.go_on(pair.region.address(), TOUCHED)?;
    pair.region.load()?;
    pair.end()?;
    Ok(format!("1 GiB registered, {PAGES} pages mapped"))
}

/// 1 unshare, at A's unmap, like a copy. Nobody touches the poisoned page.
fn uffd_poison(_: &Context) -> Result<String> {
    let pair = Pair::new()?;
    let userfault = Userfault::new(Mode::Poison)?;
    userfault.register(pair.region.address(), GIB)?;
    userfault.poison(pair.region.page(PAGES), HUGE)?;
    pair.end()?;
    Ok("1 GiB registered, 1 page poisoned".into())
}

/// No unshare: the mapping is too short for a shared table. It does everything that userfaultfd can do, in turns with another
/// task's changes to the file. Nothing in it is a race, and every lookup is inside an operation.
fn uffd_turns(_: &Context) -> Result<String> {
    let file = HugeFile::with_len(TOUCHED)?;
    let mut mapped = None;
    let mut partner = Partner::fork("partner", |order| {
        match order {
            "punch" => file.punch(HUGE + 4096, HUGE)?,
            "punch a part" => file.punch(4096, 4096)?,
            "truncate" => file.set_len(3 * HUGE)?,
            _ => mapped.insert(Region::shared_short(&file, TOUCHED)?).fill()?,
        }
        Ok(())
    })?;
    let mut region = Region::shared_short(&file, TOUCHED)?;
    let filling = Userfault::new(Mode::MissingAndMinor)?;
    filling.register(region.address(), TOUCHED)?;
    for page in [0, 3] {
        filling.copy(region.page(page), &vec![7; HUGE])?;
    }
    partner.order("map and touch")?;
    filling.go_on(region.page(1), 2 * HUGE)?;
    partner.order("punch")?;
    drop(filling);
    let protecting = Userfault::new(Mode::WriteProtect)?;
    protecting.register(region.address(), TOUCHED)?;
    protecting.write_protect(region.address(), PART)?;
    partner.order("punch a part")?;
    // 6.1 faults for ever on a page that is still protected after the userfaultfd is closed.
    protecting.unprotect(region.address(), PART)?;
    drop(protecting);
    advise_dontneed(&region, 2 * HUGE)?;
    region.protect(TOUCHED, libc::PROT_READ)?;
    region.protect(TOUCHED, libc::PROT_READ | libc::PROT_WRITE)?;
    region.advise(3 * HUGE, HUGE, libc::MADV_REMOVE, "MADV_REMOVE")?;
    Child::fork("child", || i32::from(region.write(0).is_err()))?.join()?;
    region.fill()?;
    region.remap_to(AWAY).or_skip(&[libc::EINVAL], NO_MREMAP)?;
    // The moved mapping has a new lock, which observer knows only after an operation on it; a truncate would acquire it
    // earlier.
    advise_dontneed(&region, HUGE)?;
    region.fill()?;
    partner.order("truncate")?;
    partner.exit()?;
    Ok(format!("{PAGES} pages filled, mapped, protected, dropped and moved, in turns"))
}
