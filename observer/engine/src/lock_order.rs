//! Lock order: which locks are requested while which are held, and the deadlocks that follow.
//!
//! A task's lock operations since it held nothing are its *path* (`path`). Each request adds edges to the *graph*
//! (`graph`), with the path as evidence. Four rules read these: `cycles` searches closed chains of edges, `documented`
//! compares edges with the orders that the kernel's source documents, `relocks` looks at requests for a lock that the
//! task holds, and `waits` at the tasks that wait now. `feasible` answers for all of them if the tasks can get there.
//! `held_before` adds the edges of a folio that turns out to have been locked since some time ago. `merge` joins the
//! graphs of several runs.

mod components;
mod cycles;
mod documented;
pub(crate) mod feasible;
pub(crate) mod graph;
mod held_before;
pub mod merge;
pub(crate) mod path;
pub(crate) mod relocks;
pub(crate) mod waits;

use self::{
    cycles::Cycles,
    graph::{Graph, LockRequest, Requester},
    path::{Path, TaskPath},
    relocks::{Again, Relocks, Repeat},
};
use crate::{
    finding::{Finding, Rank},
    holds::{PerTask, TaskId},
    presence::{Presence, Presences},
    view::EdgeView,
    world::World,
};

/// Delay before new edges are searched for cycles: a folio may turn out to have been locked.
pub(crate) const SETTLED_NS: u64 = 1_000_000_000;
/// Interval between these searches.
const SETTLE_EVERY_NS: u64 = 100_000_000;

/// Paths of all tasks, the graph that they make, and the rules that read both.
#[derive(Clone, Debug, Default)]
pub(crate) struct LockOrder {
    paths: PerTask<TaskPath>,
    graph: Graph,
    cycles: Cycles,
    relocks: Relocks,
    /// Time when lock order is next checked.
    settle_ns: u64,
}

impl LockOrder {
    pub fn add_task(&mut self, id: TaskId) {
        self.paths.add(id);
    }

    pub fn forget_task(&mut self, id: TaskId) {
        self.paths[id].reset();
    }

    pub fn path(&self, id: TaskId) -> &Path {
        &self.paths[id]
    }

    #[inline]
    pub fn task(&mut self, id: TaskId) -> &mut TaskPath {
        &mut self.paths[id]
    }

    /// Adds the edges of a request from the current holds of the task.
    #[inline]
    pub fn requested(&mut self, presences: Presences<'_>, id: TaskId, request: &LockRequest) {
        let by = Requester { task: &presences.tasks[id], path: &self.paths[id], presences };
        self.graph.requested(by, request);
    }

    /// Records that a task requests, or waits for, a lock that it holds.
    pub fn relocked(&mut self, world: &World, id: TaskId, at: usize, repeat: Repeat, rank: Rank) {
        let Repeat { site, requested, time_ns } = repeat;
        let (task, path) = (&world.tasks[id], &self.paths[id]);
        let hold = task.holds[at];
        let again = Again {
            site,
            instance: hold.instance,
            held: hold.shown(),
            requested,
            party: world.party(id, site, time_ns),
            presence: Presence::of(task, time_ns, path.ops()),
            path: path.ops().into(),
            lossy: hold.lossy || path.is_lossy(),
        };
        self.relocks.add(again, rank, |s| world.name(s));
    }

    /// Records a hole that ends at this time.
    pub fn hole(&mut self, hole_ns: u64) {
        self.graph.hole(hole_ns);
    }

    /// Marks the witnesses of the task's current path as lossy.
    pub fn doubt(&mut self, world: &World, id: TaskId) {
        let presences = world.presences();
        self.graph.doubt(Requester { task: &world.tasks[id], path: &self.paths[id], presences });
    }

    /// Marks all edges of a task since `since_ns` as doubtful: it held, or may have held, a lock unseen.
    pub fn doubt_since(&mut self, serial: u64, since_ns: u64) {
        self.graph.doubt_since(serial, since_ns);
        self.cycles.doubt_since(serial, since_ns);
        self.relocks.doubt_since(serial, since_ns);
    }

    /// Makes room if an edge has too many pairs.
    #[inline]
    pub fn make_room(&mut self, world: &World) {
        if self.graph.is_full() {
            self.settle(world, u64::MAX);
        }
    }

    /// Searches for cycles that new edges close, if it is time for that.
    pub fn settle_due(&mut self, world: &World, now_ns: u64) {
        if now_ns >= self.settle_ns {
            self.settle_ns = now_ns.saturating_add(SETTLE_EVERY_NS);
            self.settle(world, now_ns.saturating_sub(SETTLED_NS));
        }
    }

    /// Searches for cycles that new edges close. Edges with evidence since `before_ns` wait; `u64::MAX`: none waits.
    pub fn settle(&mut self, world: &World, before_ns: u64) {
        let presences = world.presences();
        self.cycles.settle(&mut self.graph, world, before_ns);
        let graph = &self.graph;
        self.relocks.settle(presences, before_ns, |lock| graph.writers(lock), |s| world.name(s));
    }

    /// Requests for held locks, cycles and deadlocks, and edges against documented orders.
    pub fn findings(&self, world: &World) -> Vec<Finding> {
        let mut all: Vec<Finding> = self.relocks.findings().cloned().collect();
        // A task that waits for a lock that it holds requested it before: `confirmed` replaces `feasible`.
        let waits: Vec<String> =
            all.iter().filter_map(|f| Some(f.id.strip_suffix(":confirmed")?.to_owned())).collect();
        all.retain(|f| f.id.strip_suffix(":feasible").is_none_or(|stem| !waits.iter().any(|w| w == stem)));
        all.extend(self.cycles(world));
        all.extend(documented::against(&self.graph, world.rules.orders(), |s| world.name(s)));
        all
    }

    /// Cycles in the lock order, and the deadlocks that exist now.
    fn cycles(&self, world: &World) -> Vec<Finding> {
        let mut all = self.cycles.findings(&self.graph, |s| world.name(s));
        for now in waits::findings(world, |s| world.name(s)) {
            match all.iter_mut().find(|f| f.id == now.id) {
                // At equal rank, the deadlock that exists now is the better evidence.
                Some(known) if known.rank < now.rank => {}
                Some(known) => {
                    let (count, first_ns) = (known.count.max(now.count), known.first_ns.min(now.first_ns));
                    *known = Finding { count, first_ns, ..now };
                }
                None => all.push(now),
            }
        }
        all
    }

    /// Views of all edges, sorted by class and mode.
    pub fn views(&self, world: &World) -> Vec<EdgeView> {
        documented::views(&self.graph, world.rules.orders(), |s| world.name(s))
    }

    /// Number of pairs with more paths through them than the search tries.
    pub fn untried_pairs(&self) -> u64 {
        self.cycles.cut
    }

    /// Number of pairs that made room although their tasks may still exist.
    pub fn dropped_pairs(&self) -> u64 {
        self.graph.dropped_pairs()
    }

    /// Number of repeated read requests that made room before a writer was seen.
    pub fn dropped_requests(&self) -> u64 {
        self.relocks.dropped
    }
}
