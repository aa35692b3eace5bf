//! The section on several recordings of one kernel build: findings that only their combination shows.

use std::io::{self, Write};

use observer_engine::{
    merge::{Merged, MergedEdge},
    setup::Grade,
};

use crate::{
    report::{
        Report,
        several::{Named, Several},
    },
    sink::{
        finding::{self, Run},
        words,
    },
    text::{number, plural, span},
};

/// Writes the section.
///
/// # Errors
/// The output cannot be written.
pub fn write(out: &mut dyn Write, s: &Several) -> io::Result<()> {
    let n = s.parts.len();
    writeln!(out, "== merged: {n} recordings of one kernel build")?;
    for (at, part) in s.parts.iter().enumerate() {
        recording(out, at, part)?;
    }
    writeln!(out)?;
    let found = plural(s.merged.findings.len() as u64, "cycle");
    if s.merged.findings.is_empty() {
        writeln!(out, "MERGED  no lock-order cycle that a single recording has not shown")?;
    } else {
        writeln!(out, "MERGED  {found} that no single recording has shown, worst first")?;
    }
    let names: Vec<String> = (1..=n).map(|at| format!("recording {at}")).collect();
    let runs: Vec<Run<'_>> = s.parts.iter().zip(&names).map(|(p, name)| run(p, name)).collect();
    for (i, f) in s.merged.findings.iter().enumerate() {
        writeln!(out)?;
        writeln!(out, "{:>3}. {} {}: {}", i + 1, f.rank.name(), f.kind().name(), finding::summary(f))?;
        writeln!(out, "     {:<9} {}", "id", f.id)?;
        for line in finding::detail_of_several(f, &runs) {
            writeln!(out, "     {}", line.trim_end())?;
        }
    }
    edges(out, &s.merged, n)
}

fn run<'a>(p: &'a Named, name: &'a str) -> Run<'a> {
    Run { stacks: &p.report.stacks, start_ns: p.report.meta.start_ns, name: Some(name) }
}

fn recording(out: &mut dyn Write, at: usize, part: &Named) -> io::Result<()> {
    let r = &part.report;
    let (span, events) = (span(r.duration_ns()), plural(r.stats.events, "event"));
    let edges = plural(r.edges.len() as u64, "edge");
    let name = &part.name;
    writeln!(out, "  {:>2}  {name}: {span}, {events}, {edges}; lost {}{}", at + 1, super::lost(r), blind(r))
}

fn blind(r: &Report) -> String {
    let roles = r.coverage.iter().filter(|c| c.part.is_empty() && c.grade == Grade::Blind);
    let roles: Vec<&str> = roles.map(|c| c.role.name()).collect();
    if roles.is_empty() { String::new() } else { format!("; blind: {}", roles.join(", ")) }
}

fn edges(out: &mut dyn Write, m: &Merged, n: usize) -> io::Result<()> {
    writeln!(out)?;
    let in_all = m.edges.iter().filter(|e| e.recordings.len() == n).count() as u64;
    let all = plural(m.edges.len() as u64, "edge");
    writeln!(out, "LOCK ORDER  of all together: {all}, {} of them in each recording", number(in_all))?;
    let (held, asked) = ("held", "requested");
    writeln!(out, "    {held:<20} {asked:<20} {:>9}  {:<16} recordings", "times", "")?;
    for e in &m.edges {
        writeln!(out, "    {}", edge(e, n))?;
    }
    Ok(())
}

fn edge(e: &MergedEdge, n: usize) -> String {
    let (from, to) = (words::lock(e.from, e.from_mode), words::lock(e.to, e.to_mode));
    let numbers: Vec<String> = e.recordings.iter().map(|r| (r + 1).to_string()).collect();
    let which = if numbers.len() == n { "all".to_owned() } else { numbers.join(" ") };
    let (times, acquire) = (number(e.count), words::order::acquire(e.acquire));
    format!("{from:<20} {to:<20} {times:>9}  {acquire:<16} {which}")
}
