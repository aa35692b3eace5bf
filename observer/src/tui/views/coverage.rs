//! Coverage: what can be observed of each role, why not more, and how many events came of it.

use observer_engine::setup::{Coverage, Grade};

use super::{Anchor, Badge, Empty, FilteredBy, View, no_detail, none_left_out};
use crate::snapshot::Snapshot;
use crate::tui::blind::Blind;
use crate::tui::cells::{Cell, left, narrow, right};
use crate::tui::target::Page;
use crate::tui::text::Tone;

pub const VIEW: View = View {
    name: "Coverage",
    help: "coverage: what can be seen, and what fired",
    columns: &[
        left("ROLE", 13),
        narrow(left("PART", 20), 17),
        left("GRADE", 8),
        narrow(right("EVENTS", 9), 7),
        left("WHY", 0),
    ],
    count: |s| s.coverage.len(),
    rows,
    left_out: none_left_out,
    cells: |s, row| s.coverage.get(row).map_or(Vec::new(), |c| cells(s, c)),
    detail: no_detail,
    in_full: None,
    page: |s, row| s.coverage.get(row).map(|c| Page::Role(c.role, c.part.clone())),
    opens: |s, row, page| {
        let is = |c: &Coverage| matches!(page, Page::Role(role, part) if c.role == *role && c.part == *part);
        s.coverage.get(row).is_some_and(is)
    },
    badge: Badge::Words(|s| Blind::of(s).counts()),
    filter: FilteredBy::List,
    anchor: Anchor::First,
    empty: Empty::Always("the run has no coverage: nothing here can be relied on"),
    rates: false,
    findings: false,
};

/// Blind rows first, then those that are not exact.
fn rows(s: &Snapshot) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..s.coverage.len()).collect();
    rows.sort_by_key(|row| match s.coverage[*row].grade {
        Grade::Blind => 0,
        Grade::Exact => 2,
        _ => 1,
    });
    rows
}

fn cells(s: &Snapshot, c: &Coverage) -> Vec<Cell> {
    // Parts of a role share its sites, unless a part is a function.
    let of_it = |function: &str| c.part.is_empty() || c.part == function;
    let sites: Vec<u64> = (s.setup.sites.iter())
        .filter(|site| site.role == c.role && of_it(&site.function))
        .map(|site| fired(s, site.id.0))
        .collect();
    let events = match c.grade {
        Grade::Blind => Cell::plain("-").by(0),
        _ if sites.is_empty() && !c.part.is_empty() => Cell::plain("").by(0),
        _ => Cell::count(sites.iter().sum()),
    };
    vec![
        Cell::plain(c.role.name()).by(c.role as u64),
        Cell::plain(if c.part.is_empty() { "all" } else { &c.part }),
        Cell::new(grade_tone(c.grade), c.grade.name()),
        events,
        Cell::plain(cause_first(&c.reason)),
    ]
}

/// Moves the cause to the front, because the cell may be cut: `no symbol x: came with 6.10`.
fn cause_first(reason: &str) -> String {
    match reason.split_once(": ") {
        Some((what, why)) if what.starts_with("no symbol") && !why.contains("no symbol") => {
            format!("{why} ({what})")
        }
        _ => reason.to_owned(),
    }
}

/// Events of a site up to now.
#[must_use]
pub fn fired(s: &Snapshot, site: u16) -> u64 {
    s.fired.iter().find(|(id, _)| *id == site).map_or(0, |(_, n)| *n)
}

fn grade_tone(grade: Grade) -> Tone {
    match grade {
        Grade::Exact => Tone::Good,
        Grade::Blind => Tone::Alarm,
        _ => Tone::Caution,
    }
}
