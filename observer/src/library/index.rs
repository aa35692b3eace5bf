//! Index of a recording, kept between queries: the number of events before each chunk, and the task names and lock owners
//! known there.
//!
//! Decides where to start so that an event is found without reading everything before it. A recording is read once, as far as
//! queries need it; a growing one is read further.
//!
//! **A chunk that begins with a pass of mark M contains all events from M on**: those that arrived with earlier passes were
//! stamped before M. So a new order that starts there, and drops everything before M, gives the same events as one that
//! started at the beginning. Their numbers continue from the number of events before M.

use std::{
    collections::VecDeque,
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use observer_engine::order::{Item, Order};

use super::stream::{At, Stream};
use crate::{
    events::{Context, context::News},
    recording::{in_memory::Segment, reader::Place},
    source::{Pass, Source},
};

/// Start of a chunk.
#[derive(Clone, Copy, Debug)]
struct Begin {
    at: At,
    /// Time from which on the following passes have every event.
    start_ns: u64,
}

/// Start of a chunk, and the state before it.
#[derive(Clone, Copy, Debug)]
struct Known {
    begin: Begin,
    events: u64,
    /// Length of `news` at this point.
    news: usize,
}

/// Index that grows with the queries.
#[derive(Default)]
pub struct Index {
    stream: Option<Stream>,
    order: Order,
    context: Context,
    news: Vec<News>,
    events: u64,
    /// Nonexistent CPU of the preamble's records.
    preamble_cpu: Option<u16>,
    known: Vec<Known>,
    /// Chunks for which the number of earlier events is not known.
    waiting: VecDeque<Begin>,
    /// Time up to which events were handed on; and the last mark.
    handed_on_ns: u64,
    mark_ns: u64,
    /// True if nothing follows.
    over: bool,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index")
            .field("events", &self.events)
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

/// Start of a search, with the state there.
pub struct From {
    pub stream: Stream,
    /// Events before this time must be skipped.
    pub start_ns: u64,
    /// Number of events before it.
    pub events: u64,
    pub context: Context,
    pub preamble_cpu: Option<u16>,
}

impl Index {
    /// Reads on until all events up to a time were handed on, or until no more data is there.
    ///
    /// # Errors
    /// The recording cannot be read.
    pub fn read_on(
        &mut self,
        segments: &[Segment],
        grows: bool,
        to_ns: u64,
        stop: &AtomicBool,
    ) -> anyhow::Result<()> {
        if self.over || self.handed_on_ns > to_ns {
            return Ok(());
        }
        let mut stream = self.stream(segments)?;
        while self.handed_on_ns <= to_ns && !stop.load(Ordering::Relaxed) {
            match stream.next_pass()? {
                Some(pass) => self.pass(&pass, stream.at()),
                None => {
                    self.over = !grows || stream.closing().is_some();
                    break;
                }
            }
        }
        self.stream = Some(stream);
        Ok(())
    }

    /// The stream, at its place or at the start of the parts that exist.
    fn stream(&mut self, segments: &[Segment]) -> anyhow::Result<Stream> {
        if let Some(mut stream) = self.stream.take()
            && stream.go_on(segments)?
        {
            return Ok(stream);
        }
        // The part after the last one read has been dropped: the index starts again.
        let stream = Stream::begin(segments)?;
        let since = stream.meta().since.as_ref();
        *self = Index {
            events: since.map_or(0, |s| s.records),
            preamble_cpu: since.map(|s| s.preamble_cpu),
            ..Index::default()
        };
        // Records of the preamble may have any earlier time.
        let begin = Begin { at: At { place: Place::default(), ..stream.at() }, start_ns: 0 };
        self.known.push(Known { begin, events: self.events, news: 0 });
        Ok(stream)
    }

    /// Takes a pass. `after`: start of the next one.
    fn pass(&mut self, pass: &Pass, after: At) {
        if after.place.passes == 1 {
            let at = At { place: Place { passes: 0, ..after.place }, ..after };
            self.waiting.push_back(Begin { at, start_ns: pass.mark.time_ns });
        }
        self.mark_ns = pass.mark.time_ns;
        for batch in &pass.batches {
            self.order.batch(batch.cpu, &batch.bytes);
        }
        let Index { order, context, news, events, preamble_cpu, known, waiting, .. } = self;
        let handed_on_ns = order.mark(pass.mark, |item| {
            let Item::Event(event) = item else { return };
            while let Some(begin) = waiting.pop_front_if(|b| b.start_ns <= event.time_ns) {
                known.push(Known { begin, events: *events, news: news.len() });
            }
            *events = events.saturating_add(u64::from(Some(event.cpu) != *preamble_cpu));
            news.extend(context.learn(event));
        });
        self.handed_on_ns = handed_on_ns.unwrap_or(self.handed_on_ns);
    }

    /// Event time up to which events can be read.
    pub fn read_until_ns(&self) -> u64 {
        if self.over { self.mark_ns } else { self.handed_on_ns }
    }

    /// Place from which the events of a time on can be read; `None` if nothing is there.
    ///
    /// # Errors
    /// The recording cannot be read.
    pub fn from(&self, segments: &[Segment], from_ns: u64) -> anyhow::Result<Option<From>> {
        let is_there = |k: &&Known| segments.iter().any(|s| s.number == k.begin.at.part);
        let mut there = self.known.iter().filter(is_there);
        let before = there.clone().rev().find(|k| k.begin.start_ns <= from_ns);
        let (Some(known), Some(stream)) = (before.or_else(|| there.next()), &self.stream) else {
            return Ok(None);
        };
        let Some(stream) = stream.from(segments, known.begin.at)? else { return Ok(None) };
        let mut context = Context::default();
        self.news[..known.news].iter().for_each(|news| context.take(news));
        let (start_ns, events) = (known.begin.start_ns, known.events);
        Ok(Some(From { stream, start_ns, events, context, preamble_cpu: self.preamble_cpu }))
    }
}
