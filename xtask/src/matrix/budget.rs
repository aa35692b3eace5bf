//! `xtask/budget.toml`: size limits of each program family on each kernel, so that growth towards the verifier's limit is
//! noticed where it happens. `cargo xtask matrix --write` writes it, and every run reads it. Each row of kernels.toml has its
//! own table. `default` is for other kernels and holds the largest values.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{
    Run,
    report::{Program, Report},
};
use crate::kernels;

const DEFAULT: &str = "default";
const HEAD: &str = "\
# The largest program of each family that each kernel may get, in instructions: as the verifier walks them (before 5.16 kernels
# do not tell that), and after translation. `default` is for kernels that are in no row of kernels.toml.
#
# Made by `cargo xtask matrix --write` from what was measured, rounded up by 10 %.
";

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    pub verified: Option<u64>,
    pub translated: Option<u64>,
}

impl Limit {
    fn join(self, other: Limit) -> Limit {
        let larger = |a: Option<u64>, b: Option<u64>| a.max(b);
        Limit {
            verified: larger(self.verified, other.verified),
            translated: larger(self.translated, other.translated),
        }
    }
}

type Families = BTreeMap<String, Limit>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget(BTreeMap<String, Families>);

impl Budget {
    pub fn parse(text: &str) -> Result<Budget> {
        toml::from_str(text).map(Budget).context("cannot read xtask/budget.toml")
    }

    /// Lists programs above their budget, the worst of each family.
    pub fn judge(&self, run: &Run) -> Vec<String> {
        let Ok(report) = &run.report else { return Vec::new() };
        let name = run.kernel.name.as_str();
        // A version that a user typed must not match a row by accident.
        let table = if run.kernel.is_row { name } else { DEFAULT };
        type Number = fn(&Program) -> Option<u64>;
        type Allowed = fn(&Limit) -> Option<u64>;
        let numbers: [(&str, Number, Allowed); 2] = [
            ("verified", |program| program.verified, |limit| limit.verified),
            ("translated", |program| Some(program.translated), |limit| limit.translated),
        ];
        let again = format!("record it again with `cargo xtask matrix --kernel {name} --write`");
        let mut failures = Vec::new();
        for (what, number, allowed) in numbers {
            for (program, size) in largest(report, number) {
                let Program { program, family, target, attempt, .. } = program;
                let found = format!(
                    "program {program} ({attempt} at {target}) has {size} {what} instructions on {name}"
                );
                match self.limit(table, family, allowed) {
                    Some(limit) if size <= limit => {}
                    Some(limit) => failures.push(format!("{found}, {family}'s budget is {limit}; {again}")),
                    None => failures.push(format!("{found}, {family} has no budget; {again}")),
                }
            }
        }
        failures
    }

    fn limit(&self, table: &str, family: &str, allowed: fn(&Limit) -> Option<u64>) -> Option<u64> {
        let find = |table: &str| self.0.get(table)?.get(family).and_then(allowed);
        find(table).or_else(|| find(DEFAULT))
    }

    /// Makes the measurements the new budget. A row gets the sizes that it needs now. `default` drops families that are in no
    /// row any more but does not shrink, since its own kernels are not measured each time.
    pub fn record(&mut self, runs: &[&Run]) {
        let mut others = self.0.remove(DEFAULT).unwrap_or_default();
        for run in runs {
            let Ok(report) = &run.report else { continue };
            let families = measured(report);
            if run.kernel.is_row {
                self.0.insert(run.kernel.name.clone(), families);
            } else {
                join(&mut others, &families);
            }
        }
        let rows = self.0.values();
        others.retain(|family, _| {
            rows.clone().any(|families| families.contains_key(family)) || self.0.is_empty()
        });
        for families in self.0.values() {
            join(&mut others, families);
        }
        self.0.insert(DEFAULT.into(), others);
    }

    pub fn to_toml(&self) -> String {
        let mut names: Vec<&String> = self.0.keys().collect();
        names.sort_by(|a, b| (*a != DEFAULT).cmp(&(*b != DEFAULT)).then(kernels::compare(a, b)));
        let mut text = HEAD.to_owned();
        for name in names {
            let key = if name.contains('.') { format!("\"{name}\"") } else { name.clone() };
            write!(text, "\n[{key}]\n").ok();
            for (family, limit) in &self.0[name] {
                let number = |what: &str, number: Option<u64>| Some(format!("{what} = {}", number?));
                let verified = number("verified", limit.verified);
                let both: Vec<String> =
                    verified.into_iter().chain(number("translated", limit.translated)).collect();
                writeln!(text, "{family} = {{ {} }}", both.join(", ")).ok();
            }
        }
        text
    }
}

fn join(into: &mut Families, from: &Families) {
    for (family, limit) in from {
        let known = into.entry(family.clone()).or_default();
        *known = known.join(*limit);
    }
}

fn measured(report: &Report) -> Families {
    let mut families = Families::new();
    for program in &report.programs {
        let limit = Limit {
            verified: program.verified.map(with_room),
            translated: Some(with_room(program.translated)),
        };
        let known = families.entry(program.family.clone()).or_default();
        *known = known.join(limit);
    }
    families
}

/// Adds 10 %, rounded up.
fn with_room(size: u64) -> u64 {
    (size * 11).div_ceil(10)
}

/// Returns the largest program of each family by this number (the first of equals), if the kernel reports it.
fn largest(report: &Report, number: fn(&Program) -> Option<u64>) -> Vec<(&Program, u64)> {
    let mut families: BTreeMap<&str, (&Program, u64)> = BTreeMap::new();
    for program in &report.programs {
        let Some(size) = number(program) else { continue };
        let known = families.entry(program.family.as_str()).or_insert((program, size));
        if size > known.1 {
            *known = (program, size);
        }
    }
    families.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::fixture;

    const ROOMY: &str = "\
[default]
ask = { verified = 500, translated = 90 }

[\"6.12\"]
op_begin = { verified = 1234, translated = 567 }
";

    fn run(change: impl FnOnce(&mut Run, &mut Vec<Program>)) -> Run {
        let mut run = fixture::run();
        let mut report = fixture::report();
        change(&mut run, &mut report.programs);
        run.report = Ok(report);
        run
    }

    #[test]
    fn a_program_within_its_budget_is_not_a_failure() {
        let budget = Budget::parse(ROOMY).unwrap();
        assert_eq!(budget.judge(&run(|_, _| ())), Vec::<String>::new());
        // If the kernel does not report a figure, the budget is not checked.
        assert_eq!(budget.judge(&run(|_, programs| programs[0].verified = None)), Vec::<String>::new());
    }

    #[test]
    fn a_program_above_its_budget_is_named_with_its_figures() {
        let budget = Budget::parse(ROOMY).unwrap();
        let mut larger = None;
        let failures = budget.judge(&run(|_, programs| {
            let worst = Program { program: "op_begin_4".into(), verified: Some(1300), ..programs[0].clone() };
            larger = Some(worst.clone());
            programs[0].verified = Some(1235);
            programs.push(worst);
        }));
        assert_eq!(
            failures,
            [
                "program op_begin_4 (fentry at hugetlb_fault) has 1300 verified instructions on 6.12, op_begin's budget is 1234; \
              record it again with `cargo xtask matrix --kernel 6.12 --write`"
            ]
        );
        let failures = budget.judge(&run(|_, programs| programs[1].translated = 91));
        assert_eq!(failures.len(), 1);
        assert!(failures[0].contains("ask_0") && failures[0].contains("91 translated"), "{failures:?}");
    }

    #[test]
    fn a_family_without_a_budget_is_a_failure() {
        let budget = Budget::parse(ROOMY).unwrap();
        let failures = budget.judge(&run(|_, programs| programs[0].family = "op_end".into()));
        assert_eq!(failures.len(), 2, "{failures:?}");
        assert!(failures[0].contains("op_end has no budget"), "{failures:?}");
        // A kernel without a row has the default, even if its name looks like a row.
        let other = budget.judge(&run(|run, _| run.kernel.is_row = false));
        assert!(other.iter().all(|failure| failure.contains("op_begin has no budget")), "{other:?}");
    }

    #[test]
    fn a_recorded_budget_has_ten_percent_of_room() {
        for (size, expected) in [(0, 0), (1, 2), (10, 11), (1000, 1100), (1234, 1358)] {
            assert_eq!(with_room(size), expected);
        }
        let mut budget = Budget::default();
        budget.record(&[&run(|_, _| ())]);
        assert_eq!(budget.judge(&run(|_, _| ())), Vec::<String>::new());
        let text = budget.to_toml();
        let tables = text.strip_prefix(HEAD).unwrap();
        let families = "ask = { translated = 88 }\nop_begin = { verified = 1358, translated = 624 }\n";
        assert_eq!(tables, format!("\n[default]\n{families}\n[\"6.12\"]\n{families}"));
        assert_eq!(Budget::parse(&text).unwrap(), budget);
    }

    #[test]
    fn recording_a_row_keeps_the_others_and_drops_removed_programs() {
        let mut budget = Budget::parse(&format!(
            "{ROOMY}gone = {{ translated = 7 }}\n[\"5.10\"]\nask = {{ translated = 99 }}\n"
        ))
        .unwrap();
        let mut other = run(|run, programs| {
            run.kernel.is_row = false;
            programs[0].translated = 2000;
        });
        other.kernel.name = "7.1".into();
        budget.record(&[&run(|_, _| ()), &other]);
        assert_eq!(budget.limit("5.10", "ask", |limit| limit.translated), Some(99));
        assert_eq!(budget.limit("6.12", "op_begin", |limit| limit.translated), Some(624));
        assert_eq!(budget.limit("6.12", "gone", |limit| limit.translated), None);
        assert_eq!(budget.limit(DEFAULT, "op_begin", |limit| limit.translated), Some(2200));
        assert_eq!(budget.limit(DEFAULT, "ask", |limit| limit.translated), Some(99));
        assert!(!budget.0.contains_key("7.1"), "a kernel of no row has no table");
        let order: Vec<String> =
            budget.to_toml().lines().filter(|line| line.starts_with('[')).map(str::to_owned).collect();
        assert_eq!(order, ["[default]", "[\"5.10\"]", "[\"6.12\"]"]);
    }

    #[test]
    fn the_budget_of_the_project_is_as_formatted() {
        let text = include_str!("../../budget.toml");
        assert_eq!(Budget::parse(text).unwrap().to_toml(), text);
    }

    #[test]
    fn a_bad_budget_is_refused() {
        assert!(Budget::parse("[default]\nask = { instructions = 1 }\n").is_err());
        assert!(Budget::parse(HEAD).is_ok(), "one in which nothing is recorded yet");
    }
}
