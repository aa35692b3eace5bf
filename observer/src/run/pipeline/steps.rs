//! Applies a pass in steps, so that a run can stop between any two events.
//!
//! Decides where a run stops that must stop at a place. This depends only on the place, not on how the run reached it. A stop
//! at an event is after it and before anything that follows. A stop at a time is as soon as the next step is known to be
//! later. [`Pipeline::pass`] applies all steps of a pass at once, and does not differ otherwise.

use observer_ebpf::HEADER_BYTES;
use observer_engine::{
    event::Event,
    order::{Gap, Item},
};

use super::{Pipeline, renumbered, to_engine};
use crate::{meta::Closing, source::Pass};

/// A place in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The place after this number of events.
    Event(u64),
    /// The place after everything up to and including this event time.
    Time(u64),
}

impl Until {
    pub const END: Until = Until::Time(u64::MAX);
}

/// Result of [`Pipeline::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The place, or the end before it, is reached.
    There,
    /// More steps can be applied.
    More,
    /// The next pass is needed.
    Hungry,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Event(Event),
    Gap(Gap),
    Tick(u64),
    /// The end of the run, at this time; nothing follows.
    End(u64),
}

impl Step {
    fn time_ns(&self) -> u64 {
        match self {
            Step::Event(event) => event.time_ns,
            Step::Gap(gap) => gap.lo_ns,
            Step::Tick(ns) | Step::End(ns) => *ns,
        }
    }
}

impl From<Item<'_>> for Step {
    fn from(item: Item<'_>) -> Step {
        match item {
            Item::Event(event) => Step::Event(*event),
            Item::Gap(gap) => Step::Gap(gap),
        }
    }
}

impl Pipeline {
    /// Returns true if applying this pass could take the run to this place or beyond it.
    #[must_use]
    pub fn reaches(&self, pass: &Pass, until: Until) -> bool {
        match until {
            Until::Event(n) => {
                let bytes: usize = pass.batches.iter().map(|batch| batch.bytes.len()).sum();
                let at_most = self.order.counts().events + (bytes / HEADER_BYTES) as u64;
                at_most >= n
            }
            // A pass releases nothing later than that.
            Until::Time(ns) => self.order.releases_ns() > ns,
        }
    }

    /// Takes a pass to be applied step by step, by [`Pipeline::take`]. Allowed only if no step is left.
    pub fn feed(&mut self, pass: &Pass) {
        debug_assert!(self.waiting.is_empty());
        self.enter(pass);
        let (waiting, stacks) = (&mut self.waiting, &self.stacks);
        if let Some(until_ns) =
            self.order.mark(pass.mark, |item| waiting.push_back(renumbered(stacks, item, |item| item.into())))
        {
            self.waiting.push_back(Step::Tick(until_ns));
        }
    }

    /// Queues the rest of the order and the end, if no pass follows.
    pub fn feed_end(&mut self, closing: Option<&Closing>) {
        let (waiting, stacks) = (&mut self.waiting, &self.stacks);
        self.order.finish(|item| waiting.push_back(renumbered(stacks, item, |item| item.into())));
        self.waiting.push_back(Step::End(self.end_ns(closing)));
    }

    /// Applies queued steps up to the place, and at most `steps` of them.
    pub fn take(&mut self, until: Until, steps: usize) -> Taken {
        for _ in 0..steps {
            if self.ended.is_some() || matches!(until, Until::Event(n) if self.events() >= n) {
                return Taken::There;
            }
            match (self.waiting.front(), until) {
                (None, _) => return Taken::Hungry,
                (Some(next), Until::Time(ns)) if next.time_ns() > ns => return Taken::There,
                _ => self.step(),
            }
        }
        Taken::More
    }

    fn step(&mut self) {
        match self.waiting.pop_front() {
            Some(Step::Event(event)) => {
                to_engine(&mut self.engine, &mut self.losses, &mut self.seen, Item::Event(&event));
            }
            Some(Step::Gap(gap)) => {
                to_engine(&mut self.engine, &mut self.losses, &mut self.seen, Item::Gap(gap));
            }
            Some(Step::Tick(until_ns)) => self.engine.tick(until_ns),
            Some(Step::End(end_ns)) => self.end(end_ns),
            None => {}
        }
    }
}
