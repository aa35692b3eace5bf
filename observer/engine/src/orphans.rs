//! Waits without a holder: a task waits for a lock that no task is known to hold.
//!
//! This module decides the rank of such a wait. A leaked lock (its holder exited without releasing it, or a release
//! woke no task) hangs every task that requests it, without a circle of waits. A wait counts once it has lasted ten
//! seconds, and ten seconds have passed since the last hold ended, because a woken task needs time to run. It is
//! `confirmed` if the kernel reported the wait and the last holder is known to have released the lock, or to have
//! exited with it. It is `possible` if there may be an unseen holder.
//!
//! Computed from the current state, like circles (`waits`): a wait that has ended is not reported.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    event::{Mapping, Mode, Tid},
    finding::{Doubt, Ended, Evidence, Finding, HoldBasis, LastHolder, OrphanWait, Rank, TaskRef, comm_text},
    last_holders::{Ending, Last, LastHold, LastHolders, RECENT},
    lock_class::LockClass,
    lock_order::waits,
    tasks::{Requested, Task, Waiting},
    world::World,
};

/// Minimum duration of a wait that counts.
const LASTS_NS: u64 = 10_000_000_000;

/// State that a judgement reads.
#[derive(Clone, Copy)]
struct Orphans<'a> {
    world: &'a World,
    last: &'a LastHolders,
}

/// The lock for which a task waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    /// A lock or folio, by its address.
    Address(u64),
    /// The folio at an index of a file, with an unknown address: its lookup did not return.
    Place(Mapping, u64),
}

struct Waiter<'a> {
    task: &'a Task,
    wait: Waiting,
    /// Mapping and index of a folio.
    place: Option<(Mapping, u64)>,
}

/// Verdict on the waits for one lock.
struct Judged<'a> {
    rank: Rank,
    doubts: Vec<Doubt>,
    /// The task that has waited longest.
    waiter: &'a Waiter<'a>,
    object: Object,
    waiters: usize,
    last: Option<LastHold>,
}

/// Returns one finding for each class and site.
pub(crate) fn findings(world: &World, last: &LastHolders) -> Vec<Finding> {
    let orphans = Orphans { world, last };
    let waiters: Vec<(Object, Waiter<'_>)> =
        world.tasks.iter().filter_map(|task| orphans.waiter(task)).collect();
    let is_long = |waiter: &Waiter<'_>| world.now_ns.saturating_sub(waiter.wait.since_ns) >= LASTS_NS;
    if !waiters.iter().any(|(_, waiter)| is_long(waiter)) {
        return Vec::new();
    }
    let mut by_object: BTreeMap<Object, Vec<&Waiter<'_>>> = BTreeMap::new();
    for (object, waiter) in &waiters {
        by_object.entry(*object).or_default().push(waiter);
    }
    by_object.retain(|_, waiters| waiters.iter().any(|waiter| is_long(waiter)));
    let held = orphans.held(&by_object);
    let mut by_id: BTreeMap<String, (Judged<'_>, u64, u64)> = BTreeMap::new();
    for (object, waiters) in by_object.iter().filter(|(object, _)| !held.contains(object)) {
        let Some(fresh) = orphans.judge(*object, waiters) else { continue };
        let (id, since_ns) = (orphans.id(&fresh), fresh.waiter.wait.since_ns);
        let Some((best, count, first_ns)) = by_id.get_mut(&id) else {
            by_id.insert(id, (fresh, 1, since_ns));
            continue;
        };
        *count += 1;
        *first_ns = since_ns.min(*first_ns);
        if (fresh.rank, since_ns) < (best.rank, best.waiter.wait.since_ns) {
            *best = fresh;
        }
    }
    let finding = |(id, (judged, count, first_ns)): (String, (Judged<'_>, u64, u64))| Finding {
        id,
        rank: judged.rank,
        count,
        first_ns,
        last_ns: world.now_ns,
        doubts: judged.doubts.clone(),
        evidence: Evidence::OrphanWait(Box::new(orphans.evidence(&judged))),
    };
    by_id.into_iter().map(finding).collect()
}

impl<'a> Orphans<'a> {
    /// Returns the current wait of a task, if any.
    fn waiter(&self, task: &'a Task) -> Option<(Object, Waiter<'a>)> {
        let requested = match task.requested {
            Some(Requested::Folio { mapping, index, at_ns, site, folio }) => {
                Some((mapping, index, at_ns, site, folio))
            }
            _ => None,
        };
        let place = requested.map(|(mapping, index, ..)| (mapping, index));
        // A lookup outside of all watched operations may have returned long ago without a folio.
        let is_inside = !task.frames.is_empty() || !task.holds.is_empty();
        if let Some(wait) = task.waiting {
            let counts = wait.reported || (wait.class.is_folio() && is_inside);
            return counts.then_some((Object::Address(wait.addr), Waiter { task, wait, place }));
        }
        let (mapping, index, since_ns, site, folio) = requested.filter(|_| is_inside)?;
        let object = if folio.0 == 0 { Object::Place(mapping, index) } else { Object::Address(folio.0) };
        let wait = Waiting {
            addr: folio.0,
            class: LockClass::of_folio(mapping),
            mode: Some(Mode::Exclusive),
            since_ns,
            site: self.world.rules.canonical(task.site(site)),
            reported: false,
        };
        Some((object, Waiter { task, wait, place }))
    }

    /// Returns the locks that a task holds or may hold: a task that requested a lock and does not report a wait may
    /// have acquired it.
    fn held(&self, objects: &BTreeMap<Object, Vec<&Waiter<'_>>>) -> BTreeSet<Object> {
        let mut held = BTreeSet::new();
        for task in self.world.tasks.iter() {
            for hold in &task.holds {
                let addr = hold.instance.addr;
                let waits = task.waiting.is_some_and(|wait| wait.reported && wait.addr == addr);
                if hold.basis == HoldBasis::Requesting && waits {
                    continue;
                }
                let place = Object::Place(hold.mapping, hold.index);
                let is_place = hold.class == LockClass::FolioFile && objects.contains_key(&place);
                held.extend(is_place.then_some(place));
                let object = Object::Address(addr);
                held.extend(objects.contains_key(&object).then_some(object));
            }
        }
        held
    }

    /// Judges the waits for one lock. `None`: the last hold ended too recently.
    fn judge<'w>(&self, object: Object, waiters: &[&'w Waiter<'w>]) -> Option<Judged<'w>> {
        let longest = |waiter: &&&Waiter<'_>| (waiter.wait.since_ns, waiter.task.tid);
        let waiter: &'w Waiter<'w> = waiters.iter().min_by_key(longest)?;
        let (last, class) = (self.last_of(object, waiter), waiter.wait.class);
        let known = match last {
            Last::Known(last) => Some(last),
            _ => None,
        };
        let end_ns = known.map_or(0, |last| last.end_ns);
        if self.world.now_ns.saturating_sub(end_ns) < LASTS_NS {
            return None;
        }
        let mut doubts = Vec::new();
        let tid: Tid = waiter.task.tid;
        doubts.extend((!waiter.wait.reported).then_some(Doubt::WaitNotSeen { tid, class }));
        match last {
            Last::Forgotten => doubts.push(Doubt::HolderForgotten { releases: RECENT }),
            // Other readers may have held the lock since before the run.
            Last::Known(last) if last.mode != Some(Mode::Read) => {}
            _ => doubts.push(Doubt::HolderUnseen),
        }
        doubts.extend(self.may_hold_unseen(waiter, waiters).then_some(Doubt::Inside));
        let from_ns = end_ns.min(waiter.task.last_ns);
        let lossy = known.is_some_and(|last| last.ending == Ending::Exited && last.lossy)
            || !self.world.losses.anywhere(from_ns, u64::MAX).is_nothing();
        let rank = match (lossy, doubts.is_empty()) {
            (true, _) => Rank::Incomplete,
            (false, false) => Rank::Possible,
            (false, true) => Rank::Confirmed,
        };
        doubts.extend(lossy.then_some(Doubt::Loss));
        doubts.sort_unstable();
        Some(Judged { rank, doubts, waiter, object, waiters: waiters.len(), last: known })
    }

    /// Returns the last holder of this lock; an earlier lock at the same address does not count.
    fn last_of(&self, object: Object, waiter: &Waiter<'_>) -> Last {
        let addr = match object {
            Object::Place(mapping, index) => return self.last.of_place(mapping, index),
            Object::Address(addr) => addr,
        };
        let is_same = |last: &LastHold| {
            if !waiter.wait.class.is_folio() {
                return self.world.locks.get(addr).is_some_and(|lock| lock.life == last.instance.life);
            }
            let known = last.mapping.0 != 0;
            last.class.is_folio()
                && waiter.place.is_none_or(|place| !known || place == (last.mapping, last.index))
        };
        match self.last.of(addr) {
            Last::Known(last) if !is_same(&last) => Last::None,
            other => other,
        }
    }

    /// Folios are locked inline, unseen by probes. A task that was inside an operation before the wait began may hold
    /// one.
    fn may_hold_unseen(&self, waiter: &Waiter<'_>, waiters: &[&Waiter<'_>]) -> bool {
        let waits = |task: &Task| waiters.iter().any(|w| w.task.tid == task.tid);
        let since_before =
            |task: &Task| task.frames.first().is_some_and(|frame| frame.begin_ns <= waiter.wait.since_ns);
        waiter.wait.class.is_folio() && self.world.tasks.iter().any(|task| since_before(task) && !waits(task))
    }

    fn id(&self, judged: &Judged<'_>) -> String {
        let wait = &judged.waiter.wait;
        format!("orphan-wait:{}:{}", wait.class.name(), self.world.name(wait.site))
    }

    fn evidence(&self, judged: &Judged<'_>) -> OrphanWait {
        let Waiter { task, wait, place } = judged.waiter;
        OrphanWait {
            class: wait.class,
            mode: wait.mode,
            lock: match judged.object {
                Object::Address(addr) => Some(addr),
                Object::Place(..) => None,
            },
            place: *place,
            party: waits::party(task, *wait, |site| self.world.name(site)),
            reported: wait.reported,
            waiters: judged.waiters as u64,
            last: judged.last.map(|last| self.last_holder(&last)),
        }
    }

    fn last_holder(&self, last: &LastHold) -> LastHolder {
        LastHolder {
            task: TaskRef { tid: Tid(last.tid), tgid: last.tgid, comm: comm_text(&last.comm), cpu: last.cpu },
            site: last.site.map(|site| self.world.name(self.world.rules.canonical(site))),
            basis: last.basis,
            acquired_ns: (!last.basis.is_inferred()).then_some(last.since_ns),
            ended: match last.ending {
                Ending::Released => Ended::Released(last.end_ns),
                Ending::Exited => Ended::Exited(last.end_ns),
            },
        }
    }
}
