//! Lock instances: what a lock address stands for, and since when.
//!
//! Decides when an address is another lock than before. Who holds it is the task's (`tasks`).

use crate::{
    event::{Class, Folio, Mapping},
    fx::{FxMap, mix},
    recent::Recent,
    tasks::Instance,
};

/// Locks that went away last, for which it is remembered when.
const GONE_KEPT: usize = 4096;

/// What is known of a lock address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lock {
    /// Which object at this address: never the same number twice in a run.
    pub life: u64,
    /// mm, address_space, inode or table that it belongs to; 0: not told.
    pub owner: u64,
    /// When it was named last; 0: it was not.
    pub named_ns: u64,
    /// When it was seen first.
    pub seen_ns: u64,
    /// A task had it so that no other one had: who has it now was seen to acquire it.
    pub was_exclusive: bool,
    class: Class,
}

/// All lock addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Locks {
    by_address: FxMap<u64, Lock>,
    lives: u64,
    /// Locks that went away lately, by life.
    gone: Recent,
    /// How often the `address_space` at an address went away: its addresses are reused.
    mappings_gone: FxMap<u64, u64>,
}

impl Locks {
    pub fn get(&self, addr: u64) -> Option<&Lock> {
        self.by_address.get(&addr)
    }

    pub fn is_named(&self, addr: u64) -> bool {
        self.get(addr).is_some_and(|lock| lock.named_ns != 0)
    }

    /// Addresses of locks whose owner was told, and that, in no order.
    pub fn owners(&self) -> impl Iterator<Item = (u64, u64)> {
        self.by_address.iter().map(|(addr, lock)| (*addr, lock.owner)).filter(|(_, owner)| *owner != 0)
    }

    /// The lock at this address, known from now on.
    #[inline]
    pub fn see(&mut self, addr: u64, class: Class, now_ns: u64) -> &mut Lock {
        let lives = &mut self.lives;
        self.by_address.entry(addr).or_insert_with(|| {
            *lives += 1;
            Lock { life: *lives, owner: 0, named_ns: 0, seen_ns: now_ns, was_exclusive: false, class }
        })
    }

    /// An address got its class and owner. Another owner or class than before is another lock.
    /// So is one that is named again where the end of the one before may be among what was lost; `lossy`: since a time. A
    /// page-table lock's name is sent again whenever the programs need its room.
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

    /// A task had it, and excluded all others.
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

    /// The lock of a folio: the folio, and its place as a number. A folio that is at another index or in another mapping,
    /// or in a file that came to be at the same address, is another lock. One that comes back to the same place is the same:
    /// a lookup that is delayed finds whatever folio is there.
    ///
    /// The place goes away with its file (`hugetlbfs_evict_inode`). No record shows the end of an anonymous mapping:
    /// one that gets its address, and maps the same folio at the same index, is taken for it.
    pub fn folio(&self, folio: Folio, mapping: Mapping, index: u64) -> Instance {
        let gone = self.mappings_gone.get(&mapping.0).copied().unwrap_or(0);
        let life = if mapping.0 == 0 { 0 } else { mix(mix(mapping.0, index), gone) | 1 };
        Instance { addr: folio.0, life }
    }

    /// Whether a lock had gone away by then.
    pub fn was_gone(&self, instance: Instance, by_ns: u64) -> bool {
        self.get(instance.addr).is_none_or(|l| l.life != instance.life)
            && self.gone.get(instance.life).is_none_or(|at_ns| at_ns < by_ns)
    }
}
