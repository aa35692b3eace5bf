//! What was recorded, to look back at while a dashboard shows the run: a file, the built-in sample, or what a live run
//! keeps of itself.
//!
//! Decides what of a recording is read to answer a question. Asked from threads of their own, never from the drain.

use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use crate::events::{EventRow, Filter};

/// What is asked for: events of a time, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub from_ns: u64,
    pub to_ns: u64,
    pub filter: Filter,
    /// At most so many rows, the first ones.
    pub limit: usize,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub query: Query,
    pub events: Vec<EventRow>,
    /// There are more than the limit.
    pub more: bool,
    /// Up to when events were there to be read: a live run's last moments are not, yet.
    pub read_until_ns: u64,
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

/// Something recorded. Cheap to clone; each question opens it anew.
#[derive(Clone, Debug)]
pub struct Library {
    path: PathBuf,
}

impl Library {
    /// A recording on disk.
    #[must_use]
    pub fn file(path: PathBuf) -> Library {
        Library { path }
    }

    /// Looks events up; `stop` ends it early with what was found.
    ///
    /// # Errors
    /// The recording cannot be read.
    pub fn events(&self, query: Query, _stop: &AtomicBool) -> anyhow::Result<Page> {
        Ok(Page { query, events: Vec::new(), more: false, read_until_ns: 0 })
    }

    /// Writes what was recorded so far; the file's length in bytes.
    ///
    /// # Errors
    /// It exists and `force` is not set, or it cannot be read or written.
    pub fn export(&self, _what: Export, _to: &Path, _force: bool) -> anyhow::Result<u64> {
        anyhow::bail!("cannot read {}", self.path.display())
    }
}
