//! Rows about the excluders of lookups and unlinks: lookup sites, unlink sites, and pairs of both.
//!
//! Decides their order (unprotected ones first) and their words.

use observer_engine::view::{LookupProtection, PairProtection, UnlinkProtection};

use crate::sink::words::protection;
use crate::snapshot::Snapshot;

/// One row of the view.
pub enum Row<'a> {
    Lookup(&'a LookupProtection),
    Unlink(&'a UnlinkProtection),
    Pair(&'a PairProtection),
}

/// Row at this place: lookups, unlinks, pairs; unprotected lookups and pairs come first within their group.
#[must_use]
pub fn row(s: &Snapshot, i: usize) -> Option<Row<'_>> {
    let p = &s.protection;
    let (lookups, unlinks) = (p.lookups.len(), p.unlinks.len());
    if i < lookups {
        return open_first(&p.lookups, i, |l| l.bare > 0).map(Row::Lookup);
    }
    if i < lookups + unlinks {
        return p.unlinks.get(i - lookups).map(Row::Unlink);
    }
    open_first(&p.pairs, i - lookups - unlinks, |pair| pair.open).map(Row::Pair)
}

fn open_first<T>(rows: &[T], i: usize, open: impl Fn(&T) -> bool) -> Option<&T> {
    let of = |wanted: bool| rows.iter().filter(|r| open(r) == wanted).collect::<Vec<_>>();
    of(true).into_iter().chain(of(false)).nth(i)
}

impl Row<'_> {
    #[must_use]
    pub fn what(&self) -> &'static str {
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
