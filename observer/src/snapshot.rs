//! What a dashboard is shown: an owned, bounded picture of the run at one moment.
//!
//! Decides which rows are worth a screen and holds their words ready; it does not know a terminal. Rates and series
//! are the reader's: they are differences between snapshots, over [`Snapshot::now_ns`].

/// Rows of each list; what is beyond is counted in `*_total`.
pub const ROWS_MAX: usize = 1000;

/// The run at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub kernel_release: String,
    pub machine: String,
    /// `light`, `locks` or `full`.
    pub level: &'static str,
    /// Words for who is watched: `pid 12`, `comm postgres`; empty: everybody.
    pub filter: String,
    pub position: Position,
    /// Event time: nanoseconds of the watched machine's `CLOCK_MONOTONIC`.
    pub now_ns: u64,
    /// The same since the start of the run.
    pub elapsed_ns: u64,
    /// Drain passes so far.
    pub drains: u64,
    /// Events so far by group, always the same groups in the same order.
    pub events: Vec<(&'static str, u64)>,
    /// Totals of what was lost, by reason; reasons with 0 are left out.
    pub loss: Vec<(&'static str, u64)>,
    /// Events that came after their place in time had passed.
    pub late: u64,
    /// Records that were not understood.
    pub undecodable: u64,
    /// Leases alive.
    pub leases: u64,
    /// Tasks known.
    pub tasks: u64,
    /// Worst first.
    pub findings: Vec<FindingRow>,
    pub findings_total: usize,
    /// In the order of class names.
    pub edges: Vec<EdgeRow>,
    pub edges_total: usize,
    /// Files by what is done to their tables, most unshares first.
    pub mappings: Vec<MappingRow>,
    /// What was looked up and removed under which locks, and what kept the two apart.
    pub protection: Vec<ProtectionRow>,
    /// Most active first.
    pub tables: Vec<TableRow>,
    pub tables_total: usize,
    pub coverage: Vec<CoverageRow>,
    /// What went wrong with the source; shown until the end.
    pub notices: Vec<String>,
}

/// Where the events come from and how far they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Position {
    /// A running kernel.
    #[default]
    Live,
    /// A recording.
    Replay {
        file: String,
        /// 1/1000 of the file's bytes that were read.
        permille: u16,
        paused: bool,
        /// Times real time; `None`: as fast as it goes.
        speed: Option<f32>,
        /// All was read; the findings are final.
        ended: bool,
    },
    /// The live run is over; the findings are final.
    Ended,
}

/// One finding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FindingRow {
    /// The same in every snapshot, report and replay of this run.
    pub id: String,
    /// A name of the one scale, worst first.
    pub rank: &'static str,
    /// `predicted` or worse.
    pub alarm: bool,
    /// `window`, `cycle`, …
    pub kind: &'static str,
    /// One line.
    pub summary: String,
    /// Occurrences merged into it.
    pub count: u64,
    /// Event time of the first.
    pub first_ns: u64,
    /// Longest certain part, for windows.
    pub certain_ns: u64,
    /// Longest possible part, for windows.
    pub possible_ns: u64,
    /// The evidence, as the text report words it.
    pub detail: Vec<String>,
}

/// One edge of the class graph: `to` was asked for while `from` was held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeRow {
    /// Class and mode: `vma_lock(read)`.
    pub from: String,
    pub to: String,
    /// `wait`; `try/wait` by trylock, where it would have waited had that failed; `try` only, which cannot wait.
    pub ask: &'static str,
    /// `AGAINST` a documented order, or only `perhaps`, since it is not sure; an `exception` that the facts know, or as one `agrees`; empty: nothing is documented.
    pub order: &'static str,
    pub count: u64,
    /// Tasks that made it.
    pub tasks: u64,
    /// The evidence, as the text report words it.
    pub detail: Vec<String>,
}

/// One page-table page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableRow {
    pub address: u64,
    pub generation: u32,
    pub alive: bool,
    /// Event time of its birth or first sight.
    pub born_ns: u64,
    /// Links as they are now: mm and GiB.
    pub sharers: Vec<(u64, u64)>,
    pub lookups: u64,
    pub shares: u64,
    pub unshares: u64,
    /// Most mms that linked it at a time.
    pub sharers_max: u64,
    /// Its file's mapping; 0: not known.
    pub mapping: u64,
    /// What happened to it last, as the text report words it.
    pub history: Vec<String>,
}

/// The page tables of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappingRow {
    /// 0: all of which it is not known.
    pub mapping: u64,
    /// Tables alive.
    pub tables: u64,
    /// mms that link the table with most of them.
    pub sharers: u64,
    pub shares: u64,
    pub unshares: u64,
    /// Event time of the first share or unshare.
    pub first_ns: u64,
    /// How often, and who.
    pub detail: Vec<String>,
}

/// Leases of a lookup site, removals of an unlink site, or what kept two of them apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProtectionRow {
    /// `lookup`, `removal` or `apart`.
    pub what: &'static str,
    /// One site, or `LOOKUP / REMOVAL`.
    pub site: String,
    /// Leases or removals; of a pair 0.
    pub count: u64,
    /// Nothing kept them apart, at least once; or a lease was under no lock.
    pub open: bool,
    /// Locks, most first.
    pub ways: Vec<String>,
}

/// How well one role is seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoverageRow {
    pub role: &'static str,
    /// What of the role; empty: all of it.
    pub part: String,
    /// `exact`, `bounded`, `inferred` or `blind`.
    pub grade: &'static str,
    pub reason: String,
}

/// What a person at the dashboard asks of the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command {
    Quit,
    /// Replay only.
    Pause(bool),
    /// Replay only: one drain pass further, pausing.
    Step,
    /// Replay only: times real time; `None`: as fast as it goes.
    Speed(Option<f32>),
}
