//! The lock-order graph: which lock was asked for while which was held, by class and by instance.
//!
//! Decides what an edge is and what is kept of it. Which edges close to a deadlock is decided in `cycles`.

use std::sync::Arc;

use crate::{
    event::{Mode, SiteId, Tid},
    finding::{Known, Manner, Side, Step, TaskRef},
    fx::FxMap,
    lock_class::LockClass,
    tasks::{HoldSet, Instance, LockHold, Task, comm_text},
    view::EdgeView,
};

/// Pairs of instances kept per edge. A pair that is not kept can only make a cycle `class-only` that has instances.
const PAIRS_MAX: usize = 2048;
/// Tasks kept per pair of instances: a cycle of so many steps can still be told to have as many tasks.
const PAIR_TASKS: usize = 4;
/// Other locks held, kept per pair. One that is cut off can only make a cycle worse than it is.
const GATES: usize = 4;

/// Class and mode of one end of an edge.
pub(crate) type End = (LockClass, Option<Mode>);

/// Lock that was held besides `from` every time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    pub class: LockClass,
    pub instance: Instance,
    /// In read mode at least once: keeps no other reader out.
    pub read: bool,
}

/// An edge between two instances. What changes with every occurrence is together, the rest is out of the way.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub last_ns: u64,
    tasks: [Tid; PAIR_TASKS],
    tasks_n: u8,
    pub lossy: bool,
    gates: [Option<Gate>; GATES],
    pub first: Box<Witness>,
    /// The first by another task than that: a cycle shows a task for each side.
    other: Option<Box<Witness>>,
}

/// One occurrence of an edge between two instances.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    pub time_ns: u64,
    pub from_known: Known,
    site: SiteId,
    task: (Tid, u32, [u8; 16], u16),
    holds: HoldSet,
}

impl Witness {
    fn of(task: &Task, hold: &LockHold, ask: &Ask) -> Box<Witness> {
        Box::new(Witness {
            time_ns: ask.time_ns,
            from_known: hold.known,
            site: ask.site,
            task: (task.tid, task.tgid, task.comm, task.cpu),
            holds: HoldSet::of(&task.holds),
        })
    }

    pub fn tid(&self) -> Tid {
        self.task.0
    }

    fn task_ref(&self) -> TaskRef {
        let (tid, tgid, comm, cpu) = self.task;
        TaskRef { tid, tgid, comm: comm_text(&comm), cpu }
    }
}

impl Pair {
    pub fn tasks(&self) -> &[Tid] {
        &self.tasks[..usize::from(self.tasks_n)]
    }

    pub fn gates(&self) -> impl Iterator<Item = &Gate> {
        self.gates.iter().flatten()
    }

    /// The witnesses, by different tasks.
    pub fn witnesses(&self) -> impl Iterator<Item = &Witness> {
        std::iter::once(&*self.first).chain(self.other.as_deref())
    }

    fn add_task(&mut self, tid: Tid) {
        if !self.tasks().contains(&tid) && usize::from(self.tasks_n) < PAIR_TASKS {
            self.tasks[usize::from(self.tasks_n)] = tid;
            self.tasks_n += 1;
        }
    }
}

/// An edge between two classes with their modes.
#[derive(Debug)]
pub(crate) struct Edge {
    pub from: End,
    pub to: End,
    pub trylock: bool,
    pub count: u64,
    pub last_ns: u64,
    tasks: Vec<Tid>,
    /// Every occurrence is touched by loss.
    pub lossy: bool,
    first: Pair,
    first_locks: (Instance, Instance),
    pairs: FxMap<(Instance, Instance), Pair>,
    pub pairs_cut: bool,
}

impl Edge {
    pub fn pairs(&self) -> impl Iterator<Item = (&(Instance, Instance), &Pair)> {
        self.pairs.iter()
    }

    pub fn tasks(&self) -> &[Tid] {
        &self.tasks
    }

    pub fn first(&self) -> ((Instance, Instance), &Pair) {
        (self.first_locks, &self.first)
    }

    /// Words this edge, as seen between two instances, for a finding.
    pub fn step(
        &self,
        locks: (Instance, Instance),
        seen: &Witness,
        name: impl Fn(SiteId) -> Arc<str>,
        waiting: bool,
    ) -> Step {
        Step {
            from: self.from.0,
            from_mode: self.from.1,
            from_lock: locks.0.addr,
            from_known: seen.from_known,
            to: self.to.0,
            to_mode: self.to.1,
            to_lock: locks.1.addr,
            manner: if self.trylock { Manner::Tried } else { Manner::Asked },
            sure: true,
            side: Side {
                task: seen.task_ref(),
                site: name(seen.site),
                time_ns: seen.time_ns,
                stack: None,
                holds: seen.holds.to_vec(),
            },
            count: self.count,
            waiting,
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub class: LockClass,
    pub instance: Instance,
    pub mode: Option<Mode>,
    pub trylock: bool,
    pub time_ns: u64,
    /// Innermost operation, else the probed function.
    pub site: SiteId,
}

/// All edges.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    edges: Vec<Edge>,
    by_ends: FxMap<u32, u32>,
}

/// Both ends and the trylock flag in one number.
fn key(from: End, ask: &Ask) -> u32 {
    let end = |(class, mode): End| (class as u32) << 2 | mode.map_or(0, |m| m as u32);
    end(from) << 8 | end((ask.class, ask.mode)) << 1 | u32::from(ask.trylock)
}

impl Graph {
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// `task` asks while it holds what it holds.
    pub fn asked(&mut self, task: &Task, ask: &Ask) {
        for (at, hold) in task.holds.iter().enumerate() {
            if hold.instance != ask.instance {
                self.edge(task, at, hold, ask);
            }
        }
    }

    fn edge(&mut self, task: &Task, at: usize, hold: &LockHold, ask: &Ask) {
        let from = (hold.class, hold.mode);
        let fresh = || Pair::new(task, at, hold, ask);
        let place = *self.by_ends.entry(key(from, ask)).or_insert_with(|| {
            self.edges.push(Edge {
                from,
                to: (ask.class, ask.mode),
                trylock: ask.trylock,
                count: 0,
                last_ns: 0,
                tasks: Vec::new(),
                lossy: true,
                first: fresh(),
                first_locks: (hold.instance, ask.instance),
                pairs: FxMap::default(),
                pairs_cut: false,
            });
            (self.edges.len() - 1) as u32
        });
        let edge = &mut self.edges[place as usize];
        edge.count += 1;
        edge.last_ns = ask.time_ns;
        edge.lossy &= is_lossy(task, hold, ask);
        if edge.tasks.len() < EdgeView::TASKS_MAX as usize && !edge.tasks.contains(&task.tid) {
            edge.tasks.push(task.tid);
        }
        let locks = (hold.instance, ask.instance);
        if let Some(pair) = edge.pairs.get_mut(&locks) {
            pair.again(task, at, hold, ask);
        } else if edge.pairs.len() < PAIRS_MAX {
            edge.pairs.insert(locks, fresh());
        } else {
            edge.pairs_cut = true;
        }
    }

    /// Ordered by class and mode.
    pub fn views(&self, name: impl Fn(SiteId) -> Arc<str>) -> Vec<EdgeView> {
        let mut views: Vec<EdgeView> = self
            .edges
            .iter()
            .map(|e| EdgeView {
                from: e.from.0,
                from_mode: e.from.1,
                to: e.to.0,
                to_mode: e.to.1,
                manner: if e.trylock { Manner::Tried } else { Manner::Asked },
                sure: true,
                count: e.count,
                tasks: e.tasks.len() as u32,
                instances: e.pairs.len(),
                lossy: e.lossy,
                first_ns: e.first.first.time_ns,
                last_ns: e.last_ns,
                documented: Vec::new(),
                witness: e.step(e.first_locks, &e.first.first, &name, false),
            })
            .collect();
        views.sort_unstable_by_key(|v| (v.from, v.from_mode, v.to, v.to_mode, v.manner));
        views
    }
}

impl Pair {
    fn new(task: &Task, at: usize, hold: &LockHold, ask: &Ask) -> Pair {
        let mut gates = [None; GATES];
        for (place, gate) in gates.iter_mut().zip(gates_of(task, at)) {
            *place = Some(gate);
        }
        let mut tasks = [Tid(0); PAIR_TASKS];
        tasks[0] = task.tid;
        let first = Witness::of(task, hold, ask);
        Pair {
            last_ns: ask.time_ns,
            tasks,
            tasks_n: 1,
            lossy: is_lossy(task, hold, ask),
            gates,
            first,
            other: None,
        }
    }

    /// Seen again: what is not held this time was no gate.
    fn again(&mut self, task: &Task, at: usize, hold: &LockHold, ask: &Ask) {
        self.last_ns = ask.time_ns;
        if is_lossy(task, hold, ask) != self.lossy {
            // Of the two the one that is sure counts.
            if self.lossy {
                *self = Pair::new(task, at, hold, ask);
            }
            return;
        }
        self.add_task(task.tid);
        if self.other.is_none() && task.tid != self.first.tid() {
            self.other = Some(Witness::of(task, hold, ask));
        }
        for place in &mut self.gates {
            if let Some(gate) = place {
                match gates_of(task, at).find(|g| g.instance == gate.instance) {
                    Some(now) => gate.read |= now.read,
                    None => *place = None,
                }
            }
        }
    }
}

/// Whether records that were lost could tell that it was otherwise: that the hold was over, or that there was a gate.
fn is_lossy(task: &Task, hold: &LockHold, ask: &Ask) -> bool {
    hold.lossy || ask.time_ns < task.unsure_until_ns
}

/// What the task holds besides the hold at `at`.
fn gates_of(task: &Task, at: usize) -> impl Iterator<Item = Gate> + '_ {
    task.holds.iter().enumerate().filter(move |(i, h)| *i != at && !h.lossy).map(|(_, h)| Gate {
        class: h.class,
        instance: h.instance,
        read: h.mode == Some(Mode::Read),
    })
}
