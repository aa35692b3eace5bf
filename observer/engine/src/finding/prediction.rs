//! A prediction: a lookup and an unlink of one link by two tasks that nothing excludes, whether or not they met.
//!
//! Reported for a pair of sites without a window as bad: no lock of one party excludes a lock of the other in every phase of the
//! lease, no contract of the lookup site does, and both tasks existed at both moments. The order of the two accesses excludes
//! nothing. Merged by lookup site, unlink site and rank; one witness of each access is kept.
//!
//! How to word it: nothing happened in this run. Say under which locks the lookup and the unlink ran, which lock would have
//! excluded them, and that their order is chance; never that a window was seen.

use std::borrow::Cow;

use super::{About, Hold, Kind, Party, Subject, task_name};
use crate::{
    event::{Addr, Mm, Mode, Table},
    lock_class::LockClass,
    setup::Role,
};

pub(super) const ABOUT: About = About {
    name: "prediction",
    is_of_tables: true,
    needs: &[Role::Operation, Role::Lookup, Role::Unshare, Role::Lock, Role::Ptl],
    fields: &["lookup", "unlink", "missing", "lacks", "holder", "unlinker", "leases", "unlinks"],
};

/// A window that did not happen, but that nothing excludes; one per pair of sites and rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// A task that looked the link up; its holds are those that lasted through the unprotected part of the lease.
    pub holder: Party,
    /// A task that removed the link.
    pub unlinker: Party,
    pub mm: Mm,
    /// GiB of the link that both accessed.
    pub gib: Addr,
    pub table: Table,
    pub generation: u32,
    pub leases: u64,
    pub unlinks: u64,
    /// Locks that every unlink held exclusively: a lookup under the same lock would have been excluded.
    pub would_exclude: Vec<LockClass>,
    /// Locks that every lease held and that exclude other unlinks, but that no unlink here held.
    pub unlinker_lacks: Vec<LockClass>,
}

impl Prediction {
    /// Returns a lock that both parties hold, at the same address and in modes that exclude each other. Lost records
    /// may show that it was another lock at that address, or that it was released in between. `None`
    /// without loss: such a pair would not be a finding.
    #[must_use]
    pub fn doubtful_lock(&self) -> Option<&Hold> {
        let excludes = |a: &Hold, b: &Hold| {
            (a.lock, a.class) == (b.lock, b.class) && (a.mode, b.mode) != (Some(Mode::Read), Some(Mode::Read))
        };
        self.holder.holds.iter().find(|a| self.unlinker.holds.iter().any(|b| excludes(a, b)))
    }
}

impl Subject for Prediction {
    fn kind(&self) -> Kind {
        Kind::Prediction
    }

    fn parties(&self) -> Vec<(Cow<'static, str>, &Party)> {
        vec![("holder".into(), &self.holder), ("unlinker".into(), &self.unlinker)]
    }

    fn field(&self, key: &str) -> Option<String> {
        Some(match key {
            "lookup" => self.holder.site.to_string(),
            "unlink" => self.unlinker.site.to_string(),
            "missing" => names(&self.would_exclude),
            "lacks" => names(&self.unlinker_lacks),
            "holder" => task_name(&self.holder),
            "unlinker" => task_name(&self.unlinker),
            "leases" => self.leases.to_string(),
            "unlinks" => self.unlinks.to_string(),
            _ => return None,
        })
    }

    fn accesses(&self) -> Option<(&Party, &Party)> {
        Some((&self.holder, &self.unlinker))
    }

    fn tables(&self) -> Vec<(Table, u32)> {
        vec![(self.table, self.generation)]
    }
}

fn names(classes: &[LockClass]) -> String {
    if classes.is_empty() {
        return "none".to_owned();
    }
    classes.iter().map(|c| c.name()).collect::<Vec<_>>().join(",")
}
