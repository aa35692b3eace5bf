//! The protection report: the locks that protected the leases of each lookup site, the locks that the unlinks of each
//! unlink site held, and the excluders between the two. It is the evidence of a run without findings.
//!
//! This module decides what is counted; the sinks decide the wording.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Excluders,
    pending::{Access, AccessKind},
};
use crate::{
    event::SiteId,
    lock_class::LockClass,
    view::{Excluder, LookupProtection, PairProtection, ProtectionView, UnlinkProtection},
};

/// Counts of one lookup site.
#[derive(Clone, Debug, Default)]
struct Lookups {
    leases: u64,
    on_unlinked: u64,
    /// Keyed by the excluding classes of each phase.
    covers: BTreeMap<Vec<u16>, u64>,
    /// Leases that cannot be judged: records were lost, or the lookup was not in a watched operation.
    unjudged: u64,
}

/// Counts of one unlink site.
#[derive(Clone, Debug, Default)]
struct Unlinks {
    unlinks: u64,
    /// Keyed by the classes that were held exclusively.
    held: BTreeMap<u16, u64>,
    unjudged: u64,
}

/// A lookup site and an unlink site that accessed the same link.
#[derive(Clone, Copy, Debug)]
struct Met {
    /// Excluders that were present every time.
    all: Excluders,
    /// Excluders that were present at least once.
    any: Excluders,
    open: bool,
    /// At least one case could not be decided.
    unsure: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Protection {
    lookups: BTreeMap<SiteId, Lookups>,
    unlinks: BTreeMap<SiteId, Unlinks>,
    met: BTreeMap<(SiteId, SiteId), Met>,
}

impl Protection {
    pub fn count(&mut self, access: &Access) {
        let n = access.count;
        match access.key.kind {
            AccessKind::Lease { .. } => {
                let row = self.lookups.entry(access.key.site).or_default();
                row.leases += n;
                let is_known = access.key.in_operation && access.key.whole;
                if is_known && (is_protected(access) || (access.key.sure && is_bare(access))) {
                    add(&mut row.covers, &access.covers, n);
                } else {
                    row.unjudged += n;
                }
            }
            AccessKind::Unlink { .. } => {
                let row = self.unlinks.entry(access.key.site).or_default();
                row.unlinks += n;
                if access.key.in_operation && access.key.sure {
                    let held = access.phases.iter().flatten().filter(|k| k.exclusive && k.is_of_link());
                    *row.held.entry(held.fold(0, |all, k| all | 1 << k.class as u16)).or_default() += n;
                } else {
                    row.unjudged += n;
                }
            }
        }
    }

    /// Counts leases whose link was unlinked at some time.
    pub fn on_unlinked(&mut self, site: SiteId, leases: u64) {
        self.lookups.entry(site).or_default().on_unlinked += leases;
    }

    fn met(&mut self, sites: (SiteId, SiteId)) -> &mut Met {
        let new = Met { all: Excluders(u16::MAX), any: Excluders::NOTHING, open: false, unsure: false };
        self.met.entry(sites).or_insert(new)
    }

    pub fn excluded(&mut self, sites: (SiteId, SiteId), by: Excluders, is_open: bool) {
        let met = self.met(sites);
        met.open |= is_open;
        if !is_open {
            met.all = met.all.and(by);
            met.any = met.any.or(by);
        }
    }

    /// Records an undecided case: lost records or a bound may hide an excluder, or its absence.
    pub fn undecided(&mut self, sites: (SiteId, SiteId)) {
        self.met(sites).unsure = true;
    }

    /// Returns the view. `is_lossy`: lost records may hide accesses of each pair to more links.
    pub fn view(&self, is_lossy: bool, name: impl Fn(SiteId) -> Arc<str>) -> ProtectionView {
        let pair = |((l, u), met): (&(SiteId, SiteId), &Met)| {
            let unsure = met.unsure || is_lossy;
            Met { unsure, ..*met }.view(name(*l), name(*u))
        };
        let mut view = ProtectionView {
            lookups: self.lookups.iter().map(|(site, l)| l.view(name(*site))).collect(),
            unlinks: self.unlinks.iter().map(|(site, u)| u.view(name(*site))).collect(),
            pairs: self.met.iter().map(pair).collect(),
        };
        view.lookups.sort_by(|a, b| a.site.cmp(&b.site));
        view.unlinks.sort_by(|a, b| a.site.cmp(&b.site));
        view.pairs.sort_by(|a, b| (&a.lookup, &a.unlink).cmp(&(&b.lookup, &b.unlink)));
        view
    }
}

/// Returns true if an excluding lock was certainly held in each phase: then it does not matter what else was lost.
fn is_protected(lease: &Access) -> bool {
    lease.covers.iter().all(|cover| *cover != 0)
}

/// Returns true if there is a phase without an excluding lock. It is not known of a lock whose release may be lost.
fn is_bare(lease: &Access) -> bool {
    let mut phases = lease.covers.iter().zip(&lease.phases);
    phases.any(|(cover, held)| *cover == 0 && held.iter().all(|key| !key.doubtful))
}

fn add(covers: &mut BTreeMap<Vec<u16>, u64>, cover: &[u16], n: u64) {
    match covers.get_mut(cover) {
        Some(known) => *known += n,
        None => drop(covers.insert(cover.to_vec(), n)),
    }
}

fn classes(bits: u16) -> Vec<LockClass> {
    Excluders(bits).classes().collect()
}

impl Lookups {
    fn view(&self, site: Arc<str>) -> LookupProtection {
        let is_bare = |cover: &[u16]| cover.contains(&0);
        let covered = self.covers.iter().filter(|(cover, _)| !is_bare(cover));
        LookupProtection {
            site,
            leases: self.leases,
            on_unlinked: self.on_unlinked,
            covered: covered.map(|(cover, n)| (cover.iter().map(|c| classes(*c)).collect(), *n)).collect(),
            bare: self.covers.iter().filter(|(cover, _)| is_bare(cover)).map(|(_, n)| n).sum(),
            unjudged: self.unjudged,
        }
    }
}

impl Unlinks {
    fn view(&self, site: Arc<str>) -> UnlinkProtection {
        UnlinkProtection {
            site,
            unlinks: self.unlinks,
            held: self.held.iter().map(|(bits, n)| (classes(*bits), *n)).collect(),
            unjudged: self.unjudged,
        }
    }
}

impl Met {
    fn view(self, lookup: Arc<str>, unlink: Arc<str>) -> PairProtection {
        let shown = |excluders: Excluders| {
            let locks = excluders.classes().map(Excluder::Lock);
            let vma = excluders.has(Excluders::VMA_LOCKED).then_some(Excluder::VmaLocked);
            locks
                .chain(vma)
                .chain(excluders.has(Excluders::LAST_USER).then_some(Excluder::LastUser))
                .collect()
        };
        let all = if self.any == Excluders::NOTHING || self.unsure { Excluders::NOTHING } else { self.all };
        let (open, unsure) = (self.open, self.unsure);
        PairProtection { lookup, unlink, always: shown(all), ever: shown(self.any), open, unsure }
    }
}
