//! Begin and end of tasks, and silences in which records of a task may have been lost.
//!
//! This module decides in which order the rules learn of them.

use super::Engine;
use crate::{
    event::{Body, Event, Mm, Tid},
    holds::TaskId,
    lock_order::SETTLED_NS,
    loss::{Missing, Span, UNSURE_NS},
    presence::EXIT_NS,
};

impl Engine {
    /// Returns the task of an event. The rules doubt what they keep of a task if records of it may have been lost since
    /// its last event.
    #[inline]
    pub(super) fn arrives(&mut self, event: &Event) -> TaskId {
        let id = self.world.tasks.claim(event.tid, event.cpu);
        let task = &mut self.world.tasks[id];
        task.cpu = event.cpu;
        if task.last_ns == 0 {
            self.first_seen(id, event);
        }
        if !self.world.losses.is_whole_since(self.world.tasks[id].last_ns) {
            self.was_silent(id, event.time_ns);
        }
        id
    }

    /// Initializes a task at its first event. Its earlier records, since it was forked or since the run began, may be
    /// lost.
    fn first_seen(&mut self, id: TaskId, event: &Event) {
        let made_ns = self.world.lifetimes.made_ns(event.tid);
        self.leases.add_task(id);
        self.lock_order.add_task(id);
        self.predictions.add_task(id);
        let task = &mut self.world.tasks[id];
        task.born_ns = made_ns.unwrap_or(event.time_ns);
        task.made_ns = made_ns.unwrap_or(0);
        // A `Task` record precedes all other records of a task, so nothing before it is missing.
        task.last_ns = match event.body {
            Body::Task { .. } => event.time_ns,
            _ => made_ns.unwrap_or(0),
        };
    }

    /// Handles a task's first event after a silence in which records of it may have been lost.
    fn was_silent(&mut self, id: TaskId, now_ns: u64) {
        let task = &self.world.tasks[id];
        // A task at rest has released everything that it acquired more than `UNSURE_NS` ago.
        let from_ns = match task.is_at_rest() {
            true => task.last_ns.max(now_ns.saturating_sub(UNSURE_NS)),
            false => task.last_ns,
        };
        let missing = self.world.losses.anywhere(from_ns, now_ns);
        if missing.is_nothing() {
            return;
        }
        let unsure_ns = task.loss.unsure_since_ns;
        let is_adrift = task.frames.is_empty() && task.loss.is_adrift(now_ns);
        let adrift_ns = if is_adrift { task.loss.adrift_since_ns() } else { 0 };
        let is_sparse = unsure_ns == 0 || self.world.losses.are_sparse(unsure_ns, now_ns);
        let until_ns = self.world.losses.latest_ns().min(now_ns);
        self.touched_by_loss(id, missing, Span { from_ns, to_ns: until_ns }, is_sparse);
        if !is_sparse {
            self.doubt_since(id, unsure_ns);
        }
        // A folio that is locked without a record becomes known only by its release.
        let is_silent = missing.concerns_folios() && !self.world.tasks[id].frames.is_empty();
        if is_silent || self.lock_order.path(id).is_lossy() {
            self.lock_order.doubt(&self.world, id);
        }
        if missing.concerns_folios() && adrift_ns > 0 {
            // The same applies inside an operation whose begin was lost.
            self.doubt_order_since(id, adrift_ns);
        }
    }

    /// Handles a loss in which records of a task may be missing: each rule doubts what it keeps of the task.
    fn touched_by_loss(&mut self, id: TaskId, missing: Missing, span: Span, sparse: bool) {
        let task = &mut self.world.tasks[id];
        if task.touched_by_loss(missing, span, sparse) {
            self.lock_order.task(id).touched_by_loss();
        }
        self.leases.touched_by_loss(id, missing);
        self.predictions.touched_by_loss(task, id, missing);
    }

    /// Marks all accesses and edges of a task since `since_ns` as doubtful: it held, or may have held, a lock unseen.
    pub(super) fn doubt_since(&mut self, id: TaskId, since_ns: u64) {
        self.predictions.doubt_since(id, since_ns);
        self.doubt_order_since(id, since_ns);
    }

    /// Like `doubt_since`, for edges only: pending accesses are corrected otherwise.
    pub(super) fn doubt_order_since(&mut self, id: TaskId, since_ns: u64) {
        let serial = self.world.tasks[id].serial;
        self.lock_order.doubt_since(serial, since_ns);
    }

    /// Handles the end of the run: open leases end here.
    pub(super) fn run_ends(&mut self, id: TaskId) {
        let last_ns = self.world.tasks[id].last_ns;
        let missing = self.world.losses.anywhere(last_ns, u64::MAX);
        if !missing.is_nothing() {
            let span = Span { from_ns: last_ns, to_ns: self.world.now_ns };
            self.touched_by_loss(id, missing, span, true);
            self.lock_order.doubt(&self.world, id);
        }
        self.end_leases(id, self.world.now_ns, |_| true);
        let task = &self.world.tasks[id];
        if task.loss.unsure_since_ns != 0 && task.last_ns.saturating_add(SETTLED_NS) > self.world.now_ns {
            // A later release could have shown which lock it held.
            let since_ns = task.loss.unsure_since_ns.max(self.world.now_ns.saturating_sub(SETTLED_NS));
            self.doubt_since(id, since_ns);
        }
    }

    /// Handles a record of a task's process, name and mm. Another process means another task with this thread id.
    pub(super) fn task_is(&mut self, id: TaskId, event: &Event, (tgid, comm, mm): (u32, [u8; 16], Mm)) {
        if self.world.tasks[id].tgid != 0 && self.world.tasks[id].tgid != tgid {
            self.task_gone(id, event.time_ns);
            self.world.tasks.claim(event.tid, event.cpu);
            self.first_seen(id, event);
        }
        let task = &mut self.world.tasks[id];
        (task.tgid, task.comm, task.mm) = (tgid, comm, mm);
    }

    pub(super) fn forked(&mut self, id: TaskId, child: Tid, now_ns: u64) {
        if let Some(old) = self.world.tasks.find(child).filter(|old| *old != id) {
            // The thread id was reused: the old task's exit was not seen.
            let last_ns = self.world.tasks[old].last_ns;
            self.task_gone(old, last_ns);
        }
        self.world.lifetimes.forked(child, now_ns);
    }

    /// Handles an exit. If the kernel reports it before the task gives its mm up (7.3), the task is kept for a while.
    pub(super) fn task_exits(&mut self, id: TaskId, mm: Mm, now_ns: u64) {
        self.reap_exited(now_ns);
        if mm.0 == 0 {
            self.task_gone(id, now_ns);
            return;
        }
        self.world.tasks[id].exiting = true;
        if let Some(oldest_ns) = self.world.lifetimes.oldest_exiting_ns() {
            self.reap(|at_ns| at_ns <= oldest_ns);
        }
        let serial = self.world.tasks[id].serial;
        self.world.lifetimes.exits_soon(id, serial, now_ns);
    }

    /// Removes tasks whose exit was reported long enough ago.
    pub(super) fn reap_exited(&mut self, now_ns: u64) {
        self.reap(|at_ns| at_ns.saturating_add(EXIT_NS) < now_ns);
    }

    pub(super) fn reap_all(&mut self) {
        self.reap(|_| true);
    }

    /// Removes exiting tasks whose exit was reported at a time for which `is_over` returns true.
    fn reap(&mut self, is_over: impl Fn(u64) -> bool) {
        while let Some((id, serial)) = self.world.lifetimes.take_exiting(&is_over) {
            if self.world.tasks.is_alive(id, serial) {
                let last_ns = self.world.tasks[id].last_ns;
                self.task_gone(id, last_ns);
            }
        }
    }

    fn task_gone(&mut self, id: TaskId, now_ns: u64) {
        self.end_leases(id, now_ns, |_| true);
        self.leases.forget_task(id);
        self.lock_order.forget_task(id);
        self.predictions.task_gone(&self.world, id, now_ns);
        self.world.lifetimes.exited(self.world.tasks[id].serial, now_ns);
        for hold in &self.world.tasks[id].holds {
            self.holders.of_folio.remove(&hold.instance.addr);
            self.holders.last.exited(&self.world.tasks[id], hold, now_ns);
        }
        self.world.tasks.remove(id);
    }
}
