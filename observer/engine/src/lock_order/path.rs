//! A task's path: its lock operations since it last held no lock.
//!
//! A path begins with no lock held. So a task can be moved back to the begin of its path without blocking other tasks.
//! [`super::feasible`] uses paths to decide if tasks can get to a deadlock. Inside an operation, the path before that
//! point is kept, too, because a folio may turn out to have been locked all the time.
//!
//! This module decides what is kept. If a lock is acquired and released repeatedly with nothing between, one repetition
//! is kept, which allows and forbids the same interleavings. A path that is too long keeps only the locks that are
//! held, and is marked as cut.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
};

use crate::{
    event::{Class, Mode, SiteId},
    finding::{AcquireKind, Hold, HoldBasis},
    holds::{Instance, LockHold},
    lock_class::LockClass,
    setup::FolioTaken,
    tasks::Task,
};

/// Maximum number of operations kept per task.
const KEPT: usize = 96;

/// Kind of an operation on a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Take,
    /// A trylock or a request ended without the lock: another task held it.
    Fail,
    Release,
    Downgrade,
}

/// One operation on a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    pub lock: Instance,
    pub time_ns: u64,
    pub site: SiteId,
    pub class: LockClass,
    pub mode: Option<Mode>,
    pub act: Act,
    /// Kind of request of a `Take`, and its hold basis.
    pub acquire: AcquireKind,
    pub basis: HoldBasis,
    /// The moment of the operation is known. If false, it may have happened later.
    pub sure: bool,
}

impl Op {
    /// Returns an operation on a held lock.
    pub fn on(hold: &LockHold, act: Act, time_ns: u64) -> Op {
        Op {
            lock: hold.instance,
            time_ns,
            site: SiteId(0),
            class: hold.class,
            mode: hold.mode,
            act,
            acquire: AcquireKind::Blocking,
            basis: hold.basis,
            sure: true,
        }
    }

    fn is_same(&self, other: &Op) -> bool {
        (self.lock, self.mode, self.act, self.acquire) == (other.lock, other.mode, other.act, other.acquire)
    }

    /// Returns true if the request was seen, with or without success.
    fn is_request(&self) -> bool {
        match self.act {
            Act::Take => !self.basis.is_inferred(),
            Act::Fail => self.acquire == AcquireKind::Blocking,
            Act::Release | Act::Downgrade => false,
        }
    }

    /// Converts the operation to a hold for reports.
    pub fn shown(&self, lossy: bool) -> Hold {
        let basis = if self.basis == HoldBasis::Requesting { HoldBasis::Requested } else { self.basis };
        Hold {
            class: self.class,
            lock: self.lock.addr,
            mode: self.mode,
            basis,
            since_ns: self.time_ns,
            lossy,
        }
    }
}

/// Returns the locks that are held after these operations, in order of acquisition.
pub(crate) fn held(ops: &[Op]) -> Vec<Op> {
    let mut held = Vec::new();
    ops.iter().for_each(|op| step(&mut held, op));
    held
}

/// Applies one more operation to the held locks.
fn step(held: &mut Vec<Op>, op: &Op) {
    match op.act {
        Act::Take => held.push(*op),
        Act::Fail => {}
        Act::Release => {
            if let Some(at) = held.iter().rposition(|h| h.lock == op.lock) {
                held.remove(at);
            }
        }
        Act::Downgrade => {
            if let Some(hold) = held.iter_mut().rfind(|h| h.lock == op.lock) {
                hold.mode = Some(Mode::Read);
            }
        }
    }
}

/// A request, and the task's path up to it.
pub(crate) struct PathRequest<'a> {
    pub op: Op,
    /// The task's operations since it held nothing.
    pub path: &'a [Op],
    /// Locks that it held, in order of acquisition.
    pub held: &'a [Op],
}

/// The path of one task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Path {
    ops: Vec<Op>,
    /// Start of the current path: the last place where no lock was held.
    start: usize,
    /// Operations on locks that are not held any more were dropped.
    cut: bool,
    /// Records of the task were lost since it held nothing.
    lossy: bool,
}

impl Path {
    /// Operations since no lock was held.
    pub fn ops(&self) -> &[Op] {
        &self.ops[self.start..]
    }

    pub fn is_cut(&self) -> bool {
        self.cut
    }

    pub fn is_lossy(&self) -> bool {
        self.lossy
    }

    pub fn touched_by_loss(&mut self) {
        self.lossy = true;
    }

    pub fn push(&mut self, op: Op) {
        let n = self.ops.len();
        if op.act == Act::Release && n >= self.start + 3 {
            let [take, release, again] = [n - 3, n - 2, n - 1].map(|at| self.ops[at]);
            let same =
                take.is_same(&again) && take.is_request() == again.is_request() && release.is_same(&op);
            if take.act == Act::Take && same {
                self.ops.truncate(n - 1);
                return;
            }
        }
        if op.act == Act::Fail && self.ops[self.start..].last().is_some_and(|last| last.is_same(&op)) {
            return;
        }
        if n >= KEPT {
            self.shorten();
        }
        self.ops.push(op);
    }

    /// Returns the failed trylocks of one lock, if they are the last requests.
    pub fn failed_last(&self) -> Vec<Op> {
        let last = self.ops().iter().rev().skip_while(|op| op.act == Act::Release);
        let mut failed: Vec<Op> = Vec::new();
        for op in last.take_while(|op| op.act == Act::Fail && op.acquire == AcquireKind::Try) {
            if failed.iter().all(|other| other.lock == op.lock && other.mode != op.mode) {
                failed.push(*op);
            }
        }
        failed
    }

    /// Inserts an operation at the begin of the current path.
    pub fn push_first(&mut self, op: Op) {
        self.ops.insert(self.start, op);
    }

    fn shorten(&mut self) {
        if self.start > 0 {
            self.ops.drain(..self.start);
            self.start = 0;
        } else {
            self.ops = held(&self.ops);
            self.cut = true;
        }
    }

    /// Removes the failed trylocks that directly precede a request for the same lock in the same mode. Together they
    /// are one acquisition, which gets to the same point whether or not another task holds the lock.
    pub fn tried_before(&mut self, lock: Instance, mode: Option<Mode>) {
        let is_it = |op: &Op| {
            op.act == Act::Fail && op.acquire == AcquireKind::Try && (op.lock, op.mode) == (lock, mode)
        };
        while self.ops.last().is_some_and(is_it) {
            self.ops.pop();
        }
        self.start = self.start.min(self.ops.len());
    }

    /// Marks the last acquisition of a lock as a request that ended without it.
    pub fn failed(&mut self, lock: Instance) {
        if let Some(op) = self.ops.iter_mut().rfind(|o| o.lock == lock && o.act == Act::Take) {
            op.act = Act::Fail;
        }
    }

    /// Replaces the identity of a lock that was identified wrongly.
    pub fn rename(&mut self, from: Instance, to: (LockClass, Instance)) {
        for op in self.ops.iter_mut().filter(|op| op.lock == from) {
            (op.class, op.lock) = to;
        }
    }

    /// Starts a new path: no lock is held any more.
    pub fn emptied(&mut self, in_operation: bool) {
        if in_operation {
            self.start = self.ops.len();
        } else {
            self.clear();
        }
        (self.cut, self.lossy) = (false, false);
    }

    /// Drops all operations: no lock is held, and the earlier ones do not matter.
    pub fn clear(&mut self) {
        self.ops.clear();
        self.start = 0;
        (self.cut, self.lossy) = (false, false);
    }

    /// Returns the place at which an operation that began at `from_ns` locks a folio: after the last released folio and
    /// after the locks that `taken` names, or, without `taken`, at the begin. `None`: those locks were not acquired, so
    /// the place is unknown.
    pub fn place(&self, from_ns: u64, taken: Option<&FolioTaken>) -> Option<usize> {
        let begin = self.ops.iter().position(|op| op.time_ns >= from_ns).unwrap_or(self.ops.len());
        let Some(taken) = taken else { return Some(begin) };
        let released = |op: &Op| op.act == Act::Release && op.class.is_folio();
        let begin = self.ops.iter().rposition(released).map_or(begin, |at| begin.max(at + 1));
        let is = |op: &Op, class: Class| op.class.wire() == class && op.act == Act::Take;
        if !taken.first {
            let Some(class) = taken.after.last() else { return Some(begin) };
            return self.ops[begin..].iter().rposition(|op| is(op, *class)).map(|at| begin + at + 1);
        }
        taken.after.iter().try_fold(begin, |from, class| {
            self.ops[from..].iter().position(|op| is(op, *class)).map(|at| from + at + 1)
        })
    }

    /// Inserts an acquisition at a place, not before `from_ns`; the lock is held from there on.
    pub fn insert(&mut self, at: usize, from_ns: u64, op: Op) {
        let before_ns = at.checked_sub(1).map_or(from_ns, |before| self.ops[before].time_ns);
        self.ops.insert(at, Op { time_ns: before_ns.max(from_ns), ..op });
        if self.start > at {
            self.start = self.empty_before(at);
        }
    }

    /// Calls `each` for every request that was seen from a place on.
    pub fn requests_from(&self, at: usize, mut each: impl FnMut(&PathRequest<'_>)) {
        let start = self.empty_before(at);
        let mut held = Vec::with_capacity(8);
        for (i, op) in self.ops.iter().enumerate().skip(start) {
            if i >= at && op.is_request() {
                each(&PathRequest { op: *op, path: &self.ops[start..i], held: &held });
            }
            step(&mut held, op);
        }
    }

    /// Returns the path up to a time.
    pub fn until(&self, time_ns: u64) -> &[Op] {
        let at = self.ops.partition_point(|op| op.time_ns <= time_ns);
        self.to(at)
    }

    /// Returns the path up to a place.
    pub fn to(&self, at: usize) -> &[Op] {
        &self.ops[self.empty_before(at)..at]
    }

    /// Returns the last place up to `at` where no lock was held.
    fn empty_before(&self, at: usize) -> usize {
        let (mut empty, mut held) = (0, 0_usize);
        for (i, op) in self.ops[..at].iter().enumerate() {
            match op.act {
                Act::Take => held += 1,
                Act::Release => held = held.saturating_sub(1),
                Act::Fail | Act::Downgrade => {}
            }
            if held == 0 {
                empty = i + 1;
            }
        }
        empty
    }
}

/// The path of one task, and what is remembered beyond it.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskPath {
    /// Lock operations since the task last held no lock.
    path: Path,
    /// Time of the last request that has a witness in the lock-order graph: later requests have none.
    witnessed_ns: Cell<u64>,
    /// The last failed attempts at one lock before the task held nothing, one per mode. If the task requests the same
    /// lock before it holds nothing again, it does so because of these failures.
    failed: Vec<Op>,
}

impl Deref for TaskPath {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.path
    }
}

impl DerefMut for TaskPath {
    fn deref_mut(&mut self) -> &mut Path {
        &mut self.path
    }
}

impl TaskPath {
    /// Forgets everything; the buffers are reused.
    pub fn reset(&mut self) {
        self.path.clear();
        self.failed.clear();
        self.witnessed_ns.set(0);
    }

    /// Records that a request became a witness of the lock-order graph.
    pub fn was_witnessed(&self, at_ns: u64) {
        self.witnessed_ns.set(self.witnessed_ns.get().max(at_ns));
    }

    pub fn witnessed_ns(&self) -> u64 {
        self.witnessed_ns.get()
    }

    /// Adds a lock that the task holds or requests.
    #[inline]
    pub fn acquired(&mut self, hold: &LockHold, acquire: AcquireKind, site: SiteId, requested_ns: u64) {
        self.path.push(Op { site, acquire, ..Op::on(hold, Act::Take, requested_ns) });
    }

    /// Adds the release of a lock that is not among the task's holds any more.
    #[inline]
    pub fn released(&mut self, task: &Task, hold: &LockHold, now_ns: u64) {
        if task.is_at_rest() {
            self.failed = self.path.failed_last();
            self.path.clear();
            return;
        }
        self.releases(task, hold, now_ns);
    }

    /// Adds the release of a lock that never was among the task's holds.
    #[inline]
    pub fn releases(&mut self, task: &Task, hold: &LockHold, now_ns: u64) {
        self.path.push(Op::on(hold, Act::Release, now_ns));
        self.nothing_held(task);
    }

    /// Adds the end of a request without the lock.
    pub fn gave_up(&mut self, task: &Task, lock: Instance) {
        self.path.failed(lock);
        self.nothing_held(task);
    }

    /// Prepares for a request or a successful trylock: failed attempts at the same lock belong to it.
    #[inline]
    pub fn requests(&mut self, lock: Instance, mode: Option<Mode>, acquire: AcquireKind) {
        let TaskPath { failed, path, .. } = self;
        if acquire != AcquireKind::Try {
            failed.retain(|op| (op.lock, op.mode) != (lock, mode));
            path.tried_before(lock, mode);
        }
        if failed.iter().any(|op| op.lock == lock) {
            failed.drain(..).rev().for_each(|op| path.push_first(op));
        }
    }

    /// Adds a failed trylock.
    pub fn was_busy(&mut self, task: &Task, op: Op) {
        if !task.holds.is_empty() {
            self.path.push(op);
            return;
        }
        self.failed.retain(|other| other.lock == op.lock && other.mode != op.mode);
        self.failed.push(op);
        if !task.frames.is_empty() {
            // A folio may turn out to have been held.
            self.path.push(op);
            self.path.emptied(true);
        }
    }

    fn nothing_held(&mut self, task: &Task) {
        if task.holds.is_empty() {
            self.failed = self.path.failed_last();
            self.path.emptied(!task.frames.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(act: Act, addr: u64, class: LockClass) -> Op {
        Op {
            lock: Instance { addr, life: 1 },
            time_ns: addr,
            site: SiteId(1),
            class,
            mode: Some(Mode::Exclusive),
            act,
            acquire: AcquireKind::Blocking,
            basis: HoldBasis::Requesting,
            sure: true,
        }
    }

    fn takes(addr: u64) -> [Op; 2] {
        [Act::Take, Act::Release].map(|act| op(act, addr, LockClass::Ptl))
    }

    #[test]
    fn immediate_repetitions_are_kept_once() {
        let mut path = Path::default();
        path.push(op(Act::Take, 1, LockClass::IMmap));
        for addr in [7, 7, 7, 8, 7] {
            takes(addr).into_iter().for_each(|op| path.push(op));
        }
        assert_eq!(path.ops().iter().map(|o| o.lock.addr).collect::<Vec<_>>(), [1, 7, 7, 8, 8, 7, 7]);
        assert!(!path.is_cut());
    }

    #[test]
    fn a_cut_path_keeps_the_held_locks() {
        let mut path = Path::default();
        path.push(op(Act::Take, 1, LockClass::IMmap));
        for addr in 10..200 {
            takes(addr).into_iter().for_each(|op| path.push(op));
        }
        assert!(path.is_cut() && path.ops().len() <= KEPT + 1);
        assert_eq!(held(path.ops()).len(), 1);
        path.push(op(Act::Release, 1, LockClass::IMmap));
        path.emptied(true);
        assert!(!path.is_cut() && path.ops().is_empty());
    }

    #[test]
    fn a_hold_found_late_joins_several_paths() {
        let mut path = Path::default();
        for addr in [10, 20] {
            takes(addr).into_iter().for_each(|op| path.push(op));
            path.emptied(true);
        }
        let at = path.place(15, None).unwrap();
        path.insert(at, 15, op(Act::Take, 99, LockClass::FolioFile));
        assert_eq!(path.ops().len(), 3);
        let mut requests = Vec::new();
        path.requests_from(at + 1, |r| requests.push((r.op.lock.addr, r.path.len(), r.held.len())));
        assert_eq!(requests, [(20, 1, 1)]);
    }

    #[test]
    fn a_folio_lock_is_placed_after_the_locks_that_precede_it() {
        let mut path = Path::default();
        let classes =
            [LockClass::Ptl, LockClass::FaultMutex, LockClass::Ptl, LockClass::FaultMutex, LockClass::Ptl];
        for (addr, class) in (1..).zip(classes) {
            path.push(op(Act::Take, addr, class));
        }
        let place = |after: &[Class], first, from_ns| {
            path.place(from_ns, Some(&FolioTaken { after: after.to_vec(), first, blocks: false }))
        };
        assert_eq!(place(&[Class::FaultMutex, Class::Ptl], true, 0), Some(3));
        assert_eq!(place(&[Class::FaultMutex], false, 0), Some(4));
        assert_eq!(place(&[], false, 3), Some(2));
        assert_eq!(place(&[Class::VmaLock], true, 0), None);
        assert_eq!(place(&[Class::FaultMutex], true, 5), None);
    }
}
