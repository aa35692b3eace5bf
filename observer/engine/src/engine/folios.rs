//! Folio events: holds and edges.
//!
//! The folio lock belongs to the folio: another task or context may release it. Its fast path is inline everywhere. So
//! a hold is known by the function that returned the folio, by a contract some time after the lock was acquired, or
//! only by its release. Locks requested between the acquisition and that evidence were requested under the folio lock.
//! This is certain if the setup states at which point the operation locks the folio ([`crate::setup::FolioTaken`]),
//! else only possible.

use super::Engine;
use crate::{
    event::{Event, Folio, How, Mode, SiteId},
    finding::{AcquireKind, HoldBasis},
    holds::{Instance, LockHold, TaskId},
    lock_class::LockClass,
    lock_order::graph::LockRequest,
    locks::FolioPlace,
    tasks::{Requested, Task, Waiting},
};

fn hold_of(instance: Instance, place: FolioPlace, basis: HoldBasis, since_ns: u64) -> LockHold {
    let FolioPlace { mapping, index, .. } = place;
    LockHold {
        class: LockClass::of_folio(mapping),
        instance,
        mode: Some(Mode::Exclusive),
        basis,
        since_ns,
        lossy: false,
        disputed: false,
        downgraded: false,
        again: 0,
        mapping,
        index,
    }
}

impl Engine {
    /// Handles a folio lookup that does not return: it waits for its folio, or for the folio that a task holds at that
    /// index of the file.
    pub(super) fn folio_stuck(&mut self, id: TaskId, site: SiteId, place: FolioPlace, since_ns: u64) {
        let FolioPlace { folio, mapping, index } = place;
        if folio.0 != 0 {
            let site = self.world.on_behalf(id, site);
            let (class, mode) = (LockClass::of_folio(mapping), Some(Mode::Exclusive));
            self.world.tasks[id].waiting =
                Some(Waiting { addr: folio.0, class, mode, since_ns, site, reported: false });
            return;
        }
        let held = |t: &Task| {
            let mut holds = t.holds.iter();
            let at_place =
                |h: &&LockHold| h.class == LockClass::FolioFile && (h.mapping, h.index) == (mapping, index);
            holds.find(at_place).copied()
        };
        let Some(hold) = self.world.tasks.iter().find_map(held) else { return };
        let site = self.world.on_behalf(id, site);
        let (class, mode) = (hold.class, Some(Mode::Exclusive));
        let request = LockRequest {
            class,
            instance: hold.instance,
            mode,
            acquire: AcquireKind::Blocking,
            time_ns: since_ns,
            site,
        };
        self.lock_order.requested(self.world.presences(), id, &request);
        let addr = hold.instance.addr;
        self.world.tasks[id].waiting = Some(Waiting { addr, class, mode, since_ns, site, reported: false });
    }

    pub(super) fn folio_request(&mut self, id: TaskId, event: &Event, place: FolioPlace) {
        let FolioPlace { folio, mapping, index } = place;
        // A task that holds a spinlock does not sleep, so its release was not seen.
        self.drop_ptls(id, event.time_ns);
        if folio.0 != 0 {
            self.folio_requested(id, event, place, event.time_ns);
        }
        self.world.tasks[id].requested =
            Some(Requested::Folio { mapping, index, at_ns: event.time_ns, site: event.site, folio });
    }

    /// Adds the edges of a request for a folio lock that can block.
    fn folio_requested(&mut self, id: TaskId, event: &Event, place: FolioPlace, time_ns: u64) {
        let FolioPlace { folio, mapping, .. } = place;
        let class = LockClass::of_folio(mapping);
        let instance = self.world.locks.folio(place);
        let site = self.world.on_behalf(id, event.site);
        if let Some(at) = self.world.tasks[id].holds.iter().rposition(|h| h.instance.addr == folio.0) {
            self.relock(id, event, at, Some(Mode::Exclusive));
            return;
        }
        let mode = Some(Mode::Exclusive);
        let request = LockRequest { class, instance, mode, acquire: AcquireKind::Blocking, time_ns, site };
        self.lock_order.requested(self.world.presences(), id, &request);
    }

    pub(super) fn folio_wait(&mut self, id: TaskId, event: &Event, place: FolioPlace) {
        let FolioPlace { folio, mapping, index } = place;
        self.drop_ptls(id, event.time_ns);
        self.holders.last.wanted(folio.0);
        // The waiting lookup requested the lock before it waited.
        let at_ns = match self.world.tasks[id].requested {
            Some(Requested::Folio { mapping: of, index: at, at_ns, .. }) if (of, at) == (mapping, index) => {
                at_ns
            }
            _ => event.time_ns,
        };
        self.world.tasks[id].requested =
            Some(Requested::Folio { mapping, index, at_ns, site: event.site, folio });
        self.folio_requested(id, event, place, at_ns);
        let site = self.world.on_behalf(id, event.site);
        self.world.tasks[id].waiting = Some(Waiting {
            addr: folio.0,
            class: LockClass::of_folio(mapping),
            mode: Some(Mode::Exclusive),
            since_ns: event.time_ns,
            site,
            reported: true,
        });
    }

    pub(super) fn folio_held(&mut self, id: TaskId, event: &Event, named: FolioPlace, how: How) {
        let FolioPlace { folio, mapping, index } = named;
        let requested = self.world.tasks[id].requested.take();
        let instance = self.world.locks.folio(named);
        let holds = &mut self.world.tasks[id].holds;
        if let Some(at) = holds.iter().position(|h| h.instance.addr == folio.0) {
            let hold = &mut holds[at];
            // Another task may take over an anonymous folio while it is locked, which changes the mapping.
            let is_anon = hold.mapping.0 & mapping.0 & 1 == 1;
            if mapping.0 == 0 || hold.mapping.0 == 0 || is_anon || hold.instance == instance {
                // Evidence for the same hold, perhaps with a mapping or index that was not known before.
                if mapping.0 != 0 && (hold.mapping.0 == 0 || is_anon || how == How::Returned) {
                    let now = (LockClass::of_folio(mapping), instance);
                    self.lock_order.task(id).rename(hold.instance, now);
                    (hold.mapping, hold.index) = (mapping, index);
                    (hold.class, hold.instance) = now;
                }
                return;
            }
            // A locked folio does not move in the page cache: its release at the old index was not seen.
            self.counts.missed_folio_releases += 1;
            self.drop_folio(id, folio, event.time_ns);
        }
        if let Some(other) = self.holders.of_folio.insert(folio.0, id)
            && other != id
        {
            // The folio has one lock: evidence for this holder ends the presumed hold of another task.
            self.counts.missed_folio_releases += 1;
            self.drop_folio(other, folio, event.time_ns);
        }
        if how == How::Returned
            && let Some(Requested::Folio { at_ns, folio: Folio(0), .. }) = requested
        {
            self.folio_requested(id, event, named, at_ns);
        }
        let known = match how {
            How::Returned => HoldBasis::ReturnedLocked,
            How::Contract => HoldBasis::Contract,
            How::SlowPath => HoldBasis::SlowPath,
        };
        let hold = hold_of(instance, named, known, event.time_ns);
        if how == How::Contract && self.world.rules.is_late(event.site) {
            if self.lock_order.was_held(&self.world, id, event, &hold) {
                self.world.tasks[id].holds.push(hold);
                return;
            }
            self.doubt_where_locked(id, event.time_ns);
        }
        let site = self.world.on_behalf(id, event.site);
        let requested_ns = requested.map_or(event.time_ns, |a| a.at_ns());
        self.acquired(id, hold, AcquireKind::Blocking, site, requested_ns);
    }

    /// Handles a release: the folio's lock is free, no matter which task releases it.
    pub(super) fn folio_release(&mut self, id: TaskId, event: &Event, named: FolioPlace) {
        let holds = |t: &TaskId| self.world.tasks[*t].holds.iter().any(|h| h.instance.addr == named.folio.0);
        // The recorded holder may not hold it any more: `give_up_lossy` drops holds whose release may be lost.
        if let Some(holder) = self.holders.of_folio.remove(&named.folio.0).filter(holds) {
            let is_it = |h: &LockHold| h.instance.addr == named.folio.0 && h.lossy;
            let is_lossy = self.world.tasks[holder].holds.iter().any(is_it);
            self.holders.last.unlocked(&self.world.tasks[holder], named.folio, event.time_ns);
            self.drop_folio(holder, named.folio, event.time_ns);
            if holder == id || !is_lossy {
                return;
            }
            // The release of that hold may be lost; then this is another hold.
        }
        self.counts.unknown_releases += 1;
        let instance = self.world.locks.folio(named);
        let hold = hold_of(instance, named, HoldBasis::InferredFromRelease, event.time_ns);
        self.holders.last.released(&self.world.tasks[id], &hold, event.time_ns);
        if self.lock_order.was_held(&self.world, id, event, &hold) {
            self.lock_order.task(id).releases(&self.world.tasks[id], &hold, event.time_ns);
        } else {
            self.doubt_where_locked(id, event.time_ns);
        }
    }

    /// Marks edges as doubtful if a folio was locked at an unknown point. The task is not in an operation that states
    /// the point, and the begin of such an operation may be lost.
    fn doubt_where_locked(&mut self, id: TaskId, now_ns: u64) {
        if !self.world.tasks[id].is_site_unsure(now_ns) {
            return;
        }
        let since_ns = self.world.tasks[id].loss.touched_ns;
        self.doubt_since(id, since_ns);
        if !self.world.tasks[id].holds.is_empty() {
            // The position of that lock in the task's path is not known.
            self.lock_order.task(id).touched_by_loss();
        }
    }

    fn drop_folio(&mut self, holder: TaskId, folio: Folio, now_ns: u64) {
        if let Some(at) = self.world.tasks[holder].holds.iter().position(|h| h.instance.addr == folio.0) {
            self.drop_hold(holder, at, now_ns);
        }
        self.leases.lock_released(holder, folio.0, now_ns, &self.world.tasks[holder].holds);
    }
}
