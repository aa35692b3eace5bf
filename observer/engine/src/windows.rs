//! Windows: leases that outlived the unlink of their link by another task.
//!
//! This module decides the rank of one case, and merges cases with the same pair of sites and the same rank.
//! `engine/pages` decides which unlink hits which lease.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    event::{SiteId, Table},
    finding::{Doubt, Evidence, Finding, Party, Rank, TaskRef, Use, Window, WindowCase},
    leases::{Lease, LeaseKind},
    table_event::TableEvent,
};

#[derive(Clone, Debug)]
struct Merged {
    count: u64,
    first_ns: u64,
    last_ns: u64,
    window: Window,
    doubts: BTreeSet<Doubt>,
}

/// The windows found so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Windows {
    /// Keyed by lookup site, unlink site and rank.
    merged: BTreeMap<(SiteId, SiteId, Rank), Merged>,
    pub count: u64,
}

/// Returns the rank of an ended lease that was hit. `None`: it ended before the unlink, or was dormant and not used
/// again.
fn rank(lease: &Lease) -> Option<Rank> {
    let hit = lease.hit.as_ref()?;
    let (certain_ns, possible_ns) = lease.ends();
    if possible_ns <= hit.lo_ns {
        return None;
    }
    Some(if lease.lossy {
        Rank::Incomplete
    } else if hit.revalidated {
        Rank::Revalidated
    } else if certain_ns <= hit.hi_ns && hit.used == Use::No {
        Rank::Possible
    } else if hit.freed_ns.is_some_and(|at| at <= certain_ns) {
        Rank::Freed
    } else if lease.kind == LeaseKind::Callback || hit.used != Use::No {
        Rank::Used
    } else {
        Rank::Held
    })
}

impl Windows {
    /// Adds an ended lease.
    pub fn ended(
        &mut self,
        lease: &Lease,
        holder: impl FnOnce() -> TaskRef,
        name: impl Fn(SiteId) -> Arc<str>,
        history: impl Fn(Table) -> Vec<TableEvent>,
    ) {
        let Some(rank) = rank(lease) else { return };
        let Some(hit) = &lease.hit else { return };
        let (certain_ns, possible_ns) = lease.ends();
        let case = WindowCase {
            holder: Party {
                task: TaskRef { cpu: lease.cpu, ..holder() },
                site: name(lease.site),
                time_ns: lease.start_ns,
                stack: lease.stack,
                holds: lease.cover.at_lookup().to_vec(),
            },
            unlinker: hit.unlinker.clone(),
            mm: lease.mm,
            addr: lease.addr,
            pte: lease.pte,
            table: hit.of.table,
            generation: hit.of.generation,
            table_birth_ns: hit.of.birth_ns,
            unlink_lo_ns: hit.lo_ns,
            unlink_hi_ns: hit.hi_ns,
            certain_ns: certain_ns.saturating_sub(hit.hi_ns),
            possible_ns: possible_ns.saturating_sub(hit.lo_ns),
            used: match hit.used {
                Use::No if lease.kind == LeaseKind::Callback && certain_ns > hit.hi_ns => Use::Contract,
                used => used,
            },
            at_use: hit.at_use.clone(),
            freed_ns: hit.freed_ns.filter(|at| *at <= possible_ns),
            history: history(hit.of.table),
        };
        let doubts = [
            (lease.lossy, Doubt::Loss),
            (hit.lo_ns != hit.hi_ns, Doubt::UnlinkInterval),
            (lease.depth == 0, Doubt::NoOperation),
        ];
        let doubts = doubts.into_iter().filter(|(applies, _)| *applies).map(|(_, doubt)| doubt);
        self.count += 1;
        self.merge((lease.site, hit.unlink_site, rank), case, doubts);
    }

    fn merge(&mut self, key: (SiteId, SiteId, Rank), case: WindowCase, doubts: impl Iterator<Item = Doubt>) {
        let at_ns = case.unlink_hi_ns;
        let merged = self.merged.entry(key).or_insert_with(|| Merged {
            count: 0,
            first_ns: at_ns,
            last_ns: at_ns,
            window: Window { first: case.clone(), longest: case.clone() },
            doubts: BTreeSet::new(),
        });
        merged.count += 1;
        merged.doubts.extend(doubts);
        merged.last_ns = merged.last_ns.max(at_ns);
        let Window { first, longest } = &mut merged.window;
        if (case.certain_ns, case.possible_ns) > (longest.certain_ns, longest.possible_ns) {
            longest.clone_from(&case);
        }
        // Leases can end in another order than they are hit.
        if at_ns < merged.first_ns {
            merged.first_ns = at_ns;
            *first = case;
        }
    }

    /// Returns the worst rank that was seen for a pair of sites.
    pub fn worst(&self, lookup: SiteId, unlink: SiteId) -> Option<Rank> {
        let of_pair = (lookup, unlink, Rank::Confirmed)..=(lookup, unlink, Rank::Revalidated);
        self.merged.range(of_pair).next().map(|((_, _, rank), _)| *rank)
    }

    pub fn findings(&self) -> impl Iterator<Item = Finding> + '_ {
        self.merged.iter().map(|((_, _, rank), m)| {
            let first = &m.window.first;
            Finding {
                id: format!("window:{}/{}:{}", first.holder.site, first.unlinker.site, rank.name()),
                rank: *rank,
                count: m.count,
                first_ns: m.first_ns,
                last_ns: m.last_ns,
                doubts: m.doubts.iter().cloned().collect(),
                evidence: Evidence::Window(Box::new(m.window.clone())),
            }
        })
    }
}
