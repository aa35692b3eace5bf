//! `observer replay` and `observer report`: a recording through the pipeline.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{FailOn, Format, Speed};
use crate::{
    report::Report,
    run::{Options, run},
    sink::{json, text},
    source::replay::Replay,
    tui,
};

/// Exit code for findings.
const FINDINGS: u8 = 3;

#[cfg(sample)]
static SAMPLE: &[u8] = include_bytes!(env!("OBSERVER_SAMPLE"));

pub fn replay(file: Option<PathBuf>, speed: Speed) -> anyhow::Result<ExitCode> {
    let dashboard = super::watch::on_terminal() && file.as_deref() != Some(Path::new("-"));
    let speed = if dashboard { speed.0 } else { None };
    let source = match &file {
        Some(path) => Replay::open(path, speed)?,
        None => sample(speed)?,
    };
    if dashboard {
        super::watch::show(source, Options::default(), tui::Mode::Replay)?;
    } else {
        let report = read(source)?;
        super::print(|out| text::write(out, &report))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn report(files: &[PathBuf], format: Format, fail_on: FailOn) -> anyhow::Result<ExitCode> {
    let mut failed = false;
    for (i, file) in files.iter().enumerate() {
        let report = read(Replay::open(file, None)?)?;
        let told = fail_on.0.zip(report.worst());
        failed |= told.is_some_and(|(bar, worst)| worst <= bar);
        super::print(|out| match format {
            Format::Json => json::write(out, &report),
            Format::Text if files.len() == 1 => text::write(out, &report),
            Format::Text => {
                let between = if i == 0 { "" } else { "\n" };
                writeln!(out, "{between}== {}", file.display())?;
                text::write(out, &report)
            }
        })?;
        // On a terminal it is read, in a pipe it is kept: either way what is missing has to be seen.
        if !std::io::stdout().is_terminal() {
            for notice in &report.notices {
                eprintln!("observer: {}: {notice}", file.display());
            }
        }
    }
    Ok(if failed { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS })
}

fn read(mut source: Replay) -> anyhow::Result<Report> {
    Ok(super::block_on(run(&mut source, Options::default()))?.report)
}

#[cfg(sample)]
fn sample(speed: Option<f32>) -> anyhow::Result<Replay> {
    Replay::new("the built-in sample".into(), Box::new(SAMPLE), SAMPLE.len() as u64, speed)
}

#[cfg(not(sample))]
fn sample(_: Option<f32>) -> anyhow::Result<Replay> {
    use crate::hint::Hint;
    Err(anyhow::anyhow!("this observer was built without a sample")).hint("observer replay FILE")
}
