//! Witnesses of an edge between two lock instances.
//!
//! This module decides which witnesses are kept: a few that differ in site, task or other held locks. Witnesses of
//! tasks that are gone make room first, because nothing later can combine with them. If another witness makes room, the
//! pair is marked as cut: that witness may have decided a verdict.

use std::sync::Arc;

use super::{LockRequest, Requester};
use crate::{
    event::SiteId,
    finding::{HoldBasis, Party, TaskRef, comm_text},
    holds::Instance,
    lock_order::path::{Op, held},
    presence::{Presence, Presences},
};

/// Maximum number of witnesses per pair of instances.
const WITNESSES: usize = 12;
/// Maximum number of witnesses that differ only in the task or in locks of single pages. A lock that excludes two
/// parties is the same lock for both, so only one of three different locks can be that one.
const ALIKE: usize = 3;
/// Number of signatures that are recognised without a search.
pub(super) const KNOWN: usize = 4;

/// Merge key of a witness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signature {
    /// Site, and held locks except those of single pages.
    pub shape: u64,
    pub serial: u64,
    /// Held locks of single pages.
    pub pages: u64,
}

/// Signature of a witness that need not be examined again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Recognised {
    signature: Signature,
    /// Number of operations in its path.
    path: u16,
}

/// One occurrence of an edge between two instances, or of a request for writing.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    pub presence: Presence,
    pub from_basis: HoldBasis,
    pub site: SiteId,
    pub(super) task: (u32, [u8; 16], u16),
    pub(super) stack: Option<u32>,
    /// Lock operations of the task since it held nothing, up to the request.
    pub path: Arc<[Op]>,
    pub path_cut: bool,
    /// Lost records could show that it happened otherwise.
    pub lossy: bool,
    /// The records that show its operation may be lost.
    pub site_unsure: bool,
    /// The first lock was certainly held when the second was requested.
    pub sure: bool,
    pub(super) signature: Signature,
}

impl Witness {
    pub(super) fn of(
        by: Requester<'_>,
        request: &LockRequest,
        path: &Arc<[Op]>,
        from_basis: HoldBasis,
    ) -> Witness {
        let task = by.task;
        Witness {
            presence: Presence::of(task, request.time_ns, path),
            from_basis,
            site: request.site,
            task: (task.tgid, task.comm, task.cpu),
            stack: task.stack(),
            path: Arc::clone(path),
            path_cut: by.path.is_cut(),
            lossy: by.path.is_lossy() || task.is_doubtful(request.time_ns),
            site_unsure: task.is_site_unsure(request.time_ns),
            sure: true,
            signature: Signature::default(),
        }
    }

    pub fn time_ns(&self) -> u64 {
        self.presence.time_ns
    }

    pub fn party(&self, name: impl Fn(SiteId) -> Arc<str>) -> Party {
        let (tgid, comm, cpu) = self.task;
        // A long operation can lock and release one folio several times, and each release shows a hold since its begin.
        let mut held = held(&self.path);
        held.dedup_by(|op, before| op.basis.is_inferred() && op.lock == before.lock);
        Party {
            task: TaskRef { tid: self.presence.tid, tgid, comm: comm_text(&comm), cpu },
            site: name(self.site),
            time_ns: self.time_ns(),
            stack: self.stack,
            holds: held.iter().map(|op| op.shown(self.lossy)).collect(),
        }
    }

    /// Returns true if it is better evidence than another witness with the same signature.
    fn is_better(&self, other: &Witness) -> bool {
        (self.lossy, !self.sure, self.path_cut) < (other.lossy, !other.sure, other.path_cut)
    }
}

/// An edge between two instances.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub edge: u32,
    pub from: Instance,
    pub to: Instance,
    pub last_ns: u64,
    pub witnesses: Vec<Arc<Witness>>,
    /// A different witness was dropped whose task may still exist.
    pub is_cut: bool,
    /// The last seen signatures whose witness cannot get better. Valid while `known_hole_ns` is the
    /// end of the last hole.
    pub(super) known: [Recognised; KNOWN],
    pub(super) known_hole_ns: u64,
    /// Time of the latest evidence that was not searched yet; 0: no such evidence.
    pub(super) fresh_ns: u64,
    /// Value of `fresh_ns` when the pair was last queued.
    pub(super) queued_ns: u64,
}

impl Pair {
    /// Returns true if an equally good witness is known, with a path that is not longer than this one.
    #[inline]
    pub(super) fn knows(&self, signature: Signature, path: usize, hole_ns: u64) -> bool {
        let is_it = |known: &Recognised| known.signature == signature && usize::from(known.path) <= path;
        self.known_hole_ns == hole_ns && self.known.iter().any(is_it)
    }

    /// Records another occurrence; `hole_ns` is the end of the last hole. Returns true if it is new evidence.
    pub(super) fn again(
        &mut self,
        signature: Signature,
        path: usize,
        presences: Presences<'_>,
        hole_ns: u64,
        mut witness: impl FnMut() -> Witness,
    ) -> bool {
        let known = self.witnesses.iter_mut().filter(|w| w.signature == signature);
        // A shorter path makes it a different witness: the longer one may meet tasks that this one does not.
        if let Some(known) = known.min_by_key(|w| w.path.len()).filter(|w| w.path.len() <= path) {
            let is_good = |w: &Witness| !w.lossy && w.sure && !w.path_cut;
            // A complete occurrence after a hole replaces an earlier one.
            if !is_good(known) || known.time_ns() <= hole_ns {
                let new = witness();
                if new.is_better(known) || (is_good(&new) && known.time_ns() <= hole_ns) {
                    *known = Arc::new(new);
                    return true;
                }
                return false;
            }
            if self.known_hole_ns != hole_ns {
                (self.known, self.known_hole_ns) = ([Recognised::default(); KNOWN], hole_ns);
            }
            self.known.rotate_right(1);
            self.known[0] = Recognised { signature, path: known.path.len() as u16 };
            return false;
        }
        let of_task =
            |w: &Arc<Witness>| (w.signature.shape, w.signature.serial) == (signature.shape, signature.serial);
        if self.witnesses.iter().filter(|w| of_task(w)).count() >= ALIKE {
            return false;
        }
        if self.witnesses.len() < WITNESSES {
            self.witnesses.push(Arc::new(witness()));
            return true;
        }
        let alike = |shape: u64| self.witnesses.iter().filter(|w| w.signature.shape == shape).count();
        // The task that exited first goes first. A task that exited recently may have met accesses that are still to be
        // judged.
        let exit_ns = |w: &Arc<Witness>| presences.exit_ns(&w.presence);
        let gone = (0..self.witnesses.len()).filter_map(|at| Some((exit_ns(&self.witnesses[at])?, at))).min();
        let is_surplus = |w: &Arc<Witness>| alike(w.signature.shape) > ALIKE;
        let has_few = alike(signature.shape) < ALIKE;
        let surplus = || self.witnesses.iter().rposition(is_surplus).filter(|_| has_few);
        self.is_cut |=
            gone.is_some_and(|(_, at)| !presences.is_gone(&self.witnesses[at].presence, self.last_ns));
        let Some(place) = gone.map(|(_, at)| at).or_else(surplus) else {
            self.is_cut |= has_few;
            return false;
        };
        self.witnesses[place] = Arc::new(witness());
        true
    }
}
