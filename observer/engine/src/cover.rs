//! Covers: under which locks a lease was, at each moment of its life.
//!
//! A removal is excluded from a lease if, whatever the moment, one of its own locks excludes one that the lease's task
//! held then. What was held is given by *phases*: sets of locks of which each was held for some while, and no moment knew
//! less than one of them. Nearly always there is one: what was held at the lookup and not released before the end. A
//! pointer that is handed from one lock to another (the vma_lock until the table's lock is acquired) has two.
//!
//! Decides what the phases are. A phase that holds all that another one holds says nothing more, and is not kept. What
//! they exclude is in `predict`.

use crate::{
    loss::Missing,
    tasks::{Held, HoldSet, Instance, LockHold},
};

/// Phases kept. What a removal is excluded from by those of a lease with more is not sure.
const PHASES_MAX: usize = 16;

/// Phases of one lease. The first is a part of what was held at the lookup.
#[derive(Clone, Debug)]
pub(crate) struct Cover {
    at_lookup: HoldSet,
    /// Of those, what is not in the first phase any more, a bit each.
    gone: u64,
    more: Vec<HoldSet>,
    cut: bool,
}

impl Cover {
    pub fn new(at_lookup: HoldSet) -> Cover {
        Cover { at_lookup, gone: 0, more: Vec::new(), cut: false }
    }

    /// What was held at the lookup.
    pub fn at_lookup(&self) -> &HoldSet {
        &self.at_lookup
    }

    /// Not all phases are known.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    fn first(&self) -> impl Iterator<Item = &Held> {
        self.phase(0)
    }

    /// How many phases.
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

    /// A release may be among what was lost. Whether it may be that of a lock of these.
    pub fn touched_by_loss(&mut self, missing: Missing) -> bool {
        let mut any = self.at_lookup.touched_by_loss(missing);
        for set in &mut self.more {
            any |= set.touched_by_loss(missing);
        }
        any
    }

    /// A lock was held after all.
    pub fn redeem(&mut self, lock: Instance) {
        self.at_lookup.redeem(lock);
        self.more.iter_mut().for_each(|set| set.redeem(lock));
    }

    /// A lock may have been released by another task.
    pub fn doubt_lock(&mut self, lock: u64) {
        self.at_lookup.doubt_lock(lock);
        self.more.iter_mut().for_each(|set| set.doubt_lock(lock));
    }

    /// The task released a lock and goes on with the pointer, holding these.
    pub fn released(&mut self, lock: u64, holds: &[LockHold]) {
        // What holds without it is no less than some phase without it.
        if !(0..self.phases()).any(|n| self.phase(n).any(|h| h.instance.addr == lock)) {
            return;
        }
        let in_first = |i: Instance| self.first().any(|h| h.instance == i);
        if self.more.is_empty() && holds.iter().all(|h| in_first(h.instance)) {
            for (i, held) in self.at_lookup.iter().enumerate() {
                if !holds.iter().any(|h| h.instance == held.instance) {
                    // More than 64 locks at once: not all phases are known.
                    self.cut |= i >= 64;
                    self.gone |= 1_u64.checked_shl(i as u32).unwrap_or(0);
                }
            }
            return;
        }
        self.push(HoldSet::of(holds));
    }

    /// The pointer is used again after the task had it under no excluding lock since then.
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
