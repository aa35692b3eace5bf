//! Holds: the locks that a task holds, and the forms in which they are remembered and compared.
//!
//! This module decides when two locks are the same lock, and when two holds are the same hold. Other modules decide which
//! locks a task holds (`engine/locking`, `engine/folios`) and what a hold excludes (`rules`, `predict`).

use std::ops::{Index, IndexMut};

use smallvec::SmallVec;

use crate::{
    event::{Class, Mapping, Mode},
    finding::{Hold, HoldBasis},
    lock_class::LockClass,
    loss::Missing,
};

/// Slot of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(pub u32);

/// State that a rule keeps of each task, by slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct PerTask<T>(Vec<T>);

impl<T: Default> PerTask<T> {
    /// Makes room for a new task, in its own slot or in that of a task that is gone.
    pub fn add(&mut self, id: TaskId) {
        let slots = self.0.len().max(id.0 as usize + 1);
        self.0.resize_with(slots, T::default);
    }
}

impl<T> PerTask<T> {
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

impl<T> Index<TaskId> for PerTask<T> {
    type Output = T;
    #[inline]
    fn index(&self, id: TaskId) -> &T {
        &self.0[id.0 as usize]
    }
}

impl<T> IndexMut<TaskId> for PerTask<T> {
    #[inline]
    fn index_mut(&mut self, id: TaskId) -> &mut T {
        &mut self.0[id.0 as usize]
    }
}

/// Identity of a lock: distinguishes it from earlier locks at the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Instance {
    /// Address of the lock; for a folio lock, of the folio.
    pub addr: u64,
    /// Generation of the object at this address; for a folio lock, a hash of its place.
    pub life: u64,
}

impl Instance {
    /// A value that no lock has.
    pub const NONE: Instance = Instance { addr: 0, life: u64::MAX };
}

/// A hold in the engine's state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockHold {
    pub class: LockClass,
    pub instance: Instance,
    pub mode: Option<Mode>,
    pub basis: HoldBasis,
    pub since_ns: u64,
    /// Its release may be lost, or another task may have released it.
    pub lossy: bool,
    /// Another task released this lock and may have held it, too.
    pub disputed: bool,
    /// Held for writing before, and for reading since.
    pub downgraded: bool,
    /// Number of repeated requests by the holder.
    pub again: u8,
    /// Only for folio locks.
    pub mapping: Mapping,
    pub index: u64,
}

impl LockHold {
    pub fn shown(&self) -> Hold {
        Held::from(self).shown()
    }
}

/// Snapshot of a hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub class: LockClass,
    pub instance: Instance,
    pub mode: Option<Mode>,
    basis: HoldBasis,
    since_ns: u64,
    pub lossy: bool,
    pub downgraded: bool,
}

impl From<&LockHold> for Held {
    fn from(h: &LockHold) -> Held {
        Held {
            class: h.class,
            instance: h.instance,
            mode: h.mode,
            basis: h.basis,
            since_ns: h.since_ns,
            lossy: h.lossy,
            downgraded: h.downgraded,
        }
    }
}

impl Held {
    /// Returns true for the same lock in the same mode with the same certainty.
    pub fn is_same(&self, other: &Held) -> bool {
        self.instance == other.instance
            && (self.class, self.mode, self.downgraded, self.lossy)
                == (other.class, other.mode, other.downgraded, other.lossy)
    }

    fn shown(&self) -> Hold {
        Hold {
            class: self.class,
            lock: self.instance.addr,
            mode: self.mode,
            basis: self.basis,
            since_ns: self.since_ns,
            lossy: self.lossy,
        }
    }
}

/// Snapshot of a task's holds. Up to six are stored without allocating.
#[derive(Clone, Debug, Default)]
pub(crate) struct HoldSet(SmallVec<[Held; 6]>);

impl HoldSet {
    #[inline]
    pub fn of(holds: &[LockHold]) -> HoldSet {
        HoldSet(holds.iter().map(Held::from).collect())
    }

    pub fn push(&mut self, held: Held) {
        self.0.push(held);
    }

    #[inline]
    pub fn iter(&self) -> std::slice::Iter<'_, Held> {
        self.0.iter()
    }

    /// Returns true if the other set contains all holds of this set, in the same modes.
    pub fn is_within(&self, other: &HoldSet) -> bool {
        self.iter().all(|held| other.iter().any(|o| o.is_same(held)))
    }

    /// Marks a lock as certainly held.
    pub fn redeem(&mut self, lock: Instance) {
        self.0.iter_mut().filter(|held| held.instance == lock).for_each(|held| held.lossy = false);
    }

    /// Marks a lock as doubtful: another task may have released it.
    pub fn doubt_lock(&mut self, lock: u64) {
        self.0.iter_mut().filter(|held| held.instance.addr == lock).for_each(|held| held.lossy = true);
    }

    /// Marks holds whose release may be lost. Returns true if the set contains a doubtful hold.
    pub fn touched_by_loss(&mut self, missing: Missing) -> bool {
        let mut any = false;
        for held in &mut self.0 {
            held.lossy |= missing.releases(held.class.wire());
            any |= held.lossy;
        }
        any
    }

    pub fn to_vec(&self) -> Vec<Hold> {
        self.iter().map(Held::shown).collect()
    }
}

/// A held lock in the form that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub class: LockClass,
    pub instance: Instance,
    /// Excludes readers, too. An unknown mode counts as exclusive, so that it makes no false alarm.
    pub exclusive: bool,
    /// The mm, mapping, inode or table that it belongs to; 0: not known.
    pub owner: u64,
    /// Its release may be lost, so it may not have been held.
    pub doubtful: bool,
}

impl Key {
    pub fn new(held: &Held, owner: u64) -> Key {
        let (class, instance) = (held.class, held.instance);
        Key { class, instance, exclusive: is_exclusive(held), owner, doubtful: held.lossy }
    }

    pub fn is(&self, held: &Held) -> bool {
        self.instance == held.instance && self.class == held.class && self.exclusive == is_exclusive(held)
    }

    /// Returns true for the same lock, in any mode.
    pub fn is_of(&self, other: &Key) -> bool {
        self.instance == other.instance && self.class == other.class
    }

    /// Returns true for a lock of the mm, the VMA, the file or the table, false for a lock of a single page.
    pub fn is_of_link(self) -> bool {
        matches!(self.class.wire(), Class::MmapLock | Class::VmaLock | Class::IMmap | Class::Ptl)
    }

    pub fn shown(self) -> Hold {
        let mode = match (self.exclusive, self.class.wire()) {
            (false, _) => Mode::Read,
            (true, Class::MmapLock | Class::VmaLock | Class::IMmap | Class::Inode) => Mode::Write,
            (true, _) => Mode::Exclusive,
        };
        let (lock, mode) = (self.instance.addr, Some(mode));
        Hold { class: self.class, lock, mode, basis: HoldBasis::Requested, since_ns: 0, lossy: false }
    }
}

fn is_exclusive(held: &Held) -> bool {
    // munmap removes the VMA from the mm while it holds mmap_lock for writing, and continues with it for reading: a
    // later lookup does not find the VMA.
    held.mode != Some(Mode::Read) || (held.downgraded && held.class == LockClass::MmapLock)
}
