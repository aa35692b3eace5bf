//! Lock order: each pair of locks of which one was requested while the other was held.

use observer_engine::{
    event::Mode,
    finding::{AcquireKind, Finding, Rank},
    lock_class::LockClass,
    view::EdgeView,
};

use super::{Anchor, Badge, Detail, Empty, FilteredBy, View};
use crate::sink::words;
use crate::snapshot::Snapshot;
use crate::tui::cells::{Cell, left, right};
use crate::tui::names::rank_tone;
use crate::tui::target::{EdgeKey, Page};
use crate::tui::text::Tone;

pub const VIEW: View = View {
    name: "Locks",
    help: "lock order",
    columns: &[
        left("HELD", 16),
        left("REQUESTED", 16),
        left("HOW", 9),
        right("COUNT", 8),
        right("TASKS", 5),
        left("CYCLE", 10),
        left("ORDER", 0),
    ],
    count: |s| s.edges.len(),
    rows: |s| (0..s.edges.len()).collect(),
    left_out: |s| s.edges_total.saturating_sub(s.edges.len()),
    cells: |s, row| s.edges.get(row).map_or(Vec::new(), |e| cells(s, e)),
    detail,
    in_full: Some(|s, row| s.edges.get(row).map_or(String::new(), |e| sentence(s, e))),
    page: |s, row| s.edges.get(row).map(|e| Page::Edge(EdgeKey::of(e))),
    opens: |s, row, page| matches!(page, Page::Edge(key) if s.edges.get(row).is_some_and(|e| key.is(e))),
    badge: Badge::Rows,
    filter: FilteredBy::List,
    anchor: Anchor::First,
    empty: Empty::Within("no lock was requested while another was held,"),
    rates: false,
    findings: false,
};

fn detail(s: &Snapshot, row: usize) -> Option<Detail<'_>> {
    s.edges.get(row).map(Detail::Edge)
}

/// Short form of a lock and its mode: `i_mmap_rwsem(w)`.
fn short_lock(class: LockClass, mode: Option<Mode>) -> String {
    let name = words::lock(class, mode);
    name.replace("(read)", "(r)").replace("(write)", "(w)")
}

fn cells(s: &Snapshot, e: &EdgeView) -> Vec<Cell> {
    // A request that cannot block is not a step of a deadlock, even if other edges of its classes close a cycle.
    let closes = if e.acquire.can_block() { closes(s, (e.from, e.to)) } else { None };
    let order = words::order::verdict(e);
    vec![
        Cell::plain(short_lock(e.from, e.from_mode)),
        Cell::plain(short_lock(e.to, e.to_mode)),
        Cell::new(if e.acquire == AcquireKind::Try { Tone::Faint } else { Tone::Plain }, ask(e.acquire)),
        Cell::count(e.count),
        Cell::count(e.tasks.into()),
        closes.map_or(Cell::plain("").by(u64::MAX), |r| Cell::new(rank_tone(r), r.name()).by(r as u64)),
        match order {
            "" => Cell::new(Tone::Faint, "not stated"),
            "AGAINST" => Cell::new(Tone::Caution, order),
            _ => Cell::plain(order),
        },
    ]
}

/// An edge in one sentence.
fn sentence(s: &Snapshot, e: &EdgeView) -> String {
    let (from, to) = (words::lock(e.from, e.from_mode), words::lock(e.to, e.to_mode));
    let how = match e.acquire {
        AcquireKind::Blocking => "requested",
        AcquireKind::TryThenBlock => "tried, and else waited for,",
        AcquireKind::Try => "tried, which cannot wait,",
    };
    let order = match words::order::verdict(e) {
        "AGAINST" => "; against the documented order",
        "perhaps" => "; against the documented order, if the first was held by then",
        "exception" => "; a known exception from the documented order",
        "agrees" => "; as documented",
        _ => "; no order of the two is documented",
    };
    let closes = closes(s, (e.from, e.to)).filter(|_| e.acquire.can_block());
    let closes = closes.map_or(String::new(), |r| format!("; part of a cycle that is {}", r.name()));
    format!("{to} {how} while {from} is held{order}{closes}")
}

/// Short word for how a lock was requested. `try/block`: trylock, which would have blocked after a failure.
fn ask(acquire: AcquireKind) -> &'static str {
    match acquire {
        AcquireKind::Blocking => "blocking",
        AcquireKind::TryThenBlock => "try/block",
        AcquireKind::Try => "try",
    }
}

/// Rank of the worst cycle that contains a step between two classes.
fn closes(s: &Snapshot, (from, to): (LockClass, LockClass)) -> Option<Rank> {
    let has = |f: &&Finding| f.evidence.subject().cycle().iter().any(|s| (s.from, s.to) == (from, to));
    s.findings.iter().filter(has).map(|f| f.rank).min()
}
