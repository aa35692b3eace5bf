//! One line for each finding, and progress, for `attach` and `record` without a terminal.
//!
//! Decides when a finding is news: when it is there for the first time, or has a worse rank than it had.

use std::{collections::BTreeMap, io};

use observer_engine::finding::{Finding, Rank};

use super::words;

/// Event time between two lines of progress.
const PROGRESS_NS: u64 = 5_000_000_000;

/// Counts that a line of progress tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub events: u64,
    pub lost: u64,
    pub shares: u64,
    pub unshares: u64,
    pub findings: usize,
}

/// Writes lines.
pub struct Lines {
    out: Box<dyn io::Write>,
    start_ns: u64,
    told: BTreeMap<String, Rank>,
    progress_ns: u64,
}

impl Lines {
    #[must_use]
    pub fn new(out: Box<dyn io::Write>, start_ns: u64) -> Lines {
        Lines { out, start_ns, told: BTreeMap::new(), progress_ns: start_ns }
    }

    /// Tells the findings that are news.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn findings(&mut self, findings: &[Finding]) -> io::Result<()> {
        for f in findings {
            if self.told.get(&f.id).is_some_and(|told| *told <= f.rank) {
                continue;
            }
            self.told.insert(f.id.clone(), f.rank);
            let at = words::moment(f.last_ns, self.start_ns);
            let (rank, kind) = (f.rank.name(), f.kind().name());
            writeln!(self.out, "{at}  {rank} {kind} {}: {}", f.id, words::summary(f))?;
        }
        self.out.flush()
    }

    /// Tells how it goes, if that was not told for a while.
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
            "{}  {} events, {} lost, {} shares, {} unshares, {}",
            words::moment(now_ns, self.start_ns),
            words::number(p.events),
            words::number(p.lost),
            words::number(p.shares),
            words::number(p.unshares),
            words::plural(p.findings as u64, "finding"),
        )?;
        self.out.flush()
    }
}
