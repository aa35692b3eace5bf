//! Presence of tasks: decides if operations of two tasks could have happened at the same time.
//!
//! Two tasks are ordered in every run if one forks the other, or waits for its exit. The recorded order of their
//! operations alone orders nothing. This module decides if two tasks existed together, and if that is certain in spite
//! of lost records.

use std::collections::VecDeque;

use crate::{
    event::Tid,
    holds::TaskId,
    lock_order::path::Op,
    loss::Losses,
    recent::Recent,
    tasks::{Task, Tasks},
};

/// Lock order is judged within this time after it was recorded.
const GONE_NS: u64 = 3_000_000_000;

/// An operation of a task, with the time since which the task existed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presence {
    /// Serial of the task, unique within a run.
    pub serial: u64,
    pub tid: Tid,
    /// Time of the task's fork; 0: not seen, so the task may have existed all the time.
    pub made_ns: u64,
    /// Time when the task was first seen.
    pub seen_ns: u64,
    /// Begin of the operation's path: the task held no lock then.
    pub begin_ns: u64,
    pub time_ns: u64,
}

impl Presence {
    pub fn of(task: &Task, time_ns: u64, path: &[Op]) -> Presence {
        let begin_ns = path.first().map_or(time_ns, |op| op.time_ns.min(time_ns));
        Presence {
            serial: task.serial,
            tid: task.tid,
            made_ns: task.made_ns,
            seen_ns: task.born_ns,
            begin_ns,
            time_ns,
        }
    }

    /// Returns true if the enclosing watched operation has not ended: not all holds of the task may be known.
    pub fn is_inside(&self, tasks: &Tasks) -> bool {
        let begin_ns = self.task(tasks).and_then(|task| task.frames.first()).map(|frame| frame.begin_ns);
        begin_ns.is_some_and(|begin_ns| begin_ns <= self.time_ns)
    }

    /// Returns the task if it still exists.
    pub fn task<'a>(&self, tasks: &'a Tasks) -> Option<&'a Task> {
        tasks.find(self.tid).map(|id| &tasks[id]).filter(|task| task.serial == self.serial)
    }
}

/// Number of forked children that are remembered; one that is never seen makes room.
const BIRTHS_KEPT: usize = 16_384;
/// Exits that are remembered: at least the first number, and those of the last `EXITS_KEPT_NS` up to the second number.
const EXITS_KEPT: (usize, usize) = (4096, 65_536);
const EXITS_KEPT_NS: u64 = 20_000_000_000;
/// Longest time that a task is kept after its exit was reported, and the maximum number of such tasks.
pub(crate) const EXIT_NS: u64 = 1_000_000_000;
const EXITING_MAX: usize = 256;

/// A task whose exit was reported but that still exists.
#[derive(Clone, Copy, Debug)]
struct Exiting {
    at_ns: u64,
    id: TaskId,
    serial: u64,
}

/// Forks and exits of tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lifetimes {
    /// Forked children that were not seen yet, by thread id.
    births: Recent,
    /// Tasks that exited, by serial.
    exits: Recent,
    exiting: VecDeque<Exiting>,
}

impl Lifetimes {
    pub fn exits(&self) -> &Recent {
        &self.exits
    }

    pub fn forked(&mut self, child: Tid, now_ns: u64) {
        self.births.add(child.0.into(), now_ns);
        self.births.keep(BIRTHS_KEPT);
    }

    /// Returns the time of the fork of a task that is seen for the first time. `None`: the fork was not seen.
    pub fn made_ns(&mut self, tid: Tid) -> Option<u64> {
        let made_ns = self.births.take(tid.0.into());
        // The fork may be one that was forgotten; then it happened at this time or before.
        made_ns.or(Some(self.births.forgotten_ns()).filter(|at_ns| *at_ns > 0))
    }

    pub fn exited(&mut self, serial: u64, now_ns: u64) {
        self.exits.add(serial, now_ns);
        self.exits.keep_recent(EXITS_KEPT, now_ns.saturating_sub(EXITS_KEPT_NS));
    }

    /// Records a reported exit of a task that is kept for a while.
    pub fn exits_soon(&mut self, id: TaskId, serial: u64, now_ns: u64) {
        self.exiting.push_back(Exiting { at_ns: now_ns, id, serial });
    }

    /// If no more exiting tasks can be kept, returns the time of the oldest report.
    pub fn oldest_exiting_ns(&self) -> Option<u64> {
        let oldest = self.exiting.front().filter(|_| self.exiting.len() == EXITING_MAX);
        oldest.map(|exiting| exiting.at_ns)
    }

    /// Returns an exiting task whose report is old enough, and forgets it.
    pub fn take_exiting(&mut self, is_over: impl Fn(u64) -> bool) -> Option<(TaskId, u64)> {
        let exiting = self.exiting.pop_front_if(|exiting| is_over(exiting.at_ns))?;
        Some((exiting.id, exiting.serial))
    }
}

/// Evidence for the existence of tasks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presences<'a> {
    pub tasks: &'a Tasks,
    /// Tasks that exited, by serial.
    pub exits: &'a Recent,
    pub losses: &'a Losses,
}

impl Presences<'_> {
    /// Returns `Some(true)` if both tasks existed at both moments, each before the other began its path. `Some(false)`:
    /// perhaps, because the exit of the first or the fork of the second may be lost.
    pub fn together(&self, a: &Presence, b: &Presence) -> Option<bool> {
        let (first, second) = if a.time_ns <= b.time_ns { (a, b) } else { (b, a) };
        if second.made_ns > first.begin_ns {
            return None;
        }
        let is_there = self.is_there(first, second.time_ns)?;
        let is_new = second.made_ns == 0 && second.seen_ns > first.begin_ns;
        Some(is_there && !(is_new && self.losses.anywhere(first.begin_ns, second.seen_ns).ends()))
    }

    /// Exit time of the task, if it exited; 0: before the oldest remembered exit.
    pub fn exit_ns(&self, of: &Presence) -> Option<u64> {
        let exit_ns = || self.exits.get(of.serial).unwrap_or(0);
        of.task(self.tasks).is_none().then(exit_ns)
    }

    /// Returns true if the task exited before all operations that are still to be judged.
    pub fn is_gone(&self, of: &Presence, now_ns: u64) -> bool {
        self.exit_ns(of).is_some_and(|exit_ns| exit_ns.saturating_add(GONE_NS) < now_ns)
    }

    /// Returns `Some(true)` if a task existed at a time after its operation, `Some(false)` if perhaps.
    fn is_there(&self, of: &Presence, at_ns: u64) -> Option<bool> {
        if let Some(exit_ns) = self.exits.get(of.serial) {
            return (exit_ns >= at_ns).then_some(true);
        }
        match of.task(self.tasks) {
            // The task was active since.
            Some(task) if task.last_ns >= at_ns => Some(true),
            Some(task) => Some(!self.losses.anywhere(task.last_ns, at_ns).ends()),
            // The exit is not remembered any more.
            None => (at_ns <= self.exits.forgotten_ns()).then_some(false),
        }
    }
}
