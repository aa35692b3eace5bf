//! Where records come from: the one difference between live and replay.
//!
//! Decides what a drain pass is. Nothing behind this trait knows the engine, nothing before it knows a kernel.

pub mod live;
pub mod replay;

use crate::meta::{Closing, End, Meta, Notice, Symbol};
pub use observer_engine::order::Mark;

/// Bytes of one CPU in one pass, as they came out of its ring: whole records, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub cpu: u16,
    pub bytes: Vec<u8>,
}

/// What one CPU, or one site on any CPU, lost for one reason since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// `observer_engine::Hole::ANY_CPU`: it is not known which.
    pub cpu: u16,
    /// Index into `observer_ebpf::loss::REASONS`.
    pub reason: u16,
    /// The only site whose records it can be, where that is known: hits of a program that the kernel skipped.
    pub site: Option<u16>,
    /// Total since the start, of this CPU, reason and site.
    pub total: u64,
    /// Time of the look before at these counters: it was lost after that.
    pub since_ns: u64,
}

/// Frames of one stack, innermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Number in `stack` records.
    pub id: u32,
    pub frames: Vec<u64>,
}

/// One look at every ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    pub mark: Mark,
    /// In the order in which the rings were drained; a CPU that had nothing may be left out.
    pub batches: Vec<Batch>,
    /// The totals that changed since the last pass.
    pub loss: Vec<Loss>,
    /// Stacks not seen before.
    pub stacks: Vec<Stack>,
    /// Names of addresses in them that were not given before.
    pub symbols: Vec<Symbol>,
}

/// A stream of passes. One consumer, one thread.
pub trait Source {
    /// The run that the passes are of.
    fn meta(&self) -> &Meta;

    /// The next pass; `None` when there is no more. Must be cancel safe: dropped while pending, nothing is lost.
    fn next(&mut self) -> impl Future<Output = anyhow::Result<Option<Pass>>>;

    /// No new events from here on: `next` gives what is left, then `None`.
    fn stop(&mut self);

    /// How the run ended, once `next` gave `None`. A live source takes `end` for its answer, a recording tells what
    /// it holds; `None`: the recording breaks off.
    fn closing(&mut self, end: End) -> anyhow::Result<Option<Closing>>;

    /// What a reader of the findings has to know about this source, once `next` gave `None`.
    fn notices(&self) -> Vec<Notice> {
        Vec::new()
    }
}
