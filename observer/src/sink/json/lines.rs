//! Findings and edges as JSON lines: one object per line, with a field that names its kind.

use std::io::{self, Write};

use serde::Serialize;

use super::{finding, order};
use crate::report::Report;

/// One line of the output.
#[derive(Serialize)]
#[serde(tag = "line", rename_all = "lowercase")]
enum Wire<'a> {
    /// The reason why only a part of the recording was read.
    Partial {
        notice: &'a str,
    },
    Finding(&'a finding::Wire),
    Edge(&'a order::Wire),
}

/// Writes why the report is partial, if it is; then the findings, worst first; then the edges.
///
/// # Errors
/// The output cannot be written.
pub fn write(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    for notice in report.partial() {
        line(out, &Wire::Partial { notice: &notice.text })?;
    }
    for f in &report.findings {
        line(out, &Wire::Finding(&finding::wire(f, &[&report.stacks])))?;
    }
    for e in &report.edges {
        line(out, &Wire::Edge(&order::wire(e, &report.stacks)))?;
    }
    Ok(())
}

fn line(out: &mut dyn Write, wire: &Wire<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, wire)?;
    writeln!(out)
}
