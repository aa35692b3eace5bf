//! What a dashboard is shown: an owned, bounded picture of the run at one moment, and what it asks of the run.
//!
//! Decides how much of a run goes into a picture; made many times a second, so it holds what the engine says, not words
//! about it. Rates and series are the reader's: they are differences between snapshots, over [`Snapshot::now_ns`].

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

/// Rows of each list; what is beyond is counted in `*_total`.
pub const ROWS_MAX: usize = 5000;

/// The run at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub meta: Arc<Meta>,
    /// The engine's part of it.
    pub setup: Arc<Setup>,
    pub position: Position,
    /// Event time: nanoseconds of the watched machine's `CLOCK_MONOTONIC`.
    pub now_ns: u64,
    /// Drain passes so far.
    pub passes: u64,
    pub stats: Stats,
    pub counts: Counts,
    /// Totals of what was lost, by reason; reasons with 0 are left out.
    pub loss: Vec<(&'static str, u64)>,
    /// Worst first.
    pub findings: Vec<Finding>,
    pub findings_total: usize,
    /// In the order of class names.
    pub edges: Vec<EdgeView>,
    pub edges_total: usize,
    /// Most active first.
    pub tables: Vec<TableView>,
    pub tables_total: usize,
    /// Files by what is done to their tables, most unshares first.
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
    /// The event that was taken last, whether it passes or not.
    pub last: Option<EventRow>,
    /// What went wrong with the source; shown until the end.
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
        self.loss.iter().map(|(_, n)| n).sum()
    }
}

/// Where the events come from and how far they are.
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
    /// Of the recording, as far as it is known.
    pub end_ns: u64,
    /// How far it was ever read: what is known of findings goes so far.
    pub read_ns: u64,
    /// Events taken at this place.
    pub event: u64,
    /// Events ever read.
    pub events: u64,
    /// It is being read for the first time.
    pub reading: bool,
    pub paused: bool,
    /// Times real time; `None`: as fast as it goes.
    pub speed: Option<f32>,
    /// This is the end: the findings are final.
    pub ended: bool,
    /// Findings of all that was read, by `told_ns`.
    pub marks: Arc<Vec<FindingMark>>,
}

/// A finding on the time bar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingMark {
    pub id: String,
    pub rank: Rank,
    /// When it happened for the first time.
    pub at_ns: u64,
    /// When it was listed first.
    pub told_ns: u64,
}

/// What a person at the dashboard asks of the run.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Quit,
    /// The snapshots' tail has the events that pass this from now on.
    Tail(Filter),
    /// Replay only, as all that follow.
    Pause(bool),
    /// Times real time; `None`: as fast as it goes.
    Speed(Option<f32>),
    Seek(To),
}

/// A place to go to in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// After everything up to this event time, itself included.
    Time(u64),
    /// After so many events.
    Event(u64),
    /// So many events on, or back.
    Steps(i64),
    End,
}
