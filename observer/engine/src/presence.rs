//! When a task was there: what decides whether two things that two tasks did could have been done at once.
//!
//! What orders two tasks in every run is that one made the other, or was waited for. That one did its part before the other
//! orders nothing. Decides whether two were there together, and whether that is sure although records were lost.

use crate::{
    event::Tid,
    loss::Losses,
    path::Op,
    recent::Recent,
    tasks::{Task, Tasks},
};

/// Lock order is judged within this time after it was seen.
const GONE_NS: u64 = 3_000_000_000;

/// Something that a task did, and since when the task was there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presence {
    /// The task: never the same number twice in a run.
    pub serial: u64,
    pub tid: Tid,
    /// When the task was seen to be made; 0: it was not, and may have been there all the time.
    pub made_ns: u64,
    /// When it was seen first.
    pub seen_ns: u64,
    /// When it began what it did: it held no lock then.
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

    /// Whether the operation in which it happened goes on: what the task holds may not be known yet.
    pub fn is_inside(&self, tasks: &Tasks) -> bool {
        let begin_ns = self.task(tasks).and_then(|task| task.frames.first()).map(|frame| frame.begin_ns);
        begin_ns.is_some_and(|begin_ns| begin_ns <= self.time_ns)
    }

    /// The task, if it is there now.
    pub fn task<'a>(&self, tasks: &'a Tasks) -> Option<&'a Task> {
        tasks.find(self.tid).map(|id| &tasks[id]).filter(|task| task.serial == self.serial)
    }
}

/// Whether tasks were there, as far as is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presences<'a> {
    pub tasks: &'a Tasks,
    /// Tasks that exited, by serial.
    pub exits: &'a Recent,
    pub losses: &'a Losses,
}

impl Presences<'_> {
    /// Whether the two tasks were there at both moments, each before the other began what it did. `Some(false)`: perhaps, since
    /// the end of the one, or the making of the other, may be among what was lost.
    pub fn together(&self, a: &Presence, b: &Presence) -> Option<bool> {
        let (first, second) = if a.time_ns <= b.time_ns { (a, b) } else { (b, a) };
        if second.made_ns > first.begin_ns {
            return None;
        }
        let is_there = self.is_there(first, second.time_ns)?;
        let is_new = second.made_ns == 0 && second.seen_ns > first.begin_ns;
        Some(is_there && !(is_new && self.losses.anywhere(first.begin_ns, second.seen_ns).ends()))
    }

    /// When the task exited, if it did; 0: longer ago than is remembered.
    pub fn exit_ns(&self, of: &Presence) -> Option<u64> {
        let exit_ns = || self.exits.get(of.serial).unwrap_or(0);
        of.task(self.tasks).is_none().then(exit_ns)
    }

    /// Whether the task was gone so long ago that nothing which is still to be judged can meet what it did.
    pub fn is_gone(&self, of: &Presence, now_ns: u64) -> bool {
        self.exit_ns(of).is_some_and(|exit_ns| exit_ns + GONE_NS < now_ns)
    }

    /// Whether a task was there at a time after what it did; `Some(false)`: perhaps.
    fn is_there(&self, of: &Presence, at_ns: u64) -> Option<bool> {
        if let Some(exit_ns) = self.exits.get(of.serial) {
            return (exit_ns >= at_ns).then_some(true);
        }
        match of.task(self.tasks) {
            // It did something since.
            Some(task) if task.last_ns >= at_ns => Some(true),
            Some(task) => Some(!self.losses.anywhere(task.last_ns, at_ns).ends()),
            // Its exit was longer ago than is remembered.
            None => (at_ns <= self.exits.forgotten_ns()).then_some(false),
        }
    }
}
