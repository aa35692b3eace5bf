//! Counts of events, and the statistics that a view shows.
//!
//! This module decides what is counted that the state of the rules does not show.

use std::collections::BTreeMap;

use observer_ebpf::kinds;

use super::Engine;
use crate::{
    event::{Class, Event, LockStep},
    view::{ClassCount, OtherSize, Stats},
};

/// Upper bound of kind numbers, exclusive.
const KINDS: usize = 64;
/// Number of page sizes that are counted apart, more than any architecture has.
const SIZES: usize = 16;

/// Counts that cannot be derived from the state.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub events: u64,
    first_ns: u64,
    pub lookups: u64,
    pub shares: u64,
    pub unlinks_exact: u64,
    pub unlinks_diff: u64,
    pub unlinks_both: u64,
    pub unmatched_ends: u64,
    pub unmatched_begins: u64,
    pub unknown_releases: u64,
    pub missed_folio_releases: u64,
    pub dropped_holds: u64,
    /// Acquisition attempts and releases by class on the wire.
    by_class: [[u64; 2]; Class::ALL.len()],
    by_kind: [u64; KINDS],
    /// Lookups and walks of pages whose tables are never shared, by page size in KiB.
    other_sizes: BTreeMap<u32, OtherSize>,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts {
            events: 0,
            first_ns: 0,
            lookups: 0,
            shares: 0,
            unlinks_exact: 0,
            unlinks_diff: 0,
            unlinks_both: 0,
            unmatched_ends: 0,
            unmatched_begins: 0,
            unknown_releases: 0,
            missed_folio_releases: 0,
            dropped_holds: 0,
            by_class: [[0; 2]; Class::ALL.len()],
            by_kind: [0; KINDS],
            other_sizes: BTreeMap::new(),
        }
    }
}

impl Counts {
    #[inline]
    pub fn add(&mut self, event: &Event) {
        if self.events == 0 {
            self.first_ns = event.time_ns;
        }
        self.events += 1;
        self.by_kind[usize::from(event.body.kind()) % KINDS] += 1;
    }

    #[inline]
    pub fn add_lock(&mut self, step: LockStep, class: Class) {
        let [takes, releases] = &mut self.by_class[class as usize - 1];
        match step {
            LockStep::Request | LockStep::Try | LockStep::Busy => *takes += 1,
            LockStep::Release => *releases += 1,
            _ => {}
        }
    }

    /// The counts of a page size. Sizes that no kernel has, beyond the first ones, are counted under 0.
    pub fn other_size(&mut self, page_kib: u32) -> &mut OtherSize {
        let is_counted = self.other_sizes.len() < SIZES || self.other_sizes.contains_key(&page_kib);
        let page_kib = if is_counted { page_kib } else { 0 };
        let page_bytes = u64::from(page_kib) << 10;
        self.other_sizes.entry(page_kib).or_insert(OtherSize { page_bytes, lookups: 0, walks: 0 })
    }

    /// Number of unlinks that the entries showed and the body of unshare did not report.
    pub fn entries_only(&self) -> u64 {
        self.unlinks_diff - self.unlinks_both
    }
}

impl Engine {
    #[must_use]
    pub fn stats(&self) -> Stats {
        let c = &self.counts;
        Stats {
            events: c.events,
            by_kind: kinds::TABLE.iter().map(|k| (k.name, c.by_kind[usize::from(k.number)])).collect(),
            by_class: Class::ALL[..Class::ALL.len() - 1]
                .iter()
                .map(|class| {
                    let [takes, releases] = c.by_class[*class as usize - 1];
                    ClassCount { class: class.name(), takes, releases }
                })
                .collect(),
            first_ns: c.first_ns,
            last_ns: self.world.now_ns,
            lost: self.world.losses.lost,
            holes: self.world.losses.holes,
            lost_by_reason: self.world.losses.by_reason.iter().map(|(reason, n)| (*reason, *n)).collect(),
            live_leases: self.leases.alive(),
            leases: self.leases.count,
            live_tasks: self.world.tasks.len(),
            live_tables: self.tables.alive(),
            lookups: c.lookups,
            other_sizes: c.other_sizes.values().copied().collect(),
            shares: c.shares,
            unlinks_exact: c.unlinks_exact,
            unlinks_diff: c.unlinks_diff,
            unlinks_both: c.unlinks_both,
            windows: self.windows.count,
            unmatched_ends: c.unmatched_ends,
            unmatched_begins: c.unmatched_begins,
            unknown_releases: c.unknown_releases,
            untried_pairs: self.lock_order.untried_pairs(),
            dropped_pairs: self.lock_order.dropped_pairs(),
            dropped_requests: self.lock_order.dropped_requests(),
            dropped_holds: c.dropped_holds,
            dropped_walks: self.predictions.dropped_walks,
            missed_frees: self.tables.missed_frees,
            missed_folio_releases: c.missed_folio_releases,
            forgotten_leases: self.leases.forgotten,
        }
    }
}
