//! The lock-order graph: which lock was requested while which was held, by class and by instance.
//!
//! This module decides what an edge is and what is kept of it: for each pair of instances, a few witnesses that differ
//! in site, task or other held locks. `cycles` decides which edges close a deadlock.

mod edge;
mod room;
mod witness;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

pub(crate) use self::{
    edge::{At, Edge, End},
    witness::{Pair, Witness},
};
use self::{
    room::PAIRS_MAX,
    witness::{KNOWN, Recognised, Signature},
};
use crate::{
    event::{Mode, SiteId},
    finding::{AcquireKind, HoldBasis},
    fx::{FxMap, mix},
    holds::Instance,
    lock_class::LockClass,
    lock_order::path::{Op, PathRequest, TaskPath},
    presence::Presences,
    tasks::Task,
    view::EdgeView,
};

/// Maximum number of locks whose writers are kept.
const WRITTEN_MAX: usize = 32_768;
/// Writers kept per lock: one more than a cycle usually has tasks, at three sites.
const WRITERS: usize = 9;

/// A request for a lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockRequest {
    pub class: LockClass,
    pub instance: Instance,
    pub mode: Option<Mode>,
    pub acquire: AcquireKind,
    pub time_ns: u64,
    /// The innermost operation, else the probed function.
    pub site: SiteId,
}

impl LockRequest {
    /// Returns an earlier request of a task's path.
    pub fn of(op: &Op) -> LockRequest {
        LockRequest {
            class: op.class,
            instance: op.lock,
            mode: op.mode,
            acquire: op.acquire,
            time_ns: op.time_ns,
            site: op.site,
        }
    }
}

/// The task that makes a request, with its path and the evidence for the existence of other tasks.
#[derive(Clone, Copy)]
pub(crate) struct Requester<'a> {
    pub task: &'a Task,
    pub path: &'a TaskPath,
    pub presences: Presences<'a>,
}

/// A lock that is held during a request.
#[derive(Clone, Copy, Debug)]
struct From {
    end: End,
    instance: Instance,
    basis: HoldBasis,
    lossy: bool,
    sure: bool,
    /// Classes of the other held locks, one bit each.
    gates: u16,
}

/// The edges between classes, and the pairs of instances.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    edges: Vec<Edge>,
    /// Index of an edge by its key; [`NONE`]: no such edge.
    by_ends: Vec<u32>,
    pairs: Vec<Pair>,
    unused: Vec<u32>,
    /// Pairs by their first lock.
    out: FxMap<Instance, Vec<u32>>,
    /// Pairs with evidence that was not searched yet, in search order.
    fresh: VecDeque<u32>,
    /// Requests of a lock for writing that can block: readers wait behind them.
    writers: FxMap<Instance, Vec<Arc<Witness>>>,
    /// Index of the witnesses of each task, by serial number; `None` until it is needed, which is when records were lost.
    of_task: Option<FxMap<u64, Witnessed>>,
    /// Edges with too many pairs: the older pairs are dropped as soon as they were searched.
    full: Vec<u32>,
    /// Locks of which not all writers are kept.
    cut_writers: BTreeSet<Instance>,
    /// End of the last hole.
    hole_ns: u64,
    /// Number of pairs that triggers the next sweep for pairs whose tasks are gone.
    sweep_at: usize,
}

/// Places at which witnesses of one task are kept; some that were kept are still in it.
#[derive(Clone, Debug, Default)]
struct Witnessed {
    pairs: Vec<u32>,
    /// Locks that it requested for writing.
    written: Vec<Instance>,
}

/// Indexes all witnesses that are kept.
fn index(pairs: &[Pair], writers: &FxMap<Instance, Vec<Arc<Witness>>>) -> FxMap<u64, Witnessed> {
    let mut of_task: FxMap<u64, Witnessed> = FxMap::default();
    for (at, pair) in (0..).zip(pairs) {
        for witness in &pair.witnesses {
            of_task.entry(witness.presence.serial).or_default().add(at);
        }
    }
    for (lock, all) in writers {
        for witness in all {
            of_task.entry(witness.presence.serial).or_default().written.push(*lock);
        }
    }
    of_task
}

impl Witnessed {
    fn written(&mut self, lock: Instance) {
        if !self.written.contains(&lock) {
            self.written.push(lock);
        }
    }

    fn add(&mut self, pair: u32) {
        if self.pairs.last() == Some(&pair) {
            return;
        }
        self.pairs.push(pair);
        // A pair is seen again and again where records are lost.
        if self.pairs.len().is_power_of_two() {
            self.pairs.sort_unstable();
            self.pairs.dedup();
        }
    }
}

/// Value for a missing edge.
const NONE: u32 = u32::MAX;

/// Packs both ends and the kind of request into one small number.
fn key(from: End, request: &LockRequest) -> u32 {
    let end = |(class, mode): End| (class as u32) << 2 | mode.map_or(0, |m| m as u32);
    end(from) << 8 | end((request.class, request.mode)) << 2 | request.acquire as u32
}

/// Classes of the held locks, one bit each: classes with at least one lock, and classes with two locks.
#[derive(Clone, Copy)]
struct Classes {
    once: u16,
    twice: u16,
}

impl Classes {
    fn of(held: impl Iterator<Item = LockClass>) -> Classes {
        held.fold(Classes { once: 0, twice: 0 }, |all, class| {
            let bit = 1 << class as u16;
            Classes { once: all.once | bit, twice: all.twice | (all.once & bit) }
        })
    }

    /// Returns the classes that remain without one lock of `class`.
    fn without(self, class: LockClass) -> u16 {
        self.once & !(1 << class as u16) | self.twice
    }
}

/// Returns the merge key of a request: site, task and held locks.
fn signature(
    task: &Task,
    site: SiteId,
    holds: impl Iterator<Item = (Instance, LockClass, Option<Mode>)>,
) -> Signature {
    let (mut shape, mut pages) = (mix(0, u64::from(site.0) + 1), 0);
    for (lock, class, mode) in holds {
        let number = mix(mix(mode.map_or(0, |m| m as u64), lock.addr), lock.life);
        if class.is_of_page() {
            (shape, pages) = (mix(shape, class as u64), mix(pages, number));
        } else {
            shape = mix(shape, number);
        }
    }
    Signature { shape, serial: task.serial, pages }
}

/// Returns the holds of a task as they enter the signature.
fn locks(task: &Task) -> impl Iterator<Item = (Instance, LockClass, Option<Mode>)> {
    task.holds.iter().map(|h| (h.instance, h.class, h.mode))
}

/// A path that is copied at most once for all witnesses of a request.
struct Shared<'a> {
    ops: &'a [Op],
    shared: Option<Arc<[Op]>>,
}

impl<'a> Shared<'a> {
    fn new(ops: &'a [Op]) -> Shared<'a> {
        Shared { ops, shared: None }
    }

    fn get(&mut self) -> &Arc<[Op]> {
        let ops = self.ops;
        self.shared.get_or_insert_with(|| ops.into())
    }
}

impl Graph {
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    pub fn edge(&self, pair: &Pair) -> &Edge {
        &self.edges[pair.edge as usize]
    }

    pub fn pair(&self, at: u32) -> &Pair {
        &self.pairs[at as usize]
    }

    /// Pairs whose first lock is `lock`.
    pub fn from(&self, lock: Instance) -> &[u32] {
        self.out.get(&lock).map_or(&[], Vec::as_slice)
    }

    /// Time at which a pair of an edge was last seen, if the pair is kept.
    pub fn last_ns(&self, edge: u32, locks: (Instance, Instance)) -> Option<u64> {
        let edge = self.edges.get(edge as usize)?;
        edge.pairs.get(&locks).map(|at| self.pair(*at).last_ns)
    }

    pub fn writers(&self, lock: Instance) -> &[Arc<Witness>] {
        self.writers.get(&lock).map_or(&[], Vec::as_slice)
    }

    /// Returns true if a lock has more writers than are kept.
    pub fn are_writers_cut(&self, lock: Instance) -> bool {
        self.cut_writers.contains(&lock)
    }

    /// Records a hole that ends at this time.
    pub fn hole(&mut self, hole_ns: u64) {
        self.hole_ns = self.hole_ns.max(hole_ns);
    }

    /// Adds the edges of a request from the current holds of the task.
    #[inline]
    pub fn requested(&mut self, by: Requester<'_>, request: &LockRequest) {
        let task = by.task;
        if !task.holds.is_empty() {
            let signature = signature(task, request.site, locks(task));
            let classes = Classes::of(task.holds.iter().map(|h| h.class));
            let mut path = Shared::new(by.path.ops());
            for hold in task.holds.iter().filter(|h| h.instance != request.instance) {
                let from = From {
                    end: (hold.class, hold.mode),
                    instance: hold.instance,
                    basis: hold.basis,
                    lossy: hold.lossy,
                    sure: true,
                    gates: classes.without(hold.class),
                };
                self.add(by, from, request, signature, &mut path);
            }
        }
        if request.mode == Some(Mode::Write) && request.acquire.can_block() {
            self.writes(by, request);
        }
    }

    /// Adds an edge of an earlier request: the task turns out to have held `from` then, certainly if `sure`.
    pub fn requested_before(
        &mut self,
        by: Requester<'_>,
        from: &Op,
        sure: bool,
        request: &LockRequest,
        path: &[Op],
        held: &[Op],
    ) {
        let gates = Classes::of(held.iter().map(|op| op.class)).without(from.class);
        let of = From {
            end: (from.class, from.mode),
            instance: from.lock,
            basis: from.basis,
            lossy: false,
            sure,
            gates,
        };
        let signature = signature(by.task, request.site, held.iter().map(|op| (op.lock, op.class, op.mode)));
        self.add(by, of, request, signature, &mut Shared::new(path));
    }

    /// Updates the witnesses of an earlier request: `task` turns out to have held more locks than was known.
    pub fn held_more(&mut self, by: Requester<'_>, request: &PathRequest<'_>) {
        if by.path.witnessed_ns() < request.op.time_ns {
            return;
        }
        let held = request.held.iter().map(|op| (op.lock, op.class, op.mode));
        let signature = signature(by.task, request.op.site, held);
        self.mend(by, request, |known| Witness { path: request.path.into(), signature, ..known.clone() });
    }

    /// Marks the witnesses of the task's current path as lossy.
    pub fn doubt(&mut self, by: Requester<'_>) {
        by.path.requests_from(0, |request| {
            self.mend(by, request, |known| Witness { lossy: true, ..known.clone() });
        });
    }

    /// Marks all witnesses of a task since `since_ns` as lossy.
    pub fn doubt_since(&mut self, serial: u64, since_ns: u64) {
        let is_it = |w: &Arc<Witness>| w.presence.serial == serial && w.time_ns() >= since_ns && !w.lossy;
        let doubt = |w: &mut Arc<Witness>| *w = Arc::new(Witness { lossy: true, ..Witness::clone(w) });
        let (pairs, writers) = (&self.pairs, &self.writers);
        let of_task = self.of_task.get_or_insert_with(|| index(pairs, writers));
        if let Some(of) = of_task.get_mut(&serial) {
            // A witness that is lossy stays so: a place that has only such ones of this task leaves the index, until it gets
            // another. Otherwise a task that is touched at each event would walk through all that it ever requested.
            let is_open = |w: &Arc<Witness>| w.presence.serial == serial && !w.lossy;
            of.pairs.retain(|at| {
                let pair = &mut self.pairs[*at as usize];
                for known in pair.witnesses.iter_mut().filter(|w| is_it(w)) {
                    doubt(known);
                    pair.known = [Recognised::default(); KNOWN];
                }
                pair.witnesses.iter().any(is_open)
            });
            of.written.retain(|lock| {
                let Some(all) = self.writers.get_mut(lock) else { return false };
                all.iter_mut().filter(|w| is_it(w)).for_each(doubt);
                all.iter().any(is_open)
            });
        }
        for at in self.edges.iter_mut().flat_map(|e| &mut e.at).filter(|at| is_it(&at.first)) {
            at.good = false;
            doubt(&mut at.first);
        }
    }

    fn mend(&mut self, by: Requester<'_>, request: &PathRequest<'_>, mended: impl Fn(&Witness) -> Witness) {
        let lock_request = &LockRequest::of(&request.op);
        // For repeated operations, the path contains only the first time.
        let is_it = |w: &&mut Arc<Witness>| {
            w.presence.serial == by.task.serial && w.time_ns() >= lock_request.time_ns
        };
        for from in request.held {
            let Some(edge) = self.place(key((from.class, from.mode), lock_request)) else { continue };
            let Some(at) = self.edges[edge as usize].pairs.get(&(from.lock, lock_request.instance)) else {
                continue;
            };
            let pair = &mut self.pairs[*at as usize];
            if let Some(known) = pair.witnesses.iter_mut().find(is_it) {
                *known = Arc::new(mended(known));
                pair.known = [Recognised::default(); KNOWN];
                mark(pair, *at, lock_request.time_ns, &mut self.fresh);
            }
        }
        if let Some(known) =
            self.writers.get_mut(&lock_request.instance).and_then(|all| all.iter_mut().find(is_it))
        {
            *known = Arc::new(mended(known));
        }
    }

    fn writes(&mut self, by: Requester<'_>, request: &LockRequest) {
        let Requester { task, path, presences } = by;
        let is_gone = |w: &Arc<Witness>| presences.is_gone(&w.presence, request.time_ns);
        if self.writers.len() >= WRITTEN_MAX && !self.writers.contains_key(&request.instance) {
            self.writers.retain(|_, all| !all.iter().all(is_gone));
            if self.writers.len() >= WRITTEN_MAX {
                self.cut_writers.insert(request.instance);
                return;
            }
        }
        let known = self.writers.entry(request.instance).or_default();
        let ops = || path.ops().into();
        // The held locks of single pages do not make it a different request.
        let signature = signature(task, request.site, locks(task));
        let signature = Signature { pages: 0, ..signature };
        let new = |ops: Arc<[Op]>| {
            path.was_witnessed(request.time_ns);
            Arc::new(Witness { signature, ..Witness::of(by, request, &ops, HoldBasis::Requested) })
        };
        if let Some(old) = known.iter_mut().find(|w| w.signature == signature) {
            // A shorter path, or an occurrence after a hole, replaces the earlier one.
            if old.path.len() > path.ops().len() || old.time_ns() <= self.hole_ns || old.lossy {
                *old = new(ops());
                if let Some(of_task) = &mut self.of_task {
                    of_task.entry(task.serial).or_default().written(request.instance);
                }
            }
            return;
        }
        if known.len() < WRITERS {
            known.push(new(ops()));
        } else if let Some(old) = known.iter_mut().find(|w| is_gone(w)) {
            *old = new(ops());
        } else {
            if known.iter().filter(|w| w.site == request.site).count() < 3 {
                self.cut_writers.insert(request.instance);
            }
            return;
        }
        if let Some(of_task) = &mut self.of_task {
            of_task.entry(task.serial).or_default().written(request.instance);
        }
        for at in self.out.get(&request.instance).into_iter().flatten() {
            mark(&mut self.pairs[*at as usize], *at, request.time_ns, &mut self.fresh);
        }
    }

    fn add(
        &mut self,
        by: Requester<'_>,
        from: From,
        request: &LockRequest,
        signature: Signature,
        path: &mut Shared<'_>,
    ) {
        let task = by.task;
        let locks = (from.instance, request.instance);
        let place = match self.place(key(from.end, request)) {
            Some(place) => place,
            None => self.new_edge(from.end, request),
        };
        let edge = &mut self.edges[place as usize];
        edge.count += 1;
        edge.last_ns = request.time_ns;
        let pair =
            if edge.last_pair.0 == locks { Some(edge.last_pair.1) } else { edge.pairs.get(&locks).copied() };
        if let Some(at) = pair {
            edge.last_pair = (locks, at);
        }
        let lossy = from.lossy || task.is_doubtful(request.time_ns) || by.path.is_lossy();
        let good = from.sure && !lossy;
        let is_better = |at: &At| !at.good && (at.first.lossy, !at.first.sure) > (lossy, !from.sure);
        let is_new = match edge.at.iter_mut().find(|at| at.site == request.site) {
            Some(at) => {
                at.count += 1;
                at.last_ns = request.time_ns;
                at.gates &= from.gates;
                is_better(at)
            }
            None => true,
        };
        if let Some(at) = pair
            && !is_new
        {
            let pair = &mut self.pairs[at as usize];
            pair.last_ns = request.time_ns;
            if good && pair.knows(signature, path.ops.len(), self.hole_ns) {
                return;
            }
        }
        let edge = &mut self.edges[place as usize];
        if edge.tasks.len() < EdgeView::TASKS_MAX as usize && !edge.tasks.contains(&task.tid) {
            edge.tasks.push(task.tid);
        }
        let n = path.ops.len();
        let mut witness = || {
            by.path.was_witnessed(request.time_ns);
            let plain = Witness::of(by, request, path.get(), from.basis);
            Witness { lossy, sure: from.sure, signature, ..plain }
        };
        if is_new {
            self.seen_at(place, request, from, good, Arc::new(witness()));
        }
        match pair {
            Some(at) => {
                let pair = &mut self.pairs[at as usize];
                pair.last_ns = request.time_ns;
                if pair.again(signature, n, by.presences, self.hole_ns, witness) {
                    mark(pair, at, request.time_ns, &mut self.fresh);
                    if let Some(of_task) = &mut self.of_task {
                        of_task.entry(task.serial).or_default().add(at);
                    }
                }
            }
            None => self.new_pair(place, locks, witness()),
        }
    }

    /// Records the first evidence of an edge at a site, or the first better one.
    fn seen_at(&mut self, edge: u32, request: &LockRequest, from: From, good: bool, first: Arc<Witness>) {
        let locks = (from.instance, request.instance);
        let edge = &mut self.edges[edge as usize];
        match edge.at.iter_mut().find(|at| at.site == request.site) {
            Some(at) => (at.first, at.locks, at.good) = (first, locks, good),
            None => {
                let (site, last_ns, gates) = (request.site, request.time_ns, from.gates);
                edge.at.push(At { site, good, count: 1, last_ns, first, locks, gates });
            }
        }
    }

    fn new_edge(&mut self, from: End, request: &LockRequest) -> u32 {
        self.edges.push(Edge {
            from,
            to: (request.class, request.mode),
            acquire: request.acquire,
            count: 0,
            first_ns: request.time_ns,
            last_ns: 0,
            tasks: Vec::new(),
            at: Vec::new(),
            pairs: FxMap::default(),
            last_pair: ((Instance::NONE, Instance::NONE), 0),
            instances: 0,
            dropped: 0,
            is_cut: false,
        });
        // The new edge may close a cycle of classes through pairs that could not close one before.
        for (at, pair) in self.pairs.iter_mut().enumerate() {
            if !pair.witnesses.is_empty() && self.edges[pair.edge as usize].can_close() {
                mark(pair, at as u32, request.time_ns, &mut self.fresh);
            }
        }
        let place = (self.edges.len() - 1) as u32;
        let at = key(from, request) as usize;
        if self.by_ends.len() <= at {
            self.by_ends.resize(at + 1, NONE);
        }
        self.by_ends[at] = place;
        place
    }

    fn place(&self, key: u32) -> Option<u32> {
        self.by_ends.get(key as usize).copied().filter(|place| *place != NONE)
    }

    fn new_pair(&mut self, edge: u32, locks: (Instance, Instance), witness: Witness) {
        let now_ns = witness.time_ns();
        let of = &mut self.edges[edge as usize];
        let pair = Pair {
            edge,
            from: locks.0,
            to: locks.1,
            last_ns: now_ns,
            witnesses: vec![Arc::new(witness)],
            is_cut: false,
            known: [Recognised::default(); KNOWN],
            known_hole_ns: 0,
            fresh_ns: 0,
            queued_ns: 0,
        };
        let at = match self.unused.pop() {
            Some(at) => {
                self.pairs[at as usize] = pair;
                at
            }
            None => {
                self.pairs.push(pair);
                (self.pairs.len() - 1) as u32
            }
        };
        if let Some(of_task) = &mut self.of_task {
            let serial = self.pairs[at as usize].witnesses[0].presence.serial;
            of_task.entry(serial).or_default().add(at);
        }
        of.pairs.insert(locks, at);
        of.instances += 1;
        if of.pairs.len() >= PAIRS_MAX && !self.full.contains(&edge) {
            self.full.push(edge);
        }
        if of.can_close() {
            self.out.entry(locks.0).or_default().push(at);
            mark(&mut self.pairs[at as usize], at, now_ns, &mut self.fresh);
        }
    }
}

fn mark(pair: &mut Pair, at: u32, now_ns: u64, fresh: &mut VecDeque<u32>) {
    let now_ns = now_ns.max(1);
    if std::mem::replace(&mut pair.fresh_ns, now_ns) == 0 {
        pair.queued_ns = now_ns;
        fresh.push_back(at);
    }
}
