//! What was recorded, to look back at while a dashboard shows the run: a file, the built-in sample, or what a live run
//! keeps of itself.
//!
//! Decides what of a recording is read to answer a question. Asked from threads of their own, never from the drain.
//! [`index`] is what is remembered between questions, [`stream`] how parts of a run are read as one.

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
        Input, Kept,
        keep::{Look, Segment},
    },
};

/// What is asked for: events of a time, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub from_ns: u64,
    /// The last time that is wanted.
    pub to_ns: u64,
    pub filter: Filter,
    /// At most so many rows.
    pub limit: usize,
    /// If there are more, half of them from before this time and half from then on; what one half leaves free the later one
    /// gets. 0: the first ones; `u64::MAX`: the last.
    pub around_ns: u64,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub query: Query,
    pub events: Vec<EventRow>,
    /// There are earlier ones than these.
    pub earlier: bool,
    /// There are later ones than these, or there may be: it was stopped.
    pub more: bool,
    /// Up to when events were there to be read: a live run's last moments are not, yet.
    pub read_until_ns: u64,
    /// From when on events are kept, where that is not the start of the run.
    pub kept_from_ns: Option<u64>,
}

/// What can be made of what was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// The recording itself.
    Recording,
    Text,
    Json,
    Jsonl,
    Dot,
}

/// Something recorded. Cheap to clone; each question opens it anew, and what one learns of it the next one knows.
#[derive(Clone, Debug)]
pub struct Library {
    name: String,
    parts: Parts,
    index: Arc<Mutex<Index>>,
}

/// Where it is.
#[derive(Clone, Debug)]
enum Parts {
    /// `grows`: somebody writes to it, until it has its end.
    One {
        input: Input,
        grows: bool,
    },
    Kept(Kept),
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

    /// A recording that is somewhere else.
    #[must_use]
    pub fn input(name: String, input: Input) -> Library {
        Library::new(name, Parts::One { input, grows: false })
    }

    /// What a live run keeps of itself.
    #[must_use]
    pub fn kept(kept: Kept) -> Library {
        Library::new("what this run keeps".into(), Parts::Kept(kept))
    }

    fn new(name: String, parts: Parts) -> Library {
        Library { name, parts, index: Arc::default() }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From when on it has the run, where that is not its start.
    #[must_use]
    pub fn kept_from_ns(&self) -> Option<u64> {
        kept_from_ns(&self.look())
    }

    /// The parts that are there, oldest first.
    fn look(&self) -> Look {
        match &self.parts {
            Parts::One { input, .. } => {
                Look::at(vec![Segment { number: 0, input: input.clone(), from_ns: 0 }])
            }
            Parts::Kept(kept) => kept.look(),
        }
    }

    fn grows(&self) -> bool {
        matches!(self.parts, Parts::One { grows: true, .. } | Parts::Kept(_))
    }

    /// Looks events up; `stop` ends it early with what was found.
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

/// From when on these parts have the run, where they lack its start.
fn kept_from_ns(look: &Look) -> Option<u64> {
    look.segments.first().filter(|s| s.number > 0).map(|s| s.from_ns)
}
