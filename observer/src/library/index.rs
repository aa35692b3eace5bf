//! What is remembered of a recording between questions: which event a chunk begins with, and what was told when.
//!
//! Decides from where an event can be found without reading all that was before. A recording is read once, as far as it was
//! asked for; one that grows is read on. **A chunk that begins with a pass of mark M holds all events from M on**: those that
//! came with earlier passes were stamped before M was. So a new order that begins there, and forgets what is before M, gives
//! the same events as one that began at the start, and their numbers go on from how many there were before M.

use std::{
    collections::VecDeque,
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use observer_engine::order::{Item, Order};

use super::stream::{At, Stream};
use crate::{
    events::{Told, told::News},
    recording::{keep::Segment, reader::Place},
    source::{Pass, Source},
};

/// A chunk's begin.
#[derive(Clone, Copy, Debug)]
struct Begin {
    at: At,
    /// All events from this time on are in what follows.
    start_ns: u64,
}

/// A begin, and what was before it.
#[derive(Clone, Copy, Debug)]
struct Known {
    begin: Begin,
    events: u64,
    /// How much had been told.
    news: usize,
}

/// Fed with questions.
#[derive(Default)]
pub struct Index {
    stream: Option<Stream>,
    order: Order,
    told: Told,
    news: Vec<News>,
    events: u64,
    /// CPU of the records that are told again.
    again_cpu: Option<u16>,
    known: Vec<Known>,
    /// Begins of which it is not known yet how many events were before.
    waiting: VecDeque<Begin>,
    /// Up to when events were handed on; and the last mark.
    handed_on_ns: u64,
    mark_ns: u64,
    /// Nothing follows.
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

/// Where to begin, and what is known there.
pub struct From {
    pub stream: Stream,
    /// Events before this time are not to be looked at.
    pub start_ns: u64,
    /// Events before it.
    pub events: u64,
    pub told: Told,
    pub again_cpu: Option<u16>,
}

impl Index {
    /// Reads on until all events of a time were handed on, or to what is there.
    ///
    /// # Errors
    /// It cannot be read.
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

    /// The stream, where it was or at the begin of what is there.
    fn stream(&mut self, segments: &[Segment]) -> anyhow::Result<Stream> {
        if let Some(mut stream) = self.stream.take()
            && stream.go_on(segments)?
        {
            return Ok(stream);
        }
        // What follows the last that was read has been dropped: it begins anew.
        let stream = Stream::begin(segments)?;
        let since = stream.meta().since.as_ref();
        *self = Index {
            events: since.map_or(0, |s| s.records),
            again_cpu: since.map(|s| s.again_cpu),
            ..Index::default()
        };
        // Records that are told again are of any time before.
        let begin = Begin { at: At { place: Place::default(), ..stream.at() }, start_ns: 0 };
        self.known.push(Known { begin, events: self.events, news: 0 });
        Ok(stream)
    }

    /// `after`: where the next one begins.
    fn pass(&mut self, pass: &Pass, after: At) {
        if after.place.passes == 1 {
            let at = At { place: Place { passes: 0, ..after.place }, ..after };
            self.waiting.push_back(Begin { at, start_ns: pass.mark.time_ns });
        }
        self.mark_ns = pass.mark.time_ns;
        for batch in &pass.batches {
            self.order.batch(batch.cpu, &batch.bytes);
        }
        let Index { order, told, news, events, again_cpu, known, waiting, .. } = self;
        let handed_on_ns = order.mark(pass.mark, |item| {
            let Item::Event(event) = item else { return };
            while let Some(begin) = waiting.pop_front_if(|b| b.start_ns <= event.time_ns) {
                known.push(Known { begin, events: *events, news: news.len() });
            }
            *events += u64::from(Some(event.cpu) != *again_cpu);
            news.extend(told.learn(event));
        });
        self.handed_on_ns = handed_on_ns.unwrap_or(self.handed_on_ns);
    }

    /// Up to when events are there to be read.
    pub fn read_until_ns(&self) -> u64 {
        if self.over { self.mark_ns } else { self.handed_on_ns }
    }

    /// From where the events of a time on can be read; `None`: nothing is there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn from(&self, segments: &[Segment], from_ns: u64) -> anyhow::Result<Option<From>> {
        let is_there = |k: &&Known| segments.iter().any(|s| s.number == k.begin.at.part);
        let mut there = self.known.iter().filter(is_there);
        let before = there.clone().rev().find(|k| k.begin.start_ns <= from_ns);
        let (Some(known), Some(stream)) = (before.or_else(|| there.next()), &self.stream) else {
            return Ok(None);
        };
        let Some(stream) = stream.from(segments, known.begin.at)? else { return Ok(None) };
        let mut told = Told::default();
        self.news[..known.news].iter().for_each(|news| told.take(news));
        let (start_ns, events) = (known.begin.start_ns, known.events);
        Ok(Some(From { stream, start_ns, events, told, again_cpu: self.again_cpu }))
    }
}
