//! What a task did lately: leases that ended and links that it removed, waiting to be judged.
//!
//! A lock has to be known by address to be seen: one that was taken before its mm, VMA or file was named, or before the
//! run began, is found when it is released. Until that can have happened, what the task did is kept here, with the same
//! things in one entry; a release of what was not seen to be taken is added to all of them. Most tasks do few different
//! things in a second.

use crate::{
    event::{Addr, Class, Mm, SiteId, Table, Tid},
    lock_class::LockClass,
    tasks::{HoldSet, Instance, TaskId},
};

use super::{WAIT_NS, sides::Key};

/// Entries kept; the oldest one is judged early when there is no room.
pub(crate) const KEPT: usize = 32;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// A lease ended.
    Lease {
        /// It had a certain part.
        certain: bool,
        /// The pointer was looked up again under the table's PTL before anything else was done with it.
        revalidated: bool,
    },
    /// A link was removed.
    Unlink {
        /// The mm had no user left.
        last_user: bool,
    },
}

/// Who did it the first time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    pub serial: u64,
    pub id: TaskId,
    pub tid: Tid,
    pub tgid: u32,
    pub comm: [u8; 16],
    pub cpu: u16,
    pub born_ns: u64,
    /// Of the lookup, or of the removal.
    pub time_ns: u64,
    pub stack: Option<u32>,
}

/// What is the same of things of one kind, but for the locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct What {
    pub mm: Mm,
    /// The GiB; of a walk the range that it was over.
    pub from: Addr,
    pub to: Addr,
    /// `None`: a walk, into any table.
    pub table: Option<(Table, u32)>,
    pub site: SiteId,
    pub done: Done,
    /// In a watched operation, and all that was held is known.
    pub whole: bool,
    /// No lost record can tell something else.
    pub sure: bool,
    /// The task is of the mm.
    pub in_mm: bool,
    /// No task came or went between their ends.
    pub epoch: u64,
}

/// Things of one kind that a task did.
#[derive(Clone, Debug)]
pub(crate) struct Happening {
    pub what: What,
    /// Sorted; one of a removal.
    pub phases: Vec<Vec<Key>>,
    /// The only phase as it was taken, which is nearly always that of the next one too.
    pub held: Option<HoldSet>,
    /// By phase, classes of the locks that exclude removals.
    pub covers: Vec<u16>,
    pub count: u64,
    pub who: Who,
    /// When the first of them was over.
    pub known_ns: u64,
    /// From the begin of the first to the end of the last.
    pub first_ns: u64,
    pub last_ns: u64,
}

impl Happening {
    /// Whether it waited long enough.
    pub fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.known_ns) >= WAIT_NS
    }

    /// A lock was released that was not seen to be taken: it was held.
    pub fn was_held(
        &mut self,
        class: Class,
        instance: Instance,
        exclusive: bool,
        owner: u64,
        excludes: bool,
    ) {
        let class = LockClass::from(class);
        let key = Key { class, instance, exclusive, owner };
        self.held = None;
        for (phase, cover) in self.phases.iter_mut().zip(&mut self.covers) {
            if let Err(at) = phase.binary_search(&key) {
                phase.insert(at, key);
            }
            if excludes {
                *cover |= 1 << class as u16;
            }
        }
    }
}
