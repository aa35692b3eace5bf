//! The pairs of `race`, in turns: both tasks exist from the start and have mapped and touched, but are never inside the
//! kernel together. So findings here need no luck: only the turns separate a lookup from an unshare, and they come in both
//! orders. Another scenario has two tasks that work on each other's page tables.

use std::sync::mpsc;

use libc::pid_t;

use super::outcome::{Result, Stop};
use super::paths::{PART, move_to};
use super::process::{Partner, set_name};
use super::race::{self, From, Writer, Writing};
use super::reader::{Reader, Reading};
use super::region::{HugeFile, PAGES, Region};
use super::{Context, Kind, Need, Run, Scenario, sys};

/// Number of rounds: the reader, the writer, and the reader again.
const ROUNDS: usize = 8;

const MIGRATE_SPLIT: Scenario = Scenario::new(
    "turns:migrate:split",
    "move_pages by one task and a split of the other's mapping, in turns",
    Kind::Turns,
    &[Need::Root, Need::TwoNodes],
    migrate_split,
);

/// Returns all scenarios `turns:READER:WRITER`, and the one that is not such a pair.
pub fn scenarios() -> impl Iterator<Item = Scenario> {
    race::pairs("turns", "and, in turns,", Kind::Turns, Run::Turns).chain([MIGRATE_SPLIT])
}

const SHARE: &str = "share";
const PASS: &str = "pass";
const ROUND: &str = "round";

pub fn run(reader: &'static Reader, writer: &'static Writer, context: &Context) -> Result<String> {
    let file = open()?;
    // The writer is forked first, so that its id is known. The reader maps first: the writer unlinks its link (see `race`).
    let mut other = match writer.from {
        From::Task => Partner::fork(writer.name, writing_task(writer, file, *context))?,
        From::Thread => Partner::fork("partner", |_| Ok(mapped(&mut None, file)?.fill()?))?,
    };
    let mut reading = Partner::fork(reader.name, reading_task(reader, writer, file, other.pid(), *context))?;
    reading.order(SHARE)?;
    other.order(SHARE)?;
    for _ in 0..ROUNDS {
        reading.order(SHARE)?;
        reading.order(PASS)?;
        match writer.from {
            From::Task => other.order(ROUND)?,
            From::Thread => reading.order(ROUND)?,
        }
    }
    reading.order(SHARE)?;
    reading.order(PASS)?;
    reading.exit()?;
    other.exit()?;
    Ok(format!("{ROUNDS} rounds of {}, a pass of {} before and after each", writer.name, reader.name))
}

/// Opens the scenario's file, which lives until the process ends.
fn open() -> Result<&'static HugeFile> {
    Ok(Box::leak(Box::new(HugeFile::new()?)))
}

/// Returns the task's mapping, which the first call makes. It lives until the task ends.
fn mapped(region: &mut Option<&'static Region>, file: &'static HugeFile) -> sys::Result<&'static Region> {
    match region {
        Some(region) => Ok(region),
        None => Ok(*region.insert(Box::leak(Box::new(Region::shared(file)?)))),
    }
}

fn unknown(order: &str) -> Result<()> {
    Err(Stop::Fail(format!("no such order: {order}")))
}

fn share(region: &Region) -> Result<()> {
    Ok(region.fill()?)
}

/// State of a writer, which does one round per order.
struct Writes {
    writer: &'static Writer,
    file: &'static HugeFile,
    region: &'static Region,
    context: Context,
    page: usize,
}

impl Writes {
    fn round(&mut self) -> Result<()> {
        self.page = (self.page + 1) % PAGES;
        let Writes { file, region, ref context, page, .. } = *self;
        (self.writer.round)(&Writing { file, region, context, page })
    }
}

fn writing_task(
    writer: &'static Writer,
    file: &'static HugeFile,
    context: Context,
) -> impl FnMut(&str) -> Result<()> {
    let mut region = None;
    let mut page = 0;
    move |order| {
        let region = mapped(&mut region, file)?;
        match order {
            SHARE => share(region),
            ROUND => {
                page += 1;
                Writes { writer, file, region, context, page }.round()
            }
            order => unknown(order),
        }
    }
}

fn reading_task(
    reader: &'static Reader,
    writer: &'static Writer,
    file: &'static HugeFile,
    peer: pid_t,
    context: Context,
) -> impl FnMut(&str) -> Result<()> {
    let mut region = None;
    let mut reading: Option<Reading> = None;
    let mut thread = None;
    move |order| {
        let region = mapped(&mut region, file)?;
        if writer.from == From::Thread && thread.is_none() {
            thread = Some(Thread::start(Writes { writer, file, region, context, page: 0 }));
        }
        match (order, &thread) {
            (SHARE, _) => share(region),
            (PASS, _) => (reader.pass)(reading.get_or_insert_with(|| Reading::new(region, peer))),
            (ROUND, Some(thread)) => thread.round(),
            (order, _) => unknown(order),
        }
    }
}

/// A writer that is a thread of the reader; it lives until both exit.
struct Thread {
    orders: mpsc::Sender<()>,
    answers: mpsc::Receiver<Result<()>>,
}

impl Thread {
    fn start(mut writes: Writes) -> Thread {
        let ((orders, requests), (answer, answers)) = (mpsc::channel(), mpsc::channel());
        std::thread::spawn(move || {
            set_name(writes.writer.name);
            while requests.recv().is_ok() && answer.send(writes.round()).is_ok() {}
        });
        Thread { orders, answers }
    }

    fn round(&self) -> Result<()> {
        let gone = || Stop::Fail("the writing thread is gone".into());
        self.orders.send(()).map_err(|_| gone())?;
        self.answers.recv().map_err(|_| gone())?
    }
}

/// Splits the younger mapping in turns with a migration. A migration looks it up twice, to unlink its entries and to restore
/// them, and unshares the table of the older one.
fn migrate_split(context: &Context) -> Result<String> {
    let (home, away) = context.two_nodes()?;
    sys::prefer_node(home)?;
    let file = open()?;
    let mut region = None;
    let mut migrating = Partner::fork("migrate", move |order| {
        let region = mapped(&mut region, file)?;
        match order {
            SHARE => share(region),
            ROUND => [away, home].into_iter().try_for_each(|node| {
                move_to(&region.pages(), node)?;
                share(region)
            }),
            order => unknown(order),
        }
    })?;
    let mut split: Option<Region> = None;
    let mut splitting = Partner::fork("split", move |order| {
        if order == ROUND
            && let Some(region) = split.take()
        {
            region.protect(PART, libc::PROT_READ)?;
            region.load()?;
        }
        let region = match &split {
            Some(region) => region,
            None => split.insert(Region::shared(file)?),
        };
        share(region)
    })?;
    for _ in 0..ROUNDS {
        migrating.order(SHARE)?;
        splitting.order(SHARE)?;
        migrating.order(ROUND)?;
        splitting.order(ROUND)?;
    }
    migrating.order(SHARE)?;
    migrating.order(ROUND)?;
    splitting.exit()?;
    migrating.exit()?;
    Ok(format!("{ROUNDS} splits of {} MiB, a migration before and after each", PART >> 20))
}
