//! Everything that was recorded, for lookups while a dashboard shows the run: a file, the built-in sample, or the in-memory
//! recording of a live run.
//!
//! Decides which part of a recording is read to answer a query. Threads of their own run the queries, never the drain.
//! [`index`] is what is remembered between queries; [`stream`] reads the parts of a run as one.

mod export;
mod index;
mod search;
mod stream;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;

use self::{index::Index, search::Search};
use crate::{
    events::{EventRow, Filter},
    recording::{
        Input, Segments,
        in_memory::{Look, Segment},
    },
};

/// A query for events of a time range, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub from_ns: u64,
    /// Last time of the range, inclusive.
    pub to_ns: u64,
    pub filter: Filter,
    /// Maximum number of rows of the answer.
    pub limit: usize,
    /// Middle of the answer if there are more events. Half of the rows are from before this time and half from after it; room
    /// that the earlier half leaves is used by the later one. 0: the first rows; `u64::MAX`: the last.
    pub around_ns: u64,
}

/// Answer to a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub query: Query,
    pub events: Vec<EventRow>,
    /// True if there are earlier events than these.
    pub earlier: bool,
    /// True if there are later events, or may be because the search was stopped.
    pub more: bool,
    /// Event time up to which events could be read: a live run's last moments are not readable at once.
    pub read_until_ns: u64,
    /// Event time from which on events are kept, if that is not the start of the run.
    pub kept_from_ns: Option<u64>,
}

/// Forms in which recorded data can be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// The recording itself.
    Recording,
    Text,
    Json,
    Jsonl,
    Dot,
}

/// A recording to query. Cheap to clone; each query opens it again, and the index is shared between queries.
#[derive(Clone, Debug)]
pub struct Library {
    name: String,
    parts: Parts,
    index: Arc<Mutex<Index>>,
}

/// Place of the recorded data.
#[derive(Clone, Debug)]
enum Parts {
    /// One recording. `grows`: it is being written, until it has its end.
    One {
        input: Input,
        grows: bool,
    },
    Segments(Segments),
}

impl Library {
    /// A recording on disk.
    #[must_use]
    pub fn file(path: PathBuf) -> Library {
        Library::new(path.display().to_string(), Parts::One { input: Input::File(path), grows: false })
    }

    /// A recording that is being written.
    #[must_use]
    pub fn written(path: PathBuf) -> Library {
        Library::new(path.display().to_string(), Parts::One { input: Input::File(path), grows: true })
    }

    /// A recording from any input.
    #[must_use]
    pub fn input(name: String, input: Input) -> Library {
        Library::new(name, Parts::One { input, grows: false })
    }

    /// The in-memory recording of a live run.
    #[must_use]
    pub fn in_memory(kept: Segments) -> Library {
        Library::new("what this run keeps".into(), Parts::Segments(kept))
    }

    fn new(name: String, parts: Parts) -> Library {
        Library { name, parts, index: Arc::default() }
    }

    /// Name of the recording.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Event time from which on it contains the run, if that is not its start.
    #[must_use]
    pub fn kept_from_ns(&self) -> Option<u64> {
        kept_from_ns(&self.look())
    }

    /// Parts that exist now, oldest first.
    fn look(&self) -> Look {
        match &self.parts {
            Parts::One { input, .. } => {
                Look::at(vec![Segment { number: 0, input: input.clone(), from_ns: 0 }])
            }
            Parts::Segments(kept) => kept.look(),
        }
    }

    fn grows(&self) -> bool {
        matches!(self.parts, Parts::One { grows: true, .. } | Parts::Segments(_))
    }

    /// Looks events up; `stop` ends it early with the events found by then.
    ///
    /// # Errors
    /// The recording cannot be read.
    pub fn events(&self, query: Query, stop: &AtomicBool) -> anyhow::Result<Page> {
        self.search(query, stop).with_context(|| format!("read {}", self.name))
    }

    fn search(&self, query: Query, stop: &AtomicBool) -> anyhow::Result<Page> {
        let look = self.look();
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        index.read_on(&look.segments, self.grows(), query.to_ns, stop)?;
        let more = stop.load(Ordering::Relaxed);
        let from = index.from(&look.segments, query.from_ns)?;
        let read_until_ns = index.read_until_ns();
        let kept_from_ns = kept_from_ns(&look);
        let mut page = Page { query, events: Vec::new(), earlier: false, more, read_until_ns, kept_from_ns };
        drop(index);
        if let Some(from) = from {
            Search::new(&mut page, from).run(self.grows(), stop)?;
        }
        Ok(page)
    }
}

/// Event time from which on these parts contain the run, if they lack its start.
fn kept_from_ns(look: &Look) -> Option<u64> {
    look.segments.first().filter(|s| s.number > 0).map(|s| s.from_ns)
}
