//! Events in the life of a page table, as findings and views show them.

use crate::event::{Addr, Mm, Tid};

/// One event of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEvent {
    pub time_ns: u64,
    /// Generation of the table at this address.
    pub generation: u32,
    pub what: TableStep,
    /// The link's mm and GiB.
    pub mm: Mm,
    pub gib: Addr,
    /// Task that caused it; 0 if not known.
    pub tid: Tid,
}

/// Kind of a table's event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableStep {
    /// Allocated, with its first link.
    Born,
    /// Linked by sharing.
    Shared,
    /// A lookup used a link that was not known before.
    Seen,
    /// A link was removed.
    Unshared,
    /// The table's page was freed.
    Freed,
}

impl TableStep {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TableStep::Born => "born",
            TableStep::Shared => "shared",
            TableStep::Seen => "seen",
            TableStep::Unshared => "unshared",
            TableStep::Freed => "freed",
        }
    }
}
