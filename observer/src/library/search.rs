//! One search: events of a time range that pass a filter, up to a limit.
//!
//! Decides which are kept if there are too many, and when enough has been read.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
};

use observer_engine::{
    event::Event,
    order::{Item, Order},
};

use super::{Page, index::From};
use crate::{
    events::{EventRow, Filter},
    source::Source,
};

pub struct Search<'a> {
    page: &'a mut Page,
    from: From,
    filter: Filter,
    /// Latest matching rows from before `around_ns`.
    before: VecDeque<EventRow>,
    /// Set at the first event from which on no event is missing.
    begun: bool,
    done: bool,
}

impl Search<'_> {
    pub fn new(page: &mut Page, from: From) -> Search<'_> {
        let filter = page.query.filter.clone().since(from.stream.meta().start_ns);
        Search { page, from, filter, before: VecDeque::new(), begun: false, done: false }
    }

    /// Reads until the search is done.
    ///
    /// # Errors
    /// The recording cannot be read.
    pub fn run(mut self, grows: bool, stop: &AtomicBool) -> anyhow::Result<()> {
        let read = self.read(grows, stop);
        self.page.events.splice(..0, self.before);
        read
    }

    fn read(&mut self, grows: bool, stop: &AtomicBool) -> anyhow::Result<()> {
        let mut order = Order::new();
        while !self.done {
            if stop.load(Ordering::Relaxed) {
                self.page.more = true;
                return Ok(());
            }
            let Some(pass) = self.from.stream.next_pass()? else {
                // While the run continues, other CPUs may still add events of this time.
                if !grows || self.from.stream.closing().is_some() {
                    order.finish(|item| self.take(item));
                }
                return Ok(());
            };
            for batch in &pass.batches {
                order.batch(batch.cpu, &batch.bytes);
            }
            let until_ns = order.mark(pass.mark, |item| self.take(item));
            self.done |= until_ns.is_some_and(|until_ns| until_ns > self.page.query.to_ns);
        }
        Ok(())
    }

    fn take(&mut self, item: Item<'_>) {
        let Item::Event(event) = item else { return };
        // Earlier events are not all available here.
        self.begun |= event.time_ns >= self.from.start_ns;
        if self.done || !self.begun {
            return;
        }
        if Some(event.cpu) == self.from.preamble_cpu {
            self.from.context.learn(event);
            return;
        }
        self.from.events = self.from.events.saturating_add(1);
        self.event(event);
    }

    fn event(&mut self, event: &Event) {
        let Page { query, events, earlier, more, .. } = &mut *self.page;
        self.done = event.time_ns > query.to_ns;
        if self.done || event.time_ns < query.from_ns {
            self.from.context.learn(event);
        } else if let Some(row) = self.from.context.pick(self.from.events, event, &self.filter) {
            if event.time_ns < query.around_ns {
                let room = if query.around_ns > query.to_ns { query.limit } else { query.limit / 2 };
                self.before.push_back(row);
                if self.before.len() > room {
                    self.before.pop_front();
                    *earlier = true;
                }
            } else if self.before.len() + events.len() < query.limit {
                events.push(row);
            } else {
                (*more, self.done) = (true, true);
            }
        }
    }
}
