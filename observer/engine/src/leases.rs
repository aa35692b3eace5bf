//! Leases: possession of one pte pointer by a task, from the lookup to the last use.
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
//!                                                                 PTL acquired└──► active ───┘
//! ```
//!
//! A callback's lease is active from the begin of the callback (or from the lookup whose pointer it received) to its end,
//! regardless of releases meanwhile. The lease of a foreign lookup ends with the release of the lock that it names. A dormant
//! lease is not a possession. It makes no window unless the task acquires the table's PTL later, without a lookup of that
//! table in between. One table serves many mms, and its PTL is acquired for the pointer that was looked up last.
//!
//! This module decides the states; `windows` decides what an unlink makes of them.

mod of_tasks;

pub(crate) use self::of_tasks::{Leases, Unlink};
use crate::{
    event::{Addr, Class, Mm, Pte, SiteId, Table},
    finding::{Party, Use},
    holds::{HoldSet, LockHold},
    loss::{Missing, Span},
    protection::Cover,
    tables::Generation,
};

/// Maximum number of excluders kept per lease; at a lookup under more locks, the surplus ones are ignored.
const EXCLUDING_MAX: usize = 4;

/// Kind of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseKind {
    /// A running callback received the pointer.
    Callback,
    /// A lookup returned the pointer, in an mm that the task works on.
    Own,
    /// The lookup read a partner's mm; the lease ends with the release of a lock of this class.
    Foreign(Class),
    /// A walk without a lookup function, up to this address: at some times, the task uses some pointer of the range.
    Walk(Addr),
}

/// An unlink that hit the lease.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub lo_ns: u64,
    pub hi_ns: u64,
    pub unlinker: Party,
    pub unlink_site: SiteId,
    /// The table generation that the pointer is into.
    pub of: Generation,
    /// The table's PTL if the unlinker held it, with the time since which: a later holder acquired it after the unlink.
    pub unlinker_ptl: Option<(u64, u64)>,
    pub used: Use,
    pub at_use: Option<Box<Party>>,
    pub freed_ns: Option<u64>,
    /// The PTL that was acquired after the unlink was released again: the pointer was used unchecked, regardless of
    /// what follows.
    unchecked: bool,
    /// The pointer was looked up again under the PTL before any other use.
    pub revalidated: bool,
}

impl Hit {
    /// Creates a hit by an unlink between two times, which are equal if the moment is known.
    pub fn new(
        span: Span,
        unlinker: Party,
        unlink_site: SiteId,
        of: Generation,
        ptl: Option<(u64, u64)>,
    ) -> Hit {
        Hit {
            lo_ns: span.from_ns,
            hi_ns: span.to_ns,
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

/// A PTL that was acquired through a pointer.
#[derive(Clone, Copy, Debug)]
struct Taken {
    lock: u64,
    /// The PTL was acquired at some time after this.
    since_ns: u64,
    /// If false, the release cannot be seen: it may happen at any time after the acquisition.
    release_seen: bool,
}

impl Taken {
    /// Returns the time up to which it was certainly held, if its release is assumed now.
    fn until_ns(self, now_ns: u64) -> u64 {
        if self.release_seen { now_ns } else { self.since_ns }
    }
}

/// State of one lease.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub kind: LeaseKind,
    pub mm: Mm,
    pub addr: Addr,
    pub pte: Pte,
    pub of: Generation,
    pub start_ns: u64,
    pub cpu: u16,
    /// Site to which the lookup is attributed.
    pub site: SiteId,
    /// Frames on the task's stack at its start; it ends when fewer are left. 0: not in an operation.
    pub depth: usize,
    pub cover: Cover,
    /// Stack of the operation.
    pub stack: Option<u32>,
    excluding: [u64; EXCLUDING_MAX],
    /// The lookup's excluders are all released: the pointer is not in use, unless it is used again.
    dormant: bool,
    /// It was protected by an excluder at some time: it becomes dormant with the release of the PTL.
    guarded: bool,
    /// The table's PTL, if acquired through it and not released.
    ptl: Option<Taken>,
    /// Looked up again under the PTL: the old pointer is given up.
    retired: bool,
    /// Used while nothing excluded unlinks, without another lookup.
    unchecked: bool,
    /// Ended by a lookup at the same place under the table's PTL, before any other use.
    pub revalidated: bool,
    /// Last moment at which it was certainly in use.
    certain_ns: u64,
    /// Last moment at which it was active, while dormant.
    active_until_ns: u64,
    pub lossy: bool,
    pub hit: Option<Box<Hit>>,
}

/// A pte entry, with the address that it maps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub mm: Mm,
    pub addr: Addr,
    pub pte: Pte,
}

/// The pointer that a lookup returns or a callback receives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pointer {
    pub entry: Entry,
    pub of: Generation,
}

/// Begin of a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseStart<'a> {
    pub kind: LeaseKind,
    pub pointer: Pointer,
    pub start_ns: u64,
    pub cpu: u16,
    pub site: SiteId,
    /// Number of frames on the task's stack.
    pub depth: usize,
    /// Locks that the task holds.
    pub holds: &'a [LockHold],
}

/// End of a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseEnd {
    pub now_ns: u64,
    /// Time up to which its use is certain; earlier than `now_ns` if the end of its operation was missed.
    pub seen_ns: u64,
    /// It ends with the release of its lock: it was in use to its end, as a callback's lease is.
    pub by_lock: bool,
}

impl Lease {
    pub fn is_dormant(&self) -> bool {
        self.dormant
    }

    #[inline]
    pub fn new(start: &LeaseStart<'_>) -> Lease {
        let LeaseStart { kind, pointer, start_ns, cpu, site, depth, holds } = *start;
        Lease {
            kind,
            mm: pointer.entry.mm,
            addr: pointer.entry.addr,
            pte: pointer.entry.pte,
            of: pointer.of,
            start_ns,
            cpu,
            site,
            depth,
            cover: Cover::new(HoldSet::of(holds)),
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

    /// Adds an excluder that protected the lookup.
    #[inline]
    pub fn exclude_by(&mut self, lock: u64) {
        if let Some(place) = self.excluding.iter_mut().find(|l| **l == 0) {
            *place = lock;
            self.guarded = true;
        }
    }

    /// Passes the pointer of a lookup on to a callback: both are one lease, from the lookup on.
    pub fn hand_over(&mut self, addr: Addr, pte: Pte, site: SiteId, depth: usize) {
        self.kind = LeaseKind::Callback;
        (self.addr, self.pte, self.site, self.depth) = (addr, pte, site, depth);
        self.dormant = false;
        self.still_used();
    }

    /// Returns true if the pointer may be into the table that this upper-level entry pointed to.
    pub fn reaches(&self, mm: Mm, table: Table, gib: Option<Addr>) -> bool {
        self.mm == mm
            && match self.kind {
                LeaseKind::Walk(to) => gib.is_some_and(|gib| self.addr.gib() <= gib && gib < to),
                _ => self.of.table == table && gib.is_none_or(|gib| self.addr.gib() == gib),
            }
    }

    /// Returns true if an excluder ever protected it.
    #[inline]
    pub fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// Returns true if it was certainly in use at some moment after the lookup.
    pub fn is_certain(&self) -> bool {
        self.certain_ns > self.start_ns
    }

    /// Returns true if it counts as in use only because of locks that its task, which has these holds, may have released.
    pub fn is_kept_by_doubt(&self, holds: &[LockHold]) -> bool {
        let is_certain = |lock: u64| holds.iter().any(|h| h.instance.addr == lock && !h.lossy);
        let mut locks = self.excluding.iter().filter(|lock| **lock != 0).peekable();
        self.ptl.is_none() && locks.peek().is_some() && !locks.any(|lock| is_certain(*lock))
    }

    /// Handles a loss in which records of its task may be missing.
    pub fn touched_by_loss(&mut self, missing: Missing) {
        let may_be_bare = self.cover.touched_by_loss(missing);
        self.lossy |= may_be_bare || missing.deeds() || missing.acquires();
    }

    /// Marks a lock as doubtful: another task may have released it.
    pub fn doubt_lock(&mut self, lock: u64) {
        self.cover.doubt_lock(lock);
    }

    /// Handles the release of a lock; `holds` are the remaining locks of the task.
    pub fn lock_released(&mut self, lock: u64, now_ns: u64, holds: &[LockHold]) {
        let slept = self.dormant;
        self.release(lock, now_ns);
        // The lock with whose release the use ended protected it to the end.
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
        if self.kind != LeaseKind::Callback {
            self.dormant = true;
            self.active_until_ns = now_ns;
        }
    }

    /// Handles the acquisition of the table's PTL, requested at `requested_ns`. Returns the time of the first use after the
    /// unlink, if this is that use.
    pub fn ptl_taken(
        &mut self,
        lock: u64,
        requested_ns: u64,
        release_seen: bool,
        holds: &[LockHold],
    ) -> Option<u64> {
        let mut since_ns = requested_ns;
        if std::mem::take(&mut self.dormant) {
            self.cover.woken(self.active_until_ns, holds);
        }
        let mut first_ns = None;
        if let Some(hit) = &mut self.hit {
            // A spinlock is granted in request order. A task that requested it before the unlinker may have acquired
            // it, and released it unseen, before the unlinker acquired it.
            let behind = hit.unlinker_ptl.is_some_and(|(ptl, unlinker_ns)| {
                ptl == lock && (release_seen || requested_ns > unlinker_ns)
            });
            let after = requested_ns >= hit.hi_ns || behind;
            if after {
                since_ns = requested_ns.max(hit.hi_ns);
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

    /// Handles a use: a pointer that seemed to be given up was not.
    fn still_used(&mut self) {
        if std::mem::take(&mut self.retired)
            && let Some(hit) = &mut self.hit
        {
            hit.revalidated = false;
            self.revalidated = false;
            hit.unchecked = true;
        }
    }

    /// Handles another lookup by the task in this mm, at `gib`. Returns true if it ends the lease. A lease that was
    /// hit, and is given up in time by this lookup, is kept: that shows if it is used later.
    #[inline]
    pub fn looked_up_again(&mut self, gib: Addr, now_ns: u64) -> bool {
        if self.kind != LeaseKind::Own || self.retired {
            return false;
        }
        let under_ptl = self.ptl.is_some() && self.addr.gib() == gib;
        match &mut self.hit {
            None => {
                // An earlier PTL release means an unchecked use.
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

    /// Ends the lease now.
    #[inline]
    pub fn end(&mut self, end: LeaseEnd) {
        let LeaseEnd { now_ns, seen_ns, by_lock } = end;
        let is_held = by_lock || self.kind == LeaseKind::Callback;
        let until_ns = if is_held { Some(seen_ns) } else { self.ptl.map(|taken| taken.until_ns(seen_ns)) };
        if let (Some(until_ns), false) = (until_ns, self.retired) {
            self.certain_ns = until_ns;
        }
        if !self.dormant {
            self.active_until_ns = now_ns;
        }
    }

    /// Returns the last certain and the last possible moment of use of an ended lease.
    pub fn ends(&self) -> (u64, u64) {
        (self.certain_ns, self.active_until_ns.max(self.certain_ns))
    }
}
