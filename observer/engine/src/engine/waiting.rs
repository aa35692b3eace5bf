//! Current waits: deadlocks that exist now, and waits without a known holder.
//!
//! This module decides which state the rules receive, and which locks' last holders must be remembered.

use std::collections::BTreeSet;

use super::Engine;
use crate::{finding::Finding, orphans};

impl Engine {
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
