//! The digested setup: lookup tables for the rules.
//!
//! This module decides nothing that the setup does not state.

use std::sync::Arc;

use crate::{
    event::{Class, Mode, SiteId},
    finding::{Doubt, Kind},
    setup::{Coverage, DocumentedOrder, FolioTaken, Grade, Role, Setup},
};

#[derive(Clone, Debug)]
struct SiteRow {
    name: Arc<str>,
    canonical: SiteId,
    foreign_until: Option<Class>,
    try_then_block: Vec<Class>,
    vma_locked: bool,
    last_user: bool,
    is_walk: bool,
    folio_taken: Option<FolioTaken>,
    late: bool,
}

/// Returns true if incomplete coverage weakens findings of a kind. A lookup site, unlink site or function that is not
/// watched may hide other findings, but does not weaken this one.
fn weakens(c: &Coverage, kind: Kind) -> bool {
    let elsewhere = matches!(c.role, Role::Operation | Role::Callback | Role::Lookup | Role::Unlink);
    c.grade != Grade::Exact && kind.about().needs.contains(&c.role) && (c.part.is_empty() || !elsewhere)
}

/// The setup by site number, class and role.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    setup: Setup,
    sites: Vec<Option<SiteRow>>,
    doubts: Vec<(Kind, Vec<Doubt>)>,
    unshare_exact: bool,
    ptl_release_unseen: bool,
    sees_locks: bool,
    waits_reported: bool,
    /// Modes of each class that exclude unlinks, one bit each.
    excludes: [u8; Class::ALL.len() + 1],
}

impl Rules {
    pub fn new(setup: Setup) -> Rules {
        let mut sites: Vec<Option<SiteRow>> = Vec::new();
        for site in &setup.sites {
            let at = usize::from(site.id.0);
            if sites.len() <= at {
                sites.resize_with(at + 1, || None);
            }
            // One function can have two sites; reports show them as one.
            let canonical =
                setup.sites.iter().find(|s| s.function == site.function).map_or(site.id, |s| s.id);
            sites[at] = Some(SiteRow {
                name: site.function.as_str().into(),
                canonical,
                foreign_until: site.foreign_lookup_until,
                try_then_block: site.try_then_block.clone(),
                vma_locked: site.vma_locked,
                last_user: site.last_user,
                is_walk: site.role == Role::Walk,
                folio_taken: site.folio_taken.clone(),
                late: site.late,
            });
        }
        let doubts = Kind::ALL
            .into_iter()
            .map(|kind| {
                let weak = setup.coverage.iter().filter(|c| weakens(c, kind));
                let words = weak.map(|c| {
                    let part = if c.part.is_empty() { String::new() } else { format!(" ({})", c.part) };
                    Doubt::Coverage(format!("{}{part} is {}", c.role.name(), c.grade.name()))
                });
                (kind, words.collect())
            })
            .collect();
        let graded = |role, part: &str| setup.coverage.iter().find(|c| c.role == role && c.part == part);
        let blind = |c: &&Coverage| c.role == Role::Lock && c.grade == Grade::Blind;
        let bears = |c: &Coverage| {
            c.part.is_empty()
                || c.part == Class::MmapLock.name()
                || setup.exclusions.iter().any(|e| e.class.name() == c.part)
        };
        let mut excludes = [0; Class::ALL.len() + 1];
        for e in &setup.exclusions {
            excludes[e.class as usize] |= e.modes.iter().fold(0, |all, m| all | 1 << *m as u8);
        }
        Rules {
            excludes,
            sees_locks: !setup.coverage.iter().filter(blind).any(bears),
            waits_reported: graded(Role::Wait, "").is_none_or(|c| c.grade == Grade::Exact),
            unshare_exact: graded(Role::Unshare, "").is_some_and(|c| c.grade == Grade::Exact),
            ptl_release_unseen: graded(Role::Ptl, "release").is_some_and(|c| c.grade != Grade::Exact),
            sites,
            doubts,
            setup,
        }
    }

    fn site(&self, site: SiteId) -> Option<&SiteRow> {
        self.sites.get(usize::from(site.0))?.as_ref()
    }

    /// Returns the kernel function of a site.
    pub fn name(&self, site: SiteId) -> Arc<str> {
        self.site(site).map_or_else(|| format!("site {}", site.0).into(), |s| Arc::clone(&s.name))
    }

    /// Returns the first site of the same function.
    pub fn canonical(&self, site: SiteId) -> SiteId {
        self.site(site).map_or(site, |s| s.canonical)
    }

    pub fn foreign_until(&self, site: SiteId) -> Option<Class> {
        self.site(site)?.foreign_until
    }

    /// Returns true if a successful trylock of this class at the site counts as a request that can block.
    pub fn try_then_block(&self, site: SiteId, class: Class) -> bool {
        self.site(site).is_some_and(|s| s.try_then_block.contains(&class))
    }

    /// Returns the point at which the operation locks folios, if known.
    pub fn folio_taken(&self, site: SiteId) -> Option<&FolioTaken> {
        self.site(site)?.folio_taken.as_ref()
    }

    /// Returns true if a folio that is locked by contract at this site may have been locked long before.
    pub fn is_late(&self, site: SiteId) -> bool {
        self.site(site).is_some_and(|s| s.late)
    }

    /// Returns true if the site is entered with mmap_lock or the VMA's own lock held.
    pub fn vma_locked(&self, site: SiteId) -> bool {
        self.site(site).is_some_and(|s| s.vma_locked)
    }

    /// Returns true if the operation runs when the mm has no user left.
    pub fn last_user(&self, site: SiteId) -> bool {
        self.site(site).is_some_and(|s| s.last_user)
    }

    /// Returns true if the operation is a walk without a lookup function.
    pub fn is_walk(&self, site: SiteId) -> bool {
        self.site(site).is_some_and(|s| s.is_walk)
    }

    /// Returns true if locks of a class exclude unlinks at an unlink site.
    pub fn is_excluding(&self, class: Class, unlink: SiteId) -> bool {
        let name = self.name(unlink);
        let rows = self.setup.exclusions.iter().filter(|e| e.class == class);
        rows.into_iter().any(|e| !e.except_unlink_sites.iter().any(|site| **site == *name))
    }

    /// Returns true if enough locks are seen to state that a lock was not held.
    pub fn sees_locks(&self) -> bool {
        self.sees_locks
    }

    /// Returns true if a hold excludes unlinks, at least at most sites.
    #[inline]
    pub fn excludes(&self, class: Class, mode: Option<Mode>) -> bool {
        mode.is_some_and(|m| self.excludes[class as usize] & 1 << m as u8 != 0)
    }

    pub fn orders(&self) -> &[DocumentedOrder] {
        &self.setup.orders
    }

    /// Returns the setup's coverage, corrected by the run: an unshare is seen in two ways, and each checks the other.
    /// `entries_only` of `all` unlinks were shown by the entries but not reported by the body of unshare.
    pub fn coverage(&self, entries_only: u64, all: u64) -> Vec<Coverage> {
        let mut coverage = self.setup.coverage.clone();
        for c in &mut coverage {
            if entries_only > 0 && c.role == Role::Unshare && c.part.is_empty() && c.grade == Grade::Exact {
                c.grade = Grade::Bounded;
                c.reason = format!(
                    "{entries_only} of {all} links that went away were seen by the entries behind the lookups only: what \
                     is probed as the body of unshare is not all of it, or its records were lost"
                );
            }
        }
        coverage
    }

    /// Returns true if every unlink is reported at its moment: intervals add nothing.
    pub fn unshare_exact(&self) -> bool {
        self.unshare_exact
    }

    /// Returns true if PTL releases cannot be seen on this kernel. A hold ends at the latest with the task's next
    /// lookup, sleep or end of an operation.
    pub fn ptl_release_unseen(&self) -> bool {
        self.ptl_release_unseen
    }

    /// Returns true if the kernel reports when a task begins to wait for a lock, and when the wait ends.
    pub fn waits_reported(&self) -> bool {
        self.waits_reported
    }

    /// Returns the doubts about findings of a kind. `is_partial`: the body of unshare was shown not to report every
    /// unlink.
    pub fn doubts(&self, kind: Kind, is_partial: bool) -> impl Iterator<Item = Doubt> + '_ {
        let partial = is_partial && self.unshare_exact && kind.about().needs.contains(&Role::Unshare);
        let known = self.doubts.iter().filter(move |(k, _)| *k == kind).flat_map(|(_, d)| d.iter().cloned());
        known.chain(partial.then(|| Doubt::Coverage("unshare is bounded".into())))
    }
}
