//! Leases of all tasks, and the ones that ended last.
//!
//! This module decides which leases are kept, and which of them an unlink hits. `windows` decides what a hit is worth.

use std::collections::VecDeque;

use super::{Hit, Lease, LeaseKind, LeaseStart};
use crate::{
    event::{Addr, Class, Event, Mm, Table, Tid},
    finding::{TaskRef, comm_text},
    holds::{HoldSet, Instance, LockHold, PerTask, TaskId},
    loss::{Missing, Span},
    tables::Generation,
    tasks::Task,
    view::LeaseView,
    world::World,
};

/// Number of ended leases kept for unlinks that are reported late and as an interval.
const ENDED_KEPT: usize = 256;

/// A removed link, and the time of its removal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unlink {
    pub mm: Mm,
    /// `None`: all links of this mm to the table.
    pub gib: Option<Addr>,
    pub table: Table,
    pub span: Span,
    pub freed: bool,
}

impl Unlink {
    fn concerns(&self, lease: &Lease, generation: u32) -> bool {
        let same_life = matches!(lease.kind, LeaseKind::Walk(_)) || lease.of.generation == generation;
        same_life && lease.start_ns < self.span.to_ns && lease.reaches(self.mm, self.table, self.gib)
    }
}

/// An ended lease and the task that held it.
#[derive(Clone, Debug)]
struct Ended {
    lease: Lease,
    tid: Tid,
    tgid: u32,
    comm: [u8; 16],
    until_ns: u64,
}

/// Leases of one task.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskLeases {
    all: Vec<Lease>,
    /// Table of the last lookup; lookups that were counted but not sent belong to it.
    last_table: Option<Table>,
    /// The list of tasks with leases contains this task.
    listed: bool,
}

/// Leases of all tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    of_task: PerTask<TaskLeases>,
    /// Tasks that have leases; may list tasks that have none any more.
    lessees: Vec<TaskId>,
    ended: VecDeque<Ended>,
    /// Leases that ended before this time may have been forgotten.
    ended_floor_ns: u64,
    /// Number of leases so far.
    pub count: u64,
    /// Number of unlinks that may have hit a forgotten lease.
    pub forgotten: u64,
}

impl Leases {
    pub fn add_task(&mut self, id: TaskId) {
        self.of_task.add(id);
    }

    /// Forgets a task whose leases have ended; its buffer is reused.
    pub fn forget_task(&mut self, id: TaskId) {
        let task = &mut self.of_task[id];
        task.all.clear();
        task.last_table = None;
    }

    #[inline]
    pub fn of(&self, id: TaskId) -> &[Lease] {
        &self.of_task[id].all
    }

    #[inline]
    pub fn of_mut(&mut self, id: TaskId) -> &mut [Lease] {
        &mut self.of_task[id].all
    }

    /// Number of live leases.
    pub fn alive(&self) -> usize {
        self.of_task.iter().map(|task| task.all.len()).sum()
    }

    /// Begins a lease and returns it: it is large, and is completed where it is.
    #[inline]
    pub fn begin(&mut self, id: TaskId, start: &LeaseStart<'_>) -> &mut Lease {
        self.count += 1;
        let task = &mut self.of_task[id];
        if !std::mem::replace(&mut task.listed, true) {
            self.lessees.push(id);
        }
        task.all.push_mut(Lease::new(start))
    }

    /// Records the table of a lookup. Returns that of the lookup before.
    #[inline]
    pub fn looked_up(&mut self, id: TaskId, table: Option<Table>) -> Option<Table> {
        std::mem::replace(&mut self.of_task[id].last_table, table)
    }

    /// Removes a lease that has ended. If the moments of unlinks are not known, a lease that was not hit is kept: an
    /// unlink may turn out to have hit it.
    #[inline]
    pub fn remove(&mut self, world: &World, id: TaskId, at: usize) {
        let leases = &mut self.of_task[id].all;
        if leases[at].hit.is_some() || world.rules.unshare_exact() {
            leases.swap_remove(at);
            return;
        }
        let lease = leases.swap_remove(at);
        if self.ended.len() == ENDED_KEPT
            && let Some(oldest) = self.ended.pop_front()
        {
            self.ended_floor_ns = self.ended_floor_ns.max(oldest.until_ns);
        }
        let Task { tid, tgid, comm, .. } = world.tasks[id];
        let until_ns = lease.ends().1;
        self.ended.push_back(Ended { lease, tid, tgid, comm, until_ns });
    }

    /// Handles the release of a lock; `holds` are the remaining locks of the task.
    #[inline]
    pub fn lock_released(&mut self, id: TaskId, lock: u64, now_ns: u64, holds: &[LockHold]) {
        for lease in &mut self.of_task[id].all {
            lease.lock_released(lock, now_ns, holds);
        }
    }

    /// Returns the lease through whose pointer the task acquires the PTL of a table: one PTL serves all mms that share
    /// the table, and is acquired for the pointer that was looked up last.
    pub fn last_of(&mut self, id: TaskId, table: u64) -> Option<&mut Lease> {
        let of_table = self.of_task[id].all.iter_mut().filter(|lease| lease.of.table.0 == table);
        of_table.max_by_key(|lease| lease.start_ns)
    }

    /// Confirms that a lock was held all the time, although records were lost meanwhile.
    pub fn redeem(&mut self, id: TaskId, lock: Instance) {
        self.of_mut(id).iter_mut().for_each(|lease| lease.cover.redeem(lock));
    }

    /// Marks the leases of a task as doubtful: a lock may have protected them that was not known to be held.
    pub fn doubt(&mut self, id: TaskId) {
        self.of_mut(id).iter_mut().for_each(|lease| lease.lossy = true);
    }

    /// Marks a lock as doubtful: another task may have released it.
    pub fn doubt_lock(&mut self, id: TaskId, lock: u64) {
        self.of_mut(id).iter_mut().for_each(|lease| lease.doubt_lock(lock));
    }

    /// Handles a loss in which records of the task may be missing.
    pub fn touched_by_loss(&mut self, id: TaskId, missing: Missing) {
        self.of_mut(id).iter_mut().for_each(|lease| lease.touched_by_loss(missing));
    }

    /// Marks other tasks' leases on the link as unlinked.
    pub fn unlink(&mut self, world: &World, id: TaskId, event: &Event, unlink: Unlink, of: Generation) {
        let mut at = 0;
        while at < self.lessees.len() {
            let other = self.lessees[at];
            let holder = &mut self.of_task[other];
            if holder.all.is_empty() {
                holder.listed = false;
                self.lessees.swap_remove(at);
                continue;
            }
            at += 1;
            if other == id {
                continue;
            }
            for lease in holder.all.iter_mut().filter(|lease| unlink.concerns(lease, of.generation)) {
                hit(world, id, event, unlink, of, &world.tasks[other], lease);
            }
            if unlink.freed {
                free_hits(&mut holder.all, of.generation, unlink);
            }
        }
    }

    /// An unlink whose moment is known only as an interval may have hit leases that ended inside the interval. Calls
    /// `over` for each of them.
    pub fn unlink_ended(
        &mut self,
        world: &World,
        id: TaskId,
        event: &Event,
        unlink: Unlink,
        of: Generation,
        mut over: impl FnMut(&Lease, TaskRef),
    ) {
        let Span { from_ns, to_ns } = unlink.span;
        let site = world.on_behalf(id, event.site);
        let unsure = world.tasks[id].is_site_unsure(event.time_ns);
        for ended in &mut self.ended {
            let Ended { lease, tid, tgid, comm, until_ns } = ended;
            if !unlink.concerns(lease, of.generation) || *tid == event.tid || *until_ns <= from_ns {
                continue;
            }
            lease.lossy |= unsure || world.losses.touches(event.cpu, lease.start_ns.min(from_ns), to_ns);
            let span = Span { from_ns: from_ns.max(lease.start_ns), to_ns };
            lease.hit = Some(Box::new(Hit::new(span, world.party(id, site, to_ns), site, of, None)));
            over(lease, TaskRef { tid: *tid, tgid: *tgid, comm: comm_text(comm), cpu: lease.cpu });
            lease.hit = None;
        }
    }

    /// Records an unlink that may have hit a lease which is not remembered.
    pub fn may_have_hit_forgotten(&mut self, unlink: Unlink) {
        if unlink.span.from_ns < self.ended_floor_ns {
            self.forgotten += 1;
        }
    }

    /// At most `limit` live leases, oldest first.
    pub fn views(&self, world: &World, limit: usize) -> Vec<LeaseView> {
        let held =
            world.tasks.ids().flat_map(|id| self.of(id).iter().map(move |lease| (&world.tasks[id], lease)));
        let mut held: Vec<_> = held.collect();
        held.sort_by_key(|(task, lease)| (lease.start_ns, task.tid, lease.pte));
        let view = |(task, lease): &(&Task, &Lease)| LeaseView {
            task: task.reference(),
            site: world.name(lease.site),
            mm: lease.mm,
            addr: lease.addr,
            pte: lease.pte,
            table: lease.of.table,
            generation: lease.of.generation,
            since_ns: lease.start_ns,
            dormant: lease.is_dormant(),
            stale: lease.hit.is_some(),
            holds: HoldSet::of(&task.holds).to_vec(),
        };
        held.iter().take(limit).map(view).collect()
    }
}

/// Records the free of a table's page in all open windows on the table, of any mm.
fn free_hits(leases: &mut [Lease], generation: u32, unlink: Unlink) {
    for hit in leases.iter_mut().filter_map(|lease| lease.hit.as_mut()) {
        if (hit.of.table, hit.of.generation) == (unlink.table, generation) {
            hit.freed_ns.get_or_insert(unlink.span.to_ns);
        }
    }
}

/// Marks a lease of `holder` as hit by an unlink of another task.
fn hit(
    world: &World,
    id: TaskId,
    event: &Event,
    unlink: Unlink,
    of: Generation,
    holder: &Task,
    lease: &mut Lease,
) {
    if lease.hit.is_some() {
        return;
    }
    let Span { from_ns, to_ns } = unlink.span;
    let lossy = world.tasks[id].is_site_unsure(event.time_ns)
        || lease.is_kept_by_doubt(&holder.holds)
        || world.losses.on(holder.cpu, holder.last_ns, to_ns).ends_leases()
        || world.losses.on(event.cpu, lease.start_ns.min(from_ns), to_ns).ends_leases()
        // The record of the unlink by the lease's own mm may be lost.
        || (lease.mm != unlink.mm && world.losses.anywhere(lease.start_ns, to_ns).deeds());
    let site = world.on_behalf(id, event.site);
    let is_ptl =
        |h: &&LockHold| h.class.wire() == Class::Ptl && world.is_ptl_of(h.instance.addr, unlink.table);
    // If PTL releases are not seen, a PTL requested before the unlink may be released by the time of the report.
    let is_sure = unlink.span.is_moment() || !world.rules.ptl_release_unseen();
    let ptl = world.tasks[id].holds.iter().find(is_ptl).filter(|_| is_sure);
    let ptl = ptl.map(|h| (h.instance.addr, h.since_ns));
    let span = Span { from_ns: from_ns.max(lease.start_ns), to_ns };
    lease.lossy |= lossy;
    lease.hit = Some(Box::new(Hit::new(span, world.party(id, site, to_ns), site, of, ptl)));
}
