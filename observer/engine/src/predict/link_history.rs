//! Link histories: lookups and unlinks of each link, with their tasks and locks.
//!
//! This module decides how much is kept. The bound is what exists: a link's history is dropped with its table or its
//! mm. Accesses are distinguished by site and by the link's locks. Locks of single pages are variants of an access
//! ([`super::pending::Variant`]). Tasks that exited make room first, because nothing later can combine with them. If
//! anything else makes room, that is recorded, and a verdict that it could have changed is incomplete.

use std::collections::BTreeMap;

use super::{
    Context, Verdict,
    pending::{Access, AccessKey, AccessKind, Actor, VARIANTS, Variant, is_less},
    report::Protection,
};
use crate::{
    event::{Addr, Mm, SiteId, Table},
    finding::Hold,
    holds::{Key, TaskId},
    protection::PHASES_MAX,
    tables::LinkId,
};

/// Maximum number of lookups, and of unlinks, kept per link; one bit each in `LinkAccess::settled`.
const ACCESSES_MAX: usize = 64;
/// Maximum number of walks kept per mm.
const WALKS_MAX: usize = 256;
/// Maximum number of tasks kept per access.
const SEEN_MAX: usize = 24;

/// A task that made an access, with times and locks of single pages: its last access without another task added or
/// removed.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub serial: u64,
    pub id: TaskId,
    pub born_ns: u64,
    /// The fork of the task was seen.
    pub is_made: bool,
    pub first_ns: u64,
    pub last_ns: u64,
    pub variants: Vec<Variant>,
}

impl Seen {
    /// Returns true if this access covers an old one of the same task, as far as variants are distinguished.
    fn replaces(&self, old: &Seen) -> bool {
        let is_known = |old: &Variant| self.variants.iter().any(|new| is_less(new, old));
        self.variants.len() == VARIANTS || old.variants.iter().all(is_known)
    }
}

/// The earliest of several equal accesses.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    pub actor: Actor,
    pub holds: Vec<Hold>,
}

/// Equal accesses to a link, by one or more tasks.
#[derive(Clone, Debug)]
pub(crate) struct LinkAccess {
    pub mm: Mm,
    pub site: SiteId,
    pub kind: AccessKind,
    pub sure: bool,
    pub in_mm: bool,
    /// Every lock that was held is known.
    pub whole: bool,
    /// Locks of the link, by phase.
    pub phases: Vec<Box<[Key]>>,
    pub seen: Vec<Seen>,
    /// Not all tasks are kept.
    pub is_cut: bool,
    /// Not all variants are kept.
    pub variants_cut: bool,
    pub count: u64,
    actor: Actor,
    /// Predicted windows that contain this access.
    pub pairs: Vec<super::PairKey>,
    /// Unlinks with which further comparisons cannot change anything, one bit each.
    settled: u64,
}

impl LinkAccess {
    fn new(access: &Access) -> LinkAccess {
        let AccessKey { site, kind, sure, in_mm, whole, .. } = access.key;
        LinkAccess {
            mm: access.key.mm,
            site,
            kind,
            sure,
            in_mm,
            whole,
            phases: access.phases.iter().map(|p| p.clone().into_boxed_slice()).collect(),
            seen: Vec::new(),
            is_cut: false,
            variants_cut: false,
            count: 0,
            actor: access.actor,
            pairs: Vec::new(),
            settled: 0,
        }
    }

    fn is(&self, access: &Access) -> bool {
        let AccessKey { site, kind, sure, in_mm, whole, .. } = access.key;
        (self.site, self.kind, self.sure, self.in_mm, self.whole) == (site, kind, sure, in_mm, whole)
            && self.phases.len() == access.phases.len()
            && self.phases.iter().zip(&access.phases).all(|(a, b)| **a == **b)
    }

    /// Adds an occurrence. `is_gone` returns true for a task that nothing later can combine with.
    fn add(&mut self, access: &Access, is_gone: impl Fn(&Seen) -> bool) {
        self.count += access.count;
        self.variants_cut |= access.is_cut;
        let Actor { serial, id, born_ns, is_made, .. } = access.actor;
        if (access.actor.time_ns, serial) < (self.actor.time_ns, self.actor.serial) {
            self.actor = access.actor;
        }
        let (first_ns, last_ns) = (access.first_ns, access.last_ns);
        let seen =
            Seen { serial, id, born_ns, is_made, first_ns, last_ns, variants: access.variants.clone() };
        if let Some(known) = self.seen.iter_mut().find(|s| s.serial == serial && seen.replaces(s)) {
            if known.last_ns < last_ns {
                *known = seen;
            }
            return;
        }
        if self.seen.len() < SEEN_MAX {
            self.seen.push(seen);
            return;
        }
        let age = |s: &Seen| (!is_gone(s), s.last_ns, s.serial);
        if let Some(oldest) = self.seen.iter_mut().min_by_key(|s| age(s)) {
            self.is_cut |= !is_gone(oldest);
            *oldest = seen;
        }
    }

    /// Adds another access of this site. Afterwards an access of the other kind is excluded only if it is excluded from
    /// each of them: the phases are those of both, or the locks that all of them have in common.
    fn absorb(&mut self, other: LinkAccess) {
        use AccessKind::{Lease, Unlink};
        self.kind = match (self.kind, other.kind) {
            (Lease { certain: a, revalidated: b }, Lease { certain: c, revalidated: d }) => {
                Lease { certain: a || c, revalidated: b && d }
            }
            (Unlink { last_user: a }, Unlink { last_user: b }) => Unlink { last_user: a && b },
            (kind, _) => kind,
        };
        // A task of one of them may not have held what another held.
        self.sure = false;
        self.in_mm &= other.in_mm;
        self.whole &= other.whole;
        for phase in other.phases {
            if !self.phases.contains(&phase) {
                self.phases.push(phase);
            }
        }
        if self.phases.len() > PHASES_MAX || matches!(self.kind, Unlink { .. }) {
            let (first, others) = self.phases.split_at(1);
            let in_all = |key: &&Key| others.iter().all(|phase| phase.contains(key));
            self.phases = vec![first[0].iter().filter(in_all).copied().collect()];
        }
        self.seen.extend(other.seen);
        self.seen.sort_by_key(|seen| (std::cmp::Reverse(seen.last_ns), seen.serial));
        self.seen.truncate(SEEN_MAX);
        // Locks of pages do not count for any of them.
        let none: Variant = vec![Vec::new(); self.phases.len()].into();
        self.seen.iter_mut().for_each(|seen| seen.variants = vec![none.clone()]);
        self.count += other.count;
        self.pairs.extend(other.pairs);
        self.settled = 0;
    }

    pub fn last_ns(&self) -> u64 {
        self.seen.iter().map(|s| s.last_ns).max().unwrap_or(0)
    }

    /// Returns the evidence for a finding. `page_locks` are those of the reported case.
    pub fn witness(&self, phase: usize, page_locks: &[Key]) -> Witness {
        let holds = self.phases[phase].iter().chain(page_locks).map(|k| k.shown()).collect();
        Witness { actor: self.actor, holds }
    }
}

/// History of one link: lookups and unlinks.
#[derive(Clone, Debug, Default)]
struct LinkHistory {
    leases: Vec<LinkAccess>,
    unlinks: Vec<LinkAccess>,
    /// Number of leases by site.
    by_site: Vec<(SiteId, u64)>,
    /// Dropped lookups and dropped unlinks whose tasks may still exist; one per site represents the others.
    rest: [Vec<LinkAccess>; 2],
}

/// A walk is an access to all links of a range.
#[derive(Clone, Debug)]
struct Walk {
    from: Addr,
    to: Addr,
    entry: LinkAccess,
}

/// Histories of all links of one mm.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkHistories {
    links: BTreeMap<LinkId, LinkHistory>,
    walks: Vec<Walk>,
}

/// Returns the index of the entry for an access, and true if it replaced another entry.
fn place(
    entries: &mut Vec<LinkAccess>,
    rest: &mut Vec<LinkAccess>,
    access: &Access,
    is_gone: impl Fn(&Seen) -> bool,
) -> (usize, bool) {
    if let Some(at) = entries.iter().position(|s| s.is(access)) {
        return (at, false);
    }
    if entries.len() < ACCESSES_MAX {
        entries.push(LinkAccess::new(access));
        return (entries.len() - 1, false);
    }
    let is_over = |entry: &LinkAccess| !entry.is_cut && entry.seen.iter().all(&is_gone);
    let age = |i: &usize| (!is_over(&entries[*i]), entries[*i].last_ns(), *i);
    let oldest = (0..entries.len()).min_by_key(age).unwrap_or(0);
    let old = std::mem::replace(&mut entries[oldest], LinkAccess::new(access));
    if !is_over(&old) {
        match rest.iter_mut().find(|all| all.site == old.site) {
            Some(all) => all.absorb(old),
            None => rest.push(LinkAccess { is_cut: true, ..old }),
        }
    }
    (oldest, true)
}

/// Updates the predicted windows that already contain this access.
fn count(context: &mut Context, entry: &LinkAccess, access: &Access) {
    for key in &entry.pairs {
        if let Some(pair) = context.pairs.get_mut(key) {
            match access.key.kind {
                AccessKind::Lease { .. } => pair.leases += access.count,
                AccessKind::Unlink { .. } => pair.unlinks += access.count,
            }
            pair.last_ns = pair.last_ns.max(access.last_ns);
        }
    }
}

impl LinkHistory {
    fn lease(&mut self, context: &mut Context, id: LinkId, access: &Access) {
        match self.by_site.iter_mut().find(|(site, _)| *site == access.key.site) {
            Some((_, n)) => *n += access.count,
            None => self.by_site.push((access.key.site, access.count)),
        }
        let [rest, unlinks_rest] = &mut self.rest;
        let (at, _) = place(&mut self.leases, rest, access, |seen| context.is_gone(seen));
        let entry = &mut self.leases[at];
        entry.add(access, |seen| context.is_gone(seen));
        count(context, entry, access);
        for (i, unlink) in self.unlinks.iter_mut().enumerate() {
            if entry.settled & 1_u64 << i == 0 && context.judge(id, entry, unlink) == Verdict::Settled {
                entry.settled |= 1_u64 << i;
            }
        }
        for unlink in unlinks_rest {
            context.judge(id, entry, unlink);
        }
    }

    fn unlink(&mut self, context: &mut Context, id: LinkId, access: &Access) {
        let [leases_rest, rest] = &mut self.rest;
        let (at, is_others) = place(&mut self.unlinks, rest, access, |seen| context.is_gone(seen));
        if is_others {
            self.leases.iter_mut().for_each(|s| s.settled &= !(1_u64 << at));
        }
        let entry = &mut self.unlinks[at];
        entry.add(access, |seen| context.is_gone(seen));
        count(context, entry, access);
        for lease in &mut self.leases {
            if lease.settled & 1_u64 << at == 0 && context.judge(id, lease, entry) == Verdict::Settled {
                lease.settled |= 1_u64 << at;
            }
        }
        for lease in leases_rest {
            context.judge(id, lease, entry);
        }
    }

    fn add_unlinked(&self, protection: &mut Protection) {
        if !self.unlinks.is_empty() {
            for (site, leases) in &self.by_site {
                protection.on_unlinked(*site, *leases);
            }
        }
    }
}

impl LinkHistories {
    pub fn take(&mut self, context: &mut Context, access: &Access) {
        let link = |(table, generation): (Table, u32)| LinkId {
            mm: access.key.mm,
            gib: access.key.from,
            table,
            generation,
        };
        match (access.key.kind, access.key.table.map(link)) {
            (AccessKind::Lease { .. }, Some(id)) => {
                self.links.entry(id).or_default().lease(context, id, access)
            }
            (AccessKind::Unlink { .. }, Some(id)) => {
                let link = self.links.entry(id).or_default();
                link.unlink(context, id, access);
                for walk in self
                    .walks
                    .iter_mut()
                    .filter(|w| w.from.gib() <= access.key.from && access.key.from < w.to)
                {
                    for unlink in &mut link.unlinks {
                        context.judge(id, &mut walk.entry, unlink);
                    }
                }
            }
            (AccessKind::Lease { .. }, None) => self.walk(context, access),
            (AccessKind::Unlink { .. }, None) => {}
        }
    }

    fn walk(&mut self, context: &mut Context, access: &Access) {
        let same = |w: &Walk| (w.from, w.to) == (access.key.from, access.key.to) && w.entry.is(access);
        let at = match self.walks.iter().position(same) {
            Some(at) => at,
            None => {
                if self.walks.len() == WALKS_MAX {
                    context.dropped_walk();
                    self.walks.remove(0);
                }
                self.walks.push(Walk {
                    from: access.key.from,
                    to: access.key.to,
                    entry: LinkAccess::new(access),
                });
                self.walks.len() - 1
            }
        };
        let entry = &mut self.walks[at].entry;
        entry.add(access, |seen| context.is_gone(seen));
        count(context, entry, access);
        let mut is_unlinked = false;
        for (id, link) in &mut self.links {
            if access.key.from.gib() <= id.gib && id.gib < access.key.to {
                is_unlinked |= !link.unlinks.is_empty();
                for unlink in &mut link.unlinks {
                    context.judge(*id, entry, unlink);
                }
            }
        }
        if is_unlinked {
            context.protection.on_unlinked(access.key.site, access.count);
        }
    }

    pub fn link_gone(&mut self, id: LinkId, protection: &mut Protection) {
        if let Some(link) = self.links.remove(&id) {
            link.add_unlinked(protection);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.links.is_empty() && self.walks.is_empty()
    }

    pub fn add_unlinked(&self, protection: &mut Protection) {
        self.links.values().for_each(|l| l.add_unlinked(protection));
    }
}
