//! The parts of a run as one stream of passes.
//!
//! Decides what is read of a part that follows another one: all but what it was told again.

use std::io;

use anyhow::Context;

use crate::{
    hint::Hint,
    meta::{Closing, End, Meta, Notice},
    recording::{
        Reader,
        keep::Segment,
        reader::{Place, Refused},
    },
    source::{Pass, Source},
};

/// A place in a run, and what follows.
pub struct Stream {
    segments: Vec<Segment>,
    /// Which of them is being read.
    at: usize,
    reader: Reader,
    /// Readers that were in the parts before: they know what parts say of themselves once.
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
    /// From the begin of the first part.
    ///
    /// # Errors
    /// It cannot be read, or is no recording.
    pub fn begin(segments: &[Segment]) -> anyhow::Result<Stream> {
        let first = segments.first().context("nothing is kept")?;
        let reader = open(first)?;
        Ok(Stream { segments: segments.to_vec(), at: 0, reader, left: Vec::new(), stopped: false })
    }

    /// From a place where this stream was; `None`: that part is not there any more.
    ///
    /// # Errors
    /// It cannot be read.
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

    /// Goes on with the parts that are there now, and with what they have now; false: this one's is not there any more.
    ///
    /// # Errors
    /// It cannot be read.
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

    /// Where the next pass begins.
    pub fn at(&self) -> At {
        At { part: self.part(), place: self.reader.place() }
    }

    /// The next pass; `None`: no more is there, yet.
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

    /// How the run ended, once there was no more.
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

/// As a recording is run.
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
