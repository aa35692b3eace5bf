//! `observer replay`, `report`, `diff` and `export`: recordings through the pipeline.

use std::{
    io::{BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;

use super::{FailOn, Format, Partial, Speed, Target};
use crate::{
    diff::Diff,
    hint::Hint,
    library::Library,
    output::Output,
    recording::Input,
    report::{
        Report,
        several::{Named, Several, check_one_build},
    },
    run::{Options, player::Player, run},
    sink::{dot, json, text},
    source::{Source, replay::Replay},
};

#[cfg(sample)]
static SAMPLE: &[u8] = include_bytes!(env!("OBSERVER_SAMPLE"));

pub fn replay(file: Option<PathBuf>, speed: Option<Speed>, partial: Partial) -> anyhow::Result<ExitCode> {
    if file.as_deref() == Some(Path::new("-")) {
        // Standard input can be read only once, so positions cannot be sought.
        return print_report(Replay::open(Path::new("-"))?, partial);
    }
    let (name, input) = match file {
        Some(path) => (path.display().to_string(), Input::File(path)),
        None => ("the built-in sample".to_owned(), sample()?),
    };
    if super::watch::on_terminal() {
        let library = Library::input(name.clone(), input.clone());
        let player = Player::open(name, input, speed.map(|s| s.0))?;
        super::watch::play(player, Some(library))?;
        return Ok(ExitCode::SUCCESS);
    }
    let opened = input.open().with_context(|| format!("open recording {name}"))?;
    print_report(Replay::new(name, opened)?, partial)
}

fn print_report(source: Replay, partial: Partial) -> anyhow::Result<ExitCode> {
    let report = read(source)?;
    super::print(|out| text::write(out, &report))?;
    Ok(partial.code(report.is_partial(), ExitCode::SUCCESS))
}

pub fn report(
    files: &[PathBuf],
    format: Format,
    fail_on: FailOn,
    partial: Partial,
) -> anyhow::Result<ExitCode> {
    let sources = open(files)?;
    let one = sources.len() == 1;
    let mut parts = Vec::new();
    for (name, source) in sources {
        let report = read(source)?;
        super::print(|out| match format {
            Format::Json if one => json::write(out, &report),
            Format::Json => Ok(()),
            Format::Text if one => text::write(out, &report),
            Format::Text => {
                writeln!(out, "== {name}")?;
                text::write(out, &report)?;
                writeln!(out)
            }
        })?;
        print_notices(&name, &report);
        parts.push(Named { name, report });
    }
    let mut worst: Vec<_> = parts.iter().filter_map(|p| p.report.worst()).collect();
    let is_partial = parts.iter().any(|p| p.report.is_partial());
    if !one {
        let several = Several::of(parts);
        worst.extend(several.worst());
        super::print(|out| match format {
            Format::Json => json::several::write(out, &several),
            Format::Text => text::several::write(out, &several),
        })?;
    }
    Ok(partial.code(is_partial, fail_on.code(worst.into_iter().min())))
}

/// Opens all recordings before anything is printed, since those of different kernels are not reported together.
fn open(files: &[PathBuf]) -> anyhow::Result<Vec<(String, Replay)>> {
    let opened = |file: &PathBuf| Ok((file.display().to_string(), Replay::open(file)?));
    let sources: Vec<(String, Replay)> = files.iter().map(opened).collect::<anyhow::Result<_>>()?;
    let kernels: Vec<_> = sources.iter().map(|(name, s)| (name.as_str(), &s.meta().kernel)).collect();
    check_one_build(&kernels).hint("observer report on each of them; observer diff compares two")?;
    Ok(sources)
}

/// Prints notices to standard error if the report goes to a pipe or file, so that a person sees what is missing.
fn print_notices(name: &str, report: &Report) {
    if !std::io::stdout().is_terminal() {
        for notice in &report.notices {
            eprintln!("observer: {name}: {notice}");
        }
    }
}

pub fn diff(
    before: &Path,
    after: &Path,
    format: Format,
    fail_on: FailOn,
    partial: Partial,
) -> anyhow::Result<ExitCode> {
    let sources = [Replay::open(before)?, Replay::open(after)?];
    let names = [before, after].map(|path| path.display().to_string());
    let [a, b] = sources.map(read);
    let (a, b) = (a?, b?);
    let diff = Diff::of(&a, &b);
    super::print(|out| match format {
        Format::Json => json::diff::write(out, &diff, names.each_ref().map(String::as_str)),
        Format::Text => text::diff::write(out, &diff, names.each_ref().map(String::as_str)),
    })?;
    print_notices(&names[0], &a);
    print_notices(&names[1], &b);
    Ok(partial.code(a.is_partial() || b.is_partial(), fail_on.code(diff.worst_that_came())))
}

pub fn export(
    file: &Path,
    to: Target,
    output: &Path,
    force: bool,
    partial: Partial,
) -> anyhow::Result<ExitCode> {
    let report = read(Replay::open(file)?)?;
    let write = |out: &mut dyn Write| match to {
        Target::Dot => dot::write(out, &report),
        Target::Jsonl => json::lines::write(out, &report),
    };
    if output.as_os_str() == "-" {
        super::print(write)?;
    } else {
        let name = output.display();
        let mut output = Output::create(output, force).with_context(|| format!("create {name}"))?;
        let mut out = BufWriter::new(&mut output);
        write(&mut out).and_then(|()| out.flush()).with_context(|| format!("write {name}"))?;
        drop(out);
        output.commit().with_context(|| format!("create {name}"))?;
    }
    print_notices(&file.display().to_string(), &report);
    Ok(partial.code(report.is_partial(), ExitCode::SUCCESS))
}

fn read(mut source: Replay) -> anyhow::Result<Report> {
    Ok(super::block_on(run(&mut source, Options { dies_of_signals: true, ..Options::default() }))?.report)
}

#[cfg(sample)]
fn sample() -> anyhow::Result<Input> {
    Ok(Input::Static(SAMPLE))
}

#[cfg(not(sample))]
fn sample() -> anyhow::Result<Input> {
    Err(anyhow::anyhow!("this observer was built without a sample")).hint("observer replay FILE")
}
