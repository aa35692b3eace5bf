//! Losses: the places where records are missing, and what the missing records can have been.
//!
//! This module decides what a hole can hide: the time span, the CPU and the kinds of records. A program that the kernel
//! skipped hides the records that this program sends, known from what it sent before. A full ring can hide any record.
//! The rules decide the effect on a finding.

mod task;

use std::collections::BTreeMap;

pub(crate) use self::task::{TaskLoss, UNSURE_NS};
use crate::event::{Body, Class, Event, LockStep, SiteId};

/// Records that did not arrive: known to be lost in this interval on this CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// [`Hole::ANY_CPU`] if the CPU is not known.
    pub cpu: u16,
    pub lo_ns: u64,
    pub hi_ns: u64,
    pub lost: u64,
    /// Name of the reason.
    pub reason: &'static str,
    /// The only site whose records can be lost, if known: that of a program that the kernel skipped.
    pub site: Option<SiteId>,
}

impl Hole {
    pub const ANY_CPU: u16 = u16::MAX;
}

/// Maximum number of distinct holes per CPU; beyond it, the two oldest are replaced by one that covers both.
const KEPT: usize = 1024;
/// Losses are sparse while at most one of this many records is lost. Then two given records are lost together only once
/// in a million times, and a verdict that is wrong only if both are lost counts as certain.
const SPARSE: u64 = 1000;

/// Set of kinds that a missing record can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    kinds: u8,
    /// Classes of the locks acquired or released, one bit per number on the wire.
    classes: u8,
}

/// Returns the classes whose locks are served by the same functions, one bit each. One function serves all locks of one
/// type (include/linux/rwsem.h, mutex.h, spinlock.h). The missing record may be of a class that the function was not
/// seen to serve yet.
fn of_one_type(class: Class) -> u8 {
    const RWSEMS: [Class; 4] = [Class::MmapLock, Class::VmaLock, Class::IMmap, Class::Inode];
    let bit = |class: Class| 1 << class as u8;
    if RWSEMS.contains(&class) { RWSEMS.into_iter().fold(0, |all, c| all | bit(c)) } else { bit(class) }
}

impl Missing {
    const ACQUIRES: u8 = 1;
    const RELEASES: u8 = 2;
    /// Ends and begins of tasks, tables and locks.
    const ENDS: u8 = 4;
    /// Operations, lookups and unlinks.
    const DEEDS: u8 = 8;
    pub const NOTHING: Missing = Missing { kinds: 0, classes: 0 };
    pub const ANYTHING: Missing = Missing { kinds: 0xf, classes: 0xff };

    fn of(body: &Body) -> Missing {
        let (kinds, classes) = match body {
            Body::Lock { step, class, .. } => match step {
                LockStep::Release | LockStep::Downgrade => (Missing::RELEASES, of_one_type(*class)),
                _ => (Missing::ACQUIRES, of_one_type(*class)),
            },
            Body::FolioRelease { .. } => (Missing::RELEASES, of_one_type(Class::Folio)),
            Body::FolioRequest { .. } | Body::FolioHeld { .. } | Body::FolioWait { .. } => {
                (Missing::ACQUIRES, of_one_type(Class::Folio))
            }
            Body::Task { .. }
            | Body::TaskExit { .. }
            | Body::Fork { .. }
            | Body::LockName { .. }
            | Body::LockForget { .. }
            | Body::TableAlloc { .. }
            | Body::TableFree { .. } => (Missing::ENDS, 0),
            // A stack is not an event by itself.
            Body::Stack { .. } => (0, 0),
            _ => (Missing::DEEDS, 0),
        };
        Missing { kinds, classes }
    }

    fn or(self, other: Missing) -> Missing {
        Missing { kinds: self.kinds | other.kinds, classes: self.classes | other.classes }
    }

    pub fn is_nothing(self) -> bool {
        self.kinds == 0
    }

    /// Returns true if it may be the end of a task, table or lock, or the begin of another.
    pub fn ends(self) -> bool {
        self.kinds & Missing::ENDS != 0
    }

    pub fn acquires(self) -> bool {
        self.kinds & Missing::ACQUIRES != 0
    }

    pub fn deeds(self) -> bool {
        self.kinds & Missing::DEEDS != 0
    }

    /// Returns true if it may be an event that ends a lease: a release, a lookup, the end of an operation.
    pub fn ends_leases(self) -> bool {
        self.kinds & (Missing::DEEDS | Missing::RELEASES) != 0
    }

    /// Returns true if it may be a lookup, an unlink, or a lock event.
    pub fn can_hide_access(self) -> bool {
        self.kinds & !Missing::ENDS != 0
    }

    pub fn concerns_folios(self) -> bool {
        self.classes & 1 << Class::Folio as u8 != 0
    }

    /// Returns true if it may be the release of a lock of this class.
    pub fn releases(self, class: Class) -> bool {
        self.kinds & Missing::RELEASES != 0 && self.classes & 1 << class as u8 != 0
    }
}

/// A time span, ends included; both ends are equal if a moment is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub from_ns: u64,
    pub to_ns: u64,
}

impl Span {
    pub fn at(now_ns: u64) -> Span {
        Span { from_ns: now_ns, to_ns: now_ns }
    }

    pub fn contains(self, at_ns: u64) -> bool {
        self.from_ns <= at_ns && at_ns <= self.to_ns
    }

    /// Returns true if the moment is known.
    pub fn is_moment(self) -> bool {
        self.from_ns == self.to_ns
    }
}

/// A hole in memory.
#[derive(Clone, Copy, Debug)]
struct Kept {
    lo_ns: u64,
    hi_ns: u64,
    /// Latest end of this hole and of those before it.
    latest_ns: u64,
    lost: u64,
    /// Number of events before it was recorded.
    events: u64,
    site: Option<SiteId>,
}

/// Holes of one CPU, in the order in which they were recorded.
#[derive(Clone, Debug, Default)]
struct Spans(Vec<Kept>);

impl Spans {
    fn add(&mut self, span: Kept) {
        if let Some(last) = self.0.last_mut()
            && last.site == span.site
            && last.hi_ns == span.lo_ns
            && span.lost == 0
        {
            // The hole continues.
            last.hi_ns = span.hi_ns;
            last.latest_ns = last.latest_ns.max(span.hi_ns);
            return;
        }
        if self.0.len() == KEPT {
            // Covering both is the safe side: more verdicts are incomplete, and no more are certain.
            let old = self.0.remove(0);
            let next = &mut self.0[0];
            next.lo_ns = next.lo_ns.min(old.lo_ns);
            next.lost = next.lost.saturating_add(old.lost);
            next.latest_ns = next.latest_ns.max(old.latest_ns);
            next.hi_ns = next.hi_ns.max(old.hi_ns);
            next.site = next.site.filter(|site| old.site == Some(*site));
        }
        let latest_ns = self.0.last().map_or(0, |l| l.latest_ns).max(span.hi_ns);
        self.0.push(Kept { latest_ns, ..span });
    }

    fn between(&self, from_ns: u64, to_ns: u64) -> impl Iterator<Item = &Kept> {
        let recent = self.0.iter().rev().take_while(move |s| s.latest_ns >= from_ns);
        recent.filter(move |s| s.lo_ns <= to_ns && s.hi_ns >= from_ns)
    }
}

/// The holes recorded so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses {
    by_cpu: Vec<Spans>,
    /// Holes on an unknown CPU.
    anywhere: Spans,
    /// Latest end of a hole on any CPU.
    latest_ns: u64,
    /// Kinds of records that each site has sent, by its number.
    sent: Vec<Missing>,
    /// Number of events so far.
    events: u64,
    pub holes: u64,
    pub lost: u64,
    pub by_reason: BTreeMap<&'static str, u64>,
}

impl Losses {
    /// Records which kinds of records a site sends.
    #[inline]
    pub fn sends(&mut self, event: &Event) {
        self.events += 1;
        let at = usize::from(event.site.0);
        match self.sent.get_mut(at) {
            Some(sent) => *sent = sent.or(Missing::of(&event.body)),
            None if event.site.0 < u16::MAX => {
                self.sent.resize(at + 1, Missing::NOTHING);
                self.sent[at] = Missing::of(&event.body);
            }
            None => {}
        }
    }

    pub fn add(&mut self, hole: &Hole) {
        let events = self.events;
        let Hole { lo_ns, hi_ns, lost, site, .. } = *hole;
        self.keep(hole.cpu, Kept { lo_ns, hi_ns, latest_ns: 0, lost, events, site });
        self.holes += 1;
        self.lost = self.lost.saturating_add(lost);
        let by_reason = self.by_reason.entry(hole.reason).or_default();
        *by_reason = by_reason.saturating_add(lost);
    }

    fn keep(&mut self, cpu: u16, span: Kept) {
        let spans = if cpu == Hole::ANY_CPU {
            &mut self.anywhere
        } else {
            let cpu = usize::from(cpu);
            if self.by_cpu.len() <= cpu {
                self.by_cpu.resize_with(cpu + 1, Spans::default);
            }
            &mut self.by_cpu[cpu]
        };
        spans.add(span);
        self.latest_ns = self.latest_ns.max(span.hi_ns);
    }

    /// Records a change at `at_ns` to an unknown object, as if its record were lost.
    pub fn not_known(&mut self, at_ns: u64) {
        if self.holes > 0 {
            let events = self.events;
            let span = Kept { lo_ns: at_ns, hi_ns: at_ns, latest_ns: 0, lost: 1, events, site: None };
            self.keep(Hole::ANY_CPU, span);
        }
    }

    /// Records that holds were dropped because a task has too many, as if a record were lost: accesses that those locks would
    /// have excluded are not known.
    pub fn holds_dropped(&mut self, at_ns: u64) {
        self.holes += 1;
        self.not_known(at_ns);
    }

    /// Latest end of a hole; 0 if there is none.
    pub fn latest_ns(&self) -> u64 {
        self.latest_ns
    }

    /// Returns true if no record is missing since this time.
    #[inline]
    pub fn is_whole_since(&self, from_ns: u64) -> bool {
        from_ns > self.latest_ns || self.holes == 0
    }

    fn missing_in(&self, span: &Kept) -> Missing {
        let sent = span.site.map(|site| self.sent.get(usize::from(site.0)).copied().unwrap_or_default());
        // A site that has not sent anything may have sent any kind.
        sent.filter(|sent| !sent.is_nothing()).unwrap_or(Missing::ANYTHING)
    }

    fn all_between(&self, from_ns: u64, to_ns: u64) -> impl Iterator<Item = &Kept> {
        self.by_cpu.iter().chain([&self.anywhere]).flat_map(move |spans| spans.between(from_ns, to_ns))
    }

    /// Kinds of records that may be missing on a CPU between two times.
    pub fn on(&self, cpu: u16, from_ns: u64, to_ns: u64) -> Missing {
        if self.is_whole_since(from_ns) {
            return Missing::NOTHING;
        }
        let of_cpu = self.by_cpu.get(usize::from(cpu));
        let spans = of_cpu.into_iter().chain([&self.anywhere]).flat_map(|s| s.between(from_ns, to_ns));
        spans.fold(Missing::NOTHING, |all, span| all.or(self.missing_in(span)))
    }

    /// Returns true if records of `cpu` may be missing between the two times.
    #[inline]
    pub fn touches(&self, cpu: u16, from_ns: u64, to_ns: u64) -> bool {
        !self.is_whole_since(from_ns) && !self.on(cpu, from_ns, to_ns).is_nothing()
    }

    /// Kinds of records that may be missing on any CPU between two times. A task may run on any CPU between two of its
    /// events.
    pub fn anywhere(&self, from_ns: u64, to_ns: u64) -> Missing {
        if self.is_whole_since(from_ns) {
            return Missing::NOTHING;
        }
        self.all_between(from_ns, to_ns).fold(Missing::NOTHING, |all, span| all.or(self.missing_in(span)))
    }

    /// Number of records that are missing between two times.
    pub fn lost_between(&self, from_ns: u64, to_ns: u64) -> u64 {
        self.all_between(from_ns, to_ns).map(|span| span.lost).fold(0, u64::saturating_add)
    }

    /// Returns true if so few records are missing between two times that two given ones are not both among them: at
    /// most one record, or one of [`SPARSE`].
    pub fn are_sparse(&self, from_ns: u64, to_ns: u64) -> bool {
        if self.is_whole_since(from_ns) {
            return true;
        }
        let (mut lost, mut most, mut first, mut last) = (0_u64, 0, u64::MAX, 0);
        for span in self.all_between(from_ns, to_ns) {
            lost = lost.saturating_add(span.lost);
            most = most.max(span.lost);
            (first, last) = (first.min(span.events), last.max(span.events));
        }
        // The records of a hole with 0 lost records are not counted yet, or are counted in another hole.
        let is_sparse = |lost: u64, events: u64| lost.saturating_sub(1).saturating_mul(SPARSE) <= events;
        // Single records, far apart from each other, or equally rare in the whole run.
        lost <= 1
            || is_sparse(lost, last.saturating_sub(first))
            || (most <= 1 && is_sparse(self.lost, self.events))
    }
}
