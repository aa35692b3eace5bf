//! One line for each finding, and progress, for `attach` and `record` without a terminal.
//!
//! Decides when a finding is reported: when it is new, or when its rank became worse.

use std::{collections::BTreeMap, io};

use observer_engine::finding::{Finding, Rank};

use super::finding;
use crate::text::{moment, number, plural};

/// Event time between two lines of progress.
const PROGRESS_NS: u64 = 5_000_000_000;

/// Counts in a line of progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub events: u64,
    pub lost: u64,
    pub shares: u64,
    pub unshares: u64,
    pub findings: usize,
}

/// Writes lines for findings and progress.
pub struct Lines {
    out: Box<dyn io::Write>,
    start_ns: u64,
    printed: BTreeMap<String, Rank>,
    progress_ns: u64,
}

impl Lines {
    #[must_use]
    pub fn new(out: Box<dyn io::Write>, start_ns: u64) -> Lines {
        Lines { out, start_ns, printed: BTreeMap::new(), progress_ns: start_ns }
    }

    /// Reports the findings that are new or became worse.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn findings(&mut self, findings: &[Finding]) -> io::Result<()> {
        for f in findings {
            if self.printed.get(&f.id).is_some_and(|rank| *rank <= f.rank) {
                continue;
            }
            self.printed.insert(f.id.clone(), f.rank);
            let at = moment(f.last_ns, self.start_ns);
            let (rank, kind) = (f.rank.name(), f.kind().name());
            writeln!(self.out, "{at}  {rank} {kind} {}: {}", f.id, finding::summary(f))?;
        }
        self.out.flush()
    }

    /// Reports progress, unless the last report is recent.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn progress(&mut self, now_ns: u64, p: Progress) -> io::Result<()> {
        if now_ns < self.progress_ns.saturating_add(PROGRESS_NS) {
            return Ok(());
        }
        self.progress_ns = now_ns;
        writeln!(
            self.out,
            "{}  {}, {} lost, {}, {}, {}",
            moment(now_ns, self.start_ns),
            plural(p.events, "event"),
            number(p.lost),
            plural(p.shares, "share"),
            plural(p.unshares, "unshare"),
            plural(p.findings as u64, "finding"),
        )?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use observer_engine::{
        event::{Class, Mode, Tid},
        finding::{Evidence, Hold, HoldBasis, Party, Relock, TaskRef},
        lock_class::LockClass,
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn finding(rank: Rank) -> Finding {
        let class = LockClass::from(Class::VmaLock);
        let mode = Some(Mode::Read);
        let held = Hold { class, lock: 1, mode, basis: HoldBasis::Requested, since_ns: 0, lossy: false };
        let task = TaskRef { tid: Tid(7), tgid: 7, comm: "ex".into(), cpu: 0 };
        let party = Party { task, site: "f".into(), time_ns: 0, stack: None, holds: vec![held] };
        Finding {
            id: "relock:f".into(),
            rank,
            count: 1,
            first_ns: 1_000_000_000,
            last_ns: 2_500_000_000,
            doubts: vec![],
            evidence: Evidence::Relock(Relock { held, requested_mode: mode, party }),
        }
    }

    #[test]
    fn new_findings_are_printed_at_once_and_progress_every_five_seconds() {
        let out = Written::default();
        let mut lines = Lines::new(Box::new(out.clone()), 1_000_000_000);
        for rank in [Rank::Possible, Rank::Possible, Rank::Feasible, Rank::Possible] {
            lines.findings(&[finding(rank)]).unwrap();
        }
        let progress = Progress { events: 12_345, lost: 3, shares: 1, unshares: 2, findings: 1 };
        for second in 1..=10 {
            lines.progress(second * 1_000_000_000, progress).unwrap();
        }
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].starts_with("+1.500000 s  possible relock relock:f: "), "{text}");
        assert!(lines[1].starts_with("+1.500000 s  feasible relock relock:f: "), "{text}");
        assert_eq!(lines[2], "+5.000000 s  12,345 events, 3 lost, 1 share, 2 unshares, 1 finding");
    }
}
