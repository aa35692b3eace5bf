//! `observer exercise`. Runs in a process of one thread, since scenarios are forked.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use crate::exercise::{Options, run, write_list};

pub fn exercise(
    names: &[String],
    list: bool,
    duration: Duration,
    loop_forever: bool,
    seed: u64,
) -> anyhow::Result<ExitCode> {
    if list {
        super::print(|out| write_list(out))?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options { duration, loop_forever, seed };
    // The scenarios continue even if the reader of the output is gone.
    let report = run(names, &options, &mut Patient)?;
    Ok(if report.is_failure() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Standard output that ignores a reader's exit.
struct Patient;

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match io::stdout().write(bytes) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(bytes.len()),
            other => other,
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match io::stdout().flush() {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}
