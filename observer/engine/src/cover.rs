//! Covers: under which locks a lease was, at each moment of its life.
//!
//! A removal is kept away from a lease if, whatever the moment, one of its own locks excludes one that the lease's task
//! held then. What was held is told by *phases*: sets of locks of which each was held for some while, and no moment knew
//! less than one of them. Nearly always there is one: what was held at the lookup and not released before the end. A
//! pointer that is handed from one lock to another (the vma_lock until the table's lock is taken) has two.
//!
//! Decides what the phases are. What they exclude is in `predict`.

use crate::tasks::{Held, HoldSet, Instance, LockHold};

/// Phases kept; a lease with more is not judged.
const PHASES_MAX: usize = 3;

/// Phases of one lease. The first is a part of what was held at the lookup.
#[derive(Clone, Debug)]
pub(crate) struct Cover {
    at_lookup: HoldSet,
    /// Of those, what is in the first phase, a bit each.
    kept: u8,
    more: Vec<HoldSet>,
    cut: bool,
}

impl Cover {
    pub fn new(at_lookup: HoldSet) -> Cover {
        Cover { at_lookup, kept: u8::MAX, more: Vec::new(), cut: at_lookup.is_cut() }
    }

    /// What was held at the lookup.
    pub fn at_lookup(&self) -> &HoldSet {
        &self.at_lookup
    }

    /// What was held at the lookup, if all of it was held to the end.
    pub fn whole(&self) -> Option<&HoldSet> {
        (self.kept == u8::MAX && self.more.is_empty()).then_some(&self.at_lookup)
    }

    /// Not all phases are known.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    fn first(&self) -> impl Iterator<Item = &Held> + Clone {
        self.at_lookup.iter().enumerate().filter(|(i, _)| self.kept & 1 << i != 0).map(|(_, held)| held)
    }

    /// How many phases.
    pub fn phases(&self) -> usize {
        1 + self.more.len()
    }

    /// Locks of a phase.
    pub fn phase(&self, n: usize) -> impl Iterator<Item = &Held> {
        let more = n.checked_sub(1).map(|n| self.more[n].iter());
        let first = (n == 0).then(|| self.first());
        first.into_iter().flatten().chain(more.into_iter().flatten())
    }

    /// The task released a lock and goes on with the pointer, holding these.
    pub fn released(&mut self, lock: u64, holds: &[LockHold]) {
        if !self.phase(self.more.len()).any(|h| h.instance.addr == lock) {
            return;
        }
        let in_first = |i: Instance| self.first().any(|h| h.instance == i);
        if self.more.is_empty() && holds.iter().all(|h| in_first(h.instance)) {
            let still = |held: &Held| holds.iter().any(|h| h.instance == held.instance);
            for (i, held) in self.at_lookup.iter().enumerate() {
                if !still(held) {
                    self.kept &= !(1 << i);
                }
            }
            return;
        }
        self.push(HoldSet::of(holds));
    }

    /// The pointer is used again after the task had it under no excluding lock since then.
    pub fn woken(&mut self, slept_ns: u64, holds: &[LockHold]) {
        let mut set = HoldSet::EMPTY;
        for hold in holds.iter().filter(|h| h.since_ns <= slept_ns) {
            set.push(hold.into());
        }
        self.push(set);
    }

    fn push(&mut self, set: HoldSet) {
        self.cut |= set.is_cut();
        if self.more.len() + 1 < PHASES_MAX {
            self.more.push(set);
        } else {
            self.cut = true;
        }
    }
}
