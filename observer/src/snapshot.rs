//! Snapshot of a run for a dashboard: an owned, bounded copy of its state at one moment. Also the commands to the run.
//!
//! Decides how much of a run is in a snapshot. Snapshots are made many times a second, so they have the engine's data, not
//! words about it. Readers compute rates and series from the differences between snapshots, over [`Snapshot::now_ns`].

use std::sync::Arc;

use observer_engine::{
    finding::{Finding, Rank},
    order::Counts,
    setup::{Coverage, Setup},
    view::{EdgeView, LeaseView, MappingView, ProtectionView, Stats, TableView},
};

use crate::{
    events::{EventRow, Filter},
    meta::Meta,
    report::stacks::Stacks,
};

/// Maximum number of rows of each list; `*_total` has the full count.
pub const ROWS_MAX: usize = 5000;

/// The run at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub meta: Arc<Meta>,
    /// The engine's setup.
    pub setup: Arc<Setup>,
    pub position: Position,
    /// Event time: nanoseconds of the watched machine's `CLOCK_MONOTONIC`.
    pub now_ns: u64,
    /// Number of drain passes up to now.
    pub passes: u64,
    pub stats: Stats,
    pub counts: Counts,
    /// Totals of what was lost, by reason; reasons with 0 are left out.
    pub loss: Vec<(&'static str, u64)>,
    /// Findings, worst first.
    pub findings: Vec<Finding>,
    pub findings_total: usize,
    /// Edges in the order of class names.
    pub edges: Vec<EdgeView>,
    pub edges_total: usize,
    /// Tables, most active first.
    pub tables: Vec<TableView>,
    pub tables_total: usize,
    /// Files with the operations on their tables, most unshares first.
    pub mappings: Vec<MappingView>,
    /// Pointers in use now, oldest first.
    pub leases: Vec<LeaseView>,
    pub protection: ProtectionView,
    pub coverage: Vec<Coverage>,
    /// Events by site number.
    pub fired: Vec<(u16, u64)>,
    pub stacks: Arc<Stacks>,
    /// The last events that pass the filter of [`Command::Tail`], oldest first.
    pub tail: Vec<EventRow>,
    /// Event that was applied last, even if it does not pass the filter.
    pub last: Option<EventRow>,
    /// Failures of the source; shown until the end.
    pub notices: Vec<String>,
}

impl Snapshot {
    /// Time since the start of the run.
    #[must_use]
    pub fn elapsed_ns(&self) -> u64 {
        self.now_ns.saturating_sub(self.meta.start_ns)
    }

    #[must_use]
    pub fn lost(&self) -> u64 {
        self.loss.iter().fold(0, |all: u64, (_, n)| all.saturating_add(*n))
    }
}

/// Source of the events, and the position in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Position {
    /// A running kernel.
    #[default]
    Live,
    Replay(Replay),
    /// The live run is over; the findings are final.
    Ended,
}

/// A place in a recording. Times are event times.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    pub file: String,
    pub start_ns: u64,
    /// End of the recording, as far as it is known.
    pub end_ns: u64,
    /// Event time up to which it has been read, and findings are known.
    pub read_ns: u64,
    /// Number of events applied at this place.
    pub event: u64,
    /// Number of events read in total.
    pub events: u64,
    /// True while it is being read for the first time.
    pub reading: bool,
    pub paused: bool,
    /// Multiple of real time; `None`: as fast as possible.
    pub speed: Option<f32>,
    /// True at the end: the findings are final.
    pub ended: bool,
    /// Findings of everything that was read, by `reported_ns`.
    pub marks: Arc<Vec<FindingMark>>,
}

/// A finding on the time bar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingMark {
    pub id: String,
    pub rank: Rank,
    /// Event time of its first occurrence.
    pub at_ns: u64,
    /// Event time at which it was first reported.
    pub reported_ns: u64,
}

/// A person's command from the dashboard to the run.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Quit,
    /// Sets the filter for the events in the snapshots' tail, from now on.
    Tail(Filter),
    /// Pauses or plays. Replay only, like all commands below.
    Pause(bool),
    /// Multiple of real time; `None`: as fast as possible.
    Speed(Option<f32>),
    Seek(To),
}

/// A place to seek in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The place after everything up to and including this event time.
    Time(u64),
    /// The place after this number of events.
    Event(u64),
    /// This number of events forwards, or backwards if negative.
    Steps(i64),
    End,
}
