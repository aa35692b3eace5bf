//! Findings in the report for programs: what every kind has. `sink::finding` has the wire types of evidence.

use observer_engine::finding::Finding;
use serde::Serialize;

use crate::{
    report::stacks::Stacks,
    sink::{finding, words},
};

/// One finding of the report.
#[derive(Serialize)]
pub struct Wire {
    id: String,
    rank: &'static str,
    kind: &'static str,
    alarm: bool,
    count: u64,
    first_ns: u64,
    last_ns: u64,
    /// One line for people.
    summary: String,
    /// Doubts that could make the finding false, for people.
    doubts: Vec<String>,
    evidence: finding::Wire,
}

/// Converts a finding. `all`: the stacks of its run, or of each run that its steps may be from.
#[must_use]
pub fn wire(f: &Finding, all: &[&Stacks]) -> Wire {
    Wire {
        id: f.id.clone(),
        rank: f.rank.name(),
        kind: f.kind().name(),
        alarm: f.rank.is_alarm(),
        count: f.count,
        first_ns: f.first_ns,
        last_ns: f.last_ns,
        summary: finding::summary(f),
        doubts: f.doubts.iter().map(words::doubt).collect(),
        evidence: finding::wire(&f.evidence, all),
    }
}
