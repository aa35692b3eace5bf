//! Decides which results of a kernel's run are failures. Pure; kernels without a row are judged like the others.

use super::{
    Run,
    report::{Coverage, Grade, Outcome, Report, Scenario},
};

/// Verdict on a kernel: the number of scenarios that passed or were skipped, and every failure.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub passed: u32,
    pub skipped: u32,
    pub failures: Vec<String>,
}

/// Judges a run. `asked` are the requested scenarios; empty means all. Comparisons with the project's files (budgets,
/// documented grades) are made beside those files.
pub fn judge(run: &Run, asked: &[String]) -> Verdict {
    let mut verdict = Verdict::default();
    match &run.report {
        Ok(report) => report_of(report, run, asked, &mut verdict),
        Err(why) => verdict.failures.push(format!("no matrix.json: {why}")),
    }
    if !run.outcome.problems.is_empty() {
        verdict.failures.push(format!("the guest failed: {}", run.outcome.problems.join("\n    ")));
    } else if run.outcome.exit != Some(0) && verdict.failures.is_empty() {
        // An error after the report was written, or one that the report left out.
        let exit = run.outcome.exit.map_or("none".into(), |exit| exit.to_string());
        verdict.failures.push(format!("the test ended with {exit}, and its report has no failure"));
    }
    verdict
}

fn report_of(report: &Report, run: &Run, asked: &[String], verdict: &mut Verdict) {
    let failures = &mut verdict.failures;
    if run.kernel.is_row && report.row != run.kernel.name {
        failures.push(format!("matrix.json is of the row {:?}", report.row));
    }
    if let Some(release) = run.outcome.release.as_ref().filter(|release| **release != report.kernel) {
        failures.push(format!("matrix.json is of the kernel {}, and {release} ran", report.kernel));
    }
    failures.extend(report.coverage.iter().filter_map(unexplained));
    if report.coverage.is_empty() {
        failures.push("it has no coverage".into());
    }
    if report.programs.is_empty() {
        failures.push("it has no programs".into());
    }
    if report.scenarios.is_empty() {
        failures.push("no scenario ran".into());
    }
    let is_there = |name: &str| report.scenarios.iter().any(|scenario| scenario.name == name);
    failures.extend(
        asked.iter().filter(|name| !is_there(name)).map(|name| format!("scenario {name} did not run")),
    );
    for scenario in &report.scenarios {
        let wrong = scenario_failures(scenario);
        match scenario.outcome {
            Outcome::Done if wrong.is_empty() => verdict.passed += 1,
            Outcome::Skipped if wrong.is_empty() => verdict.skipped += 1,
            _ => {}
        }
        failures.extend(wrong);
    }
    failures.extend(report.facts.problems.iter().map(|problem| format!("facts: {problem}")));
    failures.extend(report.failures.iter().cloned());
}

/// Reports a grade below exact without a reason: nobody can act on such a hole.
fn unexplained(coverage: &Coverage) -> Option<String> {
    let Coverage { role, part, grade, reason, .. } = coverage;
    let part = if part.is_empty() { String::new() } else { format!(" ({part})") };
    (*grade != Grade::Exact && reason.trim().is_empty())
        .then(|| format!("coverage: {role}{part} is {} without a reason", grade.name()))
}

fn scenario_failures(scenario: &Scenario) -> Vec<String> {
    let name = &scenario.name;
    let failed = (scenario.outcome == Outcome::Failed).then(|| {
        format!("scenario {name} failed: {}", scenario.text).trim_end_matches([':', ' ']).to_owned()
    });
    let measures = scenario.measures.iter().filter(|measure| measure.differs()).map(|measure| {
        let witness = measure.witness.unwrap_or_default();
        let what = &measure.name;
        format!("scenario {name}: {what}: observer counted {}, the witness {witness}", measure.observer)
    });
    failed.into_iter().chain(measures).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{fixture, report::Measure};

    fn judged(change: impl FnOnce(&mut Run, &mut Report)) -> Verdict {
        let mut run = fixture::run();
        let mut report = fixture::report();
        change(&mut run, &mut report);
        if run.report.is_ok() {
            run.report = Ok(report);
        }
        judge(&run, &[])
    }

    #[test]
    fn a_good_run_has_no_failure() {
        assert_eq!(judged(|_, _| ()), Verdict { passed: 2, skipped: 1, failures: vec![] });
        // A witness that cannot count, a reason for each hole, and a kernel without a row are not failures.
        let other = judged(|run, report| {
            run.kernel.is_row = false;
            report.row = "7.1".into();
            report.scenarios[0].measures[0].witness = None;
        });
        assert_eq!(other.failures, Vec::<String>::new());
    }

    #[test]
    fn each_rule_has_a_case_that_breaks_it() {
        type Change = fn(&mut Run, &mut Report);
        let cases: [(&str, Change); 16] = [
            ("scenario share: lookup: observer counted 1041, the witness 1042", |_, report| {
                report.scenarios[0].measures[0].observer = 1041;
            }),
            ("scenario punch failed: it hangs", |_, report| {
                report.scenarios[1].outcome = Outcome::Failed;
                report.scenarios[1].text = "it hangs".into();
            }),
            ("a finding has one side", |_, report| report.failures.push("a finding has one side".into())),
            ("facts: x is there", |_, report| report.facts.problems.push("x is there".into())),
            ("the guest failed: the kernel said: BUG: x", |run, _| {
                run.outcome.problems.push("the kernel said: BUG: x".into());
            }),
            ("no matrix.json: the test did not write one", |run, _| {
                run.report = Err("the test did not write one".into());
            }),
            ("no scenario ran", |_, report| report.scenarios.clear()),
            ("it has no coverage", |_, report| report.coverage.clear()),
            ("it has no programs", |_, report| report.programs.clear()),
            ("coverage: lookup (gup) is blind without a reason", |_, report| {
                report.coverage[1].reason.clear();
            }),
            ("coverage: unlink is bounded without a reason", |_, report| {
                report.coverage[2].reason = " ".into();
            }),
            ("coverage: folio-held is inferred without a reason", |_, report| {
                report.coverage[3].reason.clear();
            }),
            ("the test ended with 101, and its report has no failure", |run, _| {
                run.outcome.exit = Some(101);
            }),
            ("the test ended with none, and its report has no failure", |run, _| run.outcome.exit = None),
            ("matrix.json is of the kernel 6.1, and 6.12.95+deb12-cloud-amd64 ran", |_, report| {
                report.kernel = "6.1".into();
            }),
            ("matrix.json is of the row \"6.1\"", |_, report| report.row = "6.1".into()),
        ];
        for (expected, change) in cases {
            assert_eq!(judged(change).failures, [expected]);
        }
    }

    #[test]
    fn a_failure_in_the_report_is_listed_once() {
        let both = judged(|run, report| {
            run.outcome.exit = Some(101);
            report.failures.push("x".into());
        });
        assert_eq!(both.failures, ["x"]);
    }

    #[test]
    fn all_failures_are_listed_and_a_failed_scenario_does_not_pass() {
        let verdict = judged(|run, report| {
            run.outcome.problems.push("timed out after 5 s".into());
            let scenario = &mut report.scenarios[0];
            scenario.outcome = Outcome::Failed;
            scenario.text.clear();
            scenario.measures.push(Measure {
                name: "free".into(),
                witness: Some(0),
                observer: 1,
                skipped: 0,
            });
        });
        assert_eq!((verdict.passed, verdict.skipped), (1, 1));
        assert_eq!(
            verdict.failures,
            [
                "scenario share failed",
                "scenario share: free: observer counted 1, the witness 0",
                "the guest failed: timed out after 5 s",
            ]
        );
    }

    #[test]
    fn a_requested_scenario_has_to_run() {
        let run = fixture::run();
        let of =
            |names: &[&str]| judge(&run, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["share", "uffd-wp"]).failures, Vec::<String>::new());
        assert_eq!(of(&["share", "shear"]).failures, ["scenario shear did not run"]);
    }
}
