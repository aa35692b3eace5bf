//! Lifetimes: files, their page tables, and the pointers in use, which are listed below the tables that they may point into.

use observer_engine::view::{LeaseView, MappingView, TableView};

use super::{Anchor, Badge, Detail, Empty, FilteredBy, View};
use crate::sink::words;
use crate::snapshot::Snapshot;
use crate::text::plural;
use crate::tui::cells::{Cell, left, right, wide};
use crate::tui::names::{mapping_name, since_start, state, task};
use crate::tui::target::Page;
use crate::tui::text::Tone;

pub const VIEW: View = View {
    name: "Tables",
    help: "lifetimes: files, page tables, pointers in use",
    columns: &[
        left("WHAT", 7),
        left("ADDRESS", 18),
        left("STATE", 8),
        right("SHARERS", 7),
        right("LOOKUPS", 9),
        right("SHARES", 8),
        right("UNSHARES", 8),
        wide(right("SINCE", 14), 120),
        wide(left("LINKS mm@address, BY WHOM", 0), 100),
    ],
    count,
    rows: |s| (0..count(s)).collect(),
    left_out: |s| s.tables_total.saturating_sub(s.tables.len()),
    cells: |s, row| match at(s, row) {
        Some(Row::Mapping(m)) => mapping_cells(s, m),
        Some(Row::Table(t)) => table_cells(s, t),
        Some(Row::Lease(l)) => lease_cells(s, l),
        None => Vec::new(),
    },
    detail,
    in_full: None,
    page: |s, row| {
        Some(match at(s, row)? {
            Row::Mapping(m) => Page::Mapping(m.mapping),
            Row::Table(t) => Page::Table(t.table, t.generation),
            Row::Lease(l) => Page::Pointer(l.task.tid, l.pte),
        })
    },
    opens: |s, row, page| match (at(s, row), page) {
        (Some(Row::Mapping(m)), Page::Mapping(mapping)) => m.mapping == *mapping,
        (Some(Row::Table(t)), Page::Table(table, generation)) => {
            (t.table, t.generation) == (*table, *generation)
        }
        (Some(Row::Lease(l)), Page::Pointer(tid, pte)) => (l.task.tid, l.pte) == (*tid, *pte),
        _ => false,
    },
    badge: Badge::Rows,
    filter: FilteredBy::List,
    anchor: Anchor::First,
    empty: Empty::Within("no page table of a shared hugetlbfs mapping was touched,"),
    rates: false,
    findings: false,
};

enum Row<'a> {
    Mapping(&'a MappingView),
    Table(&'a TableView),
    Lease(&'a LeaseView),
}

fn count(s: &Snapshot) -> usize {
    s.mappings.len() + s.tables.len() + s.leases.len()
}

/// Files are listed first, then tables, then pointers.
fn at(s: &Snapshot, row: usize) -> Option<Row<'_>> {
    let (files, tables) = (s.mappings.len(), s.tables.len());
    match row {
        _ if row < files => s.mappings.get(row).map(Row::Mapping),
        _ if row < files + tables => s.tables.get(row - files).map(Row::Table),
        _ => s.leases.get(row - files - tables).map(Row::Lease),
    }
}

fn detail(s: &Snapshot, row: usize) -> Option<Detail<'_>> {
    match at(s, row) {
        Some(Row::Table(t)) => Some(Detail::Table(t)),
        _ => None,
    }
}

/// Row of a file: the sums over its tables.
fn mapping_cells(s: &Snapshot, m: &MappingView) -> Vec<Cell> {
    let by = m.by.first().map(words::unsharer).unwrap_or_default();
    let cells = [
        Cell::plain("file"),
        Cell::plain(mapping_name(m.mapping)),
        Cell::plain(plural(m.tables as u64, "table")).by(m.tables as u64),
        Cell::count(m.sharers as u64),
        Cell::plain(""),
        Cell::count(m.shares),
        Cell::count(m.unshares),
        Cell::plain(since_start(s, m.first_ns)).by(m.first_ns),
        Cell::plain(by),
    ];
    cells.map(|c| c.toned(Tone::Label)).to_vec()
}

fn table_cells(s: &Snapshot, t: &TableView) -> Vec<Cell> {
    let links: Vec<String> = t.links.iter().map(|l| format!("{}@{}", l.mm, l.gib)).collect();
    let tone = if t.alive { Tone::Plain } else { Tone::Faint };
    let life = if t.generation > 1 { format!("{} #{}", state(t), t.generation) } else { state(t).into() };
    let cells = [
        Cell::plain("table"),
        Cell::plain(t.table.to_string()).by(t.table.0),
        Cell::plain(life),
        Cell::count(t.sharers() as u64),
        Cell::count(t.lookups),
        Cell::count(t.shares),
        Cell::count(t.unshares),
        Cell::plain(since_start(s, t.birth_ns)).by(t.birth_ns),
        Cell::plain(links.join(" ")),
    ];
    cells.map(|c| c.toned(tone)).to_vec()
}

fn lease_cells(s: &Snapshot, l: &LeaseView) -> Vec<Cell> {
    let state = match (l.stale, l.dormant) {
        (true, _) => Cell::new(Tone::Alarm, "STALE"),
        (false, true) => Cell::new(Tone::Faint, "dormant"),
        (false, false) => Cell::plain("in use"),
    };
    vec![
        Cell::plain("pointer"),
        Cell::plain(l.pte.to_string()).by(l.pte.0),
        state,
        Cell::plain(""),
        Cell::plain(""),
        Cell::plain(""),
        Cell::plain(""),
        Cell::plain(since_start(s, l.since_ns)).by(l.since_ns),
        Cell::plain(format!("{}@{} by {} in {}", l.mm, l.addr, task(&l.task.comm, l.task.tid), l.site)),
    ]
}
