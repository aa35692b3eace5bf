//! Findings and views: what the engine answers.
//!
//! This module decides in which order the rules report, and that findings are sorted, worst first.

use super::Engine;
use crate::{
    event::Tid,
    finding::{Finding, TaskRef},
    orphans,
    setup::Coverage,
    tasks::Task,
    view::{EdgeView, LeaseView, MappingView, ProtectionView, TableView},
};

impl Engine {
    /// Returns all findings so far, worst first, then by id.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut all: Vec<Finding> = self.windows.findings().chain(self.freed.findings().cloned()).collect();
        all.extend(self.predictions.findings(&self.windows, |s| self.world.name(s)));
        all.extend(self.lock_order.findings(&self.world));
        all.extend(orphans::findings(&self.world, &self.holders.last));
        for finding in &mut all {
            finding.doubts.extend(self.world.rules.doubts(finding.kind(), self.counts.entries_only() > 0));
        }
        all.sort_by(|a, b| (a.rank, &a.id).cmp(&(b.rank, &b.id)));
        all
    }

    /// Number of events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.counts.events
    }

    /// Current event time.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.world.now_ns
    }

    /// Returns the setup's coverage, corrected by what the run disproved.
    #[must_use]
    pub fn coverage(&self) -> Vec<Coverage> {
        self.world
            .rules
            .coverage(self.counts.entries_only(), self.counts.unlinks_exact + self.counts.entries_only())
    }

    /// Live tables and the ones that were freed last, sorted by address.
    #[must_use]
    pub fn tables(&self) -> Vec<TableView> {
        self.tables.views()
    }

    /// Shares and unshares by mapping, most unshares first. `tables` is the result of [`Engine::tables`].
    #[must_use]
    pub fn mappings(&self, tables: &[TableView]) -> Vec<MappingView> {
        self.ledger.views(tables, |s| self.world.rules.name(s))
    }

    /// Edges of the class graph, sorted by class and mode.
    #[must_use]
    pub fn edges(&self) -> Vec<EdgeView> {
        self.lock_order.views(&self.world)
    }

    /// Locks that protected leases, and locks that unlinks held.
    #[must_use]
    pub fn protection(&self) -> ProtectionView {
        // A lost record may hide an access that nothing excluded.
        let is_lossy = self.world.losses.anywhere(0, u64::MAX).can_hide_access();
        self.predictions.report().view(is_lossy, |s| self.world.rules.name(s))
    }

    /// At most `limit` live leases, oldest first.
    #[must_use]
    pub fn leases(&self, limit: usize) -> Vec<LeaseView> {
        self.leases.views(&self.world, limit)
    }

    /// A live task with its name, if it is known.
    #[must_use]
    pub fn task_name(&self, tid: Tid) -> Option<TaskRef> {
        self.world.tasks.find(tid).map(|id| self.world.tasks[id].reference())
    }

    /// Live tasks with their names, in no particular order.
    pub fn tasks(&self) -> impl Iterator<Item = TaskRef> {
        self.world.tasks.iter().map(Task::reference)
    }

    /// Live locks and the objects that they belong to, in no particular order.
    pub fn owners(&self) -> impl Iterator<Item = (u64, u64)> {
        self.world.locks.owners()
    }
}
