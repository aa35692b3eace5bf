//! The windows that must be predicted: every lease and every unlink of its link that no lock excludes.
//!
//! Brute force like the rest of the oracle: compares the locks of a lease's task at each moment with the locks of
//! each unlink.

use std::collections::{BTreeMap, BTreeSet};

use observer_engine::{
    event::{Class, Mode},
    finding::Rank,
};

use super::{
    kernel::TaskNo,
    locks::Lock,
    oracle::{Life, Window, life},
    sites::Site,
    truth::{Deed, Held, Lease, Log, Sort, Unlink},
};

impl Life {
    /// Returns the rank of a predicted window of this lease.
    fn predicted(&self, lease: &Lease) -> Rank {
        if self.revalidated && self.went_on_ns.is_none() {
            Rank::Revalidated
        } else if self.certain_ns > lease.start_ns || lease.sort == Sort::Walk {
            Rank::Predicted
        } else {
            Rank::Possible
        }
    }
}

/// A predicted window, by pair of sites and rank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prediction {
    /// Minimum and maximum of the numbers of leases and unlinks that may be reported, including equal ones.
    pub leases: (usize, usize),
    pub unlinks: (usize, usize),
}

/// Returns the locks of a lease's task at every moment at which it held the pointer.
fn moments(log: &Log, lease: &Lease, life: &Life) -> Vec<Vec<Held>> {
    let mut held = lease.held.clone();
    let mut moments = vec![held.clone()];
    for (at_ns, deed) in &log.deeds[lease.task][lease.deed..] {
        if *at_ns >= life.possible_ns {
            break;
        }
        match deed {
            Deed::Acquired { held: acquired } => held.push(*acquired),
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

/// Returns true if the two holds exclude each other.
fn conflict(held: &Held, taken: &Held) -> bool {
    // A task that downgraded the mmap_lock removed the VMA from the mm before that.
    let writes = |h: &Held| h.mode != Mode::Read;
    let hides = taken.downgraded && taken.lock.class() == Class::MmapLock;
    (held.lock, held.life) == (taken.lock, taken.life) && (writes(held) || writes(taken) || hides)
}

fn are_excluded(lease: &Lease, moments: &[Vec<Held>], unlink: &Unlink) -> bool {
    (unlink.last_user && lease.is_user)
        || moments.iter().all(|held| held.iter().any(|h| unlink.held.iter().any(|u| conflict(h, u))))
}

/// Returns true if both tasks existed at both moments: the lease and the unlink overlapped, or the later task was
/// born before the earlier access ended, and the earlier task exited after the later access.
fn both_existed(log: &Log, lease: &Lease, life: &Life, (unlinker, at_ns): (TaskNo, u64)) -> bool {
    let (holder, from_ns) = (lease.task, lease.start_ns);
    let to_ns = life.possible_ns.max(from_ns);
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

/// Returns true if both tasks held the lock of the same VMA: neither lock was gone at the time of the other access.
/// `None`: one was gone, but the lease does not depend on it.
fn one_vma(
    log: &Log,
    (lease, moments): (&Lease, &[Vec<Held>]),
    (unlink, reported_ns): (&Unlink, u64),
) -> Option<bool> {
    let gone = |h: &Held, by_ns: u64| {
        let is_vma = h.lock.class() == Class::VmaLock;
        is_vma && log.gone.iter().any(|(lock, life, at)| (*lock, *life) == (h.lock, h.life) && *at < by_ns)
    };
    let is_more =
        |m: &Vec<Held>| moments.iter().any(|less| less.len() < m.len() && less.iter().all(|h| m.contains(h)));
    let mut least = moments.iter().filter(|m| !is_more(m)).flatten();
    if least.any(|h| gone(h, reported_ns)) || unlink.held.iter().any(|h| gone(h, lease.start_ns)) {
        return Some(false);
    }
    (!moments.iter().flatten().any(|h| gone(h, reported_ns))).then_some(true)
}

/// Leases or unlinks of one prediction.
#[derive(Default)]
struct Members<'a> {
    sure: BTreeSet<usize>,
    like: BTreeSet<&'a Like>,
}

impl<'a> Members<'a> {
    fn add(&mut self, no: usize, like: &'a Like, sure: bool) {
        if sure {
            self.sure.insert(no);
        }
        self.like.insert(like);
    }

    fn bounds<'b>(&self, all: impl Iterator<Item = &'b Like>) -> (usize, usize) {
        (self.sure.len(), all.filter(|like| self.like.contains(like)).count())
    }
}

/// Accesses that cannot be distinguished count together: by site, link and locks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Like {
    site: Site,
    rank: Rank,
    is_own: bool,
    last_user: bool,
    link: (usize, u64, u64, u32),
    locks: BTreeSet<BTreeSet<(Lock, u32, bool)>>,
}

/// Returns the sets of locks that contain no other set.
fn least(sets: &[Vec<Held>]) -> BTreeSet<BTreeSet<(Lock, u32, bool)>> {
    let hides = |h: &Held| h.downgraded && h.lock.class() == Class::MmapLock;
    let key = |h: &Held| (h.lock, h.life, h.mode != Mode::Read || hides(h));
    let is_seen = |h: &&Held| !matches!(h.lock, Lock::PerVma(..));
    let sets: BTreeSet<BTreeSet<_>> =
        sets.iter().map(|s| s.iter().filter(is_seen).map(key).collect()).collect();
    let is_least = |s: &&BTreeSet<_>| !sets.iter().any(|other| other != *s && other.is_subset(s));
    sets.iter().filter(is_least).cloned().collect()
}

/// Returns true if the lease ended soon enough after the end of a task or table. The engine remembers such an end
/// only for a while.
fn is_remembered(log: &Log, lease: &Lease, life: &Life, unlink: &Unlink) -> bool {
    const REMEMBERED_NS: u64 = 900_000_000;
    let exits = [lease.task, unlink.task].map(|task| log.spans[task].exit_ns);
    let is_of_table = |u: &&Unlink| u.freed && (u.table, u.life) == (unlink.table, unlink.life);
    let freed = log.unlinks.iter().filter(is_of_table).map(|u| u.at_ns);
    let mut ends = exits.into_iter().flatten().chain(freed);
    ends.all(|at_ns| life.over_ns <= at_ns + REMEMBERED_NS)
}

/// Returns the last access of each task of each kind. The engine may have forgotten the earlier ones.
fn last<'a>(all: impl Iterator<Item = (TaskNo, &'a Like)>) -> BTreeSet<usize> {
    let last: BTreeMap<(TaskNo, &Like), usize> = all.enumerate().map(|(no, what)| (what, no)).collect();
    last.into_values().collect()
}

/// Returns all predictions, without those for which a window of the same or a worse rank was seen.
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
            Some((u, u.reported_ns?.1, like))
        })
        .collect();
    let last_leases = last(leases.iter().zip(&log.leases).map(|((_, _, like), lease)| (lease.task, like)));
    let last_unlinks = last(unlinks.iter().map(|(unlink, _, like)| (unlink.task, like)));
    let mut all: BTreeMap<(Site, Site, Rank), [Members; 2]> = BTreeMap::new();
    for (l, ((life, moments, like), lease)) in leases.iter().zip(&log.leases).enumerate() {
        for (u, (unlink, reported_ns, unlike)) in unlinks.iter().enumerate() {
            if !lease.is_of_link(unlink)
                || lease.task == unlink.task
                || are_excluded(lease, moments, unlink)
                || !both_existed(log, lease, life, (unlink.task, *reported_ns))
            {
                continue;
            }
            let vma = one_vma(log, (lease, moments), (unlink, *reported_ns));
            if vma != Some(false) {
                let [ours, theirs] = all.entry((like.site, unlike.site, like.rank)).or_default();
                let is_sure = vma.is_some()
                    && is_remembered(log, lease, life, unlink)
                    && last_leases.contains(&l)
                    && last_unlinks.contains(&u);
                ours.add(l, like, is_sure);
                theirs.add(u, unlike, is_sure);
            }
        }
    }
    all.retain(|(lookup, unlink, rank), _| {
        !seen.iter().any(|w| (w.lookup, w.unlink) == (*lookup, *unlink) && w.rank <= *rank)
    });
    all.into_iter()
        .map(|((lookup, unlink, rank), [ours, theirs])| {
            let prediction = Prediction {
                leases: ours.bounds(leases.iter().map(|(_, _, like)| like)),
                unlinks: theirs.bounds(unlinks.iter().map(|(_, _, like)| like)),
            };
            ((lookup.function(), unlink.function(), rank), prediction)
        })
        .collect()
}
