//! The racing scenarios: `fault-truncate`, and every reader against every writer. A reader looks up pte pointers and changes
//! nothing; a writer unlinks page tables. A new reader or writer is one row here. The observer has to see whether a race was
//! hit. `turns` runs the same pairs in turns.
//!
//! If n mappings share a table, a writer that goes through the file unlinks it from the first n - 1, in the order in which
//! they were made. So the reader maps first: the writer then unlinks the reader's own link.

use std::borrow::Cow;
use std::time::Duration;

use libc::pid_t;

use super::crew::{Crew, Shift};
use super::outcome::{Result, Stop};
use super::paths::{DONTNEED, advise_dontneed};
use super::process::set_name;
use super::reader::{READERS, Reader, Reading};
use super::region::{GIB, HUGE, HugeFile, PAGES, Region};
use super::sys;
use super::{Context, Kind, Need, Run, Scenario};

pub const FAULT_TRUNCATE: Scenario = Scenario::new(
    "fault-truncate",
    "two tasks map and fault a file that a third truncates and extends",
    Kind::Race,
    &[],
    fault_truncate,
);

/// A reader that does not only look: it also creates missing entries.
static FAULT: Reader = Reader { name: "fault", summary: "page faults", needs: &[], pass: fault };

pub struct Writer {
    pub name: &'static str,
    summary: &'static str,
    needs: &'static [Need],
    pub from: From,
    pub round: fn(&Writing) -> Result<()>,
}

/// Location of a writer: it must unlink another task's table, or its own mm's from another thread.
#[derive(PartialEq, Eq)]
pub enum From {
    Task,
    Thread,
}

const WRITERS: &[Writer] = &[
    Writer { name: "punch", summary: "fallocate(PUNCH_HOLE)", needs: &[], from: From::Task, round: punch },
    Writer {
        name: "truncate",
        summary: "ftruncate to nothing and back",
        needs: &[],
        from: From::Task,
        round: truncate,
    },
    Writer {
        name: "migrate",
        summary: "move_pages between two nodes",
        needs: &[Need::Root, Need::TwoNodes],
        from: From::Task,
        round: migrate,
    },
    Writer {
        name: "dontneed",
        summary: "madvise(MADV_DONTNEED) by another thread",
        needs: &[DONTNEED],
        from: From::Thread,
        round: dontneed,
    },
];

/// Returns all scenarios `race:READER:WRITER`.
pub fn scenarios() -> impl Iterator<Item = Scenario> {
    pairs("race", "against", Kind::Race, Run::Pair)
}

/// Returns one scenario for every pair of reader and writer.
pub fn pairs(
    word: &'static str,
    between: &'static str,
    kind: Kind,
    run: fn(&'static Reader, &'static Writer) -> Run,
) -> impl Iterator<Item = Scenario> {
    let readers = READERS.iter().chain([&FAULT]);
    let pairs = readers.flat_map(|reader| WRITERS.iter().map(move |writer| (reader, writer)));
    pairs.map(move |(reader, writer)| {
        let new = writer.needs.iter().filter(|need| !reader.needs.contains(need));
        Scenario {
            name: Cow::Owned(format!("{word}:{}:{}", reader.name, writer.name)),
            summary: Cow::Owned(format!("{} {between} {}", reader.summary, writer.summary)),
            kind,
            needs: Cow::Owned(reader.needs.iter().chain(new).copied().collect()),
            unshares: None,
            pool: super::POOL,
            run: run(reader, writer),
        }
    })
}

/// Number of passes before a reader touches its pages again, so that the table is shared again.
const PASSES: usize = 16;

pub fn run(reader: &'static Reader, writer: &'static Writer, context: &Context) -> Result<String> {
    let file = HugeFile::new()?;
    let mut crew = Crew::new(context.seed)?;
    match writer.from {
        From::Task => {
            // The writer is forked first, so that its id is known; it maps once the reader works.
            let place = crew.next_place() + 1;
            let peer = crew.add(writer.name, |shift| {
                shift.wait_for(place);
                let region = Region::shared(&file)?;
                region.touch();
                write(writer, &file, &region, context, shift)
            })?;
            crew.add(reader.name, |shift| {
                let region = Region::shared(&file)?;
                region.touch();
                read(reader, &region, peer, shift)
            })?;
        }
        From::Thread => {
            let peer = crew.add("partner", |shift| share_only(&file, shift))?;
            crew.wait_until_working();
            let place = crew.place(writer.name)?;
            crew.add(reader.name, |shift| {
                let region = Region::shared(&file)?;
                let other = &mut shift.at(place);
                std::thread::scope(|scope| {
                    let thread = scope.spawn(|| {
                        set_name(writer.name);
                        write(writer, &file, &region, context, other)
                    });
                    let read = read(reader, &region, peer, shift);
                    thread.join().unwrap_or_else(|_| Err(Stop::Fail("its thread panicked".into()))).and(read)
                })
            })?;
        }
    }
    crew.run_for(context.duration)
}

fn read(reader: &Reader, region: &Region, peer: pid_t, shift: &Shift) -> Result<()> {
    let mut reading = Reading::new(region, peer);
    let mut passes = 0;
    while shift.go_on() {
        if passes % PASSES == 0 {
            region.touch();
        }
        (reader.pass)(&mut reading).inspect_err(|_| shift.stop())?;
        passes += 1;
    }
    Ok(())
}

fn write(
    writer: &Writer,
    file: &HugeFile,
    region: &Region,
    context: &Context,
    shift: &mut Shift,
) -> Result<()> {
    while shift.go_on() {
        let page = shift.below(PAGES);
        (writer.round)(&Writing { file, region, context, page }).inspect_err(|_| shift.stop())?;
    }
    Ok(())
}

/// Keeps the table shared if the writer is a thread of the reader, and so does not share it.
fn share_only(file: &HugeFile, shift: &mut Shift) -> Result<()> {
    let region = Region::shared(file)?;
    region.touch();
    while shift.go_on() {
        region.touch();
        shift.pause(Duration::from_millis(50));
    }
    Ok(())
}

fn fault(reading: &mut Reading) -> Result<()> {
    reading.region.touch();
    Ok(())
}

pub struct Writing<'a> {
    pub file: &'a HugeFile,
    pub region: &'a Region,
    pub context: &'a Context,
    /// Page to unlink, for writers that unlink one.
    pub page: usize,
}

fn punch(writing: &Writing) -> Result<()> {
    writing.file.punch(writing.page * HUGE, HUGE)?;
    // A page beyond the end, or an empty pool: nothing is shared this time.
    let _ = writing.region.write(writing.page);
    Ok(())
}

fn truncate(writing: &Writing) -> Result<()> {
    writing.file.set_len(0)?;
    writing.file.set_len(GIB)?;
    writing.region.touch();
    Ok(())
}

fn migrate(writing: &Writing) -> Result<()> {
    let (home, away) = writing.context.two_nodes()?;
    for node in [away, home] {
        sys::move_pages(0, &writing.region.pages(), Some(node))?;
        writing.region.touch();
    }
    Ok(())
}

fn dontneed(writing: &Writing) -> Result<()> {
    advise_dontneed(writing.region, HUGE)?;
    writing.region.touch();
    Ok(())
}

/// Runs all kinds of faults: page present, page missing, beyond the end of the file, first of a mapping (which shares).
fn fault_truncate(context: &Context) -> Result<String> {
    const FAULTS: usize = 100;
    let file = HugeFile::new()?;
    let mut crew = Crew::new(context.seed)?;
    for name in ["fault-1", "fault-2"] {
        crew.add(name, |shift| {
            while shift.go_on() {
                let region = Region::shared(&file)?;
                for _ in 0..FAULTS {
                    let page = shift.below(PAGES);
                    // SIGBUS beyond the end is part of the race.
                    let _ = if shift.below(2) == 0 { region.write(page) } else { region.read(page) };
                }
            }
            Ok(())
        })?;
    }
    crew.add("truncate", |shift| {
        while shift.go_on() {
            file.set_len(0)?;
            file.set_len(GIB)?;
            shift.pause(Duration::from_micros(500));
        }
        Ok(())
    })?;
    crew.run_for(context.duration)
}
