//! Deadlocks that exist now: tasks that wait for each other in a circle.
//!
//! This module decides which task waits for which, and how certain that is. A task waits for the tasks that hold the
//! requested lock in a conflicting mode. A reader behind a queued writer waits for the readers that hold the lock.
//!
//! **Silence is not waiting.** A circle is `confirmed` if each wait was reported by the kernel or follows from the
//! holds. It follows if the next party certainly holds the lock in a conflicting mode, because the task cannot have
//! acquired it then. A read lock that readers hold is acquired at once, unless a writer is queued. For such a request,
//! silence is not a wait if the kernel reports waits; if it does not, the circle is `feasible`.
//!
//! The search is in `circles`. Every wait and every hold that is part of a circle is part of a listed one.

mod circles;

use std::{collections::BTreeMap, sync::Arc};

use self::circles::{Circle, WORK_MAX, WaitGraph, circles};
use crate::{
    event::{Mode, SiteId},
    finding::{AcquireKind, Cycle, Doubt, Evidence, Finding, HoldBasis, Party, Queued, Rank, Step},
    fx::FxMap,
    holds::{LockHold, TaskId},
    lock_class::LockClass,
    lock_order::{cycles, feasible::conflict},
    tasks::{Task, Waiting},
    world::World,
};

/// A reported wait behind a queued writer counts once it has lasted this long. A reader that was woken reports the end
/// of its wait only when it runs; new readers do not keep it out meanwhile.
const LASTS_NS: u64 = 1_000_000_000;

/// Longest time from the record of a request, at the entry of the lock function, to the moment at which the task queues.
/// `down_read` may reschedule before it tries (`might_sleep` in kernel/locking/rwsem.c), and a writer that
/// requested the lock later may then queue first. On 5.10 this was seen in 1 of 12 hangs.
const QUEUES_NS: u64 = 100_000_000;

/// Merge key of circles: classes of the locks and sites of the steps.
type Key = Vec<(LockClass, SiteId)>;

/// A lock for which a task waits.
#[derive(Default)]
struct Lock {
    /// Certain holders, as indices into [`Waits::tasks`], with their modes.
    holders: Vec<(u32, Option<Mode>)>,
    /// The writer that has been queued longest: since when, and its index.
    writer: Option<(u64, u32)>,
}

/// The waiting tasks, and the locks for which they wait.
struct Waits<'a> {
    world: &'a World,
    tasks: Vec<(&'a Task, Waiting)>,
    locks: Vec<Lock>,
    by_addr: FxMap<u64, u32>,
}

/// One party of a circle, without the data that only a report needs.
#[derive(Clone, Copy)]
struct CircleParty<'a> {
    task: &'a Task,
    wait: Waiting,
    /// The hold for which the party before waits.
    hold: &'a LockHold,
    /// The writer behind which it waits, if both this and the next party are readers.
    behind: Option<u32>,
    behind_unseen: bool,
    lossy: bool,
    /// Its wait was not reported and does not follow from the holds.
    unseen: bool,
}

/// The best circle with one key.
struct Best<'a> {
    rank: Rank,
    parties: Vec<CircleParty<'a>>,
    unsearched: usize,
}

/// Returns a task's certain hold of a lock or folio.
fn hold_on(task: &Task, addr: u64) -> Option<&LockHold> {
    task.holds.iter().find(|h| h.instance.addr == addr && h.basis != HoldBasis::Requesting)
}

/// Returns one finding per key.
pub(crate) fn findings(world: &World, name: impl Fn(SiteId) -> Arc<str>) -> Vec<Finding> {
    let waits = Waits::of(world);
    let found = circles(&waits.graph(), WORK_MAX).found;
    let mut best: BTreeMap<Key, Best<'_>> = BTreeMap::new();
    for circle in &found {
        let Some((key, fresh)) = waits.judge(circle) else { continue };
        let known = best.get(&key).map(|known| known.rank);
        if known.is_none_or(|rank| fresh.rank < rank) {
            best.insert(key, fresh);
        }
    }
    best.iter().map(|(key, best)| waits.finding(key, best, &name)).collect()
}

impl<'a> Waits<'a> {
    fn of(world: &'a World) -> Waits<'a> {
        let waits = |id: TaskId| Some((&world.tasks[id], world.tasks[id].waiting?));
        let tasks: Vec<(&Task, Waiting)> = world.tasks.ids().filter_map(waits).collect();
        let mut out = Waits { world, tasks, locks: Vec::new(), by_addr: FxMap::default() };
        for (place, (_, wait)) in out.tasks.iter().enumerate() {
            let next = out.locks.len() as u32;
            let at = *out.by_addr.entry(wait.addr).or_insert(next);
            if at == next {
                out.locks.push(Lock::default());
            }
            let lock = &mut out.locks[at as usize];
            let queued = (wait.since_ns, place as u32);
            if wait.mode != Some(Mode::Read) && lock.writer.is_none_or(|first| queued < first) {
                lock.writer = Some(queued);
            }
        }
        for (place, (task, _)) in out.tasks.iter().enumerate() {
            for hold in task.holds.iter().filter(|h| h.basis != HoldBasis::Requesting) {
                let Some(at) = out.by_addr.get(&hold.instance.addr) else { continue };
                let holders = &mut out.locks[*at as usize].holders;
                if holders.last().is_none_or(|(last, _)| *last != place as u32) {
                    holders.push((place as u32, hold.mode));
                }
            }
        }
        out
    }

    /// Makes two groups for each lock: the holders that block a writer, and the holders that block a reader without a
    /// queued writer.
    fn graph(&self) -> WaitGraph {
        let all = |lock: &Lock| lock.holders.iter().map(|(task, _)| *task).collect();
        let writers = |lock: &Lock| {
            let conflicts = lock.holders.iter().filter(|(_, mode)| conflict(Some(Mode::Read), *mode));
            conflicts.map(|(task, _)| *task).collect()
        };
        let group = |(task, wait): &(&Task, Waiting)| {
            if hold_on(task, wait.addr).is_some() {
                // The task waits for itself; this is reported as a relock.
                return None;
            }
            let at = *self.by_addr.get(&wait.addr)?;
            let behind =
                wait.mode != Some(Mode::Read) || self.waits_for_readers(*wait, &self.locks[at as usize]);
            Some(2 * at + u32::from(!behind))
        };
        WaitGraph {
            waits_for: self.tasks.iter().map(group).collect(),
            holders: self.locks.iter().flat_map(|lock| [all(lock), writers(lock)]).collect(),
        }
    }

    /// Returns true if a reader may wait for readers, behind a queued writer.
    fn waits_for_readers(&self, wait: Waiting, lock: &Lock) -> bool {
        let lasts = self.world.now_ns.saturating_sub(wait.since_ns) >= LASTS_NS;
        let writer_first =
            lock.writer.is_some_and(|(since_ns, _)| since_ns <= wait.since_ns.saturating_add(QUEUES_NS));
        lasts && (wait.reported || (!self.world.rules.waits_reported() && writer_first))
    }

    /// Judges a circle, from its least rotation on. `None`: a hold is missing, which cannot happen.
    fn judge(&self, circle: &Circle) -> Option<(Key, Best<'a>)> {
        let n = circle.tasks.len();
        let at = |place: usize| self.tasks[circle.tasks[place % n] as usize];
        let mut parties = Vec::with_capacity(n);
        for place in 0..n {
            let ((_, before), (task, wait), (next, _)) = (at(place + n - 1), at(place), at(place + 1));
            let (hold, of_next) = (hold_on(task, before.addr)?, hold_on(next, wait.addr)?);
            let readers = !conflict(wait.mode, of_next.mode);
            let lock = &self.locks[*self.by_addr.get(&wait.addr)? as usize];
            let behind = lock.writer.filter(|_| readers).map(|(_, writer)| writer);
            let kept = of_next.class != LockClass::Ptl || !self.world.rules.ptl_release_unseen();
            parties.push(CircleParty {
                task,
                wait,
                hold,
                behind,
                behind_unseen: readers && behind.is_none(),
                // Lost records may show that it acquired the lock, or released one, since then.
                lossy: hold.lossy || !self.world.losses.are_sparse(task.last_ns, u64::MAX),
                unseen: !wait.reported && (readers || !kept),
            });
        }
        let mut key: Key = parties.iter().map(|p| (p.hold.class, p.wait.site)).collect();
        let by = cycles::least_rotation(&key);
        key.rotate_left(by);
        parties.rotate_left(by);
        let rank = if parties.iter().any(|p| p.lossy) {
            Rank::Incomplete
        } else if parties.iter().any(|p| p.unseen) {
            Rank::Feasible
        } else {
            Rank::Confirmed
        };
        Some((key, Best { rank, parties, unsearched: circle.unsearched }))
    }

    fn finding(&self, key: &Key, best: &Best<'_>, name: impl Fn(SiteId) -> Arc<str>) -> Finding {
        let parties = &best.parties;
        let writer = |(step, reader): (usize, &CircleParty<'_>)| {
            let (task, wait) = self.tasks[reader.behind? as usize];
            Some(Queued { step, party: party(task, wait, &name), waiting: true })
        };
        let since = parties.iter().map(|p| p.wait.since_ns).max().unwrap_or(0);
        Finding {
            id: cycles::id(key, &name),
            rank: best.rank,
            count: 1,
            first_ns: since,
            last_ns: since,
            doubts: best.doubts(),
            evidence: Evidence::Cycle(Cycle {
                queued: parties.iter().enumerate().filter_map(writer).collect(),
                steps: parties.iter().map(|p| p.step(&name)).collect(),
                gate: None,
                recordings: Vec::new(),
            }),
        }
    }
}

impl Best<'_> {
    fn doubts(&self) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        doubts.extend((self.rank == Rank::Incomplete).then_some(Doubt::Loss));
        for party in &self.parties {
            let class = party.wait.class;
            doubts.extend(party.hold.basis.is_inferred().then_some(Doubt::InferredHold(party.hold.class)));
            doubts.extend(party.behind_unseen.then_some(Doubt::QueuedWriter { class, writer_seen: false }));
            doubts.extend(party.unseen.then_some(Doubt::WaitNotSeen { tid: party.task.tid, class }));
        }
        doubts.extend((self.unsearched > 0).then_some(Doubt::CirclesCut(self.unsearched)));
        doubts.sort_unstable();
        doubts.dedup();
        doubts
    }
}

impl CircleParty<'_> {
    fn step(&self, name: impl Fn(SiteId) -> Arc<str>) -> Step {
        Step {
            from: self.hold.class,
            from_mode: self.hold.mode,
            from_lock: self.hold.instance.addr,
            from_basis: self.hold.basis,
            to: self.wait.class,
            to_mode: self.wait.mode,
            to_lock: self.wait.addr,
            acquire: AcquireKind::Blocking,
            sure: true,
            party: party(self.task, self.wait, name),
            count: 1,
            waiting: !self.unseen,
        }
    }
}

/// Returns a waiting task as a party. Its requested lock is not among its holds.
pub(crate) fn party(task: &Task, wait: Waiting, name: impl Fn(SiteId) -> Arc<str>) -> Party {
    let holds = task.holds.iter().filter(|h| h.basis != HoldBasis::Requesting);
    Party {
        task: task.reference(),
        site: name(wait.site),
        time_ns: wait.since_ns,
        stack: task.stack(),
        holds: holds.map(LockHold::shown).collect(),
    }
}
