//! Leases: one task's possession of one pte pointer, from the lookup to the end of its use.
//!
//! ```text
//!            lookup under no excluding lock                     lookup under an excluding lock
//!                        │                                                    │
//!   PTL released ┌───────▼──────┐ replaced, operation over       ┌────────────▼───────────┐
//!   = certain    │    active    ├──────────────► ended           │         active         │
//!   end so far   └──▲────┬──────┘                  ▲             └────────────┬───────────┘
//!                   └────┘                         │       last lock released │ = certain end
//!                                                  │             ┌────────────▼───────────┐
//!                                                  └─────────────┤        dormant         │◄─┐ PTL released
//!                                    replaced, operation over    └────────────┬───────────┘  │ = certain end
//!                                                                 PTL taken   └──► active ───┘
//! ```
//!
//! A callback's lease is active from the callback's begin (or the lookup that it was handed) to its end, whatever is
//! released meanwhile. A foreign lookup's lease ends with the release of the lock that it names. Sleeping is not holding:
//! a dormant lease makes no window unless the task takes the table's PTL later, with no lookup of that table in between:
//! one table serves many mms, and its lock is taken for the pointer that was looked up last.
//!
//! Decides the states; what an unlink makes of them is in `windows`.

use crate::{
    cover::Cover,
    event::{Addr, Class, Mm, Pte, SiteId, Table},
    finding::{Side, Use},
    loss::Missing,
    tasks::{HoldSet, LockHold},
};

/// Excluding locks kept per lease; a lookup under more is still held by those.
const EXCLUDING_MAX: usize = 4;

/// What sort of possession it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// Handed to a callback, which runs.
    Callback,
    /// Returned by a lookup in a mm that the task works on.
    Own,
    /// A look at a partner's mm, given up with the release of a lock of this class.
    Foreign(Class),
    /// A walk with no lookup function, up to this address: some pointer of the range, some of the time.
    Walk(Addr),
}

/// An unlink that hit the lease.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub lo_ns: u64,
    pub hi_ns: u64,
    pub unlinker: Side,
    pub unlink_site: SiteId,
    /// What it was a pointer into.
    pub of: Generation,
    /// The table's PTL if the unlinker held it, and since when: who got it later took it after the unlink.
    pub unlinker_ptl: Option<(u64, u64)>,
    pub used: Use,
    pub at_use: Option<Box<Side>>,
    pub freed_ns: Option<u64>,
    /// The PTL that was taken after the unlink was released again: whatever follows, it was used unchecked.
    unchecked: bool,
    /// Looked up again under the PTL before anything else was done with it.
    pub revalidated: bool,
}

impl Hit {
    /// An unlink between two times, equal where its moment is known.
    pub fn new(
        (lo_ns, hi_ns): (u64, u64),
        unlinker: Side,
        unlink_site: SiteId,
        of: Generation,
        ptl: Option<(u64, u64)>,
    ) -> Hit {
        Hit {
            lo_ns,
            hi_ns,
            unlinker,
            unlink_site,
            of,
            unlinker_ptl: ptl,
            used: Use::No,
            at_use: None,
            freed_ns: None,
            unchecked: false,
            revalidated: false,
        }
    }
}

/// A PTL that was taken through a pointer.
#[derive(Clone, Copy, Debug)]
struct Taken {
    lock: u64,
    /// It was had at some time after this.
    since_ns: u64,
    /// Where the release cannot be seen, it is over at any time from then on.
    release_seen: bool,
}

impl Taken {
    /// Up to when it was held for certain, if it was told as released now.
    fn until_ns(self, now_ns: u64) -> u64 {
        if self.release_seen { now_ns } else { self.since_ns }
    }
}

/// A table in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    pub table: Table,
    pub generation: u32,
    pub birth_ns: u64,
}

/// One lease.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub sort: Sort,
    pub mm: Mm,
    pub addr: Addr,
    pub pte: Pte,
    pub of: Generation,
    pub start_ns: u64,
    pub cpu: u16,
    /// On whose behalf.
    pub site: SiteId,
    /// Frames on the task's stack at its start; it ends when fewer are left. 0: in no operation.
    pub depth: usize,
    pub cover: Cover,
    /// Stack of the operation.
    pub stack: Option<u32>,
    excluding: [u64; EXCLUDING_MAX],
    /// Looked up under an excluding lock, all of which were released: not held, unless used again.
    dormant: bool,
    /// Was ever under an excluding lock: the release of the PTL ends it again.
    guarded: bool,
    /// PTL of the table taken through it, and not released.
    ptl: Option<Taken>,
    /// Looked up again under the PTL: the pointer is given up.
    retired: bool,
    /// Used while nothing kept removals away, with no look again.
    unchecked: bool,
    /// Ended by a lookup at the same place under the table's PTL, before anything was done with it.
    pub revalidated: bool,
    /// Last moment at which it was in use for certain.
    certain_ns: u64,
    /// Last moment at which it was active, while dormant.
    active_until_ns: u64,
    pub lossy: bool,
    pub hit: Option<Box<Hit>>,
}

/// What a lookup or callback tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pointer {
    pub mm: Mm,
    pub addr: Addr,
    pub pte: Pte,
    pub of: Generation,
}

impl Lease {
    pub fn is_dormant(&self) -> bool {
        self.dormant
    }

    pub fn new(sort: Sort, pointer: Pointer, at: (u64, u16, SiteId), depth: usize, holds: HoldSet) -> Lease {
        Lease {
            sort,
            mm: pointer.mm,
            addr: pointer.addr,
            pte: pointer.pte,
            of: pointer.of,
            start_ns: at.0,
            cpu: at.1,
            site: at.2,
            depth,
            cover: Cover::new(holds),
            stack: None,
            excluding: [0; EXCLUDING_MAX],
            dormant: false,
            guarded: false,
            ptl: None,
            retired: false,
            unchecked: false,
            revalidated: false,
            certain_ns: 0,
            active_until_ns: 0,
            lossy: false,
            hit: None,
        }
    }

    /// It was looked up under this lock, which excludes unlinks.
    pub fn exclude_by(&mut self, lock: u64) {
        if let Some(place) = self.excluding.iter_mut().find(|l| **l == 0) {
            *place = lock;
            self.guarded = true;
        }
    }

    /// The pointer that was looked up is handed to a callback: one lease, from the lookup on.
    pub fn hand_over(&mut self, addr: Addr, pte: Pte, site: SiteId, depth: usize) {
        self.sort = Sort::Callback;
        (self.addr, self.pte, self.site, self.depth) = (addr, pte, site, depth);
        self.dormant = false;
        self.still_used();
    }

    /// Whether the pointer may be into the table that this entry of an upper level pointed to.
    pub fn reaches(&self, mm: Mm, table: Table, gib: Option<Addr>) -> bool {
        self.mm == mm
            && match self.sort {
                Sort::Walk(to) => gib.is_some_and(|gib| self.addr.gib() <= gib && gib < to),
                _ => self.of.table == table && gib.is_none_or(|gib| self.addr.gib() == gib),
            }
    }

    /// Whether it was ever under an excluding lock.
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// Whether it was in use for certain at some moment after the lookup.
    pub fn is_certain(&self) -> bool {
        self.certain_ns > self.start_ns
    }

    /// Records of its task may have been lost just now.
    pub fn touched_by_loss(&mut self, missing: Missing) {
        let may_be_bare = self.cover.touched_by_loss(missing);
        self.lossy |= may_be_bare || missing.deeds() || missing.acquires();
    }

    /// A lock may have been released by another task.
    pub fn doubt_lock(&mut self, lock: u64) {
        self.cover.doubt_lock(lock);
    }

    /// The task released a lock, and holds these.
    pub fn lock_released(&mut self, lock: u64, now_ns: u64, holds: &[LockHold]) {
        let slept = self.dormant;
        self.release(lock, now_ns);
        // What it was given up with belongs to what covered it.
        if !self.dormant && !slept {
            self.cover.released(lock, holds);
        }
    }

    fn release(&mut self, lock: u64, now_ns: u64) {
        if let Some(taken) = self.ptl.take_if(|taken| taken.lock == lock) {
            if self.retired {
                return;
            }
            self.certain_ns = taken.until_ns(now_ns);
            self.unchecked |= self.excluding.iter().all(|l| *l == 0);
            if let Some(hit) = &mut self.hit {
                hit.unchecked |= hit.used != Use::No;
            }
            if self.guarded && self.excluding.iter().all(|l| *l == 0 || *l == lock) {
                self.excluding = [0; EXCLUDING_MAX];
                self.sleep(now_ns);
            }
        }
        if let Some(place) = self.excluding.iter_mut().find(|l| **l == lock) {
            *place = 0;
            if self.excluding.iter().all(|l| *l == 0) && self.ptl.is_none() {
                self.certain_ns = now_ns;
                self.sleep(now_ns);
            }
        }
    }

    fn sleep(&mut self, now_ns: u64) {
        if self.sort != Sort::Callback {
            self.dormant = true;
            self.active_until_ns = now_ns;
        }
    }

    /// The task has the table's PTL, for which it asked at `asked_ns`.
    /// Returns when it was first seen to be used after its link was gone, if that is now.
    pub fn ptl_taken(
        &mut self,
        lock: u64,
        asked_ns: u64,
        release_seen: bool,
        holds: &[LockHold],
    ) -> Option<u64> {
        let mut since_ns = asked_ns;
        if std::mem::take(&mut self.dormant) {
            self.cover.woken(self.active_until_ns, holds);
        }
        let mut first_ns = None;
        if let Some(hit) = &mut self.hit {
            // A spinlock is given in the order of the asks: who asked before the unlinker may have had it, and let it go
            // unseen, before the unlinker got it.
            let behind = hit
                .unlinker_ptl
                .is_some_and(|(ptl, unlinker_ns)| ptl == lock && (release_seen || asked_ns > unlinker_ns));
            let after = asked_ns >= hit.hi_ns || behind;
            if after {
                since_ns = asked_ns.max(hit.hi_ns);
                if hit.used == Use::No {
                    hit.used = Use::Seen(since_ns);
                    first_ns = Some(since_ns);
                }
            }
        }
        self.ptl = Some(Taken { lock, since_ns, release_seen });
        self.still_used();
        first_ns
    }

    /// The pointer is used: if it was given up before, that was not so.
    fn still_used(&mut self) {
        if std::mem::take(&mut self.retired)
            && let Some(hit) = &mut self.hit
        {
            hit.revalidated = false;
            self.revalidated = false;
            hit.unchecked = true;
        }
    }

    /// The task looks up again in this mm, at this place. Returns whether that ends the lease; one that was hit, and is
    /// given up by this in time, stays, to see that it is not used after.
    pub fn looked_up_again(&mut self, gib: Addr, now_ns: u64) -> bool {
        if self.sort != Sort::Own || self.retired {
            return false;
        }
        let under_ptl = self.ptl.is_some() && self.addr.gib() == gib;
        match &mut self.hit {
            None => {
                // A PTL that was released before is a use that nothing checked.
                self.revalidated = under_ptl && !self.unchecked;
                true
            }
            Some(hit) if under_ptl && matches!(hit.used, Use::Seen(_)) && !hit.unchecked => {
                hit.revalidated = true;
                self.revalidated = !self.unchecked;
                self.retired = true;
                self.certain_ns = now_ns;
                self.sleep(now_ns);
                false
            }
            Some(_) => true,
        }
    }

    /// It ends now; `seen_ns` is how far that is certain: earlier than now if the end of its operation was missed.
    /// `by_lock`: by the release that it waited for; callbacks are in use up to their end.
    pub fn end(&mut self, now_ns: u64, seen_ns: u64, by_lock: bool) {
        let is_held = by_lock || self.sort == Sort::Callback;
        let until_ns = if is_held { Some(seen_ns) } else { self.ptl.map(|taken| taken.until_ns(seen_ns)) };
        if let (Some(until_ns), false) = (until_ns, self.retired) {
            self.certain_ns = until_ns;
        }
        if !self.dormant {
            self.active_until_ns = now_ns;
        }
    }

    /// Last certain and last possible moment, once it has ended.
    pub fn ends(&self) -> (u64, u64) {
        (self.certain_ns, self.active_until_ns.max(self.certain_ns))
    }
}
