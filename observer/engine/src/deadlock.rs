//! Deadlocks that are there: tasks that wait for each other in a circle, now.
//!
//! Decides who waits for whom. A task waits for those who hold what it asked for in a mode that keeps it out; a reader that
//! asked after a writer was queued waits, behind that writer, for the readers who hold the lock. A circle of such waits is a
//! deadlock whatever was seen before: `confirmed`.

use std::sync::Arc;

use crate::{
    cycles,
    event::{Mode, SiteId},
    finding::{Cycle, Doubt, Evidence, Finding, Known, Manner, Queued, Rank, Side, Step},
    lock_class::LockClass,
    loss::Losses,
    reach::conflict,
    tasks::{HoldSet, LockHold, Task, TaskId, Tasks, Waiting},
};

/// Longest circle that is looked for.
const STEPS_MAX: usize = 8;

/// Who is waited for: the task, and the writer that queues between two readers.
type Blocker = (TaskId, Option<TaskId>);

/// One side of a circle.
struct Part {
    key: (LockClass, SiteId),
    step: Step,
    /// Who queues for writing before the next side, which has the lock for reading.
    writer: Option<Side>,
    lossy: bool,
}

struct Waits<'a> {
    tasks: &'a Tasks,
    losses: &'a Losses,
    waiting: Vec<TaskId>,
}

/// A hold that is one for certain, of a lock or of a folio.
fn hold_on(task: &Task, addr: u64) -> Option<&LockHold> {
    task.holds.iter().find(|h| h.instance.addr == addr && h.known != Known::Asking)
}

/// All circles, one finding for each.
pub(crate) fn findings(tasks: &Tasks, losses: &Losses, name: impl Fn(SiteId) -> Arc<str>) -> Vec<Finding> {
    let waiting: Vec<TaskId> = tasks.ids().filter(|id| tasks[*id].waiting.is_some()).collect();
    if waiting.is_empty() {
        return Vec::new();
    }
    let waits = Waits { tasks, losses, waiting };
    let mut circles = Vec::new();
    for id in &waits.waiting {
        waits.extend(&mut vec![(*id, None)], &mut circles);
    }
    circles.iter().map(|circle| waits.finding(circle, &name)).collect()
}

impl Waits<'_> {
    fn blockers(&self, id: TaskId) -> Vec<Blocker> {
        let Some(wait) = self.tasks[id].waiting else { return Vec::new() };
        let mut blockers = Vec::new();
        if hold_on(&self.tasks[id], wait.addr).is_some() {
            // It waits for itself, and is told as a relock.
            return blockers;
        }
        for other in self.waiting.iter().filter(|other| **other != id) {
            let Some(hold) = hold_on(&self.tasks[*other], wait.addr) else { continue };
            if conflict(wait.mode, hold.mode) {
                blockers.push((*other, None));
            } else if let Some(writer) = self.queued(wait, [id, *other]) {
                blockers.push((*other, Some(writer)));
            }
        }
        blockers
    }

    /// A writer that was queued before: a reader that is seen to wait where readers have the lock waits behind one.
    fn queued(&self, wait: Waiting, but: [TaskId; 2]) -> Option<TaskId> {
        let before = |id: &&TaskId| {
            let writer = self.tasks[**id].waiting;
            !but.contains(id)
                && writer.is_some_and(|w| {
                    let first = wait.told || w.since_ns <= wait.since_ns;
                    w.addr == wait.addr && w.mode != Some(Mode::Read) && first
                })
        };
        self.waiting.iter().find(before).copied()
    }

    /// `path`: each with the writer between it and the one before.
    fn extend(&self, path: &mut Vec<Blocker>, circles: &mut Vec<Vec<Blocker>>) {
        let (Some((first, _)), Some((last, _))) = (path.first().copied(), path.last().copied()) else {
            return;
        };
        for (next, writer) in self.blockers(last) {
            if next == first {
                let mut circle = path.clone();
                circle[0].1 = writer;
                circles.push(circle);
            } else if next > first && path.len() < STEPS_MAX && path.iter().all(|(id, _)| *id != next) {
                path.push((next, writer));
                self.extend(path, circles);
                path.pop();
            }
        }
    }

    fn finding(&self, circle: &[Blocker], name: impl Fn(SiteId) -> Arc<str>) -> Finding {
        let n = circle.len();
        let wait = |at: usize| self.tasks[circle[at % n].0].waiting;
        let mut parts: Vec<Part> = Vec::new();
        for (at, (id, _)) in circle.iter().enumerate() {
            let task = &self.tasks[*id];
            // What the one before waits for is what this one holds.
            let (Some(before), Some(waits)) = (wait(at + n - 1), task.waiting) else { continue };
            let Some(hold) = hold_on(task, before.addr) else { continue };
            let step = Step {
                from: hold.class,
                from_mode: hold.mode,
                from_lock: before.addr,
                from_known: hold.known,
                to: waits.class,
                to_mode: waits.mode,
                to_lock: waits.addr,
                manner: Manner::Asked,
                sure: true,
                side: side(task, waits, &name),
                count: 1,
                waiting: true,
            };
            let behind = circle[(at + 1) % n].1;
            let writer = behind.and_then(|id| Some(side(&self.tasks[id], self.tasks[id].waiting?, &name)));
            // It may have gone on, or have released the lock, among what was lost since.
            let lossy = hold.lossy || !self.losses.are_sparse(task.last_ns, u64::MAX);
            parts.push(Part { key: (hold.class, waits.site), step, writer, lossy });
        }
        let keys: Vec<_> = parts.iter().map(|p| p.key).collect();
        parts.rotate_left(cycles::least_rotation(&keys));
        self.told(&parts, name)
    }

    fn told(&self, parts: &[Part], name: impl Fn(SiteId) -> Arc<str>) -> Finding {
        let keys: Vec<_> = parts.iter().map(|p| p.key).collect();
        let lossy = parts.iter().any(|p| p.lossy);
        let mut doubts: Vec<Doubt> = Vec::new();
        doubts.extend(lossy.then_some(Doubt::Loss));
        let inferred = |p: &&Part| p.step.from_known.is_inferred();
        doubts.extend(parts.iter().filter(inferred).map(|p| Doubt::InferredHold(p.step.from)));
        doubts.sort_unstable();
        doubts.dedup();
        let queued = parts
            .iter()
            .enumerate()
            .filter_map(|(step, p)| Some(Queued { step, side: p.writer.clone()?, waiting: true }));
        let since = parts.iter().map(|p| p.step.side.time_ns).max().unwrap_or(0);
        Finding {
            id: cycles::id(&keys, name),
            rank: if lossy { Rank::Incomplete } else { Rank::Confirmed },
            count: 1,
            first_ns: since,
            last_ns: since,
            doubts,
            evidence: Evidence::Cycle(Cycle {
                queued: queued.collect(),
                steps: parts.iter().map(|p| p.step.clone()).collect(),
                gate: None,
                recordings: Vec::new(),
            }),
        }
    }
}

/// A task that waits; what it asked for is not among what it holds.
fn side(task: &Task, wait: Waiting, name: impl Fn(SiteId) -> Arc<str>) -> Side {
    let has = |h: &&LockHold| h.known != Known::Asking;
    let mut holds = HoldSet::EMPTY;
    task.holds.iter().filter(has).for_each(|hold| holds.push(hold.into()));
    Side {
        task: task.reference(),
        site: name(wait.site),
        time_ns: wait.since_ns,
        stack: task.stack(),
        holds: holds.to_vec(),
    }
}
