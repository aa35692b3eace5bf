//! Lookups in the recording for pages: those answered, and those under way.
//!
//! Decides which lookups are repeated: never one that was answered completely. The last moments of a live run are looked up
//! again as soon as they can be read.

use std::sync::Arc;

use crate::events::Filter;
use crate::library::{self, Query};
use crate::snapshot::Snapshot;

/// Events that a page wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Title that says which events these are.
    pub title: String,
    pub from_ns: u64,
    pub to_ns: u64,
    /// Filter as a person would type it.
    pub filter: String,
    /// Moment that the look is about. The page begins there, and if there are too many events, those nearest to it are kept.
    pub around_ns: Option<u64>,
}

impl Look {
    /// A look at the whole run that was shown.
    #[must_use]
    pub fn through(s: &Snapshot, title: String, filter: String) -> Look {
        Look { title, from_ns: 0, to_ns: s.now_ns, filter, around_ns: None }
    }

    /// A look at a short time before and after a moment.
    #[must_use]
    pub fn around(s: &Snapshot, at_ns: u64, title: String, filter: String) -> Look {
        let from_ns = at_ns.saturating_sub(AROUND_NS).max(s.meta.start_ns);
        let to_ns = at_ns.saturating_add(AROUND_NS);
        Look { title, from_ns, to_ns, filter, around_ns: Some(at_ns) }
    }
}

/// Time around a moment in which events are shown, ns.
const AROUND_NS: u64 = 5_000_000;
/// Maximum number of rows of one page of events.
const ROWS: usize = 5000;
/// Event time after which a look at a running run is repeated, ns.
const AGAIN_NS: u64 = 1_000_000_000;
/// Maximum number of answers kept; these serve the pages on the way back.
const KEPT: usize = 16;

/// Progress of a look.
#[derive(Clone, Debug)]
pub enum Answer {
    Asked,
    Found(Arc<library::Page>),
    Failed(String),
}

/// Answers to all looks that are kept.
#[derive(Debug, Default)]
pub struct Answers {
    /// Looks with their answers, and the event time at which each was last asked for.
    known: Vec<(Look, Answer, u64)>,
}

impl Answers {
    #[must_use]
    pub fn get(&self, look: &Look) -> Option<&Answer> {
        self.known.iter().find(|(known, _, _)| same(known, look)).map(|(_, answer, _)| answer)
    }

    /// Events that were found; empty while the lookup runs.
    #[must_use]
    pub fn events(&self, look: &Look) -> &[crate::events::EventRow] {
        match self.get(look) {
            Some(Answer::Found(page)) => &page.events,
            _ => &[],
        }
    }

    /// Returns the query for a look that must be asked for now, or `None` if the answer is known or under way. `now_ns`:
    /// event time.
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
        // A look at the whole run shows its newest events.
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
