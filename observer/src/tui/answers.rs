//! What was looked up in the recording for pages, and what is being looked up.
//!
//! Decides what is asked again: nothing that was answered whole, and a live run's last moments once they can be read.

use std::sync::Arc;

use crate::events::Filter;
use crate::library::{self, Query};

/// Events that a page wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Which events, in words.
    pub title: String,
    pub from_ns: u64,
    pub to_ns: u64,
    /// As one would type it.
    pub filter: String,
}

/// Rows of one page of events at most.
const ROWS: usize = 5000;
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
    known: Vec<(Look, Answer)>,
}

impl Answers {
    #[must_use]
    pub fn get(&self, look: &Look) -> Option<&Answer> {
        self.known.iter().find(|(known, _)| same(known, look)).map(|(_, answer)| answer)
    }

    /// Events that were found; none while they are being looked up.
    #[must_use]
    pub fn events(&self, look: &Look) -> &[crate::events::EventRow] {
        match self.get(look) {
            Some(Answer::Found(page)) => &page.events,
            _ => &[],
        }
    }

    /// The query for a look that has to be asked for now; `None`: it was.
    pub fn ask(&mut self, look: &Look, filter: Filter) -> Option<Query> {
        let ask_again = match self.get(look) {
            None => true,
            Some(Answer::Found(page)) => page.read_until_ns < look.to_ns && !page.more,
            Some(_) => false,
        };
        if !ask_again {
            return None;
        }
        if self.get(look).is_none() {
            self.put(look, Answer::Asked);
        }
        Some(Query { from_ns: look.from_ns, to_ns: look.to_ns, filter, limit: ROWS })
    }

    pub fn put(&mut self, look: &Look, answer: Answer) {
        self.known.retain(|(known, _)| !same(known, look));
        self.known.push((look.clone(), answer));
        if self.known.len() > KEPT {
            self.known.remove(0);
        }
    }
}

fn same(a: &Look, b: &Look) -> bool {
    (a.from_ns, a.to_ns, &a.filter) == (b.from_ns, b.to_ns, &b.filter)
}
