//! `/out/matrix.json`, the report of the guest test `matrix_of_this_kernel`. It is parsed strictly: an unknown or a missing
//! field is an error, so that both sides change together. `judge` decides what is a failure.

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Deserializer, Serialize};

const SCHEMA: &str = "observer-matrix/1";

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Report {
    schema: String,
    /// The running kernel, as in `uname -r`.
    pub kernel: String,
    /// The row of xtask/kernels.toml, or the user's name for the kernel.
    pub row: String,
    pub coverage: Vec<Coverage>,
    pub programs: Vec<Program>,
    pub scenarios: Vec<Scenario>,
    pub facts: Facts,
    /// Errors that the test found, one per entry.
    pub failures: Vec<String>,
}

/// Coverage of a role, or of a part of it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    pub role: String,
    /// Name of the part; empty for the whole role.
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

/// A loaded program and its cost for the verifier.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Program {
    pub program: String,
    pub family: String,
    pub target: String,
    /// Program type and attachment.
    pub attempt: String,
    /// Instructions that the verifier processed; kernels before 5.16 do not report them.
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

/// One count, made by observer and by a witness that shares no code with it.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    pub name: String,
    /// Count of the witness; `None` if it cannot count this on this kernel.
    #[serde(deserialize_with = "present")]
    pub witness: Option<u64>,
    pub observer: u64,
    /// Hits at which the kernel reports that it skipped a program: the number by which observer's count may be too low.
    pub skipped: u64,
}

impl Measure {
    pub fn differs(&self) -> bool {
        let allowed = self.observer..=self.observer + self.skipped;
        self.witness.is_some_and(|witness| !allowed.contains(&witness))
    }
}

/// A number that is not compared with anything.
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

/// Deserializes a field that may be null but must be present.
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

    /// Returns true if every part has data: existing records are not replaced by empty ones.
    pub fn is_whole(&self) -> bool {
        !self.coverage.is_empty() && !self.programs.is_empty() && !self.scenarios.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::fixture::{JSON, report};

    #[test]
    fn the_fixture_parses() {
        let report = report();
        assert_eq!((report.row.as_str(), report.coverage.len()), ("6.12", 4));
        assert_eq!(report.coverage[1].grade, Grade::Blind);
        assert_eq!(report.programs[1].verified, None);
        assert_eq!(report.scenarios[2].outcome, Outcome::Skipped);
        assert_eq!(report.scenarios[1].measures[1].witness, None);
    }

    #[test]
    fn a_report_against_the_schema_is_refused() {
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
        // A guest that died while it wrote leaves a cut file.
        assert!(Report::parse(&JSON[..JSON.len() / 2]).is_err());
    }
}
