//! Last holders of locks, for waits that have no holder.
//!
//! This module decides what is remembered. For all locks, the last releases are kept in a table of fixed size, in which
//! a newer release overwrites an older one. For locks with waiters, and locks that a task held at its exit, the last
//! hold is kept regardless of its age, up to a number of locks. A lookup reports if a hold may have been forgotten. A
//! release costs one store.

use crate::{
    event::{Folio, Mapping, Mode, SiteId},
    finding::HoldBasis,
    fx::FxMap,
    holds::{Instance, LockHold},
    lock_class::LockClass,
    tasks::Task,
};

/// Number of releases kept for locks without a waiter; a power of two.
pub const RECENT: usize = 1024;
/// Maximum number of kept locks that have a waiter or were held at an exit.
const KEPT_MAX: usize = 1024;
/// Interval at which locks without a waiter are forgotten.
const PRUNE_EVERY_NS: u64 = 1_000_000_000;

/// End of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The release was seen.
    Released,
    /// The task exited and was not seen to release the lock.
    Exited,
}

/// An ended hold, with its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastHold {
    pub class: LockClass,
    pub instance: Instance,
    /// Only for folio locks.
    pub mapping: Mapping,
    pub index: u64,
    pub mode: Option<Mode>,
    pub basis: HoldBasis,
    /// Lost records could show that it ended otherwise.
    pub lossy: bool,
    pub since_ns: u64,
    pub end_ns: u64,
    pub ending: Ending,
    pub tid: u32,
    pub tgid: u32,
    pub comm: [u8; 16],
    pub cpu: u16,
    /// The operation that the task was in when the hold ended.
    pub site: Option<SiteId>,
}

impl LastHold {
    fn new(task: &Task, hold: &LockHold, end_ns: u64, ending: Ending) -> LastHold {
        LastHold {
            class: hold.class,
            instance: hold.instance,
            mapping: hold.mapping,
            index: hold.index,
            mode: hold.mode,
            basis: hold.basis,
            lossy: hold.lossy,
            since_ns: hold.since_ns,
            end_ns,
            ending,
            tid: task.tid.0,
            tgid: task.tgid,
            comm: task.comm,
            cpu: task.cpu,
            site: task.frames.last().map(|f| f.site),
        }
    }
}

/// The last holder of a lock, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    Known(LastHold),
    /// No holder was seen.
    None,
    /// No holder is remembered, but one may have been forgotten.
    Forgotten,
}

impl Last {
    fn end_ns(self) -> u64 {
        match self {
            Last::Known(last) => last.end_ns,
            Last::None | Last::Forgotten => 0,
        }
    }
}

/// A lock whose last holder must not be forgotten.
#[derive(Clone, Copy, Debug)]
struct Kept {
    last: Last,
    /// A task waits for it.
    wanted: bool,
}

/// Last holders by lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastHolders {
    /// Indexed by a hash of the address; empty until the first release.
    recent: Vec<Option<LastHold>>,
    /// True at indices of `recent` where a release of another lock was overwritten.
    replaced: Vec<bool>,
    kept: FxMap<u64, Kept>,
    /// A lock could not be kept because the bound was reached.
    cut: bool,
    pruned_ns: u64,
}

fn place(addr: u64) -> usize {
    // Locks are aligned and folios are far apart: the high bits of the product depend on all bits of the address.
    (addr.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - RECENT.trailing_zeros())) as usize
}

impl LastHolders {
    /// Records the release of a lock. PTLs are skipped: they are spinlocks, so no task waits long for one.
    #[inline]
    pub fn released(&mut self, task: &Task, hold: &LockHold, now_ns: u64) {
        if hold.class == LockClass::Ptl {
            return;
        }
        let last = LastHold::new(task, hold, now_ns, Ending::Released);
        if !self.kept.is_empty()
            && let Some(kept) = self.kept.get_mut(&hold.instance.addr)
        {
            kept.last = Last::Known(last);
        }
        self.remember(last);
    }

    /// Records that a folio held by this task was unlocked, by any task.
    #[inline]
    pub fn unlocked(&mut self, task: &Task, folio: Folio, now_ns: u64) {
        if let Some(hold) = task.holds.iter().find(|h| h.instance.addr == folio.0) {
            self.released(task, hold, now_ns);
        }
    }

    /// Records the exit of a task that holds this lock.
    pub fn exited(&mut self, task: &Task, hold: &LockHold, now_ns: u64) {
        if hold.class == LockClass::Ptl || hold.basis == HoldBasis::Requesting {
            return;
        }
        let last = LastHold::new(task, hold, now_ns, Ending::Exited);
        let wanted = self.kept.get(&hold.instance.addr).is_some_and(|kept| kept.wanted);
        self.keep(hold.instance.addr, Kept { last: Last::Known(last), wanted });
        self.remember(last);
    }

    fn remember(&mut self, last: LastHold) {
        if self.recent.is_empty() {
            self.recent = vec![None; RECENT];
            self.replaced = vec![false; RECENT];
        }
        let at = place(last.instance.addr);
        if self.recent[at].is_some_and(|known| known.instance.addr != last.instance.addr) {
            self.replaced[at] = true;
        }
        self.recent[at] = Some(last);
    }

    fn keep(&mut self, addr: u64, kept: Kept) {
        if self.kept.len() < KEPT_MAX || self.kept.contains_key(&addr) {
            self.kept.insert(addr, kept);
            return;
        }
        self.cut = true;
        // Locks left by an exit that no task waits for make room, the oldest first.
        let left = self.kept.iter().filter(|(_, kept)| !kept.wanted);
        let oldest = left.min_by_key(|(addr, kept)| (kept.last.end_ns(), **addr)).map(|(addr, _)| *addr);
        if let Some(oldest) = oldest {
            self.kept.remove(&oldest);
            self.kept.insert(addr, kept);
        }
    }

    /// Records that a task waits for this lock: from now on, its last holder is not forgotten.
    pub fn wanted(&mut self, addr: u64) {
        if let Some(kept) = self.kept.get_mut(&addr) {
            kept.wanted = true;
        } else if addr != 0 {
            let last = self.of(addr);
            self.keep(addr, Kept { last, wanted: true });
        }
    }

    /// Returns true if it is time to update which locks have waiters.
    pub fn is_due(&mut self, now_ns: u64) -> bool {
        let is_due = now_ns.saturating_sub(self.pruned_ns) >= PRUNE_EVERY_NS;
        if is_due {
            self.pruned_ns = now_ns;
        }
        is_due
    }

    /// Forgets locks without a waiter, except those left by an exit.
    pub fn prune(&mut self, is_wanted: impl Fn(u64) -> bool) {
        self.kept.retain(|addr, kept| {
            kept.wanted = is_wanted(*addr);
            let left = matches!(kept.last, Last::Known(LastHold { ending: Ending::Exited, .. }));
            kept.wanted || left
        });
    }

    #[cfg(test)]
    fn is_keeping(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Returns the last holder of the lock at an address, even if that was an earlier lock.
    pub fn of(&self, addr: u64) -> Last {
        if let Some(kept) = self.kept.get(&addr) {
            return kept.last;
        }
        let at = place(addr);
        let recent = self.recent.get(at).copied().flatten();
        let replaced = self.cut || self.replaced.get(at).copied().unwrap_or(false);
        match recent.filter(|last| last.instance.addr == addr) {
            Some(last) => Last::Known(last),
            None if replaced => Last::Forgotten,
            None => Last::None,
        }
    }

    /// Returns the last holder of the folio at an index of a file, even if that was another folio.
    pub fn of_place(&self, mapping: Mapping, index: u64) -> Last {
        let kept = self.kept.values().filter_map(|kept| match kept.last {
            Last::Known(last) => Some(last),
            _ => None,
        });
        let is_there = |last: &LastHold| {
            last.class == LockClass::FolioFile && (last.mapping, last.index) == (mapping, index)
        };
        let all = self.recent.iter().flatten().copied().chain(kept).filter(is_there);
        match all.max_by_key(|last| (last.end_ns, last.instance)) {
            Some(last) => Last::Known(last),
            None if self.cut || self.replaced.iter().any(|r| *r) => Last::Forgotten,
            None => Last::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{Mode, Tid},
        tasks::Tasks,
    };

    fn hold(addr: u64) -> LockHold {
        LockHold {
            class: LockClass::FaultMutex,
            instance: Instance { addr, life: 0 },
            mode: Some(Mode::Exclusive),
            basis: HoldBasis::Requested,
            since_ns: 1,
            lossy: false,
            disputed: false,
            downgraded: false,
            again: 0,
            mapping: Mapping(0),
            index: 0,
        }
    }

    fn end(last: Last) -> Option<(u64, Ending)> {
        match last {
            Last::Known(last) => Some((last.end_ns, last.ending)),
            _ => None,
        }
    }

    #[test]
    fn a_lock_with_waiters_survives_any_number_of_releases() {
        let (mut last, mut tasks) = (LastHolders::default(), Tasks::default());
        let id = tasks.claim(Tid(1), 0);
        assert_eq!(last.of(0x40), Last::None);
        last.released(&tasks[id], &hold(0x40), 10);
        last.released(&tasks[id], &hold(0x80), 11);
        last.wanted(0x40);
        (1..100_000).for_each(|n| last.released(&tasks[id], &hold(0x1_0000 + 0x40 * n), 20));
        assert_eq!(end(last.of(0x40)), Some((10, Ending::Released)));
        assert_eq!(last.of(0x80), Last::Forgotten);
        last.released(&tasks[id], &hold(0x40), 30);
        assert_eq!(end(last.of(0x40)), Some((30, Ending::Released)));
        last.prune(|_| false);
        assert!(!last.is_keeping());
    }

    #[test]
    fn a_lock_held_at_exit_is_kept_until_its_release() {
        let (mut last, mut tasks) = (LastHolders::default(), Tasks::default());
        let id = tasks.claim(Tid(1), 0);
        last.exited(&tasks[id], &hold(0x40), 10);
        last.exited(&tasks[id], &LockHold { basis: HoldBasis::Requesting, ..hold(0x80) }, 10);
        last.prune(|_| false);
        assert_eq!(end(last.of(0x40)), Some((10, Ending::Exited)));
        assert_eq!(last.of(0x80), Last::None);
        last.released(&tasks[id], &hold(0x40), 20);
        last.prune(|_| false);
        assert!(!last.is_keeping());
        assert_eq!(end(last.of(0x40)), Some((20, Ending::Released)));
    }

    #[test]
    fn a_lock_without_room_is_reported_as_forgotten() {
        let mut last = LastHolders::default();
        (1..=KEPT_MAX as u64).for_each(|n| last.wanted(0x40 * n));
        assert_eq!(last.of(0x1_000_040), Last::None);
        last.wanted(0x1_000_040);
        assert_eq!(last.of(0x1_000_040), Last::Forgotten);
    }

    #[test]
    fn locks_held_at_exit_make_room_oldest_first() {
        let (mut last, mut tasks) = (LastHolders::default(), Tasks::default());
        let id = tasks.claim(Tid(1), 0);
        last.wanted(0x40);
        (2..=KEPT_MAX as u64 + 1).for_each(|n| last.exited(&tasks[id], &hold(0x40 * n), n));
        (1..=10_000).for_each(|n| last.released(&tasks[id], &hold(0x1_000_000 + 0x40 * n), 1));
        assert_eq!([0x80, 0xc0].map(|addr| end(last.of(addr))), [None, Some((3, Ending::Exited))]);
        assert!(last.kept.contains_key(&0x40));
    }
}
