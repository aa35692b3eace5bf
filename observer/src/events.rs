//! Events as a person looks at them: one row each, and a filter that selects them.
//!
//! Decides which context an event's row has. The dashboard's tail of a run and searches in a recording ([`crate::library`])
//! both use it, so that both find and show the same. Modules: [`filter`], the meaning of a filter's words; [`words`], how an
//! event reads; [`context`], the names and owners that earlier events give
//! its task and lock.

pub mod context;
pub mod filter;
pub mod words;

use std::sync::Arc;

use observer_engine::{
    event::{Body, Event, Mode},
    lock_class::LockClass,
};

pub use self::{
    context::Context,
    filter::Filter,
    words::{Words, trace_line, words},
};

/// One event with the known context of its task and its lock.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// Number of the event in the run's order, from 1; 0 if not known.
    pub number: u64,
    pub event: Event,
    /// Command name of its task; empty if not known.
    pub comm: Arc<str>,
    /// mm, address_space, inode or table that its lock belongs to; 0 if there is no lock, or it is not known.
    pub owner: u64,
}

/// The lock that an event is about, including folio locks, and its mode if the event has one.
fn lock_of(body: &Body) -> Option<(LockClass, u64, Option<Mode>)> {
    let folio = |mapping, folio: u64| Some((LockClass::of_folio(mapping), folio, Some(Mode::Exclusive)));
    match *body {
        Body::Lock { class, mode, lock, .. } => Some((class.into(), lock.0, mode)),
        Body::LockName { class, lock, .. } | Body::LockForget { class, lock } => {
            Some((class.into(), lock.0, None))
        }
        Body::FolioRequest { mapping, folio: page, .. }
        | Body::FolioHeld { folio: page, mapping, .. }
        | Body::FolioRelease { folio: page, mapping, .. }
        | Body::FolioWait { folio: page, mapping, .. } => folio(mapping, page.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
