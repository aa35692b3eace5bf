//! Lock events: holds, edges, repeated requests, and the leases that a release ends.

use super::Engine;
use crate::{
    event::{Body, Class, Event, LockAddr, LockStep, Mapping, Mm, Mode, SiteId},
    finding::{AcquireKind, HoldBasis, Rank},
    holds::{Instance, LockHold, TaskId},
    leases::{LeaseEnd, LeaseKind},
    lock_class::LockClass,
    lock_order::{
        graph::LockRequest,
        path::{Act, Op},
        relocks::Repeat,
    },
    tasks::Requested,
};

/// A lock as an event names it, and the mode of the event.
#[derive(Clone, Copy, Debug)]
pub(super) struct NamedLock {
    pub class: LockClass,
    pub mode: Option<Mode>,
    pub addr: u64,
}

impl Engine {
    /// Handles the name of a lock: the object that it belongs to.
    pub(super) fn lock_named(&mut self, id: TaskId, class: Class, addr: u64, owner: u64, now_ns: u64) {
        if class != Class::Ptl {
            self.world.tasks[id].loss.named_ns = now_ns;
        }
        let lossy = |since_ns| self.world.losses.anywhere(since_ns, now_ns).ends();
        self.world.locks.name(addr, class, owner, now_ns, lossy);
    }

    /// Handles the end of a lock with its object.
    pub(super) fn lock_gone(&mut self, class: Class, addr: u64, now_ns: u64) {
        if class == Class::MmapLock {
            match self.world.locks.get(addr).map_or(0, |l| l.owner) {
                // The lock's mm is unknown: the record that named it was lost.
                0 => self.world.losses.not_known(now_ns),
                owner => self.predictions.mm_gone(&self.world, Mm(owner)),
            }
        }
        if class == Class::VmaLock {
            // From now on, this address belongs to another VMA.
            self.world.tasks.epoch += 1;
        }
        self.world.locks.forget(addr, now_ns);
    }

    /// Handles a task's next event: it has acquired what it requested, and its wait has ended. An entry probe shows the
    /// request, not the acquisition.
    #[inline]
    pub(super) fn settle(&mut self, id: TaskId, event: &Event) {
        let task = &mut self.world.tasks[id];
        if task.requested.is_none() && task.waiting.is_none() {
            return;
        }
        if let Body::Lock { step: LockStep::Release, lock, mode, .. } = event.body
            && task.holds.iter().all(|h| h.instance.addr != lock.0)
            && (task.waiting.is_some() || self.holders(lock.0, mode).next().is_some())
        {
            // An interrupt that runs on top of the task releases another task's lock.
            return;
        }
        let task = &mut self.world.tasks[id];
        let (still, gave_up) = match event.body {
            Body::Lock { step: LockStep::WaitBegin, lock, .. } => (Some(lock), false),
            Body::Lock { step: LockStep::WaitEnd, lock, failed: true, .. } => (Some(lock), false),
            Body::Lock { step: LockStep::GaveUp, lock, .. } => (Some(lock), true),
            _ => (None, false),
        };
        if !matches!(event.body, Body::Lock { step: LockStep::WaitBegin, .. }) {
            task.waiting = None;
        }
        match task.requested {
            Some(Requested::Lock { addr, at_ns, .. }) => {
                if still == Some(LockAddr(addr)) && !gave_up {
                    return;
                }
                task.requested = None;
                if !gave_up {
                    self.has_now(id, addr, at_ns, event.site);
                }
            }
            // A pending lookup reports its result when it returns; any other event means that it found no folio.
            Some(Requested::Folio { .. })
                if still.is_none()
                    && !matches!(event.body, Body::FolioHeld { .. } | Body::FolioWait { .. }) =>
            {
                task.requested = None;
            }
            _ => {}
        }
    }

    fn has_now(&mut self, id: TaskId, addr: u64, requested_ns: u64, site: SiteId) {
        let task = &mut self.world.tasks[id];
        let Some(hold) = task.holds.iter_mut().rev().find(|h| h.instance.addr == addr) else { return };
        if hold.basis == HoldBasis::Requesting {
            hold.basis = HoldBasis::Requested;
        }
        if hold.class != LockClass::Ptl {
            if hold.mode != Some(Mode::Read) && self.holders.disputed.contains(&addr) {
                self.end_disputed(id, addr, self.world.now_ns);
            }
            return;
        }
        let owner = self.world.locks.get(addr).map_or(0, |l| l.owner);
        let release_seen = !self.world.rules.ptl_release_unseen();
        let Some(lease) = self.leases.last_of(id, owner) else { return };
        if let Some(used_ns) = lease.ptl_taken(addr, requested_ns, release_seen, &self.world.tasks[id].holds)
        {
            let site = self.world.on_behalf(id, site);
            if let Some(hit) = &mut lease.hit {
                hit.at_use = Some(Box::new(self.world.party(id, site, used_ns)));
            }
        }
    }

    pub(super) fn lock(&mut self, id: TaskId, event: &Event, step: LockStep, named: NamedLock) {
        let NamedLock { class, mode, addr: lock } = named;
        let class = class.wire();
        if class == Class::MmapLock && matches!(step, LockStep::Request | LockStep::Try) {
            // A new system call: locks that the task acquired before it named them are released.
            self.world.tasks[id].loss.named_ns = 0;
        }
        match step {
            LockStep::Request => {
                if class != Class::Ptl {
                    // A task that holds a spinlock does not sleep, so its release was not seen.
                    self.drop_ptls(id, event.time_ns);
                }
                self.take(id, event, named, HoldBasis::Requesting);
                if class == Class::Ptl && self.world.losses.holes > 0 && !self.world.locks.is_named(lock) {
                    // The record that names this lock's table may be lost.
                    self.leases.of_mut(id).iter_mut().for_each(|lease| lease.lossy = true);
                }
                let (at_ns, site) = (event.time_ns, event.site);
                self.world.tasks[id].requested = Some(Requested::Lock { addr: lock, at_ns, mode, site });
            }
            LockStep::Try => {
                if self.world.rules.try_then_block(event.site, class) {
                    self.drop_ptls(id, event.time_ns);
                }
                self.take(id, event, named, HoldBasis::Try);
                self.has_now(id, lock, event.time_ns, event.site);
            }
            LockStep::GaveUp => self.give_up(id, lock),
            LockStep::Release => self.release(id, event.time_ns, named),
            LockStep::Downgrade => {
                let holds = &mut self.world.tasks[id].holds;
                if let Some(hold) = holds.iter_mut().find(|h| h.instance.addr == lock) {
                    hold.downgraded = hold.mode != Some(Mode::Read);
                    hold.mode = Some(Mode::Read);
                    self.lock_order.task(id).push(Op::on(hold, Act::Downgrade, event.time_ns));
                }
            }
            LockStep::WaitBegin => {
                self.holders.last.wanted(lock);
                self.waits(id, lock, true);
            }
            // The task reaches the same point by blocking as by acquiring the lock at once.
            LockStep::Busy if self.world.rules.try_then_block(event.site, class) => {}
            LockStep::Busy => self.busy(id, event, named),
            // The next event shows whether the task acquired it.
            LockStep::WaitEnd => {}
        }
    }

    /// Records that the task requests a lock, or has acquired it.
    fn take(&mut self, id: TaskId, event: &Event, lock: NamedLock, basis: HoldBasis) {
        let NamedLock { class, mode, addr } = lock;
        let lock = self.world.locks.see(addr, class.wire(), event.time_ns);
        let instance = Instance { addr, life: lock.life };
        let acquire = match basis {
            HoldBasis::Try if self.world.rules.try_then_block(event.site, class.wire()) => {
                AcquireKind::TryThenBlock
            }
            HoldBasis::Try => AcquireKind::Try,
            _ => AcquireKind::Blocking,
        };
        let site = self.world.on_behalf(id, event.site);
        if class == LockClass::Ptl && self.world.rules.ptl_release_unseen() {
            // A task does not request a spinlock that it holds.
            if let Some(at) = self.world.tasks[id].holds.iter().rposition(|h| h.instance == instance) {
                self.drop_hold(id, at, event.time_ns);
            }
        }
        if let Some(at) = self.world.tasks[id].holds.iter().rposition(|h| h.instance == instance) {
            let hold = &mut self.world.tasks[id].holds[at];
            hold.again = hold.again.saturating_add(1);
            let (lossy, disputed) = (hold.lossy, hold.disputed);
            if acquire != AcquireKind::Try && !disputed {
                self.relock(id, event, at, mode);
            }
            if !lossy {
                return;
            }
            // The release was lost: this is another hold.
            self.drop_hold(id, at, event.time_ns);
        }
        self.lock_order.task(id).requests(instance, mode, acquire);
        let request = LockRequest { class, instance, mode, acquire, time_ns: event.time_ns, site };
        self.lock_order.requested(self.world.presences(), id, &request);
        let hold = LockHold {
            class,
            instance,
            mode,
            basis,
            since_ns: event.time_ns,
            lossy: false,
            disputed: false,
            downgraded: false,
            again: 0,
            mapping: Mapping(0),
            index: 0,
        };
        self.acquired(id, hold, acquire, site, event.time_ns);
    }

    fn give_up(&mut self, id: TaskId, addr: u64) {
        let task = &mut self.world.tasks[id];
        if let Some(at) = task.holds.iter().rposition(|h| h.instance.addr == addr) {
            match task.holds[at].again {
                0 => {
                    let hold = task.holds.remove(at);
                    self.lock_order.task(id).gave_up(&self.world.tasks[id], hold.instance);
                }
                _ => task.holds[at].again -= 1,
            }
        }
    }

    /// Handles a failed trylock: another task holds the lock.
    fn busy(&mut self, id: TaskId, event: &Event, lock: NamedLock) {
        let NamedLock { class, mode, addr } = lock;
        let instance = Instance { addr, life: self.world.locks.see(addr, class.wire(), event.time_ns).life };
        let op = Op {
            lock: instance,
            time_ns: event.time_ns,
            site: event.site,
            class,
            mode,
            act: Act::Fail,
            acquire: AcquireKind::Try,
            basis: HoldBasis::Try,
            sure: true,
        };
        self.lock_order.task(id).was_busy(&self.world.tasks[id], op);
    }

    pub(super) fn release(&mut self, id: TaskId, now_ns: u64, released: NamedLock) {
        let NamedLock { class, mode, addr } = released;
        let class = class.wire();
        let holds = &mut self.world.tasks[id].holds;
        match holds.iter().rposition(|h| h.instance.addr == addr) {
            Some(at) if holds[at].again > 0 => {
                holds[at].again -= 1;
                return;
            }
            Some(at) => {
                let hold = self.drop_hold(id, at, now_ns);
                if hold.lossy && !hold.disputed && self.is_one_hold(hold.since_ns, now_ns) {
                    self.redeem(id, hold.instance);
                }
                if hold.mode == Some(Mode::Write) {
                    self.world.locks.was_exclusive(hold.instance);
                }
                if hold.disputed {
                    // If that hold ended before, this releases another task's hold.
                    self.dispute(addr);
                }
                self.holders.last.released(&self.world.tasks[id], &hold, now_ns);
                self.predictions.released(&self.world, id, &hold, now_ns);
            }
            None if self.releases_for_another(id, now_ns, released) => return,
            None => {
                self.counts.unknown_releases += 1;
                let since_ns = self.world.tasks[id].loss.released(addr);
                if since_ns != 0 {
                    // This is the lock whose acquisition was lost, or one of them.
                    self.doubt_order_since(id, since_ns);
                    self.leases.doubt(id);
                    if self.world.losses.is_at_most_one(since_ns, now_ns) {
                        self.world.tasks[id].loss.unsure_since_ns = 0;
                    }
                }
                self.held_all_the_time(id, class, mode, addr);
            }
        }
        // A lease that ends with the lock was protected by it to its end.
        let mut at = 0;
        while let Some(lease) = self.leases.of(id).get(at) {
            if lease.kind == LeaseKind::Foreign(class) {
                self.end_lease(id, at, LeaseEnd { now_ns, seen_ns: now_ns, by_lock: true });
            } else {
                at += 1;
            }
        }
        self.leases.lock_released(id, addr, now_ns, &self.world.tasks[id].holds);
    }

    /// Ends the PTL holds of a task; used if PTL releases are not seen.
    pub(super) fn drop_ptls(&mut self, id: TaskId, now_ns: u64) {
        while let Some(hold) = self.world.tasks[id].holds.iter().rev().find(|h| h.class == LockClass::Ptl) {
            let ptl = NamedLock { class: LockClass::Ptl, mode: None, addr: hold.instance.addr };
            self.release(id, now_ns, ptl);
        }
    }

    /// Reports that the task requests a lock that it holds.
    pub(super) fn relock(&mut self, id: TaskId, event: &Event, at: usize, requested: Option<Mode>) {
        let hold = self.world.tasks[id].holds[at];
        let site = self.world.on_behalf(id, event.site);
        let rank = if hold.lossy { Rank::Incomplete } else { Rank::Feasible };
        self.relocked(id, at, Repeat { site, requested, time_ns: event.time_ns }, rank);
    }

    pub(super) fn relocked(&mut self, id: TaskId, at: usize, repeat: Repeat, rank: Rank) {
        self.lock_order.relocked(&self.world, id, at, repeat, rank);
    }
}
