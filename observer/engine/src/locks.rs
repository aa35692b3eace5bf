//! Lock instances: the lock at an address, and since when.
//!
//! This module decides when an address belongs to another lock than before. The holders are in `tasks`.

use crate::{
    event::{Class, Folio, Mapping},
    fx::{FxMap, mix},
    holds::Instance,
    recent::Recent,
};

/// Number of freed locks whose end is remembered.
const GONE_KEPT: usize = 4096;

/// The lock at one address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lock {
    /// Generation at this address: unique within a run.
    pub life: u64,
    /// The mm, address_space, inode or table that it belongs to; 0: not known.
    pub owner: u64,
    /// Time when it was last named; 0: never.
    pub named_ns: u64,
    /// Time when it was first seen.
    pub seen_ns: u64,
    /// A task held it exclusively: every later holder was seen to acquire it.
    pub was_exclusive: bool,
    class: Class,
}

/// A folio at its place in the page cache, or in an anonymous mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FolioPlace {
    pub folio: Folio,
    pub mapping: Mapping,
    pub index: u64,
}

/// The known locks, by address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Locks {
    by_address: FxMap<u64, Lock>,
    lives: u64,
    /// Recently freed locks, by generation.
    gone: Recent,
    /// Number of times that an `address_space` at this address was freed: addresses are reused.
    mappings_gone: FxMap<u64, u64>,
}

impl Locks {
    pub fn get(&self, addr: u64) -> Option<&Lock> {
        self.by_address.get(&addr)
    }

    pub fn is_named(&self, addr: u64) -> bool {
        self.get(addr).is_some_and(|lock| lock.named_ns != 0)
    }

    /// Lock addresses with their owners, for locks whose owner is known, in no particular order.
    pub fn owners(&self) -> impl Iterator<Item = (u64, u64)> {
        self.by_address.iter().map(|(addr, lock)| (*addr, lock.owner)).filter(|(_, owner)| *owner != 0)
    }

    /// Returns the lock at this address, which is created if it is not known.
    #[inline]
    pub fn see(&mut self, addr: u64, class: Class, now_ns: u64) -> &mut Lock {
        let lives = &mut self.lives;
        self.by_address.entry(addr).or_insert_with(|| {
            *lives += 1;
            Lock { life: *lives, owner: 0, named_ns: 0, seen_ns: now_ns, was_exclusive: false, class }
        })
    }

    /// Records class and owner of an address. Another owner or class than before means another lock. A repeated name
    /// means another lock, too, if the end of the old one may be lost since the time passed to `lossy`. PTLs are
    /// exempt: the programs send a PTL's name again whenever they needed its room.
    pub fn name(&mut self, addr: u64, class: Class, owner: u64, now_ns: u64, lossy: impl Fn(u64) -> bool) {
        let is_another = |l: &Lock| {
            l.class != class
                || (l.owner != 0 && l.owner != owner)
                || (l.named_ns != 0 && class != Class::Ptl && lossy(l.named_ns))
        };
        if self.get(addr).is_some_and(is_another) {
            self.forget(addr, now_ns);
        }
        let lock = self.see(addr, class, now_ns);
        (lock.owner, lock.named_ns) = (owner, now_ns);
    }

    /// Records that a task held it exclusively.
    #[inline]
    pub fn was_exclusive(&mut self, lock: Instance) {
        if let Some(known) = self.by_address.get_mut(&lock.addr).filter(|known| known.life == lock.life) {
            known.was_exclusive = true;
        }
    }

    pub fn forget(&mut self, addr: u64, now_ns: u64) {
        let Some(lock) = self.by_address.remove(&addr) else { return };
        self.gone.add(lock.life, now_ns);
        self.gone.keep(GONE_KEPT);
        if lock.class == Class::IMmap && lock.owner != 0 {
            *self.mappings_gone.entry(lock.owner).or_default() += 1;
        }
    }

    /// Returns the lock of a folio: the folio's address, and a hash of its mapping and index. A folio at another index,
    /// in another mapping, or in a new file at the same address is another lock. A folio that returns to the same place
    /// is the same lock: a delayed lookup finds the folio that is there.
    ///
    /// The place ends with its file (`hugetlbfs_evict_inode`). No record shows the end of an anonymous mapping: another
    /// one that gets its address and maps the same folio at the same index counts as the same.
    pub fn folio(&self, place: FolioPlace) -> Instance {
        let FolioPlace { folio, mapping, index } = place;
        let gone = self.mappings_gone.get(&mapping.0).copied().unwrap_or(0);
        let life = if mapping.0 == 0 { 0 } else { mix(mix(mapping.0, index), gone) | 1 };
        Instance { addr: folio.0, life }
    }

    /// Returns true if a lock was freed before this time.
    pub fn was_gone(&self, instance: Instance, by_ns: u64) -> bool {
        self.get(instance.addr).is_none_or(|l| l.life != instance.life)
            && self.gone.get(instance.life).is_none_or(|at_ns| at_ns < by_ns)
    }
}
