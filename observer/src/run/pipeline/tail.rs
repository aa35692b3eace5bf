//! The last events that a view wants, and the number of events of each site.
//!
//! Decides what is remembered of events when the engine gets them: counts always, rows only when they are asked for. The
//! engine supplies the task names and lock owners of earlier events when rows begin to be kept, so runs without rows pay
//! nothing.

use std::collections::VecDeque;

use observer_engine::{Engine, event::Event};

use crate::events::{Context, EventRow, Filter, context::News};

/// Maximum number of rows kept.
pub const TAIL_MAX: usize = 2000;

/// State about the events that were handed on.
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

    /// Events by site number; sites without events are left out.
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
    /// Number of the first event that is shown.
    from: u64,
    rows: VecDeque<EventRow>,
    context: Context,
    /// Newest event with its number, even if it does not pass the filter.
    last: Option<(u64, Event)>,
}

impl Tail {
    /// Keeps rows of the events that follow those of the engine.
    pub fn new(filter: Filter, from: u64, engine: &Engine) -> Tail {
        let mut context = Context::default();
        for task in engine.tasks() {
            context.take(&News::Comm(task.tid, task.comm.into()));
        }
        for (lock, owner) in engine.owners() {
            context.take(&News::Owner(lock, owner));
        }
        Tail { filter, from, rows: VecDeque::with_capacity(TAIL_MAX), context, last: None }
    }

    /// Row of the newest event; if it passes the filter, as it is shown.
    fn last(&self) -> Option<EventRow> {
        let (number, event) = self.last.as_ref()?;
        let shown = self.rows.back().filter(|row| row.number == *number);
        Some(shown.cloned().unwrap_or_else(|| self.context.row(*number, event)))
    }

    fn note(&mut self, event: &Event, engine: &Engine) {
        let number = engine.events() + 1;
        self.last = Some((number, *event));
        if number < self.from {
            self.context.learn(event);
        } else if let Some(row) = self.context.pick(number, event, &self.filter) {
            if self.rows.len() == TAIL_MAX {
                self.rows.pop_front();
            }
            self.rows.push_back(row);
        }
    }
}
