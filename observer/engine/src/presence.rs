//! Presence of tasks: decides if operations of two tasks could have happened at the same time.
//!
//! Two tasks are ordered in every run if one forks the other, or waits for its exit. The recorded order of their
//! operations alone orders nothing. This module decides if two tasks existed together, and if that is certain in spite
//! of lost records.

use crate::{
    event::Tid,
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
        self.exit_ns(of).is_some_and(|exit_ns| exit_ns + GONE_NS < now_ns)
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
