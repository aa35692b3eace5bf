//! Comparison of two runs, for programs.

use std::io::{self, Write};

use observer_engine::setup::Grade;
use serde::Serialize;

use super::{Loss, order};
use crate::{
    diff::{Diff, FindingChange, RunFinding},
    meta::{Filter, Kernel, Level},
    report::Report,
    sink::{finding as worded, words},
};

/// Name and version of the schema.
pub const SCHEMA: &str = "observer-diff/2";

#[derive(Serialize)]
struct Wire<'a> {
    schema: &'static str,
    a: Run<'a>,
    b: Run<'a>,
    /// Worst rank of findings that are new or became worse.
    worst: Option<&'static str>,
    bears: Vec<String>,
    coverage: Vec<Coverage<'a>>,
    findings: Vec<Finding<'a>>,
    same_findings: usize,
    edges: Vec<Edge>,
    same_edges: usize,
}

#[derive(Serialize)]
struct Run<'a> {
    file: &'a str,
    kernel: &'a Kernel,
    boot_id: &'a str,
    level: Level,
    filter: &'a Filter,
    start_ns: u64,
    end_ns: u64,
    events: u64,
    findings: usize,
    edges: usize,
    loss: Vec<Loss>,
    partial: bool,
    notices: Vec<&'a str>,
}

#[derive(Serialize)]
struct Coverage<'a> {
    role: &'static str,
    part: &'a str,
    a: Option<&'static str>,
    b: Option<&'static str>,
}

#[derive(Serialize)]
struct Finding<'a> {
    /// One of `came`, `rank` or `went`.
    change: &'static str,
    id: &'a str,
    kind: &'static str,
    a: Option<Side>,
    b: Option<Side>,
    summary: String,
}

#[derive(Serialize)]
struct Side {
    rank: &'static str,
    count: u64,
}

#[derive(Serialize)]
struct Edge {
    change: &'static str,
    edge: order::Wire,
}

/// Writes the comparison, with a newline at its end.
///
/// # Errors
/// The output cannot be written.
pub fn write(out: &mut dyn Write, d: &Diff<'_>, [a, b]: [&str; 2]) -> io::Result<()> {
    let wire = Wire {
        schema: SCHEMA,
        a: run(a, d.a),
        b: run(b, d.b),
        worst: d.worst_that_came().map(observer_engine::finding::Rank::name),
        bears: words::diff::bears(d),
        coverage: coverage(d),
        findings: d.findings.iter().filter_map(finding).collect(),
        same_findings: d.same_findings,
        edges: edges(d),
        same_edges: d.same_edges,
    };
    serde_json::to_writer_pretty(&mut *out, &wire)?;
    writeln!(out)
}

fn run<'a>(file: &'a str, r: &'a Report) -> Run<'a> {
    Run {
        file,
        kernel: &r.meta.kernel,
        boot_id: &r.meta.boot_id,
        level: r.meta.level,
        filter: &r.meta.filter,
        start_ns: r.meta.start_ns,
        end_ns: r.end_ns,
        events: r.stats.events,
        findings: r.findings.len(),
        edges: r.edges.len(),
        loss: super::loss(r),
        partial: r.is_partial(),
        notices: r.notices.iter().map(|notice| notice.text.as_str()).collect(),
    }
}

fn coverage<'a>(d: &'a Diff<'_>) -> Vec<Coverage<'a>> {
    let grade = |g: Option<Grade>| g.map(Grade::name);
    let rows = d.coverage.iter();
    rows.map(|c| Coverage { role: c.role.name(), part: &c.part, a: grade(c.a), b: grade(c.b) }).collect()
}

fn finding<'a>(c: &FindingChange<'a>) -> Option<Finding<'a>> {
    let shown = c.shown()?;
    let side = |t: RunFinding<'_>| Side { rank: t.finding.rank.name(), count: t.count };
    Some(Finding {
        change: c.change.name(),
        id: c.id,
        kind: shown.kind().name(),
        a: c.a.map(side),
        b: c.b.map(side),
        summary: worded::summary(shown),
    })
}

fn edges(d: &Diff<'_>) -> Vec<Edge> {
    let of = |change| if change == crate::diff::Change::Gone { d.a } else { d.b };
    let edges = d.edges.iter();
    edges.map(|c| Edge { change: c.change.name(), edge: order::wire(c.edge, &of(c.change).stacks) }).collect()
}
