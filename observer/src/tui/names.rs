//! Names, moments and tones of things, the same in every list and on every page.

use observer_engine::{
    event::{Mapping, Tid},
    finding::Rank,
    view::TableView,
};

use super::text::Tone;
use crate::snapshot::Snapshot;
use crate::text::moment;

/// Name of a task as far as it is known: `task 212 (ex-reader)`.
#[must_use]
pub fn task(comm: &str, tid: Tid) -> String {
    if comm.is_empty() { format!("task {}", tid.0) } else { format!("task {} ({comm})", tid.0) }
}

#[must_use]
pub fn mapping_name(mapping: Mapping) -> String {
    if mapping.0 == 0 { "file not known".into() } else { mapping.to_string() }
}

#[must_use]
pub fn state(t: &TableView) -> &'static str {
    if t.alive { "alive" } else { "freed" }
}

#[must_use]
pub fn rank_tone(rank: Rank) -> Tone {
    if rank.is_alarm() { Tone::Alarm } else { Tone::Plain }
}

/// Event time as time since the start of the run.
#[must_use]
pub fn since_start(s: &Snapshot, time_ns: u64) -> String {
    moment(time_ns, s.meta.start_ns)
}
