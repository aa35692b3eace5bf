//! The last events that somebody wants to see, and how often each site told something.
//!
//! Decides what is remembered of events when the engine gets them: counts always, rows only when they are asked for. What
//! rows need of earlier events is taken from the engine when they begin to be kept, so that runs without them pay nothing.

use std::collections::VecDeque;

use observer_engine::{Engine, event::Event};

use crate::events::{EventRow, Filter, Told, told::News};

/// Rows kept.
pub const TAIL_MAX: usize = 2000;

/// What is remembered of events that were handed on.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Events by site number.
    fired: Vec<u64>,
    pub tail: Option<Tail>,
}

impl Seen {
    /// Notes an event, before the engine has it.
    #[inline]
    pub fn note(&mut self, event: &Event, engine: &Engine) {
        let site = usize::from(event.site.0);
        match self.fired.get_mut(site) {
            Some(count) => *count += 1,
            None => self.first_of(site),
        }
        if let Some(tail) = &mut self.tail {
            tail.note(event, engine);
        }
    }

    #[cold]
    fn first_of(&mut self, site: usize) {
        self.fired.resize(site + 1, 0);
        self.fired[site] = 1;
    }

    /// Events by site number; sites that told nothing are left out.
    pub fn fired(&self) -> Vec<(u16, u64)> {
        self.fired.iter().enumerate().filter(|(_, n)| **n > 0).map(|(site, n)| (site as u16, *n)).collect()
    }

    pub fn rows(&self) -> Vec<EventRow> {
        self.tail.iter().flat_map(|tail| tail.rows.iter().cloned()).collect()
    }

    /// The newest event, where rows are kept.
    pub fn last(&self) -> Option<EventRow> {
        self.tail.as_ref()?.last()
    }
}

/// The last events that pass a filter.
#[derive(Clone, Debug)]
pub struct Tail {
    filter: Filter,
    /// Events before this number are not shown.
    from: u64,
    rows: VecDeque<EventRow>,
    told: Told,
    /// The newest event whether it passes or not, with its number.
    last: Option<(u64, Event)>,
}

impl Tail {
    /// Of what comes after what the engine has.
    pub fn new(filter: Filter, from: u64, engine: &Engine) -> Tail {
        let mut told = Told::default();
        for task in engine.tasks() {
            told.take(&News::Comm(task.tid, task.comm.into()));
        }
        for (lock, owner) in engine.owners() {
            told.take(&News::Owner(lock, owner));
        }
        Tail { filter, from, rows: VecDeque::with_capacity(TAIL_MAX), told, last: None }
    }

    /// The newest event, as it is shown where it passes.
    fn last(&self) -> Option<EventRow> {
        let (number, event) = self.last.as_ref()?;
        let shown = self.rows.back().filter(|row| row.number == *number);
        Some(shown.cloned().unwrap_or_else(|| self.told.row(*number, event)))
    }

    fn note(&mut self, event: &Event, engine: &Engine) {
        let number = engine.events() + 1;
        self.last = Some((number, *event));
        if number < self.from {
            self.told.learn(event);
        } else if let Some(row) = self.told.pick(number, event, &self.filter) {
            if self.rows.len() == TAIL_MAX {
                self.rows.pop_front();
            }
            self.rows.push_back(row);
        }
    }
}
