//! Protection: the locks that protect a lease at each moment of its life.
//!
//! An unlink is excluded if, at every moment of the lease, one of its locks excludes a lock that the lease's task holds
//! then. The held locks are described by *phases*. A phase is a set of locks that were all held for a while, and at
//! every moment of the lease the task held all locks of at least one phase. Nearly always there is one phase: the locks
//! held at the lookup and not released before the end. A pointer that passes from one lock to another (the vma_lock
//! until the PTL is acquired) has two.
//!
//! This module decides what the phases are. A phase that contains all locks of another one adds nothing and is not
//! kept. `predict` decides what phases exclude.

use crate::{
    holds::{Held, HoldSet, Instance, LockHold},
    loss::Missing,
};

/// Maximum number of phases kept. Beyond it, the excluders of a lease are not certain.
pub(crate) const PHASES_MAX: usize = 16;

/// Phases of one lease. The first is a subset of the locks held at the lookup.
#[derive(Clone, Debug)]
pub(crate) struct Cover {
    at_lookup: HoldSet,
    /// Indices in `at_lookup` of locks that left the first phase, one bit each.
    gone: u64,
    more: Vec<HoldSet>,
    cut: bool,
}

impl Cover {
    #[inline]
    pub fn new(at_lookup: HoldSet) -> Cover {
        Cover { at_lookup, gone: 0, more: Vec::new(), cut: false }
    }

    /// Locks held at the lookup.
    pub fn at_lookup(&self) -> &HoldSet {
        &self.at_lookup
    }

    /// Returns true if not all phases are kept.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    fn first(&self) -> impl Iterator<Item = &Held> {
        self.phase(0)
    }

    /// Number of phases.
    pub fn phases(&self) -> usize {
        1 + self.more.len()
    }

    /// Locks of a phase.
    #[inline]
    pub fn phase(&self, n: usize) -> impl Iterator<Item = &Held> {
        let (set, gone) = match n.checked_sub(1) {
            None => (&self.at_lookup, self.gone),
            Some(n) => (&self.more[n], 0),
        };
        let is_gone = move |at: usize| at < 64 && gone & 1 << at != 0;
        set.iter().enumerate().filter(move |(at, _)| !is_gone(*at)).map(|(_, held)| held)
    }

    /// Marks locks whose release may be lost. Returns true if there is such a lock.
    pub fn touched_by_loss(&mut self, missing: Missing) -> bool {
        let mut any = self.at_lookup.touched_by_loss(missing);
        for set in &mut self.more {
            any |= set.touched_by_loss(missing);
        }
        any
    }

    /// Marks a lock as certainly held.
    pub fn redeem(&mut self, lock: Instance) {
        self.at_lookup.redeem(lock);
        self.more.iter_mut().for_each(|set| set.redeem(lock));
    }

    /// Marks a lock as doubtful: another task may have released it.
    pub fn doubt_lock(&mut self, lock: u64) {
        self.at_lookup.doubt_lock(lock);
        self.more.iter_mut().for_each(|set| set.doubt_lock(lock));
    }

    /// Handles the release of a lock while the lease continues; `holds` are the remaining locks.
    pub fn released(&mut self, lock: u64, holds: &[LockHold]) {
        // If no phase contains the lock, the remaining locks still contain some phase.
        if !(0..self.phases()).any(|n| self.phase(n).any(|h| h.instance.addr == lock)) {
            return;
        }
        let in_first = |i: Instance| self.first().any(|h| h.instance == i);
        if self.more.is_empty() && holds.iter().all(|h| in_first(h.instance)) {
            for (i, held) in self.at_lookup.iter().enumerate() {
                if !holds.iter().any(|h| h.instance == held.instance) {
                    // With more than 64 locks at the lookup, not all phases are known.
                    self.cut |= i >= 64;
                    self.gone |= 1_u64.checked_shl(i as u32).unwrap_or(0);
                }
            }
            return;
        }
        self.push(HoldSet::of(holds));
    }

    /// Handles another use after the lease was dormant since `slept_ns`: only locks held since then count as a phase.
    pub fn woken(&mut self, slept_ns: u64, holds: &[LockHold]) {
        let mut set = HoldSet::default();
        for hold in holds.iter().filter(|h| h.since_ns <= slept_ns) {
            set.push(hold.into());
        }
        self.push(set);
    }

    fn push(&mut self, set: HoldSet) {
        let is_less = |known: &Held| set.iter().any(|held| held.is_same(known));
        if self.first().all(is_less) || self.more.iter().any(|known| known.is_within(&set)) {
            return;
        }
        self.more.retain(|known| !set.is_within(known));
        if self.more.len() + 1 < PHASES_MAX {
            self.more.push(set);
        } else {
            self.cut = true;
        }
    }
}
