//! Lock order of several runs of one kernel: the union of their graphs, and the cycles that no single run shows.
//!
//! This module decides which cycles edges of different runs close. Locks and times of two runs cannot be compared, so
//! only classes close a cycle here. The rank is at most `class-only`. Steps within one class do not count, because a
//! class graph cannot judge them. A cycle that a single run shows is reported there, with its locks.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    event::{Mode, Tid},
    finding::{AcquireKind, Cycle, Doubt, Evidence, Finding, Hold, Rank, Step},
    lock_class::LockClass,
    lock_order::cycles::{class_chains, id_of_classes},
    view::EdgeView,
};

/// One of several runs.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Boot of the machine: a task is the same only within one boot.
    pub boot: &'a str,
    pub edges: &'a [EdgeView],
    pub findings: &'a [Finding],
}

/// Result of merging the runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Sorted by class, mode and kind of request.
    pub edges: Vec<MergedEdge>,
    /// Cycles that no single run shows, worst first.
    pub findings: Vec<Finding>,
}

/// An edge of at least one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedEdge {
    pub from: LockClass,
    pub from_mode: Option<Mode>,
    pub to: LockClass,
    pub to_mode: Option<Mode>,
    pub acquire: AcquireKind,
    pub count: u64,
    /// The runs that contain it, from 0.
    pub recordings: Vec<usize>,
}

/// An edge as a step of a cycle, with its run.
#[derive(Clone, Copy)]
struct Pick<'a> {
    edge: &'a EdgeView,
    recording: usize,
    boot: &'a str,
}

impl<'a> Pick<'a> {
    /// Returns the only task that made the edge; if several tasks made it, each step can have a task of its own.
    fn alone(&self) -> Option<(&'a str, Tid)> {
        (self.edge.tasks == 1).then_some((self.boot, self.edge.witness.party.task.tid))
    }
}

/// Merges the runs.
#[must_use]
pub fn merge(parts: &[Part<'_>]) -> Merged {
    let known: BTreeSet<Vec<LockClass>> = parts.iter().flat_map(|p| p.findings).filter_map(classes).collect();
    let picks = picks(parts);
    let mut findings: Vec<Finding> = class_chains(|from, to| picks.contains_key(&(from, to)))
        .into_iter()
        .filter(|chain| !known.contains(chain))
        .filter_map(|chain| Some(finding(&chain, &choose(&chain, &picks)?, parts)))
        .collect();
    findings.sort_by(|a, b| (a.rank, &a.id).cmp(&(b.rank, &b.id)));
    Merged { edges: union(parts), findings }
}

/// Returns the chain of classes of a reported cycle, from its least class on.
fn classes(f: &Finding) -> Option<Vec<LockClass>> {
    let Evidence::Cycle(c) = &f.evidence else { return None };
    let mut chain: Vec<LockClass> = c.steps.iter().map(|s| s.from).collect();
    let least = chain.iter().enumerate().min_by_key(|(_, class)| **class)?.0;
    chain.rotate_left(least);
    Some(chain)
}

fn union(parts: &[Part<'_>]) -> Vec<MergedEdge> {
    let mut edges: BTreeMap<_, MergedEdge> = BTreeMap::new();
    for (recording, part) in parts.iter().enumerate() {
        for e in part.edges {
            let fresh = MergedEdge {
                from: e.from,
                from_mode: e.from_mode,
                to: e.to,
                to_mode: e.to_mode,
                acquire: e.acquire,
                count: 0,
                recordings: Vec::new(),
            };
            let key = (e.from, e.from_mode, e.to, e.to_mode, e.acquire);
            let edge = edges.entry(key).or_insert(fresh);
            edge.count += e.count;
            edge.recordings.push(recording);
        }
    }
    edges.into_values().collect()
}

type Picks<'a> = BTreeMap<(LockClass, LockClass), Vec<Pick<'a>>>;

/// Returns the edges that can be a step, by their classes, best evidence first.
fn picks<'a>(parts: &[Part<'a>]) -> Picks<'a> {
    let mut picks: Picks<'a> = BTreeMap::new();
    for (recording, part) in parts.iter().enumerate() {
        for edge in part.edges.iter().filter(|e| e.acquire.can_block() && e.from != e.to) {
            let pick = Pick { edge, recording, boot: part.boot };
            picks.entry((edge.from, edge.to)).or_default().push(pick);
        }
    }
    for of_classes in picks.values_mut() {
        // Readers that meet readers need a writer in addition.
        let reads =
            |e: &EdgeView| [e.from_mode, e.to_mode].iter().filter(|m| **m == Some(Mode::Read)).count();
        of_classes.sort_by_key(|p| (p.edge.lossy, !p.edge.sure, reads(p.edge), p.recording));
    }
    picks
}

/// Chooses an edge for each step so that they are of at least two runs and more than one task; the choice is nearly the
/// best.
fn choose<'a>(chain: &[LockClass], picks: &Picks<'a>) -> Option<Vec<Pick<'a>>> {
    let n = chain.len();
    let of: Vec<&Vec<Pick<'a>>> =
        (0..n).map(|at| picks.get(&(chain[at], chain[(at + 1) % n]))).collect::<Option<_>>()?;
    let best: Vec<Pick<'a>> = of.iter().map(|p| p.first().copied()).collect::<Option<_>>()?;
    let other = |(at, step): (usize, &&Vec<Pick<'a>>)| {
        step.iter().map(|p| with(&best, at, *p)).find(|choice| will_do(choice))
    };
    if will_do(&best) { Some(best) } else { of.iter().enumerate().find_map(other) }
}

fn with<'a>(picks: &[Pick<'a>], at: usize, pick: Pick<'a>) -> Vec<Pick<'a>> {
    let mut picks = picks.to_vec();
    picks[at] = pick;
    picks
}

fn will_do(picks: &[Pick<'_>]) -> bool {
    let one_run = picks.iter().all(|p| p.recording == picks[0].recording);
    let alone = picks[0].alone();
    let one_task = alone.is_some() && picks.iter().all(|p| p.alone() == alone);
    !one_run && !one_task
}

fn finding(chain: &[LockClass], picks: &[Pick<'_>], parts: &[Part<'_>]) -> Finding {
    let steps: Vec<Step> = picks.iter().map(|p| p.edge.witness.clone()).collect();
    let lossy = picks.iter().any(|p| p.edge.lossy);
    let gate = common_gate(&steps);
    let rank = match (lossy, gate) {
        (true, _) => Rank::Incomplete,
        (false, Some(_)) => Rank::Guarded,
        (false, None) => Rank::ClassOnly,
    };
    Finding {
        id: id_of_classes(chain),
        rank,
        count: 1,
        first_ns: 0,
        last_ns: 0,
        doubts: doubts(&steps, lossy, parts),
        evidence: Evidence::Cycle(Cycle {
            steps,
            gate: gate.map(|class| (class, 0)),
            queued: Vec::new(),
            recordings: picks.iter().map(|p| p.recording).collect(),
        }),
    }
}

fn doubts(steps: &[Step], lossy: bool, parts: &[Part<'_>]) -> Vec<Doubt> {
    let mut doubts = vec![Doubt::Merged];
    if lossy {
        doubts.push(Doubt::Loss);
    }
    for (at, step) in steps.iter().enumerate() {
        let next = &steps[(at + 1) % steps.len()];
        if (step.to_mode, next.from_mode) == (Some(Mode::Read), Some(Mode::Read)) {
            doubts.push(Doubt::QueuedWriter { class: step.to, writer_seen: is_written(step.to, parts) });
        }
        if step.from_basis.is_inferred() {
            doubts.push(Doubt::InferredHold(step.from));
        }
        if !step.sure {
            doubts.push(Doubt::Moment(step.from));
        }
    }
    doubts.sort_unstable();
    doubts.dedup();
    doubts
}

/// Returns true if a run has an edge with a writer of this class.
fn is_written(class: LockClass, parts: &[Part<'_>]) -> bool {
    let writes = |c: LockClass, mode: Option<Mode>| c == class && mode == Some(Mode::Write);
    let mut edges = parts.iter().flat_map(|p| p.edges);
    edges.any(|e| writes(e.from, e.from_mode) || writes(e.to, e.to_mode))
}

/// Returns a class of which each party exclusively held a lock that is not part of the cycle. Such a class has one lock
/// per file, so parties that close the cycle on one file's pages would hold the same lock. This is based on one
/// occurrence per party, not on all.
fn common_gate(steps: &[Step]) -> Option<LockClass> {
    const PER_FILE: [LockClass; 2] = [LockClass::Inode, LockClass::IMmap];
    let alone =
        |h: &Hold, class| h.class == class && !h.lossy && h.mode != Some(Mode::Read) && h.mode.is_some();
    PER_FILE.into_iter().find(|class| {
        let of_chain = steps.iter().any(|s| s.from == *class);
        !of_chain && steps.iter().all(|s| s.party.holds.iter().any(|h| alone(h, *class)))
    })
}

#[cfg(test)]
mod tests;
