//! Comparison of two runs, for people.

use std::io::{self, Write};

use crate::{
    diff::{Change, Diff, EdgeChange, FindingChange, RunFinding},
    report::Report,
    sink::{finding, words},
    text::{plural, span, times},
};

/// Writes the comparison.
///
/// # Errors
/// The output cannot be written.
pub fn write(out: &mut dyn Write, d: &Diff<'_>, [a, b]: [&str; 2]) -> io::Result<()> {
    for (name, report) in [("A", d.a), ("B", d.b)] {
        for notice in report.partial() {
            writeln!(out, "PARTIAL   {name}: {notice}")?;
        }
    }
    run(out, "A", a, d.a)?;
    run(out, "B", b, d.b)?;
    let bears = words::diff::bears(d);
    if d.a.meta.kernel != d.b.meta.kernel {
        writeln!(out, "kernels   are different ones")?;
    }
    for (i, line) in bears.iter().enumerate() {
        writeln!(out, "{:<9} {line}", if i == 0 { "bears" } else { "" })?;
    }
    if !bears.is_empty() {
        writeln!(out, "          what differs in seeing may be all that differs below")?;
    }
    writeln!(out)?;
    let of = |change| d.findings.iter().filter(move |c| c.change == change).count();
    let (came, rank, went) = (of(Change::New), of(Change::Rank), of(Change::Gone));
    let same = d.same_findings;
    writeln!(out, "FINDINGS  {came} came, {went} went, {rank} changed in rank, {same} as before")?;
    for change in &d.findings {
        finding(out, change)?;
    }
    writeln!(out)?;
    let of = |change| d.edges.iter().filter(move |c| c.change == change).count();
    let (came, went) = (of(Change::New), of(Change::Gone));
    let came = plural(came as u64, "edge");
    writeln!(out, "LOCK ORDER  {came} came, {went} went, {} as before", d.same_edges)?;
    for change in &d.edges {
        edge(out, change)?;
    }
    Ok(())
}

fn run(out: &mut dyn Write, name: &str, file: &str, r: &Report) -> io::Result<()> {
    let k = &r.meta.kernel;
    let build = k.build_id.as_ref().map_or(String::new(), |id| format!(", build-id {id}"));
    writeln!(out, "{name:<9} {file}")?;
    writeln!(out, "          {} ({}){build}", k.release, k.machine)?;
    writeln!(
        out,
        "          {}, {}, {}, {}",
        span(r.duration_ns()),
        plural(r.stats.events, "event"),
        plural(r.findings.len() as u64, "finding"),
        plural(r.edges.len() as u64, "lock-order edge"),
    )
}

fn sign(change: Change) -> char {
    match change {
        Change::New => '+',
        Change::Rank => '~',
        Change::Gone => '-',
    }
}

fn finding(out: &mut dyn Write, c: &FindingChange<'_>) -> io::Result<()> {
    let Some(shown) = c.shown() else { return Ok(()) };
    let (sign, rank, kind) = (sign(c.change), shown.rank.name(), shown.kind().name());
    let was = match (c.a, c.b) {
        (Some(was), Some(_)) => format!(" (was {})", was.finding.rank.name()),
        _ => String::new(),
    };
    writeln!(out, "  {sign} {rank}{was} {kind}: {}", finding::summary(shown))?;
    let times = |found: Option<RunFinding<'_>>| found.map_or("none".to_owned(), |t| times(t.count));
    let times = match (c.a, c.b) {
        (Some(_), Some(_)) => format!("{} in A, {} in B", times(c.a), times(c.b)),
        (a, b) => times(b.or(a)),
    };
    writeln!(out, "    {}, {times}", c.id)
}

fn edge(out: &mut dyn Write, c: &EdgeChange<'_>) -> io::Result<()> {
    let (sign, e) = (sign(c.change), c.edge);
    let (from, to) = (words::lock(e.from, e.from_mode), words::lock(e.to, e.to_mode));
    let acquire = match words::order::acquire(e.acquire) {
        "" => String::new(),
        acquire => format!(" ({acquire})"),
    };
    let (times, site) = (times(e.count), &e.witness.party.site);
    writeln!(out, "  {sign} {from:<20} {to:<20} {times}, first in {site}{acquire}")?;
    // Edges that agree with the documents, or are not documented, need no explanation.
    let news = ["AGAINST", "perhaps", "exception"].contains(&words::order::verdict(e));
    for line in words::order::documented(e).iter().filter(|_| news) {
        writeln!(out, "      {line}")?;
    }
    Ok(())
}
