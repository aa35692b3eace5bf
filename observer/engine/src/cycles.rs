//! Which edges close to a deadlock.
//!
//! A cycle of instances is `feasible` when its steps can all block, are made by as many tasks as there are steps, and no
//! two of them are kept apart by a common gate; `guarded` if only a gate is in the way; `confirmed` if every step's task
//! is seen waiting. A cycle of classes that no instances close is `class-only`. One task alone makes no cycle.
//!
//! Readers wait behind a queued writer (kernel/locking/rwsem.c), so that a read ask of a lock that is held for reading
//! blocks if a writer comes between: such a step counts if a writer of that lock was seen at all.
//!
//! Locks of one class nest by design where they do (two page-table locks in fork and mremap), which no class graph can
//! judge: steps within one class count between instances only, and between two PTLs not at all.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    event::{Mode, SiteId, Tid},
    finding::{AgainstOrder, Cycle, Doubt, Evidence, Finding, Known, Rank, Step},
    graph::{Edge, Graph, Pair, Witness},
    lock_class::LockClass,
    locks::Locks,
    loss::Losses,
    setup::DocumentedOrder,
    tasks::{Instance, Task, Tasks},
};

/// Longest cycle that is looked for.
const STEPS_MAX: usize = 5;
/// Paths tried per search, so that a dense graph costs a bounded time.
const PATHS_MAX: usize = 100_000;
/// One edge between two instances.
#[derive(Clone, Copy)]
struct Hop<'a> {
    edge: &'a Edge,
    from: Instance,
    to: Instance,
    pair: &'a Pair,
}

/// What a closed chain of instances amounts to.
struct Verdict {
    rank: Rank,
    doubts: Vec<Doubt>,
    gate: Option<(LockClass, u64)>,
    waiting: Vec<bool>,
}

fn can_close(edge: &Edge) -> bool {
    !edge.trylock && (edge.from.0, edge.to.0) != (LockClass::Ptl, LockClass::Ptl)
}

/// All cycles, one finding per chain of classes.
pub(crate) fn findings(
    graph: &Graph,
    tasks: &Tasks,
    (locks, losses): (&Locks, &Losses),
    name: impl Fn(SiteId) -> Arc<str>,
) -> Vec<Finding> {
    let mut found: BTreeMap<Vec<LockClass>, Finding> = BTreeMap::new();
    for chain in instance_cycles(graph) {
        let Some(verdict) = judge(&chain, tasks, locks, losses) else { continue };
        let classes = chain.iter().map(|a| a.edge.from.0).collect();
        let seen = witnesses(&chain);
        let steps = chain.iter().zip(&verdict.waiting).zip(seen);
        let steps =
            steps.map(|((a, waiting), seen)| a.edge.step((a.from, a.to), seen, &name, *waiting)).collect();
        let last_ns = chain.iter().map(|a| a.pair.last_ns).max();
        add(&mut found, classes, verdict, steps, last_ns);
    }
    for chain in class_cycles(graph) {
        let classes: Vec<LockClass> = chain.iter().map(|e| e.from.0).collect();
        let mut tids: Vec<Tid> = chain.iter().flat_map(|e| e.tasks().iter().copied()).collect();
        tids.sort_unstable();
        tids.dedup();
        if found.contains_key(&classes) || tids.len() < 2 {
            continue;
        }
        let lossy = chain.iter().any(|e| e.lossy);
        let doubts = [(lossy, Doubt::Loss), (chain.iter().any(|e| e.pairs_cut), Doubt::InstancesCut)];
        let verdict = Verdict {
            rank: if lossy { Rank::Incomplete } else { Rank::ClassOnly },
            doubts: doubts.into_iter().filter(|(applies, _)| *applies).map(|(_, doubt)| doubt).collect(),
            gate: None,
            waiting: vec![false; chain.len()],
        };
        let steps = chain.iter().map(|e| {
            let (locks, pair) = e.first();
            e.step(locks, &pair.first, &name, false)
        });
        let last_ns = chain.iter().map(|e| e.last_ns).max();
        add(&mut found, classes, verdict, steps.collect(), last_ns);
    }
    found.into_values().collect()
}

/// One witness for each step, by as many tasks as there are: the sides of a deadlock are different tasks.
fn witnesses<'a>(chain: &[Hop<'a>]) -> Vec<&'a Witness> {
    let choice = |picks: u32| -> Vec<&'a Witness> {
        let of = |(at, hop): (usize, &Hop<'a>)| {
            let other = (picks >> at & 1) as usize;
            hop.pair.witnesses().nth(other).unwrap_or(&hop.pair.first)
        };
        chain.iter().enumerate().map(of).collect()
    };
    let tasks = |picks: &u32| {
        let mut tids: Vec<Tid> = choice(*picks).iter().map(|w| w.tid()).collect();
        tids.sort_unstable();
        tids.dedup();
        tids.len()
    };
    // At most two to the power of the longest cycle; of equal choices the one with the most first witnesses.
    let best = (0..1u32 << chain.len()).max_by_key(|picks| (tasks(picks), std::cmp::Reverse(*picks)));
    choice(best.unwrap_or(0))
}

/// Keeps the worst of the cycles of one chain of classes.
fn add(
    found: &mut BTreeMap<Vec<LockClass>, Finding>,
    classes: Vec<LockClass>,
    verdict: Verdict,
    steps: Vec<Step>,
    last_ns: Option<u64>,
) {
    let first_ns = steps.iter().map(|s| s.side.time_ns).max().unwrap_or(0);
    let names: Vec<&str> = classes.iter().map(|c| c.name()).collect();
    let mut doubts = verdict.doubts;
    doubts.extend(
        steps.iter().filter(|s| s.from_known == Known::Contract).map(|s| Doubt::InferredHold(s.from)),
    );
    doubts.sort_unstable();
    doubts.dedup();
    let finding = Finding {
        id: format!("cycle:{}", names.join(">")),
        rank: verdict.rank,
        count: 1,
        first_ns,
        last_ns: last_ns.unwrap_or(first_ns).max(first_ns),
        doubts,
        evidence: Evidence::Cycle(Cycle { steps, gate: verdict.gate, recordings: Vec::new() }),
    };
    match found.get_mut(&classes) {
        None => drop(found.insert(classes, finding)),
        Some(known) => {
            let count = known.count + 1;
            let (first_ns, last_ns) =
                (known.first_ns.min(finding.first_ns), known.last_ns.max(finding.last_ns));
            if (finding.rank, finding.first_ns, finding.doubts.len())
                < (known.rank, known.first_ns, known.doubts.len())
            {
                *known = finding;
            }
            (known.count, known.first_ns, known.last_ns) = (count, first_ns, last_ns);
        }
    }
}

/// Closed chains of instances, each beginning at its least class.
fn instance_cycles(graph: &Graph) -> Vec<Vec<Hop<'_>>> {
    let cyclic = classes_on_cycles(graph);
    let mut arcs: Vec<Hop<'_>> = graph
        .edges()
        .iter()
        .filter(|e| can_close(e) && cyclic.contains(&e.from.0) && cyclic.contains(&e.to.0))
        .flat_map(|edge| edge.pairs().map(move |((from, to), pair)| Hop { edge, from: *from, to: *to, pair }))
        .collect();
    arcs.sort_unstable_by_key(|a| (a.edge.from.0, a.from, a.edge.to.0, a.to, a.edge.from.1, a.edge.to.1));
    let mut by_from: BTreeMap<Instance, Vec<usize>> = BTreeMap::new();
    for (at, arc) in arcs.iter().enumerate() {
        by_from.entry(arc.from).or_default().push(at);
    }
    let mut search = Search { paths: 0, found: Vec::new() };
    for at in 0..arcs.len() {
        search.extend(&arcs, &by_from, &mut vec![at]);
    }
    search.found
}

struct Search<'a> {
    paths: usize,
    found: Vec<Vec<Hop<'a>>>,
}

impl<'a> Search<'a> {
    fn extend(&mut self, arcs: &[Hop<'a>], by_from: &BTreeMap<Instance, Vec<usize>>, path: &mut Vec<usize>) {
        let (Some(first), Some(last)) = (path.first().copied(), path.last().copied()) else { return };
        self.paths += 1;
        if self.paths > PATHS_MAX {
            return;
        }
        let (start, end) = (&arcs[first], &arcs[last]);
        if end.to == start.from {
            self.found.push(path.iter().map(|at| arcs[*at]).collect());
            return;
        }
        if path.len() == STEPS_MAX {
            return;
        }
        let least = (start.edge.from.0, start.from);
        for next in by_from.get(&end.to).into_iter().flatten() {
            let arc = &arcs[*next];
            // Every cycle is found once: from its least lock, through each lock once.
            let begins_here = (arc.edge.from.0, arc.from) > least;
            let back = arc.to == start.from;
            let fresh = back || path.iter().all(|at| arcs[*at].from != arc.to && arcs[*at].to != arc.to);
            if begins_here && fresh {
                path.push(*next);
                self.extend(arcs, by_from, path);
                path.pop();
            }
        }
    }
}

/// Classes from which a way of blocking edges leads back to them; self edges count.
fn classes_on_cycles(graph: &Graph) -> Vec<LockClass> {
    const N: usize = LockClass::ALL.len();
    let mut reach = [[false; N]; N];
    for edge in graph.edges().iter().filter(|e| can_close(e)) {
        reach[edge.from.0 as usize][edge.to.0 as usize] = true;
    }
    for via in 0..N {
        for from in 0..N {
            for to in 0..N {
                reach[from][to] |= reach[from][via] && reach[via][to];
            }
        }
    }
    LockClass::ALL.into_iter().filter(|c| reach[*c as usize][*c as usize]).collect()
}

/// Closed chains of classes, each once, with the first edge of each step; no steps within one class.
fn class_cycles(graph: &Graph) -> Vec<Vec<&Edge>> {
    let mut best: BTreeMap<(LockClass, LockClass), &Edge> = BTreeMap::new();
    let closing = graph.edges().iter().filter(|e| can_close(e) && e.from.0 != e.to.0);
    for edge in closing {
        let place = best.entry((edge.from.0, edge.to.0)).or_insert(edge);
        if (edge.lossy, edge.first().1.first.time_ns) < (place.lossy, place.first().1.first.time_ns) {
            *place = edge;
        }
    }
    let mut found = Vec::new();
    // Every cycle is found once: from its least class.
    for edge in best.values().filter(|e| e.to.0 > e.from.0) {
        walk_classes(&best, &mut vec![*edge], &mut found);
    }
    found
}

fn walk_classes<'a>(
    best: &BTreeMap<(LockClass, LockClass), &'a Edge>,
    path: &mut Vec<&'a Edge>,
    found: &mut Vec<Vec<&'a Edge>>,
) {
    let (Some(start), Some(end)) = (path.first().map(|e| e.from.0), path.last().map(|e| e.to.0)) else {
        return;
    };
    if end == start {
        found.push(path.clone());
        return;
    }
    if path.len() == STEPS_MAX {
        return;
    }
    for to in LockClass::ALL {
        let fresh = to == start || path.iter().all(|e| e.to.0 != to);
        if to >= start
            && fresh
            && let Some(edge) = best.get(&(end, to))
        {
            path.push(edge);
            walk_classes(best, path, found);
            path.pop();
        }
    }
}

/// Whether a closed chain of instances can deadlock; `None`: one task alone made it.
fn judge(chain: &[Hop<'_>], tasks: &Tasks, locks: &Locks, losses: &Losses) -> Option<Verdict> {
    let mut tids: Vec<Tid> = chain.iter().flat_map(|a| a.pair.tasks().iter().copied()).collect();
    tids.sort_unstable();
    tids.dedup();
    if tids.len() < 2 {
        return None;
    }
    let mut doubts = Vec::new();
    let mut closes = true;
    for (at, arc) in chain.iter().enumerate() {
        let next = &chain[(at + 1) % chain.len()];
        if arc.edge.to.1 == Some(Mode::Read) && next.edge.from.1 == Some(Mode::Read) {
            let writer_seen = locks.get(arc.to.addr).is_some_and(|l| l.life == arc.to.life && l.writer_seen);
            doubts.push(Doubt::QueuedWriter { class: arc.edge.to.0, writer_seen });
            closes &= writer_seen;
        }
    }
    if !distinct_tasks(chain, &mut Vec::new()) {
        doubts.push(Doubt::FewTasks);
        closes = false;
    }
    let gate = common_gate(chain);
    // Between the sides a lock may have gone away, and its address become another's.
    let times = || chain.iter().map(|a| a.pair.last_ns);
    let apart = losses.anywhere(times().min().unwrap_or(0), times().max().unwrap_or(0));
    let lossy = apart || chain.iter().any(|a| a.pair.lossy);
    if lossy {
        doubts.push(Doubt::Loss);
    }
    let waiting: Vec<bool> = chain.iter().map(|a| tasks.iter().any(|t| waits(t, a))).collect();
    let rank = match (closes, gate) {
        _ if waiting.iter().all(|w| *w) => Rank::Confirmed,
        _ if lossy => Rank::Incomplete,
        (false, _) => Rank::ClassOnly,
        (true, Some(_)) => Rank::Guarded,
        (true, None) => Rank::Feasible,
    };
    Some(Verdict { rank, doubts, gate, waiting })
}

/// Whether every step can be given to a task of its own.
fn distinct_tasks(chain: &[Hop<'_>], taken: &mut Vec<Tid>) -> bool {
    let Some((first, rest)) = chain.split_first() else { return true };
    for tid in first.pair.tasks() {
        if !taken.contains(tid) {
            taken.push(*tid);
            if distinct_tasks(rest, taken) {
                return true;
            }
            taken.pop();
        }
    }
    false
}

/// A lock outside the cycle that two of its steps are always made under, and that lets only one of them in.
fn common_gate(chain: &[Hop<'_>]) -> Option<(LockClass, u64)> {
    for (at, arc) in chain.iter().enumerate() {
        for gate in arc.pair.gates() {
            if chain.iter().any(|a| a.from == gate.instance) {
                continue;
            }
            let shared =
                |a: &Hop<'_>| a.pair.gates().any(|g| g.instance == gate.instance && !(g.read && gate.read));
            if chain[at + 1..].iter().any(shared) {
                return Some((gate.class, gate.instance.addr));
            }
        }
    }
    None
}

/// Whether a task holds the step's first lock and is still waiting for the second.
fn waits(task: &Task, hop: &Hop<'_>) -> bool {
    if !task.holds.iter().any(|h| h.instance == hop.from && !h.lossy && h.known != Known::Asking) {
        return false;
    }
    task.waiting == Some(hop.to.addr)
}

/// Edges against the documented orders.
pub(crate) fn against_order(
    graph: &Graph,
    orders: &[DocumentedOrder],
    name: impl Fn(SiteId) -> Arc<str>,
) -> Vec<Finding> {
    let mut found: BTreeMap<(LockClass, LockClass, &str), Finding> = BTreeMap::new();
    for edge in graph.edges().iter().filter(|e| !e.trylock) {
        for order in orders {
            let place = |class: LockClass| order.outer_to_inner.iter().position(|c| *c == class.wire());
            let (Some(from), Some(to)) = (place(edge.from.0), place(edge.to.0)) else { continue };
            if from <= to {
                continue;
            }
            let finding = against(edge, order, &name);
            let key = (edge.from.0, edge.to.0, order.source.as_str());
            match found.get_mut(&key) {
                None => drop(found.insert(key, finding)),
                Some(known) => {
                    let count = known.count + finding.count;
                    let last_ns = known.last_ns.max(finding.last_ns);
                    if (finding.rank, finding.first_ns) < (known.rank, known.first_ns) {
                        *known = finding;
                    }
                    (known.count, known.last_ns) = (count, last_ns);
                }
            }
        }
    }
    found.into_values().collect()
}

fn against(edge: &Edge, order: &DocumentedOrder, name: impl Fn(SiteId) -> Arc<str>) -> Finding {
    let (locks, pair) = edge.first();
    let step = edge.step(locks, &pair.first, name, false);
    let mut doubts = Vec::new();
    if edge.lossy {
        doubts.push(Doubt::Loss);
    }
    if pair.first.from_known == Known::Contract {
        doubts.push(Doubt::InferredHold(edge.from.0));
    }
    Finding {
        id: format!("order:{}>{}:{}", edge.from.0.name(), edge.to.0.name(), order.source),
        rank: if edge.lossy { Rank::Incomplete } else { Rank::AgainstOrder },
        count: edge.count,
        first_ns: pair.first.time_ns,
        last_ns: edge.last_ns,
        doubts,
        evidence: Evidence::AgainstOrder(Box::new(AgainstOrder { step, source: order.source.clone() })),
    }
}
