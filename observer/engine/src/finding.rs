//! Findings: conclusions of the engine, with the evidence of all parties and the doubts that could make them false.
//!
//! This module decides the one scale of ranks and the shape of evidence. It does not decide how a finding is made
//! (`windows`, `cycles`), and its types are not `Serialize`: sinks convert them.

use std::sync::Arc;

use crate::{
    event::{Addr, Mapping, Mm, Mode, Pte, Table, Tid},
    lock_class::LockClass,
    table_event::TableEvent,
};

/// The one scale of all findings, worst first: the worst is the least in `Ord`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// A deadlock or hang that exists: every wait was reported or follows from the known holds.
    Confirmed,
    /// The table's page was freed inside the window, or while others still used the table.
    Freed,
    /// The holder used the pointer after the unlink.
    Used,
    /// A cycle or a repeated request that survives the sound filters.
    Feasible,
    /// The lease certainly outlived the link; no later use was seen.
    Held,
    /// Nothing excludes the pair, but the window did not happen in this run.
    Predicted,
    /// Locks were requested against a documented order.
    AgainstOrder,
    /// The evidence leaves it open: the lease may have ended before the unlink, or a hold is not certain.
    Possible,
    /// A cycle that is excluded by a lock which two of its parties hold.
    Guarded,
    /// A cycle of lock classes that no lock instances close.
    ClassOnly,
    /// Lost records touch the evidence.
    Incomplete,
    /// The holder looked the pointer up again under the table's PTL: correct, listed, never an alarm.
    Revalidated,
}

impl Rank {
    pub const ALL: [Rank; 12] = [
        Rank::Confirmed,
        Rank::Freed,
        Rank::Used,
        Rank::Feasible,
        Rank::Held,
        Rank::Predicted,
        Rank::AgainstOrder,
        Rank::Possible,
        Rank::Guarded,
        Rank::ClassOnly,
        Rank::Incomplete,
        Rank::Revalidated,
    ];

    /// Name in reports, expectations and `--fail-on`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Rank::Confirmed => "confirmed",
            Rank::Freed => "freed",
            Rank::Used => "used",
            Rank::Feasible => "feasible",
            Rank::Held => "held",
            Rank::Predicted => "predicted",
            Rank::AgainstOrder => "against-order",
            Rank::Possible => "possible",
            Rank::Guarded => "guarded",
            Rank::ClassOnly => "class-only",
            Rank::Incomplete => "incomplete",
            Rank::Revalidated => "revalidated",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Rank> {
        Rank::ALL.into_iter().find(|r| r.name() == name)
    }

    /// Returns true if the finding is worth waking somebody: `predicted` or worse.
    #[must_use]
    pub fn is_alarm(self) -> bool {
        self <= Rank::Predicted
    }
}

/// Kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A lease outlived the unlink of its link by another task.
    Window,
    /// Nothing excludes a lease and an unlink of its link.
    Prediction,
    /// Lock-order edges form a cycle.
    Cycle,
    /// A lock-order edge contradicts a documented order.
    AgainstOrder,
    /// A task requested, in a way that can block, a lock that it holds.
    Relock,
    /// A table's page was freed while others still use the table.
    FreedShared,
    /// A task waits for a lock that no task is known to hold.
    OrphanWait,
}

impl Kind {
    pub const ALL: [Kind; 7] = [
        Kind::Window,
        Kind::Prediction,
        Kind::Cycle,
        Kind::AgainstOrder,
        Kind::Relock,
        Kind::FreedShared,
        Kind::OrphanWait,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Window => "window",
            Kind::Prediction => "prediction",
            Kind::Cycle => "cycle",
            Kind::AgainstOrder => "order",
            Kind::Relock => "relock",
            Kind::FreedShared => "freed-shared",
            Kind::OrphanWait => "orphan-wait",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.name() == name)
    }
}

/// A task as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRef {
    pub tid: Tid,
    /// Process id; 0 if not recorded.
    pub tgid: u32,
    /// Command name; empty if not recorded.
    pub comm: String,
    pub cpu: u16,
}

/// Hold basis: the evidence that a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Known {
    /// The task requested the lock and then continued.
    Asked,
    /// The task requested the lock, and no later event of it was seen: it may still wait.
    Asking,
    /// A trylock succeeded.
    Tried,
    /// A lookup returned the folio locked.
    Returned,
    /// A function was entered whose contract is a locked folio: acquired at some time before.
    Contract,
    /// The slow path returned.
    SlowPath,
    /// Only the release was seen: acquired at some time before.
    Released,
}

impl Known {
    /// True for a contract and for a release: the lock was acquired at some unseen time before.
    #[must_use]
    pub fn is_inferred(self) -> bool {
        matches!(self, Known::Contract | Known::Released)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Known::Asked => "asked",
            Known::Asking => "asking",
            Known::Tried => "tried",
            Known::Returned => "returned-locked",
            Known::Contract => "contract",
            Known::SlowPath => "slow-path",
            Known::Released => "released",
        }
    }
}

/// Kind of request for the second lock of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Manner {
    /// Requested in a way that can block.
    Asked,
    /// A trylock succeeded at a site that blocks if the trylock fails.
    TryThenBlock,
    /// A trylock that cannot block: not a step of a deadlock.
    Tried,
}

impl Manner {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Manner::Asked => "asked",
            Manner::TryThenBlock => "try-then-block",
            Manner::Tried => "tried",
        }
    }

    /// Returns true if the request can block.
    #[must_use]
    pub fn can_block(self) -> bool {
        self != Manner::Tried
    }
}

/// A lock that a task holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    pub class: LockClass,
    /// Address of the lock; for a folio lock, of the folio.
    pub lock: u64,
    /// `None` if the kernel does not report it.
    pub mode: Option<Mode>,
    pub known: Known,
    pub since_ns: u64,
    /// Lost records may include the release.
    pub lossy: bool,
}

/// One party of a finding: task, site, time and the locks that it held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    pub task: TaskRef,
    /// Kernel function to which the event is attributed: the innermost watched operation, else the probed function
    /// itself.
    pub site: Arc<str>,
    pub time_ns: u64,
    /// Number of that operation's stack, if recorded.
    pub stack: Option<u32>,
    pub holds: Vec<Hold>,
}

/// Use of the pointer after the unlink, by the holder of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// No use was seen.
    No,
    /// The holder was inside the callback that received the pointer.
    Contract,
    /// The holder acquired the table's PTL after the unlink, at this time.
    Seen(u64),
}

/// One occurrence of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowCase {
    /// The task that holds the lease; its time is that of the lookup.
    pub holder: Side,
    /// The task that removed the link; its time is `unlink_hi_ns`.
    pub unlinker: Side,
    /// The mm of the lookup, not always the holder's own.
    pub mm: Mm,
    pub addr: Addr,
    pub pte: Pte,
    pub table: Table,
    pub generation: u32,
    /// Time when the table was allocated, or first seen.
    pub table_birth_ns: u64,
    /// The unlink happened between these two times; they are equal if the moment is known.
    pub unlink_lo_ns: u64,
    pub unlink_hi_ns: u64,
    /// Nanoseconds after the unlink for which the pointer was certainly in use; 0: no certain part.
    pub certain_ns: u64,
    /// Nanoseconds after the unlink for which it may have been in use.
    pub possible_ns: u64,
    pub used: Use,
    /// Only for [`Use::Seen`]: the holder when it acquired the table's PTL after the unlink.
    pub at_use: Option<Box<Side>>,
    /// Time when the table's page was freed, if inside the window.
    pub freed_ns: Option<u64>,
    /// The table's events around the window, oldest first, up to the end of the lease.
    pub history: Vec<TableEvent>,
}

/// Windows with the same pair of sites and the same rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub first: WindowCase,
    pub longest: WindowCase,
}

/// A window that did not happen, but that nothing excludes; one per pair of sites and rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// A task that looked the link up; its holds are those that lasted through the unprotected part of the lease.
    pub holder: Side,
    /// A task that removed the link.
    pub unlinker: Side,
    pub mm: Mm,
    /// GiB of the link that both accessed.
    pub gib: Addr,
    pub table: Table,
    pub generation: u32,
    pub leases: u64,
    pub unlinks: u64,
    /// Locks that every unlink held exclusively: a lookup under the same lock would have been excluded.
    pub would_exclude: Vec<LockClass>,
    /// Locks that every lease held and that exclude other unlinks, but that no unlink here held.
    pub unlinker_lacks: Vec<LockClass>,
}

impl Prediction {
    /// Returns a lock that both parties hold, at the same address and in modes that exclude each other. Lost records
    /// may show that it was another lock at that address, or that it was released in between. `None`
    /// without loss: such a pair would not be a finding.
    #[must_use]
    pub fn doubtful_lock(&self) -> Option<&Hold> {
        let excludes = |a: &Hold, b: &Hold| {
            (a.lock, a.class) == (b.lock, b.class) && (a.mode, b.mode) != (Some(Mode::Read), Some(Mode::Read))
        };
        self.holder.holds.iter().find(|a| self.unlinker.holds.iter().any(|b| excludes(a, b)))
    }
}

/// One step of a cycle, or an edge against a documented order: `to` was requested while `from` was held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub from: LockClass,
    pub from_mode: Option<Mode>,
    pub from_lock: u64,
    pub from_known: Known,
    pub to: LockClass,
    pub to_mode: Option<Mode>,
    pub to_lock: u64,
    pub manner: Manner,
    /// `from` was certainly held when `to` was requested. False if the moment at which a folio was locked is not known.
    pub sure: bool,
    /// The requester, its site and all locks that it held then, `from` included.
    pub side: Side,
    /// Number of times that this step was seen, on any lock instance.
    pub count: u64,
    /// The task was seen waiting and was not seen to acquire the lock.
    pub waiting: bool,
}

/// A task that requests a lock for writing while a party holds it for reading: another party's read request waits
/// behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Index of the step whose request waits behind it.
    pub step: usize,
    pub side: Side,
    /// The task was seen waiting.
    pub waiting: bool,
}

/// A closed chain of steps: each step's `to` is the next one's `from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    pub steps: Vec<Step>,
    /// Only for rank `guarded`: the lock that excludes the cycle. Two parties hold it, or all in a merged report.
    pub gate: Option<(LockClass, u64)>,
    /// Writers that queue between two readers, if the cycle needs them.
    pub queued: Vec<Queued>,
    /// Recording of each step, from 0, in a report on several recordings. Empty: all steps are of one run.
    pub recordings: Vec<usize>,
}

/// An edge against a documented order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgainstOrder {
    pub step: Step,
    /// Document that states the order.
    pub source: String,
}

/// A task requested a lock that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relock {
    pub held: Hold,
    pub asked_mode: Option<Mode>,
    pub side: Side,
}

/// A table's page was freed while others use the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreedShared {
    pub side: Side,
    pub table: Table,
    pub generation: u32,
    pub mm: Mm,
    /// Share count as the kernel kept it.
    pub count: u32,
    /// Links of others that the engine knows: mm and GiB.
    pub links: Vec<(Mm, Addr)>,
}

/// End of the last known hold of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The lock was released at this time.
    Released(u64),
    /// The task exited at this time and was not seen to release the lock.
    Exited(u64),
}

/// The last known holder of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastHolder {
    pub task: TaskRef,
    /// The watched operation that the task was in when the hold ended.
    pub site: Option<Arc<str>>,
    pub known: Known,
    /// `None`: at some time before the event that showed the hold.
    pub acquired_ns: Option<u64>,
    pub ended: Ended,
}

/// A task waits for a lock that no task is known to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanWait {
    pub class: LockClass,
    /// Mode of the request.
    pub mode: Option<Mode>,
    /// Address of the lock; for a folio lock, of the folio. `None`: the folio's lookup did not return, so its address
    /// is not known.
    pub lock: Option<u64>,
    /// Mapping and index of a folio.
    pub place: Option<(Mapping, u64)>,
    /// The task that has waited longest; its time is that of the request.
    pub side: Side,
    /// The kernel reported the wait. If false, the task was silent since its request.
    pub reported: bool,
    /// Number of tasks that wait for it, this one included.
    pub waiters: u64,
    pub last: Option<LastHolder>,
}

/// Evidence of a finding, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    Window(Box<Window>),
    Prediction(Box<Prediction>),
    Cycle(Cycle),
    AgainstOrder(Box<AgainstOrder>),
    Relock(Relock),
    FreedShared(FreedShared),
    OrphanWait(Box<OrphanWait>),
}

/// A reason why a finding may be false, or weaker than it looks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// Records were lost while it happened.
    Loss,
    /// The moment of the unlink is known only as an interval.
    UnlinkInterval,
    /// The task was not in a watched operation, so the end of its use is not known.
    NoOperation,
    /// A hold is known only by a contract or its release: the lock was acquired at some time before.
    InferredHold(LockClass),
    /// Both parties are readers: only a writer that queues between them closes the cycle. `writer_seen`: one was seen
    /// in the run.
    QueuedWriter { class: LockClass, writer_seen: bool },
    /// The cycle has fewer tasks than steps.
    FewTasks,
    /// The parties' tasks did not exist at the same time.
    NotTogether,
    /// Starting with no locks held, the tasks cannot all reach their waits: another lock prevents it.
    Unreachable,
    /// A task is still inside the operation: it may hold a folio lock that only the release will show.
    Inside,
    /// The search for an interleaving in which all reach their waits was cut: too many to try.
    SearchCut,
    /// The moment at which this folio lock was acquired is not known.
    Moment(LockClass),
    /// The parties are of different recordings, whose locks cannot be compared.
    Merged,
    /// A bound was reached: evidence that was not kept could have changed the verdict.
    Bound(&'static str),
    /// The kernel does not report such waits, and the known lock holders do not show that this task waits.
    WaitNotSeen { tid: Tid, class: LockClass },
    /// The search for circles of waits reached its bound: it did not start from this many tasks that wait in the same
    /// knot.
    CirclesCut(usize),
    /// A task may hold the lock that was not seen to acquire it.
    HolderUnseen,
    /// The last holder is not remembered: for locks without a waiter, only this many releases are kept.
    HolderForgotten { releases: usize },
    /// A role that the rule needs is not fully seen on this kernel: role, part and grade.
    Coverage(String),
}

/// One conclusion of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable name, made from the merge key: equal in every run with the same finding.
    pub id: String,
    pub rank: Rank,
    /// Occurrences merged into it.
    pub count: u64,
    pub first_ns: u64,
    pub last_ns: u64,
    pub doubts: Vec<Doubt>,
    pub evidence: Evidence,
}

impl Finding {
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.evidence {
            Evidence::Window(_) => Kind::Window,
            Evidence::Prediction(_) => Kind::Prediction,
            Evidence::Cycle(_) => Kind::Cycle,
            Evidence::AgainstOrder(_) => Kind::AgainstOrder,
            Evidence::Relock(_) => Kind::Relock,
            Evidence::FreedShared(_) => Kind::FreedShared,
            Evidence::OrphanWait(_) => Kind::OrphanWait,
        }
    }
}
