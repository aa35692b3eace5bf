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
    event::{Addr, Class, Mm, Pte, SiteId, Table},
    finding::{Side, Use},
    tasks::HoldSet,
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
}

/// An unlink that hit the lease.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub lo_ns: u64,
    pub hi_ns: u64,
    pub unlinker: Side,
    pub unlink_site: SiteId,
    /// The table's PTL if the unlinker held it: whoever asked before and got it later took it after the unlink.
    pub unlinker_ptl: Option<u64>,
    pub used: Use,
    pub freed_ns: Option<u64>,
    /// Looked up again under the PTL before anything else was done with it.
    pub revalidated: bool,
}

/// One lease.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub sort: Sort,
    pub mm: Mm,
    pub addr: Addr,
    pub pte: Pte,
    pub table: Table,
    pub generation: u32,
    pub table_birth_ns: u64,
    pub start_ns: u64,
    pub cpu: u16,
    /// On whose behalf.
    pub site: SiteId,
    /// Frames on the task's stack at its start; it ends when fewer are left. 0: in no operation.
    pub depth: usize,
    pub holds: HoldSet,
    excluding: [u64; EXCLUDING_MAX],
    /// Looked up under an excluding lock, all of which were released: not held, unless used again.
    dormant: bool,
    /// Was ever under an excluding lock: the release of the PTL ends it again.
    guarded: bool,
    /// PTL of the table taken through it, and not released.
    ptl: Option<u64>,
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
    pub generation: u32,
    pub table_birth_ns: u64,
}

impl Lease {
    pub fn new(sort: Sort, pointer: Pointer, at: (u64, u16, SiteId), depth: usize, holds: HoldSet) -> Lease {
        Lease {
            sort,
            mm: pointer.mm,
            addr: pointer.addr,
            pte: pointer.pte,
            table: pointer.pte.table(),
            generation: pointer.generation,
            table_birth_ns: pointer.table_birth_ns,
            start_ns: at.0,
            cpu: at.1,
            site: at.2,
            depth,
            holds,
            excluding: [0; EXCLUDING_MAX],
            dormant: false,
            guarded: false,
            ptl: None,
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
    }

    /// The task released a lock.
    pub fn lock_released(&mut self, lock: u64, now_ns: u64) {
        if self.ptl == Some(lock) {
            self.ptl = None;
            self.certain_ns = now_ns;
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
    pub fn ptl_taken(&mut self, lock: u64, asked_ns: u64) {
        self.ptl = Some(lock);
        self.dormant = false;
        if let Some(hit) = &mut self.hit {
            let after = asked_ns >= hit.hi_ns || hit.unlinker_ptl == Some(lock);
            if after && hit.used == Use::No {
                hit.used = Use::Seen(asked_ns.max(hit.hi_ns));
            }
        }
    }

    /// The task looked up again at this place while it holds the table's PTL, taken after the unlink.
    pub fn looked_up_again(&mut self, gib: Addr) {
        if self.ptl.is_some()
            && self.sort == Sort::Own
            && self.addr.gib() == gib
            && let Some(hit) = &mut self.hit
            && matches!(hit.used, Use::Seen(_))
        {
            hit.revalidated = true;
        }
    }

    /// It ends now; `seen_ns` is how far that is certain: earlier than now if the end of its operation was missed.
    /// `by_lock`: by the release that it waited for; callbacks are in use up to their end.
    pub fn end(&mut self, now_ns: u64, seen_ns: u64, by_lock: bool) {
        if by_lock || self.sort == Sort::Callback || self.ptl.is_some() {
            self.certain_ns = seen_ns;
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
