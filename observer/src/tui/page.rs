//! Pages: everything there is to read about one thing, and links to related pages.
//!
//! Decides the content and links of a page. A finding links to its lease, table, events and stacks; a table to its links and
//! pointers; an event to the objects that it names. `state` knows which page is open and the position on it.

mod event;
mod finding;
mod order;
mod table;

use observer_engine::{
    event::{Pte, Table, Tid},
    finding::Finding,
    view::TableView,
};

use super::answers::{Answers, Look};
use super::kept::{Kept, Reported};
use super::names::since_start;
use super::text::{Text, Tone};
use super::widget::Glyphs;
use crate::report::stacks::Stacks;
use crate::snapshot::{FindingMark, Position, Snapshot};
use crate::text::times;

pub use super::target::{Case, EdgeKey, Go, Page};

/// A line of a page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    pub text: Text,
    pub link: Option<Go>,
}

impl From<Text> for Line {
    fn from(text: Text) -> Line {
        Line { text, link: None }
    }
}

/// Data that pages are made of.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub snapshot: &'a Snapshot,
    /// Findings that are not reported at this time, but were when their page was opened.
    pub kept: &'a Kept,
    /// Table for stack numbers.
    pub stacks: &'a Stacks,
    /// Event time of the page that led here.
    pub came_for_ns: Option<u64>,
    pub answers: &'a Answers,
    pub glyphs: &'static Glyphs,
    /// True if positions of a recording can be sought.
    pub replay: bool,
    pub width: u16,
}

impl<'a> Context<'a> {
    /// Returns a finding as it is reported now, else as it is reported later.
    fn finding(&self, id: &str) -> Option<&'a Finding> {
        self.reported_now(id).or_else(|| self.kept.get(id).map(|kept| &kept.finding))
    }

    /// Returns the finding as it is reported now. `None` if the kept, later case has begun already and another case is the
    /// longest up to now.
    fn reported_now(&self, id: &str) -> Option<&'a Finding> {
        let now = self.snapshot.findings.iter().find(|f| f.id == id)?;
        let kept = self.kept.get(id).filter(|kept| kept.at_ns > self.snapshot.now_ns);
        let is_under_way = |kept: &Reported| {
            finding::is_of_another_case(now, &kept.finding)
                && finding::when(&kept.finding, Case::Longest) <= self.snapshot.now_ns
        };
        (!kept.is_some_and(is_under_way)).then_some(now)
    }

    /// True if this is the end of the recording.
    fn is_end(&self, time_ns: u64) -> bool {
        matches!(&self.snapshot.position, Position::Replay(r) if time_ns >= r.end_ns)
    }

    /// Mark of a finding in the recording.
    fn mark(&self, id: &str) -> Option<&'a FindingMark> {
        let Position::Replay(r) = &self.snapshot.position else { return None };
        r.marks.iter().find(|m| m.id == id)
    }
}

/// Keys that open a related page without choosing a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortcut {
    Table,
    Events,
    Stacks,
}

impl Page {
    /// Lines of the page, wrapped to a width.
    #[must_use]
    pub fn lines(&self, c: &Context<'_>) -> Vec<Line> {
        match self {
            Page::Finding(id) => with_finding(c, id, finding::lines),
            Page::Lease(id, case) => with_finding(c, id, |c, f| finding::lease(c, f, *case)),
            Page::Stacks(id) => with_finding(c, id, finding::stacks),
            Page::Pointer(tid, pte) => table::pointer(c, *tid, *pte),
            Page::Table(table, generation) => table::lines(c, *table, *generation),
            Page::Mapping(mapping) => table::mapping(c, *mapping),
            Page::Edge(key) => order::edge(c, key),
            Page::Classes(from, to) => order::classes(c, (*from, *to)),
            Page::Site(what, site) => order::site(c, what, site),
            Page::Role(role, part) => event::role(c, *role, part),
            Page::Events(look) => event::list(c, look),
            Page::Event(row) => event::lines(c, row),
        }
    }

    /// Page that a shortcut opens from here; the error says why there is none.
    ///
    /// # Errors
    /// The page has no such thing.
    pub fn shortcut(&self, c: &Context<'_>, to: Shortcut) -> Result<Page, String> {
        let s = c.snapshot;
        let found = match self {
            Page::Finding(id) | Page::Lease(id, _) | Page::Stacks(id) => {
                c.finding(id).and_then(|f| finding::shortcut(s, f, self.case(), to))
            }
            Page::Pointer(tid, pte) => table::of_pointer(s, *tid, *pte, to),
            Page::Table(table, _) if to == Shortcut::Events => Some(table::events(s, *table)),
            Page::Event(row) => event::shortcut(s, row, to),
            Page::Edge(key) => s.edges.iter().find(|e| key.is(e)).and_then(|e| order::shortcut(s, e, to)),
            _ => None,
        };
        let what = match to {
            Shortcut::Table => "no page table is known of this",
            Shortcut::Events => "no events belong to this",
            Shortcut::Stacks => "no stack was recorded of this",
        };
        found.ok_or_else(|| what.to_owned())
    }

    /// Line to begin with, if it is not the first.
    #[must_use]
    pub fn first_line(&self, c: &Context<'_>) -> Option<usize> {
        let Page::Events(look) = self else { return None };
        event::first_line(c, look)
    }

    /// Moment that the page is about, if any.
    #[must_use]
    pub fn moment(&self, c: &Context<'_>) -> Option<u64> {
        match self {
            Page::Finding(id) | Page::Lease(id, _) | Page::Stacks(id) => {
                c.finding(id).map(|f| finding::when(f, self.case()))
            }
            Page::Event(row) => Some(row.event.time_ns),
            _ => None,
        }
    }

    /// Events that must be looked up for the page.
    #[must_use]
    pub fn needs(&self, c: &Context<'_>) -> Option<Look> {
        match self {
            Page::Events(look) => Some(look.clone()),
            Page::Finding(id) => c.finding(id).and_then(|f| finding::needs(c.snapshot, f)),
            _ => None,
        }
    }
}

/// Lines of a finding's page: its state now, else its latest kept state.
fn with_finding(
    c: &Context<'_>,
    id: &str,
    lines: impl FnOnce(&Context<'_>, &Finding) -> Vec<Line>,
) -> Vec<Line> {
    if let Some(f) = c.reported_now(id) {
        return lines(c, f);
    }
    let mut all = wrapped(c, [Text::new(Tone::Caution, not_reported_note(c, id))]);
    match c.kept.get(id) {
        Some(kept) => {
            all.push(Line::default());
            all.extend(lines(&Context { stacks: &kept.stacks, ..*c }, &kept.finding));
        }
        None => all.push(Text::new(Tone::Faint, id).into()),
    }
    all
}

/// Says why a finding is not reported at this time.
fn not_reported_note(c: &Context<'_>, id: &str) -> String {
    let at = |ns| since_start(c.snapshot, ns);
    if let Some(now) = c.snapshot.findings.iter().find(|f| f.id == id) {
        let (known, shown) = (times(now.count), c.kept.get(id).map_or(0, |kept| kept.at_ns));
        return format!(
            "this case is reported later than this time of the recording, where the finding was seen {known}; shown as of {}",
            at(shown)
        );
    }
    let shown = c.kept.get(id).map_or(String::new(), |kept| format!("; shown as of {}", at(kept.at_ns)));
    match c.mark(id) {
        Some(m) if m.reported_ns >= c.snapshot.now_ns => {
            format!(
                "not reported yet at this time of the recording: first reported at {}{shown}",
                at(m.reported_ns)
            )
        }
        Some(_) => format!("superseded by this time: later evidence changed its rank{shown}"),
        None => format!("not reported at this time of the run{shown}"),
    }
}

/// A line with a link.
fn link(name: &str, text: impl Into<String>, key: &str, to: Go) -> Line {
    let key = if key.is_empty() { String::new() } else { format!("  [{key}]") };
    Line { text: named(name, text).and(Tone::Faint, key), link: Some(to) }
}

/// Text with the name of its subject in front.
fn named(name: &str, text: impl Into<String>) -> Text {
    Text::new(Tone::Label, format!("{name:<9} ")).and(Tone::Plain, text)
}

fn plain(text: impl Into<String>) -> Line {
    Text::new(Tone::Plain, text).into()
}

/// Text wrapped to the page; indented text stays indented.
fn wrapped(c: &Context<'_>, lines: impl IntoIterator<Item = Text>) -> Vec<Line> {
    // Two cells at the left are for the mark of a link.
    let width = usize::from(c.width.saturating_sub(2));
    let wrap = |line: Text| {
        let indent = indent(&line);
        line.wrap(width, indent).into_iter().map(Line::from)
    };
    lines.into_iter().flat_map(wrap).collect()
}

/// Indent of wrapped lines: two cells more than the line they belong to.
fn indent(line: &Text) -> usize {
    let first = line.0.first().map_or("", |(_, t)| t.as_str());
    first.len() - first.trim_start_matches(' ').len() + 2
}

/// Evidence lines, worded as in the report.
fn evidence(lines: Vec<String>) -> impl Iterator<Item = Text> {
    lines.into_iter().map(|l| Text::new(Tone::Plain, l))
}

/// Name of a task, if anything in the snapshot has it.
fn comm_of(s: &Snapshot, tid: Tid) -> Option<&str> {
    let sides = s.findings.iter().flat_map(|f| finding::sides(&f.evidence)).map(|side| &side.task);
    let holders = s.leases.iter().map(|l| &l.task);
    let askers = s.edges.iter().map(|e| &e.witness.party.task);
    let mut names = sides.chain(holders).chain(askers).filter(|t| t.tid == tid).map(|t| &*t.comm);
    let of_events = s.tail.iter().rev().filter(|row| row.event.tid == tid).map(|row| &*row.comm);
    names.find(|comm| !comm.is_empty()).or_else(|| of_events.into_iter().find(|comm| !comm.is_empty()))
}

/// Latest known table that a pte lies in.
fn table_of(s: &Snapshot, pte: Pte) -> Option<(Table, u32)> {
    let at = |t: &&TableView| t.table == pte.table();
    s.tables.iter().filter(at).max_by_key(|t| t.generation).map(|t| (t.table, t.generation))
}
