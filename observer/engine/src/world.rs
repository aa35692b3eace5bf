//! The world: what every rule reads.
//!
//! It holds the setup, the live tasks with their operations and holds, the known locks, the places where records are
//! missing, the times at which tasks began and exited, and the event time. A rule keeps in its own state what it
//! derives from these. This module decides nothing; it answers the questions that several rules ask.

use std::sync::Arc;

use crate::{
    event::{Class, Mode, SiteId, Table},
    finding::Party,
    holds::{HoldSet, TaskId},
    locks::Locks,
    loss::Losses,
    presence::{Lifetimes, Presences},
    rules::Rules,
    setup::Setup,
    tasks::Tasks,
};

/// State that all rules read.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub rules: Rules,
    pub tasks: Tasks,
    pub locks: Locks,
    pub losses: Losses,
    pub lifetimes: Lifetimes,
    /// Current event time.
    pub now_ns: u64,
}

impl World {
    pub fn new(setup: Setup) -> World {
        World {
            rules: Rules::new(setup),
            tasks: Tasks::default(),
            locks: Locks::default(),
            losses: Losses::default(),
            lifetimes: Lifetimes::default(),
            now_ns: 0,
        }
    }

    #[inline]
    pub fn presences(&self) -> Presences<'_> {
        Presences { tasks: &self.tasks, exits: self.lifetimes.exits(), losses: &self.losses }
    }

    /// Returns the kernel function of a site.
    pub fn name(&self, site: SiteId) -> Arc<str> {
        self.rules.name(site)
    }

    /// Returns the site to which an event is attributed.
    #[inline]
    pub fn on_behalf(&self, id: TaskId, site: SiteId) -> SiteId {
        self.rules.canonical(self.tasks[id].site(site))
    }

    /// Returns a party of a finding, in the task's current state.
    pub fn party(&self, id: TaskId, site: SiteId, time_ns: u64) -> Party {
        let task = &self.tasks[id];
        Party {
            task: task.reference(),
            site: self.rules.name(site),
            time_ns,
            stack: task.stack(),
            holds: HoldSet::of(&task.holds).to_vec(),
        }
    }

    /// Returns true if a hold excludes unlinks of this table; a PTL must be the table's own.
    #[inline]
    pub fn excludes(&self, table: Table, class: Class, mode: Option<Mode>, lock: u64) -> bool {
        self.rules.excludes(class, mode) && (class != Class::Ptl || self.is_ptl_of(lock, table))
    }

    #[inline]
    pub fn is_ptl_of(&self, lock: u64, table: Table) -> bool {
        self.locks.get(lock).is_some_and(|l| l.owner == table.0)
    }
}
