//! The racing scenarios: `fault-truncate`, and every reader against every writer. A reader looks pte pointers up
//! and changes nothing; a writer takes page tables away. A new one of either is one row here. Whether a race was hit
//! is for the observer to see.

use std::borrow::Cow;
use std::fs::File;
use std::time::Duration;

use libc::{c_void, pid_t};

use super::crew::{Crew, Shift};
use super::outcome::{OrSkip, Result, Stop};
use super::paths::{DONTNEED, advise_dontneed};
use super::process::set_name;
use super::region::{BASE_PAGE, GIB, HUGE, HugeFile, PAGES, Region, TOUCHED};
use super::sys::{self, check};
use super::{Context, Kind, Need, Run, Scenario};

pub const FAULT_TRUNCATE: Scenario = Scenario::new(
    "fault-truncate",
    "two tasks map and fault a file that a third truncates and extends",
    Kind::Race,
    &[],
    fault_truncate,
);

pub struct Reader {
    name: &'static str,
    summary: &'static str,
    needs: &'static [Need],
    pass: fn(&mut Reading) -> Result<()>,
}

/// Reading another task needs more rights than the scenarios otherwise do, where ptrace is restricted.
const READERS: &[Reader] = &[
    Reader { name: "smaps", summary: "/proc/self/smaps", needs: &[], pass: smaps },
    Reader { name: "pagemap", summary: "/proc/self/pagemap", needs: &[], pass: pagemap },
    Reader { name: "numa_maps", summary: "/proc/self/numa_maps", needs: &[], pass: numa_maps },
    Reader { name: "mincore", summary: "mincore", needs: &[], pass: mincore },
    Reader { name: "vmread", summary: "process_vm_readv", needs: &[Need::Root], pass: vmread },
    Reader { name: "movestat", summary: "move_pages query", needs: &[Need::Root], pass: movestat },
    Reader { name: "fault", summary: "page faults", needs: &[], pass: fault },
];

pub struct Writer {
    name: &'static str,
    summary: &'static str,
    needs: &'static [Need],
    from: From,
    round: fn(&mut Writing) -> Result<()>,
}

/// Where a writer works: what it takes away must be somebody else's, or its own mm's by another thread.
#[derive(PartialEq, Eq)]
enum From {
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

/// `race:READER:WRITER`, all of them.
pub fn scenarios() -> Vec<Scenario> {
    let pairs = READERS.iter().flat_map(|reader| WRITERS.iter().map(move |writer| (reader, writer)));
    pairs.map(|(reader, writer)| scenario(reader, writer)).collect()
}

fn scenario(reader: &'static Reader, writer: &'static Writer) -> Scenario {
    let new = writer.needs.iter().filter(|need| !reader.needs.contains(need));
    Scenario {
        name: Cow::Owned(format!("race:{}:{}", reader.name, writer.name)),
        summary: Cow::Owned(format!("{} against {}", reader.summary, writer.summary)),
        kind: Kind::Race,
        needs: Cow::Owned(reader.needs.iter().chain(new).copied().collect()),
        pool: super::POOL,
        run: Run::Pair(reader, writer),
    }
}

/// How many passes a reader makes before it touches its pages again, so that the table is shared again.
const PASSES: usize = 16;

pub fn run(reader: &'static Reader, writer: &'static Writer, context: &Context) -> Result<String> {
    let file = HugeFile::new()?;
    let mut crew = Crew::new(context.seed)?;
    match writer.from {
        From::Task => {
            let peer = crew.add(writer.name, |shift| {
                let region = Region::shared(&file)?;
                region.touch();
                write(writer, &mut Writing { file: &file, region: &region, context, shift })
            })?;
            crew.wait_until_working();
            crew.add(reader.name, |shift| read(reader, &Region::shared(&file)?, peer, shift))?;
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
                        write(writer, &mut Writing { file: &file, region: &region, context, shift: other })
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
    // SAFETY: getpid cannot fail.
    let targets = [unsafe { libc::getpid() }, peer];
    let mut reading = Reading { region, targets, pagemap: None };
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

fn write(writer: &Writer, writing: &mut Writing) -> Result<()> {
    while writing.shift.go_on() {
        (writer.round)(writing).inspect_err(|_| writing.shift.stop())?;
    }
    Ok(())
}

/// Keeps the table shared, where the writer is a thread of the reader and nobody else would.
fn share_only(file: &HugeFile, shift: &mut Shift) -> Result<()> {
    let region = Region::shared(file)?;
    region.touch();
    while shift.go_on() {
        region.touch();
        shift.pause(Duration::from_millis(50));
    }
    Ok(())
}

struct Reading<'a> {
    region: &'a Region,
    /// Whose page tables are read, where that can be chosen: this task and its peer.
    targets: [pid_t; 2],
    pagemap: Option<File>,
}

fn smaps(_: &mut Reading) -> Result<()> {
    sys::read_bytes("/proc/self/smaps")?;
    Ok(())
}

fn numa_maps(_: &mut Reading) -> Result<()> {
    sys::read_bytes("/proc/self/numa_maps").map(drop).or_skip(&[libc::ENOENT], "this kernel has no NUMA")
}

fn pagemap(reading: &mut Reading) -> Result<()> {
    const PATH: &str = "/proc/self/pagemap";
    const ENTRY: usize = 8; // one u64 per 4 KiB page
    let pagemap = match &mut reading.pagemap {
        Some(open) => open,
        closed => {
            closed.insert(File::open(PATH).map_err(|source| sys::Error::new(format!("open {PATH}"), source))?)
        }
    };
    let mut entries = vec![0; TOUCHED / BASE_PAGE * ENTRY];
    sys::pread(pagemap, &mut entries, (reading.region.address() / BASE_PAGE * ENTRY) as u64, PATH)?;
    Ok(())
}

fn mincore(reading: &mut Reading) -> Result<()> {
    let mut resident = [0u8; TOUCHED / BASE_PAGE];
    let address = reading.region.address() as *mut c_void;
    // SAFETY: one byte for each page of the range.
    let returned = unsafe { libc::mincore(address, TOUCHED, resident.as_mut_ptr()) };
    check(returned.into(), || format!("mincore of {TOUCHED} bytes at {address:p}"))?;
    Ok(())
}

fn vmread(reading: &mut Reading) -> Result<()> {
    for target in reading.targets {
        tolerate(sys::vm_read(target, &reading.region.pages()).map(drop))?;
    }
    Ok(())
}

fn movestat(reading: &mut Reading) -> Result<()> {
    for target in reading.targets {
        tolerate(sys::move_pages(target, &reading.region.pages(), None).map(drop))?;
    }
    Ok(())
}

/// In a race a page may be gone (EFAULT), or the peer, which ends at the same time (ESRCH; EPERM while it exits).
fn tolerate(result: sys::Result<()>) -> Result<()> {
    match result {
        Err(error) if !matches!(error.errno(), Some(libc::EFAULT | libc::ESRCH | libc::EPERM)) => {
            Err(error.into())
        }
        _ => Ok(()),
    }
}

fn fault(reading: &mut Reading) -> Result<()> {
    reading.region.touch();
    Ok(())
}

struct Writing<'a> {
    file: &'a HugeFile,
    region: &'a Region,
    context: &'a Context,
    shift: &'a mut Shift,
}

fn punch(writing: &mut Writing) -> Result<()> {
    let page = writing.shift.below(PAGES);
    writing.file.punch(page * HUGE, HUGE)?;
    // Beyond the end or an empty pool: then there is nothing to share this time.
    let _ = writing.region.write(page);
    Ok(())
}

fn truncate(writing: &mut Writing) -> Result<()> {
    writing.file.set_len(0)?;
    writing.file.set_len(GIB)?;
    writing.region.touch();
    Ok(())
}

fn migrate(writing: &mut Writing) -> Result<()> {
    let (home, away) = writing.context.two_nodes()?;
    for node in [away, home] {
        sys::move_pages(0, &writing.region.pages(), Some(node))?;
        writing.region.touch();
    }
    Ok(())
}

fn dontneed(writing: &mut Writing) -> Result<()> {
    advise_dontneed(writing.region, HUGE)?;
    writing.region.touch();
    Ok(())
}

/// Faults of all kinds: page there, page not there, beyond the end of the file, first of a mapping (which shares).
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
