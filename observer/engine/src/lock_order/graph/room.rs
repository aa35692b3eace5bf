//! The pairs of the graph that wait for a search, and those that make room.
//!
//! This module decides which pairs are searched when, and which are dropped.

use std::sync::Arc;

use super::{Graph, Witness, mark};
use crate::{holds::Instance, presence::Presences};

/// Maximum number of instance pairs per edge. If there are more, pairs whose tasks are all gone are dropped first,
/// because nothing later can combine with them. Then the older half is dropped, after the cycles that it closes were
/// searched.
pub(super) const PAIRS_MAX: usize = 32_768;
/// Minimum number of pairs for a sweep for pairs whose tasks are gone.
const SWEEP_MIN: usize = 1024;
impl Graph {
    /// Returns the pairs whose evidence was not searched yet and that have no new evidence since `before_ns`; the
    /// others stay queued.
    pub fn due(&mut self, before_ns: u64) -> Vec<u32> {
        let mut due = Vec::new();
        for _ in 0..self.fresh.len() {
            let Some(at) = self.fresh.front().copied() else { break };
            if self.pairs[at as usize].queued_ns >= before_ns {
                break;
            }
            self.fresh.pop_front();
            let pair = &mut self.pairs[at as usize];
            if pair.fresh_ns < before_ns {
                due.push(at);
                pair.fresh_ns = 0;
            } else {
                pair.queued_ns = pair.fresh_ns;
                self.fresh.push_back(at);
            }
        }
        due
    }

    /// Queues a pair for another search.
    pub fn wait_on(&mut self, at: u32, now_ns: u64) {
        mark(&mut self.pairs[at as usize], at, now_ns, &mut self.fresh);
    }

    /// Puts pairs back to the front of the queue.
    pub fn put_back(&mut self, rest: &[u32]) {
        for at in rest.iter().rev() {
            let pair = &mut self.pairs[*at as usize];
            if pair.fresh_ns == 0 {
                pair.fresh_ns = pair.queued_ns.max(1);
                self.fresh.push_front(*at);
            }
        }
    }

    /// Returns true if older pairs must be searched before they are dropped.
    pub fn is_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// Records that the search through a pair was cut.
    pub fn cut(&mut self, pair: u32) {
        let edge = self.pairs[pair as usize].edge;
        self.edges[edge as usize].is_cut = true;
    }

    /// Returns true if it is time for [`Graph::thin_out`].
    pub fn is_thick(&self) -> bool {
        !self.full.is_empty() || self.pairs.len() - self.unused.len() >= self.sweep_at.max(SWEEP_MIN)
    }

    /// Drops pairs whose tasks are all gone, once the number of pairs has grown enough since the last time. Also drops
    /// older pairs of edges that have too many. `gone` receives each dropped pair with the time at which it was last
    /// seen.
    pub fn thin_out(
        &mut self,
        presences: Presences<'_>,
        now_ns: u64,
        mut gone: impl FnMut(u32, (Instance, Instance), u64),
    ) {
        let full = std::mem::take(&mut self.full);
        let is_gone = |w: &Arc<Witness>| presences.is_gone(&w.presence, now_ns);
        let mut going: Vec<u32> = (0..self.pairs.len() as u32)
            .filter(|at| {
                let pair = &self.pairs[*at as usize];
                !pair.witnesses.is_empty() && pair.fresh_ns == 0 && pair.witnesses.iter().all(is_gone)
            })
            .collect();
        let of_gone = going.len();
        for edge in full {
            let of = &self.edges[edge as usize];
            let is_going = |at: &u32| going[..of_gone].binary_search(at).is_ok();
            let left = || of.pairs.values().filter(|at| !is_going(at));
            if left().count() < PAIRS_MAX * 3 / 4 {
                continue;
            }
            let mut by_age: Vec<(u64, u32)> =
                left().map(|at| (self.pairs[*at as usize].last_ns, *at)).collect();
            by_age.sort_unstable();
            by_age.truncate(by_age.len() / 2);
            self.edges[edge as usize].dropped += by_age.len() as u64;
            going.extend(by_age.into_iter().map(|(_, at)| at));
        }
        for at in going {
            let pair = &self.pairs[at as usize];
            gone(pair.edge, (pair.from, pair.to), pair.last_ns);
            self.forget(at);
        }
        let pairs = &self.pairs;
        self.fresh.retain(|at| pairs[*at as usize].fresh_ns > 0);
        self.writers.retain(|_, all| !all.iter().all(is_gone));
        let (pairs, writers) = (&self.pairs, &self.writers);
        let of_task = self.of_task.iter_mut();
        of_task.for_each(|all| {
            all.retain(|serial, of| {
                let is_of = |w: &Arc<Witness>| w.presence.serial == *serial;
                of.pairs.sort_unstable();
                of.pairs.dedup();
                of.pairs.retain(|at| pairs[*at as usize].witnesses.iter().any(is_of));
                of.written.sort_unstable();
                of.written.dedup();
                of.written.retain(|lock| writers.get(lock).is_some_and(|all| all.iter().any(is_of)));
                !of.pairs.is_empty() || !of.written.is_empty()
            })
        });
        self.sweep_at = SWEEP_MIN + 2 * (self.pairs.len() - self.unused.len());
    }

    fn forget(&mut self, at: u32) {
        let pair = &mut self.pairs[at as usize];
        pair.witnesses = Vec::new();
        pair.fresh_ns = 0;
        let edge = &mut self.edges[pair.edge as usize];
        edge.pairs.remove(&(pair.from, pair.to));
        edge.last_pair = ((Instance::NONE, Instance::NONE), 0);
        if let Some(out) = self.out.get_mut(&pair.from) {
            out.retain(|other| *other != at);
            if out.is_empty() {
                self.out.remove(&pair.from);
            }
        }
        self.unused.push(at);
    }

    /// Pairs that made room although their tasks may still exist.
    pub fn dropped_pairs(&self) -> u64 {
        self.edges.iter().map(|e| e.dropped).sum()
    }
}
