//! What a run came to: all that a sink may read.
//!
//! Decides nothing: it is the engine's answer beside what the source said about itself.

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
use crate::meta::{Closing, Meta, Misses};

/// The whole of a run, or of what is left of it.
#[derive(Clone, Debug)]
pub struct Report {
    pub meta: Meta,
    /// `None`: the recording breaks off.
    pub closing: Option<Closing>,
    /// What has to be said about the source.
    pub notices: Vec<String>,
    pub coverage: Vec<Coverage>,
    /// Worst first.
    pub findings: Vec<Finding>,
    pub edges: Vec<EdgeView>,
    pub tables: Vec<TableView>,
    /// Under which locks lookups and removals were: what a run without findings rests on.
    pub protection: ProtectionView,
    /// Who shares and unshares what; most unshares first.
    pub mappings: Vec<MappingView>,
    /// Of the sides of findings.
    pub stacks: Stacks,
    pub stats: Stats,
    pub counts: Counts,
    /// Drain passes.
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

    /// The worst rank found.
    #[must_use]
    pub fn worst(&self) -> Option<Rank> {
        self.findings.iter().map(|f| f.rank).min()
    }

    #[must_use]
    pub fn alarms(&self) -> usize {
        self.findings.iter().filter(|f| f.rank.is_alarm()).count()
    }

    /// Hits of programs that the kernel did not run and that are not told as loss: recordings of before that have only these.
    /// Not those of spinlock functions, which are interrupts'.
    #[must_use]
    pub fn missed(&self) -> u64 {
        let told = self.loss.iter().any(|(reason, _)| *reason == REASONS[SKIPPED].0);
        let missed = self.misses().filter(|m| !told && !m.is_of_spinlocks()).map(|m| m.recursion);
        missed.fold(0, u64::saturating_add)
    }

    /// What the kernel skipped, by program.
    pub fn misses(&self) -> impl Iterator<Item = &Misses> {
        self.closing.iter().flat_map(|c| &c.misses)
    }
}
