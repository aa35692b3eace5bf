//! Pending accesses of a task: ended leases and unlinks that are not judged yet.
//!
//! A lock must be known by address to be seen. A lock that was acquired before its mm, VMA or file was named, or before
//! the run, is found only at its release. Until then, the accesses of the task are kept here, and equal accesses share
//! one entry. When such a lock is released, it is added to all entries. Most tasks make only a few different accesses
//! in a second.
//!
//! This module decides when an access is judged: a second after it became known, when the task or the mm ends, or at the
//! end of the run.

use std::{
    collections::VecDeque,
    ops::{Index, IndexMut},
};

use crate::{
    event::{Addr, Mm, SiteId, Table, Tid},
    fx::{FxMap, mix},
    holds::{Held, Instance, Key, LockHold, PerTask, TaskId},
};

/// Time for which accesses are pending, in case a lock turns out to have been held.
pub(super) const WAIT_NS: u64 = 1_000_000_000;
/// Interval between checks of pending accesses.
const JUDGE_EVERY_NS: u64 = 100_000_000;
/// Number of last released locks that are kept per task.
const RELEASED_KEPT: usize = 32;

/// Kind of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessKind {
    /// A lease that ended.
    Lease {
        /// The pointer was certainly in use at some moment after the lookup.
        certain: bool,
        /// The pointer was looked up again under the table's PTL before any other use.
        revalidated: bool,
    },
    /// An unlink of a link.
    Unlink {
        /// The mm was without users.
        last_user: bool,
    },
}

/// The actor of an access at its first occurrence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Actor {
    pub serial: u64,
    pub id: TaskId,
    pub tid: Tid,
    pub tgid: u32,
    pub comm: [u8; 16],
    pub cpu: u16,
    pub born_ns: u64,
    /// The fork of the task was seen.
    pub is_made: bool,
    /// Time of the lookup or of the unlink.
    pub time_ns: u64,
    pub stack: Option<u32>,
}

/// The properties that equal accesses share, except the locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccessKey {
    pub mm: Mm,
    /// The GiB of the link; for a walk, its range.
    pub from: Addr,
    pub to: Addr,
    /// `None`: a walk, into any table.
    pub table: Option<(Table, u32)>,
    pub site: SiteId,
    pub kind: AccessKind,
    /// The access was in a watched operation.
    pub in_operation: bool,
    /// Every lock that was held is known.
    pub whole: bool,
    /// No lost record can change it.
    pub sure: bool,
    /// The task belongs to this mm.
    pub in_mm: bool,
    /// No task was added or removed between equal accesses; see `Tasks::epoch`.
    pub epoch: u64,
}

impl AccessKey {
    /// Returns a hash of all fields.
    #[inline]
    pub fn signature(&self) -> u64 {
        let kind = match self.kind {
            AccessKind::Lease { certain, revalidated } => u64::from(certain) << 1 | u64::from(revalidated),
            AccessKind::Unlink { last_user } => 4 | u64::from(last_user),
        };
        let (table, generation) = self.table.map_or((1, 0), |(table, generation)| (table.0, generation));
        let flags = [self.in_operation, self.whole, self.sure, self.in_mm];
        let flags = flags.iter().fold(kind, |all, flag| all << 1 | u64::from(*flag));
        let words = [
            self.from.0,
            self.to.0,
            table ^ u64::from(generation) << 48,
            u64::from(self.site.0) << 16 | flags,
            self.epoch,
        ];
        words.into_iter().fold(self.mm.0, mix)
    }
}

/// Maximum number of variants per access.
pub(crate) const VARIANTS: usize = 4;

/// Locks of single pages (fault mutexes, folios) and of the inode, by phase. They exclude at most one page's lookup
/// from that page's unlink. If they counted for equality, the thousands of pages of one GiB would make as many
/// different accesses.
pub(crate) type Variant = Box<[Vec<Key>]>;

/// Returns true if `more` contains all locks of `less`, in every phase.
pub(crate) fn is_less(less: &[Vec<Key>], more: &[Vec<Key>]) -> bool {
    less.iter().zip(more).all(|(less, more)| less.iter().all(|key| more.contains(key)))
}

/// Adds a variant, unless a known one holds less. Returns false if the bound is reached.
///
/// An unlink holds few such locks, and locks of different pages exclude different pages. So a fifth variant adds
/// nothing, unless the unlink is excluded from all four known ones.
pub(crate) fn add_variant(variants: &mut Vec<Variant>, variant: Variant) -> bool {
    if variants.iter().any(|known| is_less(known, &variant)) {
        return true;
    }
    variants.retain(|known| !is_less(&variant, known));
    let has_room = variants.len() < VARIANTS;
    if has_room {
        variants.push(variant);
    }
    has_room
}

/// Equal accesses of one task.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub key: AccessKey,
    /// Locks of the mm, the VMA, the file or the table, by phase, sorted. An unlink has one phase.
    pub phases: Vec<Vec<Key>>,
    pub variants: Vec<Variant>,
    /// There were more variants than are kept.
    pub is_cut: bool,
    /// Classes of the locks that certainly exclude unlinks, by phase.
    pub covers: Vec<u16>,
    pub count: u64,
    pub actor: Actor,
    /// End of the first access.
    pub known_ns: u64,
    /// Begin of the first access and end of the last.
    pub first_ns: u64,
    pub last_ns: u64,
}

impl Access {
    /// Adds a lock whose acquisition was not seen: it was held.
    pub fn was_held(&mut self, key: Key, excludes: bool) {
        if !key.is_of_link() {
            for variant in &mut self.variants {
                for phase in variant.iter_mut().filter(|phase| !phase.contains(&key)) {
                    phase.push(key);
                }
            }
            return;
        }
        for (phase, cover) in self.phases.iter_mut().zip(&mut self.covers) {
            if let Err(at) = phase.binary_search(&key) {
                phase.insert(at, key);
            }
            if excludes {
                *cover |= 1 << key.class as u16;
            }
        }
    }
}

impl Access {
    /// Marks accesses since `since_ns` as doubtful. Earlier ones stay as they are.
    pub fn doubt_since(&mut self, since_ns: u64) {
        if self.known_ns < since_ns {
            self.last_ns = self.last_ns.min(since_ns);
        } else {
            self.key.sure = false;
        }
    }

    /// Marks a lock as certainly held. `excludes` returns true for a lock that excludes unlinks, except for PTLs.
    pub fn redeem(&mut self, lock: Instance, excludes: impl Fn(&Key) -> bool) {
        for (phase, cover) in self.phases.iter_mut().zip(&mut self.covers) {
            for key in phase.iter_mut().filter(|key| key.instance == lock) {
                key.doubtful = false;
                if excludes(key) {
                    *cover |= 1 << key.class as u16;
                }
            }
            phase.sort_unstable();
        }
        let of_pages = self.variants.iter_mut().flat_map(|variant| variant.iter_mut()).flatten();
        of_pages.filter(|key| key.instance == lock).for_each(|key| key.doubtful = false);
    }
}

/// Accesses of one task in the last second, in the order in which they became known.
#[derive(Clone, Debug, Default)]
pub(crate) struct PendingAccesses {
    /// `None`: already judged.
    all: VecDeque<Option<Box<Access>>>,
    /// Number of the first entry in `all`.
    first: u64,
    /// Number of the last entry with each signature.
    by_signature: FxMap<u64, u64>,
}

impl PendingAccesses {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Access> {
        self.all.iter_mut().flatten().map(|access| &mut **access)
    }

    /// Returns the last access with this signature. An access that became doubtful is not extended.
    pub fn find(&mut self, signature: u64, key: &AccessKey) -> Option<&mut Access> {
        let at = self.by_signature.get(&signature)?.checked_sub(self.first)?;
        self.all.get_mut(at as usize)?.as_deref_mut().filter(|access| access.key == *key)
    }

    pub fn add(&mut self, signature: u64, access: Access) {
        self.by_signature.insert(signature, self.first + self.all.len() as u64);
        self.all.push_back(Some(Box::new(access)));
    }

    /// Moves accesses that have been pending long enough to `due`.
    pub fn take_due(&mut self, now_ns: u64, due: &mut Vec<Access>) {
        let is_due = |access: &Access| now_ns.saturating_sub(access.known_ns) >= WAIT_NS;
        while self.all.front().is_some_and(|access| access.as_ref().is_none_or(|access| is_due(access))) {
            due.extend(self.all.pop_front().flatten().map(|access| *access));
            self.first += 1;
        }
        if self.all.is_empty() {
            self.by_signature.clear();
        }
    }

    /// Moves all accesses to an mm to `due`.
    pub fn take_of(&mut self, mm: Mm, due: &mut Vec<Access>) {
        for access in &mut self.all {
            due.extend(access.take_if(|access| access.key.mm == mm).map(|access| *access));
        }
        self.take_due(0, due);
    }

    pub fn take_all(&mut self, due: &mut Vec<Access>) {
        due.extend(self.all.drain(..).flatten().map(|access| *access));
        self.first = 0;
        self.by_signature.clear();
    }
}

/// Pending accesses of one task, and the locks that it released last.
#[derive(Clone, Debug, Default)]
pub(super) struct TaskPending {
    pub accesses: PendingAccesses,
    /// The list of tasks with pending accesses contains this task.
    listed: bool,
    /// Locks released last, with their times; only kept if unlinks are known as intervals.
    pub released: VecDeque<(u64, Held)>,
    /// Releases up to this time may be missing in `released`.
    pub released_before_ns: u64,
}

/// Pending accesses of all tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    of_task: PerTask<TaskPending>,
    /// Tasks with pending accesses; may list tasks that have none any more.
    busy: Vec<TaskId>,
    /// Time when pending accesses are next checked.
    judge_ns: u64,
}

impl Index<TaskId> for Pending {
    type Output = TaskPending;
    fn index(&self, id: TaskId) -> &TaskPending {
        &self.of_task[id]
    }
}

impl IndexMut<TaskId> for Pending {
    fn index_mut(&mut self, id: TaskId) -> &mut TaskPending {
        &mut self.of_task[id]
    }
}

impl Pending {
    pub fn add_task(&mut self, id: TaskId) {
        self.of_task.add(id);
    }

    pub fn forget_task(&mut self, id: TaskId) {
        let task = &mut self.of_task[id];
        *task = TaskPending { listed: task.listed, ..TaskPending::default() };
    }

    pub fn add(&mut self, id: TaskId, signature: u64, access: Access) {
        let task = &mut self.of_task[id];
        task.accesses.add(signature, access);
        if !std::mem::replace(&mut task.listed, true) {
            self.busy.push(id);
        }
    }

    /// Remembers a released lock: it may have been held at the moment of an unlink that is known as an interval.
    pub fn released(&mut self, id: TaskId, now_ns: u64, hold: &LockHold) {
        let task = &mut self.of_task[id];
        if task.released.len() == RELEASED_KEPT
            && let Some((at_ns, _)) = task.released.pop_front()
        {
            task.released_before_ns = at_ns;
        }
        task.released.push_back((now_ns, hold.into()));
    }

    /// Returns true if it is time to check which accesses have been pending long enough.
    pub fn is_due(&mut self, now_ns: u64) -> bool {
        let is_due = now_ns >= self.judge_ns;
        if is_due {
            self.judge_ns = now_ns.saturating_add(JUDGE_EVERY_NS);
        }
        is_due
    }

    /// Takes accesses of all tasks, in the order in which they became known.
    pub fn take(&mut self, take: impl Fn(&mut PendingAccesses, &mut Vec<Access>)) -> Vec<Access> {
        let (mut at, mut due) = (0, Vec::new());
        while at < self.busy.len() {
            let task = &mut self.of_task[self.busy[at]];
            take(&mut task.accesses, &mut due);
            if task.accesses.is_empty() {
                task.listed = false;
                self.busy.swap_remove(at);
            } else {
                at += 1;
            }
        }
        // Sort by time: the order of `busy` depends on when it was last checked.
        due.sort_by_key(|h| h.known_ns);
        due
    }
}
