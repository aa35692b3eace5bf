//! Holds of tasks: how they begin and end, also because of another task's event.
//!
//! This module decides whose hold a release ends if the releasing task is not known to hold the lock. The meaning of each
//! lock event is in `locking`.

use std::collections::BTreeSet;

use super::{Engine, locking::NamedLock};
use crate::{
    event::{Class, Mode, SiteId},
    finding::{AcquireKind, HoldBasis},
    fx::FxMap,
    holds::{Instance, Key, LockHold, TaskId},
    last_holders::LastHolders,
    loss::UNSURE_NS,
};

/// Maximum number of locks that a task holds at once. The kernel's own checker stops at 48 (`MAX_LOCK_DEPTH`,
/// include/linux/sched.h); more come only from lost releases, or from a recording that was made.
const HOLDS_MAX: usize = 128;

/// Holders of locks that are not found at a task.
#[derive(Clone, Debug, Default)]
pub(super) struct Holders {
    /// Locks that were released by a task without a known hold: a known holder may not hold them any more.
    pub disputed: BTreeSet<u64>,
    /// Presumed holder of each folio's lock.
    pub of_folio: FxMap<u64, TaskId>,
    pub last: LastHolders,
}

impl Engine {
    /// Adds a lock that the task holds or requests.
    #[inline]
    pub(super) fn acquired(
        &mut self,
        id: TaskId,
        hold: LockHold,
        acquire: AcquireKind,
        site: SiteId,
        requested_ns: u64,
    ) {
        if self.world.tasks[id].holds.len() >= HOLDS_MAX {
            self.drop_all_holds(id);
        }
        self.lock_order.task(id).acquired(&hold, acquire, site, requested_ns);
        self.world.tasks[id].holds.push(hold);
    }

    /// Makes room for another hold of a task that has too many: all of them are dropped, so that it is rarely done.
    #[cold]
    fn drop_all_holds(&mut self, id: TaskId) {
        let now_ns = self.world.now_ns;
        while let Some(last) = self.world.tasks[id].holds.len().checked_sub(1) {
            let hold = self.drop_hold(id, last, now_ns);
            self.world.tasks[id].loss.gave_up(hold.instance.addr);
            self.counts.dropped_holds += 1;
        }
        self.world.losses.holds_dropped(now_ns);
    }

    /// Removes a hold that has ended.
    #[inline]
    pub(super) fn drop_hold(&mut self, id: TaskId, at: usize, now_ns: u64) -> LockHold {
        let hold = self.world.tasks[id].holds.remove(at);
        self.lock_order.task(id).released(&self.world.tasks[id], &hold, now_ns);
        hold
    }

    /// Drops the holds whose release may be lost.
    pub(super) fn give_up_lossy(&mut self, id: TaskId, now_ns: u64) {
        while let Some(at) = self.world.tasks[id].holds.iter().position(|h| h.lossy) {
            let hold = self.drop_hold(id, at, now_ns);
            self.world.tasks[id].loss.gave_up(hold.instance.addr);
        }
    }

    /// Handles the release of a lock that the task is not known to hold. Returns true if it releases the lock for
    /// another task, as `mmap_read_unlock_non_owner` does (kernel/bpf/stackmap.c); then the other task's hold ends. If
    /// the lock may also be the task's own, acquired before the lock was watched, the other tasks' holds become
    /// doubtful.
    pub(super) fn releases_for_another(&mut self, id: TaskId, now_ns: u64, released: NamedLock) -> bool {
        let NamedLock { class, mode, addr } = released;
        let class = class.wire();
        if !matches!(class, Class::MmapLock | Class::VmaLock | Class::IMmap | Class::Inode) {
            return false;
        }
        let Some(lock) = self.world.locks.get(addr) else { return false };
        let (seen_ns, was_exclusive) = (lock.seen_ns, lock.was_exclusive);
        let holders: Vec<TaskId> = self.holders(addr, mode).collect();
        let Some(oldest) = holders.iter().copied().min_by_key(|t| (self.since_ns(*t, addr), *t)) else {
            return false;
        };
        let task = &self.world.tasks[id];
        // `is_known`, `is_new`: every acquisition of the lock by this task was seen.
        let is_exclusive = self.world.tasks[oldest]
            .holds
            .iter()
            .any(|h| h.instance.addr == addr && h.mode != Some(Mode::Read));
        let unsure_ns = task.loss.unsure_since_ns;
        let is_known = was_exclusive && unsure_ns == 0;
        let is_new = is_known || task.born_ns > seen_ns || seen_ns.saturating_add(UNSURE_NS) < now_ns;
        let cannot_hold = is_exclusive || (is_new && !task.loss.may_hold(addr));
        let is_certain = cannot_hold && unsure_ns == 0 && holders.len() == 1;
        if is_certain {
            if let Some(at) = self.world.tasks[oldest].holds.iter().rposition(|h| h.instance.addr == addr) {
                self.drop_other(oldest, at, now_ns);
            }
            return true;
        }
        self.dispute(addr);
        if cannot_hold && unsure_ns != 0 {
            // It releases the lock for another task, or its own acquisition was lost and it held the lock all the time.
            self.doubt_since(id, unsure_ns);
            self.leases.doubt(id);
        }
        cannot_hold
    }

    /// Tasks that hold a lock in this mode.
    pub(super) fn holders(&self, addr: u64, mode: Option<Mode>) -> impl Iterator<Item = TaskId> {
        let is_it = move |h: &LockHold| {
            h.instance.addr == addr && h.basis != HoldBasis::Requesting && (mode.is_none() || h.mode == mode)
        };
        self.world.tasks.ids().filter(move |t| self.world.tasks[*t].holds.iter().any(is_it))
    }

    /// Ends other tasks' disputed holds of a lock that the task has acquired exclusively.
    pub(super) fn end_disputed(&mut self, id: TaskId, addr: u64, now_ns: u64) {
        for other in self.world.tasks.ids().filter(|other| *other != id).collect::<Vec<TaskId>>() {
            let is_it = |h: &LockHold| h.instance.addr == addr && h.disputed;
            if let Some(at) = self.world.tasks[other].holds.iter().position(is_it) {
                self.drop_other(other, at, now_ns);
            }
        }
        self.holders.disputed.remove(&addr);
    }

    /// Ends a hold of a task because of another task's event.
    fn drop_other(&mut self, holder: TaskId, at: usize, now_ns: u64) {
        let hold = self.drop_hold(holder, at, now_ns);
        self.predictions.released(&self.world, holder, &hold, now_ns);
        self.leases.lock_released(holder, hold.instance.addr, now_ns, &self.world.tasks[holder].holds);
    }

    /// Marks all holds of a lock as doubtful: one of its holders may have released it.
    pub(super) fn dispute(&mut self, addr: u64) {
        self.holders.disputed.insert(addr);
        for id in self.world.tasks.ids().collect::<Vec<TaskId>>() {
            let mut holds = self.world.tasks[id]
                .holds
                .iter_mut()
                .filter(|h| h.instance.addr == addr && h.basis != HoldBasis::Requesting);
            if let Some(hold) = holds.next() {
                (hold.lossy, hold.disputed) = (true, true);
                self.lock_order.task(id).touched_by_loss();
                self.leases.doubt_lock(id, addr);
            }
        }
    }

    /// Time since which a task holds a lock.
    fn since_ns(&self, id: TaskId, addr: u64) -> u64 {
        self.world.tasks[id].holds.iter().find(|h| h.instance.addr == addr).map_or(u64::MAX, |h| h.since_ns)
    }

    /// Returns true if a lock that was acquired at `since_ns` and is released now was held in between. Otherwise two
    /// records, a release and a new request, would both have to be lost.
    pub(super) fn is_one_hold(&self, since_ns: u64, now_ns: u64) -> bool {
        self.world.losses.is_at_most_one(since_ns, now_ns) || self.world.losses.are_sparse(since_ns, now_ns)
    }

    /// Confirms that a lock was held all the time, although records were lost meanwhile.
    pub(super) fn redeem(&mut self, id: TaskId, lock: Instance) {
        self.leases.redeem(id, lock);
        self.predictions.redeem(&self.world, id, lock);
    }

    /// Handles the release of a lock whose acquisition was not seen: it was held during all pending accesses.
    pub(super) fn held_all_the_time(&mut self, id: TaskId, class: Class, mode: Option<Mode>, addr: u64) {
        let lock = self.world.locks.see(addr, class, self.world.now_ns);
        let (instance, owner) = (Instance { addr, life: lock.life }, lock.owner);
        let exclusive = mode != Some(Mode::Read);
        let key = Key { class: class.into(), instance, exclusive, owner, doubtful: false };
        let excludes = class != Class::Ptl && self.world.rules.excludes(class, mode);
        self.predictions.held_all_the_time(id, key, excludes);
    }
}
