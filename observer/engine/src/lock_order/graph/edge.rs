//! Edges between lock classes.
//!
//! This module decides what an edge shows: its best evidence, and if it can be a step of a deadlock.

use std::sync::Arc;

use super::Witness;
use crate::{
    event::{Mode, SiteId, Tid},
    finding::{AcquireKind, Step},
    fx::FxMap,
    holds::Instance,
    lock_class::LockClass,
};

/// Class and mode of one end of an edge.
pub(crate) type End = (LockClass, Option<Mode>);

/// Occurrences of an edge at one site.
#[derive(Clone, Debug)]
pub(crate) struct At {
    pub(super) site: SiteId,
    /// The evidence is certain and not touched by loss.
    pub(super) good: bool,
    pub count: u64,
    pub last_ns: u64,
    /// The first witness, or the first better one.
    pub first: Arc<Witness>,
    pub locks: (Instance, Instance),
    /// Classes of which another lock was held every time, one bit each.
    pub(super) gates: u16,
}

/// An edge between two classes with their modes.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    pub from: End,
    pub to: End,
    pub acquire: AcquireKind,
    pub count: u64,
    pub first_ns: u64,
    pub last_ns: u64,
    /// Some of the tasks.
    pub tasks: Vec<Tid>,
    /// Occurrences by site, sorted by first time.
    pub at: Vec<At>,
    pub(super) pairs: FxMap<(Instance, Instance), u32>,
    /// The last pair: the next occurrence often is of the same pair.
    pub(super) last_pair: ((Instance, Instance), u32),
    /// Number of pairs so far.
    pub(super) instances: usize,
    /// Pairs that made room although their tasks may still exist.
    pub(super) dropped: u64,
    /// The search through one of its pairs was cut.
    pub is_cut: bool,
}

impl Edge {
    /// Returns true if it can be a step of a deadlock. Two PTLs nest by design (fork, mremap), in an order of their
    /// own.
    pub fn can_close(&self) -> bool {
        self.acquire.can_block() && (self.from.0, self.to.0) != (LockClass::Ptl, LockClass::Ptl)
    }

    /// Returns the best evidence.
    pub fn best(&self) -> &At {
        let worth = |at: &&At| (at.first.lossy, !at.first.sure, at.first.time_ns());
        self.at.iter().min_by_key(worth).unwrap_or(&self.at[0])
    }

    pub fn gates(&self) -> Vec<LockClass> {
        let all = self.at.iter().fold(u16::MAX, |all, at| all & at.gates);
        LockClass::ALL.into_iter().filter(|class| all & 1 << *class as u16 != 0).collect()
    }

    /// Number of pairs of instances so far.
    pub fn instances(&self) -> usize {
        self.instances
    }

    /// Returns true if dropped pairs or cut searches may hide a cycle through this edge.
    pub fn is_bounded(&self) -> bool {
        self.dropped > 0 || self.is_cut
    }

    /// Returns this edge, as seen between two instances, as the step of a finding.
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
            from_basis: seen.from_basis,
            to: self.to.0,
            to_mode: self.to.1,
            to_lock: locks.1.addr,
            acquire: self.acquire,
            sure: seen.sure,
            party: seen.party(name),
            count: self.count,
            waiting: false,
        }
    }
}
