//! The summary at the end of many tests: all failures together, in one place.

use anyhow::{Result, bail};

use crate::{
    guest::Outcome,
    guest_tests::{failed_tests, summary},
    hang::{self, Verdict},
};

#[derive(Default)]
pub struct Tally {
    pub passed: u32,
    pub failures: Vec<String>,
    lines: Vec<String>,
}

impl Tally {
    /// Prints a line now, and again in the summary.
    pub fn line(&mut self, line: String) {
        eprintln!("{line}");
        self.lines.push(line);
    }

    /// Adds the results of the test binary on a kernel. `may_be_empty`: another part of the run has the filter's test.
    pub fn guest(&mut self, kernel: &str, outcome: &Outcome, may_be_empty: bool) {
        let summary = summary(&outcome.console);
        let (passed, failed) = summary.unwrap_or((0, 0));
        self.passed += passed;
        for name in failed_tests(&outcome.console) {
            self.failures.push(format!("{kernel}: {name}"));
        }
        if summary.is_none() {
            self.failures.push(format!("{kernel}: the tests did not run to their end"));
        } else if passed + failed == 0 && !may_be_empty {
            self.failures.push(format!("{kernel}: no test ran"));
        }
        if !outcome.problems.is_empty() {
            self.failures.push(format!("{kernel}: the guest failed: {}", outcome.problems.join("\n    ")));
        }
        for notice in &outcome.notices {
            eprintln!("notice: {notice}");
        }
        self.line(format!("kernel {kernel}: {passed} passed, {failed} failed; {}", outcome.verdict()));
    }

    /// Adds the result of an expected deadlock.
    pub fn hang(&mut self, run: hang::Run) {
        let what = run.what;
        match run.verdict {
            Verdict::Found(how) => {
                self.passed += 1;
                self.line(format!("kernel {what}: {how}"));
            }
            Verdict::NotTestable(why) => self.line(format!("not testable here: {what}: {why}")),
            Verdict::Failed(why) => self.failures.push(format!("{what}: {why}")),
        }
    }

    pub fn finish(self) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(console: &str, problems: &[&str]) -> Outcome {
        Outcome {
            exit: Some(0),
            release: None,
            console: console.into(),
            problems: problems.iter().map(|problem| (*problem).to_owned()).collect(),
            notices: Vec::new(),
            seconds: 1.0,
        }
    }

    fn failures(console: &str, problems: &[&str], may_be_empty: bool) -> Vec<String> {
        let mut tally = Tally::default();
        tally.guest("6.12", &outcome(console, problems), may_be_empty);
        tally.failures
    }

    #[test]
    fn a_guest_run_fails_by_its_tests_or_by_the_guest() {
        let good = "test result: ok. 3 passed; 0 failed;\n";
        assert_eq!(failures(good, &[], false), [""; 0]);
        assert_eq!(failures(good, &["a", "b"], false), ["6.12: the guest failed: a\n    b"]);
        assert_eq!(failures("running 3 tests\n", &[], false), ["6.12: the tests did not run to their end"]);
        let bad = "failures:\n    counts\n\ntest result: FAILED. 2 passed; 1 failed;\n";
        assert_eq!(failures(bad, &[], false), ["6.12: counts"]);
    }

    #[test]
    fn a_run_without_tests_is_a_failure_unless_expected() {
        let none = "test result: ok. 0 passed; 0 failed;\n";
        assert_eq!(failures(none, &[], false), ["6.12: no test ran"]);
        assert_eq!(failures(none, &[], true), [""; 0]);
    }

    #[test]
    fn a_run_with_a_failure_is_an_error() {
        assert!(Tally::default().finish().is_ok());
        let tally = Tally { failures: vec!["x".into()], ..Tally::default() };
        assert!(tally.finish().is_err());
    }
}
