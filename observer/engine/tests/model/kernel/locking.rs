//! Steps that acquire and release locks, and which of their events the probes send.
//!
//! A request and the acquisition are two steps, so other tasks may run in between. The event of a request does not
//! prove a hold.

use observer_engine::event::{Body, Class, LockAddr, LockStep, Mode};

use super::{Kernel, LockRequest, Place, TaskNo, mm_addr};
use crate::{
    locks::Lock,
    sites::Site,
    truth::{Deed, Held},
};

impl Kernel {
    pub(super) fn lock_event(&mut self, no: TaskNo, step: LockStep, lock: Lock, mode: Mode) -> u64 {
        let site = match (step, lock) {
            (LockStep::WaitBegin | LockStep::WaitEnd, _) => Site::Contention,
            (_, Lock::Ptl(_)) => Site::Spin,
            _ => Site::Sleeping,
        };
        let body = Body::Lock {
            step,
            class: lock.class(),
            mode: Some(mode),
            lock: LockAddr(lock.addr()),
            failed: false,
        };
        self.emit(no, site, body)
    }

    /// Returns true if records of the lock are sent. The lock was announced; that of a freed table is recorded only
    /// for the task that looked up in it last.
    pub(super) fn is_watched(&self, no: TaskNo, lock: Lock) -> bool {
        match lock {
            Lock::Ptl(table) if self.retired.contains(&lock.addr()) => {
                self.tasks[no].last_table == table && !self.tasks[no].frames.is_empty()
            }
            Lock::Fault => true,
            _ => self.named.contains(&lock.addr()),
        }
    }

    pub(super) fn name(&mut self, no: TaskNo, site: Site, lock: Lock, owner: u64) {
        if self.named.insert(lock.addr()) {
            self.retired.remove(&lock.addr());
            let body = Body::LockName { class: lock.class(), lock: LockAddr(lock.addr()), owner, vma: 0 };
            self.emit(no, site, body);
        }
    }

    pub(super) fn forget(&mut self, no: TaskNo, lock: Lock) {
        if self.named.remove(&lock.addr()) {
            let body = Body::LockForget { class: lock.class(), lock: LockAddr(lock.addr()) };
            let now_ns = self.emit(no, Site::Sleeping, body);
            let life = self.lock_lives.get(&lock.addr()).copied().unwrap_or(0);
            self.log.gone.push((lock, life, now_ns));
        }
        *self.lock_lives.entry(lock.addr()).or_default() += 1;
    }

    pub(super) fn held(&self, lock: Lock, mode: Mode) -> Held {
        let life = self.lock_lives.get(&lock.addr()).copied().unwrap_or(0);
        Held { lock, life, mode, downgraded: false, seen: false }
    }

    pub(super) fn step_request(&mut self, no: TaskNo, mut request: LockRequest) {
        if !self.locks.is_free(request.lock, request.mode, no) {
            request.is_wait_reported = true;
            self.tasks[no].request = Some(request);
            if self.is_watched(no, request.lock) {
                self.lock_event(no, LockStep::WaitBegin, request.lock, request.mode);
            }
            return;
        }
        self.locks.take(no, request.lock, request.mode);
        let held = Held { seen: request.seen, ..self.held(request.lock, request.mode) };
        let acquired_ns = self.advance();
        let task = &mut self.tasks[no];
        task.request = None;
        task.held.push(held);
        task.acquired = Some((request, acquired_ns));
        if request.is_wait_reported && self.is_watched(no, request.lock) {
            self.lock_event(no, LockStep::WaitEnd, request.lock, request.mode);
        }
    }

    pub(super) fn request(&mut self, no: TaskNo, lock: Lock, mode: Mode, lease: Option<usize>) {
        // A request that is not seen cannot be evidence.
        let watched = self.is_watched(no, lock);
        self.look_again(no, lock, watched);
        let requested_ns =
            if watched { self.lock_event(no, LockStep::Request, lock, mode) } else { self.now_ns };
        self.locks.queue(no, lock, mode);
        let lease = lease.filter(|_| watched);
        self.tasks[no].request = Some(LockRequest {
            lock,
            mode,
            requested_ns,
            lease,
            is_wait_reported: !self.protocol.waits,
            seen: watched,
        });
    }

    /// Starts a new group of lookups: lookups with and without a lock that keeps tables linked are not merged, nor
    /// are those before and after a use.
    pub(super) fn look_again(&mut self, no: TaskNo, lock: Lock, seen: bool) {
        if seen && matches!(lock.class(), Class::VmaLock | Class::IMmap | Class::Ptl) {
            self.tasks[no].sent = None;
        }
    }

    pub(super) fn try_lock(&mut self, no: TaskNo, lock: Lock, mode: Mode, busy: usize) {
        let free = self.locks.is_free(lock, mode, no);
        let held = Held { seen: self.is_watched(no, lock), ..self.held(lock, mode) };
        if free {
            self.locks.take(no, lock, mode);
            self.tasks[no].held.push(held);
        } else {
            self.jump(no, busy);
        }
        self.look_again(no, lock, held.seen && free);
        if held.seen {
            self.lock_event(no, if free { LockStep::Try } else { LockStep::Busy }, lock, mode);
        }
        if free {
            self.deed(no, self.now_ns, Deed::Acquired { held });
        }
    }

    /// Two steps: the probe is at the function's entry, and the lock is released at its end.
    pub(super) fn release(&mut self, no: TaskNo, lock: Lock) {
        let at = self.tasks[no].held.iter().rposition(|h| h.lock == lock).expect("it is held");
        let reported = std::mem::replace(&mut self.tasks[no].release_reported, true);
        if !reported && self.is_watched(no, lock) {
            let mode = self.tasks[no].held[at].mode;
            self.look_again(no, lock, true);
            let now_ns = self.lock_event(no, LockStep::Release, lock, mode);
            self.deed(no, now_ns, Deed::Released { lock, seen: true });
            self.tasks[no].pc -= 1;
            return;
        }
        self.tasks[no].release_reported = false;
        if !reported && self.tasks[no].acquired.is_none_or(|(request, _)| request.lock != lock) {
            let now_ns = self.now_ns;
            self.deed(no, now_ns, Deed::Released { lock, seen: false });
        }
        self.tasks[no].held.remove(at);
        self.locks.release(no, lock);
    }

    pub(super) fn downgrade(&mut self, no: TaskNo, lock: Lock) {
        self.locks.downgrade(no, lock);
        let held = self.tasks[no].held.iter_mut().find(|h| h.lock == lock).expect("it is held");
        (held.mode, held.downgraded) = (Mode::Read, true);
        if self.is_watched(no, lock) {
            self.lock_event(no, LockStep::Downgrade, lock, Mode::Read);
        }
    }

    /// Announces the locks of these places, as earlier operations would have.
    pub(super) fn name_all(&mut self, no: TaskNo, which: impl Fn(Place) -> bool) {
        if !self.protocol.named_early {
            return;
        }
        for place in self.vmas.keys().copied().filter(|p| which(*p)).collect::<Vec<Place>>() {
            self.name(no, Site::Fault, Lock::Mmap(place.mm), mm_addr(place.mm));
            if self.protocol.vma_lock {
                self.name(no, Site::Fault, Lock::Vma(place.mm, place.vma), 0x3_0000);
            }
        }
        self.name(no, Site::Fault, Lock::IMmap, 0x3_0000);
    }
}
