//! The truth: logged by the simulated kernel as it happens, and read by the oracle.
//!
//! Decides nothing. A pointer names the lookup that returned it, so the purpose of a lock is always known.

use observer_engine::event::Mode;

use super::{
    kernel::{Place, TaskNo},
    locks::Lock,
    sites::Site,
};

/// A lock that a task holds. `life` distinguishes it from earlier locks at the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub lock: Lock,
    pub life: u32,
    pub mode: Mode,
    /// It was held for writing before.
    pub downgraded: bool,
    /// The probes saw the acquisition.
    pub seen: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Looked up in an mm on which the task works.
    Own,
    /// A lookup in a partner's mm, for sharing.
    Partner,
    /// Passed to a callback; the lookup was not seen.
    Callback,
    /// A walk: any pointer of the range, at some time.
    Walk,
}

/// A pointer that a lookup returned to a task.
#[derive(Clone, Debug)]
pub struct Lease {
    pub task: TaskNo,
    pub sort: Sort,
    pub site: Site,
    pub place: Place,
    pub addr: u64,
    /// Only for a walk: the end of its range.
    pub to: u64,
    pub table: u64,
    /// Generation of the table at this address.
    pub life: u32,
    pub start_ns: u64,
    /// Operations in which the task was.
    pub depth: usize,
    pub held: Vec<Held>,
    /// The task is a user of the mm, which is not torn down meanwhile.
    pub is_user: bool,
    /// The mm is the task's own.
    pub is_own: bool,
    /// Index in the task's deeds. Later deeds may concern the lease.
    pub deed: usize,
}

/// A deed of a task that concerns leases.
#[derive(Clone, Debug)]
pub enum Deed {
    /// A lookup returned, with or without a pointer.
    Looked {
        place: Place,
        partner: bool,
    },
    /// The task acquired the PTL of this lease's table, with the times of the request and the acquisition.
    TookPtl {
        lease: usize,
        lock: Lock,
        requested_ns: u64,
        acquired_ns: u64,
    },
    Acquired {
        held: Held,
    },
    /// `seen`: the probes saw it, too.
    Released {
        lock: Lock,
        seen: bool,
    },
    /// The pointer is passed to a callback.
    Handed {
        lease: usize,
        site: Site,
        depth: usize,
    },
    /// An operation ended; this is the number of those that remain.
    Left {
        depth: usize,
    },
    Exited,
}

/// A link that was removed.
#[derive(Clone, Debug)]
pub struct Unlink {
    pub task: TaskNo,
    pub site: Site,
    pub place: Place,
    pub table: u64,
    pub life: u32,
    pub at_ns: u64,
    /// Interval in which the records place the unlink. `None`: not recorded yet.
    pub reported_ns: Option<(u64, u64)>,
    /// It was the last link: the page was freed.
    pub freed: bool,
    pub held: Vec<Held>,
    /// The mm is the task's own.
    pub is_own: bool,
    /// Inside the operation of the mm's last user.
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
    /// Locks of VMAs that do not exist any more, with the times of their ends.
    pub gone: Vec<(Lock, u32, u64)>,
    pub end_ns: u64,
}

impl Lease {
    /// Returns true if the pointer was returned through the removed entry.
    pub fn is_of_link(&self, unlink: &Unlink) -> bool {
        let gib = unlink.place.gib();
        self.place.mm == unlink.place.mm
            && match self.sort {
                Sort::Walk => (self.addr..self.to).contains(&gib),
                _ => self.place.gib() == gib && (self.table, self.life) == (unlink.table, unlink.life),
            }
    }
}
