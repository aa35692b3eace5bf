//! The ledger: shares and unshares of page tables by file, with the tasks that unshare and the time that it takes.
//!
//! This module decides what is counted per mapping. A table's mapping is known from the i_mmap_rwsem that was held when
//! the table was looked up for sharing, or unshared. The time of an unshare is that of its whole operation, because the
//! cost (interrupts to other CPUs) is paid once, after the last entry.

use crate::{
    event::{Mapping, SiteId},
    finding::comm_text,
    fx::FxMap,
    view::{MappingView, TableView, UnsharerView},
};

/// Maximum number of mappings; the one that was inactive for the longest time makes room.
const MAPPINGS_MAX: usize = 1024;
/// Maximum number of unsharers per mapping; the others share the last row.
const UNSHARERS_MAX: usize = 32;
const SECOND_NS: u64 = 1_000_000_000;

/// Maximum count within one second of event time.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    second: u64,
    n: u64,
    peak: u64,
}

impl Peak {
    fn count(&mut self, now_ns: u64) {
        let second = now_ns / SECOND_NS;
        if second != self.second {
            (self.second, self.n) = (second, 0);
        }
        self.n += 1;
        self.peak = self.peak.max(self.n);
    }
}

/// Tasks with the same name at one unlink site.
#[derive(Clone, Copy, Debug)]
struct Unsharer {
    comm: [u8; 16],
    site: SiteId,
    unshares: u64,
    operations: u64,
    total_ns: u64,
    max_ns: u64,
}

#[derive(Clone, Debug, Default)]
struct Row {
    shares: u64,
    unshares: u64,
    first_ns: u64,
    last_ns: u64,
    peak_shares: Peak,
    peak_unshares: Peak,
    by: Vec<Unsharer>,
}

impl Row {
    fn unsharer(&mut self, comm: [u8; 16], site: SiteId) -> &mut Unsharer {
        let at = self.by.iter().position(|b| (b.comm, b.site) == (comm, site)).unwrap_or_else(|| {
            if self.by.len() < UNSHARERS_MAX {
                self.by.push(Unsharer { comm, site, unshares: 0, operations: 0, total_ns: 0, max_ns: 0 });
                return self.by.len() - 1;
            }
            let last = UNSHARERS_MAX - 1;
            self.by[last].comm = *b"(others)\0\0\0\0\0\0\0\0";
            last
        });
        &mut self.by[at]
    }
}

/// Rows by mapping; 0: mapping not known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    rows: FxMap<Mapping, Row>,
}

impl Ledger {
    fn row(&mut self, mapping: Mapping, now_ns: u64) -> &mut Row {
        if self.rows.len() == MAPPINGS_MAX && !self.rows.contains_key(&mapping) {
            let quiet = self.rows.iter().map(|(mapping, row)| (row.last_ns, *mapping)).min();
            if let Some((_, quiet)) = quiet {
                self.rows.remove(&quiet);
            }
        }
        let row = self.rows.entry(mapping).or_default();
        if row.first_ns == 0 {
            row.first_ns = now_ns;
        }
        row.last_ns = now_ns;
        row
    }

    pub fn shared(&mut self, mapping: Mapping, now_ns: u64) {
        let row = self.row(mapping, now_ns);
        row.shares += 1;
        row.peak_shares.count(now_ns);
    }

    pub fn unshared(&mut self, mapping: Mapping, now_ns: u64, comm: [u8; 16], site: SiteId) {
        let row = self.row(mapping, now_ns);
        row.unshares += 1;
        row.peak_unshares.count(now_ns);
        row.unsharer(comm, site).unshares += 1;
    }

    /// Adds the duration of an operation that unshared.
    pub fn took(&mut self, mapping: Mapping, now_ns: u64, comm: [u8; 16], site: SiteId, ns: u64) {
        let by = self.row(mapping, now_ns).unsharer(comm, site);
        by.operations += 1;
        by.total_ns += ns;
        by.max_ns = by.max_ns.max(ns);
    }

    /// Returns one view per mapping, most unshares first.
    pub fn views(
        &self,
        tables: &[TableView],
        name: impl Fn(SiteId) -> std::sync::Arc<str>,
    ) -> Vec<MappingView> {
        let mut views: Vec<MappingView> = self
            .rows
            .iter()
            .map(|(mapping, row)| {
                let own = || tables.iter().filter(|t| t.alive && t.mapping == *mapping);
                let mut by: Vec<UnsharerView> = row
                    .by
                    .iter()
                    .map(|b| UnsharerView {
                        comm: comm_text(&b.comm),
                        site: name(b.site),
                        unshares: b.unshares,
                        operations: b.operations,
                        total_ns: b.total_ns,
                        max_ns: b.max_ns,
                    })
                    .collect();
                by.sort_by(|a, b| (b.unshares, &a.comm, &a.site).cmp(&(a.unshares, &b.comm, &b.site)));
                MappingView {
                    mapping: *mapping,
                    tables: own().count(),
                    sharers: own().map(TableView::sharers).max().unwrap_or(0),
                    shares: row.shares,
                    unshares: row.unshares,
                    first_ns: row.first_ns,
                    last_ns: row.last_ns,
                    peak_shares_per_s: row.peak_shares.peak,
                    peak_unshares_per_s: row.peak_unshares.peak,
                    by,
                }
            })
            .collect();
        views.sort_by_key(|v| (std::cmp::Reverse(v.unshares), v.mapping));
        views
    }
}
