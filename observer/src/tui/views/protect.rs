//! Locks that exclude unlinks from lookups: lookup sites, unlink sites, and pairs of both.
//!
//! Decides their order (unprotected ones first) and their words.

use observer_engine::view::{LookupProtection, PairProtection, UnlinkProtection};

use super::{Anchor, Badge, Empty, FilteredBy, View, no_detail, none_left_out};
use crate::sink::words::protection;
use crate::snapshot::Snapshot;
use crate::tui::cells::{Cell, left, right};
use crate::tui::target::Page;
use crate::tui::text::Tone;

pub const VIEW: View = View {
    name: "Protect",
    help: "locks that exclude unlinks from lookups",
    columns: &[left("WHAT", 8), left("SITE", 34), right("COUNT", 8), left("LOCKS", 0)],
    count,
    rows,
    left_out: none_left_out,
    cells: |s, row| at(s, row).map_or(Vec::new(), |r| cells(s, &r)),
    detail: no_detail,
    in_full: None,
    page: |s, row| at(s, row).map(|r| Page::Site(r.kind(), r.site())),
    opens: |s, row, page| {
        let is =
            |r: Row<'_>| matches!(page, Page::Site(kind, site) if r.kind() == *kind && r.site() == *site);
        at(s, row).is_some_and(is)
    },
    badge: Badge::None,
    filter: FilteredBy::List,
    anchor: Anchor::First,
    empty: Empty::Within("no lookup and no unlink that could be judged,"),
    rates: false,
    findings: false,
};

/// One row of the view.
#[derive(Clone, Copy)]
pub enum Row<'a> {
    Lookup(&'a LookupProtection),
    Unlink(&'a UnlinkProtection),
    Pair(&'a PairProtection),
}

fn count(s: &Snapshot) -> usize {
    s.protection.lookups.len() + s.protection.unlinks.len() + s.protection.pairs.len()
}

/// Lookups, unlinks, pairs; unprotected lookups and pairs come first within their group.
fn rows(s: &Snapshot) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..count(s)).collect();
    rows.sort_by_key(|row| match at(s, *row) {
        Some(r @ Row::Lookup(_)) => (0, !r.is_open()),
        Some(Row::Unlink(_)) => (1, false),
        Some(r @ Row::Pair(_)) => (2, !r.is_open()),
        None => (3, false),
    });
    rows
}

fn at(s: &Snapshot, row: usize) -> Option<Row<'_>> {
    let p = &s.protection;
    let (lookups, unlinks) = (p.lookups.len(), p.unlinks.len());
    match row {
        _ if row < lookups => p.lookups.get(row).map(Row::Lookup),
        _ if row < lookups + unlinks => p.unlinks.get(row - lookups).map(Row::Unlink),
        _ => p.pairs.get(row - lookups - unlinks).map(Row::Pair),
    }
}

/// Row about a site, or about a pair of sites.
#[must_use]
pub fn of_site<'a>(s: &'a Snapshot, kind: &str, site: &str) -> Option<Row<'a>> {
    rows(s).into_iter().filter_map(|row| at(s, row)).find(|r| r.kind() == kind && r.site() == site)
}

fn cells(s: &Snapshot, r: &Row<'_>) -> Vec<Cell> {
    let tone = if r.is_open() { Tone::Caution } else { Tone::Plain };
    let count = r.count().map_or(Cell::plain(""), Cell::count);
    vec![Cell::plain(r.kind()), Cell::plain(r.site()), count, Cell::new(tone, r.ways(s).join("; "))]
}

impl Row<'_> {
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Row::Lookup(_) => "lookup",
            Row::Unlink(_) => "unlink",
            Row::Pair(_) => "pair",
        }
    }

    #[must_use]
    pub fn site(&self) -> String {
        match self {
            Row::Lookup(l) => l.site.to_string(),
            Row::Unlink(u) => u.site.to_string(),
            Row::Pair(p) => format!("{} / {}", p.lookup, p.unlink),
        }
    }

    /// Number of leases or unlinks; a pair has no such count.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        match self {
            Row::Lookup(l) => Some(l.leases),
            Row::Unlink(u) => Some(u.unlinks),
            Row::Pair(_) => None,
        }
    }

    /// True if nothing excluded the pair at least once, or a lease of the lookup was unprotected.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            Row::Lookup(l) => l.bare > 0,
            Row::Unlink(_) => false,
            Row::Pair(p) => p.open,
        }
    }

    /// Sets of locks, most frequent first.
    #[must_use]
    pub fn ways(&self, s: &Snapshot) -> Vec<String> {
        match self {
            Row::Lookup(l) => protection::lookup_ways(l, &protection::excluding(&s.meta.setup)),
            Row::Unlink(u) => protection::unlink_ways(u, &s.coverage),
            Row::Pair(p) => vec![protection::kept_apart(p)],
        }
    }

    /// Meaning of the row, in words.
    #[must_use]
    pub fn means(&self) -> &'static str {
        match self {
            Row::Lookup(_) => "locks held from the lookup to the last use of its pointer",
            Row::Unlink(_) => "locks that it held that exclude others",
            Row::Pair(_) => "what excluded the unlink from the lookup, on links that both reached",
        }
    }
}
