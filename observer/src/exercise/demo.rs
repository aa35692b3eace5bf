//! A lively mixture at a moderate pace, for a dashboard to show. Several tasks on one file allocate, share, unshare and free
//! tables. It is known to hang only 5.10, where faults, migration and mmap together form the inversion of
//! `abba-migrate:concurrent`.

use std::time::Duration;

use super::crew::{Crew, Shift};
use super::outcome::{Result, Stop};
use super::region::{GIB, HUGE, HugeFile, PAGES, Region, TOUCHED};
use super::sys;
use super::{Context, Kind, Scenario};

pub const DEMO: Scenario = Scenario::new(
    "demo",
    "a lively mixture of all of it by several tasks, at a moderate pace; migration with two nodes",
    Kind::Race,
    &[],
    demo,
);

fn demo(context: &Context) -> Result<String> {
    let file = &HugeFile::new()?;
    let mut crew = Crew::new(context.seed)?;
    for name in ["share-1", "share-2"] {
        crew.add(name, |shift| share(file, shift))?;
    }
    crew.add("fault", |shift| fault(file, shift))?;
    crew.add("smaps", |shift| smaps(file, shift))?;
    crew.add("punch", |shift| punch(file, shift))?;
    crew.add("truncate", |shift| truncate(file, shift))?;
    crew.add("mprotect", |shift| mprotect(file, shift))?;
    if let Some(nodes) = context.nodes {
        crew.add("migrate", |shift| migrate(file, nodes, shift))?;
    }
    crew.run_for(context.duration)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn share(file: &HugeFile, shift: &mut Shift) -> Result<()> {
    while shift.go_on() {
        let region = Region::shared(file)?;
        region.touch();
        shift.pause(ms(60));
        drop(region);
        shift.pause(ms(20));
    }
    Ok(())
}

fn fault(file: &HugeFile, shift: &mut Shift) -> Result<()> {
    let region = Region::shared(file)?;
    while shift.go_on() {
        // A store beyond the end of a truncated file raises SIGBUS, which is one of the paths to show.
        let _ = region.write(shift.below(PAGES));
        shift.pause(ms(4));
    }
    Ok(())
}

fn smaps(file: &HugeFile, shift: &mut Shift) -> Result<()> {
    let region = Region::shared(file)?;
    while shift.go_on() {
        region.touch();
        sys::read_bytes("/proc/self/smaps")?;
        shift.pause(ms(40));
    }
    Ok(())
}

fn punch(file: &HugeFile, shift: &mut Shift) -> Result<()> {
    while shift.go_on() {
        file.punch(shift.below(PAGES) * HUGE, HUGE)?;
        shift.pause(ms(25));
    }
    Ok(())
}

fn truncate(file: &HugeFile, shift: &mut Shift) -> Result<()> {
    while shift.go_on() {
        shift.pause(ms(300));
        file.set_len(0)?;
        file.set_len(GIB)?;
    }
    Ok(())
}

/// Alternates between the whole mapping, which unshares in mprotect, and a part, which unshares at the split.
fn mprotect(file: &HugeFile, shift: &mut Shift) -> Result<()> {
    let mut whole = false;
    while shift.go_on() {
        let region = Region::shared(file)?;
        region.touch();
        shift.pause(ms(20));
        whole = !whole;
        region.protect(if whole { GIB } else { TOUCHED / 2 }, libc::PROT_READ)?;
        let _ = region.read(0); // as in `fault`
        shift.pause(ms(20));
    }
    Ok(())
}

fn migrate(file: &HugeFile, (home, away): (i32, i32), shift: &mut Shift) -> Result<()> {
    let region = Region::shared(file)?;
    while shift.go_on() {
        for node in [away, home] {
            region.touch();
            move_pages(&region, node)?;
            shift.pause(ms(50));
        }
    }
    Ok(())
}

/// Skips the scenario if this process may not move pages that other tasks map.
fn move_pages(region: &Region, node: i32) -> Result<()> {
    match sys::move_pages(0, &region.pages(), Some(node)) {
        Err(error) if error.errno() == Some(libc::EPERM) => Err(Stop::Skip(format!("{error}; try: as root"))),
        result => Ok(result.map(drop)?),
    }
}
