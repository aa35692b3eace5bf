//! Events as they arrive. The run filters them: a snapshot has the newest ones that pass.

use super::{Anchor, Badge, Empty, FilteredBy, View, no_detail, none_left_out};
use crate::events::{self, EventRow};
use crate::snapshot::Snapshot;
use crate::tui::cells::{Cell, Column, left, narrow, right};
use crate::tui::target::Page;

/// Columns of events, in every list of events.
pub const COLUMNS: &[Column] = &[
    right("TIME", 13),
    right("CPU", 3),
    narrow(left("TASK", 20), 15),
    narrow(left("WHAT", 30), 21),
    left("OBJECT", 0),
];

pub const VIEW: View = View {
    name: "Events",
    help: "events as they come",
    columns: COLUMNS,
    count: |s| s.tail.len(),
    rows: |s| (0..s.tail.len()).collect(),
    left_out: none_left_out,
    cells: |s, row| s.tail.get(row).map_or(Vec::new(), |e| cells(s, e)),
    detail: no_detail,
    in_full: Some(|s, row| {
        s.tail.get(row).map_or(String::new(), |e| events::words(e, &s.setup, s.meta.start_ns).line())
    }),
    page: |s, row| s.tail.get(row).map(|e| Page::Event(Box::new(e.clone()))),
    opens: |s, row, page| matches!(page, Page::Event(event) if s.tail.get(row).is_some_and(|e| e.number == event.number)),
    badge: Badge::None,
    filter: FilteredBy::Run,
    anchor: Anchor::Last,
    empty: Empty::Within("no event has come,"),
    rates: false,
    findings: false,
};

/// Cells of an event, in every list of events.
#[must_use]
pub fn cells(s: &Snapshot, e: &EventRow) -> Vec<Cell> {
    let w = events::words(e, &s.setup, s.meta.start_ns);
    vec![
        Cell::plain(w.time).by(e.event.time_ns),
        Cell::plain(w.cpu).by(e.event.cpu.into()),
        Cell::plain(w.task),
        Cell::plain(w.action),
        Cell::plain(w.object),
    ]
}
