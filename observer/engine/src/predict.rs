//! Predicted windows: a lease and a removal of its link that nothing keeps apart, whether or not they met in this run.
//!
//! Both sides are kept by link, as what can be told of them at any time: site, locks, tasks. A lease and a removal are a
//! predicted window if they are of one link, by two tasks that were both alive at both moments, and if no lock of the one
//! excludes a lock of the other during some phase of the lease. That one happened to come after the other orders nothing;
//! a task that was not there yet, or not any more, does; so does a VMA.
//!
//! Decides what keeps two sides apart, and what is counted. What a task did reaches this module a little later
//! (`predict/lately`), since a lock may turn out to have been held that was not known when it was taken.

mod lately;
mod report;
mod sides;

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

pub(crate) use self::{
    lately::{Done, Happening, KEPT, What, Who},
    sides::{Key, Witness},
};
use self::{
    report::Protection,
    sides::{Seen, Sides, Sig},
};
use crate::{
    event::{Addr, Mm, SiteId, Table},
    finding::Rank,
    fx::FxMap,
    lock_class::LockClass,
    locks::Locks,
    loss::Losses,
    recent::Recent,
    rules::Rules,
    tasks::{Held, Tasks},
};

/// How long a task's doings wait for a lock that turns out to have been held, how long the exit of a task is remembered,
/// and what is known of a table after its end.
const WAIT_NS: u64 = 1_000_000_000;

/// What keeps a lease and a removal apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Apart(u16);

impl Apart {
    pub const NOTHING: Apart = Apart(0);
    /// The VMA's own lock or mmap_lock, by contract of the lookup site, against a writer of mmap_lock.
    pub const VMA_LOCKED: Apart = Apart(1 << 14);
    /// The mm has no user left.
    pub const LAST_USER: Apart = Apart(1 << 15);

    pub fn lock(class: LockClass) -> Apart {
        Apart(1 << class as u16)
    }

    pub fn and(self, other: Apart) -> Apart {
        Apart(self.0 & other.0)
    }

    pub fn or(self, other: Apart) -> Apart {
        Apart(self.0 | other.0)
    }

    pub fn classes(self) -> impl Iterator<Item = LockClass> {
        LockClass::ALL.into_iter().filter(move |c| self.0 & Apart::lock(*c).0 != 0)
    }

    pub fn has(self, other: Apart) -> bool {
        self.0 & other.0 != 0
    }
}

/// Lookup site, unlink site, rank.
pub(crate) type PairKey = (SiteId, SiteId, Rank);

/// A predicted window, merged over all links.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub leases: u64,
    pub unlinks: u64,
    pub first_ns: u64,
    pub last_ns: u64,
    /// Classes that the unlinkers held in a way that keeps others out, every time.
    pub would_exclude: Apart,
    /// Classes that the holders held, that exclude other unlinks, and that the unlinkers did not hold, every time.
    pub unlinker_lacks: Apart,
    pub holder: Witness,
    pub unlinker: Witness,
    pub link: (Mm, Addr, Table, u32),
}

/// What the engine lends for a judgement.
pub(crate) struct World<'a> {
    pub rules: &'a Rules,
    pub tasks: &'a Tasks,
    pub locks: &'a Locks,
    pub losses: &'a Losses,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Predictions {
    by_mm: FxMap<Mm, Sides>,
    pub pairs: BTreeMap<PairKey, Pair>,
    pub protection: Protection,
    /// Tasks that exited lately, by serial.
    exits: Recent,
    /// Tables that died lately: when, which, their links.
    died: VecDeque<Died>,
}

/// A table's end.
#[derive(Clone, Debug)]
pub(crate) struct Died {
    pub at_ns: u64,
    pub table: Table,
    pub generation: u32,
    pub links: Vec<(Mm, Addr)>,
}

impl Predictions {
    /// Takes in what a task did.
    pub fn take(&mut self, world: &World, done: &Happening) {
        self.protection.count(done);
        if !done.what.whole {
            return;
        }
        let mut context =
            Context { world, exits: &self.exits, pairs: &mut self.pairs, protection: &mut self.protection };
        self.by_mm.entry(done.what.mm).or_default().take(&mut context, done);
    }

    /// A task exits.
    pub fn exited(&mut self, serial: u64, now_ns: u64) {
        self.exits.add(serial, now_ns);
    }

    /// A table's page was given back.
    pub fn died(&mut self, died: Died) {
        self.died.push_back(died);
    }

    /// An mm is no more, and its address may be another's.
    pub fn mm_gone(&mut self, mm: Mm) {
        if let Some(sides) = self.by_mm.remove(&mm) {
            sides.add_unlinked(&mut self.protection);
        }
    }

    /// Forgets what can no longer matter.
    pub fn forget(&mut self, now_ns: u64) {
        let old = |at_ns: u64| at_ns + 2 * WAIT_NS < now_ns;
        self.exits.forget(old);
        while self.died.front().is_some_and(|d| old(d.at_ns)) {
            let Some(died) = self.died.pop_front() else { return };
            for (mm, gib) in died.links {
                if let Some(sides) = self.by_mm.get_mut(&mm) {
                    sides.link_gone((gib, died.table, died.generation), &mut self.protection);
                    if sides.is_empty() {
                        self.by_mm.remove(&mm);
                    }
                }
            }
        }
    }

    /// The protection so far, with what is not over yet.
    pub fn report(&self) -> Protection {
        let mut report = self.protection.clone();
        for sides in self.by_mm.values() {
            sides.add_unlinked(&mut report);
        }
        report
    }
}

/// What a judgement reads and writes.
pub(crate) struct Context<'a, 'w> {
    world: &'a World<'w>,
    exits: &'a Recent,
    pairs: &'a mut BTreeMap<PairKey, Pair>,
    protection: &'a mut Protection,
}

/// What came of comparing two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing more can come of these two.
    Settled,
    /// No two tasks yet that were both alive at both moments.
    NotYet,
}

impl Context<'_, '_> {
    /// When a task exited, if it has: `Some(0)` long ago.
    fn exit_ns(&self, seen: &Seen) -> Option<u64> {
        if self.world.tasks.is_alive(seen.id, seen.serial) {
            let task = &self.world.tasks[seen.id];
            return task.exiting.then_some(task.last_ns);
        }
        Some(self.exits.get(seen.serial).unwrap_or(0))
    }

    /// Whether a lease and a removal were by two tasks that were both there; `Some(false)`: perhaps, since what was lost
    /// between them may be the end of a task, of the mm, of the table or of a lock.
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
            return Some(!self.world.losses.anywhere(from_ns, to_ns));
        };
        let exit_ns = self.exit_ns(first);
        if second.born_ns > from_ns || exit_ns.is_some_and(|at_ns| at_ns < to_ns) {
            return None;
        }
        Some(!self.world.losses.anywhere(from_ns, to_ns))
    }

    /// Whether the VMAs whose lock the two had were both there: a place that is mapped anew is another VMA, with another
    /// lock, though a partner may have kept the table.
    fn one_vma(&self, (lease, a): (&Sig, &Seen), (unlink, b): (&Sig, &Seen)) -> bool {
        let vma = |k: &&Key| k.class == LockClass::VmaLock;
        let gone = |k: &Key, by_ns: u64| self.world.locks.was_gone(k.instance, by_ns);
        let mut of_lease = lease.phases.iter().flatten().filter(vma);
        let mut of_unlink = unlink.phases.iter().flatten().filter(vma);
        !of_lease.any(|k| gone(k, b.last_ns)) && !of_unlink.any(|k| gone(k, a.first_ns))
    }

    /// When two tasks that were both there had come to a link, and whether that is sure.
    fn both_there(&self, lease: &Sig, unlink: &Sig) -> Option<(u64, bool)> {
        let mut tasks: Option<(u64, bool)> = None;
        for a in &lease.seen {
            for b in &unlink.seen {
                if let Some(sure) = self.both_alive(a, b)
                    && self.one_vma((lease, a), (unlink, b))
                    && tasks.is_none_or(|(_, was_sure)| sure && !was_sure)
                {
                    tasks = Some((a.first_ns.max(b.last_ns), sure));
                }
            }
        }
        tasks
    }

    /// Compares a lease and a removal of one link.
    fn judge(&mut self, link: (Mm, Addr, Table, u32), lease: &mut Sig, unlink: &mut Sig) -> Verdict {
        let rules = self.world.rules;
        let sites = (lease.site, unlink.site);
        let mut any = Apart::NOTHING;
        let mut open = None;
        for (n, phase) in lease.phases.iter().enumerate() {
            let apart = apart(rules, link.0, lease, phase, unlink);
            any = any.or(apart);
            if apart == Apart::NOTHING {
                open.get_or_insert(n);
            }
        }
        let Some(phase) = open else {
            self.protection.kept_apart(sites, any, false);
            return Verdict::Settled;
        };
        let Some((at_ns, sure)) = self.both_there(lease, unlink) else { return Verdict::NotYet };
        let rank = match lease.done {
            _ if !(sure && lease.sure && unlink.sure) => Rank::Incomplete,
            Done::Lease { revalidated: true, .. } => Rank::Revalidated,
            Done::Lease { certain: true, .. } => Rank::Predicted,
            _ => Rank::Possible,
        };
        self.protection.kept_apart(sites, Apart::NOTHING, true);
        self.predicted((sites.0, sites.1, rank), link, (lease, phase), unlink, at_ns);
        // Two others may be sure to have been alive.
        if sure { Verdict::Settled } else { Verdict::NotYet }
    }

    fn predicted(
        &mut self,
        key: PairKey,
        link: (Mm, Addr, Table, u32),
        (lease, phase): (&mut Sig, usize),
        unlink: &mut Sig,
        at_ns: u64,
    ) {
        let rules = self.world.rules;
        let (held, taken) = (&lease.phases[phase], &unlink.phases[0]);
        let classes = |keys: &mut dyn Iterator<Item = &Key>| {
            keys.fold(Apart::NOTHING, |all, k| all.or(Apart::lock(k.class)))
        };
        let would_exclude = classes(&mut taken.iter().filter(|k| k.exclusive && k.is_of_link()));
        let excluding = |k: &&Key| rules.is_excluding(k.class.wire(), key.1);
        let has = |k: &&Key| taken.iter().any(|t| (t.class, t.instance) == (k.class, k.instance));
        let unlinker_lacks = classes(&mut held.iter().filter(excluding).filter(|k| !has(k)));
        let (holder, unlinker) = (lease.witness(phase), unlink.witness(0));
        // Whichever two came first, not those that were judged first; and of one link.
        let order = |a: &Witness, b: &Witness, link| (a.who.time_ns.max(b.who.time_ns), link);
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
            }),
            Entry::Occupied(known) => {
                let pair = known.into_mut();
                pair.would_exclude = pair.would_exclude.and(would_exclude);
                pair.unlinker_lacks = pair.unlinker_lacks.and(unlinker_lacks);
                pair.first_ns = pair.first_ns.min(at_ns);
                pair.last_ns = pair.last_ns.max(at_ns);
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

/// Whether it is the lock of this mm; one that was not named may be.
fn is_of(lock: &Key, mm: Mm) -> bool {
    lock.owner == mm.0 || lock.owner == 0
}

/// What keeps a phase of a lease and a removal apart, at every time.
fn apart(rules: &Rules, mm: Mm, lease: &Sig, phase: &[Key], unlink: &Sig) -> Apart {
    let mut apart = Apart::NOTHING;
    for taken in &*unlink.phases[0] {
        let meets = |held: &&Key| held.instance == taken.instance && held.class == taken.class;
        if phase.iter().find(meets).is_some_and(|held| held.exclusive || taken.exclusive) {
            apart = apart.or(Apart::lock(taken.class));
        }
        if taken.class == LockClass::MmapLock
            && taken.exclusive
            && is_of(taken, mm)
            && rules.vma_locked(lease.site)
        {
            apart = apart.or(Apart::VMA_LOCKED);
        }
    }
    let is_user = lease.in_mm
        || rules.vma_locked(lease.site)
        || phase.iter().any(|k| k.class == LockClass::MmapLock && is_of(k, mm));
    if unlink.done == (Done::Unlink { last_user: true }) && is_user {
        apart = apart.or(Apart::LAST_USER);
    }
    apart
}

/// Whether these are the locks of a phase.
pub(crate) fn are<'a>(keys: &[Key], held: impl Iterator<Item = &'a Held>) -> bool {
    let mut n = 0;
    for held in held {
        if !keys.iter().any(|k| k.is(held)) {
            return false;
        }
        n += 1;
    }
    n == keys.len()
}

/// A lock as the two sides are compared by it.
pub(crate) fn key(locks: &Locks, held: &Held) -> Key {
    Key::new(held, locks.get(held.instance.addr).map_or(0, |l| l.owner))
}
