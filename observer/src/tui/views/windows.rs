//! Stale pointers, observed and predicted: the findings about page tables.

use observer_engine::finding::Finding;

use super::overview::{self, Cells};
use super::{Anchor, Badge, Empty, FilteredBy, View};
use crate::snapshot::Snapshot;
use crate::tui::cells::{left, right, wide};

pub const VIEW: View = View {
    name: "Windows",
    help: "windows: stale pointers, seen and predicted",
    columns: &[
        left("RANK", 12),
        left("KIND", 10),
        right("COUNT", 5),
        right("CERTAIN", 8),
        right("POSSIBLE", 8),
        wide(right("FIRST", 14), 120),
        left("WHAT", 0),
    ],
    count: |s| findings(s).count(),
    rows: |s| findings(s).map(|(place, _)| place).collect(),
    left_out: overview::left_out,
    cells: |s, row| {
        let Some(c) = s.findings.get(row).map(|f| Cells::of(s, f)) else { return Vec::new() };
        vec![c.rank, c.kind, c.count, c.certain, c.possible, c.first, c.summary]
    },
    detail: overview::detail,
    in_full: None,
    page: overview::page,
    opens: overview::opens,
    badge: Badge::Rows,
    filter: FilteredBy::List,
    anchor: Anchor::First,
    empty: Empty::Within("no window seen or predicted"),
    rates: false,
    findings: true,
};

/// Windows, predictions, and other findings about tables, with their places in the snapshot.
fn findings(s: &Snapshot) -> impl Iterator<Item = (usize, &Finding)> {
    let is_of_tables = |f: &Finding| f.kind().about().is_of_tables;
    s.findings.iter().enumerate().filter(move |(_, f)| is_of_tables(f))
}
