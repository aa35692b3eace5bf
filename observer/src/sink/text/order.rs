//! The section on lock order: every edge, with the verdict of the kernel's documents.
//!
//! Decides the order of the groups: edges against a documented order first, edges that cannot block last.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use observer_engine::{
    finding::AcquireKind,
    view::{EdgeView, Verdict},
};

use crate::{report::Report, sink::words, text::number};

/// Columns of a line.
const WIDTH: usize = 100;

/// Writes the section.
pub fn write(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    writeln!(out)?;
    if r.edges.is_empty() {
        let none = "no lock was requested while another was held, within this coverage";
        return writeln!(out, "LOCK ORDER  {none}");
    }
    writeln!(out, "LOCK ORDER  lock requested while another was held, grouped by the documented order")?;
    head(out, "first seen in")?;
    for ((_, documented), edges) in groups(&r.edges) {
        for line in documented {
            writeln!(out, "  {line}")?;
        }
        for e in edges {
            edge(out, e)?;
        }
    }
    legend(out, &r.edges)
}

/// Groups edges by the verdict of the documents.
fn groups(edges: &[EdgeView]) -> BTreeMap<(u8, Vec<String>), Vec<&EdgeView>> {
    let mut groups: BTreeMap<_, Vec<&EdgeView>> = BTreeMap::new();
    for e in edges {
        groups.entry((place(e), words::order::documented(e))).or_default().push(e);
    }
    groups
}

fn place(e: &EdgeView) -> u8 {
    let worst = e.documented.iter().map(|d| d.verdict).max();
    match worst {
        _ if !e.acquire.can_block() => 5,
        None => 4,
        Some(Verdict::Agrees) => 3,
        Some(Verdict::Exception) => 2,
        Some(Verdict::Against) => u8::from(!e.sure),
    }
}

/// Column heads of a table of edges.
pub fn head(out: &mut dyn Write, last: &str) -> io::Result<()> {
    let (held, asked) = ("held", "requested");
    writeln!(out, "    {held:<20} {asked:<20} {:>9} {:>5} {:>5}  {last}", "times", "tasks", "pairs")
}

fn edge(out: &mut dyn Write, e: &EdgeView) -> io::Result<()> {
    let more = if e.tasks >= EdgeView::TASKS_MAX { "+" } else { "" };
    let (from, to) = (words::lock(e.from, e.from_mode), words::lock(e.to, e.to_mode));
    let (times, tasks) = (number(e.count), format!("{}{more}", e.tasks));
    let line = format!("    {from:<20} {to:<20} {times:>9} {tasks:>5} {:>5}  ", e.instances);
    let notes = notes(e);
    let site = &e.witness.party.site;
    if notes.is_empty() {
        writeln!(out, "{line}{site}")
    } else if line.len() + site.len() + notes.len() + 3 <= WIDTH {
        writeln!(out, "{line}{site} ({notes})")
    } else {
        writeln!(out, "{line}{site}")?;
        writeln!(out, "{:width$}({notes})", "", width = line.len())
    }
}

fn notes(e: &EdgeView) -> String {
    // Requests that only try have a group of their own, so they need no note.
    let acquire = if e.acquire == AcquireKind::Try { "" } else { words::order::acquire(e.acquire) };
    let notes = [(!acquire.is_empty(), acquire), (!e.sure, "perhaps"), (e.lossy, "incomplete")];
    notes.into_iter().filter(|(applies, _)| *applies).map(|(_, note)| note).collect::<Vec<_>>().join(", ")
}

/// Explains the words in the table that occur.
fn legend(out: &mut dyn Write, edges: &[EdgeView]) -> io::Result<()> {
    let counted = "pairs: distinct pairs of locks; tasks: distinct tasks, counted up to 8";
    let tried =
        "try, then blocks: a trylock at a place that blocks when the trylock fails; it counts as a request";
    let perhaps =
        "perhaps: the time of the first acquisition is not known exactly; it may be after the request";
    let lost = "incomplete: records were lost around every occurrence";
    let any = |of: fn(&EdgeView) -> bool| edges.iter().any(of);
    let lines = [
        (true, counted),
        (any(|e| e.acquire == AcquireKind::TryThenBlock), tried),
        (any(|e| !e.sure), perhaps),
        (any(|e| e.lossy), lost),
    ];
    for (_, line) in lines.iter().filter(|(applies, _)| *applies) {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}
