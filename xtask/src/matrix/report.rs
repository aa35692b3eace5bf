//! `/out/matrix.json`, what the guest test `matrix_of_this_kernel` has to say. Read strictly: a field that is not known, or
//! one that is missing, is an error, so that both sides change together. What is a failure, `judge` says.

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Deserializer, Serialize};

const SCHEMA: &str = "observer-matrix/1";

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Report {
    schema: String,
    /// The running kernel, as `uname -r` says it.
    pub kernel: String,
    /// The row of xtask/kernels.toml, or what was named instead.
    pub row: String,
    pub coverage: Vec<Coverage>,
    pub programs: Vec<Program>,
    pub scenarios: Vec<Scenario>,
    pub facts: Facts,
    /// What the test found wrong, one each.
    pub failures: Vec<String>,
}

/// How well a role, or a part of it, is covered.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    pub role: String,
    /// Empty: all of the role.
    pub part: String,
    pub grade: Grade,
    pub reason: String,
    pub advice: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    Exact,
    Bounded,
    Inferred,
    Blind,
}

impl Grade {
    pub fn name(self) -> &'static str {
        match self {
            Grade::Exact => "exact",
            Grade::Bounded => "bounded",
            Grade::Inferred => "inferred",
            Grade::Blind => "blind",
        }
    }
}

/// A loaded program and what it costs the verifier.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Program {
    pub program: String,
    pub family: String,
    pub target: String,
    /// How it is attached.
    pub attempt: String,
    /// Instructions that the verifier walked; kernels before 5.16 do not tell.
    #[serde(deserialize_with = "present")]
    pub verified: Option<u64>,
    /// Instructions of the translated program.
    pub translated: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    pub outcome: Outcome,
    pub text: String,
    pub measures: Vec<Measure>,
    pub extra: Vec<Extra>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Done,
    Skipped,
    Failed,
}

/// One count, by observer and by a witness that shares no code with it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    pub name: String,
    /// `None`: the witness cannot count that on this kernel.
    #[serde(deserialize_with = "present")]
    pub witness: Option<u64>,
    pub observer: u64,
    /// Hits that the kernel told that it did not run a program at: what observer may have counted too few.
    pub skipped: u64,
}

impl Measure {
    pub fn differs(&self) -> bool {
        let allowed = self.observer..=self.observer + self.skipped;
        self.witness.is_some_and(|witness| !allowed.contains(&witness))
    }
}

/// A number that nothing is held against.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Extra {
    pub name: String,
    pub value: i64,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    pub checked: u64,
    pub problems: Vec<String>,
}

/// May be null, and has to be there.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    Option::deserialize(from)
}

impl Report {
    pub fn parse(text: &str) -> Result<Report> {
        let report: Report = serde_json::from_str(text).context("it is not what the schema says")?;
        if report.schema != SCHEMA {
            bail!("its schema is {:?}, and {SCHEMA:?} is read here", report.schema);
        }
        Ok(report)
    }

    /// Whether every part tells something; what is recorded is not replaced by nothing.
    pub fn is_whole(&self) -> bool {
        !self.coverage.is_empty() && !self.programs.is_empty() && !self.scenarios.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::fixture::{JSON, report};

    #[test]
    fn the_fixture_reads() {
        let report = report();
        assert_eq!((report.row.as_str(), report.coverage.len()), ("6.12", 4));
        assert_eq!(report.coverage[1].grade, Grade::Blind);
        assert_eq!(report.programs[1].verified, None);
        assert_eq!(report.scenarios[2].outcome, Outcome::Skipped);
        assert_eq!(report.scenarios[1].measures[1].witness, None);
    }

    #[test]
    fn what_is_not_the_schema_is_refused() {
        for (from, to) in [
            ("observer-matrix/1", "observer-matrix/2"),
            ("\"row\": \"6.12\",", ""),
            ("\"row\": \"6.12\",", "\"row\": \"6.12\", \"weather\": \"fine\","),
            ("\"grade\": \"blind\"", "\"grade\": \"dim\""),
            ("\"outcome\": \"skipped\"", "\"outcome\": \"absent\""),
            ("\"witness\": null, ", ""),
            ("\"verified\": null, ", ""),
            ("\"problems\": []", "\"problems\": [], \"more\": 1"),
        ] {
            assert!(JSON.contains(from), "{from} is in the fixture");
            let changed = JSON.replacen(from, to, 1);
            assert!(Report::parse(&changed).is_err(), "{from} as {to:?}");
        }
        // What arrived of a guest that died while it wrote.
        assert!(Report::parse(&JSON[..JSON.len() / 2]).is_err());
    }
}
