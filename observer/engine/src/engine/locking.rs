//! What lock events do: holds, edges, repeated asks; and the leases that a release ends.

use super::Engine;
use crate::{
    event::{Body, Class, Event, Folio, How, LockAddr, LockStep, Mapping, Mode, SiteId},
    finding::{Doubt, Evidence, Finding, Known, Rank, Relock},
    graph::Ask,
    leases::Sort,
    lock_class::LockClass,
    tasks::{Asked, Instance, LockHold, Task, TaskId},
};

/// A folio lock has no generation of its own: folio and mapping together name it.
fn folio_instance(folio: Folio, mapping: Mapping) -> Instance {
    Instance { addr: folio.0, life: mapping.0 }
}

/// An ask after which nothing was heard from the task for so long is a wait, also where no wait can be seen: folio
/// lookups wait inside the page cache's own functions, and 5.10 has no contention tracepoints.
const STUCK_NS: u64 = 1_000_000_000;

/// Locks released last that are remembered.
const RELEASED_KEPT: usize = 8;

impl Engine {
    /// Asks that went unanswered for long are waits.
    pub(super) fn find_stuck(&mut self) {
        for id in self.tasks.ids().collect::<Vec<TaskId>>() {
            let (Some(asked), None) = (self.tasks[id].asked, self.tasks[id].waiting) else { continue };
            match asked {
                Asked::Lock { addr, at_ns } if self.now_ns.saturating_sub(at_ns) >= STUCK_NS => {
                    self.tasks[id].waiting = Some(addr);
                }
                Asked::Folio { mapping, index, at_ns, site, .. }
                    if self.now_ns.saturating_sub(at_ns) >= STUCK_NS =>
                {
                    self.folio_stuck(id, site, (mapping, index), at_ns);
                }
                _ => {}
            }
        }
    }

    /// A folio lookup that does not return waits for the folio that somebody holds at that place of the file.
    fn folio_stuck(&mut self, id: TaskId, site: SiteId, (mapping, index): (Mapping, u64), at_ns: u64) {
        let held = |t: &Task| {
            t.holds
                .iter()
                .find(|h| h.class == LockClass::FolioFile && (h.mapping, h.index) == (mapping, index))
                .copied()
        };
        let Some(hold) = self.tasks.iter().find_map(held) else { return };
        let site = self.on_behalf(id, site);
        let (class, mode) = (hold.class, Some(Mode::Exclusive));
        let ask = Ask { class, instance: hold.instance, mode, trylock: false, time_ns: at_ns, site };
        self.graph.asked(&self.tasks[id], &ask);
        self.tasks[id].waiting = Some(hold.instance.addr);
    }

    /// The task goes on: what it asked for it has, and it waits no more. An entry probe is the asking, not the having.
    #[inline]
    pub(super) fn settle(&mut self, id: TaskId, event: &Event) {
        let task = &mut self.tasks[id];
        if task.asked.is_none() && task.waiting.is_none() {
            return;
        }
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
            Some(Asked::Lock { addr, at_ns }) => {
                if still == Some(LockAddr(addr)) && !gave_up {
                    return;
                }
                task.asked = None;
                if !gave_up {
                    self.has_now(id, addr, at_ns, event.site);
                }
            }
            // The lookup under way speaks for itself when it returns; any other event means that it found nothing.
            Some(Asked::Folio { .. }) if !matches!(event.body, Body::FolioHeld { .. }) && still.is_none() => {
                task.asked = None;
            }
            _ => {}
        }
    }

    fn has_now(&mut self, id: TaskId, addr: u64, asked_ns: u64, site: SiteId) {
        let task = &mut self.tasks[id];
        let Some(hold) = task.holds.iter_mut().rev().find(|h| h.instance.addr == addr) else { return };
        if hold.known == Known::Asking {
            hold.known = Known::Asked;
        }
        if hold.class != LockClass::Ptl {
            return;
        }
        let owner = self.locks.get(addr).map_or(0, |l| l.owner);
        // One lock serves all mms that share the table: it is taken for the pointer that was looked up last.
        let Task { leases, holds, .. } = &mut self.tasks[id];
        let of_table = (0..leases.len()).filter(|i| leases[*i].of.table.0 == owner);
        let Some(at) = of_table.max_by_key(|i| leases[*i].start_ns) else { return };
        if let Some(used_ns) = leases[at].ptl_taken(addr, asked_ns, holds) {
            let site = self.on_behalf(id, site);
            let side = self.side(id, site, used_ns);
            if let Some(hit) = &mut self.tasks[id].leases[at].hit {
                hit.at_use = Some(Box::new(side));
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
        match step {
            LockStep::Ask => {
                if class != Class::Ptl {
                    // Who has a spinlock does not sleep: its release was not seen.
                    self.drop_ptls(id, event.time_ns);
                }
                self.take(id, event, (class.into(), mode, lock), Known::Asking);
                self.tasks[id].asked = Some(Asked::Lock { addr: lock, at_ns: event.time_ns });
            }
            LockStep::Try => {
                self.take(id, event, (class.into(), mode, lock), Known::Tried);
                self.has_now(id, lock, event.time_ns, event.site);
            }
            LockStep::GaveUp => self.give_up(id, lock),
            LockStep::Release => self.release(id, event.time_ns, (class, mode), lock),
            LockStep::Downgrade => {
                if let Some(hold) = self.tasks[id].holds.iter_mut().find(|h| h.instance.addr == lock) {
                    hold.downgraded = hold.mode != Some(Mode::Read);
                    hold.mode = Some(Mode::Read);
                }
            }
            LockStep::WaitBegin => self.tasks[id].waiting = Some(lock),
            // The next event tells whether the task has it.
            LockStep::Busy | LockStep::WaitEnd => {}
        }
    }

    /// The task asks for, or got, a lock.
    fn take(
        &mut self,
        id: TaskId,
        event: &Event,
        (class, mode, addr): (LockClass, Option<Mode>, u64),
        known: Known,
    ) {
        let lock = self.locks.see(addr, class.wire());
        lock.writer_seen |= mode != Some(Mode::Read);
        let instance = Instance { addr, life: lock.life };
        let trylock = known == Known::Tried && !self.rules.try_then_block(event.site);
        let site = self.on_behalf(id, event.site);
        if let Some(at) = self.tasks[id].holds.iter().rposition(|h| h.instance == instance) {
            let hold = &mut self.tasks[id].holds[at];
            hold.again = hold.again.saturating_add(1);
            let lossy = hold.lossy;
            if known == Known::Asking {
                self.relock(id, event, at, mode);
            }
            if !lossy {
                return;
            }
            // Its release is among what was lost: this is another hold.
            self.tasks[id].holds.remove(at);
        }
        let ask = Ask { class, instance, mode, trylock, time_ns: event.time_ns, site };
        self.graph.asked(&self.tasks[id], &ask);
        self.tasks[id].holds.push(LockHold {
            class,
            instance,
            mode,
            known,
            since_ns: event.time_ns,
            lossy: false,
            downgraded: false,
            again: 0,
            mapping: Mapping(0),
            index: 0,
        });
    }

    fn give_up(&mut self, id: TaskId, addr: u64) {
        let holds = &mut self.tasks[id].holds;
        if let Some(at) = holds.iter().rposition(|h| h.instance.addr == addr) {
            match holds[at].again {
                0 => drop(holds.remove(at)),
                _ => holds[at].again -= 1,
            }
        }
    }

    pub(super) fn release(
        &mut self,
        id: TaskId,
        now_ns: u64,
        (class, mode): (Class, Option<Mode>),
        addr: u64,
    ) {
        let holds = &mut self.tasks[id].holds;
        match holds.iter().rposition(|h| h.instance.addr == addr) {
            Some(at) if holds[at].again > 0 => {
                holds[at].again -= 1;
                return;
            }
            Some(at) => {
                let hold = holds.remove(at);
                self.released(id, now_ns, &hold);
            }
            None => {
                self.counts.unknown_releases += 1;
                self.held_all_the_time(id, class, mode, addr);
            }
        }
        // What ends with the lock was under it to its end.
        let mut at = 0;
        while at < self.tasks[id].leases.len() {
            if self.tasks[id].leases[at].sort == Sort::Foreign(class) {
                self.end_lease(id, at, (now_ns, now_ns), true);
            } else {
                at += 1;
            }
        }
        let Task { leases, holds, .. } = &mut self.tasks[id];
        for lease in leases {
            lease.lock_released(addr, now_ns, holds);
        }
    }

    /// Ends the PTL holds of a task where releases are not seen.
    pub(super) fn drop_ptls(&mut self, id: TaskId, now_ns: u64) {
        while let Some(hold) = self.tasks[id].holds.iter().rev().find(|h| h.class == LockClass::Ptl) {
            let addr = hold.instance.addr;
            self.release(id, now_ns, (Class::Ptl, None), addr);
        }
    }

    /// Remembered where the moment of a removal is not known: it may have been held then.
    fn released(&mut self, id: TaskId, now_ns: u64, hold: &LockHold) {
        if self.rules.unshare_exact() {
            return;
        }
        let released = &mut self.tasks[id].released;
        if released.len() == RELEASED_KEPT {
            released.pop_front();
        }
        released.push_back((now_ns, hold.into()));
    }

    /// The task asks for what it holds.
    fn relock(&mut self, id: TaskId, event: &Event, at: usize, asked_mode: Option<Mode>) {
        let hold = self.tasks[id].holds[at];
        let site = self.on_behalf(id, event.site);
        let rank = if hold.lossy { Rank::Incomplete } else { Rank::Feasible };
        let mut doubts = Vec::new();
        if hold.lossy {
            doubts.push(Doubt::Loss);
        }
        if hold.mode == Some(Mode::Read) && asked_mode == Some(Mode::Read) {
            let writer_seen = self.locks.get(hold.instance.addr).is_some_and(|l| l.writer_seen);
            doubts.push(Doubt::QueuedWriter { class: hold.class, writer_seen });
        }
        let mode = |m: Option<Mode>| m.map_or("unknown", Mode::name);
        self.single(Finding {
            id: format!(
                "relock:{}:{}:{}-{}:{}",
                self.name(site),
                hold.class.name(),
                mode(hold.mode),
                mode(asked_mode),
                rank.name()
            ),
            rank,
            count: 1,
            first_ns: event.time_ns,
            last_ns: event.time_ns,
            doubts,
            evidence: Evidence::Relock(Relock {
                held: hold.shown(),
                asked_mode,
                side: self.side(id, site, event.time_ns),
            }),
        });
    }

    pub(super) fn folio_ask(
        &mut self,
        id: TaskId,
        event: &Event,
        mapping: Mapping,
        index: u64,
        folio: Folio,
    ) {
        if folio.0 != 0 {
            self.folio_asked(id, event, (folio, mapping), event.time_ns);
        }
        self.tasks[id].asked =
            Some(Asked::Folio { mapping, index, at_ns: event.time_ns, site: event.site, told: folio.0 != 0 });
    }

    /// Edges of an ask for a folio's lock that can block.
    fn folio_asked(&mut self, id: TaskId, event: &Event, (folio, mapping): (Folio, Mapping), time_ns: u64) {
        let class = LockClass::of_folio(mapping);
        let instance = folio_instance(folio, mapping);
        let site = self.on_behalf(id, event.site);
        if let Some(at) = self.tasks[id].holds.iter().rposition(|h| h.instance.addr == folio.0) {
            self.relock(id, event, at, Some(Mode::Exclusive));
            return;
        }
        let mode = Some(Mode::Exclusive);
        let ask = Ask { class, instance, mode, trylock: false, time_ns, site };
        self.graph.asked(&self.tasks[id], &ask);
    }

    pub(super) fn folio_wait(&mut self, id: TaskId, event: &Event, folio: Folio, mapping: Mapping) {
        self.folio_asked(id, event, (folio, mapping), event.time_ns);
        self.tasks[id].waiting = Some(folio.0);
    }

    pub(super) fn folio_held(
        &mut self,
        id: TaskId,
        event: &Event,
        (folio, mapping, index): (Folio, Mapping, u64),
        how: How,
    ) {
        let asked = self.tasks[id].asked.take();
        if let Some(hold) = self.tasks[id].holds.iter_mut().find(|h| h.instance.addr == folio.0) {
            // Proved again, perhaps with what was not known before.
            if mapping.0 != 0 && (hold.mapping.0 == 0 || how == How::Returned) {
                (hold.mapping, hold.index) = (mapping, index);
                (hold.class, hold.instance) = (LockClass::of_folio(mapping), folio_instance(folio, mapping));
            }
            return;
        }
        if let Some(other) = self.folio_holders.insert(folio.0, id)
            && other != id
        {
            // The lock belongs to the folio: a proof here ends what another task was thought to have.
            self.counts.missed_folio_releases += 1;
            self.tasks[other].holds.retain(|h| h.instance.addr != folio.0);
        }
        if how == How::Returned
            && let Some(Asked::Folio { at_ns, told: false, .. }) = asked
        {
            self.folio_asked(id, event, (folio, mapping), at_ns);
        }
        let known = match how {
            How::Returned => Known::Returned,
            How::Contract => Known::Contract,
            How::SlowPath => Known::SlowPath,
        };
        self.tasks[id].holds.push(LockHold {
            class: LockClass::of_folio(mapping),
            instance: folio_instance(folio, mapping),
            mode: Some(Mode::Exclusive),
            known,
            since_ns: event.time_ns,
            lossy: false,
            downgraded: false,
            again: 0,
            mapping,
            index,
        });
    }

    /// Whoever releases it, the folio's lock is free.
    pub(super) fn folio_release(&mut self, folio: Folio) {
        let Some(holder) = self.folio_holders.remove(&folio.0) else {
            self.counts.unknown_releases += 1;
            return;
        };
        let Task { leases, holds, .. } = &mut self.tasks[holder];
        holds.retain(|h| h.instance.addr != folio.0);
        for lease in leases {
            lease.lock_released(folio.0, self.now_ns, holds);
        }
    }
}
