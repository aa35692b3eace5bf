//! Targets: what a row or a link leads to. A page's target is also the identity of the row that opens it.
//!
//! Decides what identifies a page, and its title. `page` has what there is to read on it.

use observer_engine::{
    event::{Mapping, Mode, Pte, Table, Tid},
    finding::AcquireKind,
    lock_class::LockClass,
    setup::Role,
    view::EdgeView,
};

use super::answers::Look;
use super::names::mapping_name;
use crate::events::EventRow;
use crate::sink::words::lock;
use crate::text::number;

/// A page. Its content follows the run.
#[derive(Clone, Debug, PartialEq)]
pub enum Page {
    /// A finding, by its id.
    Finding(String),
    /// The lease of a window: of its first or its longest case.
    Lease(String, Case),
    Stacks(String),
    /// A pointer that is in use now.
    Pointer(Tid, Pte),
    Table(Table, u32),
    Mapping(Mapping),
    Edge(EdgeKey),
    /// Edges between two classes, in any modes.
    Classes(LockClass, LockClass),
    /// Locks at the lookups or unlinks of a site.
    Site(&'static str, String),
    Role(Role, String),
    /// Events from the recording.
    Events(Look),
    Event(Box<EventRow>),
}

/// One case of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    First,
    Longest,
}

/// Key of a lock order edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeKey {
    from: (LockClass, Option<Mode>),
    to: (LockClass, Option<Mode>),
    acquire: AcquireKind,
}

impl EdgeKey {
    #[must_use]
    pub fn of(e: &EdgeView) -> EdgeKey {
        EdgeKey { from: (e.from, e.from_mode), to: (e.to, e.to_mode), acquire: e.acquire }
    }

    #[must_use]
    pub fn is(&self, e: &EdgeView) -> bool {
        *self == EdgeKey::of(e)
    }

    /// Names of the two locks, as in every view.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} -> {}", lock(self.from.0, self.from.1), lock(self.to.0, self.to.1))
    }
}

/// Target of a link.
#[derive(Clone, Debug, PartialEq)]
pub enum Go {
    Page(Page),
    /// An event time of the recording to seek to.
    Seek(u64),
}

impl Page {
    /// Title for the line above the page.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Page::Finding(_) => "finding".into(),
            Page::Lease(..) => "lease".into(),
            Page::Stacks(_) => "stacks".into(),
            Page::Pointer(_, pte) => format!("pointer {pte}"),
            Page::Table(table, _) => format!("table {table}"),
            Page::Mapping(mapping) => format!("file {}", mapping_name(*mapping)),
            Page::Edge(key) => key.name(),
            Page::Classes(from, to) => format!("{} -> {}", from.name(), to.name()),
            Page::Site(what, site) => format!("{what} {site}"),
            Page::Role(role, part) if part.is_empty() => format!("role {}", role.name()),
            Page::Role(role, part) => format!("role {}: {part}", role.name()),
            Page::Events(look) => format!("events {}", look.title),
            Page::Event(row) => format!("event {}", number(row.number)),
        }
    }

    /// Finding that the page is about.
    #[must_use]
    pub fn finding(&self) -> Option<&str> {
        match self {
            Page::Finding(id) | Page::Lease(id, _) | Page::Stacks(id) => Some(id),
            _ => None,
        }
    }

    /// Case of the window that the page shows.
    #[must_use]
    pub fn case(&self) -> Case {
        if let Page::Lease(_, case) = self { *case } else { Case::Longest }
    }
}
