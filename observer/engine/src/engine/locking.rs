//! Lock events: holds, edges, repeated requests, and the leases that a release ends.

use super::Engine;
use crate::{
    event::{Body, Class, Event, LockAddr, LockStep, Mapping, Mode, SiteId},
    finding::{Known, Manner, Rank},
    holds::{Instance, Key, LockHold, TaskId},
    leases::Sort,
    lock_class::LockClass,
    lock_order::feasible::conflict,
    lock_order::graph::Ask,
    lock_order::path::{Act, Op},
    loss::UNSURE_NS,
    tasks::{Asked, Waiting},
};

/// A request counts as a wait if the task has been silent for this long, even where the kernel reports no waits. Folio
/// lookups wait inside the page cache's own functions, and 5.10 has no contention tracepoints.
const STUCK_NS: u64 = 1_000_000_000;

impl Engine {
    /// Marks tasks as waiting that have been silent for too long since a request.
    pub(super) fn find_stuck(&mut self) {
        for id in self.world.tasks.ids().collect::<Vec<TaskId>>() {
            let (Some(asked), None) = (self.world.tasks[id].asked, self.world.tasks[id].waiting) else {
                continue;
            };
            match asked {
                Asked::Lock { addr, at_ns, .. } if self.world.now_ns.saturating_sub(at_ns) >= STUCK_NS => {
                    self.waits(id, addr, false);
                }
                Asked::Folio { mapping, index, at_ns, site, folio }
                    if self.world.now_ns.saturating_sub(at_ns) >= STUCK_NS =>
                {
                    self.folio_stuck(id, site, (folio, mapping, index), at_ns);
                }
                _ => {}
            }
        }
    }

    /// Marks the task as waiting for a lock that it requested. If the task holds that lock, it waits for itself. This
    /// counts only if the kernel reported the wait or the two modes conflict; silence alone is not a wait.
    fn waits(&mut self, id: TaskId, addr: u64, told: bool) {
        let task = &self.world.tasks[id];
        let Some(at) = task.holds.iter().rposition(|h| h.instance.addr == addr) else { return };
        let hold = task.holds[at];
        let Some(Asked::Lock { at_ns, site, mode, .. }) = task.asked else { return };
        let site = self.world.on_behalf(id, site);
        self.world.tasks[id].waiting =
            Some(Waiting { addr, class: hold.class, mode, since_ns: at_ns, site, told });
        if hold.known != Known::Asking && !hold.lossy && (told || conflict(hold.mode, mode)) {
            self.relocked(id, at, (site, mode, at_ns), Rank::Confirmed);
        }
    }

    /// Handles a task's next event: it has acquired what it requested, and its wait has ended. An entry probe shows the
    /// request, not the acquisition.
    #[inline]
    pub(super) fn settle(&mut self, id: TaskId, event: &Event) {
        let task = &mut self.world.tasks[id];
        if task.asked.is_none() && task.waiting.is_none() {
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
        match task.asked {
            Some(Asked::Lock { addr, at_ns, .. }) => {
                if still == Some(LockAddr(addr)) && !gave_up {
                    return;
                }
                task.asked = None;
                if !gave_up {
                    self.has_now(id, addr, at_ns, event.site);
                }
            }
            // A pending lookup reports its result when it returns; any other event means that it found no folio.
            Some(Asked::Folio { .. })
                if still.is_none()
                    && !matches!(event.body, Body::FolioHeld { .. } | Body::FolioWait { .. }) =>
            {
                task.asked = None;
            }
            _ => {}
        }
    }

    fn has_now(&mut self, id: TaskId, addr: u64, asked_ns: u64, site: SiteId) {
        let task = &mut self.world.tasks[id];
        let Some(hold) = task.holds.iter_mut().rev().find(|h| h.instance.addr == addr) else { return };
        if hold.known == Known::Asking {
            hold.known = Known::Asked;
        }
        if hold.class != LockClass::Ptl {
            if hold.mode != Some(Mode::Read) && self.disputed.contains(&addr) {
                self.end_disputed(id, addr, self.world.now_ns);
            }
            return;
        }
        let owner = self.world.locks.get(addr).map_or(0, |l| l.owner);
        let release_seen = !self.world.rules.ptl_release_unseen();
        let Some(lease) = self.leases.last_of(id, owner) else { return };
        if let Some(used_ns) = lease.ptl_taken(addr, asked_ns, release_seen, &self.world.tasks[id].holds) {
            let site = self.world.on_behalf(id, site);
            if let Some(hit) = &mut lease.hit {
                hit.at_use = Some(Box::new(self.world.side(id, site, used_ns)));
            }
        }
    }

    pub(super) fn lock(
        &mut self,
        id: TaskId,
        event: &Event,
        step: LockStep,
        class: Class,
        mode: Option<Mode>,
        lock: u64,
    ) {
        if class == Class::MmapLock && matches!(step, LockStep::Ask | LockStep::Try) {
            // A new system call: locks that the task acquired before it named them are released.
            self.world.tasks[id].loss.named_ns = 0;
        }
        match step {
            LockStep::Ask => {
                if class != Class::Ptl {
                    // A task that holds a spinlock does not sleep, so its release was not seen.
                    self.drop_ptls(id, event.time_ns);
                }
                self.take(id, event, (class.into(), mode, lock), Known::Asking);
                if class == Class::Ptl && self.world.losses.holes > 0 && !self.world.locks.is_named(lock) {
                    // The record that names this lock's table may be lost.
                    self.leases.of_mut(id).iter_mut().for_each(|lease| lease.lossy = true);
                }
                let (at_ns, site) = (event.time_ns, event.site);
                self.world.tasks[id].asked = Some(Asked::Lock { addr: lock, at_ns, mode, site });
            }
            LockStep::Try => {
                if self.world.rules.try_then_block(event.site, class) {
                    self.drop_ptls(id, event.time_ns);
                }
                self.take(id, event, (class.into(), mode, lock), Known::Tried);
                self.has_now(id, lock, event.time_ns, event.site);
            }
            LockStep::GaveUp => self.give_up(id, lock),
            LockStep::Release => self.release(id, event.time_ns, (class, mode), lock),
            LockStep::Downgrade => {
                let holds = &mut self.world.tasks[id].holds;
                if let Some(hold) = holds.iter_mut().find(|h| h.instance.addr == lock) {
                    hold.downgraded = hold.mode != Some(Mode::Read);
                    hold.mode = Some(Mode::Read);
                    self.order.task(id).push(Op::on(hold, Act::Downgrade, event.time_ns));
                }
            }
            LockStep::WaitBegin => {
                self.last_holders.wanted(lock);
                self.waits(id, lock, true);
            }
            // The task reaches the same point by blocking as by acquiring the lock at once.
            LockStep::Busy if self.world.rules.try_then_block(event.site, class) => {}
            LockStep::Busy => self.busy(id, event, (class.into(), mode, lock)),
            // The next event shows whether the task acquired it.
            LockStep::WaitEnd => {}
        }
    }

    /// Records that the task requests a lock, or has acquired it.
    fn take(
        &mut self,
        id: TaskId,
        event: &Event,
        (class, mode, addr): (LockClass, Option<Mode>, u64),
        known: Known,
    ) {
        let lock = self.world.locks.see(addr, class.wire(), event.time_ns);
        let instance = Instance { addr, life: lock.life };
        let manner = match known {
            Known::Tried if self.world.rules.try_then_block(event.site, class.wire()) => Manner::TryThenBlock,
            Known::Tried => Manner::Tried,
            _ => Manner::Asked,
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
            if manner != Manner::Tried && !disputed {
                self.relock(id, event, at, mode);
            }
            if !lossy {
                return;
            }
            // The release was lost: this is another hold.
            self.drop_hold(id, at, event.time_ns);
        }
        self.order.task(id).requests(instance, mode, manner);
        let ask = Ask { class, instance, mode, manner, time_ns: event.time_ns, site };
        self.order.asked(self.world.presences(), id, &ask);
        let hold = LockHold {
            class,
            instance,
            mode,
            known,
            since_ns: event.time_ns,
            lossy: false,
            disputed: false,
            downgraded: false,
            again: 0,
            mapping: Mapping(0),
            index: 0,
        };
        self.acquired(id, hold, manner, (site, event.time_ns));
    }

    fn give_up(&mut self, id: TaskId, addr: u64) {
        let task = &mut self.world.tasks[id];
        if let Some(at) = task.holds.iter().rposition(|h| h.instance.addr == addr) {
            match task.holds[at].again {
                0 => {
                    let hold = task.holds.remove(at);
                    self.order.task(id).gave_up(&self.world.tasks[id], hold.instance);
                }
                _ => task.holds[at].again -= 1,
            }
        }
    }

    /// Handles a failed trylock: another task holds the lock.
    fn busy(&mut self, id: TaskId, event: &Event, (class, mode, addr): (LockClass, Option<Mode>, u64)) {
        let instance = Instance { addr, life: self.world.locks.see(addr, class.wire(), event.time_ns).life };
        let op = Op {
            lock: instance,
            time_ns: event.time_ns,
            site: event.site,
            class,
            mode,
            act: Act::Fail,
            manner: Manner::Tried,
            known: Known::Tried,
            sure: true,
        };
        self.order.task(id).was_busy(&self.world.tasks[id], op);
    }

    pub(super) fn release(
        &mut self,
        id: TaskId,
        now_ns: u64,
        (class, mode): (Class, Option<Mode>),
        addr: u64,
    ) {
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
                self.last_holders.released(&self.world.tasks[id], &hold, now_ns);
                self.predictions.released(&self.world, id, &hold, now_ns);
            }
            None if self.releases_for_another(id, now_ns, (class, mode), addr) => return,
            None => {
                self.counts.unknown_releases += 1;
                let since_ns = self.world.tasks[id].loss.released(addr);
                if since_ns != 0 {
                    // This is the lock whose acquisition was lost.
                    self.doubt_order_since(id, since_ns);
                }
                self.held_all_the_time(id, class, mode, addr);
            }
        }
        // A lease that ends with the lock was protected by it to its end.
        let mut at = 0;
        while let Some(lease) = self.leases.of(id).get(at) {
            if lease.sort == Sort::Foreign(class) {
                self.end_lease(id, at, (now_ns, now_ns), true);
            } else {
                at += 1;
            }
        }
        self.leases.lock_released(id, addr, now_ns, &self.world.tasks[id].holds);
    }

    /// Handles the release of a lock that the task is not known to hold. Returns true if it releases the lock for
    /// another task, as `mmap_read_unlock_non_owner` does (kernel/bpf/stackmap.c); then the other task's hold ends. If
    /// the lock may also be the task's own, acquired before the lock was watched, the other tasks' holds become
    /// doubtful.
    fn releases_for_another(
        &mut self,
        id: TaskId,
        now_ns: u64,
        (class, mode): (Class, Option<Mode>),
        addr: u64,
    ) -> bool {
        if !matches!(class, Class::MmapLock | Class::VmaLock | Class::IMmap | Class::Inode) {
            return false;
        }
        let Some(lock) = self.world.locks.get(addr) else { return false };
        let (seen_ns, was_exclusive) = (lock.seen_ns, lock.was_exclusive);
        let holders: Vec<TaskId> = self.holders(addr, mode).collect();
        let Some(oldest) = holders.iter().copied().min_by_key(|t| (self.since_ns(*t, addr), *t)) else {
            return false;
        };
        let task = &self.world.tasks[id];
        // `is_known`, `is_new`: every acquisition of the lock by this task was seen.
        let is_exclusive = self.world.tasks[oldest]
            .holds
            .iter()
            .any(|h| h.instance.addr == addr && h.mode != Some(Mode::Read));
        let is_known = was_exclusive && task.loss.unsure_since_ns == 0;
        let is_new = is_known || task.born_ns > seen_ns || seen_ns + UNSURE_NS < now_ns;
        let cannot_hold = is_exclusive || (is_new && !task.loss.may_hold(addr));
        let is_certain = cannot_hold && task.loss.unsure_since_ns == 0 && holders.len() == 1;
        if is_certain {
            if let Some(at) = self.world.tasks[oldest].holds.iter().rposition(|h| h.instance.addr == addr) {
                self.drop_other(oldest, at, now_ns);
            }
            return true;
        }
        self.dispute(addr);
        cannot_hold
    }

    /// Tasks that hold a lock in this mode.
    fn holders(&self, addr: u64, mode: Option<Mode>) -> impl Iterator<Item = TaskId> {
        let is_it = move |h: &LockHold| {
            h.instance.addr == addr && h.known != Known::Asking && (mode.is_none() || h.mode == mode)
        };
        self.world.tasks.ids().filter(move |t| self.world.tasks[*t].holds.iter().any(is_it))
    }

    /// Ends other tasks' disputed holds of a lock that the task has acquired exclusively.
    fn end_disputed(&mut self, id: TaskId, addr: u64, now_ns: u64) {
        for other in self.world.tasks.ids().filter(|other| *other != id).collect::<Vec<TaskId>>() {
            let is_it = |h: &LockHold| h.instance.addr == addr && h.disputed;
            if let Some(at) = self.world.tasks[other].holds.iter().position(is_it) {
                self.drop_other(other, at, now_ns);
            }
        }
        self.disputed.remove(&addr);
    }

    /// Ends a hold of a task because of another task's event.
    fn drop_other(&mut self, holder: TaskId, at: usize, now_ns: u64) {
        let hold = self.drop_hold(holder, at, now_ns);
        self.predictions.released(&self.world, holder, &hold, now_ns);
        self.leases.lock_released(holder, hold.instance.addr, now_ns, &self.world.tasks[holder].holds);
    }

    /// Marks all holds of a lock as doubtful: one of its holders may have released it.
    fn dispute(&mut self, addr: u64) {
        self.disputed.insert(addr);
        for id in self.world.tasks.ids().collect::<Vec<TaskId>>() {
            let mut had = self.world.tasks[id]
                .holds
                .iter_mut()
                .filter(|h| h.instance.addr == addr && h.known != Known::Asking);
            if let Some(hold) = had.next() {
                (hold.lossy, hold.disputed) = (true, true);
                self.order.task(id).touched_by_loss();
                self.leases.doubt_lock(id, addr);
            }
        }
    }

    /// Time since which a task holds a lock.
    fn since_ns(&self, id: TaskId, addr: u64) -> u64 {
        self.world.tasks[id].holds.iter().find(|h| h.instance.addr == addr).map_or(u64::MAX, |h| h.since_ns)
    }

    /// Returns true if a lock that was acquired at `since_ns` and is released now was held in between. Otherwise two
    /// records, a release and a new request, would both have to be lost.
    fn is_one_hold(&self, since_ns: u64, now_ns: u64) -> bool {
        self.world.losses.lost_between(since_ns, now_ns) <= 1
            || self.world.losses.are_sparse(since_ns, now_ns)
    }

    /// Confirms that a lock was held all the time, although records were lost meanwhile.
    fn redeem(&mut self, id: TaskId, lock: Instance) {
        self.leases.redeem(id, lock);
        self.predictions.redeem(&self.world, id, lock);
    }

    /// Handles the release of a lock whose acquisition was not seen: it was held during all pending accesses.
    fn held_all_the_time(&mut self, id: TaskId, class: Class, mode: Option<Mode>, addr: u64) {
        let lock = self.world.locks.see(addr, class, self.world.now_ns);
        let (instance, owner) = (Instance { addr, life: lock.life }, lock.owner);
        let exclusive = mode != Some(Mode::Read);
        let key = Key { class: class.into(), instance, exclusive, owner, doubtful: false };
        let excludes = class != Class::Ptl && self.world.rules.excludes(class, mode);
        self.predictions.held_all_the_time(id, key, excludes);
    }

    /// Ends the PTL holds of a task; used if PTL releases are not seen.
    pub(super) fn drop_ptls(&mut self, id: TaskId, now_ns: u64) {
        while let Some(hold) = self.world.tasks[id].holds.iter().rev().find(|h| h.class == LockClass::Ptl) {
            let addr = hold.instance.addr;
            self.release(id, now_ns, (Class::Ptl, None), addr);
        }
    }

    /// Reports that the task requests a lock that it holds.
    pub(super) fn relock(&mut self, id: TaskId, event: &Event, at: usize, requested: Option<Mode>) {
        let hold = self.world.tasks[id].holds[at];
        let site = self.world.on_behalf(id, event.site);
        let rank = if hold.lossy { Rank::Incomplete } else { Rank::Feasible };
        self.relocked(id, at, (site, requested, event.time_ns), rank);
    }

    fn relocked(
        &mut self,
        id: TaskId,
        at: usize,
        (site, requested, time_ns): (SiteId, Option<Mode>, u64),
        rank: Rank,
    ) {
        self.order.relocked(&self.world, id, at, (site, requested, time_ns), rank);
    }

    /// Adds a lock that the task holds or requests.
    pub(super) fn acquired(
        &mut self,
        id: TaskId,
        hold: LockHold,
        manner: Manner,
        (site, asked_ns): (SiteId, u64),
    ) {
        self.order.task(id).acquired(&hold, manner, site, asked_ns);
        self.world.tasks[id].holds.push(hold);
    }

    /// Removes a hold that has ended.
    pub(super) fn drop_hold(&mut self, id: TaskId, at: usize, now_ns: u64) -> LockHold {
        let hold = self.world.tasks[id].holds.remove(at);
        self.order.task(id).released(&self.world.tasks[id], &hold, now_ns);
        hold
    }

    /// Drops the holds whose release may be lost.
    pub(super) fn give_up_lossy(&mut self, id: TaskId, now_ns: u64) {
        while let Some(at) = self.world.tasks[id].holds.iter().position(|h| h.lossy) {
            let hold = self.drop_hold(id, at, now_ns);
            self.world.tasks[id].loss.gave_up(hold.instance.addr);
        }
    }
}
