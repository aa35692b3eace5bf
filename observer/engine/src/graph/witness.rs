//! Witnesses of an edge between two lock instances.
//!
//! Decides which are kept: a few, by different sites, tasks and other locks held.

use std::sync::Arc;

use super::Ask;
use crate::{
    event::{SiteId, Tid},
    finding::{Known, Side, TaskRef},
    path::{Op, held},
    tasks::{Instance, Task, comm_text},
};

/// Witnesses kept per pair of instances.
const WITNESSES: usize = 6;
/// Where there are more witnesses than are kept, another is taken at most so often, nanoseconds.
const ANOTHER_NS: u64 = 10_000_000;
/// Sorts of witnesses that are recognised at once.
pub(super) const KNOWN: usize = 4;

/// One occurrence of an edge between two instances, or of an ask for writing.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    pub time_ns: u64,
    pub from_known: Known,
    pub site: SiteId,
    pub serial: u64,
    /// When the task was seen to be made; 0: it was not, and may have been there all the time.
    pub made_ns: u64,
    pub tid: Tid,
    pub(super) task: (u32, [u8; 16], u16),
    pub(super) stack: Option<u32>,
    /// What the task did since it held nothing, up to the ask.
    pub path: Box<[Op]>,
    pub path_cut: bool,
    /// Records that were lost could tell that it was otherwise.
    pub lossy: bool,
    /// The first lock was held for certain when the second was asked for.
    pub sure: bool,
    /// What tells it from others: site, task, locks held.
    pub(super) sort: u64,
}

impl Witness {
    pub(super) fn of(task: &Task, ask: &Ask, path: &[Op], from_known: Known) -> Witness {
        Witness {
            time_ns: ask.time_ns,
            from_known,
            site: ask.site,
            serial: task.serial,
            made_ns: task.made_ns,
            tid: task.tid,
            task: (task.tgid, task.comm, task.cpu),
            stack: task.stack(),
            path: path.into(),
            path_cut: task.path.is_cut(),
            lossy: ask.time_ns < task.unsure_until_ns,
            sure: true,
            sort: 0,
        }
    }

    pub fn side(&self, name: impl Fn(SiteId) -> Arc<str>) -> Side {
        let (tgid, comm, cpu) = self.task;
        Side {
            task: TaskRef { tid: self.tid, tgid, comm: comm_text(&comm), cpu },
            site: name(self.site),
            time_ns: self.time_ns,
            stack: self.stack,
            holds: held(&self.path).iter().map(|op| op.shown(self.lossy)).collect(),
        }
    }

    /// Better evidence than another of the same sort.
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
    /// Sorts of witnesses that are as good as can be, the last ones seen.
    pub(super) known: [u64; KNOWN],
    /// When another witness is taken in the place of one.
    pub(super) another_ns: u64,
    /// Since when there is something about this pair that nobody has looked at; 0: there is nothing.
    pub(super) fresh_ns: u64,
    /// Its place among those: since when it was the last time it was put there.
    pub(super) queued_ns: u64,
}

impl Pair {
    /// Seen again; whether it tells something new.
    pub(super) fn again(
        &mut self,
        sort: u64,
        lossy: bool,
        sure: bool,
        witness: impl Fn() -> Witness,
    ) -> bool {
        if let Some(known) = self.witnesses.iter_mut().find(|w| w.sort == sort) {
            if (known.lossy && !lossy) || (!known.sure && sure) || known.path_cut {
                let better = witness();
                if better.is_better(known) {
                    *known = Arc::new(better);
                    return true;
                }
            }
            if !known.lossy && known.sure && !known.path_cut {
                self.known.rotate_right(1);
                self.known[0] = sort;
            }
            return false;
        }
        if self.witnesses.len() < WITNESSES {
            self.witnesses.push(Arc::new(witness()));
            return true;
        }
        if self.another_ns > self.last_ns {
            return false;
        }
        self.another_ns = self.last_ns + ANOTHER_NS;
        let new = witness();
        // A site that is not there yet takes the place of one that is there twice; a task that comes later takes that of the
        // last one: the earlier ones may be gone when the other side comes.
        let sites = |site| self.witnesses.iter().filter(|w| w.site == site).count();
        let place = if sites(new.site) == 0 {
            self.witnesses.iter().rposition(|w| sites(w.site) > 1)
        } else {
            self.witnesses.iter().rposition(|w| w.site == new.site)
        };
        let Some(place) = place else { return false };
        if self.witnesses[place].is_better(&new) {
            return false;
        }
        self.witnesses[place] = Arc::new(new);
        true
    }
}
