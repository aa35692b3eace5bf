//! Predicted windows: a lease and an unlink of its link that nothing excludes, even if they did not meet in this run.
//!
//! The accesses of both parties are kept by link, as facts that are valid at any time: site, locks, tasks. A lease and
//! an unlink are a predicted window under three conditions. They are of one link; two tasks made them that both existed
//! at both moments; and during some phase of the lease, no lock of one excludes a lock of the other. The recorded order
//! alone does not order them. They are ordered if one task was not forked yet or was already gone, or if the VMA was
//! another one.
//!
//! This module decides the excluders of two accesses, and what is counted. An access gets here with some delay
//! (`predict/pending`), because a lock may turn out to have been held that was not known when it was acquired.

mod access;
mod link_history;
mod pending;
mod report;

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

pub(crate) use self::access::UnlinkAt;
use self::{
    link_history::{LinkAccess, LinkHistories, Seen, Witness},
    pending::{Access, AccessKind, Pending, WAIT_NS},
    report::Protection,
};
use crate::{
    event::{Mm, SiteId},
    finding::Rank,
    fx::FxMap,
    holds::{Held, Key},
    lock_class::LockClass,
    locks::Locks,
    recent::Recent,
    tables::{Died, LinkId},
    world::World,
};

/// Set of excluders between a lease and an unlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Excluders(u16);

impl Excluders {
    pub const NOTHING: Excluders = Excluders(0);
    /// The VMA's own lock or mmap_lock, by contract of the lookup site, against a writer of mmap_lock.
    pub const VMA_LOCKED: Excluders = Excluders(1 << 14);
    /// The mm has no user left.
    pub const LAST_USER: Excluders = Excluders(1 << 15);

    pub fn lock(class: LockClass) -> Excluders {
        Excluders(1 << class as u16)
    }

    pub fn and(self, other: Excluders) -> Excluders {
        Excluders(self.0 & other.0)
    }

    pub fn or(self, other: Excluders) -> Excluders {
        Excluders(self.0 | other.0)
    }

    pub fn classes(self) -> impl Iterator<Item = LockClass> {
        LockClass::ALL.into_iter().filter(move |c| self.0 & Excluders::lock(*c).0 != 0)
    }

    pub fn has(self, other: Excluders) -> bool {
        self.0 & other.0 != 0
    }
}

/// Lookup site, unlink site and rank.
pub(crate) type PairKey = (SiteId, SiteId, Rank);

/// A predicted window, merged over all links.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub leases: u64,
    pub unlinks: u64,
    pub first_ns: u64,
    pub last_ns: u64,
    /// Classes that the unlinkers held exclusively, every time.
    pub would_exclude: Excluders,
    /// Classes that the holders held, that exclude other unlinks, and that the unlinkers did not hold, every time.
    pub unlinker_lacks: Excluders,
    pub holder: Witness,
    pub unlinker: Witness,
    pub link: LinkId,
    /// Reasons why it is incomplete: records were lost; a bound was reached.
    pub lossy: bool,
    pub bound: bool,
}

/// Link histories by mm, and the predicted windows so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Predictions {
    pending: Pending,
    by_mm: FxMap<Mm, LinkHistories>,
    pairs: BTreeMap<PairKey, Pair>,
    protection: Protection,
    /// Recent exits of tasks, by serial.
    exits: Recent,
    /// Recently freed tables.
    died: VecDeque<Died>,
    /// Walks that made room: their accesses are not known any more.
    pub dropped_walks: u64,
}

impl Predictions {
    /// Adds an access that is not pending any more.
    fn take(&mut self, world: &World, access: &Access) {
        self.protection.count(access);
        if !access.key.in_operation {
            return;
        }
        let mut context = Context {
            world,
            exits: &self.exits,
            pairs: &mut self.pairs,
            protection: &mut self.protection,
            dropped_walks: &mut self.dropped_walks,
        };
        self.by_mm.entry(access.key.mm).or_default().take(&mut context, access);
    }

    /// Records the free of a table's page.
    pub fn died(&mut self, died: Died) {
        self.died.push_back(died);
    }

    /// Forgets an mm that was freed, because its address may be reused.
    fn forget_mm(&mut self, mm: Mm) {
        if let Some(histories) = self.by_mm.remove(&mm) {
            histories.add_unlinked(&mut self.protection);
        }
    }

    /// Forgets what cannot change a verdict any more. Exits of tasks and dead tables are remembered for twice the time
    /// for which accesses are pending.
    fn forget(&mut self, now_ns: u64) {
        let old = |at_ns: u64| at_ns.saturating_add(2 * WAIT_NS) < now_ns;
        self.exits.forget(old);
        while self.died.front().is_some_and(|d| old(d.at_ns)) {
            let Some(died) = self.died.pop_front() else { return };
            for link in died.links {
                if let Some(histories) = self.by_mm.get_mut(&link.mm) {
                    histories.link_gone(link, &mut self.protection);
                    if histories.is_empty() {
                        self.by_mm.remove(&link.mm);
                    }
                }
            }
        }
    }

    /// Returns the protection so far, including links that still exist.
    pub fn report(&self) -> Protection {
        let mut report = self.protection.clone();
        for histories in self.by_mm.values() {
            histories.add_unlinked(&mut report);
        }
        report
    }
}

/// State that a judgement reads and writes.
pub(crate) struct Context<'a> {
    world: &'a World,
    exits: &'a Recent,
    pairs: &'a mut BTreeMap<PairKey, Pair>,
    protection: &'a mut Protection,
    dropped_walks: &'a mut u64,
}

/// Result of comparing a lease and an unlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Further comparisons of these two cannot change anything.
    Settled,
    /// No two tasks are known yet that both existed at both moments.
    NotYet,
}

/// Result for one pair of tasks of the two accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Meeting {
    /// Nothing excludes them, and both tasks certainly existed.
    Open,
    /// Nothing may exclude them: it depends on lost records.
    Perhaps,
    /// A lock excludes them, or the tasks did not exist together.
    Excluded,
}

/// One case of two accesses: result, phase of the lease, locks of single pages, and time.
struct Case {
    meeting: Meeting,
    phase: usize,
    page_locks: [Vec<Key>; 2],
    at_ns: u64,
}

/// Worst case over all tasks of two accesses.
struct Worst {
    case: Option<Case>,
    /// Excluders of the other cases.
    by: Excluders,
    /// Some cases are excluded only by locks of single pages.
    by_page: bool,
}

impl Context<'_> {
    /// Returns the exit time of a task, if it exited; `Some(0)`: long ago.
    fn exit_ns(&self, seen: &Seen) -> Option<u64> {
        if self.world.tasks.is_alive(seen.id, seen.serial) {
            let task = &self.world.tasks[seen.id];
            return task.exiting.then_some(task.last_ns);
        }
        Some(self.exits.get(seen.serial).unwrap_or(0))
    }

    /// Returns true if the task exited longer ago than any access that is still to be judged.
    pub fn is_gone(&self, seen: &Seen) -> bool {
        self.exit_ns(seen) == Some(0)
    }

    pub fn dropped_walk(&mut self) {
        *self.dropped_walks += 1;
    }

    /// Returns `Some(true)` if two tasks made the lease and the unlink that both existed at both moments.
    /// `Some(false)`: perhaps, because the end of a task, the mm, the table or a lock between them may be lost.
    fn both_alive(&self, lease: &Seen, unlink: &Seen) -> Option<bool> {
        if lease.serial == unlink.serial {
            return None;
        }
        let (first, second, (from_ns, to_ns)) = if lease.last_ns < unlink.last_ns {
            (lease, unlink, (lease.last_ns, unlink.last_ns))
        } else if unlink.last_ns < lease.first_ns {
            (unlink, lease, (unlink.last_ns, lease.first_ns))
        } else {
            let (from_ns, to_ns) = (lease.first_ns.min(unlink.last_ns), lease.last_ns.max(unlink.last_ns));
            return Some(self.is_one_world(from_ns, to_ns));
        };
        let exit_ns = self.exit_ns(first);
        // If its fork was not seen, its first record may be only the first one that was not lost.
        let is_late = second.born_ns > from_ns;
        if is_late && !second.is_made && !self.world.losses.anywhere(from_ns, second.born_ns).is_nothing() {
            return exit_ns.is_none_or(|at_ns| at_ns >= to_ns).then_some(false);
        }
        if is_late || exit_ns.is_some_and(|at_ns| at_ns < to_ns) {
            return None;
        }
        // The task was active since, or its exit was seen.
        let seen_ns = match exit_ns {
            Some(at_ns) => at_ns,
            None => self.world.tasks[first.id].last_ns,
        };
        let losses = &self.world.losses;
        let was_there = seen_ns >= to_ns || !losses.anywhere(seen_ns.max(from_ns), to_ns).ends();
        Some(was_there && self.is_one_world(from_ns, to_ns))
    }

    /// Returns true if mm, table and locks are the same ones at both times. Hiding a change takes two lost records: the
    /// end of one object and the begin of another at its address.
    fn is_one_world(&self, from_ns: u64, to_ns: u64) -> bool {
        let losses = &self.world.losses;
        !losses.anywhere(from_ns, to_ns).ends() || losses.are_sparse(from_ns, to_ns)
    }

    /// Returns true if the VMAs whose locks the two tasks held both existed at both times. A new mapping at the same
    /// address is another VMA with another lock, even if a partner kept the table.
    fn one_vma(&self, (lease, a): (&LinkAccess, &Seen), (unlink, b): (&LinkAccess, &Seen)) -> bool {
        let vma = |k: &&Key| k.class == LockClass::VmaLock;
        let gone = |k: &Key, by_ns: u64| self.world.locks.was_gone(k.instance, by_ns);
        let mut of_lease = lease.phases.iter().flatten().filter(vma);
        let mut of_unlink = unlink.phases.iter().flatten().filter(vma);
        !of_lease.any(|k| gone(k, b.last_ns)) && !of_unlink.any(|k| gone(k, a.first_ns))
    }

    /// Returns the worst case of two accesses by two tasks, and the excluders of all others.
    fn worst(&self, lease: &LinkAccess, unlink: &LinkAccess) -> Worst {
        let mut worst: Option<Case> = None;
        let (mut any, mut pages) = (Excluders::NOTHING, false);
        for a in &lease.seen {
            for b in &unlink.seen {
                let Some(sure) = self.both_alive(a, b) else { continue };
                let is_one_vma = self.one_vma((lease, a), (unlink, b));
                let (from_ns, to_ns) = (a.first_ns.min(b.last_ns), a.last_ns.max(b.last_ns));
                if !is_one_vma && !self.world.losses.anywhere(from_ns, to_ns).ends() {
                    continue;
                }
                let sure = sure && is_one_vma;
                for (held, taken) in a.variants.iter().flat_map(|h| b.variants.iter().map(move |t| (h, t))) {
                    for phase in 0..lease.phases.len() {
                        let (by_link, by_link_perhaps) = self.excluders_of(lease, phase, unlink);
                        let (by_page, by_page_perhaps) = shared(&held[phase], &taken[0]);
                        any = any.or(by_link).or(by_page);
                        pages |= by_link == Excluders::NOTHING && by_page != Excluders::NOTHING;
                        if by_link.or(by_page) != Excluders::NOTHING {
                            continue;
                        }
                        let is_open = sure && by_link_perhaps.or(by_page_perhaps) == Excluders::NOTHING;
                        let meeting = if is_open { Meeting::Open } else { Meeting::Perhaps };
                        if worst.as_ref().is_none_or(|w| meeting < w.meeting) {
                            let page_locks = [held[phase].clone(), taken[0].clone()];
                            let at_ns = a.first_ns.max(b.last_ns);
                            worst = Some(Case { meeting, phase, page_locks, at_ns });
                        }
                    }
                }
            }
        }
        Worst { case: worst, by: any, by_page: pages }
    }

    /// Compares a lease and an unlink of the same link.
    fn judge(&mut self, link: LinkId, lease: &mut LinkAccess, unlink: &mut LinkAccess) -> Verdict {
        let sites = (lease.site, unlink.site);
        let mut all = Excluders::NOTHING;
        let is_settled = (0..lease.phases.len()).all(|phase| {
            let (firm, _) = self.excluders_of(lease, phase, unlink);
            all = all.or(firm);
            firm != Excluders::NOTHING
        });
        if is_settled && lease.whole {
            self.protection.excluded(sites, all, false);
            return Verdict::Settled;
        }
        let Worst { case, by, by_page } = self.worst(lease, unlink);
        let Some(case) = case else {
            let is_cut = |entry: &LinkAccess| entry.is_cut || (by_page && entry.variants_cut);
            if is_cut(lease) || is_cut(unlink) || !lease.whole {
                // A task or variant that was dropped may not have been excluded.
                self.incomplete(sites, link, lease, unlink, false);
            } else if by != Excluders::NOTHING {
                self.protection.excluded(sites, by, false);
            }
            return Verdict::NotYet;
        };
        let sure = case.meeting == Meeting::Open && lease.sure && unlink.sure;
        let rank = match lease.kind {
            _ if !sure => Rank::Incomplete,
            AccessKind::Lease { revalidated: true, .. } => Rank::Revalidated,
            AccessKind::Lease { certain: true, .. } => Rank::Predicted,
            _ => Rank::Possible,
        };
        if sure {
            self.protection.excluded(sites, Excluders::NOTHING, true);
        } else {
            self.protection.undecided(sites);
        }
        self.predicted((sites.0, sites.1, rank), link, lease, unlink, &case);
        // Other tasks may give a certain verdict.
        if sure { Verdict::Settled } else { Verdict::NotYet }
    }

    /// Records that a lost record or a bound could have changed the verdict.
    fn incomplete(
        &mut self,
        sites: (SiteId, SiteId),
        link: LinkId,
        lease: &mut LinkAccess,
        unlink: &mut LinkAccess,
        lossy: bool,
    ) {
        let at_ns = lease.last_ns().max(unlink.last_ns());
        let page_locks = [Vec::new(), Vec::new()];
        let case = Case { meeting: Meeting::Excluded, phase: 0, page_locks, at_ns };
        let key = (sites.0, sites.1, Rank::Incomplete);
        self.protection.undecided(sites);
        self.predicted(key, link, lease, unlink, &case);
        if let Some(pair) = self.pairs.get_mut(&key) {
            pair.bound |= !lossy;
        }
    }

    fn predicted(
        &mut self,
        key: PairKey,
        link: LinkId,
        lease: &mut LinkAccess,
        unlink: &mut LinkAccess,
        case: &Case,
    ) {
        let (rules, at_ns) = (&self.world.rules, case.at_ns);
        let [held_pages, taken_pages] = &case.page_locks;
        let held = || lease.phases[case.phase].iter().chain(held_pages);
        let taken = || unlink.phases[0].iter().chain(taken_pages);
        let classes = |keys: &mut dyn Iterator<Item = &Key>| {
            keys.fold(Excluders::NOTHING, |all, k| all.or(Excluders::lock(k.class)))
        };
        let would_exclude = classes(&mut taken().filter(|k| k.exclusive && k.is_of_link()));
        let excluding = |k: &&Key| rules.is_excluding(k.class.wire(), key.1);
        let has = |k: &&Key| taken().any(|t| t.is_of(k));
        let unlinker_lacks = classes(&mut held().filter(excluding).filter(|k| !has(k)));
        let (holder, unlinker) = (lease.witness(case.phase, held_pages), unlink.witness(0, taken_pages));
        let lossy = key.2 == Rank::Incomplete && case.meeting != Meeting::Excluded;
        // The witnesses are the earliest pair, not the one that was judged first, and both are of one link.
        let order = |a: &Witness, b: &Witness, link| (a.actor.time_ns.max(b.actor.time_ns), link);
        let pair = match self.pairs.entry(key) {
            Entry::Vacant(new) => new.insert(Pair {
                leases: 0,
                unlinks: 0,
                first_ns: at_ns,
                last_ns: at_ns,
                would_exclude,
                unlinker_lacks,
                holder,
                unlinker,
                link,
                lossy,
                bound: false,
            }),
            Entry::Occupied(known) => {
                let pair = known.into_mut();
                pair.would_exclude = pair.would_exclude.and(would_exclude);
                pair.unlinker_lacks = pair.unlinker_lacks.and(unlinker_lacks);
                pair.first_ns = pair.first_ns.min(at_ns);
                pair.last_ns = pair.last_ns.max(at_ns);
                pair.lossy |= lossy;
                if order(&holder, &unlinker, link) < order(&pair.holder, &pair.unlinker, pair.link) {
                    (pair.holder, pair.unlinker, pair.link) = (holder, unlinker, link);
                }
                pair
            }
        };
        if !lease.pairs.contains(&key) {
            lease.pairs.push(key);
            pair.leases += lease.count;
        }
        if !unlink.pairs.contains(&key) {
            unlink.pairs.push(key);
            pair.unlinks += unlink.count;
        }
    }
}

/// Returns true if it is the lock of this mm; a lock that was not named may be.
fn is_of(lock: &Key, mm: Mm) -> bool {
    lock.owner == mm.0 || lock.owner == 0
}

impl Context<'_> {
    /// Returns the excluders of a phase of a lease and an unlink, among the link's locks: the certain ones and the
    /// possible ones.
    fn excluders_of(&self, lease: &LinkAccess, phase: usize, unlink: &LinkAccess) -> (Excluders, Excluders) {
        let (rules, mm) = (&self.world.rules, lease.mm);
        let phase = &lease.phases[phase];
        let (mut firm, mut perhaps) = shared(phase, &unlink.phases[0]);
        let is_locked = rules.vma_locked(lease.site);
        let closes = |taken: &&Key| taken.class == LockClass::MmapLock && taken.exclusive && is_of(taken, mm);
        if let Some(taken) = unlink.phases[0].iter().find(closes).filter(|_| is_locked) {
            let by = if taken.doubtful { &mut perhaps } else { &mut firm };
            *by = by.or(Excluders::VMA_LOCKED);
        }
        let has_mmap_lock = || phase.iter().any(|k| k.class == LockClass::MmapLock && is_of(k, mm));
        let is_user = lease.in_mm || is_locked || has_mmap_lock();
        if unlink.kind == (AccessKind::Unlink { last_user: true }) && is_user {
            firm = firm.or(Excluders::LAST_USER);
        }
        (firm, perhaps)
    }
}

/// Returns the locks that both hold, at least one exclusively: the certain ones and the possible ones.
fn shared(held: &[Key], taken: &[Key]) -> (Excluders, Excluders) {
    let (mut firm, mut perhaps) = (Excluders::NOTHING, Excluders::NOTHING);
    for taken in taken {
        let Some(held) = held.iter().find(|held| held.is_of(taken)) else { continue };
        if held.exclusive || taken.exclusive {
            let by = if held.doubtful || taken.doubtful { &mut perhaps } else { &mut firm };
            *by = by.or(Excluders::lock(taken.class));
        }
    }
    (firm, perhaps)
}

/// Returns a held lock in the form that is compared.
pub(crate) fn key(locks: &Locks, held: &Held) -> Key {
    Key::new(held, locks.get(held.instance.addr).map_or(0, |l| l.owner))
}
