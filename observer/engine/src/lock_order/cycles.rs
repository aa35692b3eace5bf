//! Cycles of the lock-order graph that can deadlock.
//!
//! A cycle of instances is `feasible` if all steps can block and each step has a task of its own. In addition, these
//! tasks can be brought to the point where they all wait ([`super::feasible`]). The cycle is `guarded` if two of the tasks
//! hold a common lock that prevents this. It is `possible` if the verdict depends on the exact moment at which a folio
//! was locked. A cycle of classes that no instances close is `class-only`, as is a cycle whose tasks cannot be there
//! together. A single task does not make a cycle.
//!
//! Readers wait behind a queued writer (kernel/locking/rwsem.c). So a read request blocks on a lock that is held for
//! reading if a writer comes between. Such a step needs another task that requests the lock for writing and can get to
//! this point, too.
//!
//! Some locks of one class nest by design (two PTLs in fork and mremap), which a class graph cannot judge. So steps
//! within one class count only between instances, and between two PTLs never.
//!
//! The search is incremental: it starts from pairs of instances that are new or have a new witness, and goes only
//! through them.

mod judge;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use self::judge::{Verdict, judge};
use crate::{
    event::SiteId,
    finding::{Cycle, Doubt, Evidence, Finding, Queued, Rank},
    fx::FxMap,
    holds::Instance,
    lock_class::LockClass,
    lock_order::{
        components::{Components, NO_COMPONENT},
        graph::{Edge, Graph, Witness},
    },
    world::World,
};

/// Objects that this search bounds, for reports.
const PAIRS: &str = "pairs of locks";

/// Longest cycle that is searched: one step for each class.
const STEPS_MAX: usize = LockClass::ALL.len();
/// Maximum number of classes in a chain that is kept although a shorter chain cuts across it.
const CHORDS_MAX: usize = 5;
/// Maximum number of paths tried per pair, shorter paths first: bounds the time in a dense graph.
const PATHS_MAX: usize = 512;
/// Number of examined pairs that cost as much as one path.
const LOOKS_PER_PATH: usize = 32;
/// Maximum number of paths tried at a time: while events arrive, and at the end.
const AT_A_TIME: usize = 10_000;
const AT_THE_END: usize = 1_000_000;
/// Maximum number of chains with the same key that are distinguished for the count.
const CHAINS_MAX: usize = 256;

/// Searches the first pairs of this list, as far as the budget allows.
fn look(at_hand: AtHand<'_>, pairs: &[u32], budget: usize, found: &mut BTreeMap<Key, Found>) -> Looked {
    let graph = at_hand.graph;
    let closing = closing(graph);
    let closes = |at: &u32| closing[graph.pair(*at).edge as usize];
    if !pairs.iter().any(closes) {
        return Looked { seen: pairs.len(), ..Looked::default() };
    }
    let knots = Knots::of(graph, &closing, pairs);
    let mut search = Search { graph, closing, knots, chains: BTreeMap::new() };
    let (mut left, mut seen, mut cut) = (budget, 0, Vec::new());
    for at in pairs {
        let tried = search.through(*at);
        cut.extend((tried >= PATHS_MAX).then_some(*at));
        seen += 1;
        left = left.saturating_sub(tried);
        if left == 0 {
            break;
        }
    }
    let mut open = Vec::new();
    for chain in search.chains.into_values() {
        if judge(at_hand, &chain, found) {
            open.push(chain[0]);
        }
    }
    Looked { seen, cut, open }
}

/// Result of searching pairs.
#[derive(Default)]
struct Looked {
    /// Number of pairs that were searched, from the first.
    seen: usize,
    /// Pairs whose search was cut.
    cut: Vec<u32>,
    /// Pairs of chains whose verdict depends on an operation that has not ended.
    open: Vec<u32>,
}

/// Merge key of cycles: classes of the locks and sites of the steps.
type Key = Vec<(LockClass, SiteId)>;

/// Edge, held lock and requested lock.
type Step = (u32, Instance, Instance);

/// One step of a closed chain.
#[derive(Clone, Debug)]
struct Hop {
    edge: u32,
    from: Instance,
    to: Instance,
    seen: Arc<Witness>,
}

impl Hop {
    fn step(&self) -> Step {
        (self.edge, self.from, self.to)
    }
}

/// The best evidence for cycles with the same key.
#[derive(Clone, Debug)]
struct Found {
    verdict: Verdict,
    hops: Vec<Hop>,
    first_ns: u64,
    /// Distinct chains of instances.
    chains: BTreeSet<Vec<Instance>>,
}

/// State that a judgement reads.
#[derive(Clone, Copy)]
struct AtHand<'a> {
    graph: &'a Graph,
    world: &'a World,
}

/// The cycles found so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cycles {
    found: BTreeMap<Key, Found>,
    /// Last time of steps that occur in `found`, but whose pairs are not kept any more.
    last_ns: BTreeMap<Step, u64>,
    /// Number of pairs with more paths through them than the search tries.
    pub cut: u64,
}

impl Cycles {
    /// Makes cycles incomplete that use a witness of this task since `since_ns`.
    pub fn doubt_since(&mut self, serial: u64, since_ns: u64) {
        for found in self.found.values_mut() {
            let writers = found.verdict.writers.iter().map(|(_, writer)| writer);
            let mut seen = found.hops.iter().map(|hop| &hop.seen).chain(writers);
            if seen.any(|w| w.presence.serial == serial && w.time_ns() >= since_ns) {
                (found.verdict.rank, found.verdict.doubts) = (Rank::Incomplete, vec![Doubt::Loss]);
            }
        }
    }

    /// Searches pairs that were not searched yet and that have no new evidence since `before_ns`; `u64::MAX`: all
    /// pairs. Pairs whose operations have not ended are searched again later.
    pub fn settle(&mut self, graph: &mut Graph, world: &World, before_ns: u64) {
        let due = graph.due(before_ns);
        if !due.is_empty() {
            let mut found = std::mem::take(&mut self.found);
            let budget = if before_ns == u64::MAX { AT_THE_END } else { AT_A_TIME };
            let looked = look(AtHand { graph, world }, &due, budget, &mut found);
            self.found = found;
            self.cut += looked.cut.len() as u64;
            looked.cut.into_iter().for_each(|pair| graph.cut(pair));
            if before_ns != u64::MAX {
                looked.open.into_iter().for_each(|pair| graph.wait_on(pair, world.now_ns));
            }
            graph.put_back(&due[looked.seen..]);
        }
        if !graph.is_thick() {
            return;
        }
        let steps: BTreeSet<Step> = self.found.values().flat_map(|f| f.hops.iter().map(Hop::step)).collect();
        graph.thin_out(world.presences(), world.now_ns, |edge, locks, last_ns| {
            let step = (edge, locks.0, locks.1);
            if steps.contains(&step) {
                self.last_ns.insert(step, last_ns);
            }
        });
    }

    /// One finding per key. Very recent edges are not included: a folio may still turn out to have been locked.
    pub fn findings(&self, graph: &Graph, name: impl Fn(SiteId) -> Arc<str>) -> Vec<Finding> {
        let mut all = Vec::new();
        // Weak cycles are reported once per chain of classes, by their best evidence.
        let mut weak: BTreeMap<Vec<LockClass>, (&Found, usize)> = BTreeMap::new();
        for (key, found) in &self.found {
            if found.verdict.rank <= Rank::Possible {
                all.push(found.finding(id(key, &name), found.chains.len(), graph, &self.last_ns, &name));
                continue;
            }
            let worth = |f: &Found| (f.verdict.rank, f.verdict.doubts.len(), f.first_ns);
            let (best, chains) = weak.entry(classes_of(key)).or_insert((found, 0));
            *chains += found.chains.len();
            if worth(found) < worth(best) {
                *best = found;
            }
        }
        let weaker = |(classes, (found, chains)): (&Vec<LockClass>, &(&Found, usize))| {
            found.finding(id_of_classes(classes), *chains, graph, &self.last_ns, &name)
        };
        all.extend(weak.iter().map(weaker));
        let closed: BTreeSet<Vec<LockClass>> = self.found.keys().map(|key| classes_of(key)).collect();
        let classes = class_cycles(graph).into_iter().filter_map(|chain| class_only(&chain, &closed, &name));
        all.extend(classes);
        all
    }
}

impl Found {
    fn finding(
        &self,
        id: String,
        chains: usize,
        graph: &Graph,
        gone: &BTreeMap<Step, u64>,
        name: impl Fn(SiteId) -> Arc<str>,
    ) -> Finding {
        let edge = |hop: &Hop| &graph.edges()[hop.edge as usize];
        let steps: Vec<_> =
            self.hops.iter().map(|hop| edge(hop).step((hop.from, hop.to), &hop.seen, &name)).collect();
        let last = |hop: &Hop| {
            let kept = graph.last_ns(hop.edge, (hop.from, hop.to));
            kept.or_else(|| gone.get(&hop.step()).copied()).unwrap_or(hop.seen.time_ns())
        };
        let queued = self.verdict.writers.iter().map(|(step, writer)| Queued {
            step: *step,
            party: writer.party(&name),
            waiting: false,
        });
        let mut doubts = self.verdict.doubts.clone();
        let inferred = steps.iter().filter(|s| s.from_basis.is_inferred());
        doubts.extend(inferred.map(|s| Doubt::InferredHold(s.from)));
        doubts.sort_unstable();
        doubts.dedup();
        let last_ns = self.hops.iter().map(last).max().unwrap_or(0);
        Finding {
            id,
            rank: self.verdict.rank,
            count: chains as u64,
            first_ns: self.first_ns,
            last_ns: last_ns.max(self.first_ns),
            doubts,
            evidence: Evidence::Cycle(Cycle {
                queued: queued.collect(),
                steps,
                gate: self.verdict.gate,
                recordings: Vec::new(),
            }),
        }
    }
}

fn classes_of(key: &[(LockClass, SiteId)]) -> Vec<LockClass> {
    key.iter().map(|(class, _)| *class).collect()
}

/// Stable name of a cycle: equal in every run with the same finding.
pub(crate) fn id(key: &[(LockClass, SiteId)], name: impl Fn(SiteId) -> Arc<str>) -> String {
    let sites: Vec<Arc<str>> = key.iter().map(|(_, site)| name(*site)).collect();
    format!("{}:{}", id_of_classes(&classes_of(key)), sites.join(">"))
}

/// Name shared by all weak cycles of these classes.
pub(crate) fn id_of_classes(classes: &[LockClass]) -> String {
    let names: Vec<&str> = classes.iter().map(|c| c.name()).collect();
    format!("cycle:{}", names.join(">"))
}

/// Returns the start of the least rotation of a circle, so that the result does not depend on where the circle was
/// entered. One pass, because circles of tasks can have thousands of steps.
pub(crate) fn least_rotation<T: Ord>(circle: &[T]) -> usize {
    let n = circle.len();
    let (mut best, mut other, mut same) = (0, 1, 0);
    while best < n && other < n && same < n {
        match circle[(best + same) % n].cmp(&circle[(other + same) % n]) {
            std::cmp::Ordering::Equal => same += 1,
            std::cmp::Ordering::Greater => {
                best = other.max(best + same + 1);
                other = best + 1;
                same = 0;
            }
            std::cmp::Ordering::Less => {
                other += same + 1;
                same = 0;
            }
        }
    }
    best.min(n.saturating_sub(1))
}

/// Returns the finding for a chain of classes that no instances close.
fn class_only(
    chain: &[&Edge],
    closed: &BTreeSet<Vec<LockClass>>,
    name: impl Fn(SiteId) -> Arc<str>,
) -> Option<Finding> {
    let classes: Vec<LockClass> = chain.iter().map(|e| e.from.0).collect();
    if meets_on_gated_page(chain) {
        return None;
    }
    let mut tids: Vec<_> = chain.iter().flat_map(|e| e.tasks.iter().copied()).collect();
    tids.sort_unstable();
    tids.dedup();
    if closed.contains(&classes) || tids.len() < 2 {
        return None;
    }
    let steps: Vec<_> = chain.iter().map(|e| e.step(e.best().locks, &e.best().first, &name)).collect();
    let lossy = chain.iter().any(|e| e.best().first.lossy);
    let mut doubts: Vec<Doubt> = Vec::new();
    doubts.extend(lossy.then_some(Doubt::Loss));
    doubts.extend(steps.iter().filter(|s| !s.sure).map(|s| Doubt::Moment(s.from)));
    let bounded = chain.iter().any(|e| e.is_bounded());
    doubts.extend(bounded.then_some(Doubt::Bound(PAIRS)));
    let first_ns = steps.iter().map(|s| s.party.time_ns).max().unwrap_or(0);
    Some(Finding {
        id: id_of_classes(&classes),
        rank: if lossy || bounded { Rank::Incomplete } else { Rank::ClassOnly },
        count: 1,
        first_ns,
        last_ns: chain.iter().map(|e| e.last_ns).max().unwrap_or(0).max(first_ns),
        doubts,
        evidence: Evidence::Cycle(Cycle { steps, gate: None, queued: Vec::new(), recordings: Vec::new() }),
    })
}

/// Returns true if the parties of a chain of classes would meet on a page under that page's fault mutex. Each party
/// held a fault mutex whenever it held or requested a folio. For one page it is the same mutex, which admits only one
/// of them.
fn meets_on_gated_page(chain: &[&Edge]) -> bool {
    let of_folio = || chain.iter().filter(|e| e.from.0.is_folio() || e.to.0.is_folio());
    let is_step = chain.iter().any(|e| e.from.0 == LockClass::FaultMutex);
    !is_step && of_folio().count() > 1 && of_folio().all(|e| e.gates().contains(&LockClass::FaultMutex))
}

/// Search for closed chains of instances, each found once.
struct Search<'a> {
    graph: &'a Graph,
    /// Edges from whose second class a chain leads back to the first.
    closing: Vec<bool>,
    knots: Knots,
    /// Chains of pairs, by instances and edges from the least instance on.
    chains: BTreeMap<Vec<(LockClass, Instance, u32)>, Vec<u32>>,
}

impl Search<'_> {
    /// Searches the chains through a pair. Returns the number of tried paths.
    fn through(&mut self, pair: u32) -> usize {
        if !self.closes(pair) {
            return 1;
        }
        let (mut paths, mut shorter) = (0, 0);
        for steps in 2..=STEPS_MAX {
            let before = paths;
            self.extend(&mut vec![pair], steps, &mut paths);
            // If the number does not grow, no path is longer than those of the last round.
            if paths >= PATHS_MAX || paths - before == shorter {
                break;
            }
            shorter = paths - before;
        }
        paths
    }

    fn closes(&self, pair: u32) -> bool {
        let of = self.graph.pair(pair);
        self.closing[of.edge as usize] && self.knots.are_tied(of.from, of.to)
    }

    /// Tries all paths of `steps` steps, at least two.
    fn extend(&mut self, path: &mut Vec<u32>, steps: usize, paths: &mut usize) {
        let (Some(first), Some(last)) = (path.first(), path.last()) else { return };
        let (graph, is_last) = (self.graph, path.len() + 1 == steps);
        let (start, end) = (graph.pair(*first).from, graph.pair(*last).to);
        let next = graph.from(end);
        *paths += 1 + next.len() / LOOKS_PER_PATH;
        for at in next {
            let to = graph.pair(*at).to;
            if is_last != (to == start) || !self.closes(*at) {
                continue;
            }
            // A path passes each lock once.
            let fresh = || path.iter().all(|at| graph.pair(*at).from != to && graph.pair(*at).to != to);
            if is_last || (*paths < PATHS_MAX && fresh()) {
                path.push(*at);
                if is_last {
                    self.keep(path)
                } else {
                    self.extend(path, steps, paths)
                }
                path.pop();
            }
        }
    }

    fn keep(&mut self, path: &[u32]) {
        let of = |at: &u32| {
            let pair = self.graph.pair(*at);
            (self.graph.edge(pair).from.0, pair.from, *at)
        };
        let mut name: Vec<(LockClass, Instance, u32)> = path.iter().map(of).collect();
        let by = least_rotation(&name);
        name.rotate_left(by);
        let mut chain = path.to_vec();
        chain.rotate_left(by);
        self.chains.insert(name, chain);
    }
}

/// Sets of locks that lead to each other, among the locks that are reachable from the given pairs. Every cycle lies
/// within one set.
struct Knots {
    numbers: FxMap<Instance, u32>,
    of: Vec<u32>,
}

impl Knots {
    fn of(graph: &Graph, closing: &[bool], pairs: &[u32]) -> Knots {
        let closes = |at: &&u32| closing[graph.pair(**at).edge as usize];
        let (mut numbers, mut locks) = (FxMap::default(), Vec::new());
        let mut number = |lock: Instance, locks: &mut Vec<Instance>| {
            *numbers.entry(lock).or_insert_with(|| {
                locks.push(lock);
                locks.len() as u32 - 1
            })
        };
        for at in pairs.iter().filter(closes) {
            number(graph.pair(*at).from, &mut locks);
        }
        // Successors of all locks in one list, and the end of each lock's part.
        let (mut next, mut ends) = (Vec::new(), Vec::new());
        while let Some(lock) = locks.get(ends.len()).copied() {
            next.extend(
                graph.from(lock).iter().filter(closes).map(|at| number(graph.pair(*at).to, &mut locks)),
            );
            ends.push(next.len());
        }
        let of_lock = |node: usize| node.checked_sub(1).map_or(0, |before| ends[before])..ends[node];
        let successor = |node: u32, place: usize| {
            next[of_lock(node as usize)].get(place).map(|to: &u32| (*to, place + 1))
        };
        let of = Components::of(locks.len(), locks.len() as u32, successor).of;
        Knots { numbers, of }
    }

    fn knot(&self, lock: Instance) -> Option<u32> {
        let knot = self.of[*self.numbers.get(&lock)? as usize];
        (knot != NO_COMPONENT).then_some(knot)
    }

    fn are_tied(&self, a: Instance, b: Instance) -> bool {
        self.knot(a).is_some_and(|knot| self.knot(b) == Some(knot))
    }
}

/// Returns for each edge whether it can be a step and a path of such edges leads from its second class back to its
/// first.
fn closing(graph: &Graph) -> Vec<bool> {
    const N: usize = LockClass::ALL.len();
    let mut reach = [[false; N]; N];
    for edge in graph.edges().iter().filter(|e| e.can_close()) {
        reach[edge.from.0 as usize][edge.to.0 as usize] = true;
    }
    for via in 0..N {
        for from in 0..N {
            for to in 0..N {
                reach[from][to] |= reach[from][via] && reach[via][to];
            }
        }
    }
    let back = |e: &Edge| e.from.0 == e.to.0 || reach[e.to.0 as usize][e.from.0 as usize];
    graph.edges().iter().map(|e| e.can_close() && back(e)).collect()
}

/// Closed chains of classes, each once, with the best edge of each step; without steps within one class.
fn class_cycles(graph: &Graph) -> Vec<Vec<&Edge>> {
    let mut best: BTreeMap<(LockClass, LockClass), &Edge> = BTreeMap::new();
    let closing = graph.edges().iter().filter(|e| e.can_close() && e.from.0 != e.to.0);
    for edge in closing {
        let place = best.entry((edge.from.0, edge.to.0)).or_insert(edge);
        let worth = |e: &Edge| (e.best().first.lossy, !e.best().first.sure, e.best().first.time_ns());
        if worth(edge) < worth(place) {
            *place = edge;
        }
    }
    let edges = |chain: Vec<LockClass>| {
        let next = chain.iter().cycle().skip(1);
        chain.iter().zip(next).filter_map(|(from, to)| best.get(&(*from, *to)).copied()).collect()
    };
    class_chains(|from, to| best.contains_key(&(from, to))).into_iter().map(edges).collect()
}

/// Returns closed chains of classes. Each chain is found once, from its least class, and passes each class once. A
/// chain with more than [`CHORDS_MAX`] classes is omitted if a shorter chain cuts across it, because that one says the
/// same. `leads` returns true if there is a step.
pub(crate) fn class_chains(leads: impl Fn(LockClass, LockClass) -> bool) -> Vec<Vec<LockClass>> {
    let mut found = Vec::new();
    for start in LockClass::ALL {
        walk_classes(&leads, &mut vec![start], &mut found);
    }
    found
}

fn walk_classes(
    leads: &impl Fn(LockClass, LockClass) -> bool,
    path: &mut Vec<LockClass>,
    found: &mut Vec<Vec<LockClass>>,
) {
    let (Some(start), Some(end)) = (path.first().copied(), path.last().copied()) else { return };
    if path.len() > 1 && leads(end, start) {
        found.push(path.clone());
    }
    for to in LockClass::ALL.into_iter().filter(|to| *to > start) {
        if path.contains(&to) || !leads(end, to) {
            continue;
        }
        path.push(to);
        if path.len() <= CHORDS_MAX || !has_chord(leads, path) {
            walk_classes(leads, path, found);
        }
        path.pop();
    }
}

/// Returns true if a step leads between two classes of a path that are not neighbours; the closing step does not count.
fn has_chord(leads: &impl Fn(LockClass, LockClass) -> bool, path: &[LockClass]) -> bool {
    let last = path.len() - 1;
    let pairs = (0..=last).flat_map(|from| (0..=last).map(move |to| (from, to)));
    let is_chord = |(from, to): &(usize, usize)| from != to && *to != from + 1 && (*from, *to) != (last, 0);
    pairs.filter(is_chord).any(|(from, to)| leads(path[from], path[to]))
}

#[cfg(test)]
mod tests {
    use super::least_rotation;

    /// The least of all rotations.
    fn by_comparing_all(circle: &[usize]) -> usize {
        let turned = |by: usize| [&circle[by..], &circle[..by]].concat();
        (0..circle.len()).min_by_key(|by| turned(*by)).unwrap_or(0)
    }

    #[test]
    fn the_least_rotation_equals_the_brute_force_result() {
        // Every circle of up to seven steps over three letters.
        for n in 0..=7u32 {
            for number in 0..3usize.pow(n) {
                let circle: Vec<usize> = (0..n).map(|at| number / 3usize.pow(at) % 3).collect();
                assert_eq!(least_rotation(&circle), by_comparing_all(&circle), "{circle:?}");
            }
        }
    }
}
