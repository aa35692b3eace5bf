//! What tasks wait for now: deadlocks that exist, and waits without a holder.
//!
//! Decides what is lent to the rules for that, and which locks' last holders must not be forgotten.

use std::collections::BTreeSet;

use super::Engine;
use crate::{deadlock, finding::Finding, orphans};

impl Engine {
    /// Cycles of what was seen, and the deadlocks that are there now.
    pub(super) fn cycles(&self) -> Vec<Finding> {
        let mut all = self.cycles.findings(&self.graph, |s| self.rules.name(s));
        for now in deadlock::findings(self.waiting_world(), |s| self.rules.name(s)) {
            match all.iter_mut().find(|f| f.id == now.id) {
                // Of two that rank alike the one that exists now is the better evidence.
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

    /// What judging the tasks that wait now needs.
    fn waiting_world(&self) -> deadlock::World<'_> {
        deadlock::World {
            tasks: &self.tasks,
            losses: &self.losses,
            now_ns: self.now_ns,
            waits_reported: self.rules.waits_reported(),
            ptl_release_unseen: self.rules.ptl_release_unseen(),
        }
    }

    /// Waits for locks that no task is known to hold.
    pub(super) fn orphan_waits(&self) -> Vec<Finding> {
        orphans::findings(orphans::World {
            tasks: &self.tasks,
            locks: &self.locks,
            losses: &self.losses,
            rules: &self.rules,
            last: &self.last_holders,
            now_ns: self.now_ns,
        })
    }

    /// The last holders of locks that tasks wait for are remembered for as long as they do.
    pub(super) fn keep_last_holders(&mut self) {
        if !self.last_holders.is_due(self.now_ns) {
            return;
        }
        let wanted: BTreeSet<u64> = self.tasks.iter().filter_map(|task| Some(task.waiting?.addr)).collect();
        wanted.iter().for_each(|addr| self.last_holders.wanted(*addr));
        self.last_holders.prune(|addr| wanted.contains(&addr));
    }
}
