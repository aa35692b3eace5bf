//! Measures in a guest with counted instructions, where one tick of the time stamp counter is one instruction: each operation
//! bare, then under each watcher, then bare again. It runs the watchers and writes plain figures; the host computes the costs.
//!
//! Arguments: the output file, then pairs of a watcher's name and its command. A watcher runs the command that is appended to
//! its own as soon as it watches, and ends with it.
//!
//! Each pass over the operations is a process of its own (`--pass`): the C library's calls cost more once a process has made a
//! thread, and a fork costs what the process has mapped.

mod hugetlb;
mod meter;
mod runs;
mod sys;
mod unrelated;
mod watcher;

use std::{
    env,
    fs::{self, File},
    io::{self, Write},
    process::Command,
};

use meter::{Meter, Operation};
use watcher::Watcher;

/// Name of the measurements without a watcher, before and after those with one.
const BARE: [&str; 2] = ["bare", "bare-again"];
/// First argument of a process that does one pass over the operations; a watcher's name and a unit follow.
const PASS: &str = "--pass";
const INSTRUCTIONS: &str = "instructions";
const RUNS: &str = "runs";
/// Batches of each operation. The minimum is free of timer ticks and of the watcher's own work.
const BATCHES: u32 = 30;
/// Batches in which the runs of programs are counted. Reading the counters takes long, and the result varies little.
const RUN_BATCHES: u32 = 8;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [PASS, watcher, unit] => pass(watcher, unit),
        [out, watchers @ ..] if watchers.len().is_multiple_of(2) => run(out, watchers),
        _ => Err(io::Error::other("usage: guest-cost OUT [NAME COMMAND]...")),
    };
    if let Err(error) = result {
        eprintln!("guest-cost: {error}");
        std::process::exit(1);
    }
}

fn run(out: &str, watchers: &[&str]) -> io::Result<()> {
    let out = File::create(out)?;
    sys::reserve_huge_pages()?;
    // Random addresses would need different numbers of page tables.
    fs::write("/proc/sys/kernel/randomize_va_space", "0")?;
    start_pass(BARE[0], INSTRUCTIONS, &out)?;
    for watcher in watchers.chunks_exact(2) {
        let (name, command) = (watcher[0], watcher[1]);
        let watcher = Watcher::start(name, command)?;
        start_pass(name, INSTRUCTIONS, &out)?;
        start_pass(name, RUNS, &out)?;
        watcher.end()?;
    }
    start_pass(BARE[1], INSTRUCTIONS, &out)
}

/// Runs one pass in a process of its own.
fn start_pass(watcher: &str, unit: &str, out: &File) -> io::Result<()> {
    let program = env::current_exe()?;
    let status = Command::new(program).args([PASS, watcher, unit]).stdout(out.try_clone()?).status()?;
    if !status.success() {
        return Err(io::Error::other(format!("{watcher}, {unit}: {status}")));
    }
    eprintln!("guest-cost: {watcher}: {unit} counted");
    Ok(())
}

fn pass(watcher: &str, unit: &str) -> io::Result<()> {
    if unit == INSTRUCTIONS {
        return measure(watcher, unit, BATCHES, Meter::instructions);
    }
    let Some(counters) = runs::Counters::open()? else { return Ok(()) };
    // The statistics cost instructions, so that a pass counts one or the other.
    let _statistics = runs::Statistics::switch_on()?;
    measure(watcher, unit, RUN_BATCHES, || Meter::runs(&counters))
}

/// Writes a line for each operation: the least count of a batch, and the number of operations in it.
fn measure<'a>(watcher: &str, unit: &str, batches: u32, meter: impl Fn() -> Meter<'a>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for operation in hugetlb::OPERATIONS.iter().chain(unrelated::OPERATIONS) {
        let Operation { name, group, string_bytes, start } = *operation;
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
        let mut meter = meter();
        let mut batch = start().map_err(named)?;
        // Once without a count, to fill the caches of the allocators.
        batch(&mut Meter::instructions()).map_err(named)?;
        for _ in 0..batches {
            batch(&mut meter).map_err(named)?;
        }
        let (count, of) = meter.least().ok_or_else(|| named(io::Error::other("nothing was counted")))?;
        writeln!(
            out,
            "{{\"watcher\":\"{watcher}\",\"unit\":\"{unit}\",\"group\":\"{group}\",\"operation\":\"{name}\",\
             \"string_bytes\":{string_bytes},\"count\":{count},\"of\":{of}}}"
        )?;
    }
    Ok(())
}
