//! Page tables: lifetimes, links, generations.
//!
//! This module decides when a table is allocated and freed, which upper-level entries point to it, and which records
//! are about the same unlink. It does not know tasks' leases.

use std::collections::VecDeque;

use crate::{
    event::{Addr, Mapping, Mm, Table, Tid},
    fx::FxMap,
    loss::Span,
    table_event::{TableEvent, TableStep},
    view::{LinkView, TableView},
};

/// Number of dead tables that views still show, and whose last unlinks are still recognised.
const DEAD_KEPT: usize = 1024;
/// Number of events kept per address.
const HISTORY_KEPT: usize = 16;
/// Number of removed links remembered per table.
const REMOVED_KEPT: usize = 64;

/// One generation of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation {
    pub table: Table,
    pub generation: u32,
    pub birth_ns: u64,
}

/// One link: an upper-level entry that points to a generation of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId {
    pub mm: Mm,
    pub gib: Addr,
    pub table: Table,
    pub generation: u32,
}

/// A freed table, with its former links.
#[derive(Clone, Debug)]
pub(crate) struct Died {
    pub at_ns: u64,
    pub links: Vec<LinkId>,
}

/// A live or a removed link.
#[derive(Clone, Copy, Debug)]
struct Link {
    mm: Mm,
    gib: Addr,
    since_ns: u64,
    /// Time of the unlink, and the task that did it.
    removed: Option<(u64, Tid)>,
}

/// One page-table page.
#[derive(Clone, Debug)]
pub(crate) struct PageTable {
    pub generation: u32,
    pub birth_ns: u64,
    birth_seen: bool,
    last_ns: u64,
    alive: bool,
    links: Vec<Link>,
    pub lookups: u64,
    shares: u64,
    unshares: u64,
    sharers_max: usize,
    pub mapping: Mapping,
    history: VecDeque<TableEvent>,
}

/// Result of comparing a reported unlink with the known ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// The link is removed now.
    New,
    /// This unlink was already reported, with its moment.
    Known,
}

/// The known tables, by address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tables {
    by_address: FxMap<Table, PageTable>,
    dead: VecDeque<(Table, u32)>,
    died: Vec<Died>,
    /// Highest generation of a forgotten table: a new table must get a higher one.
    forgotten_generation: u32,
    alive: usize,
    pub missed_frees: u64,
}

impl PageTable {
    #[inline]
    fn link(&mut self, mm: Mm, gib: Addr, now_ns: u64, what: TableStep, tid: Tid) {
        let new = Link { mm, gib, since_ns: now_ns, removed: None };
        match self.links.iter_mut().find(|l| l.mm == mm && l.gib == gib) {
            Some(link) if link.removed.is_none() => return,
            Some(link) => *link = new,
            None => self.links.push(new),
        }
        let sharers = self.links.iter().filter(|l| l.removed.is_none()).count();
        self.sharers_max = self.sharers_max.max(sharers);
        self.happened(now_ns, what, mm, gib, tid);
    }

    fn happened(&mut self, time_ns: u64, what: TableStep, mm: Mm, gib: Addr, tid: Tid) {
        if self.history.len() == HISTORY_KEPT {
            self.history.pop_front();
        }
        let generation = self.generation;
        self.history.push_back(TableEvent { time_ns, generation, what, mm, gib, tid });
    }

    fn remove(&mut self, mm: Mm, gib: Addr, now_ns: u64, tid: Tid) {
        self.happened(now_ns, TableStep::Unshared, mm, gib, tid);
        if let Some(link) = self.links.iter_mut().find(|l| l.mm == mm && l.gib == gib) {
            link.removed = Some((now_ns, tid));
        }
        self.unshares += 1;
        if self.links.iter().filter(|l| l.removed.is_some()).count() > REMOVED_KEPT
            && let Some(oldest) = (0..self.links.len())
                .filter(|i| self.links[*i].removed.is_some())
                .min_by_key(|i| self.links[*i].removed)
        {
            self.links.remove(oldest);
        }
    }

    /// Live links of the table.
    pub fn live_links(&self) -> impl Iterator<Item = LinkView> + '_ {
        self.links.iter().filter(|l| l.removed.is_none()).map(|l| LinkView {
            mm: l.mm,
            gib: l.gib,
            since_ns: l.since_ns,
        })
    }
}

impl Tables {
    pub fn get(&self, table: Table) -> Option<&PageTable> {
        self.by_address.get(&table)
    }

    pub fn alive(&self) -> usize {
        self.alive
    }

    /// Returns the live table, which is created if it was not known or dead.
    #[inline]
    fn touch(&mut self, table: Table, now_ns: u64) -> &mut PageTable {
        let floor = self.forgotten_generation;
        let alive = &mut self.alive;
        let entry = self.by_address.entry(table).or_insert_with(|| PageTable {
            generation: floor,
            birth_ns: 0,
            birth_seen: false,
            last_ns: 0,
            alive: false,
            links: Vec::new(),
            lookups: 0,
            shares: 0,
            unshares: 0,
            sharers_max: 0,
            mapping: Mapping(0),
            history: VecDeque::new(),
        });
        if !entry.alive {
            *alive += 1;
            entry.alive = true;
            entry.generation += 1;
            entry.birth_ns = now_ns;
            entry.birth_seen = false;
            (entry.lookups, entry.shares, entry.unshares, entry.sharers_max) = (0, 0, 0, 0);
            entry.mapping = Mapping(0);
        }
        entry.last_ns = now_ns;
        entry
    }

    /// Records the allocation of a table with its first link.
    pub fn born(&mut self, mm: Mm, gib: Addr, table: Table, now_ns: u64, tid: Tid) {
        if self.get(table).is_some_and(|t| t.alive) {
            self.missed_frees += 1;
            self.die(table, Mm(0), now_ns, Tid(0));
        }
        let entry = self.touch(table, now_ns);
        entry.birth_seen = true;
        entry.link(mm, gib, now_ns, TableStep::Born, tid);
    }

    /// Records a lookup that returned a pointer into the table. Returns the table's generation.
    #[inline]
    pub fn looked_up(&mut self, mm: Mm, gib: Addr, table: Table, now_ns: u64, tid: Tid) -> Generation {
        let entry = self.touch(table, now_ns);
        entry.lookups += 1;
        entry.link(mm, gib, now_ns, TableStep::Seen, tid);
        Generation { table, generation: entry.generation, birth_ns: entry.birth_ns }
    }

    /// Records that a callback received a pointer into the table. Its link may already be removed: the lookup may have
    /// been a while ago.
    pub fn handed(&mut self, mm: Mm, gib: Addr, table: Table, now_ns: u64, tid: Tid) -> Generation {
        let entry = self.touch(table, now_ns);
        if !entry.links.iter().any(|l| l.mm == mm && l.gib == gib) {
            entry.link(mm, gib, now_ns, TableStep::Seen, tid);
        }
        Generation { table, generation: entry.generation, birth_ns: entry.birth_ns }
    }

    /// Returns the current generation of a table.
    pub fn generation(&self, table: Table) -> Option<Generation> {
        let of = |t: &PageTable| Generation { table, generation: t.generation, birth_ns: t.birth_ns };
        self.get(table).map(of)
    }

    /// Adds lookups that were counted but not sent.
    pub fn looked_up_again(&mut self, table: Table, times: u32) {
        if let Some(entry) = self.by_address.get_mut(&table) {
            entry.lookups += u64::from(times);
        }
    }

    pub fn shared(&mut self, mm: Mm, gib: Addr, table: Table, now_ns: u64, tid: Tid) -> Mapping {
        let entry = self.touch(table, now_ns);
        entry.shares += 1;
        entry.link(mm, gib, now_ns, TableStep::Shared, tid);
        entry.mapping
    }

    /// Assigns the table to a file.
    pub fn belongs(&mut self, table: Table, mapping: Mapping) {
        if let Some(entry) = self.by_address.get_mut(&table) {
            entry.mapping = mapping;
        }
    }

    /// The table's last events, oldest first.
    pub fn history(&self, table: Table) -> Vec<TableEvent> {
        self.get(table).map(|t| t.history.iter().copied().collect()).unwrap_or_default()
    }

    /// Returns a table that was freed since the last calls, or `None`.
    pub fn take_died(&mut self) -> Option<Died> {
        self.died.pop()
    }

    /// Records an unlink at `now_ns`.
    pub fn unshared(&mut self, mm: Mm, gib: Addr, table: Table, now_ns: u64, tid: Tid) {
        let entry = self.touch(table, now_ns);
        if !entry.links.iter().any(|l| l.mm == mm && l.gib == gib && l.removed.is_none()) {
            // The link was not known; its unlink shows that it existed.
            entry.links.retain(|l| (l.mm, l.gib) != (mm, gib));
            entry.links.push(Link { mm, gib, since_ns: now_ns, removed: None });
        }
        entry.remove(mm, gib, now_ns, tid);
    }

    /// Records an unlink between two times. An unlink with a known moment in that interval is the same one.
    pub fn unlinked(&mut self, mm: Mm, gib: Addr, table: Table, span: Span, tid: Tid) -> Removal {
        // A table that was freed meanwhile is only read, not created again.
        let entry = self.get(table);
        let is_it =
            |l: &Link| l.mm == mm && l.gib == gib && l.removed.is_some_and(|(at, _)| span.contains(at));
        if entry.is_some_and(|t| t.links.iter().any(is_it)) {
            return Removal::Known;
        }
        if entry.is_none_or(|t| t.alive) {
            self.unshared(mm, gib, table, span.to_ns, tid);
        }
        Removal::New
    }

    /// Records the free of the page. Returns the links that still exist.
    pub fn freed(&mut self, mm: Mm, table: Table, now_ns: u64, tid: Tid) -> Vec<LinkView> {
        let Some(entry) = self.by_address.get_mut(&table) else { return Vec::new() };
        entry.last_ns = now_ns;
        for link in entry.links.iter_mut().filter(|l| l.mm == mm && l.removed.is_none()) {
            link.removed = Some((now_ns, tid));
        }
        let mut left: Vec<LinkView> = entry.live_links().collect();
        left.sort_unstable();
        self.die(table, mm, now_ns, tid);
        left
    }

    fn die(&mut self, table: Table, mm: Mm, now_ns: u64, tid: Tid) {
        let Some(entry) = self.by_address.get_mut(&table) else { return };
        if !entry.alive {
            return;
        }
        entry.alive = false;
        entry.last_ns = now_ns;
        self.alive -= 1;
        for link in entry.links.iter_mut().filter(|l| l.removed.is_none()) {
            link.removed = Some((now_ns, tid));
        }
        entry.happened(now_ns, TableStep::Freed, mm, Addr(0), tid);
        let generation = entry.generation;
        let links = entry.links.iter().map(|l| LinkId { mm: l.mm, gib: l.gib, table, generation }).collect();
        self.died.push(Died { at_ns: now_ns, links });
        self.dead.push_back((table, entry.generation));
        if self.dead.len() > DEAD_KEPT
            && let Some((old, generation)) = self.dead.pop_front()
            && self.by_address.get(&old).is_some_and(|t| !t.alive && t.generation == generation)
        {
            self.by_address.remove(&old);
            self.forgotten_generation = self.forgotten_generation.max(generation);
        }
    }

    /// Views of all tables, sorted by address.
    pub fn views(&self) -> Vec<TableView> {
        let mut views: Vec<TableView> = self
            .by_address
            .iter()
            .map(|(table, t)| {
                let mut links: Vec<LinkView> = t.live_links().collect();
                links.sort_unstable();
                TableView {
                    table: *table,
                    generation: t.generation,
                    birth_ns: t.birth_ns,
                    birth_seen: t.birth_seen,
                    last_ns: t.last_ns,
                    links,
                    lookups: t.lookups,
                    shares: t.shares,
                    unshares: t.unshares,
                    sharers_max: t.sharers_max,
                    mapping: t.mapping,
                    alive: t.alive,
                    history: t.history.iter().copied().collect(),
                }
            })
            .collect();
        views.sort_unstable_by_key(|v| v.table);
        views
    }
}
