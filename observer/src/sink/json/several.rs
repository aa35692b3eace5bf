//! Several recordings of one kernel build, for programs: their reports, and the findings that only their combination shows.

use std::io::{self, Write};

use observer_engine::merge::MergedEdge;
use serde::Serialize;

use super::{finding, parts::mode};
use crate::{
    meta::Kernel,
    report::{several::Several, stacks::Stacks},
};

/// Name and version of the schema of the whole; each report has its own.
pub const SCHEMA: &str = "observer-reports/2";

#[derive(Serialize)]
struct Wire<'a> {
    schema: &'static str,
    kernel: &'a Kernel,
    /// File names in the order of the command line.
    files: Vec<&'a str>,
    reports: Vec<super::Wire<'a>>,
    merged: Merged,
}

#[derive(Serialize)]
struct Merged {
    worst: Option<&'static str>,
    findings: Vec<finding::Wire>,
    edges: Vec<Edge>,
}

#[derive(Serialize)]
struct Edge {
    from: &'static str,
    from_mode: Option<&'static str>,
    to: &'static str,
    to_mode: Option<&'static str>,
    acquire: &'static str,
    count: u64,
    recordings: Vec<usize>,
}

/// Writes the reports, with a newline at the end.
///
/// # Errors
/// The output cannot be written.
pub fn write(out: &mut dyn Write, s: &Several) -> io::Result<()> {
    let Some(first) = s.parts.first() else { return Ok(()) };
    let stacks: Vec<&Stacks> = s.parts.iter().map(|p| &p.report.stacks).collect();
    let wire = Wire {
        schema: SCHEMA,
        kernel: &first.report.meta.kernel,
        files: s.parts.iter().map(|p| p.name.as_str()).collect(),
        reports: s.parts.iter().map(|p| super::wire(&p.report)).collect(),
        merged: Merged {
            worst: s.worst().map(observer_engine::finding::Rank::name),
            findings: s.merged.findings.iter().map(|f| finding::wire(f, &stacks)).collect(),
            edges: s.merged.edges.iter().map(edge).collect(),
        },
    };
    serde_json::to_writer_pretty(&mut *out, &wire)?;
    writeln!(out)
}

fn edge(e: &MergedEdge) -> Edge {
    Edge {
        from: e.from.name(),
        from_mode: mode(e.from_mode),
        to: e.to.name(),
        to_mode: mode(e.to_mode),
        acquire: e.acquire.name(),
        count: e.count,
        recordings: e.recordings.clone(),
    }
}
