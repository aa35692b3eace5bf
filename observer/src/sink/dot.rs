//! The lock-order graph in the language of Graphviz.
//!
//! Decides how an edge looks: dashed if it was only tried, red if it is against a documented order, bold if it is a step of a
//! cycle. Edges that cannot block or that are against an order do not affect the layout, so the drawing follows the
//! documented order downwards where there is one.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use observer_engine::{
    finding::Step,
    lock_class::LockClass,
    view::{EdgeView, Verdict},
};

use super::words;
use crate::{
    report::Report,
    text::{plural, times},
};

/// Writes the graph.
///
/// # Errors
/// The output cannot be written.
pub fn write(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    let k = &r.meta.kernel;
    writeln!(out, "digraph lock_order {{")?;
    let partial: String = r.partial().map(|notice| format!("PARTIAL: {notice}\n")).collect();
    let title = format!(
        "{partial}lock order on {}: held -> requested\ndashed: only tried; red: against the documented order; bold: in a cycle",
        k.release
    );
    writeln!(out, "  graph [rankdir=TB, labelloc=t, fontname=\"sans-serif\", label={}];", quoted(&title))?;
    writeln!(out, "  node [shape=box, fontname=\"monospace\"];")?;
    writeln!(out, "  edge [fontname=\"monospace\", fontsize=10];")?;
    let nodes: BTreeSet<LockClass> = r.edges.iter().flat_map(|e| [e.from, e.to]).collect();
    for node in nodes {
        writeln!(out, "  {};", quoted(node.name()))?;
    }
    for e in &r.edges {
        writeln!(out, "  {}", edge(e, r))?;
    }
    writeln!(out, "}}")
}

fn edge(e: &EdgeView, r: &Report) -> String {
    let waits = e.acquire.can_block();
    let against = waits && e.sure && e.documented.iter().any(|d| d.verdict == Verdict::Against);
    let cycles = cycles(e, r);
    let mode = |mode: Option<_>| mode.map_or("?", observer_engine::event::Mode::name);
    let mut label = format!("{} > {}", mode(e.from_mode), mode(e.to_mode));
    let acquire = words::order::acquire(e.acquire);
    if !acquire.is_empty() {
        label.push_str(&format!("\n{acquire}"));
    }
    let pairs = plural(e.instances as u64, "pair");
    label.push_str(&format!("\n{}, {pairs}", times(e.count)));
    let mut attributes = vec![format!("label={}", quoted(&label))];
    if !waits {
        attributes.push("style=dashed".into());
    }
    if against {
        attributes.push("color=red, fontcolor=red".into());
    }
    if !cycles.is_empty() {
        attributes.push("penwidth=3".into());
    }
    if against || !waits {
        attributes.push("constraint=false".into());
    }
    let mut tooltip = vec![format!("first in {}", e.witness.party.site)];
    tooltip.extend(words::order::documented(e));
    tooltip.extend(cycles);
    attributes.push(format!("tooltip={}", quoted(&tooltip.join("\n"))));
    format!("{} -> {} [{}];", quoted(e.from.name()), quoted(e.to.name()), attributes.join(", "))
}

/// Cycles that an edge is a step of.
fn cycles(e: &EdgeView, r: &Report) -> Vec<String> {
    let is = |s: &Step| {
        (s.from, s.from_mode, s.to, s.to_mode, s.acquire) == (e.from, e.from_mode, e.to, e.to_mode, e.acquire)
    };
    let found = r.findings.iter().filter(|f| f.evidence.subject().cycle().iter().any(is));
    found.map(|f| format!("{} {}", f.rank.name(), f.id)).collect()
}

/// Quotes a string for Graphviz. Backslashes and quotes in it do not end it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
