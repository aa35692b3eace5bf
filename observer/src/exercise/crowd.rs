//! Several tasks that unshare at once: threads of one mm, each in its own GiB, and tasks that punch one file. Unlike the
//! races, these run a fixed number of rounds, so the number of unshares by threads is known.

use std::sync::Barrier;
use std::time::Duration;

use super::crew::{Crew, Shift};
use super::outcome::{Result, Stop};
use super::paths::{DONTNEED, advise_dontneed, path};
use super::process::{Partner, set_name};
use super::region::{GIB, HUGE, HugeFile, PAGES, Region};
use super::{Context, Scenario};

const THREADS: usize = 4;
const ROUNDS: usize = 8;
/// Number of unshares if each thread causes one per round.
const EACH: u32 = (THREADS * ROUNDS) as u32;
/// Rounds of each puncher and toucher; many, since a round is short.
const PUNCHES: usize = 64;
/// Mean pause between rounds, so that tasks with short rounds do not end before the others begin.
const PAUSE: Duration = Duration::from_millis(1);

pub const SCENARIOS: &[Scenario] = &[
    path("crowd-unmap", "4 threads unmap a GiB each of their mm at once, 8 rounds", &[], unmap)
        .unshares(EACH),
    path("crowd-mprotect", "4 threads mprotect a GiB each at once, 8 rounds", &[], mprotect).unshares(EACH),
    path("crowd-dontneed", "4 threads drop the pages of a GiB each at once, 8 rounds", &[DONTNEED], dontneed)
        .unshares(2 * EACH),
    path("crowd-punch", "2 tasks punch a file at once that 2 others touch, 64 rounds", &[], punch),
];

/// Unshares by each thread's munmap.
fn unmap(_: &Context) -> Result<String> {
    crowd(|_| Ok(()))
}

/// Unshares by each thread's mprotect; the tables that it faults in afterwards are not shared.
fn mprotect(_: &Context) -> Result<String> {
    crowd(|region| {
        region.protect(GIB, libc::PROT_READ)?;
        Ok(region.load()?)
    })
}

/// Unshares by each thread's advice, and by the munmap of its reshared table.
fn dontneed(_: &Context) -> Result<String> {
    crowd(|region| {
        advise_dontneed(region, GIB)?;
        Ok(region.fill()?)
    })
}

/// Runs rounds in which each thread maps its GiB and shares its table with the partner, which keeps all of them. After all
/// threads have shared, they do `work` and unmap at once.
fn crowd(work: impl Fn(&Region) -> Result<()> + Sync) -> Result<String> {
    let file = HugeFile::with_len(THREADS * GIB)?;
    let mut partner = Partner::mapper_of("partner", || Region::wide(&file, THREADS))?;
    partner.map_and_touch()?;
    let together = Barrier::new(THREADS);
    let rounds = |n: usize| {
        set_name("crowd");
        let mut result = Ok(());
        // A thread that failed keeps its place in the barrier, or the others would wait for it.
        for _ in 0..ROUNDS {
            let region = Region::nth_gib(&file, n).and_then(|region| region.fill().map(|()| region));
            together.wait();
            let done = region.map_err(Stop::from).and_then(|region| work(&region));
            result = result.and(done);
        }
        result
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || rounds(n))).collect();
        let panicked = |_| Err(Stop::Fail("a thread of the crowd panicked".into()));
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(panicked))
    })?;
    partner.exit()?;
    Ok(format!("{THREADS} threads, {ROUNDS} rounds"))
}

/// Punches a file that others touch. Scheduling decides how often a puncher meets a shared table and unshares it.
fn punch(context: &Context) -> Result<String> {
    const HALF: usize = PAGES / 2;
    let file = &HugeFile::new()?;
    let mut crew = Crew::new(context.seed)?;
    for name in ["touch-1", "touch-2"] {
        crew.add(name, |shift| {
            let region = Region::shared(file)?;
            rounds(shift, |_| Ok(region.fill()?))
        })?;
    }
    crew.wait_until_working();
    for (name, first) in [("punch-1", 0), ("punch-2", HALF)] {
        crew.add(name, |shift| rounds(shift, |round| Ok(file.punch((first + round % HALF) * HUGE, HUGE)?)))?;
    }
    crew.run_to_end()
}

fn rounds(shift: &mut Shift, mut round: impl FnMut(usize) -> Result<()>) -> Result<()> {
    for n in 0..PUNCHES {
        if !shift.go_on() {
            break;
        }
        round(n)?;
        shift.pause(PAUSE);
    }
    Ok(())
}
