//! Views: a snapshot of the engine's knowledge, as owned data for sinks.
//!
//! This module decides which facts of tables, edges and counts a view contains. It stores nothing and computes no
//! rates: the caller derives them from two views.

use std::sync::Arc;

pub use crate::table_event::{TableEvent, TableStep};
use crate::{
    event::{Addr, Mapping, Mm, Mode, Pte, Table},
    finding::{AcquireKind, Hold, Step, TaskRef},
    lock_class::LockClass,
};

/// One link: an upper-level entry that points to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkView {
    pub mm: Mm,
    pub gib: Addr,
    pub since_ns: u64,
}

/// One generation of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableView {
    pub table: Table,
    /// Generation at this address, from 1.
    pub generation: u32,
    pub birth_ns: u64,
    /// The allocation was seen. If false, `birth_ns` is the time at which the table was first seen.
    pub birth_seen: bool,
    pub last_ns: u64,
    /// Sorted by mm, then by GiB.
    pub links: Vec<LinkView>,
    pub lookups: u64,
    pub shares: u64,
    pub unshares: u64,
    /// Maximum number of mms that linked it at the same time.
    pub sharers_max: usize,
    /// Mapping of the file; 0 if not known.
    pub mapping: Mapping,
    pub alive: bool,
    /// The table's last events, oldest first.
    pub history: Vec<TableEvent>,
}

/// Page tables of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingView {
    /// The file's `address_space`; 0: all tables whose mapping is not known.
    pub mapping: Mapping,
    /// Number of live tables.
    pub tables: usize,
    /// Number of mms that link the most-shared table.
    pub sharers: usize,
    pub shares: u64,
    pub unshares: u64,
    /// First and last time at which a table of the file was shared or unshared.
    pub first_ns: u64,
    pub last_ns: u64,
    /// Maximum within one second of event time.
    pub peak_shares_per_s: u64,
    pub peak_unshares_per_s: u64,
    /// Sorted by number of unshares, most first.
    pub by: Vec<UnsharerView>,
}

/// Tasks with the same name that unshared at one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsharerView {
    pub comm: String,
    pub site: Arc<str>,
    pub unshares: u64,
    /// Operations that unshared at least one link and whose end was seen.
    pub operations: u64,
    /// Sum of their durations.
    pub total_ns: u64,
    pub max_ns: u64,
}

impl TableView {
    /// Returns the number of distinct mms that link it.
    #[must_use]
    pub fn sharers(&self) -> usize {
        let mut mms: Vec<Mm> = self.links.iter().map(|l| l.mm).collect();
        mms.dedup();
        mms.len()
    }
}

/// Result of comparing an edge with a documented order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The locks were acquired in the documented order.
    Agrees,
    /// The edge contradicts the order, and the facts explain why that is safe.
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

/// An edge compared with a documented order that names both of its classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documented {
    pub verdict: Verdict,
    /// Document that states the order, or the exception.
    pub source: String,
    /// Reason of an exception; empty for other verdicts.
    pub reason: String,
}

/// A pte pointer that a task holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    pub task: TaskRef,
    /// Kernel function to which the lookup is attributed.
    pub site: Arc<str>,
    /// The mm of the lookup, not always the task's own.
    pub mm: Mm,
    pub addr: Addr,
    pub pte: Pte,
    pub table: Table,
    pub generation: u32,
    pub since_ns: u64,
    /// Not in use now: the locks that were held at the lookup were released.
    pub dormant: bool,
    /// The link was removed.
    pub stale: bool,
    /// Locks that the task holds now.
    pub holds: Vec<Hold>,
}

/// Lock `to` was requested while `from` was held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeView {
    pub from: LockClass,
    pub from_mode: Option<Mode>,
    pub to: LockClass,
    pub to_mode: Option<Mode>,
    pub acquire: AcquireKind,
    /// Certain at least once; see [`Step::sure`].
    pub sure: bool,
    pub count: u64,
    /// Distinct tasks, counted up to [`EdgeView::TASKS_MAX`].
    pub tasks: u32,
    /// Pairs of lock instances so far; a pair that was dropped and seen again counts again.
    pub instances: usize,
    /// Lost records touch every occurrence.
    pub lossy: bool,
    /// First and last time.
    pub first_ns: u64,
    pub last_ns: u64,
    /// Classes of other locks that were held at every occurrence.
    pub gates: Vec<LockClass>,
    /// Comparison with each documented order that names both classes; empty: no order names both.
    pub documented: Vec<Documented>,
    /// The first occurrence, or the first certain one.
    pub witness: Step,
}

impl EdgeView {
    /// Bound at which `tasks` stops counting.
    pub const TASKS_MAX: u32 = 8;
}

/// Calls of lock functions on locks of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClassCount {
    /// Class name as on the wire.
    pub class: &'static str,
    /// Requests and trylocks, including failed ones.
    pub takes: u64,
    pub releases: u64,
}

/// Counts since the start. The caller computes rates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub events: u64,
    /// Name and count of each kind, in the order of the wire's table.
    pub by_kind: Vec<(&'static str, u64)>,
    /// Counts by lock class, in wire order; the folio lock is absent because it has no calls of its own.
    pub by_class: Vec<ClassCount>,
    pub first_ns: u64,
    pub last_ns: u64,
    /// Records known to be lost, and the holes that they make.
    pub lost: u64,
    pub holes: u64,
    /// Lost records by reason.
    pub lost_by_reason: Vec<(&'static str, u64)>,
    pub live_leases: usize,
    pub leases: u64,
    pub live_tasks: usize,
    pub live_tables: usize,
    /// Lookups, including those that were counted but not sent.
    pub lookups: u64,
    /// Lookups and walks of pages whose tables are never shared, by page size; the other counts leave them out.
    pub other_sizes: Vec<OtherSize>,
    pub shares: u64,
    /// Unlinks seen at their moment.
    pub unlinks_exact: u64,
    /// Unlinks seen by comparing upper-level entries.
    pub unlinks_diff: u64,
    /// Unlinks seen in both ways: equal to the two counts above if both are attached.
    pub unlinks_both: u64,
    /// Windows of any rank.
    pub windows: u64,
    /// Ends of operations without their begin, and begins without their end.
    pub unmatched_ends: u64,
    pub unmatched_begins: u64,
    /// Releases of locks that were not known to be held.
    pub unknown_releases: u64,
    /// Lock pairs with more paths through them than the search tries: longer cycles through them may be missing.
    pub untried_pairs: u64,
    /// Lock pairs that made room although their tasks may still exist: cycles through them may be missing.
    pub dropped_pairs: u64,
    /// Read requests for a lock that the task already holds for reading, dropped before a writer was seen.
    pub dropped_requests: u64,
    /// Holds that were dropped, of tasks that held too many locks at once.
    pub dropped_holds: u64,
    /// Walks without a lookup function that made room: predicted windows of them may be missing.
    pub dropped_walks: u64,
    /// A table appeared at the address of a live one: the old table's free was not seen.
    pub missed_frees: u64,
    /// A folio was proved locked while another task was recorded as its holder.
    pub missed_folio_releases: u64,
    /// Bounded unlinks whose interval begins before the oldest remembered lease end: they may have hit forgotten
    /// leases.
    pub forgotten_leases: u64,
}

/// Lookups and walks of pages of one size whose tables are never shared: they make neither a lease nor a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherSize {
    /// Size of the page; 0 for sizes beyond the number that is counted apart.
    pub page_bytes: u64,
    pub lookups: u64,
    /// Walks without a lookup function.
    pub walks: u64,
}

impl Stats {
    /// Returns the bounds that were reached and that can hide findings: how often, and what may be missing.
    #[must_use]
    pub fn bounds(&self) -> Vec<(u64, &'static str)> {
        let all = [
            (
                self.untried_pairs,
                "lock pairs had more ways through them than are tried: longer cycles may be missing",
            ),
            (self.dropped_pairs, "lock pairs made room for others: cycles through them may be missing"),
            (self.dropped_requests, "repeated read requests made room for others: relocks may be missing"),
            (
                self.dropped_holds,
                "locks were dropped, of tasks that held more than 128 at once: verdicts near them are incomplete",
            ),
            (self.dropped_walks, "walks made room for others: predicted windows may be missing"),
            (self.forgotten_leases, "removals came later than leases are remembered: windows may be missing"),
        ];
        all.into_iter().filter(|(times, _)| *times > 0).collect()
    }
}

/// Locks that protected leases, and locks that unlinks held: the evidence for absence, as far as it reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProtectionView {
    /// Sorted by name of the site.
    pub lookups: Vec<LookupProtection>,
    pub unlinks: Vec<UnlinkProtection>,
    /// Lookup and unlink sites that accessed the same link, at any times.
    pub pairs: Vec<PairProtection>,
}

/// Ended leases of one lookup site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupProtection {
    pub site: Arc<str>,
    pub leases: u64,
    /// Leases on links that were removed at some time of the run.
    pub on_unlinked: u64,
    /// Counted by the excluding locks that protected their whole life. More than one set: the lease passed from one to
    /// the next.
    pub covered: Vec<(Vec<Vec<LockClass>>, u64)>,
    /// Leases without an excluding lock during some part of their life.
    pub bare: u64,
    /// Leases that cannot be judged: records were lost, or the lookup was not in a watched operation.
    pub unjudged: u64,
}

/// Unlinks of one unlink site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnlinkProtection {
    pub site: Arc<str>,
    pub unlinks: u64,
    /// Counted by the exclusively held locks of mm, VMA, file and table.
    pub held: Vec<(Vec<LockClass>, u64)>,
    pub unjudged: u64,
}

/// Excluders between a lookup site and an unlink site, on the links that both accessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairProtection {
    pub lookup: Arc<str>,
    pub unlink: Arc<str>,
    /// Excluders that were present every time; empty if none was.
    pub always: Vec<Excluder>,
    /// Excluders that were present at least once.
    pub ever: Vec<Excluder>,
    /// At least once nothing excluded them: a predicted window.
    pub open: bool,
    /// Lost records or a bound may hide a time without an excluder; `always` is empty then.
    pub unsure: bool,
}

/// An excluder: a lock or contract that keeps a lease and an unlink apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excluder {
    /// Both hold a lock of this class, and at least one holds it exclusively.
    Lock(LockClass),
    /// The unlink holds mmap_lock for writing, and the lookup's callers hold it or the VMA's own lock.
    VmaLocked,
    /// The mm has no user left.
    LastUser,
}

impl Excluder {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Excluder::Lock(class) => class.name(),
            Excluder::VmaLocked => "vma-locked",
            Excluder::LastUser => "last-user",
        }
    }
}
