//! The recorded source: passes from a file, as fast as they are taken, for the outcome of a recording.
//!
//! The recording's reader decides which part of the file is trusted; a dashboard uses [`crate::run::player`] instead.

use std::{fs::File, io::Read, path::Path};

use anyhow::Context;

use super::{Pass, Source};
use crate::{
    meta::{Closing, End, Meta, Notice},
    recording::Reader,
};

/// A recording as a source.
pub struct Replay {
    name: String,
    reader: Reader,
    stopped: bool,
    ended: bool,
}

impl Replay {
    /// Opens a recording; `-` is standard input.
    ///
    /// # Errors
    /// There is no such file, or it is not a recording that this version can show.
    pub fn open(path: &Path) -> anyhow::Result<Replay> {
        let name = path.display().to_string();
        if path.as_os_str() == "-" {
            return Replay::new("standard input".into(), Box::new(std::io::stdin()));
        }
        let file = File::open(path).with_context(|| format!("open recording {name}"))?;
        Replay::new(name, Box::new(file))
    }

    /// Reads a recording from any input.
    ///
    /// # Errors
    /// It is not a recording that this version can show.
    pub fn new(name: String, input: Box<dyn Read + Send>) -> anyhow::Result<Replay> {
        let reader = Reader::named(&name, input)?;
        Ok(Replay { name, reader, stopped: false, ended: false })
    }
}

impl Source for Replay {
    fn meta(&self) -> &Meta {
        self.reader.meta()
    }

    async fn next(&mut self) -> anyhow::Result<Option<Pass>> {
        if self.stopped {
            return Ok(None);
        }
        let pass = self.reader.next_pass().with_context(|| format!("read {}", self.name))?;
        self.ended = pass.is_none();
        Ok(pass)
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn closing(&mut self, _end: End) -> anyhow::Result<Option<Closing>> {
        Ok(self.reader.closing().cloned())
    }

    fn notices(&self) -> Vec<Notice> {
        if self.stopped && !self.ended {
            return vec![Notice::partial("replay was stopped before the recording's end".into())];
        }
        self.reader.notices()
    }
}

#[cfg(test)]
mod tests;
