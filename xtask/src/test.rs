//! `cargo xtask test`: the rings of tests. Quick tests need no kernel. The matrix and one module of guest tests run on every
//! kernel that the table marks; the other guest tests run on kernels whose row says so; soak repeats all of them. Nothing
//! stops at the first failure: all failures are reported at the end, after the results of the benches.

use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::{
    bench,
    guest::Outcome,
    guest_tests::{self, Binaries},
    hang, host,
    kernels::{self, Row, Selection, Tests},
    matrix::{self, Books},
    pool::{self, Jobs},
    setup::{self, Kernel},
    tally::Tally,
};

#[derive(Args)]
pub struct Test {
    /// Formatting, lints and the tests that need no guest
    #[arg(long, conflicts_with = "soak")]
    quick: bool,
    /// Repeats the guest tests
    #[arg(long)]
    soak: bool,
    /// How long the soak repeats them
    #[arg(long, default_value_t = 1.0, requires = "soak")]
    hours: f64,
    /// Only this kernel: a row of xtask/kernels.toml, or a version of Debian's kernel packages or the beginning of one; may be
    /// given more than once
    #[arg(long = "kernel", value_name = "KERNEL", conflicts_with = "quick")]
    kernels: Vec<String>,
    /// The flavour of kernels that are named without one: cloud-amd64, amd64 or rt-amd64
    #[arg(long, conflicts_with = "quick")]
    flavour: Option<String>,
    /// Only guest tests whose name contains this
    #[arg(long, conflicts_with = "quick")]
    filter: Option<String>,
    #[command(flatten)]
    jobs: Jobs,
}

/// The work done in one guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Every guest test except the matrix, or those that the filter selects.
    Tests,
    /// The guest tests that run on every kernel.
    Everywhere,
    /// The lock-order tests among them.
    Order,
    /// The tests that need a guest of their own.
    OwnGuest,
    /// Deadlocks that really happen.
    Hang,
    Matrix,
}

enum Done {
    Tests(Outcome),
    Hang(Vec<hang::Run>),
    Matrix(Box<matrix::Run>),
}

impl Test {
    pub fn run(self) -> Result<()> {
        let mut tally = Tally::default();
        if self.quick {
            quick(&mut tally);
            return tally.finish();
        }
        if self.soak {
            model(&mut tally, "model", "hundred_million");
        } else {
            setup::all()?;
            quick(&mut tally);
        }
        if !self.soak && self.filter.is_none() {
            model(&mut tally, "model", "in_full");
            model(&mut tally, "deadlocks", "in_full");
        }
        if let Err(error) = self.guests(&mut tally) {
            tally.failures.push(format!("{error:#}"));
        }
        if !self.soak && self.filter.is_none() {
            // Last, when no guest runs any more. A slow figure is not a failure.
            report_figure(&mut tally, "bench of the engine", || bench::Engine::default().summary());
            report_figure(&mut tally, "bench of the dashboard", || bench::Dashboard::default().summary());
        }
        tally.finish()
    }

    fn guests(&self, tally: &mut Tally) -> Result<()> {
        let selections = kernels::select_all(&self.kernels, self.flavour.as_deref())?;
        let books = Books::open()?;
        let setup::Found { kernels, absent } = setup::kernels(&selections)?;
        absent.into_iter().for_each(|absent| tally.line(absent));
        let binaries = Binaries::build()?;
        let begun = Instant::now();
        loop {
            self.round(&kernels, &binaries, &books, tally);
            if !self.soak || begun.elapsed().as_secs_f64() >= self.hours * 3600.0 {
                return Ok(());
            }
        }
    }

    fn round(&self, kernels: &[(Selection, Kernel)], binaries: &Binaries, books: &Books, tally: &mut Tally) {
        let tasks: Vec<(Part, &Kernel)> = self
            .parts(kernels.iter().map(|(selection, _)| selection))
            .into_iter()
            .map(|(part, index)| (part, &kernels[index].1))
            .collect();
        let jobs = self.jobs.count();
        let together = jobs.min(tasks.len()) > 1;
        let done = pool::run(jobs, &tasks, |(part, kernel)| {
            let label = |text: String| together.then_some(text);
            match part {
                Part::Tests | Part::Everywhere | Part::Order => {
                    let label = label(format!("{} tests", kernel.name));
                    Done::Tests(self.tests(*part, kernel, binaries, label.as_deref()))
                }
                Part::OwnGuest => {
                    eprintln!("--- own guest on {kernel}");
                    let label = label(format!("{} own guest", kernel.name));
                    let filter = self.filter.as_deref().unwrap_or(guest_tests::OWN_GUEST);
                    let run = binaries.own_guest(kernel, filter, label.as_deref()).run();
                    Done::Tests(run.unwrap_or_else(|error| Outcome::failed(format!("{error:#}"))))
                }
                Part::Hang => Done::Hang(hang::run(binaries, kernel)),
                Part::Matrix => {
                    let label = label(kernel.name.clone());
                    Done::Matrix(Box::new(matrix::boot(binaries, kernel, &[], label.as_deref())))
                }
            }
        });
        let mut runs = Vec::new();
        for (done, (_, kernel)) in done.into_iter().zip(&tasks) {
            match done {
                Done::Tests(outcome) => tally.guest(&kernel.name, &outcome, self.filter_means_matrix()),
                Done::Hang(runs) => runs.into_iter().for_each(|run| tally.hang(run)),
                Done::Matrix(run) => runs.push(*run),
            }
        }
        if !runs.is_empty() {
            matrix::print_results(&runs, &[], books, tally);
        }
    }

    /// Returns the parts to run, each with the index of its kernel. The longest start first.
    fn parts<'a>(&self, selections: impl Iterator<Item = &'a Selection>) -> Vec<(Part, usize)> {
        let selections: Vec<&Selection> = selections.collect();
        let of = |part: &dyn Fn(&Selection) -> Option<Part>| {
            let all = selections.iter().enumerate();
            all.filter_map(|(index, selection)| Some((part(selection)?, index))).collect::<Vec<_>>()
        };
        let mut tests = of(&|selection| self.tests_of(selection));
        tests.extend(of(&|selection| self.own_guest_of(selection)));
        tests.extend(of(&|selection| self.hangs_of(selection)));
        tests.sort();
        let has_matrix = |selection: &Selection| selection.row().is_none_or(Row::has_matrix);
        let matrix = of(&|selection| has_matrix(selection).then_some(Part::Matrix));
        match &self.filter {
            None => [tests, matrix].concat(),
            Some(filter) if filter == guest_tests::MATRIX => matrix,
            Some(_) if self.filter_means_matrix() => [tests, matrix].concat(),
            Some(_) => tests,
        }
    }

    /// Returns the guest tests for a kernel, without the matrix. The tests for every kernel know only kernels of the table.
    fn tests_of(&self, selection: &Selection) -> Option<Part> {
        let row = selection.row();
        let tests = row.map(|row| row.tests);
        match &self.filter {
            // This is not a guest test: a hang is watched from outside.
            Some(filter) if filter == hang::NAME || filter.contains(guest_tests::OWN_GUEST) => None,
            Some(_) if tests == Some(Tests::All) || !self.kernels.is_empty() => Some(Part::Tests),
            // A kernel with only lock-order tests runs them if the filter names that module.
            Some(filter) if tests == Some(Tests::Order) => {
                filter.contains(guest_tests::ORDER).then_some(Part::Tests)
            }
            Some(filter) if !filter.contains(guest_tests::EVERYWHERE) => None,
            _ => match tests? {
                Tests::All => Some(Part::Tests),
                Tests::Matrix => Some(Part::Everywhere),
                Tests::Order => Some(Part::Order),
            },
        }
    }

    /// Returns the deadlock part for the kernel that has one. It is not a guest test; a filter selects it by `hang`.
    fn hangs_of(&self, selection: &Selection) -> Option<Part> {
        let is_meant = self.filter.as_deref().is_none_or(|filter| hang::NAME.contains(filter));
        (is_meant && hang::is_known(selection.row()?)).then_some(Part::Hang)
    }

    /// Returns the part with a guest of its own, for kernels that run every test and for kernels that are named.
    fn own_guest_of(&self, selection: &Selection) -> Option<Part> {
        let has_all = selection.row().is_some_and(|row| row.tests == Tests::All);
        let is_meant = match &self.filter {
            None => has_all,
            Some(filter) => filter.contains(guest_tests::OWN_GUEST) && (has_all || !self.kernels.is_empty()),
        };
        is_meant.then_some(Part::OwnGuest)
    }

    fn filter_means_matrix(&self) -> bool {
        self.filter.as_ref().is_some_and(|filter| guest_tests::MATRIX.contains(filter.as_str()))
    }

    fn tests(&self, part: Part, kernel: &Kernel, binaries: &Binaries, label: Option<&str>) -> Outcome {
        eprintln!("--- guest tests on {kernel}");
        let whole = match part {
            Part::Everywhere => Some(guest_tests::EVERYWHERE),
            Part::Order => Some(guest_tests::ORDER),
            Part::Tests | Part::OwnGuest | Part::Hang | Part::Matrix => None,
        };
        let filter = self.filter.as_deref().or(whole);
        let arguments: Vec<&str> = ["--skip", guest_tests::MATRIX, "--skip", guest_tests::OWN_GUEST]
            .into_iter()
            .chain(filter)
            .collect();
        let run = binaries.guest(kernel, &arguments, label).run();
        run.unwrap_or_else(|error| Outcome::failed(format!("{error:#}")))
    }
}

fn quick(tally: &mut Tally) {
    let steps: [(&str, &[&str]); 3] = [
        ("formatting", &["fmt", "--all", "--check"]),
        ("lints", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
        ("tests", &["test", "--workspace", "--quiet", "--no-fail-fast"]),
    ];
    for (name, arguments) in steps {
        step(tally, name, arguments);
    }
}

/// Runs the long tests of a model against its oracle: `model` checks windows, `deadlocks` checks lock order.
fn model(tally: &mut Tally, model: &str, which: &str) {
    let test = ["test", "--release", "--package", "observer-engine", "--test", model, "--"];
    step(tally, model, &[&test[..], &["--ignored", "--nocapture", which]].concat());
}

/// Reports a figure; it fails only if the figure cannot be measured.
fn report_figure(tally: &mut Tally, name: &str, figure: impl FnOnce() -> Result<String>) {
    eprintln!("--- {name}");
    match figure() {
        Ok(line) => tally.line(line),
        Err(error) => tally.failures.push(format!("{name}: {error:#}")),
    }
}

fn step(tally: &mut Tally, name: &str, arguments: &[&str]) {
    eprintln!("--- {name}: cargo {}", arguments.join(" "));
    match host::run(host::cargo().args(arguments)) {
        Ok(()) => tally.passed += 1,
        Err(error) => tally.failures.push(format!("{name}: {error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        test: Test,
    }

    /// Kernel and part, as "6.12 tests".
    fn parts(arguments: &[&str]) -> Vec<String> {
        let test = Command::try_parse_from(["test"].iter().chain(arguments)).unwrap().test;
        let selections = kernels::select_all(&test.kernels, test.flavour.as_deref()).unwrap();
        let word = |part| match part {
            Part::Tests => "tests",
            Part::Everywhere => "everywhere",
            Part::Order => "order",
            Part::OwnGuest => "own-guest",
            Part::Hang => "hang",
            Part::Matrix => "matrix",
        };
        let parts = test.parts(selections.iter()).into_iter();
        parts.map(|(part, index)| format!("{} {}", selections[index].name(), word(part))).collect()
    }

    fn rows() -> Vec<Row> {
        kernels::rows().unwrap().into_iter().filter(|row| row.test).collect()
    }

    #[test]
    fn each_kernel_runs_the_matrix_and_the_tests_of_its_row() {
        let all = parts(&[]);
        assert_eq!(all[0], "6.12 tests");
        for row in rows() {
            assert_eq!(all.contains(&format!("{} matrix", row.name)), row.tests != Tests::Order, "{all:?}");
            let tests = match row.tests {
                Tests::All => "tests",
                Tests::Matrix => "everywhere",
                Tests::Order => "order",
            };
            assert!(all.contains(&format!("{} {tests}", row.name)), "{all:?}");
        }
        let of = |part: &str| all.iter().filter(|p| p.ends_with(part)).count();
        assert_eq!(all.len() - of(" matrix") - of(" hang") - of(" own-guest"), rows().len(), "{all:?}");
        assert_eq!(parts(&["--kernel", "6.18"]), ["6.18 everywhere", "6.18 matrix"]);
        let two = parts(&["--kernel", "6.18", "--kernel", "6.19.14"]);
        assert_eq!(two, ["6.18 everywhere", "6.18 matrix", "6.19.14 matrix"]);
        assert_eq!(parts(&["--kernel", "6.12", "--flavour", "amd64"]), ["6.12-amd64 matrix"]);
        assert_eq!(parts(&["--kernel", "6.12.57"]), ["6.12.57 order", "6.12.57 hang"]);
    }

    #[test]
    fn a_filter_selects_only_the_named_tests() {
        assert_eq!(parts(&["--filter", "counts"]), ["6.12 tests"]);
        assert_eq!(parts(&["--filter", "own_guest::page_sizes"]), ["6.12 own-guest"]);
        assert_eq!(parts(&["--filter", guest_tests::OWN_GUEST]), ["6.12 own-guest"]);
        assert_eq!(parts(&["--filter", "counts", "--kernel", "6.1"]), ["6.1 tests"]);
        let everywhere = parts(&["--filter", "on_every_kernel::windows"]);
        assert_eq!(everywhere[..2], ["6.12 tests", "5.10 everywhere"]);
        assert_eq!(everywhere.len(), rows().iter().filter(|row| row.has_matrix()).count());
        let order = parts(&["--filter", "on_every_kernel::order::"]);
        assert!(order.contains(&"6.12.57 tests".into()) && order.contains(&"6.1 everywhere".into()));
        assert_eq!(order.len(), rows().len());
        assert_eq!(parts(&["--filter", "matrix_of_this_kernel", "--kernel", "6.1"]), ["6.1 matrix"]);
        assert_eq!(parts(&["--filter", "kernel", "--kernel", "6.1"]), ["6.1 tests", "6.1 matrix"]);
        assert!(
            parts(&["--filter", "hang"]).iter().all(|part| part.ends_with(" hang") || part == "6.12 tests")
        );
    }
}
