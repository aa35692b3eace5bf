//! What a task did lately: leases that ended and links that it removed, waiting to be judged.
//!
//! A lock has to be known by address to be seen: one that was taken before its mm, VMA or file was named, or before the
//! run began, is found when it is released. Until that can have happened, what the task did is kept here, with the same
//! things in one entry; a release of what was not seen to be taken is added to all of them. Most tasks do few different
//! things in a second.

use std::collections::VecDeque;

use crate::{
    event::{Addr, Mm, SiteId, Table, Tid},
    fx::{FxMap, mix},
    tasks::{Instance, TaskId},
};

use super::{WAIT_NS, sides::Key};

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
    /// It was seen to be made.
    pub is_made: bool,
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
    /// In a watched operation.
    pub in_operation: bool,
    /// All that was held is known.
    pub whole: bool,
    /// No lost record can tell something else.
    pub sure: bool,
    /// The task is of the mm.
    pub in_mm: bool,
    /// No task came or went between their ends.
    pub epoch: u64,
}

impl What {
    /// One number for all of it.
    #[inline]
    pub fn signature(&self) -> u64 {
        let done = match self.done {
            Done::Lease { certain, revalidated } => u64::from(certain) << 1 | u64::from(revalidated),
            Done::Unlink { last_user } => 4 | u64::from(last_user),
        };
        let (table, generation) = self.table.map_or((1, 0), |(table, generation)| (table.0, generation));
        let flags = [self.in_operation, self.whole, self.sure, self.in_mm];
        let flags = flags.iter().fold(done, |all, flag| all << 1 | u64::from(*flag));
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

/// Variants kept of what differs in the locks of single pages.
pub(crate) const VARIANTS: usize = 4;

/// Locks of single pages (fault mutexes, folios) and of the inode, by phase. They exclude one page's removal from one page's lookup at
/// most; a thousand pages of one GiB would else be a thousand different things.
pub(crate) type Variant = Box<[Vec<Key>]>;

/// Whether all that the first holds the second holds too, in every phase.
pub(crate) fn is_less(less: &[Vec<Key>], more: &[Vec<Key>]) -> bool {
    less.iter().zip(more).all(|(less, more)| less.iter().all(|key| more.contains(key)))
}

/// Adds a variant unless there is one that holds less. `false`: there was no room.
///
/// A removal holds few such locks, and locks of different pages exclude different pages: where four variants are known, one
/// more says nothing new, unless the removal is excluded from all four.
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

/// Things of one kind that a task did.
#[derive(Clone, Debug)]
pub(crate) struct Happening {
    pub what: What,
    /// Locks of the mm, the VMA, the file or the table, by phase; sorted. A removal has one phase.
    pub phases: Vec<Vec<Key>>,
    pub variants: Vec<Variant>,
    /// There were more variants than are kept.
    pub is_cut: bool,
    /// By phase, classes of the locks that exclude removals, as far as that is sure.
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
    /// A lock was released that was not seen to be acquired: it was held.
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

impl Happening {
    /// What was done since a time may have been done otherwise. What was over before stays as it is.
    pub fn doubt_since(&mut self, since_ns: u64) {
        if self.known_ns < since_ns {
            self.last_ns = self.last_ns.min(since_ns);
        } else {
            self.what.sure = false;
        }
    }

    /// A lock of which that was not sure was held. `excludes`: removals, but for those of a page-table lock's table.
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

/// What one task did in the last second, in the order in which it became known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lately {
    /// `None`: judged before its time.
    all: VecDeque<Option<Box<Happening>>>,
    /// Number of the first of them.
    first: u64,
    /// Number of the last one with a signature.
    by_signature: FxMap<u64, u64>,
}

impl Lately {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Happening> {
        self.all.iter_mut().flatten().map(|done| &mut **done)
    }

    /// The last one with this signature. One that came to be in doubt takes no more.
    pub fn find(&mut self, signature: u64, what: &What) -> Option<&mut Happening> {
        let at = self.by_signature.get(&signature)?.checked_sub(self.first)?;
        self.all.get_mut(at as usize)?.as_deref_mut().filter(|done| done.what == *what)
    }

    pub fn add(&mut self, signature: u64, done: Happening) {
        self.by_signature.insert(signature, self.first + self.all.len() as u64);
        self.all.push_back(Some(Box::new(done)));
    }

    /// Those that waited long enough.
    pub fn take_due(&mut self, now_ns: u64, due: &mut Vec<Happening>) {
        let is_due = |done: &Happening| now_ns.saturating_sub(done.known_ns) >= WAIT_NS;
        while self.all.front().is_some_and(|done| done.as_ref().is_none_or(|done| is_due(done))) {
            due.extend(self.all.pop_front().flatten().map(|done| *done));
            self.first += 1;
        }
        if self.all.is_empty() {
            self.by_signature.clear();
        }
    }

    /// Those of an mm.
    pub fn take_of(&mut self, mm: Mm, due: &mut Vec<Happening>) {
        for done in &mut self.all {
            due.extend(done.take_if(|done| done.what.mm == mm).map(|done| *done));
        }
        self.take_due(0, due);
    }

    pub fn take_all(&mut self, due: &mut Vec<Happening>) {
        due.extend(self.all.drain(..).flatten().map(|done| *done));
        self.first = 0;
        self.by_signature.clear();
    }
}
