//! `docs/coverage.json`: the last recorded results of each row's kernel, and the source of `docs/coverage.md`. A run's grades
//! are compared with it. Counts belong to one boot, so they are not compared.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{
    Run,
    report::{Coverage, Scenario},
};
use crate::kernels;

const SCHEMA: &str = "observer-coverage/1";
pub const DOCUMENT: &str = "docs/coverage.md";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Documented(pub Vec<Kernel>);

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Name of the row.
    pub name: String,
    /// The kernel that was booted for the row, as in `uname -r`.
    pub kernel: String,
    pub coverage: Vec<Coverage>,
    pub scenarios: Vec<Scenario>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: String,
    kernels: Vec<Kernel>,
}

impl Documented {
    pub fn parse(text: &str) -> Result<Documented> {
        let file: File = serde_json::from_str(text).context("cannot read docs/coverage.json")?;
        if file.schema != SCHEMA {
            bail!("docs/coverage.json has the schema {:?}, and {SCHEMA:?} is read here", file.schema);
        }
        Ok(Documented(file.kernels))
    }

    /// Formats one line per role and scenario, so that a change is a small diff.
    pub fn to_json(&self) -> Result<String> {
        fn lines<T: Serialize>(rows: &[T]) -> Result<String> {
            let rows: Result<Vec<String>, _> = rows.iter().map(serde_json::to_string).collect();
            let rows: String = rows?.join(",\n    ");
            Ok(if rows.is_empty() { rows } else { format!("\n    {rows}") })
        }
        let mut text = format!("{{\"schema\":\"{SCHEMA}\",\"kernels\":[");
        for (index, kernel) in self.0.iter().enumerate() {
            let (comma, name) = (if index == 0 { "" } else { "," }, serde_json::to_string(&kernel.name)?);
            let release = serde_json::to_string(&kernel.kernel)?;
            let (coverage, scenarios) = (lines(&kernel.coverage)?, lines(&kernel.scenarios)?);
            write!(text, "{comma}\n {{\"name\":{name},\"kernel\":{release},\n  \"coverage\":[{coverage}],")?;
            write!(text, "\n  \"scenarios\":[{scenarios}]}}")?;
        }
        text.push_str("\n]}\n");
        Ok(text)
    }

    /// Replaces the rows measured in these runs. Other rows stay, unless the table no longer has them.
    pub fn record(&mut self, runs: &[&Run], rows: &[String]) {
        for run in runs.iter().filter(|run| run.kernel.is_row) {
            let Ok(report) = &run.report else { continue };
            self.0.retain(|kernel| kernel.name != run.kernel.name);
            self.0.push(Kernel {
                name: run.kernel.name.clone(),
                kernel: report.kernel.clone(),
                coverage: report.coverage.clone(),
                scenarios: report.scenarios.clone(),
            });
        }
        self.0.retain(|kernel| rows.contains(&kernel.name));
        self.0.sort_by(|a, b| kernels::compare(&a.name, &b.name));
    }

    /// Lists the grades of a row's kernel that differ from the document.
    pub fn judge(&self, run: &Run) -> Vec<String> {
        let (Ok(report), true) = (&run.report, run.kernel.is_row) else { return Vec::new() };
        let name = &run.kernel.name;
        let again = format!("rewrite it with `cargo xtask matrix --kernel {name} --write`");
        let Some(documented) = self.0.iter().find(|kernel| kernel.name == *name) else {
            return vec![format!("{DOCUMENT} says nothing of it; {again}")];
        };
        let made_on = if documented.kernel == report.kernel {
            String::new()
        } else {
            format!(" (it was made on {})", documented.kernel)
        };
        differences(&documented.coverage, &report.coverage)
            .into_iter()
            .map(|(what, said, is)| {
                format!("{DOCUMENT} says {what} {said}, and it is {is}{made_on}; {again}")
            })
            .collect()
    }
}

/// Returns role (and part), documented grade and measured grade of each difference.
fn differences(documented: &[Coverage], measured: &[Coverage]) -> Vec<(String, &'static str, &'static str)> {
    let is_same = |a: &Coverage, b: &Coverage| a.role == b.role && a.part == b.part;
    let grade = |rows: &[Coverage], row: &Coverage| {
        rows.iter().find(|other| is_same(other, row)).map_or("not listed", |found| found.grade.name())
    };
    let added = measured.iter().filter(|row| !documented.iter().any(|other| is_same(other, row)));
    documented
        .iter()
        .chain(added)
        .map(|row| {
            let space = if row.part.is_empty() { "" } else { " " };
            let what = format!("{}{space}{}", row.role, row.part);
            (what, grade(documented, row), grade(measured, row))
        })
        .filter(|(_, said, is)| said != is)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{fixture, report::Grade};

    fn rows() -> Vec<String> {
        ["5.10", "6.12"].map(str::to_owned).into()
    }

    fn documented() -> Documented {
        let mut documented = Documented::default();
        documented.record(&[&fixture::run()], &rows());
        documented
    }

    fn run(change: impl FnOnce(&mut Vec<Coverage>)) -> Run {
        let mut run = fixture::run();
        let mut report = fixture::report();
        change(&mut report.coverage);
        run.report = Ok(report);
        run
    }

    #[test]
    fn equal_grades_are_not_a_failure_despite_other_changes() {
        assert_eq!(documented().judge(&fixture::run()), Vec::<String>::new());
        let other = run(|coverage| {
            coverage[1].reason = "another one".into();
            coverage.reverse();
        });
        assert_eq!(documented().judge(&other), Vec::<String>::new());
    }

    #[test]
    fn a_changed_grade_is_a_failure_with_a_next_step() {
        let worse = run(|coverage| coverage[0].grade = Grade::Bounded);
        assert_eq!(
            documented().judge(&worse),
            ["docs/coverage.md says lookup exact, and it is bounded; \
              rewrite it with `cargo xtask matrix --kernel 6.12 --write`"]
        );
        let mut other = run(|coverage| {
            coverage[1].part = "gup fast".into();
        });
        if let Ok(report) = &mut other.report {
            report.kernel = "6.12.107+deb13-cloud-amd64".into();
        }
        let failures = documented().judge(&other);
        assert!(failures[0].contains("says lookup gup blind, and it is not listed (it was made on 6.12.95"));
        assert!(failures[1].contains("says lookup gup fast not listed, and it is blind"));
    }

    #[test]
    fn a_row_missing_from_the_document_is_a_failure_but_another_kernel_is_not() {
        let empty = Documented::default();
        assert!(empty.judge(&fixture::run())[0].contains("says nothing of it; rewrite it"));
        let mut other = fixture::run();
        other.kernel.is_row = false;
        assert_eq!(empty.judge(&other), Vec::<String>::new());
    }

    #[test]
    fn a_written_row_reads_back_and_the_other_rows_are_kept() {
        let mut documented = documented();
        let text = documented.to_json().unwrap();
        assert_eq!(Documented::parse(&text).unwrap(), documented, "{text}");
        assert!(Documented::parse(&text.replace("coverage/1", "coverage/2")).is_err());
        assert_eq!(Documented::parse(&Documented::default().to_json().unwrap()).unwrap().0, []);
        let named = |name: &str, is_row| {
            let mut run = fixture::run();
            run.kernel.name = name.into();
            run.kernel.is_row = is_row;
            run
        };
        documented.record(&[&named("5.10", true), &named("7.1", false), &named("4.19", true)], &rows());
        let names: Vec<&str> = documented.0.iter().map(|kernel| kernel.name.as_str()).collect();
        assert_eq!(names, ["5.10", "6.12"]);
    }
}
