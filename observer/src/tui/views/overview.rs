//! The overview: every finding, worst first, below the rates of events.

use observer_engine::finding::Finding;

use super::{Anchor, Badge, Detail, Empty, FilteredBy, View};
use crate::sink::words;
use crate::snapshot::Snapshot;
use crate::tui::cells::{Cell, left, right, wide};
use crate::tui::names::{rank_tone, since_start};
use crate::tui::target::Page;
use crate::tui::words::short_span;

pub const VIEW: View = View {
    name: "Overview",
    help: "overview: rates, loss, and every finding, worst first",
    columns: &[
        left("RANK", 13),
        left("KIND", 10),
        right("COUNT", 7),
        wide(right("FIRST", 14), 120),
        wide(right("CERTAIN", 8), 120),
        wide(right("POSSIBLE", 8), 120),
        left("WHAT", 0),
    ],
    count: |s| s.findings.len(),
    rows: |s| (0..s.findings.len()).collect(),
    left_out,
    cells: |s, row| {
        let Some(c) = s.findings.get(row).map(|f| Cells::of(s, f)) else { return Vec::new() };
        vec![c.rank, c.kind, c.count, c.first, c.certain, c.possible, c.summary]
    },
    detail,
    in_full: None,
    page,
    opens,
    badge: Badge::Rows,
    filter: FilteredBy::List,
    anchor: Anchor::First,
    empty: Empty::Within("no finding"),
    rates: true,
    findings: true,
};

/// Cells of a finding.
pub struct Cells {
    pub rank: Cell,
    pub kind: Cell,
    pub count: Cell,
    pub first: Cell,
    pub certain: Cell,
    pub possible: Cell,
    pub summary: Cell,
}

impl Cells {
    pub fn of(s: &Snapshot, f: &Finding) -> Cells {
        let longest = f.evidence.subject().cases();
        let (certain_ns, possible_ns) = longest.first().map_or((0, 0), |c| (c.certain_ns, c.possible_ns));
        let part = |ns| Cell::plain(if ns > 0 { short_span(ns) } else { "-".into() }).by(ns);
        Cells {
            rank: Cell::new(rank_tone(f.rank), f.rank.name()).by(f.rank as u64),
            kind: Cell::plain(f.kind().name()),
            count: Cell::count(f.count),
            first: Cell::plain(since_start(s, f.first_ns)).by(f.first_ns),
            certain: part(certain_ns),
            possible: part(possible_ns),
            summary: Cell::plain(words::summary(f)),
        }
    }
}

pub fn left_out(s: &Snapshot) -> usize {
    s.findings_total.saturating_sub(s.findings.len())
}

pub fn detail(s: &Snapshot, row: usize) -> Option<Detail<'_>> {
    s.findings.get(row).map(Detail::Finding)
}

pub fn page(s: &Snapshot, row: usize) -> Option<Page> {
    s.findings.get(row).map(|f| Page::Finding(f.id.clone()))
}

pub fn opens(s: &Snapshot, row: usize, page: &Page) -> bool {
    matches!(page, Page::Finding(id) if s.findings.get(row).is_some_and(|f| f.id == *id))
}
