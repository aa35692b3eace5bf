//! Several that unshare at once: threads of one mm, each in a GiB of its own, and tasks that punch one file. Unlike the
//! races these run a number of rounds and not for a time; what the threads cause is known by arithmetic.

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
/// One unshare for each thread and round.
const EACH: u32 = (THREADS * ROUNDS) as u32;
/// Of punchers and touchers. Many, since each is short.
const PUNCHES: usize = 64;
/// On average between two of them, so that those who do less per round are not done before the others begin.
const PAUSE: Duration = Duration::from_millis(1);

pub const SCENARIOS: &[Scenario] = &[
    path("crowd-unmap", "4 threads unmap a GiB each of their mm at once, 8 rounds", &[], unmap)
        .unshares(EACH),
    path("crowd-mprotect", "4 threads mprotect a GiB each at once, 8 rounds", &[], mprotect).unshares(EACH),
    path("crowd-dontneed", "4 threads drop the pages of a GiB each at once, 8 rounds", &[DONTNEED], dontneed)
        .unshares(2 * EACH),
    path("crowd-punch", "2 tasks punch a file at once that 2 others touch, 64 rounds", &[], punch),
];

/// Each thread's munmap.
fn unmap(_: &Context) -> Result<String> {
    crowd(|_| Ok(()))
}

/// Each thread's mprotect; what it faults in afterwards is its own.
fn mprotect(_: &Context) -> Result<String> {
    crowd(|region| {
        region.protect(GIB, libc::PROT_READ)?;
        Ok(region.load()?)
    })
}

/// Each thread's advice, and its munmap of what was shared again.
fn dontneed(_: &Context) -> Result<String> {
    crowd(|region| {
        advise_dontneed(region, GIB)?;
        Ok(region.fill()?)
    })
}

/// In each round every thread maps its GiB and shares its table with the partner, who keeps all of them; when all
/// have, they do `work` and unmap, all at once.
fn crowd(work: impl Fn(&Region) -> Result<()> + Sync) -> Result<String> {
    let file = HugeFile::with_len(THREADS * GIB)?;
    let mut partner = Partner::mapper_of("partner", || Region::wide(&file, THREADS))?;
    partner.map_and_touch()?;
    let together = Barrier::new(THREADS);
    let rounds = |n: usize| {
        set_name("crowd");
        let mut result = Ok(());
        // One that failed goes on, or the others would wait for it.
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

/// How often a puncher meets a table that is shared is the schedule's choice, and so is the number of unshares.
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
