//! The outcome of a run: everything that a sink may read.
//!
//! Decides nothing: it combines the engine's answers with what the source said about itself.

pub mod several;
pub mod stacks;

use observer_ebpf::loss::{REASONS, SKIPPED};
use observer_engine::{
    finding::{Finding, Rank},
    order::Counts,
    setup::Coverage,
    view::{EdgeView, MappingView, ProtectionView, Stats, TableView},
};

use self::stacks::Stacks;
use crate::meta::{Closing, Meta, Misses, Notice};

/// Report of a whole run, or of the readable part of a recording.
#[derive(Clone, Debug)]
pub struct Report {
    pub meta: Meta,
    /// Closing of the run; `None` if the recording breaks off.
    pub closing: Option<Closing>,
    /// Notices about the source.
    pub notices: Vec<Notice>,
    pub coverage: Vec<Coverage>,
    /// Findings, worst first.
    pub findings: Vec<Finding>,
    pub edges: Vec<EdgeView>,
    pub tables: Vec<TableView>,
    /// Locks held at lookups and unlinks: the reason why a run may have no findings.
    pub protection: ProtectionView,
    /// Tasks that share and unshare tables, by mapping; most unshares first.
    pub mappings: Vec<MappingView>,
    /// Stacks of the parties of findings.
    pub stacks: Stacks,
    pub stats: Stats,
    pub counts: Counts,
    /// Number of drain passes.
    pub passes: u64,
    /// Totals by reason, in the order of the reasons; those that are 0 are left out.
    pub loss: Vec<(&'static str, u64)>,
    /// Event time of the end: of the run, or of the last pass where its end is not known.
    pub end_ns: u64,
}

impl Report {
    #[must_use]
    pub fn duration_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.meta.start_ns)
    }

    /// Worst rank of all findings.
    #[must_use]
    pub fn worst(&self) -> Option<Rank> {
        self.findings.iter().map(|f| f.rank).min()
    }

    /// Reasons why this is the report of a part of a run: its recording was damaged, broke off, or was not read to its end.
    pub fn partial(&self) -> impl Iterator<Item = &Notice> {
        self.notices.iter().filter(|notice| notice.is_partial)
    }

    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.partial().next().is_some()
    }

    #[must_use]
    pub fn alarms(&self) -> usize {
        self.findings.iter().filter(|f| f.rank.is_alarm()).count()
    }

    /// Hits of programs that the kernel skipped and that are not counted as loss: older recordings have only these. Excludes
    /// those of spinlock functions, which interrupts cause.
    #[must_use]
    pub fn missed(&self) -> u64 {
        let has_skipped = self.loss.iter().any(|(reason, _)| *reason == REASONS[SKIPPED].0);
        let missed = self.misses().filter(|m| !has_skipped && !m.is_of_spinlocks()).map(|m| m.recursion);
        missed.fold(0, u64::saturating_add)
    }

    /// Skipped hits, by program.
    pub fn misses(&self) -> impl Iterator<Item = &Misses> {
        self.closing.iter().flat_map(|c| &c.misses)
    }
}
