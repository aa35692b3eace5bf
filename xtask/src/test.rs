//! `cargo xtask test`: the rings of tests. Quick ones need no kernel; guest tests run on every kernel that the table marks;
//! soak repeats them. Nothing stops at the first failure: all of them are told together at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    build,
    guest::{Guest, Outcome},
    host, kernels, setup,
};

/// For all guest tests on one kernel; emulated, on a machine with other things to do.
const GUEST_TIMEOUT: Duration = Duration::from_secs(30 * 60);

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
}

/// What a run of all has to say at the end.
#[derive(Default)]
struct Tally {
    passed: u32,
    failures: Vec<String>,
    lines: Vec<String>,
}

impl Test {
    pub fn run(self) -> Result<()> {
        let mut tally = Tally::default();
        if self.quick {
            quick(&mut tally);
            return tally.finish();
        }
        if !self.soak {
            setup::all()?;
            quick(&mut tally);
        }
        if let Err(error) = self.guests(&mut tally) {
            tally.failures.push(format!("{error:#}"));
        }
        tally.finish()
    }

    fn guests(&self, tally: &mut Tally) -> Result<()> {
        let kernels = setup::kernels(&kernels::select_all(&self.kernels, self.flavour.as_deref())?)?;
        let object = build::bpf_object()?;
        let observer = build::observer_with(&object)?;
        let tests = build::guest_tests(&object)?;
        let tools = setup::guest_tools()?;
        let begun = Instant::now();
        loop {
            for kernel in &kernels {
                let guest = Guest::new(kernel, &tools)
                    .file("/bin/observer", &observer)
                    .file("/bin/guest-tests", &tests)
                    .env("OBSERVER_BIN", "/bin/observer")
                    .env("OBSERVER_GUEST_KERNEL", &kernel.name)
                    .env("RUST_BACKTRACE", "1")
                    .command(self.command())
                    .timeout(Some(GUEST_TIMEOUT))
                    .echo();
                eprintln!("--- guest tests on kernel {}", kernel.name);
                tally.guest(&kernel.name, &guest.run()?);
            }
            if !self.soak || begun.elapsed().as_secs_f64() >= self.hours * 3600.0 {
                return Ok(());
            }
        }
    }

    fn command(&self) -> Vec<String> {
        let fixed = ["/bin/guest-tests", "--ignored", "--test-threads=1", "--nocapture"];
        fixed.iter().map(|word| (*word).to_owned()).chain(self.filter.clone()).collect()
    }
}

fn quick(tally: &mut Tally) {
    let steps: [(&str, &[&str]); 3] = [
        ("formatting", &["fmt", "--all", "--check"]),
        ("lints", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
        ("tests", &["test", "--workspace", "--quiet", "--no-fail-fast"]),
    ];
    for (name, arguments) in steps {
        eprintln!("--- {name}: cargo {}", arguments.join(" "));
        match host::run(host::cargo().args(arguments)) {
            Ok(()) => tally.passed += 1,
            Err(error) => tally.failures.push(format!("{name}: {error:#}")),
        }
    }
}

impl Tally {
    fn guest(&mut self, kernel: &str, outcome: &Outcome) {
        let summary = summary(&outcome.console);
        let (passed, failed) = summary.unwrap_or((0, 0));
        self.passed += passed;
        for name in failed_tests(&outcome.console) {
            self.failures.push(format!("{kernel}: {name}"));
        }
        if summary.is_none() {
            self.failures.push(format!("{kernel}: the tests did not run to their end"));
        } else if passed + failed == 0 {
            self.failures.push(format!("{kernel}: no test ran"));
        }
        if !outcome.problems.is_empty() {
            self.failures.push(format!("{kernel}: the guest failed: {}", outcome.problems.join("\n    ")));
        }
        for notice in &outcome.notices {
            eprintln!("notice: {notice}");
        }
        let line = format!("kernel {kernel}: {passed} passed, {failed} failed; {}", outcome.verdict());
        eprintln!("{line}");
        self.lines.push(line);
    }

    fn finish(self) -> Result<()> {
        let Tally { passed, failures, lines } = self;
        println!();
        for line in lines {
            println!("{line}");
        }
        for failure in &failures {
            println!("FAILED {failure}");
        }
        println!("{passed} passed, {} failed", failures.len());
        if failures.is_empty() { Ok(()) } else { bail!("{} of the tests failed", failures.len()) }
    }
}

/// Passed and failed, out of the line that ends the output of a test binary.
fn summary(console: &str) -> Option<(u32, u32)> {
    let line = console.lines().rev().find_map(|line| line.trim().strip_prefix("test result: "))?;
    let count = |what: &str| {
        let (before, _) = line.split_once(&format!(" {what}"))?;
        before.rsplit(' ').next()?.parse().ok()
    };
    Some((count("passed")?, count("failed")?))
}

/// The names below the last "failures:" of the output.
fn failed_tests(console: &str) -> Vec<&str> {
    let Some((_, after)) = console.rsplit_once("failures:\n") else { return Vec::new() };
    after.lines().take_while(|line| line.starts_with("    ")).map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "\
running 2 tests
test attaches ... test result: this is a test's own word
ok
test counts ... FAILED

failures:

---- counts stdout ----
failures:
    counts
    counts_again

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.00s

";

    #[test]
    fn the_summary_is_the_last_one() {
        assert_eq!(summary(CONSOLE), Some((1, 2)));
        assert_eq!(failed_tests(CONSOLE), ["counts", "counts_again"]);
    }

    #[test]
    fn a_run_that_broke_off_has_none() {
        assert_eq!(summary("running 2 tests\ntest attaches ... "), None);
        assert!(failed_tests("running 2 tests\n").is_empty());
    }
}
