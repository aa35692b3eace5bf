//! Current waits of tasks.
//!
//! This module decides when a silent task counts as waiting, and which locks' last holders must be remembered.

use std::collections::BTreeSet;

use super::Engine;
use crate::{
    finding::{HoldBasis, Rank},
    holds::TaskId,
    lock_order::{feasible::conflict, relocks::Repeat},
    locks::FolioPlace,
    tasks::{Requested, Waiting},
};

/// A request counts as a wait if the task has been silent for this long, even where the kernel reports no waits. Folio
/// lookups wait inside the page cache's own functions, and 5.10 has no contention tracepoints.
const STUCK_NS: u64 = 1_000_000_000;

impl Engine {
    /// Marks tasks as waiting that have been silent for too long since a request.
    pub(super) fn find_stuck(&mut self) {
        for id in self.world.tasks.ids().collect::<Vec<TaskId>>() {
            let (Some(requested), None) = (self.world.tasks[id].requested, self.world.tasks[id].waiting)
            else {
                continue;
            };
            match requested {
                Requested::Lock { addr, at_ns, .. }
                    if self.world.now_ns.saturating_sub(at_ns) >= STUCK_NS =>
                {
                    self.waits(id, addr, false);
                }
                Requested::Folio { mapping, index, at_ns, site, folio }
                    if self.world.now_ns.saturating_sub(at_ns) >= STUCK_NS =>
                {
                    self.folio_stuck(id, site, FolioPlace { folio, mapping, index }, at_ns);
                }
                _ => {}
            }
        }
    }

    /// Marks the task as waiting for a lock that it requested. If the task holds that lock, it waits for itself. This
    /// counts only if the kernel reported the wait or the two modes conflict; silence alone is not a wait.
    pub(super) fn waits(&mut self, id: TaskId, addr: u64, reported: bool) {
        let task = &self.world.tasks[id];
        let Some(at) = task.holds.iter().rposition(|h| h.instance.addr == addr) else { return };
        let hold = task.holds[at];
        let Some(Requested::Lock { at_ns, site, mode, .. }) = task.requested else { return };
        let site = self.world.on_behalf(id, site);
        self.world.tasks[id].waiting =
            Some(Waiting { addr, class: hold.class, mode, since_ns: at_ns, site, reported });
        if hold.basis != HoldBasis::Requesting && !hold.lossy && (reported || conflict(hold.mode, mode)) {
            self.relocked(id, at, Repeat { site, requested: mode, time_ns: at_ns }, Rank::Confirmed);
        }
    }

    /// Remembers the last holder of each lock as long as a task waits for the lock.
    pub(super) fn keep_last_holders(&mut self) {
        if !self.holders.last.is_due(self.world.now_ns) {
            return;
        }
        let wanted: BTreeSet<u64> =
            self.world.tasks.iter().filter_map(|task| Some(task.waiting?.addr)).collect();
        wanted.iter().for_each(|addr| self.holders.last.wanted(*addr));
        self.holders.last.prune(|addr| wanted.contains(&addr));
    }
}
