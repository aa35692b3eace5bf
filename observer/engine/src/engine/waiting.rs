//! Current waits: deadlocks that exist now, and waits without a known holder.
//!
//! This module decides which state the rules receive, and which locks' last holders must be remembered.

use std::collections::BTreeSet;

use super::Engine;
use crate::{finding::Finding, lock_order::waits, orphans};

impl Engine {
    /// Cycles in the lock order, and the deadlocks that exist now.
    pub(super) fn cycles(&self) -> Vec<Finding> {
        let mut all = self.cycles.findings(&self.graph, |s| self.world.rules.name(s));
        for now in waits::findings(self.waiting_world(), |s| self.world.rules.name(s)) {
            match all.iter_mut().find(|f| f.id == now.id) {
                // At equal rank, the deadlock that exists now is the better evidence.
                Some(known) if known.rank < now.rank => {}
                Some(known) => {
                    let (count, first_ns) = (known.count.max(now.count), known.first_ns.min(now.first_ns));
                    *known = Finding { count, first_ns, ..now };
                }
                None => all.push(now),
            }
        }
        all
    }

    /// Collects the state that is needed to judge the waiting tasks.
    fn waiting_world(&self) -> waits::World<'_> {
        waits::World {
            tasks: &self.world.tasks,
            losses: &self.world.losses,
            now_ns: self.world.now_ns,
            waits_reported: self.world.rules.waits_reported(),
            ptl_release_unseen: self.world.rules.ptl_release_unseen(),
        }
    }

    /// Waits for locks that no task is known to hold.
    pub(super) fn orphan_waits(&self) -> Vec<Finding> {
        orphans::findings(orphans::World {
            tasks: &self.world.tasks,
            locks: &self.world.locks,
            losses: &self.world.losses,
            rules: &self.world.rules,
            last: &self.last_holders,
            now_ns: self.world.now_ns,
        })
    }

    /// Remembers the last holder of each lock as long as a task waits for the lock.
    pub(super) fn keep_last_holders(&mut self) {
        if !self.last_holders.is_due(self.world.now_ns) {
            return;
        }
        let wanted: BTreeSet<u64> =
            self.world.tasks.iter().filter_map(|task| Some(task.waiting?.addr)).collect();
        wanted.iter().for_each(|addr| self.last_holders.wanted(*addr));
        self.last_holders.prune(|addr| wanted.contains(&addr));
    }
}
