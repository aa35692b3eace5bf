//! Source of records: the one difference between live and replay.
//!
//! Decides what a drain pass is. Implementations of this trait do not know the engine, and its users do not know a kernel.

pub mod live;
pub mod replay;

use crate::meta::{Closing, End, Meta, Notice, Symbol};
pub use observer_engine::order::Mark;

/// Bytes of one CPU in one pass, as its ring delivered them: whole records, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub cpu: u16,
    pub bytes: Vec<u8>,
}

/// Loss of one CPU, or of one site on any CPU, for one reason since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// CPU number; `observer_engine::Hole::ANY_CPU` if it is not known.
    pub cpu: u16,
    /// Index into `observer_ebpf::loss::REASONS`.
    pub reason: u16,
    /// The only site that can have lost records, if that is known: for hits of a program that the kernel skipped.
    pub site: Option<u16>,
    /// Total since the start, of this CPU, reason and site.
    pub total: u64,
    /// Time of the previous reading of these counters: the loss happened after it.
    pub since_ns: u64,
}

/// Frames of one stack, innermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Number in `stack` records.
    pub id: u32,
    pub frames: Vec<u64>,
}

/// One drain of every ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    pub mark: Mark,
    /// Batches in the order in which the rings were drained; a CPU without records may be left out.
    pub batches: Vec<Batch>,
    /// Totals that changed since the last pass.
    pub loss: Vec<Loss>,
    /// Stacks not seen before.
    pub stacks: Vec<Stack>,
    /// Names of addresses in them that were not given before.
    pub symbols: Vec<Symbol>,
}

/// A stream of passes. One consumer, one thread.
pub trait Source {
    /// The run that the passes are from.
    fn meta(&self) -> &Meta;

    /// Returns the next pass; `None` when there is no more. Must be cancel safe: dropped while pending, nothing is lost.
    fn next(&mut self) -> impl Future<Output = anyhow::Result<Option<Pass>>>;

    /// Stops new events: from here on `next` gives what is left, then `None`.
    fn stop(&mut self);

    /// Closing of the run, after `next` gave `None`. A live source puts `end` into it, a recording returns the stored one;
    /// `None` if the recording breaks off.
    fn closing(&mut self, end: End) -> anyhow::Result<Option<Closing>>;

    /// Notices about this source that a reader of the findings must know, after `next` gave `None`.
    fn notices(&self) -> Vec<Notice> {
        Vec::new()
    }
}
