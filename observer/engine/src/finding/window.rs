//! A window: a lease that outlived the unlink of its link by another task.
//!
//! Reported for a lease that ended, or was in use, after another task unlinked the link that its lookup returned. The rank
//! says how far the evidence reaches: `possible` if the use may have ended before the unlink, `held` if it certainly did not,
//! `used` if the holder used the pointer after the unlink, `freed` if the table's page was freed meanwhile, `revalidated` if the
//! holder looked the pointer up again under the PTL first. Merged by lookup site, unlink site and rank: the first case and the
//! one with the longest certain use are kept.
//!
//! How to word it: the holder *looked up* a pte pointer and *held* it, the unlinker *unlinked* its table. Say "certain" and
//! "possible" of the time after the unlink, never "race" or "bug": the case shows an overlap, not damage.

use std::borrow::Cow;

use super::{About, Evidence, Kind, Party, Subject, TableEvent, task_name};
use crate::{
    event::{Addr, Mm, Pte, Table},
    setup::Role,
};

pub(super) const ABOUT: About = About {
    name: "window",
    is_of_tables: true,
    needs: &[Role::Operation, Role::Lookup, Role::Unshare, Role::Lock, Role::Ptl],
    fields: &["lookup", "unlink", "certain", "possible", "used", "table", "generation", "holder", "unlinker"],
};

/// Windows with the same pair of sites and the same rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub first: WindowCase,
    pub longest: WindowCase,
}

/// One occurrence of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowCase {
    /// The task that holds the lease; its time is that of the lookup.
    pub holder: Party,
    /// The task that removed the link; its time is `unlink_hi_ns`.
    pub unlinker: Party,
    /// The mm of the lookup, not always the holder's own.
    pub mm: Mm,
    pub addr: Addr,
    pub pte: Pte,
    pub table: Table,
    pub generation: u32,
    /// Time when the table was allocated, or first seen.
    pub table_birth_ns: u64,
    /// The unlink happened between these two times; they are equal if the moment is known.
    pub unlink_lo_ns: u64,
    pub unlink_hi_ns: u64,
    /// Nanoseconds after the unlink for which the pointer was certainly in use; 0: no certain part.
    pub certain_ns: u64,
    /// Nanoseconds after the unlink for which it may have been in use.
    pub possible_ns: u64,
    pub used: Use,
    /// Only for [`Use::Seen`]: the holder when it acquired the table's PTL after the unlink.
    pub at_use: Option<Box<Party>>,
    /// Time when the table's page was freed, if inside the window.
    pub freed_ns: Option<u64>,
    /// The table's events around the window, oldest first, up to the end of the lease.
    pub history: Vec<TableEvent>,
}

/// Use of the pointer after the unlink, by the holder of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// No use was seen.
    No,
    /// The holder was inside the callback that received the pointer.
    Contract,
    /// The holder acquired the table's PTL after the unlink, at this time.
    Seen(u64),
}

/// A window is about its longest case.
impl Subject for Window {
    fn kind(&self) -> Kind {
        Kind::Window
    }

    fn parties(&self) -> Vec<(Cow<'static, str>, &Party)> {
        self.longest.parties()
    }

    fn field(&self, key: &str) -> Option<String> {
        self.longest.field(key)
    }

    fn span_ns(&self) -> Option<(u64, u64)> {
        self.longest.span_ns()
    }

    fn accesses(&self) -> Option<(&Party, &Party)> {
        self.longest.accesses()
    }

    fn cases(&self) -> Vec<&WindowCase> {
        if self.first == self.longest { vec![&self.longest] } else { vec![&self.longest, &self.first] }
    }

    fn alone(&self) -> Option<Evidence> {
        let alone = || Window { first: self.longest.clone(), longest: self.longest.clone() };
        (self.first != self.longest).then(|| Evidence::Window(Box::new(alone())))
    }

    fn tables(&self) -> Vec<(Table, u32)> {
        self.cases().iter().flat_map(|c| c.tables()).collect()
    }
}

impl Subject for WindowCase {
    fn kind(&self) -> Kind {
        Kind::Window
    }

    /// The use of the pointer is a party of its own if the task was in another call by then.
    fn parties(&self) -> Vec<(Cow<'static, str>, &Party)> {
        let mut parties = vec![("holder".into(), &self.holder), ("unlinker".into(), &self.unlinker)];
        let at_use = self.at_use.as_deref().filter(|used| used.stack != self.holder.stack);
        parties.extend(at_use.map(|used| ("use".into(), used)));
        parties
    }

    fn field(&self, key: &str) -> Option<String> {
        Some(match key {
            "lookup" => self.holder.site.to_string(),
            "unlink" => self.unlinker.site.to_string(),
            "certain" => self.certain_ns.to_string(),
            "possible" => self.possible_ns.to_string(),
            "used" => match self.used {
                Use::No => "no".into(),
                Use::Contract => "contract".into(),
                Use::Seen(_) => "seen".into(),
            },
            "table" => self.table.to_string(),
            "generation" => self.generation.to_string(),
            "holder" => task_name(&self.holder),
            "unlinker" => task_name(&self.unlinker),
            _ => return None,
        })
    }

    /// The span reaches from the lookup to the end of the possible use.
    fn span_ns(&self) -> Option<(u64, u64)> {
        let times = || self.parties().into_iter().map(|(_, party)| party.time_ns);
        let end_ns = (self.unlink_hi_ns + self.certain_ns).max(self.unlink_lo_ns + self.possible_ns);
        Some((times().min()?, times().max()?.max(end_ns)))
    }

    fn accesses(&self) -> Option<(&Party, &Party)> {
        Some((&self.holder, &self.unlinker))
    }

    fn tables(&self) -> Vec<(Table, u32)> {
        vec![(self.table, self.generation)]
    }
}
