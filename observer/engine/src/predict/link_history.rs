//! Link histories: lookups and unlinks of each link, with their tasks and locks.
//!
//! This module decides how much is kept. The bound is what exists: a link's history is dropped with its table or its
//! mm. Accesses are distinguished by site and by the link's locks. Locks of single pages are variants of an access
//! ([`super::pending::Variant`]). Tasks that exited make room first, because nothing later can combine with them. If
//! anything else makes room, that is recorded, and a verdict that it could have changed is incomplete.

use std::collections::BTreeMap;

use super::{
    Context, Verdict,
    pending::{Access, Done, VARIANTS, Variant, What, Who, is_less},
    report::Protection,
};
use crate::{
    event::{Addr, Mm, SiteId, Table},
    finding::Hold,
    holds::{Key, TaskId},
    protection::PHASES_MAX,
    tables::LinkId,
};

/// Maximum number of lookups, and of unlinks, kept per link; one bit each in `Sig::settled`.
const SIGS_MAX: usize = 64;
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
    pub who: Who,
    pub holds: Vec<Hold>,
}

/// Equal accesses to a link, by one or more tasks.
#[derive(Clone, Debug)]
pub(crate) struct Sig {
    pub mm: Mm,
    pub site: SiteId,
    pub done: Done,
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
    who: Who,
    /// Predicted windows that contain this access.
    pub pairs: Vec<super::PairKey>,
    /// Unlinks with which further comparisons cannot change anything, one bit each.
    settled: u64,
}

impl Sig {
    fn new(done: &Access) -> Sig {
        let What { site, done: what, sure, in_mm, whole, .. } = done.what;
        Sig {
            mm: done.what.mm,
            site,
            done: what,
            sure,
            in_mm,
            whole,
            phases: done.phases.iter().map(|p| p.clone().into_boxed_slice()).collect(),
            seen: Vec::new(),
            is_cut: false,
            variants_cut: false,
            count: 0,
            who: done.who,
            pairs: Vec::new(),
            settled: 0,
        }
    }

    fn is(&self, done: &Access) -> bool {
        let What { site, done: what, sure, in_mm, whole, .. } = done.what;
        (self.site, self.done, self.sure, self.in_mm, self.whole) == (site, what, sure, in_mm, whole)
            && self.phases.len() == done.phases.len()
            && self.phases.iter().zip(&done.phases).all(|(a, b)| **a == **b)
    }

    /// Adds an occurrence. `is_gone` returns true for a task that nothing later can combine with.
    fn add(&mut self, done: &Access, is_gone: impl Fn(&Seen) -> bool) {
        self.count += done.count;
        self.variants_cut |= done.is_cut;
        let Who { serial, id, born_ns, is_made, .. } = done.who;
        if (done.who.time_ns, serial) < (self.who.time_ns, self.who.serial) {
            self.who = done.who;
        }
        let (first_ns, last_ns) = (done.first_ns, done.last_ns);
        let seen = Seen { serial, id, born_ns, is_made, first_ns, last_ns, variants: done.variants.clone() };
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
    fn absorb(&mut self, other: Sig) {
        use Done::{Lease, Unlink};
        self.done = match (self.done, other.done) {
            (Lease { certain: a, revalidated: b }, Lease { certain: c, revalidated: d }) => {
                Lease { certain: a || c, revalidated: b && d }
            }
            (Unlink { last_user: a }, Unlink { last_user: b }) => Unlink { last_user: a && b },
            (done, _) => done,
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
        if self.phases.len() > PHASES_MAX || matches!(self.done, Unlink { .. }) {
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
        Witness { who: self.who, holds }
    }
}

/// History of one link: lookups and unlinks.
#[derive(Clone, Debug, Default)]
struct Link {
    leases: Vec<Sig>,
    unlinks: Vec<Sig>,
    /// Number of leases by site.
    by_site: Vec<(SiteId, u64)>,
    /// Dropped lookups and dropped unlinks whose tasks may still exist; one per site represents the others.
    rest: [Vec<Sig>; 2],
}

/// A walk is an access to all links of a range.
#[derive(Clone, Debug)]
struct Walk {
    from: Addr,
    to: Addr,
    sig: Sig,
}

/// Histories of all links of one mm.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sides {
    links: BTreeMap<LinkId, Link>,
    walks: Vec<Walk>,
}

/// Returns the index of the entry for an access, and true if it replaced another entry.
fn place(
    sigs: &mut Vec<Sig>,
    rest: &mut Vec<Sig>,
    done: &Access,
    is_gone: impl Fn(&Seen) -> bool,
) -> (usize, bool) {
    if let Some(at) = sigs.iter().position(|s| s.is(done)) {
        return (at, false);
    }
    if sigs.len() < SIGS_MAX {
        sigs.push(Sig::new(done));
        return (sigs.len() - 1, false);
    }
    let is_over = |sig: &Sig| !sig.is_cut && sig.seen.iter().all(&is_gone);
    let age = |i: &usize| (!is_over(&sigs[*i]), sigs[*i].last_ns(), *i);
    let oldest = (0..sigs.len()).min_by_key(age).unwrap_or(0);
    let old = std::mem::replace(&mut sigs[oldest], Sig::new(done));
    if !is_over(&old) {
        match rest.iter_mut().find(|all| all.site == old.site) {
            Some(all) => all.absorb(old),
            None => rest.push(Sig { is_cut: true, ..old }),
        }
    }
    (oldest, true)
}

/// Updates the predicted windows that already contain this access.
fn count(context: &mut Context, sig: &Sig, done: &Access) {
    for key in &sig.pairs {
        if let Some(pair) = context.pairs.get_mut(key) {
            match done.what.done {
                Done::Lease { .. } => pair.leases += done.count,
                Done::Unlink { .. } => pair.unlinks += done.count,
            }
            pair.last_ns = pair.last_ns.max(done.last_ns);
        }
    }
}

impl Link {
    fn lease(&mut self, context: &mut Context, id: LinkId, done: &Access) {
        match self.by_site.iter_mut().find(|(site, _)| *site == done.what.site) {
            Some((_, n)) => *n += done.count,
            None => self.by_site.push((done.what.site, done.count)),
        }
        let [rest, unlinks_rest] = &mut self.rest;
        let (at, _) = place(&mut self.leases, rest, done, |seen| context.is_gone(seen));
        let sig = &mut self.leases[at];
        sig.add(done, |seen| context.is_gone(seen));
        count(context, sig, done);
        for (i, unlink) in self.unlinks.iter_mut().enumerate() {
            if sig.settled & 1_u64 << i == 0 && context.judge(id, sig, unlink) == Verdict::Settled {
                sig.settled |= 1_u64 << i;
            }
        }
        for unlink in unlinks_rest {
            context.judge(id, sig, unlink);
        }
    }

    fn unlink(&mut self, context: &mut Context, id: LinkId, done: &Access) {
        let [leases_rest, rest] = &mut self.rest;
        let (at, is_others) = place(&mut self.unlinks, rest, done, |seen| context.is_gone(seen));
        if is_others {
            self.leases.iter_mut().for_each(|s| s.settled &= !(1_u64 << at));
        }
        let sig = &mut self.unlinks[at];
        sig.add(done, |seen| context.is_gone(seen));
        count(context, sig, done);
        for lease in &mut self.leases {
            if lease.settled & 1_u64 << at == 0 && context.judge(id, lease, sig) == Verdict::Settled {
                lease.settled |= 1_u64 << at;
            }
        }
        for lease in leases_rest {
            context.judge(id, lease, sig);
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

impl Sides {
    pub fn take(&mut self, context: &mut Context, done: &Access) {
        let link = |(table, generation): (Table, u32)| LinkId {
            mm: done.what.mm,
            gib: done.what.from,
            table,
            generation,
        };
        match (done.what.done, done.what.table.map(link)) {
            (Done::Lease { .. }, Some(id)) => self.links.entry(id).or_default().lease(context, id, done),
            (Done::Unlink { .. }, Some(id)) => {
                let link = self.links.entry(id).or_default();
                link.unlink(context, id, done);
                for walk in
                    self.walks.iter_mut().filter(|w| w.from.gib() <= done.what.from && done.what.from < w.to)
                {
                    for unlink in &mut link.unlinks {
                        context.judge(id, &mut walk.sig, unlink);
                    }
                }
            }
            (Done::Lease { .. }, None) => self.walk(context, done),
            (Done::Unlink { .. }, None) => {}
        }
    }

    fn walk(&mut self, context: &mut Context, done: &Access) {
        let same = |w: &Walk| (w.from, w.to) == (done.what.from, done.what.to) && w.sig.is(done);
        let at = match self.walks.iter().position(same) {
            Some(at) => at,
            None => {
                if self.walks.len() == WALKS_MAX {
                    context.dropped_walk();
                    self.walks.remove(0);
                }
                self.walks.push(Walk { from: done.what.from, to: done.what.to, sig: Sig::new(done) });
                self.walks.len() - 1
            }
        };
        let sig = &mut self.walks[at].sig;
        sig.add(done, |seen| context.is_gone(seen));
        count(context, sig, done);
        let mut is_unlinked = false;
        for (id, link) in &mut self.links {
            if done.what.from.gib() <= id.gib && id.gib < done.what.to {
                is_unlinked |= !link.unlinks.is_empty();
                for unlink in &mut link.unlinks {
                    context.judge(*id, sig, unlink);
                }
            }
        }
        if is_unlinked {
            context.protection.on_unlinked(done.what.site, done.count);
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
