//! What was looked up in the recording for pages, and what is being looked up.
//!
//! Decides what is asked again: nothing that was answered whole, and a live run's last moments once they can be read.

use std::sync::Arc;

use crate::events::Filter;
use crate::library::{self, Query};
use crate::snapshot::Snapshot;

/// Events that a page wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Which events, in words.
    pub title: String,
    pub from_ns: u64,
    pub to_ns: u64,
    /// As one would type it.
    pub filter: String,
    /// The moment that it is about: where the page begins, and what is near to it counts if there is too much.
    pub around_ns: Option<u64>,
}

impl Look {
    /// Through all of the run that was shown.
    #[must_use]
    pub fn through(s: &Snapshot, title: String, filter: String) -> Look {
        Look { title, from_ns: 0, to_ns: s.now_ns, filter, around_ns: None }
    }

    /// A little before a moment and a little after it.
    #[must_use]
    pub fn around(s: &Snapshot, at_ns: u64, title: String, filter: String) -> Look {
        let from_ns = at_ns.saturating_sub(AROUND_NS).max(s.meta.start_ns);
        Look { title, from_ns, to_ns: at_ns + AROUND_NS, filter, around_ns: Some(at_ns) }
    }
}

/// Time around a moment in which events are shown.
const AROUND_NS: u64 = 5_000_000;
/// Rows of one page of events at most.
const ROWS: usize = 5000;
/// A run that goes on is asked again after so much of it.
const AGAIN_NS: u64 = 1_000_000_000;
/// Answers kept: those of the pages on the way back.
const KEPT: usize = 16;

/// How far a look has come.
#[derive(Clone, Debug)]
pub enum Answer {
    Asked,
    Found(Arc<library::Page>),
    Failed(String),
}

/// All of them.
#[derive(Debug, Default)]
pub struct Answers {
    /// With the event time at which each was asked for last.
    known: Vec<(Look, Answer, u64)>,
}

impl Answers {
    #[must_use]
    pub fn get(&self, look: &Look) -> Option<&Answer> {
        self.known.iter().find(|(known, _, _)| same(known, look)).map(|(_, answer, _)| answer)
    }

    /// Events that were found; none while they are being looked up.
    #[must_use]
    pub fn events(&self, look: &Look) -> &[crate::events::EventRow] {
        match self.get(look) {
            Some(Answer::Found(page)) => &page.events,
            _ => &[],
        }
    }

    /// The query for a look that has to be asked for now; `None`: it was. `now_ns`: event time.
    pub fn ask(&mut self, look: &Look, filter: Filter, now_ns: u64) -> Option<Query> {
        let asked_ns = self.known.iter().find(|(known, _, _)| same(known, look)).map(|(_, _, at)| *at);
        let later = asked_ns.is_none_or(|at| now_ns.abs_diff(at) >= AGAIN_NS);
        let ask = match self.get(look) {
            None => true,
            Some(Answer::Found(page)) => later && page.read_until_ns < look.to_ns && !page.more,
            Some(_) => false,
        };
        if !ask {
            return None;
        }
        match self.known.iter_mut().find(|(known, _, _)| same(known, look)) {
            Some((_, _, at)) => *at = now_ns,
            None => self.add(look, Answer::Asked, now_ns),
        }
        // Of a run as a whole the newest are what one wants to see.
        let around_ns = look.around_ns.unwrap_or(u64::MAX);
        Some(Query { from_ns: look.from_ns, to_ns: look.to_ns, filter, limit: ROWS, around_ns })
    }

    pub fn put(&mut self, look: &Look, answer: Answer) {
        match self.known.iter_mut().find(|(known, _, _)| same(known, look)) {
            Some((_, known, _)) => *known = answer,
            None => self.add(look, answer, 0),
        }
    }

    fn add(&mut self, look: &Look, answer: Answer, now_ns: u64) {
        self.known.push((look.clone(), answer, now_ns));
        if self.known.len() > KEPT {
            self.known.remove(0);
        }
    }
}

fn same(a: &Look, b: &Look) -> bool {
    let key = |l: &Look| (l.from_ns, l.to_ns, l.around_ns);
    key(a) == key(b) && a.filter == b.filter
}
