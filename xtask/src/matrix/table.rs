//! The table that `cargo xtask matrix` prints: for each kernel the grades of each role, the size of the programs, and the
//! scenarios by measure. Failures are printed at the end of the run, not here.

use std::fmt::Write as _;

use super::{
    Run,
    grid::{self, Grid},
    report::{Coverage, Program, Report},
};

pub fn table(runs: &[Run]) -> String {
    runs.iter().map(kernel).collect::<Vec<_>>().join("\n")
}

fn kernel(run: &Run) -> String {
    let release = run.outcome.release.as_deref().unwrap_or("did not boot");
    let mut text = format!("{} · {release}\n", run.kernel.name);
    if let Some(notice) = &run.kernel.notice {
        writeln!(text, "  notice: {notice}").ok();
    }
    match &run.report {
        Ok(report) => text.push_str(&body(report)),
        Err(why) => drop(writeln!(text, "  no matrix.json: {why}")),
    }
    text
}

fn body(report: &Report) -> String {
    let mut rows: Vec<Vec<String>> = roles(&report.coverage)
        .into_iter()
        .map(|role| vec![role.to_owned(), grades(&report.coverage, role)])
        .collect();
    rows.push(vec!["(programs)".into(), programs(&report.programs)]);
    let facts = &report.facts;
    rows.push(vec!["(facts)".into(), format!("{} checked, {} wrong", facts.checked, facts.problems.len())]);
    format!("{}\n{}", Grid(rows).aligned("  "), grid::scenarios(&report.scenarios).aligned("  "))
}

/// Returns each role once, in the order of the report.
pub fn roles(coverage: &[Coverage]) -> Vec<&str> {
    let mut roles: Vec<&str> = Vec::new();
    for row in coverage {
        if !roles.contains(&row.role.as_str()) {
            roles.push(&row.role);
        }
    }
    roles
}

/// Formats grades as in "exact, gup blind". Parts with the grade of their role are left out; empty if the role is not
/// reported.
fn grades(coverage: &[Coverage], role: &str) -> String {
    let whole = coverage.iter().find(|row| row.role == role && row.part.is_empty()).map(|row| row.grade);
    let shown =
        coverage.iter().filter(|row| row.role == role && (row.part.is_empty() || Some(row.grade) != whole));
    let parts = shown.map(|row| match row.part.as_str() {
        "" => row.grade.name().to_owned(),
        part => format!("{part} {}", row.grade.name()),
    });
    parts.collect::<Vec<_>>().join(", ")
}

fn programs(programs: &[Program]) -> String {
    let largest = |what: &str, number: fn(&Program) -> Option<u64>| {
        let sizes = programs.iter().filter_map(|program| Some((number(program)?, program)));
        let (size, program) = sizes.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
        Some(format!("at most {size} {what} ({} at {})", program.program, program.target))
    };
    let verified = largest("verified", |program| program.verified);
    let translated = largest("translated", |program| Some(program.translated));
    let parts = [Some(programs.len().to_string()), verified, translated];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{
        fixture,
        report::{Measure, Outcome},
    };

    #[test]
    fn the_table_is_as_drawn() {
        let mut bad = fixture::run();
        bad.kernel.name = "5.10".into();
        bad.kernel.notice =
            Some("kernel 5.10: its suites have no 5.10.223 any more, taking 5.10.230-1".into());
        let mut report = fixture::report();
        report.scenarios[0].measures[0].observer = 1040;
        report.scenarios[1].outcome = Outcome::Failed;
        report.scenarios[1].text = "it hangs".into();
        report.scenarios[1].measures =
            vec![Measure { name: "free".into(), witness: Some(0), observer: 0, skipped: 0 }];
        report.facts.problems.push("x".into());
        bad.report = Ok(report);
        let mut absent = fixture::run();
        absent.kernel.name = "7.3".into();
        absent.outcome.release = None;
        absent.report = Err("the guest wrote none".into());
        let drawn = table(&[fixture::run(), bad, absent]);
        assert_eq!(drawn, include_str!("table.golden"), "\n{drawn}");
    }
}
