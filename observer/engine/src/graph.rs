//! The lock-order graph: which lock was asked for while which was held, by class and by instance.
//!
//! Decides what an edge is and what is kept of it: for each pair of instances a few witnesses, by different sites, tasks and
//! other locks held. Which edges close to a deadlock is decided in `cycles`.

mod witness;

use std::{collections::VecDeque, sync::Arc};

use self::witness::KNOWN;
pub(crate) use self::witness::{Pair, Witness};

use crate::{
    documented,
    event::{Mode, SiteId, Tid},
    finding::{Known, Manner, Step},
    fx::FxMap,
    lock_class::LockClass,
    path::{Op, held},
    setup::DocumentedOrder,
    tasks::{Instance, Task},
    view::EdgeView,
};

/// Pairs of instances kept per edge. Of more, the older half is let go, after what it closes has been looked for.
const PAIRS_MAX: usize = 2048;
/// Locks whose writers are kept.
const WRITTEN_MAX: usize = 4096;
/// Writers kept per lock: one more than tasks that a cycle commonly has.
const WRITERS: usize = 3;

/// Class and mode of one end of an edge.
pub(crate) type End = (LockClass, Option<Mode>);

/// What was seen of an edge at one site.
#[derive(Clone, Debug)]
pub(crate) struct At {
    site: SiteId,
    /// The evidence is sure, and untouched by loss.
    good: bool,
    pub count: u64,
    pub last_ns: u64,
    /// The first, or the first that is better evidence.
    pub first: Arc<Witness>,
    pub locks: (Instance, Instance),
    /// Classes of which another lock was held every time, a bit each.
    gates: u16,
}

/// An edge between two classes with their modes.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    pub from: End,
    pub to: End,
    pub manner: Manner,
    pub count: u64,
    pub first_ns: u64,
    pub last_ns: u64,
    /// Some of the tasks.
    pub tasks: Vec<Tid>,
    /// Where it was seen, in the order of the first times.
    pub at: Vec<At>,
    pairs: FxMap<(Instance, Instance), u32>,
    /// Pairs so far.
    instances: usize,
}

impl Edge {
    /// Whether it can be a step of a deadlock. Two page-table locks nest by design (fork, mremap), in an order of their own.
    pub fn can_close(&self) -> bool {
        self.manner.can_block() && (self.from.0, self.to.0) != (LockClass::Ptl, LockClass::Ptl)
    }

    /// The best evidence.
    pub fn best(&self) -> &At {
        let worth = |at: &&At| (at.first.lossy, !at.first.sure, at.first.time_ns);
        self.at.iter().min_by_key(worth).unwrap_or(&self.at[0])
    }

    fn gates(&self) -> Vec<LockClass> {
        let all = self.at.iter().fold(u16::MAX, |all, at| all & at.gates);
        LockClass::ALL.into_iter().filter(|class| all & 1 << *class as u16 != 0).collect()
    }

    pub fn pairs_cut(&self) -> bool {
        self.instances > self.pairs.len()
    }

    /// Words this edge, as seen between two instances, for a finding.
    pub fn step(
        &self,
        locks: (Instance, Instance),
        seen: &Witness,
        name: impl Fn(SiteId) -> Arc<str>,
    ) -> Step {
        Step {
            from: self.from.0,
            from_mode: self.from.1,
            from_lock: locks.0.addr,
            from_known: seen.from_known,
            to: self.to.0,
            to_mode: self.to.1,
            to_lock: locks.1.addr,
            manner: self.manner,
            sure: seen.sure,
            side: seen.side(name),
            count: self.count,
            waiting: false,
        }
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub class: LockClass,
    pub instance: Instance,
    pub mode: Option<Mode>,
    pub manner: Manner,
    pub time_ns: u64,
    /// Innermost operation, else the probed function.
    pub site: SiteId,
}

impl Ask {
    /// What was asked for some time ago.
    pub fn of(op: &Op) -> Ask {
        Ask {
            class: op.class,
            instance: op.lock,
            mode: op.mode,
            manner: op.manner,
            time_ns: op.time_ns,
            site: op.site,
        }
    }
}

/// What is held while something is asked for.
#[derive(Clone, Copy, Debug)]
struct From {
    end: End,
    instance: Instance,
    known: Known,
    lossy: bool,
    sure: bool,
    /// Classes of the other locks held, a bit each.
    gates: u16,
}

/// All edges.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    edges: Vec<Edge>,
    /// Place of an edge by its key; [`NONE`]: there is none yet.
    by_ends: Vec<u32>,
    pairs: Vec<Pair>,
    unused: Vec<u32>,
    /// Pairs by their first lock.
    out: FxMap<Instance, Vec<u32>>,
    /// Pairs that nobody has looked at yet, in the order in which they have to be.
    fresh: VecDeque<u32>,
    /// Who asked for a lock for writing, in a way that can block: readers wait behind such a task.
    writers: FxMap<Instance, Vec<Arc<Witness>>>,
    /// Older pairs have to go as soon as what they close is known.
    full: Vec<u32>,
}

/// No edge.
const NONE: u32 = u32::MAX;

/// Both ends and the manner in one number, a small one.
fn key(from: End, ask: &Ask) -> u32 {
    let end = |(class, mode): End| (class as u32) << 2 | mode.map_or(0, |m| m as u32);
    end(from) << 8 | end((ask.class, ask.mode)) << 2 | ask.manner as u32
}

/// Classes of the locks held besides one, a bit each.
fn others(holds: impl Iterator<Item = (Instance, LockClass)>, but: Instance) -> u16 {
    holds.filter(|(lock, _)| *lock != but).fold(0, |all, (_, class)| all | 1 << class as u16)
}

/// One number for site, task and locks held.
fn sort_of(task: &Task, site: SiteId, holds: impl Iterator<Item = Instance>) -> u64 {
    let mix = |all: u64, word: u64| (all.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    holds.fold(mix(u64::from(site.0), task.serial), |all, lock| mix(mix(all, lock.addr), lock.life))
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

    /// Pairs whose first lock this is.
    pub fn from(&self, lock: Instance) -> &[u32] {
        self.out.get(&lock).map_or(&[], Vec::as_slice)
    }

    /// When a pair of an edge was seen last, if it is kept.
    pub fn last_ns(&self, edge: u32, locks: (Instance, Instance)) -> Option<u64> {
        let edge = self.edges.get(edge as usize)?;
        edge.pairs.get(&locks).map(|at| self.pair(*at).last_ns)
    }

    pub fn writers(&self, lock: Instance) -> &[Arc<Witness>] {
        self.writers.get(&lock).map_or(&[], Vec::as_slice)
    }

    /// `task` asks while it holds what it holds.
    #[inline]
    pub fn asked(&mut self, task: &Task, ask: &Ask) {
        if !task.holds.is_empty() {
            let sort = sort_of(task, ask.site, task.holds.iter().map(|h| h.instance));
            for hold in task.holds.iter().filter(|h| h.instance != ask.instance) {
                let from = From {
                    end: (hold.class, hold.mode),
                    instance: hold.instance,
                    known: hold.known,
                    lossy: hold.lossy,
                    sure: true,
                    gates: others(task.holds.iter().map(|h| (h.instance, h.class)), hold.instance),
                };
                self.add(task, from, ask, sort, task.path.ops());
            }
        }
        if ask.mode == Some(Mode::Write) && ask.manner.can_block() {
            self.writes(task, ask);
        }
    }

    /// It turns out that `task` held `from` when it asked for something some time ago.
    pub fn asked_before(&mut self, task: &Task, from: &Op, sure: bool, ask: &Ask, path: &[Op]) {
        let held = held(path);
        let gates = others(held.iter().map(|op| (op.lock, op.class)), from.lock);
        let of = From {
            end: (from.class, from.mode),
            instance: from.lock,
            known: from.known,
            lossy: false,
            sure,
            gates,
        };
        let sort = sort_of(task, ask.site, held.iter().map(|op| op.lock));
        self.add(task, of, ask, sort, path);
    }

    /// It turns out that `task` held more than was thought when it asked: what was kept of that is mended.
    pub fn held_more(&mut self, task: &Task, ask: &Ask, path: &[Op]) {
        self.mend(task, ask, path, |known| Witness { path: path.into(), ..known.clone() });
    }

    /// What a task did lately may have been otherwise, as far as what was lost could tell.
    pub fn doubt(&mut self, task: &Task) {
        for (op, path) in task.path.asks_after(0) {
            let ask = Ask::of(&op);
            self.mend(task, &ask, path, |known| Witness { lossy: true, ..known.clone() });
        }
    }

    fn mend(&mut self, task: &Task, ask: &Ask, path: &[Op], mended: impl Fn(&Witness) -> Witness) {
        // Of what was done again and again the path has the first time only.
        let is_it = |w: &&mut Arc<Witness>| w.serial == task.serial && w.time_ns >= ask.time_ns;
        for from in held(path) {
            let Some(edge) = self.place(key((from.class, from.mode), ask)) else { continue };
            let Some(at) = self.edges[edge as usize].pairs.get(&(from.lock, ask.instance)) else { continue };
            let pair = &mut self.pairs[*at as usize];
            if let Some(known) = pair.witnesses.iter_mut().find(is_it) {
                *known = Arc::new(mended(known));
                pair.known = [0; KNOWN];
                mark(pair, *at, ask.time_ns, &mut self.fresh);
            }
        }
        if let Some(known) = self.writers.get_mut(&ask.instance).and_then(|all| all.iter_mut().find(is_it)) {
            *known = Arc::new(mended(known));
        }
    }

    fn writes(&mut self, task: &Task, ask: &Ask) {
        if self.writers.len() >= WRITTEN_MAX && !self.writers.contains_key(&ask.instance) {
            // Rare, and whatever they were needed for has long been looked at.
            self.writers.clear();
        }
        let known = self.writers.entry(ask.instance).or_default();
        if known.len() < WRITERS && known.iter().all(|w| w.serial != task.serial) {
            known.push(Arc::new(Witness::of(task, ask, task.path.ops(), Known::Asked)));
            for at in self.out.get(&ask.instance).into_iter().flatten() {
                mark(&mut self.pairs[*at as usize], *at, ask.time_ns, &mut self.fresh);
            }
        }
    }

    fn add(&mut self, task: &Task, from: From, ask: &Ask, sort: u64, path: &[Op]) {
        let witness = || {
            let plain = Witness::of(task, ask, path, from.known);
            let lossy = plain.lossy || from.lossy;
            Witness { lossy, sure: from.sure, sort, ..plain }
        };
        let locks = (from.instance, ask.instance);
        let place = match self.place(key(from.end, ask)) {
            Some(place) => place,
            None => self.new_edge(from.end, ask),
        };
        let edge = &mut self.edges[place as usize];
        edge.count += 1;
        edge.last_ns = ask.time_ns;
        let lossy = from.lossy || ask.time_ns < task.unsure_until_ns;
        let good = from.sure && !lossy;
        match edge.at.iter_mut().find(|at| at.site == ask.site) {
            Some(at) => {
                at.count += 1;
                at.last_ns = ask.time_ns;
                at.gates &= from.gates;
                if !at.good && (at.first.lossy, !at.first.sure) > (lossy, !from.sure) {
                    (at.first, at.locks, at.good) = (Arc::new(witness()), locks, good);
                }
            }
            None => {
                let (first, site, gates) = (Arc::new(witness()), ask.site, from.gates);
                edge.at.push(At { site, good, count: 1, last_ns: ask.time_ns, first, locks, gates });
            }
        }
        if edge.tasks.len() < EdgeView::TASKS_MAX as usize && !edge.tasks.contains(&task.tid) {
            edge.tasks.push(task.tid);
        }
        match edge.pairs.get(&locks) {
            Some(at) => {
                let pair = &mut self.pairs[*at as usize];
                pair.last_ns = ask.time_ns;
                if good && pair.known.contains(&sort) {
                    return;
                }
                if pair.again(sort, lossy, from.sure, witness) {
                    mark(pair, *at, ask.time_ns, &mut self.fresh);
                }
            }
            None => self.new_pair(place, locks, witness()),
        }
    }

    fn new_edge(&mut self, from: End, ask: &Ask) -> u32 {
        self.edges.push(Edge {
            from,
            to: (ask.class, ask.mode),
            manner: ask.manner,
            count: 0,
            first_ns: ask.time_ns,
            last_ns: 0,
            tasks: Vec::new(),
            at: Vec::new(),
            pairs: FxMap::default(),
            instances: 0,
        });
        // It may close a cycle of classes: what was of no interest may be.
        for (at, pair) in self.pairs.iter_mut().enumerate() {
            if !pair.witnesses.is_empty() && self.edges[pair.edge as usize].can_close() {
                mark(pair, at as u32, ask.time_ns, &mut self.fresh);
            }
        }
        let place = (self.edges.len() - 1) as u32;
        let at = key(from, ask) as usize;
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
        let now_ns = witness.time_ns;
        let of = &mut self.edges[edge as usize];
        let pair = Pair {
            edge,
            from: locks.0,
            to: locks.1,
            last_ns: now_ns,
            witnesses: vec![Arc::new(witness)],
            known: [0; KNOWN],
            another_ns: 0,
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

    /// Pairs that nobody has looked at, and about which nothing new was told since `before_ns`. What is told later of them has
    /// its turn later.
    pub fn due(&mut self, before_ns: u64) -> Vec<u32> {
        let mut due = Vec::new();
        for _ in 0..self.fresh.len() {
            let Some(at) = self.fresh.front().copied() else { break };
            if self.pairs[at as usize].queued_ns >= before_ns {
                break;
            }
            self.fresh.pop_front();
            let pair = &mut self.pairs[at as usize];
            if pair.fresh_ns < before_ns {
                due.push(at);
                pair.fresh_ns = 0;
            } else {
                pair.queued_ns = pair.fresh_ns;
                self.fresh.push_back(at);
            }
        }
        due
    }

    /// This one has its turn again later.
    pub fn wait_on(&mut self, at: u32, now_ns: u64) {
        mark(&mut self.pairs[at as usize], at, now_ns, &mut self.fresh);
    }

    /// They wait on.
    pub fn put_back(&mut self, rest: &[u32]) {
        for at in rest.iter().rev() {
            let pair = &mut self.pairs[*at as usize];
            if pair.fresh_ns == 0 {
                pair.fresh_ns = pair.queued_ns.max(1);
                self.fresh.push_front(*at);
            }
        }
    }

    /// Whether older pairs wait for somebody to look at them before they go.
    pub fn is_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// Lets older pairs go where there are too many.
    pub fn thin_out(&mut self) {
        for edge in std::mem::take(&mut self.full) {
            self.thin(edge);
        }
    }

    /// Lets the older half of an edge's pairs go.
    fn thin(&mut self, edge: u32) {
        let of = &mut self.edges[edge as usize];
        let mut by_age: Vec<(u64, u32)> =
            of.pairs.values().map(|at| (self.pairs[*at as usize].last_ns, *at)).collect();
        by_age.sort_unstable();
        for (_, at) in &by_age[..by_age.len() / 2] {
            let pair = &mut self.pairs[*at as usize];
            pair.witnesses = Vec::new();
            pair.fresh_ns = 0;
            of.pairs.remove(&(pair.from, pair.to));
            if let Some(out) = self.out.get_mut(&pair.from) {
                out.retain(|other| other != at);
                if out.is_empty() {
                    self.out.remove(&pair.from);
                }
            }
            self.unused.push(*at);
        }
        let pairs = &self.pairs;
        self.fresh.retain(|at| pairs[*at as usize].fresh_ns > 0);
    }

    /// Ordered by class and mode.
    pub fn views(&self, orders: &[DocumentedOrder], name: impl Fn(SiteId) -> Arc<str>) -> Vec<EdgeView> {
        let view = |(e, at): (&Edge, &At)| EdgeView {
            from: e.from.0,
            from_mode: e.from.1,
            to: e.to.0,
            to_mode: e.to.1,
            manner: e.manner,
            sure: at.first.sure,
            count: e.count,
            tasks: e.tasks.len() as u32,
            instances: e.instances,
            lossy: at.first.lossy,
            first_ns: e.first_ns,
            last_ns: e.last_ns,
            gates: e.gates(),
            documented: documented::beside(e, orders, &name),
            witness: e.step(at.locks, &at.first, &name),
        };
        let mut views: Vec<EdgeView> = self.edges.iter().map(|e| (e, e.best())).map(view).collect();
        views.sort_unstable_by_key(|v| (v.from, v.from_mode, v.to, v.to_mode, v.manner));
        views
    }
}

fn mark(pair: &mut Pair, at: u32, now_ns: u64, fresh: &mut VecDeque<u32>) {
    let now_ns = now_ns.max(1);
    if std::mem::replace(&mut pair.fresh_ns, now_ns) == 0 {
        pair.queued_ns = now_ns;
        fresh.push_back(at);
    }
}
