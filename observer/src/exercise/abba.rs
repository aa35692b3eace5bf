//! The lock-order inversions of the hugetlb code, each in two forms. In the safe form both sides run one after the other with
//! both tasks alive: every lock is acquired in the order that can deadlock, but nothing can deadlock. The `:concurrent` form
//! runs the sides at once and hangs a kernel with the bug until reboot; it is never part of a group. A move of a mapping that
//! waits for itself also hangs the kernel, and is also in no group.

use std::time::Duration;

use super::crew::{Crew, Shift};
use super::outcome::{Result, Stop};
use super::paths::{MREMAP, mremap_alone};
use super::pool::Pool;
use super::process::{Child, Partner};
use super::region::{BASE_PAGE, HUGE, HugeFile, PAGES, Region, TOUCHED};
use super::sys;
use super::{Context, Kind, Need, Scenario};

const MOVES: &[Need] = &[Need::Root, Need::TwoNodes];
/// Room for the file's page and the owner's copy, but not for a third page: an allocation must fail.
const TIGHT: Pool = Pool::Only(2);

pub const SAFE: &[Scenario] = &[
    Scenario::new(
        "abba-migrate",
        "fault (i_mmap_rwsem, folio) and migration (folio, i_mmap_rwsem), one after the other",
        Kind::Path,
        MOVES,
        migrate,
    )
    .unshares(0),
    Scenario::new(
        "abba-fault-mutex",
        "private COW (folio, fault mutex) and fault (fault mutex, folio), one after the other",
        Kind::Path,
        &[Need::Root],
        fault_mutex,
    )
    .with_pool(TIGHT)
    .unshares(0),
    Scenario::new(
        "abba-punch-migrate",
        "punch of a part of a page (i_mmap_rwsem, folio) and migration, one after the other",
        Kind::Path,
        MOVES,
        punch_migrate,
    )
    .unshares(0),
];

pub const HANGING: &[Scenario] = &[
    Scenario::new(
        "mremap:alone",
        "mremap of a mapping that nobody shares; waits for itself (6.1 to 7.3)",
        Kind::Hang,
        &[MREMAP],
        mremap_alone,
    ),
    Scenario::new(
        "abba-migrate:concurrent",
        "both at once; hangs a kernel with the bug (5.10)",
        Kind::Hang,
        MOVES,
        migrate_concurrent,
    ),
    Scenario::new(
        "abba-fault-mutex:concurrent",
        "both at once; hangs a kernel with the bug (5.10, 6.1, 6.12)",
        Kind::Hang,
        &[Need::Root],
        fault_mutex_concurrent,
    )
    .with_pool(TIGHT),
    Scenario::new(
        "abba-punch-migrate:concurrent",
        "both at once; hangs a kernel with the bug (6.12.57, 6.17)",
        Kind::Hang,
        MOVES,
        punch_migrate_concurrent,
    ),
];

/// A mapping too short to share its page table, which these cycles do not need.
struct Mover {
    region: Region,
    nodes: (i32, i32),
}

impl Mover {
    fn new(file: &HugeFile, nodes: (i32, i32)) -> Result<Mover> {
        let region = Region::shared_short(file, TOUCHED)?;
        region.fill()?;
        Ok(Mover { region, nodes })
    }

    /// Moves the pages to the other node and back. A page that a fault holds stays behind, which is not a failure.
    fn round(&self) -> Result<()> {
        for node in [self.nodes.1, self.nodes.0] {
            sys::move_pages(0, &self.region.pages(), Some(node))?;
        }
        Ok(())
    }
}

/// Maps the file (which acquires i_mmap_rwsem for writing), faults every page in, and unmaps.
fn read_round(file: &HugeFile) -> Result<()> {
    let region = Region::shared_short(file, TOUCHED)?;
    // A page that is punched out meanwhile reads as zeros; faults in these scenarios never end in SIGBUS.
    match (0..PAGES).find(|&n| region.read(n).is_err()) {
        Some(page) => Err(Stop::Fail(format!("load from huge page {page}: SIGBUS"))),
        None => Ok(()),
    }
}

/// Zeroes a part of page 0 in place: under i_mmap_rwsem, with the folio locked.
fn punch_part(file: &HugeFile) -> Result<()> {
    Ok(file.punch(BASE_PAGE, 2 * BASE_PAGE)?)
}

fn mover(file: &HugeFile, context: &Context) -> Result<Partner> {
    let nodes = context.two_nodes()?;
    let mut mover = None;
    Partner::fork("mover", move |_| {
        match &mover {
            Some(mover) => Mover::round(mover)?,
            None => mover = Some(Mover::new(file, nodes)?),
        }
        Ok(())
    })
}

fn migrate(context: &Context) -> Result<String> {
    let file = HugeFile::new()?;
    let mut mover = mover(&file, context)?;
    let mut reader = Partner::fork("reader", |_| read_round(&file))?;
    // Two readers exclude each other only behind a queued writer, so a third task is needed: its mmap is the writer.
    let mut mapper = Partner::fork("mapper", |_| read_round(&file))?;
    mover.order("map")?;
    for _ in 0..2 {
        reader.order("read")?;
        mover.order("move")?;
        mapper.order("map")?;
    }
    reader.order("read")?;
    reader.exit()?;
    mapper.exit()?;
    mover.exit()?;
    Ok(format!("{PAGES} pages moved there and back twice, read 5 times"))
}

fn punch_migrate(context: &Context) -> Result<String> {
    let file = HugeFile::new()?;
    let mut mover = mover(&file, context)?;
    let mut puncher = Partner::fork("punch", |_| punch_part(&file))?;
    mover.order("map")?;
    for _ in 0..2 {
        puncher.order("punch")?;
        mover.order("move")?;
    }
    puncher.exit()?;
    mover.exit()?;
    Ok(format!("2 punches, {PAGES} pages moved there and back twice"))
}

/// A private mapping that owns the reservation for its only page. Its first write empties the pool.
struct Owner {
    region: Region,
}

impl Owner {
    fn new(file: &HugeFile) -> Result<Owner> {
        let cache = Region::shared_short(file, HUGE)?;
        store(&cache)?;
        drop(cache);
        let region = Region::private_reserved(file, HUGE)?;
        store(&region)?;
        Ok(Owner { region })
    }

    /// Makes the owner's next write copy again, by forking a child that maps the copy too. The pool is empty, so the kernel
    /// unmaps the page from the child to honour the owner's reservation. The child never touches the page, so nothing dies.
    fn round(&self) -> Result<()> {
        let sleeper = Child::fork("sleeper", || {
            loop {
                std::thread::sleep(Duration::from_secs(60));
            }
        })?;
        store(&self.region)?;
        drop(sleeper);
        Ok(())
    }
}

fn store(region: &Region) -> Result<()> {
    region
        .write(0)
        .map_err(|_| Stop::Fail("store to huge page 0: SIGBUS, the pool was empty too early".into()))
}

fn read_first(file: &HugeFile) -> Result<()> {
    let region = Region::shared_short(file, HUGE)?;
    region.read(0).map_err(|_| Stop::Fail("load from huge page 0: SIGBUS".into()))
}

fn fault_mutex(_: &Context) -> Result<String> {
    const ROUNDS: usize = 3;
    let file = HugeFile::new()?;
    let mut owner = None;
    let mut owner = Partner::fork("owner", |_| {
        match &owner {
            Some(owner) => Owner::round(owner)?,
            None => owner = Some(Owner::new(&file)?),
        }
        Ok(())
    })?;
    let mut other = Partner::fork("other", |_| read_first(&file))?;
    owner.order("own")?;
    for _ in 0..ROUNDS {
        owner.order("write")?;
    }
    other.order("read")?;
    other.exit()?;
    owner.exit()?;
    Ok(format!("{ROUNDS} copies with an empty pool, then 1 read"))
}

fn migrate_concurrent(context: &Context) -> Result<String> {
    let file = HugeFile::new()?;
    let mut crew = Crew::new(context.seed)?;
    add_mover_and_readers(&mut crew, &file, context)?;
    crew.run_for(context.duration)
}

fn punch_migrate_concurrent(context: &Context) -> Result<String> {
    let file = HugeFile::new()?;
    let mut crew = Crew::new(context.seed)?;
    add_mover_and_readers(&mut crew, &file, context)?;
    crew.add("punch", |shift| repeat(shift, || punch_part(&file)))?;
    crew.run_for(context.duration)
}

/// The deadlock needs two readers and a queued writer; the third reader's mmap is the writer.
fn add_mover_and_readers(crew: &mut Crew, file: &HugeFile, context: &Context) -> Result<()> {
    let nodes = context.two_nodes()?;
    crew.add("mover", |shift| {
        let mover = Mover::new(file, nodes)?;
        repeat(shift, || mover.round())
    })?;
    for name in ["reader-1", "reader-2", "reader-3"] {
        crew.add(name, |shift| repeat(shift, || read_round(file)))?;
    }
    Ok(())
}

fn fault_mutex_concurrent(context: &Context) -> Result<String> {
    let file = HugeFile::new()?;
    let mut crew = Crew::new(context.seed)?;
    crew.add("owner", |shift| {
        let owner = Owner::new(&file)?;
        repeat(shift, || owner.round())
    })?;
    crew.wait_until_working();
    crew.add("other", |shift| repeat(shift, || read_first(&file)))?;
    crew.run_for(context.duration)
}

fn repeat(shift: &Shift, mut round: impl FnMut() -> Result<()>) -> Result<()> {
    while shift.go_on() {
        round()?;
    }
    Ok(())
}
