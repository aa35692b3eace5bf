//! Findings: conclusions of the engine, with the evidence of all parties and the doubts that could make them false.
//!
//! This module decides the one scale of ranks, the parts that all evidence is made of, and what each kind of finding answers
//! ([`Subject`]). Each kind is a file in `finding/`: its evidence, its meaning, and how to word it. A kind is listed here
//! in [`Kind`] and in [`Evidence`]; the compiler then names the functions below that need a line. This module does not decide how a
//! finding is made (`windows`, `cycles`), and its types are not `Serialize`: sinks convert them.

mod against_order;
mod cycle;
mod freed_shared;
mod orphan_wait;
mod prediction;
mod relock;
mod window;

use std::{borrow::Cow, sync::Arc};

use crate::{
    event::{Mode, Table, Tid},
    lock_class::LockClass,
    setup::Role,
    table_event::TableEvent,
};

pub use self::{
    against_order::AgainstOrder,
    cycle::{Cycle, Queued},
    freed_shared::FreedShared,
    orphan_wait::{Ended, LastHolder, OrphanWait},
    prediction::Prediction,
    relock::Relock,
    window::{Use, Window, WindowCase},
};

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
        self.evidence.subject().kind()
    }
}

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
    Window,
    Prediction,
    Cycle,
    AgainstOrder,
    Relock,
    FreedShared,
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

    /// Returns the facts that hold for every finding of this kind.
    #[must_use]
    pub fn about(self) -> &'static About {
        match self {
            Kind::Window => &window::ABOUT,
            Kind::Prediction => &prediction::ABOUT,
            Kind::Cycle => &cycle::ABOUT,
            Kind::AgainstOrder => &against_order::ABOUT,
            Kind::Relock => &relock::ABOUT,
            Kind::FreedShared => &freed_shared::ABOUT,
            Kind::OrphanWait => &orphan_wait::ABOUT,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        self.about().name
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.name() == name)
    }
}

/// Facts that hold for every finding of a kind.
#[derive(Debug)]
pub struct About {
    /// Name in reports, expectations and ids.
    pub name: &'static str,
    /// The finding is about page tables and pointers into them. If false, it is about locks alone.
    pub is_of_tables: bool,
    /// Roles that the rule needs: a finding is weaker if this kernel does not show them fully.
    pub needs: &'static [Role],
    /// Fields of its expectations in text traces; every kind has `count` in addition.
    pub fields: &'static [&'static str],
}

/// Answers that all evidence gives, so that lists, pages, pictures and traces need not know the kind of a finding.
pub trait Subject {
    fn kind(&self) -> Kind;

    /// Returns all parties, each with its label.
    fn parties(&self) -> Vec<(Cow<'static, str>, &Party)>;

    /// Returns the value of one of [`About::fields`]; `None` if this finding has none.
    fn field(&self, key: &str) -> Option<String>;

    /// Returns the first and the last time that the evidence is about. `None` without parties.
    fn span_ns(&self) -> Option<(u64, u64)> {
        let times = || self.parties().into_iter().map(|(_, party)| party.time_ns);
        Some((times().min()?, times().max()?))
    }

    /// Returns the parties of a lookup and of an unlink of the same link.
    fn accesses(&self) -> Option<(&Party, &Party)> {
        None
    }

    /// Returns the stale leases that are shown, each with parties of its own: the one that the finding is about, then others.
    fn cases(&self) -> Vec<&WindowCase> {
        Vec::new()
    }

    /// Returns the evidence with the case alone that the finding is about. `None` if it has no other cases.
    fn alone(&self) -> Option<Evidence> {
        None
    }

    /// Returns the tables and their generations; the first is the one that the finding is about.
    fn tables(&self) -> Vec<(Table, u32)> {
        Vec::new()
    }

    /// Returns the steps of a cycle of several locks.
    fn cycle(&self) -> &[Step] {
        &[]
    }

    /// Returns the lock-order edges that the finding is about.
    fn steps(&self) -> &[Step] {
        self.cycle()
    }

    /// Returns pairs of a held and a requested class by which tasks can wait for each other in a circle.
    fn closing(&self) -> Vec<(LockClass, LockClass)> {
        self.cycle().iter().map(|s| (s.from, s.to)).collect()
    }
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

impl Evidence {
    /// Returns the evidence behind the trait that every kind implements.
    #[must_use]
    pub fn subject(&self) -> &dyn Subject {
        match self {
            Evidence::Window(w) => &**w,
            Evidence::Prediction(p) => &**p,
            Evidence::Cycle(c) => c,
            Evidence::AgainstOrder(a) => &**a,
            Evidence::Relock(r) => r,
            Evidence::FreedShared(f) => f,
            Evidence::OrphanWait(o) => &**o,
        }
    }
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

/// Returns the command name as text; control characters and broken UTF-8 become visible replacements.
#[must_use]
pub fn comm_text(comm: &[u8; 16]) -> String {
    let end = comm.iter().position(|b| *b == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..end])
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

/// Hold basis: the evidence that a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HoldBasis {
    /// The task requested the lock and then continued.
    Requested,
    /// The task requested the lock, and no later event of it was seen: it may still wait.
    Requesting,
    /// A trylock succeeded.
    Try,
    /// A lookup returned the folio locked.
    ReturnedLocked,
    /// A function was entered whose contract is a locked folio: acquired at some time before.
    Contract,
    /// The slow path returned.
    SlowPath,
    /// Only the release was seen: acquired at some time before.
    InferredFromRelease,
}

impl HoldBasis {
    /// True for a contract and for a release: the lock was acquired at some unseen time before.
    #[must_use]
    pub fn is_inferred(self) -> bool {
        matches!(self, HoldBasis::Contract | HoldBasis::InferredFromRelease)
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            HoldBasis::Requested => "requested",
            HoldBasis::Requesting => "requesting",
            HoldBasis::Try => "try",
            HoldBasis::ReturnedLocked => "returned-locked",
            HoldBasis::Contract => "contract",
            HoldBasis::SlowPath => "slow-path",
            HoldBasis::InferredFromRelease => "inferred-from-release",
        }
    }
}

/// Kind of request for the second lock of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AcquireKind {
    /// Requested in a way that can block.
    Blocking,
    /// A trylock succeeded at a site that blocks if the trylock fails.
    TryThenBlock,
    /// A trylock that cannot block: not a step of a deadlock.
    Try,
}

impl AcquireKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AcquireKind::Blocking => "blocking",
            AcquireKind::TryThenBlock => "try-then-block",
            AcquireKind::Try => "try",
        }
    }

    /// Returns true if the request can block.
    #[must_use]
    pub fn can_block(self) -> bool {
        self != AcquireKind::Try
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
    pub basis: HoldBasis,
    pub since_ns: u64,
    /// Lost records may include the release.
    pub lossy: bool,
}

/// One party of a finding: task, site, time and the locks that it held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    pub task: TaskRef,
    /// Kernel function to which the event is attributed: the innermost watched operation, else the probed function
    /// itself.
    pub site: Arc<str>,
    pub time_ns: u64,
    /// Number of that operation's stack, if recorded.
    pub stack: Option<u32>,
    pub holds: Vec<Hold>,
}

/// One step of a cycle, or an edge against a documented order: `to` was requested while `from` was held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub from: LockClass,
    pub from_mode: Option<Mode>,
    pub from_lock: u64,
    pub from_basis: HoldBasis,
    pub to: LockClass,
    pub to_mode: Option<Mode>,
    pub to_lock: u64,
    pub acquire: AcquireKind,
    /// `from` was certainly held when `to` was requested. False if the moment at which a folio was locked is not known.
    pub sure: bool,
    /// The requester, its site and all locks that it held then, `from` included.
    pub party: Party,
    /// Number of times that this step was seen, on any lock instance.
    pub count: u64,
    /// The task was seen waiting and was not seen to acquire the lock.
    pub waiting: bool,
}

/// Returns a mode as text traces name it.
fn mode_name(mode: Option<Mode>) -> String {
    mode.map_or("unknown", Mode::name).to_owned()
}

/// Returns a task as text traces name it.
fn task_name(party: &Party) -> String {
    format!("t{}", party.task.tid.0)
}
