//! The verdict on a closed chain of instances.
//!
//! This module decides the chain's rank and the reason why it is not a worse one. A chain is judged for each choice of
//! witnesses by different tasks. For each combination of sites, the worst (most certain) rank is kept.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use super::{AtHand, CHAINS_MAX, Found, Hop, Key, least_rotation};
use crate::{
    event::Mode,
    finding::{Doubt, Rank},
    holds::Instance,
    lock_class::LockClass,
    lock_order::{
        feasible::{Reach, conflict, reach},
        graph::{Edge, Witness},
        path::{Op, held},
    },
};

/// Maximum number of choices of witnesses tried per chain.
const CHOICES_MAX: usize = 512;

/// Verdict on one choice of witnesses.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    pub rank: Rank,
    pub doubts: Vec<Doubt>,
    pub gate: Option<(LockClass, u64)>,
    /// Writers that queue between two readers, with the step that waits behind each.
    pub writers: Vec<(usize, Arc<Witness>)>,
}

/// Judges a chain of pairs and keeps better evidence than what is known. Returns true if an operation that has not
/// ended may still change the verdict.
pub(super) fn judge(at_hand: AtHand<'_>, chain: &[u32], found: &mut BTreeMap<Key, Found>) -> bool {
    let judge = Judge { at_hand, chain, is_open: Cell::new(false) };
    let witnesses = chain.iter().flat_map(|at| &at_hand.graph.pair(*at).witnesses);
    let mut serials: Vec<u64> = witnesses.map(|w| w.presence.serial).collect();
    serials.sort_unstable();
    serials.dedup();
    if serials.len() < 2 {
        return false;
    }
    let mut choices = Vec::new();
    judge.choices(&mut Vec::new(), &mut choices);
    if choices.is_empty() {
        let first = |at: &u32| at_hand.graph.pair(*at).witnesses.first().cloned();
        let Some(few) = chain.iter().map(first).collect::<Option<Vec<_>>>() else { return false };
        judge.keep(few, found, |few| {
            let lossy = few.iter().any(|w| w.lossy);
            let (rank, doubt) =
                if lossy { (Rank::Incomplete, Doubt::Loss) } else { (Rank::ClassOnly, Doubt::FewTasks) };
            Verdict { rank, doubts: vec![doubt], gate: None, writers: Vec::new() }
        });
    }
    let is_cut = choices.len() >= CHOICES_MAX || chain.iter().any(|at| at_hand.graph.pair(*at).is_cut);
    for choice in choices {
        judge.keep(choice, found, |choice| bounded(judge.verdict(choice), is_cut));
    }
    judge.is_open.get()
}

/// Lowers a verdict if not all witnesses were examined: another one may give a worse rank.
fn bounded(mut verdict: Verdict, is_cut: bool) -> Verdict {
    if is_cut && matches!(verdict.rank, Rank::Guarded | Rank::ClassOnly) {
        verdict.rank = Rank::Incomplete;
        verdict.gate = None;
        verdict.doubts.push(Doubt::Bound("cases of a pair of locks"));
    }
    verdict
}

struct Judge<'a> {
    at_hand: AtHand<'a>,
    chain: &'a [u32],
    /// A task of a choice was still inside its operation.
    is_open: Cell<bool>,
}

impl Judge<'_> {
    fn edge(&self, pair: u32) -> &Edge {
        self.at_hand.graph.edge(self.at_hand.graph.pair(pair))
    }

    /// Collects the choices: one witness per step, all by different tasks.
    fn choices(&self, taken: &mut Vec<Arc<Witness>>, all: &mut Vec<Vec<Arc<Witness>>>) {
        let Some(at) = self.chain.get(taken.len()) else {
            all.push(taken.clone());
            return;
        };
        for witness in &self.at_hand.graph.pair(*at).witnesses {
            if all.len() < CHOICES_MAX && taken.iter().all(|t| t.presence.serial != witness.presence.serial) {
                taken.push(Arc::clone(witness));
                self.choices(taken, all);
                taken.pop();
            }
        }
    }

    fn keep(
        &self,
        choice: Vec<Arc<Witness>>,
        found: &mut BTreeMap<Key, Found>,
        verdict: impl Fn(&[Arc<Witness>]) -> Verdict,
    ) {
        let class = |at: &u32| self.edge(*at).from.0;
        let mut key: Key = self.chain.iter().map(class).zip(choice.iter().map(|w| w.site)).collect();
        let by = least_rotation(&key);
        key.rotate_left(by);
        let mut locks: Vec<Instance> =
            self.chain.iter().map(|at| self.at_hand.graph.pair(*at).from).collect();
        locks.rotate_left(by);
        let known = found.get_mut(&key);
        if let Some(known) = known {
            if known.chains.len() < CHAINS_MAX {
                known.chains.insert(locks);
            }
            if known.verdict.rank <= Rank::Feasible {
                return;
            }
            let verdict = verdict(&choice);
            if (verdict.rank, verdict.doubts.len()) < (known.verdict.rank, known.verdict.doubts.len()) {
                let fresh = self.found(choice, verdict, by);
                (known.verdict, known.hops) = (fresh.verdict, fresh.hops);
                known.first_ns = known.first_ns.min(fresh.first_ns);
            }
            return;
        }
        let verdict = verdict(&choice);
        let mut fresh = self.found(choice, verdict, by);
        fresh.chains.insert(locks);
        found.insert(key, fresh);
    }

    fn found(&self, choice: Vec<Arc<Witness>>, mut verdict: Verdict, by: usize) -> Found {
        let n = self.chain.len();
        for (step, _) in &mut verdict.writers {
            *step = (*step + n - by) % n;
        }
        let hop = |(at, seen): (&u32, Arc<Witness>)| {
            let pair = self.at_hand.graph.pair(*at);
            Hop { edge: pair.edge, from: pair.from, to: pair.to, seen }
        };
        let mut hops: Vec<Hop> = self.chain.iter().zip(choice).map(hop).collect();
        hops.rotate_left(by);
        let first_ns = hops.iter().map(|hop| hop.seen.time_ns()).max().unwrap_or(0);
        Found { verdict, hops, first_ns, chains: std::collections::BTreeSet::new() }
    }

    fn verdict(&self, choice: &[Arc<Witness>]) -> Verdict {
        let verdict = |rank, doubts| Verdict { rank, doubts, gate: None, writers: Vec::new() };
        if choice.iter().any(|w| w.lossy) {
            return verdict(Rank::Incomplete, vec![Doubt::Loss]);
        }
        let together = self.all_together(choice);
        if together.is_some() && !self.are_same_locks(choice) {
            return verdict(Rank::Incomplete, vec![Doubt::Loss]);
        }
        if let Some(gate) = self.gate(choice) {
            return Verdict { gate: Some(gate), ..verdict(Rank::Guarded, Vec::new()) };
        }
        match together {
            None => return verdict(Rank::ClassOnly, vec![Doubt::NotTogether]),
            Some(false) => return verdict(Rank::Incomplete, vec![Doubt::Loss]),
            Some(true) => {}
        }
        let behind = self.behind_writers(choice);
        let mut doubts: Vec<Doubt> = behind
            .iter()
            .map(|(_, class, writers)| Doubt::QueuedWriter {
                class: *class,
                writer_seen: !writers.is_empty(),
            })
            .collect();
        if behind.iter().any(|(_, _, writers)| writers.is_empty()) {
            return self.without_writer(choice, verdict(Rank::ClassOnly, doubts));
        }
        let tried = reach_with(choice, &behind);
        let all = || choice.iter().chain(tried.writers.iter().map(|(_, writer)| writer));
        let cut = all().any(|w| w.path_cut) || tried.reach == Reach::Cut;
        let inside = all().any(|w| w.presence.is_inside(&self.at_hand.world.tasks));
        self.is_open.set(self.is_open.get() | inside);
        let open = choice.iter().any(|w| !w.sure) || tried.unsure.is_some() || inside;
        let rank = match tried.reach {
            Reach::Unreachable => Rank::ClassOnly,
            _ if open || cut => Rank::Possible,
            _ => Rank::Feasible,
        };
        doubts.extend((rank == Rank::ClassOnly).then_some(Doubt::Unreachable));
        doubts.extend((cut && rank == Rank::Possible).then_some(Doubt::SearchCut));
        doubts.extend((inside && rank == Rank::Possible).then_some(Doubt::Inside));
        let unsure = self.chain.iter().zip(choice).filter(|(_, w)| !w.sure);
        let class = |(at, _): (&u32, _)| self.edge(*at).from.0;
        doubts.extend(unsure.map(class).chain(tried.unsure).map(Doubt::Moment));
        let verdict = Verdict { writers: tried.writers, ..verdict(rank, doubts) };
        if rank == Rank::ClassOnly { self.without_writer(choice, verdict) } else { verdict }
    }

    /// Returns a lock outside the cycle that two of its parties hold in conflicting modes.
    fn gate(&self, choice: &[Arc<Witness>]) -> Option<(LockClass, u64)> {
        let in_cycle = |op: &Op| self.chain.iter().any(|at| self.at_hand.graph.pair(*at).from == op.lock);
        let sure = |w: &Arc<Witness>| held(&w.path).into_iter().filter(|op| op.sure).collect();
        let holds: Vec<Vec<Op>> = choice.iter().map(sure).collect();
        for (at, of) in holds.iter().enumerate() {
            for gate in of.iter().filter(|op| !in_cycle(op)) {
                let shuts = |op: &Op| op.lock == gate.lock && conflict(op.mode, gate.mode);
                if holds[at + 1..].iter().flatten().any(shuts) {
                    return Some((gate.class, gate.lock.addr));
                }
            }
        }
        None
    }

    /// Returns the steps that request a read lock which the next party holds for reading, each with the possible
    /// writers between.
    fn behind_writers(&self, choice: &[Arc<Witness>]) -> Vec<(usize, LockClass, Vec<Arc<Witness>>)> {
        let mut steps = Vec::new();
        for (at, pair) in self.chain.iter().enumerate() {
            let next = self.at_hand.graph.pair(self.chain[(at + 1) % self.chain.len()]);
            let (requested, held) = (self.edge(*pair).to, self.at_hand.graph.edge(next).from);
            if requested.1 != Some(Mode::Read) || held.1 != Some(Mode::Read) {
                continue;
            }
            let fits = |w: &&Arc<Witness>| {
                let is_other = |c: &Arc<Witness>| c.presence.serial != w.presence.serial;
                let are_there = |c: &Arc<Witness>| {
                    self.at_hand.world.presences().together(&c.presence, &w.presence) == Some(true)
                };
                !w.lossy && choice.iter().all(is_other) && choice.iter().all(are_there)
            };
            let writers = self.at_hand.graph.writers(next.from).iter().filter(fits).cloned().collect();
            steps.push((at, requested.0, writers));
        }
        steps
    }

    /// Makes a verdict incomplete if a writer that was not kept could be between the readers.
    fn without_writer(&self, choice: &[Arc<Witness>], verdict: Verdict) -> Verdict {
        let reads = |(at, pair): (usize, &u32)| {
            let next = self.at_hand.graph.pair(self.chain[(at + 1) % choice.len()]);
            self.edge(*pair).to.1 == Some(Mode::Read) && self.at_hand.graph.are_writers_cut(next.from)
        };
        if !self.chain.iter().enumerate().any(reads) {
            return verdict;
        }
        let doubts = [verdict.doubts, vec![Doubt::Bound("writers of a lock")]].concat();
        Verdict { rank: Rank::Incomplete, doubts, ..verdict }
    }

    /// Returns false if the address of a lock may have been reused between the parties' times. Two records must be lost
    /// for that if the locks are named. Folio locks and the permanent array of fault mutexes need no name.
    fn are_same_locks(&self, choice: &[Arc<Witness>]) -> bool {
        let times = || choice.iter().map(|w| w.time_ns());
        let (from_ns, to_ns) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
        let losses = &self.at_hand.world.losses;
        if !losses.anywhere(from_ns, to_ns).ends() {
            return true;
        }
        let is_named = |at: &u32| {
            let pair = self.at_hand.graph.pair(*at);
            let class = self.edge(*at).from.0;
            let named_ns = self.at_hand.world.locks.get(pair.from.addr).map_or(0, |l| l.named_ns);
            class.is_folio() || class == LockClass::FaultMutex || named_ns != 0
        };
        losses.are_sparse(from_ns, to_ns) && self.chain.iter().all(is_named)
    }

    /// Returns `Some(true)` if all tasks existed together, `Some(false)` if perhaps.
    fn all_together(&self, choice: &[Arc<Witness>]) -> Option<bool> {
        let mut sure = true;
        for (i, a) in choice.iter().enumerate() {
            for b in &choice[i + 1..] {
                sure &= self.at_hand.world.presences().together(&a.presence, &b.presence)?;
            }
        }
        Some(sure)
    }
}

/// Result of trying to bring the tasks to the point where they all wait.
struct Tried {
    reach: Reach,
    /// A folio prevented it, but this folio may have been locked only later.
    unsure: Option<LockClass>,
    writers: Vec<(usize, Arc<Witness>)>,
}

/// Tries the possible writers, each a task of its own, and returns the ones that make it work.
fn reach_with(choice: &[Arc<Witness>], behind: &[(usize, LockClass, Vec<Arc<Witness>>)]) -> Tried {
    let mut best = Tried { reach: Reach::Unreachable, unsure: None, writers: Vec::new() };
    let choices: usize = behind.iter().map(|(_, _, writers)| writers.len()).product();
    for mut pick in 0..choices {
        let mut writers: Vec<(usize, Arc<Witness>)> = Vec::new();
        for (step, _, from) in behind {
            writers.push((*step, Arc::clone(&from[pick % from.len()])));
            pick /= from.len();
        }
        let same = |a: &Arc<Witness>, b: &Arc<Witness>| a.presence.serial == b.presence.serial;
        if (1..writers.len()).any(|i| writers[..i].iter().any(|(_, w)| same(w, &writers[i].1))) {
            continue;
        }
        let paths: Vec<&[Op]> =
            choice.iter().map(|w| &*w.path).chain(writers.iter().map(|(_, w)| &*w.path)).collect();
        let unsure = paths.iter().copied().flatten().find(|op| !op.sure).map(|op| op.class);
        match (reach(&paths), unsure) {
            (Reach::Reached, _) => return Tried { reach: Reach::Reached, unsure: None, writers },
            (Reach::Unreachable, None) => {}
            (Reach::Unreachable, Some(_)) => {
                let less: Vec<Vec<Op>> = paths.iter().map(|path| without_unsure(path)).collect();
                let reach = reach(&less.iter().map(Vec::as_slice).collect::<Vec<_>>());
                if reach != Reach::Unreachable {
                    best = Tried { reach, unsure, writers };
                }
            }
            (Reach::Cut, _) => best = Tried { reach: Reach::Cut, unsure: None, writers },
        }
    }
    best
}

fn without_unsure(path: &[Op]) -> Vec<Op> {
    let unsure = |lock: Instance| path.iter().any(|op| op.lock == lock && !op.sure);
    path.iter().filter(|op| !unsure(op.lock)).copied().collect()
}
