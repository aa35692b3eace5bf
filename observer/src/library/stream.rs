//! The parts of a run as one stream of passes.
//!
//! Decides what is read of a later part: everything except its preamble.

use std::io;

use anyhow::Context;

use crate::{
    hint::Hint,
    meta::{Closing, End, Meta, Notice},
    recording::{
        Reader,
        in_memory::Segment,
        reader::{Place, Refused},
    },
    source::{Pass, Source},
};

/// A place in a run, and what follows.
pub struct Stream {
    segments: Vec<Segment>,
    /// Index of the segment that is being read.
    at: usize,
    reader: Reader,
    /// Readers of earlier parts: they know the channels, which each part describes only once.
    left: Vec<(u64, Reader)>,
    stopped: bool,
}

/// A place that a stream was at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Number of the part.
    pub part: u64,
    pub place: Place,
}

impl Stream {
    /// Starts at the first part.
    ///
    /// # Errors
    /// It cannot be read, or is not a recording.
    pub fn begin(segments: &[Segment]) -> anyhow::Result<Stream> {
        let first = segments.first().context("nothing is kept")?;
        let reader = open(first)?;
        Ok(Stream { segments: segments.to_vec(), at: 0, reader, left: Vec::new(), stopped: false })
    }

    /// Starts at a place where this stream was; `None` if that part does not exist any more.
    ///
    /// # Errors
    /// The recording cannot be read.
    pub fn from(&self, segments: &[Segment], from: At) -> io::Result<Option<Stream>> {
        let Some(at) = segments.iter().position(|s| s.number == from.part) else { return Ok(None) };
        let was_there = if from.part == self.part() {
            Some(&self.reader)
        } else {
            self.left.iter().find(|(part, _)| *part == from.part).map(|(_, reader)| reader)
        };
        let Some(reader) = was_there else { return Ok(None) };
        let reader = reader.at(segments[at].input.open()?, from.place)?;
        Ok(Some(Stream { segments: segments.to_vec(), at, reader, left: Vec::new(), stopped: false }))
    }

    /// Continues with the parts and data that exist now; returns false if the current part does not exist any more.
    ///
    /// # Errors
    /// The recording cannot be read.
    pub fn go_on(&mut self, segments: &[Segment]) -> io::Result<bool> {
        let Some(mut next) = self.from(segments, self.at())? else { return Ok(false) };
        next.left = std::mem::take(&mut self.left);
        next.left.retain(|(part, _)| segments.iter().any(|s| s.number == *part));
        *self = next;
        Ok(true)
    }

    /// Number of the part that is being read.
    fn part(&self) -> u64 {
        self.segments[self.at].number
    }

    /// Start of the next pass.
    pub fn at(&self) -> At {
        At { part: self.part(), place: self.reader.place() }
    }

    /// Returns the next pass; `None` if there is no more for now.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_pass(&mut self) -> anyhow::Result<Option<Pass>> {
        loop {
            if let Some(pass) = self.reader.next_pass()? {
                return Ok(Some(pass));
            }
            let Some(segment) = self.segments.get(self.at + 1) else { return Ok(None) };
            let mut reader = open(segment)?;
            if reader.meta().since.is_some() {
                reader.next_pass()?;
            }
            self.left.push((self.part(), std::mem::replace(&mut self.reader, reader)));
            self.at += 1;
        }
    }

    /// Closing of the run, when there are no more passes.
    pub fn closing(&self) -> Option<&Closing> {
        self.reader.closing()
    }
}

fn open(segment: &Segment) -> anyhow::Result<Reader> {
    match Reader::new(segment.input.open()?) {
        Ok(reader) => Ok(reader),
        Err(Refused::Io(why)) => Err(why.into()),
        Err(why) => {
            let hint = why.hint();
            Err(why).hint(hint)
        }
    }
}

/// Lets the stream run through the pipeline like a recording.
impl Source for Stream {
    fn meta(&self) -> &Meta {
        self.left.first().map_or(&self.reader, |(_, first)| first).meta()
    }

    async fn next(&mut self) -> anyhow::Result<Option<Pass>> {
        if self.stopped { Ok(None) } else { self.next_pass().context("read") }
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn closing(&mut self, _end: End) -> anyhow::Result<Option<Closing>> {
        Ok(self.reader.closing().cloned())
    }

    fn notices(&self) -> Vec<Notice> {
        let begin = self.meta().since.iter().map(|since| since.notice(self.meta().start_ns));
        begin.chain(self.reader.end_notice()).collect()
    }
}
