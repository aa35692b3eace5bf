//! Progress of slow work for the user: one line at its start, signs of life during it, and one at its end. All of it goes to
//! standard error; standard output is for results.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

/// Interval of progress messages: on a terminal the line counts seconds; a log gets a line now and then.
const TICK_TERMINAL: Duration = Duration::from_secs(1);
const TICK_LOG: Duration = Duration::from_secs(15);

/// Runs work that shows nothing by itself.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let terminal = stderr().is_terminal();
    let begun = Instant::now();
    let (stop, stopped) = mpsc::channel::<()>();
    if terminal {
        eprint!("{what} …");
    } else {
        eprintln!("{what} …");
    }
    let label = what.to_owned();
    let ticker = thread::spawn(move || {
        let tick = if terminal { TICK_TERMINAL } else { TICK_LOG };
        while stopped.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
            let seconds = begun.elapsed().as_secs();
            if terminal {
                eprint!("\r{label} … {seconds} s");
                stderr().flush().ok();
            } else {
                eprintln!("{label} … {seconds} s so far");
            }
        }
    });
    let result = work();
    drop(stop);
    ticker.join().ok();
    let seconds = begun.elapsed().as_secs_f64();
    let end = if result.is_ok() { "done" } else { "failed" };
    if terminal {
        eprintln!("\r{what} … {end} ({seconds:.1} s)");
    } else if seconds > 2.0 || result.is_err() {
        eprintln!("{what} … {end} ({seconds:.1} s)");
    }
    result
}

/// Prints information that the user should know although nothing failed.
pub fn note(text: &str) {
    eprintln!("note: {text}");
}
