//! Events as a person looks at them: one row each, and which of them are wanted.
//!
//! Decides what goes with an event. Used by the dashboard's tail of a run and by searches in what was recorded
//! ([`crate::library`]), so that both find and show the same: what a filter's words mean ([`filter`]), how an event reads
//! ([`words`]), and what is known of its task and lock from earlier ones ([`told`]).

pub mod filter;
pub mod told;
pub mod words;

use std::sync::Arc;

use observer_engine::{
    event::{Body, Event, Mode},
    lock_class::LockClass,
};

pub use self::{
    filter::Filter,
    told::Told,
    words::{Words, trace_line, words},
};

/// One event with what is known of its task and its lock.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// Which event of the run in its order, from 1; 0: not known.
    pub number: u64,
    pub event: Event,
    /// Command name of its task; empty: not told.
    pub comm: Arc<str>,
    /// mm, address_space, inode or table that its lock belongs to; 0: no lock, or not told.
    pub owner: u64,
}

/// The lock that an event is about, folio locks included, and the mode where it tells one.
fn lock_of(body: &Body) -> Option<(LockClass, u64, Option<Mode>)> {
    let folio = |mapping, folio: u64| Some((LockClass::of_folio(mapping), folio, Some(Mode::Exclusive)));
    match *body {
        Body::Lock { class, mode, lock, .. } => Some((class.into(), lock.0, mode)),
        Body::LockName { class, lock, .. } | Body::LockForget { class, lock } => {
            Some((class.into(), lock.0, None))
        }
        Body::FolioAsk { mapping, folio: page, .. }
        | Body::FolioHeld { folio: page, mapping, .. }
        | Body::FolioRelease { folio: page, mapping, .. }
        | Body::FolioWait { folio: page, mapping, .. } => folio(mapping, page.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
