//! What really happened: written down by the simulated kernel as it happens, and read by the oracle.
//!
//! Decides nothing. A pointer knows which lookup gave it, so that nobody has to guess for what a lock is taken.

use observer_engine::event::Mode;

use super::{
    kernel::{Place, TaskNo},
    locks::Lock,
    sites::Site,
};

/// A lock that a task has. `life` tells it from others that had the address before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub lock: Lock,
    pub life: u32,
    pub mode: Mode,
    /// It was had for writing before.
    pub downgraded: bool,
    /// The probes saw it taken.
    pub seen: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Looked up in a mm that the task works on.
    Own,
    /// A look at a partner's mm, for sharing.
    Partner,
    /// Handed to a callback; the lookup was not seen.
    Callback,
    /// A walk: some pointer of the range, some of the time.
    Walk,
}

/// A pointer that a lookup gave to a task.
#[derive(Clone, Debug)]
pub struct Lease {
    pub task: TaskNo,
    pub sort: Sort,
    pub site: Site,
    pub place: Place,
    pub addr: u64,
    /// Of a walk: the end of its range.
    pub to: u64,
    pub table: u64,
    /// Which table at this address.
    pub life: u32,
    pub start_ns: u64,
    /// Operations that the task was inside.
    pub depth: usize,
    pub held: Vec<Held>,
    /// The task is a user of the mm: it is not taken down meanwhile.
    pub is_user: bool,
    /// The mm is the task's own.
    pub is_own: bool,
    /// Place in the task's deeds; those after it may concern the lease.
    pub deed: usize,
}

/// What a task did, as far as it bears on leases.
#[derive(Clone, Debug)]
pub enum Deed {
    /// A lookup returned, whatever it returned.
    Looked {
        place: Place,
        partner: bool,
    },
    /// It has the lock of the table of this lease's pointer, asked for and got at these times.
    TookPtl {
        lease: usize,
        lock: Lock,
        requested_ns: u64,
        acquired_ns: u64,
    },
    Acquired {
        held: Held,
    },
    /// `seen`: by the probes too.
    Released {
        lock: Lock,
        seen: bool,
    },
    /// The pointer is handed to a callback.
    Handed {
        lease: usize,
        site: Site,
        depth: usize,
    },
    /// An operation ended; so many are left.
    Left {
        depth: usize,
    },
    Exited,
}

/// A link that went away.
#[derive(Clone, Debug)]
pub struct Unlink {
    pub task: TaskNo,
    pub site: Site,
    pub place: Place,
    pub table: u64,
    pub life: u32,
    pub at_ns: u64,
    /// Between which times it is told to have happened; `None`: not told yet.
    pub reported_ns: Option<(u64, u64)>,
    /// The last link: the page was given back.
    pub freed: bool,
    pub held: Vec<Held>,
    /// The mm is the task's own.
    pub is_own: bool,
    /// Inside the operation of a mm's last user.
    pub last_user: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    pub birth_ns: Option<u64>,
    pub exit_ns: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub struct Log {
    pub leases: Vec<Lease>,
    /// By task, in order.
    pub deeds: Vec<Vec<(u64, Deed)>>,
    pub unlinks: Vec<Unlink>,
    /// By task.
    pub spans: Vec<Span>,
    /// Locks of VMAs that are no more, and since when.
    pub gone: Vec<(Lock, u32, u64)>,
    pub end_ns: u64,
}

impl Lease {
    /// Whether it is a pointer through the entry that was removed.
    pub fn is_of_link(&self, unlink: &Unlink) -> bool {
        let gib = unlink.place.gib();
        self.place.mm == unlink.place.mm
            && match self.sort {
                Sort::Walk => (self.addr..self.to).contains(&gib),
                _ => self.place.gib() == gib && (self.table, self.life) == (unlink.table, unlink.life),
            }
    }
}
