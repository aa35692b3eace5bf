//! Findings: what the engine concluded, with the evidence of both sides and what could make it false.
//!
//! Decides the one scale of ranks and the shape of evidence. Does not decide how a finding is found (`windows`,
//! `cycles`), and is not `Serialize`: sinks convert.

use std::sync::Arc;

use crate::{
    event::{Addr, Mapping, Mm, Mode, Pte, Table, Tid},
    lock_class::LockClass,
    view::TableEvent,
};

/// The one scale of all findings, worst first: `Ord` has the worst as the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// A deadlock whose sides were all seen waiting for each other.
    Confirmed,
    /// The page of the table was given back inside the window.
    Freed,
    /// The holder used the pointer after the link was gone.
    Used,
    /// A cycle or a repeated ask that survives the sound filters.
    Feasible,
    /// The lease outlived the link for certain; no use was seen after it.
    Held,
    /// Nothing excludes the pair; it did not happen in this run.
    Predicted,
    /// Locks asked for against a documented order.
    AgainstOrder,
    /// No certain part: the lease may have ended before the link went away.
    Possible,
    /// A cycle whose sides hold a common lock that keeps them apart.
    Guarded,
    /// A cycle of lock classes that no instances close.
    ClassOnly,
    /// Lost records touch the evidence.
    Incomplete,
    /// The holder looked the pointer up again under the table's PTL: correct, listed, never alarmed.
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

    /// Worth waking somebody: `predicted` or worse.
    #[must_use]
    pub fn is_alarm(self) -> bool {
        self <= Rank::Predicted
    }
}

/// What sort of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A lease outlived the removal of its link by another task.
    Window,
    /// Nothing keeps a lease and a removal of its link apart.
    Prediction,
    /// Lock-order edges that close.
    Cycle,
    /// An edge against a documented order.
    AgainstOrder,
    /// A task asked, in a way that can block, for a lock that it holds.
    Relock,
    /// A table's page was given back while others still use the table.
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

/// A task as it was at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRef {
    pub tid: Tid,
    /// Process id, 0 if never told.
    pub tgid: u32,
    /// Command name; empty if never told.
    pub comm: String,
    pub cpu: u16,
}

/// How a hold is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Known {
    /// Asked for, and the task went on.
    Asked,
    /// Asked for, and nothing more was heard from the task: perhaps still waiting.
    Asking,
    /// A trylock succeeded.
    Tried,
    /// A lookup returned the folio locked.
    Returned,
    /// Entry of a function whose contract is a locked folio: taken some time before.
    Contract,
    /// Return of the slow path.
    SlowPath,
    /// Only its release was seen: taken some time before.
    Released,
}

impl Known {
    /// By a contract or by the release: taken some time before, which nothing showed.
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

/// How the second lock of a step was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Manner {
    /// In a way that can block.
    Asked,
    /// A trylock succeeded, at a place that would have blocked had it failed.
    TryThenBlock,
    /// By a trylock that cannot wait: no step of a deadlock.
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

    /// Whether it can wait.
    #[must_use]
    pub fn can_block(self) -> bool {
        self != Manner::Tried
    }
}

/// A lock that a task holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    pub class: LockClass,
    /// Address of the lock; of a folio lock the folio.
    pub lock: u64,
    /// `None` where the kernel does not tell it.
    pub mode: Option<Mode>,
    pub known: Known,
    pub since_ns: u64,
    /// Records that could have told its release were lost.
    pub lossy: bool,
}

/// One side of a finding: who, where, when, holding what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    pub task: TaskRef,
    /// Kernel function on whose behalf it happened: the innermost watched operation, else the probed function itself.
    pub site: Arc<str>,
    pub time_ns: u64,
    /// Number of the stack of that operation, where it was recorded.
    pub stack: Option<u32>,
    pub holds: Vec<Hold>,
}

/// How the holder of a lease used the pointer after the link was gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// Nothing seen.
    No,
    /// It was inside a callback that had been handed the pointer.
    Contract,
    /// It took the table's PTL after the link was gone, at this time.
    Seen(u64),
}

/// One window as it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowCase {
    /// The task with the pointer; its time is that of the lookup.
    pub holder: Side,
    /// The task that took the link away; its time is `unlink_hi_ns`.
    pub unlinker: Side,
    /// The mm looked up in, not always the holder's own.
    pub mm: Mm,
    pub addr: Addr,
    pub pte: Pte,
    pub table: Table,
    pub generation: u32,
    /// When the table came to be, or was first seen.
    pub table_birth_ns: u64,
    /// The link went away between these two times; equal when the moment is known.
    pub unlink_lo_ns: u64,
    pub unlink_hi_ns: u64,
    /// Nanoseconds for which the pointer was in use for certain after the link was gone; 0: no certain part.
    pub certain_ns: u64,
    /// Nanoseconds for which it may have been in use.
    pub possible_ns: u64,
    pub used: Use,
    /// The holder when it took the table's PTL after the link was gone, for [`Use::Seen`].
    pub at_use: Option<Box<Side>>,
    /// When the table's page was given back, if inside the window.
    pub freed_ns: Option<u64>,
    /// What happened to the table around it, oldest first, up to the end of the lease.
    pub history: Vec<TableEvent>,
}

/// Windows of one pair of sites and one rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub first: WindowCase,
    pub longest: WindowCase,
}

/// A window that did not happen, and that nothing keeps from happening: one pair of sites and one rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// One that looked up; its holds are those that lasted through the unprotected part of the lease.
    pub holder: Side,
    /// One that removed the link.
    pub unlinker: Side,
    pub mm: Mm,
    /// GiB of the link that both came to.
    pub gib: Addr,
    pub table: Table,
    pub generation: u32,
    pub leases: u64,
    pub unlinks: u64,
    /// Locks that every removal held so that a holder of them would have kept it away.
    pub would_exclude: Vec<LockClass>,
    /// Locks that every holder had and that keep other removals away, but that no removal here took.
    pub unlinker_lacks: Vec<LockClass>,
}

impl Prediction {
    /// A lock at one address that each side has, and that excludes the other: whether it was the same lock at both moments, and
    /// still held, may be among what was lost. Without loss there is none: the pair would be no finding.
    #[must_use]
    pub fn doubtful_lock(&self) -> Option<&Hold> {
        let excludes = |a: &Hold, b: &Hold| {
            (a.lock, a.class) == (b.lock, b.class) && (a.mode, b.mode) != (Some(Mode::Read), Some(Mode::Read))
        };
        self.holder.holds.iter().find(|a| self.unlinker.holds.iter().any(|b| excludes(a, b)))
    }
}

/// One step of a cycle, or an edge against the documented order: `to` was asked for while `from` was held.
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
    /// The one was held for certain when the other was asked for. Else when a folio was locked is not known to the moment.
    pub sure: bool,
    /// Who asked, where, and all that it held then (`from` among it).
    pub side: Side,
    /// How often this step was seen, on any instance.
    pub count: u64,
    /// The task was seen waiting and not seen to get it.
    pub waiting: bool,
}

/// A task that asks for writing while a side holds the lock for reading: another side's read ask waits behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// The step whose ask waits behind it.
    pub step: usize,
    pub side: Side,
    /// It was seen waiting.
    pub waiting: bool,
}

/// A closed chain of steps: each step's `to` is the next one's `from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    pub steps: Vec<Step>,
    /// Lock that all sides hold and that keeps them apart, for rank `guarded`.
    pub gate: Option<(LockClass, u64)>,
    /// Who queues for writing between two readers, where the cycle needs it.
    pub queued: Vec<Queued>,
    /// In a report of several recordings, the one that each step is of, from 0; empty: all are of one run.
    pub recordings: Vec<usize>,
}

/// An edge against a documented order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgainstOrder {
    pub step: Step,
    /// Where the order is documented.
    pub source: String,
}

/// A task asked for what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relock {
    pub held: Hold,
    pub asked_mode: Option<Mode>,
    pub side: Side,
}

/// A table's page was given back while others use the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreedShared {
    pub side: Side,
    pub table: Table,
    pub generation: u32,
    pub mm: Mm,
    /// Share count as the kernel had it.
    pub count: u32,
    /// Links of others that the engine knows, mm and GiB.
    pub links: Vec<(Mm, Addr)>,
}

/// How the last known hold of a lock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was released then.
    Released(u64),
    /// Its task exited then, and was not seen to release it.
    Exited(u64),
}

/// The task that held a lock last, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastHolder {
    pub task: TaskRef,
    /// The watched operation that it was inside when the hold ended.
    pub site: Option<Arc<str>>,
    pub known: Known,
    /// `None`: some time before what showed the hold.
    pub acquired_ns: Option<u64>,
    pub ended: Ended,
}

/// A task waits for a lock that no task is known to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanWait {
    pub class: LockClass,
    /// Mode of the request.
    pub mode: Option<Mode>,
    /// Address of the lock; of a folio lock the folio. `None`: the folio's lookup did not return, and which it is is not known.
    pub lock: Option<u64>,
    /// Mapping and index, of a folio.
    pub place: Option<(Mapping, u64)>,
    /// The task that waits longest; its time is that of the request.
    pub side: Side,
    /// The kernel reported the wait. Otherwise the task was silent since its request.
    pub reported: bool,
    /// Tasks that wait for it, this one included.
    pub waiters: u64,
    pub last: Option<LastHolder>,
}

/// Evidence by kind.
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

/// What could make a finding false, or less than it looks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doubt {
    /// Records of these CPUs were lost while it happened.
    Loss,
    /// The moment of the unlink is only known as an interval.
    UnlinkInterval,
    /// The task was in no watched operation, so that the end of its use is not known.
    NoOperation,
    /// A hold is known by a contract only: taken some time before.
    InferredHold(LockClass),
    /// Readers on both sides: only a writer that queues between them closes it; whether one was ever seen.
    QueuedWriter { class: LockClass, writer_seen: bool },
    /// Fewer tasks than steps.
    FewTasks,
    /// The tasks of the sides were not there at one time.
    NotTogether,
    /// From where they hold nothing, the tasks cannot all come to where they wait: another lock stands in the way.
    Unreachable,
    /// A task is still inside the operation: a folio may be locked in it, which its release will tell.
    Inside,
    /// Whether they can all come there was too much to try.
    SearchCut,
    /// When this folio lock was taken is not known to the moment.
    Moment(LockClass),
    /// The sides are of different recordings, whose locks cannot be compared.
    Merged,
    /// More of this was seen than is kept: what is not kept could have changed the verdict.
    Bound(&'static str),
    /// The kernel does not report such waits, and whether this task waits does not follow from who holds the lock.
    WaitNotSeen { tid: Tid, class: LockClass },
    /// The search for circles reached its bound: from this many tasks that wait in the same knot none was looked for.
    CirclesCut(usize),
    /// A task may hold the lock that was not seen to acquire it.
    HolderUnseen,
    /// Who held the lock last is not remembered: of locks that nobody waits for, only this many releases are.
    HolderForgotten { releases: usize },
    /// A role that the rule needs is not fully seen on this kernel: role, part, grade.
    Coverage(String),
}

/// One conclusion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable name, made of what is merged: the same in every run that finds the same.
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
