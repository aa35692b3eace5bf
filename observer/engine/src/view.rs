//! Views: what the engine knows right now, as owned data for sinks.
//!
//! Decides what is shown of tables, edges and counts; keeps nothing and computes no rate: that is the caller's
//! business, from the differences of two views.

use std::sync::Arc;

use crate::{
    event::{Addr, Mapping, Mm, Mode, Pte, Table, Tid},
    finding::{Hold, Manner, Step, TaskRef},
    lock_class::LockClass,
};

/// One link: an upper-level entry that points to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkView {
    pub mm: Mm,
    pub gib: Addr,
    pub since_ns: u64,
}

/// A table in one of its lifetimes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableView {
    pub table: Table,
    /// Which life of this address, from 1.
    pub generation: u32,
    pub birth_ns: u64,
    /// Its allocation was seen; else `birth_ns` is the first sight of it.
    pub birth_seen: bool,
    pub last_ns: u64,
    /// Ordered by mm, then GiB.
    pub links: Vec<LinkView>,
    pub lookups: u64,
    pub shares: u64,
    pub unshares: u64,
    /// Most mms that linked it at a time.
    pub sharers_max: usize,
    /// The file's mapping; 0: not known.
    pub mapping: Mapping,
    pub alive: bool,
    /// What happened to it last, oldest first.
    pub history: Vec<TableEvent>,
}

/// Something that happened to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEvent {
    pub time_ns: u64,
    /// Which life of this address.
    pub generation: u32,
    pub what: TableStep,
    /// The link's mm and GiB.
    pub mm: Mm,
    pub gib: Addr,
    /// By whom; 0: not told.
    pub tid: Tid,
}

/// A step in the life of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableStep {
    /// Made, with its first link.
    Born,
    /// Linked by sharing.
    Shared,
    /// A lookup went through a link that was not known.
    Seen,
    /// A link went away.
    Unshared,
    /// Its page was given back.
    Freed,
}

impl TableStep {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TableStep::Born => "born",
            TableStep::Shared => "shared",
            TableStep::Seen => "seen",
            TableStep::Unshared => "unshared",
            TableStep::Freed => "freed",
        }
    }
}

/// What is known of the page tables of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingView {
    /// Its `address_space`; 0: all of which it is not known.
    pub mapping: Mapping,
    /// Tables alive.
    pub tables: usize,
    /// mms that link the table with most of them.
    pub sharers: usize,
    pub shares: u64,
    pub unshares: u64,
    /// First and last time that a table of it was shared or unshared.
    pub first_ns: u64,
    pub last_ns: u64,
    /// Most in any second of event time.
    pub peak_shares_per_s: u64,
    pub peak_unshares_per_s: u64,
    /// Most unshares first.
    pub by: Vec<UnsharerView>,
}

/// Tasks of one name that unshared at one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsharerView {
    pub comm: String,
    pub site: Arc<str>,
    pub unshares: u64,
    /// Operations that unshared at least one link, whose end was seen.
    pub operations: u64,
    /// From their begin to their end.
    pub total_ns: u64,
    pub max_ns: u64,
}

impl TableView {
    /// Distinct mms that link it.
    #[must_use]
    pub fn sharers(&self) -> usize {
        let mut mms: Vec<Mm> = self.links.iter().map(|l| l.mm).collect();
        mms.dedup();
        mms.len()
    }
}

/// What a documented order says of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Taken in the documented order.
    Agrees,
    /// Against it, and the facts know and explain it.
    Exception,
    Against,
}

impl Verdict {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Agrees => "agrees",
            Verdict::Exception => "exception",
            Verdict::Against => "against",
        }
    }
}

/// An edge beside a documented order that names both of its classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documented {
    pub verdict: Verdict,
    /// Where the order, or the exception, is documented.
    pub source: String,
    /// Why it is an exception; else empty.
    pub reason: String,
}

/// A pte pointer that a task has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    pub task: TaskRef,
    /// Kernel function on whose behalf it was looked up.
    pub site: Arc<str>,
    /// The mm looked up in, not always the task's own.
    pub mm: Mm,
    pub addr: Addr,
    pub pte: Pte,
    pub table: Table,
    pub generation: u32,
    pub since_ns: u64,
    /// Not in use now: the locks that it was looked up under were released.
    pub dormant: bool,
    /// Its link is gone.
    pub stale: bool,
    /// What the task holds now.
    pub holds: Vec<Hold>,
}

/// Lock `to` asked for while `from` is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeView {
    pub from: LockClass,
    pub from_mode: Option<Mode>,
    pub to: LockClass,
    pub to_mode: Option<Mode>,
    pub manner: Manner,
    /// Seen for certain at least once; see [`Step::sure`].
    pub sure: bool,
    pub count: u64,
    /// Distinct tasks, counted up to [`EdgeView::TASKS_MAX`].
    pub tasks: u32,
    /// Distinct pairs of lock instances that were kept.
    pub instances: usize,
    /// Every occurrence is touched by lost records.
    pub lossy: bool,
    /// First and last time.
    pub first_ns: u64,
    pub last_ns: u64,
    /// Classes of other locks that were held every time.
    pub gates: Vec<LockClass>,
    /// Beside each documented order that names both classes; empty: nothing is documented.
    pub documented: Vec<Documented>,
    /// The first, or the first that is sure.
    pub witness: Step,
}

impl EdgeView {
    /// `tasks` stops counting here.
    pub const TASKS_MAX: u32 = 8;
}

/// Calls of lock functions on locks of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassCount {
    /// Name on the wire.
    pub class: &'static str,
    /// Asks and trylocks, those that failed included.
    pub takes: u64,
    pub releases: u64,
}

/// Counts since the start. Rates are the caller's business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub events: u64,
    /// Name of each kind in the order of the wire's table, with its count.
    pub by_kind: Vec<(&'static str, u64)>,
    /// By lock class, in the order of the wire; the folio lock has no calls of its own.
    pub by_class: Vec<ClassCount>,
    pub first_ns: u64,
    pub last_ns: u64,
    /// Records known to be lost, and holes they make.
    pub lost: u64,
    pub holes: u64,
    /// Lost records by reason.
    pub lost_by_reason: Vec<(&'static str, u64)>,
    pub live_leases: usize,
    pub leases: u64,
    pub live_tasks: usize,
    pub live_tables: usize,
    /// Lookups, those counted but not sent included.
    pub lookups: u64,
    pub shares: u64,
    /// Removals seen at their moment.
    pub removals_exact: u64,
    /// Removals seen by comparing upper-level entries.
    pub removals_diff: u64,
    /// Removals seen both ways: equal to the two above where both are attached.
    pub removals_both: u64,
    /// Windows of any rank.
    pub windows: u64,
    /// Ends of operations without their begin, and begins without their end.
    pub unmatched_ends: u64,
    pub unmatched_begins: u64,
    /// Releases of locks that were not known to be held.
    pub unknown_releases: u64,
    /// Lock pairs through which there were more ways than are tried: longer cycles through them may be missing.
    pub untried_pairs: u64,
    /// Lock pairs that made room although their tasks may be there yet: cycles through them may be missing.
    pub dropped_pairs: u64,
    /// Read requests for a lock that the task holds for reading, that made room before a writer was seen.
    pub dropped_requests: u64,
    /// Walks without a lookup function that made room: predicted windows of them may be missing.
    pub dropped_walks: u64,
    /// A table appeared where one was alive: its free was not seen.
    pub missed_frees: u64,
    /// A folio was proved locked while another task was thought to hold it.
    pub missed_folio_releases: u64,
    /// Leases that ended before a bounded unlink was told and were no longer remembered.
    pub forgotten_leases: u64,
}

impl Stats {
    /// Bounds that were reached, and that a verdict of none can rest on: how often, and what may be missing.
    #[must_use]
    pub fn bounds(&self) -> Vec<(u64, &'static str)> {
        let all = [
            (
                self.untried_pairs,
                "lock pairs had more ways through them than are tried: longer cycles may be missing",
            ),
            (self.dropped_pairs, "lock pairs made room for others: cycles through them may be missing"),
            (self.dropped_requests, "repeated read requests made room for others: relocks may be missing"),
            (self.dropped_walks, "walks made room for others: predicted windows may be missing"),
            (self.forgotten_leases, "removals came later than leases are remembered: windows may be missing"),
        ];
        all.into_iter().filter(|(times, _)| *times > 0).collect()
    }
}

/// Under which locks leases were, and what removals held: the proof of absence, as far as it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProtectionView {
    /// By name of the site.
    pub lookups: Vec<LookupProtection>,
    pub unlinks: Vec<UnlinkProtection>,
    /// Lookup and unlink sites that met on a link, whenever each came there.
    pub pairs: Vec<PairProtection>,
}

/// Leases of one lookup site that are over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupProtection {
    pub site: Arc<str>,
    pub leases: u64,
    /// Those on links that were removed at some time of the run.
    pub on_unlinked: u64,
    /// By the excluding locks that covered them for their whole life. More than one set: handed from one to the next.
    pub covered: Vec<(Vec<Vec<LockClass>>, u64)>,
    /// Under no excluding lock for some part of their life.
    pub bare: u64,
    /// Of which nothing can be said: records were lost, or it was in no watched operation.
    pub unjudged: u64,
}

/// Removals of one unlink site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnlinkProtection {
    pub site: Arc<str>,
    pub unlinks: u64,
    /// By the locks of mm, VMA, file and table that were held in a way that keeps others out.
    pub held: Vec<(Vec<LockClass>, u64)>,
    pub unjudged: u64,
}

/// What kept a lookup site and an unlink site apart on the links that both came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairProtection {
    pub lookup: Arc<str>,
    pub unlink: Arc<str>,
    /// Each time; empty if it was not the same each time.
    pub always: Vec<ApartView>,
    /// Sometimes.
    pub ever: Vec<ApartView>,
    /// Nothing did, at least once: a predicted window.
    pub open: bool,
    /// What was lost, or what a bound left out, may be a time at which nothing did: then `always` is empty.
    pub unsure: bool,
}

/// What keeps a lease and a removal apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApartView {
    /// Both hold a lock of this class, one of them alone.
    Lock(LockClass),
    /// The removal holds mmap_lock for writing, the lookup is entered with it or with the VMA's own lock.
    VmaLocked,
    /// The mm has no user left.
    LastUser,
}

impl ApartView {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ApartView::Lock(class) => class.name(),
            ApartView::VmaLocked => "vma-locked",
            ApartView::LastUser => "last-user",
        }
    }
}
