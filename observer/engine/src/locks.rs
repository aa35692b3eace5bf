//! Lock instances: what a lock address stands for, and since when.
//!
//! Decides when an address is another lock than before. Who holds it is the task's (`tasks`).

use crate::{event::Class, fx::FxMap, recent::Recent, tasks::Instance};

/// Locks that went away last, for which it is remembered when.
const GONE_KEPT: usize = 4096;

/// What is known of a lock address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lock {
    /// Which object at this address: never the same number twice in a run.
    pub life: u64,
    /// mm, address_space, inode or table that it belongs to; 0: not told.
    pub owner: u64,
    class: Class,
    /// Asked for in a mode that excludes readers, by anyone.
    pub writer_seen: bool,
}

/// All lock addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Locks {
    by_address: FxMap<u64, Lock>,
    lives: u64,
    /// Locks that went away lately, by life.
    gone: Recent,
}

impl Locks {
    pub fn get(&self, addr: u64) -> Option<&Lock> {
        self.by_address.get(&addr)
    }

    /// Addresses of locks whose owner was told, and that, in no order.
    pub fn owners(&self) -> impl Iterator<Item = (u64, u64)> {
        self.by_address.iter().map(|(addr, lock)| (*addr, lock.owner)).filter(|(_, owner)| *owner != 0)
    }

    /// The lock at this address, known from now on.
    #[inline]
    pub fn see(&mut self, addr: u64, class: Class) -> &mut Lock {
        let lives = &mut self.lives;
        self.by_address.entry(addr).or_insert_with(|| {
            *lives += 1;
            Lock { life: *lives, owner: 0, class, writer_seen: false }
        })
    }

    /// An address got its class and owner. Another owner or class than before is another lock.
    pub fn name(&mut self, addr: u64, class: Class, owner: u64, now_ns: u64) {
        if self.get(addr).is_some_and(|l| l.class != class || (l.owner != 0 && l.owner != owner)) {
            self.forget(addr, now_ns);
        }
        self.see(addr, class).owner = owner;
    }

    pub fn forget(&mut self, addr: u64, now_ns: u64) {
        let Some(lock) = self.by_address.remove(&addr) else { return };
        self.gone.add(lock.life, now_ns);
        self.gone.keep(GONE_KEPT);
    }

    /// Whether a lock had gone away by then.
    pub fn was_gone(&self, instance: Instance, by_ns: u64) -> bool {
        self.get(instance.addr).is_none_or(|l| l.life != instance.life)
            && self.gone.get(instance.life).is_none_or(|at_ns| at_ns < by_ns)
    }
}
