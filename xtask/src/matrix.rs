//! `cargo xtask matrix`: every kernel under test against every scenario. A guest test does the work and writes one JSON file;
//! this module boots the guest, then reads, judges and prints the file. `--write` makes a new budget and document of it.

mod books;
mod budget;
mod coverage;
mod document;
#[cfg(test)]
mod fixture;
pub mod grid;
mod judge;
mod report;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Args;

pub use self::books::Books;
use self::report::Report;
use crate::{
    guest::Outcome,
    guest_tests::{self, Binaries},
    host, kernels,
    pool::{self, Jobs},
    setup::{self, Kernel},
    tally::Tally,
};

#[derive(Args)]
pub struct Matrix {
    /// Only this kernel: a row of xtask/kernels.toml, or a version of Debian's kernel packages or the beginning of one
    /// (6.19.14, 6.1.0-47-rt-amd64, 6.16); may be given more than once
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<String>,
    /// The flavour of kernels that are named without one: cloud-amd64, amd64 or rt-amd64
    #[arg(long)]
    flavour: Option<String>,
    /// Only this scenario; may be given more than once
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,
    /// Makes xtask/budget.toml, docs/coverage.json, docs/coverage.md and fixtures/kernels out of what is measured
    #[arg(long, conflicts_with = "scenarios")]
    write: bool,
    #[command(flatten)]
    jobs: Jobs,
}

/// Result of one kernel.
pub struct Run {
    kernel: Kernel,
    outcome: Outcome,
    /// The report, or the reason why it is missing.
    report: Result<Report, String>,
}

impl Matrix {
    pub fn run(self) -> Result<()> {
        let mut selections = kernels::select_all(&self.kernels, self.flavour.as_deref())?;
        if self.kernels.is_empty() {
            selections.retain(|selection| selection.row().is_none_or(kernels::Row::has_matrix));
        }
        let mut books = Books::open()?;
        let found = setup::kernels(&selections)?;
        let kernels: Vec<Kernel> = found.kernels.into_iter().map(|(_, kernel)| kernel).collect();
        let binaries = Binaries::build()?;
        let jobs = self.jobs.count();
        let together = jobs.min(kernels.len()) > 1;
        let runs = pool::run(jobs, &kernels, |kernel| {
            boot(&binaries, kernel, &self.scenarios, together.then_some(kernel.name.as_str()))
        });
        let mut tally = Tally::default();
        found.absent.into_iter().for_each(|absent| tally.line(absent));
        if self.write {
            for run in runs.iter().filter(|run| run.kernel.is_row && run.report.is_ok()) {
                if let Err(error) = keep_kernel(run) {
                    tally.failures.push(format!("{error:#}"));
                }
            }
            match books.record(&runs) {
                Ok(written) => tally.line(written),
                Err(error) => tally.failures.push(format!("{error:#}")),
            }
        }
        print_results(&runs, &self.scenarios, &books, &mut tally);
        tally.finish()
    }
}

/// Boots a kernel and runs the matrix's test in it; empty `scenarios` means all. Errors become part of the run.
pub fn boot(binaries: &Binaries, kernel: &Kernel, scenarios: &[String], label: Option<&str>) -> Run {
    eprintln!("--- matrix on {kernel}");
    let run = || {
        let out = out(kernel)?;
        // Files of an earlier run must not be taken for this run's.
        if out.exists() {
            fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
        }
        let mut guest = binaries.guest(kernel, &["--exact", guest_tests::MATRIX], label).out(&out);
        if !scenarios.is_empty() {
            guest = guest.env("OBSERVER_MATRIX_SCENARIOS", &scenarios.join(","));
        }
        let outcome = guest.run()?;
        let report = read(&out.join("matrix.json"), &outcome);
        anyhow::Ok((outcome, report))
    };
    let (outcome, report) = run().unwrap_or_else(|error| {
        (Outcome::failed(format!("{error:#}")), Err("the guest did not run".to_owned()))
    });
    Run { kernel: kernel.clone(), outcome, report }
}

/// Returns the directory in which the files of a kernel's guest arrive.
fn out(kernel: &Kernel) -> Result<PathBuf> {
    Ok(host::target_dir()?.join("matrix").join(&kernel.name))
}

/// Stores the kernel, in the format of `observer doctor --save`, as a fixture of the quick tests.
fn keep_kernel(run: &Run) -> Result<()> {
    let name = &run.kernel.name;
    let kept = host::workspace().join(format!("fixtures/kernels/{name}.json"));
    fs::copy(out(&run.kernel)?.join("kernel.json"), &kept)
        .with_context(|| format!("cannot keep kernel {name} as {}", kept.display()))?;
    Ok(())
}

fn read(path: &Path, outcome: &Outcome) -> Result<Report, String> {
    match fs::read_to_string(path) {
        Ok(text) => Report::parse(&text).map_err(|error| format!("{}: {error:#}", path.display())),
        Err(_) if guest_tests::summary(&outcome.console) == Some((0, 0)) => {
            Err(format!("the guest tests have no {}", guest_tests::MATRIX))
        }
        Err(_) => Err("the test wrote none".into()),
    }
}

/// Prints the tables, and adds the results for the end of the run to `tally`.
pub fn print_results(runs: &[Run], asked: &[String], books: &Books, tally: &mut Tally) {
    println!("\n{}", table::table(runs));
    for run in runs {
        let name = &run.kernel.name;
        for notice in &run.outcome.notices {
            eprintln!("notice: {name}: {notice}");
        }
        let mut verdict = judge::judge(run, asked);
        verdict.failures.extend(books.judge(run));
        let judge::Verdict { passed, skipped, failures } = verdict;
        tally.passed += passed;
        let guest = run.outcome.verdict();
        let failed = failures.len();
        tally.line(format!(
            "kernel {name}: matrix: {passed} passed, {failed} failed, {skipped} skipped; {guest}"
        ));
        tally.failures.extend(failures.into_iter().map(|failure| format!("{name}: {failure}")));
    }
}

#[cfg(test)]
mod tests;
