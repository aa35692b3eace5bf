//! The findings that must exist: compares every lease with every unlink, by the definitions alone.
//!
//! Shares no code with the engine and reads no event, only what the simulated kernel logged (`truth`). It is slow and
//! short on purpose.

use std::collections::BTreeMap;

use observer_engine::{
    event::{Class, Mode},
    finding::{Rank, Use},
};

use super::{
    kernel::TaskNo,
    locks::Lock,
    sites::Site,
    truth::{Deed, Held, Lease, Log, Sort, Unlink},
};

/// Life of a lease.
#[derive(Clone, Debug)]
pub struct Life {
    pub site: Site,
    /// End of its certain use; 0: it was never certainly used.
    pub certain_ns: u64,
    /// End of its possible use.
    pub possible_ns: u64,
    /// Nothing is known of the lease after this time.
    pub over_ns: u64,
    pub is_callback: bool,
    /// PTLs acquired for this lease: time of the request and of the acquisition.
    takes: Vec<(u64, u64)>,
    /// Time of a repeated lookup, and which of `takes` protected it.
    again: Vec<(u64, usize)>,
    /// Time of the first use after another lookup replaced the pointer.
    pub went_on_ns: Option<u64>,
    pub revalidated: bool,
}

/// One window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub lookup: Site,
    pub unlink: Site,
    pub rank: Rank,
    pub holder: TaskNo,
    pub unlinker: TaskNo,
    pub mm: usize,
    pub addr: u64,
    pub table: u64,
    pub life: u32,
    pub start_ns: u64,
    pub lo_ns: u64,
    pub hi_ns: u64,
    pub certain_ns: u64,
    pub possible_ns: u64,
    pub used: Use,
    pub freed: bool,
}

fn excludes(held: &Held, table: u64) -> bool {
    match held.lock.class() {
        Class::VmaLock | Class::IMmap => matches!(held.mode, Mode::Read | Mode::Write),
        Class::Ptl => held.lock == Lock::Ptl(table),
        _ => false,
    }
}

/// Follows a lease to its end.
pub fn life(log: &Log, id: usize) -> Life {
    let lease = &log.leases[id];
    let mut excluding: Vec<Lock> =
        lease.held.iter().filter(|h| excludes(h, lease.table)).map(|h| h.lock).collect();
    let guarded = !excluding.is_empty();
    let mut l = Life {
        site: lease.site,
        certain_ns: 0,
        possible_ns: 0,
        over_ns: log.end_ns,
        is_callback: lease.sort == Sort::Callback,
        takes: Vec::new(),
        again: Vec::new(),
        went_on_ns: None,
        revalidated: false,
    };
    let mut depth = lease.depth;
    let mut ptl = None;
    let (mut dormant, mut replaced) = (false, false);
    // The pointer was used while no lock excluded unlinks, and before another lookup.
    let mut unchecked = false;
    let mut end_ns = log.end_ns;
    for (at_ns, deed) in &log.deeds[lease.task][lease.deed..] {
        let at_ns = *at_ns;
        match deed {
            Deed::TookPtl { lease: of, lock, requested_ns, acquired_ns } if *of == id => {
                if replaced {
                    (replaced, l.went_on_ns) = (false, l.went_on_ns.or(Some(*requested_ns)));
                }
                ptl = Some(*lock);
                dormant = false;
                l.takes.push((*requested_ns, *acquired_ns));
            }
            Deed::Handed { lease: of, site, depth: inside } if *of == id => {
                if replaced {
                    (replaced, l.went_on_ns) = (false, l.went_on_ns.or(Some(at_ns)));
                }
                (l.is_callback, l.site, depth, dormant) = (true, *site, *inside, false);
            }
            Deed::Released { lock, seen: true } => {
                let was_ptl = ptl == Some(*lock);
                let was_excluding = excluding.contains(lock);
                excluding.retain(|e| e != lock);
                if was_ptl {
                    ptl = None;
                    l.certain_ns = at_ns;
                    unchecked |= !was_excluding && excluding.is_empty();
                }
                let last = excluding.is_empty() && ptl.is_none();
                if was_excluding && last && !replaced {
                    l.certain_ns = at_ns;
                }
                let sleeps = guarded && last && (was_ptl || was_excluding) && !l.is_callback;
                if sleeps && !replaced {
                    (dormant, l.possible_ns) = (true, at_ns);
                }
                if lease.sort == Sort::Partner && lock.class() == Class::IMmap {
                    (l.certain_ns, end_ns) = (at_ns, at_ns);
                    break;
                }
            }
            Deed::Looked { place, partner: false, .. } if place.mm == lease.place.mm => {
                // Before any other use of the new pointer.
                if lease.sort == Sort::Own && !l.is_callback && !replaced {
                    l.revalidated = ptl.is_some() && place.gib() == lease.place.gib() && !unchecked;
                }
                if ptl.is_some() && place.gib() == lease.place.gib() {
                    l.again.push((at_ns, l.takes.len() - 1));
                }
                if lease.sort == Sort::Own && !l.is_callback && !replaced {
                    replaced = true;
                    if ptl.is_some() {
                        l.certain_ns = at_ns;
                    }
                    if !dormant {
                        l.possible_ns = at_ns;
                    }
                    // Later acquisitions through the pointer are windows of their own.
                    ptl = None;
                    dormant = true;
                    l.over_ns = at_ns;
                }
            }
            Deed::Left { depth: left } if *left < depth => {
                end_ns = at_ns;
                break;
            }
            Deed::Exited => {
                end_ns = at_ns;
                break;
            }
            _ => {}
        }
    }
    if !replaced {
        l.over_ns = end_ns;
        if l.is_callback || ptl.is_some() {
            l.certain_ns = end_ns;
        }
        if !dormant {
            l.possible_ns = end_ns;
        }
    }
    l.possible_ns = l.possible_ns.max(l.certain_ns);
    l
}

fn met(lease: &Lease, life: &Life, unlink: &Unlink) -> Option<(u64, u64)> {
    let (lo, hi) = unlink.reported_ns?;
    let same_link = if lease.sort == Sort::Walk {
        !unlink.freed && lease.is_of_link(unlink)
    } else if unlink.freed {
        lease.place.mm == unlink.place.mm && (lease.table, lease.life) == (unlink.table, unlink.life)
    } else {
        lease.is_of_link(unlink)
    };
    let meets = lease.task != unlink.task
        && same_link
        && lease.start_ns < hi
        && life.over_ns > lo.max(lease.start_ns);
    meets.then_some((lo.max(lease.start_ns), hi))
}

/// Returns all windows, in the order of the leases.
pub fn windows(log: &Log) -> Vec<Window> {
    (0..log.leases.len()).filter_map(|id| window(log, id)).collect()
}

fn window(log: &Log, id: usize) -> Option<Window> {
    let lease = &log.leases[id];
    let life = life(log, id);
    let ((lo_ns, hi_ns), unlink) =
        log.unlinks.iter().filter_map(|u| Some((met(lease, &life, u)?, u))).min_by_key(|((_, hi), _)| *hi)?;
    if life.possible_ns <= lo_ns {
        return None;
    }
    let unlinker_has_ptl = unlink.held.iter().any(|h| h.lock == Lock::Ptl(lease.table)) && lo_ns == hi_ns;
    let after = |(requested_ns, acquired_ns): &(u64, u64)| {
        *requested_ns >= hi_ns || (unlinker_has_ptl && *acquired_ns > hi_ns)
    };
    let first_use = life.takes.iter().position(after);
    let freed_ns = log
        .unlinks
        .iter()
        .filter(|u| u.freed && (u.table, u.life) == (unlink.table, unlink.life) && u.at_ns >= lo_ns)
        .map(|u| u.at_ns)
        .min();
    let used = match first_use {
        Some(take) => Use::Seen(life.takes[take].0.max(hi_ns)),
        None if life.is_callback && life.certain_ns > hi_ns => Use::Contract,
        None => Use::No,
    };
    // Under the first PTL acquired for the lease after the unlink, without any other use.
    let revalidated = first_use.is_some_and(|take| life.again.iter().any(|(_, under)| *under == take))
        && life.went_on_ns.is_none();
    let rank = if revalidated {
        Rank::Revalidated
    } else if life.certain_ns <= hi_ns {
        Rank::Possible
    } else if freed_ns.is_some_and(|at| at <= life.certain_ns) {
        Rank::Freed
    } else if used != Use::No {
        Rank::Used
    } else {
        Rank::Held
    };
    Some(Window {
        lookup: life.site,
        unlink: unlink.site,
        rank,
        holder: lease.task,
        unlinker: unlink.task,
        mm: lease.place.mm,
        addr: lease.addr,
        table: unlink.table,
        life: unlink.life,
        start_ns: lease.start_ns,
        lo_ns,
        hi_ns,
        certain_ns: life.certain_ns.saturating_sub(hi_ns),
        possible_ns: life.possible_ns - lo_ns,
        used,
        freed: freed_ns.is_some_and(|at| at <= life.possible_ns),
    })
}

/// Groups windows by pair of sites and by rank.
pub fn merged(windows: Vec<Window>) -> BTreeMap<(&'static str, &'static str, Rank), Vec<Window>> {
    let mut merged: BTreeMap<_, Vec<Window>> = BTreeMap::new();
    for window in windows {
        let key = (window.lookup.function(), window.unlink.function(), window.rank);
        merged.entry(key).or_default().push(window);
    }
    merged
}
