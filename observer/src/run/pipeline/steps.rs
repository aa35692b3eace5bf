//! A pass in steps: the run can stand between any two events.
//!
//! Decides where a run stops that is to stop at a place. That depends on the place alone, never on the way there: at an event,
//! with it and before anything that follows; at a time, as soon as what comes next is known to be later. [`Pipeline::pass`]
//! is all steps of a pass at once, and there are no other differences.

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
    /// So many events were taken.
    Event(u64),
    /// All is taken up to this event time, itself included.
    Time(u64),
}

impl Until {
    pub const END: Until = Until::Time(u64::MAX);
}

/// How far [`Pipeline::take`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// This is the place, or the end is before it.
    There,
    /// There is more to take.
    More,
    /// The next pass is needed.
    Hungry,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Event(Event),
    Gap(Gap),
    Tick(u64),
    /// Nothing follows. The time of the end.
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
    /// If a pass is taken, the run may come to this place or beyond it.
    #[must_use]
    pub fn reaches(&self, pass: &Pass, until: Until) -> bool {
        match until {
            Until::Event(n) => {
                let bytes: usize = pass.batches.iter().map(|batch| batch.bytes.len()).sum();
                let at_most = self.order.counts().events + (bytes / HEADER_BYTES) as u64;
                at_most >= n
            }
            // What a pass releases is not later than that.
            Until::Time(ns) => self.order.releases_ns() > ns,
        }
    }

    /// Takes a pass to be handed on step by step, by [`Pipeline::take`]. Only where nothing waits.
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

    /// No pass follows: what is left in the order waits, and the end.
    pub fn feed_end(&mut self, closing: Option<&Closing>) {
        let (waiting, stacks) = (&mut self.waiting, &self.stacks);
        self.order.finish(|item| waiting.push_back(renumbered(stacks, item, |item| item.into())));
        self.waiting.push_back(Step::End(self.end_ns(closing)));
    }

    /// Takes what waits, up to the place, and no more than so many steps.
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
