//! Which findings there have to be: every lease held against every unlink, by the meaning of the words alone.
//!
//! Shares no code with the engine and reads no event: it reads what the simulated kernel wrote down (`truth`). It is slow
//! and short on purpose.

use std::collections::{BTreeMap, BTreeSet};

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

/// How a lease went.
#[derive(Clone, Debug)]
pub struct Life {
    pub site: Site,
    /// In use for certain up to here; 0: at no time.
    pub certain_ns: u64,
    /// Perhaps in use up to here.
    pub possible_ns: u64,
    /// Nothing of it can be known after this.
    pub over_ns: u64,
    pub is_callback: bool,
    /// Asked for and got: the locks of the table that were taken for it.
    takes: Vec<(u64, u64)>,
    /// When it was looked up again under which of `takes`.
    again: Vec<(u64, usize)>,
    /// When it was used after it had been replaced.
    went_on_ns: Option<u64>,
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

impl Life {
    /// Rank of what may happen to it.
    fn predicted(&self, lease: &Lease) -> Rank {
        if self.revalidated && self.went_on_ns.is_none() {
            Rank::Revalidated
        } else if self.certain_ns > lease.start_ns {
            Rank::Predicted
        } else {
            Rank::Possible
        }
    }
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
    // It was used when nothing kept removals away, and nothing had been looked up again.
    let mut unchecked = false;
    let mut end_ns = log.end_ns;
    for (at_ns, deed) in &log.deeds[lease.task][lease.deed..] {
        let at_ns = *at_ns;
        match deed {
            Deed::TookPtl { lease: of, lock, ask_ns, got_ns } if *of == id => {
                if replaced {
                    (replaced, l.went_on_ns) = (false, l.went_on_ns.or(Some(*ask_ns)));
                }
                ptl = Some(*lock);
                dormant = false;
                l.takes.push((*ask_ns, *got_ns));
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
                // Before anything else was done with it.
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
                    // What it takes through it from now on is an offence of its own.
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
    let (lo, hi) = unlink.told_ns?;
    let same_link = if unlink.freed {
        lease.place.mm == unlink.place.mm
    } else {
        (lease.place.mm, lease.place.gib()) == (unlink.place.mm, unlink.place.gib())
    };
    let same_table = (lease.table, lease.life) == (unlink.table, unlink.life);
    let meets = lease.task != unlink.task
        && same_link
        && same_table
        && lease.start_ns < hi
        && life.over_ns > lo.max(lease.start_ns);
    meets.then_some((lo.max(lease.start_ns), hi))
}

/// All windows, in the order of the leases.
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
    let after = |(ask, got): &(u64, u64)| *ask >= hi_ns || (unlinker_has_ptl && *got > hi_ns);
    let first_use = life.takes.iter().position(after);
    let freed_ns = log
        .unlinks
        .iter()
        .filter(|u| u.freed && (u.table, u.life) == (lease.table, lease.life) && u.at_ns >= lo_ns)
        .map(|u| u.at_ns)
        .min();
    let used = match first_use {
        Some(take) => Use::Seen(life.takes[take].0.max(hi_ns)),
        None if life.is_callback && life.certain_ns > hi_ns => Use::Contract,
        None => Use::No,
    };
    // Under the first lock that was taken for it after the unlink, and not used for anything else.
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
        table: lease.table,
        life: lease.life,
        start_ns: lease.start_ns,
        lo_ns,
        hi_ns,
        certain_ns: life.certain_ns.saturating_sub(hi_ns),
        possible_ns: life.possible_ns - lo_ns,
        used,
        freed: freed_ns.is_some_and(|at| at <= life.possible_ns),
    })
}

/// Windows of one pair of sites and one rank.
pub fn merged(windows: Vec<Window>) -> BTreeMap<(&'static str, &'static str, Rank), Vec<Window>> {
    let mut merged: BTreeMap<_, Vec<Window>> = BTreeMap::new();
    for window in windows {
        let key = (window.lookup.function(), window.unlink.function(), window.rank);
        merged.entry(key).or_default().push(window);
    }
    merged
}

/// What nothing keeps from happening: by pair of sites and rank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prediction {
    /// Leases and unlinks that are part of it, and those like them: at least and at most so many may be told.
    pub leases: (usize, usize),
    pub unlinks: (usize, usize),
}

/// The locks that a lease's task had, at every moment at which it had the pointer.
fn moments(log: &Log, lease: &Lease, life: &Life) -> Vec<Vec<Held>> {
    let mut held = lease.held.clone();
    let mut moments = vec![held.clone()];
    for (at_ns, deed) in &log.deeds[lease.task][lease.deed..] {
        if *at_ns >= life.possible_ns {
            break;
        }
        match deed {
            Deed::Got { held: got } => held.push(*got),
            Deed::Released { lock, .. } => {
                let at = held.iter().rposition(|h| h.lock == *lock).expect("it was held");
                held.remove(at);
            }
            _ => continue,
        }
        moments.push(held.clone());
    }
    moments
}

/// Whether the two can be had at once.
fn conflict(held: &Held, taken: &Held) -> bool {
    // Whoever has the mm's lock for writing and then for reading has hidden the VMA meanwhile.
    let writes = |h: &Held| h.mode != Mode::Read;
    let hides = taken.downgraded && taken.lock.class() == Class::MmapLock;
    (held.lock, held.life) == (taken.lock, taken.life) && (writes(held) || writes(taken) || hides)
}

fn kept_apart(lease: &Lease, moments: &[Vec<Held>], unlink: &Unlink) -> bool {
    (unlink.last_user && lease.is_user)
        || moments.iter().all(|held| held.iter().any(|h| unlink.held.iter().any(|u| conflict(h, u))))
}

/// Whether the task of a lease and the task of a removal were both there: they met, or the later one was born when the earlier
/// thing happened, and the earlier one had not exited when the later one did.
fn both_there(log: &Log, lease: (TaskNo, u64, u64), (unlinker, at_ns): (TaskNo, u64)) -> bool {
    let (holder, from_ns, to_ns) = lease;
    let (first, second) = if at_ns < from_ns {
        ((unlinker, at_ns), (holder, from_ns))
    } else if at_ns > to_ns {
        ((holder, to_ns), (unlinker, at_ns))
    } else {
        return true;
    };
    log.spans[second.0].birth_ns.is_some_and(|at| at <= first.1)
        && log.spans[first.0].exit_ns.is_none_or(|at| at >= second.1)
}

/// Whether the two were in one VMA: the VMA's lock that the one had was not gone when the other happened.
fn one_vma(log: &Log, (lease, moments): (&Lease, &[Vec<Held>]), (unlink, told_ns): (&Unlink, u64)) -> bool {
    let gone = |h: &Held, by_ns: u64| {
        let is_vma = h.lock.class() == Class::VmaLock;
        is_vma && log.gone.iter().any(|(lock, life, at)| (*lock, *life) == (h.lock, h.life) && *at < by_ns)
    };
    let is_more =
        |m: &Vec<Held>| moments.iter().any(|less| less.len() < m.len() && less.iter().all(|h| m.contains(h)));
    let mut least = moments.iter().filter(|m| !is_more(m)).flatten();
    !least.any(|h| gone(h, told_ns)) && !unlink.held.iter().any(|h| gone(h, lease.start_ns))
}

/// Things that cannot be told from each other are counted together: by site, link and locks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Like {
    site: Site,
    rank: Rank,
    is_own: bool,
    last_user: bool,
    link: (usize, u64, u64, u32),
    locks: BTreeSet<BTreeSet<(Lock, u32, bool)>>,
}

/// The least sets of locks.
fn least(sets: &[Vec<Held>]) -> BTreeSet<BTreeSet<(Lock, u32, bool)>> {
    let hides = |h: &Held| h.downgraded && h.lock.class() == Class::MmapLock;
    let key = |h: &Held| (h.lock, h.life, h.mode != Mode::Read || hides(h));
    let sets: BTreeSet<BTreeSet<_>> = sets.iter().map(|s| s.iter().map(key).collect()).collect();
    let is_least = |s: &&BTreeSet<_>| !sets.iter().any(|other| other != *s && other.is_subset(s));
    sets.iter().filter(is_least).cloned().collect()
}

/// All predictions, those of which something as bad was seen left out.
pub fn predictions(log: &Log, seen: &[Window]) -> BTreeMap<(&'static str, &'static str, Rank), Prediction> {
    let leases: Vec<(Life, Vec<Vec<Held>>, Like)> = (0..log.leases.len())
        .map(|l| {
            let lease = &log.leases[l];
            let life = life(log, l);
            let moments = moments(log, lease, &life);
            let like = Like {
                site: life.site,
                rank: life.predicted(lease),
                is_own: lease.is_own,
                last_user: false,
                link: (lease.place.mm, lease.place.gib(), lease.table, lease.life),
                locks: least(&moments),
            };
            (life, moments, like)
        })
        .collect();
    let unlinks: Vec<(&Unlink, u64, Like)> = log
        .unlinks
        .iter()
        .filter(|u| !u.freed)
        .filter_map(|u| {
            let like = Like {
                site: u.site,
                rank: Rank::Predicted,
                is_own: u.is_own,
                last_user: u.last_user,
                link: (u.place.mm, u.place.gib(), u.table, u.life),
                locks: least(std::slice::from_ref(&u.held)),
            };
            Some((u, u.told_ns?.1, like))
        })
        .collect();
    let mut all: BTreeMap<(Site, Site, Rank), [(BTreeSet<usize>, BTreeSet<&Like>); 2]> = BTreeMap::new();
    for (l, ((life, moments, like), lease)) in leases.iter().zip(&log.leases).enumerate() {
        for (u, (unlink, told_ns, unlike)) in unlinks.iter().enumerate() {
            if like.link == unlike.link
                && lease.task != unlink.task
                && !kept_apart(lease, moments, unlink)
                && one_vma(log, (lease, moments), (unlink, *told_ns))
                && both_there(
                    log,
                    (lease.task, lease.start_ns, life.possible_ns.max(lease.start_ns)),
                    (unlink.task, *told_ns),
                )
            {
                let [ours, theirs] = all.entry((like.site, unlike.site, like.rank)).or_default();
                (ours.0.insert(l), ours.1.insert(like));
                (theirs.0.insert(u), theirs.1.insert(unlike));
            }
        }
    }
    all.retain(|(lookup, unlink, rank), _| {
        !seen.iter().any(|w| (w.lookup, w.unlink) == (*lookup, *unlink) && w.rank <= *rank)
    });
    all.into_iter()
        .map(|((lookup, unlink, rank), [ours, theirs])| {
            let prediction = Prediction {
                leases: (ours.0.len(), leases.iter().filter(|(_, _, like)| ours.1.contains(like)).count()),
                unlinks: (
                    theirs.0.len(),
                    unlinks.iter().filter(|(_, _, like)| theirs.1.contains(like)).count(),
                ),
            };
            ((lookup.function(), unlink.function(), rank), prediction)
        })
        .collect()
}
