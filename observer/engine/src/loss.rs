//! Losses: the places where records are missing, and what the missing records can have been.
//!
//! This module decides what a hole can hide: the time span, the CPU and the kinds of records. A program that the kernel
//! skipped hides the records that this program sends, known from what it sent before. A full ring can hide any record.
//! The rules decide the effect on a finding.

mod spans;
mod task;

use std::collections::BTreeMap;

use self::spans::{Kept, Spans, Sums};
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

/// The holes recorded so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses {
    /// Holes of each CPU that has any, by rising number: a file may name the last of 65,536 CPUs alone.
    by_cpu: Vec<(u16, Spans)>,
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
            let at = match self.by_cpu.binary_search_by_key(&cpu, |(cpu, _)| *cpu) {
                Ok(at) => at,
                Err(at) => {
                    self.by_cpu.insert(at, (cpu, Spans::default()));
                    at
                }
            };
            &mut self.by_cpu[at].1
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

    /// Kinds of records that may be missing in these holes.
    fn missing<'a>(&'a self, spans: impl Iterator<Item = &'a Spans>, from_ns: u64, to_ns: u64) -> Missing {
        let mut all = Missing::NOTHING;
        for spans in spans {
            spans.each(from_ns, to_ns, |span| {
                all = all.or(self.missing_in(span));
                all != Missing::ANYTHING
            });
            if all == Missing::ANYTHING {
                break;
            }
        }
        all
    }

    fn of_all_cpus(&self) -> impl Iterator<Item = &Spans> {
        self.by_cpu.iter().map(|(_, spans)| spans).chain([&self.anywhere])
    }

    /// Sums of the holes between two times, at least up to where `is_enough`.
    fn sums(&self, from_ns: u64, to_ns: u64, is_enough: impl Fn(&Sums) -> bool) -> Sums {
        let mut all = Sums::default();
        for spans in self.of_all_cpus() {
            spans.sums(from_ns, to_ns, &mut all, &is_enough);
            if is_enough(&all) {
                break;
            }
        }
        all
    }

    /// Kinds of records that may be missing on a CPU between two times.
    pub fn on(&self, cpu: u16, from_ns: u64, to_ns: u64) -> Missing {
        if self.is_whole_since(from_ns) {
            return Missing::NOTHING;
        }
        let at = self.by_cpu.binary_search_by_key(&cpu, |(cpu, _)| *cpu);
        let of_cpu = at.ok().map(|at| &self.by_cpu[at].1);
        self.missing(of_cpu.into_iter().chain([&self.anywhere]), from_ns, to_ns)
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
        self.missing(self.of_all_cpus(), from_ns, to_ns)
    }

    /// Returns true if at most one record is missing between two times.
    pub fn is_at_most_one(&self, from_ns: u64, to_ns: u64) -> bool {
        self.sums(from_ns, to_ns, |sums| sums.lost > 1).lost <= 1
    }

    /// Returns true if so few records are missing between two times that two given ones are not both among them: at
    /// most one record, or one of [`SPARSE`].
    pub fn are_sparse(&self, from_ns: u64, to_ns: u64) -> bool {
        if self.is_whole_since(from_ns) {
            return true;
        }
        // The records of a hole with 0 lost records are not counted yet, or are counted in another hole.
        let is_sparse = |lost: u64, events: u64| lost.saturating_sub(1).saturating_mul(SPARSE) <= events;
        let is_run_sparse = is_sparse(self.lost, self.events);
        // More holes cannot make up for this many records, however far apart the holes are.
        let are_many = |sums: &Sums| !is_sparse(sums.lost, self.events) && (sums.most > 1 || !is_run_sparse);
        let Sums { lost, most, first, last } = self.sums(from_ns, to_ns, are_many);
        // Single records, far apart from each other, or equally rare in the whole run.
        lost <= 1 || is_sparse(lost, last.saturating_sub(first)) || (most <= 1 && is_run_sparse)
    }
}
