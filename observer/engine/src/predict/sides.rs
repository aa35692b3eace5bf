//! The two sides, by link: which tasks looked up and which removed, under which locks.
//!
//! Decides how much is kept. Bounded by what is alive: a link's sides go with its table or its mm. Accesses are told apart by
//! site and by the locks of the link; the locks of single pages are variants of one ([`super::lately::Variant`]). Of the tasks
//! of an access those make room first that are gone, since nothing that comes later can meet them. What else has to make
//! room is remembered as such, and a verdict that it could have changed is incomplete.

use std::collections::BTreeMap;

use super::{
    Context, Verdict,
    lately::{Done, Happening, VARIANTS, Variant, What, Who, is_less},
    report::Protection,
};
use crate::{
    event::{Addr, Class, Mm, Mode, SiteId, Table},
    finding::{Hold, Known},
    lock_class::LockClass,
    tasks::{Held, Instance, TaskId},
};

/// Accesses kept on one side of a link; a bit each in `Sig::settled`.
const SIGS_MAX: usize = 64;
/// Walks kept of one mm.
const WALKS_MAX: usize = 256;
/// Tasks kept of each access.
const SEEN_MAX: usize = 24;

/// A lock by which sides are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub class: LockClass,
    pub instance: Instance,
    /// Keeps readers out too. A mode that is not known is taken as this one: it makes no false alarm.
    pub exclusive: bool,
    /// mm, mapping, inode or table that it belongs to; 0: not told.
    pub owner: u64,
    /// Its release may be among what was lost: it may not have been held.
    pub doubtful: bool,
}

impl Key {
    pub fn new(held: &Held, owner: u64) -> Key {
        let (class, instance) = (held.class, held.instance);
        Key { class, instance, exclusive: is_exclusive(held), owner, doubtful: held.lossy }
    }

    pub fn is(&self, held: &Held) -> bool {
        self.instance == held.instance && self.class == held.class && self.exclusive == is_exclusive(held)
    }

    /// The same lock.
    pub fn is_of(&self, other: &Key) -> bool {
        self.instance == other.instance && self.class == other.class
    }

    /// A lock of the mm, the VMA, the file or the table, not of one page of it.
    pub fn is_of_link(self) -> bool {
        matches!(self.class.wire(), Class::MmapLock | Class::VmaLock | Class::IMmap | Class::Ptl)
    }

    fn shown(self) -> Hold {
        let mode = match (self.exclusive, self.class.wire()) {
            (false, _) => Mode::Read,
            (true, Class::MmapLock | Class::VmaLock | Class::IMmap | Class::Inode) => Mode::Write,
            (true, _) => Mode::Exclusive,
        };
        let (lock, mode) = (self.instance.addr, Some(mode));
        Hold { class: self.class, lock, mode, known: Known::Asked, since_ns: 0, lossy: false }
    }
}

fn is_exclusive(held: &Held) -> bool {
    // munmap takes the VMA out of the mm while it holds mmap_lock for writing, and goes on with it for reading: whoever
    // looks up after that does not find the VMA.
    held.mode != Some(Mode::Read) || (held.downgraded && held.class == LockClass::MmapLock)
}

/// A task that did it, when, and under which locks of single pages: what it did last without another task coming or going.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub serial: u64,
    pub id: TaskId,
    pub born_ns: u64,
    /// It was seen to be made.
    pub is_made: bool,
    pub first_ns: u64,
    pub last_ns: u64,
    pub variants: Vec<Variant>,
}

impl Seen {
    /// Whether what the task did then is no more than what it did now, as far as variants are told apart.
    fn replaces(&self, old: &Seen) -> bool {
        let is_known = |old: &Variant| self.variants.iter().any(|new| is_less(new, old));
        self.variants.len() == VARIANTS || old.variants.iter().all(is_known)
    }
}

/// The first of many.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    pub who: Who,
    pub holds: Vec<Hold>,
}

/// Accesses on one side of a link that cannot be told from each other.
#[derive(Clone, Debug)]
pub(crate) struct Sig {
    pub mm: Mm,
    pub site: SiteId,
    pub done: Done,
    pub sure: bool,
    pub in_mm: bool,
    /// All that was held is known.
    pub whole: bool,
    /// Locks of the link, by phase.
    pub phases: Vec<Box<[Key]>>,
    pub seen: Vec<Seen>,
    /// Not every task is kept.
    pub is_cut: bool,
    /// Not every variant is kept.
    pub variants_cut: bool,
    pub count: u64,
    who: Who,
    /// Predicted windows that it is part of.
    pub pairs: Vec<super::PairKey>,
    /// Those of the other side with which nothing more can come of it.
    settled: u64,
}

impl Sig {
    fn new(done: &Happening) -> Sig {
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

    fn is(&self, done: &Happening) -> bool {
        let What { site, done: what, sure, in_mm, whole, .. } = done.what;
        (self.site, self.done, self.sure, self.in_mm, self.whole) == (site, what, sure, in_mm, whole)
            && self.phases.len() == done.phases.len()
            && self.phases.iter().zip(&done.phases).all(|(a, b)| **a == **b)
    }

    /// `is_gone`: a task that nothing later can meet.
    fn add(&mut self, done: &Happening, is_gone: impl Fn(&Seen) -> bool) {
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

    pub fn last_ns(&self) -> u64 {
        self.seen.iter().map(|s| s.last_ns).max().unwrap_or(0)
    }

    /// `page_locks`: of the case that is shown.
    pub fn witness(&self, phase: usize, page_locks: &[Key]) -> Witness {
        let holds = self.phases[phase].iter().chain(page_locks).map(|k| k.shown()).collect();
        Witness { who: self.who, holds }
    }
}

/// Both sides of one link.
#[derive(Clone, Debug, Default)]
struct Link {
    leases: Vec<Sig>,
    unlinks: Vec<Sig>,
    /// Leases by site.
    by_site: Vec<(SiteId, u64)>,
    /// Accesses that made room although their tasks are there, by side: one of each site stands for the others.
    rest: [Vec<Sig>; 2],
}

/// A walk's side: of all links of a range.
#[derive(Clone, Debug)]
struct Walk {
    from: Addr,
    to: Addr,
    sig: Sig,
}

/// GiB, table, generation.
type LinkId = (Addr, Table, u32);

/// All links of one mm.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sides {
    links: BTreeMap<LinkId, Link>,
    walks: Vec<Walk>,
}

/// The place of what was done among its like, and whether it took another's.
fn place(
    sigs: &mut Vec<Sig>,
    rest: &mut Vec<Sig>,
    done: &Happening,
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
        rest.retain(|sig| sig.site != old.site);
        rest.push(Sig { is_cut: true, ..old });
    }
    (oldest, true)
}

/// Counts for the predicted windows that it is part of already.
fn count(context: &mut Context, sig: &Sig, done: &Happening) {
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
    fn lease(&mut self, context: &mut Context, id: (Mm, Addr, Table, u32), done: &Happening) {
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

    fn unlink(&mut self, context: &mut Context, id: (Mm, Addr, Table, u32), done: &Happening) {
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
    pub fn take(&mut self, context: &mut Context, done: &Happening) {
        let mm = done.what.mm;
        match (done.what.done, done.what.table) {
            (Done::Lease { .. }, Some((table, generation))) => {
                let link = self.links.entry((done.what.from, table, generation)).or_default();
                link.lease(context, (mm, done.what.from, table, generation), done);
            }
            (Done::Unlink { .. }, Some((table, generation))) => {
                let id = (mm, done.what.from, table, generation);
                let link = self.links.entry((done.what.from, table, generation)).or_default();
                link.unlink(context, id, done);
                for walk in
                    self.walks.iter_mut().filter(|w| w.from.gib() <= done.what.from && done.what.from < w.to)
                {
                    for unlink in &mut link.unlinks {
                        context.judge(id, &mut walk.sig, unlink);
                    }
                }
            }
            (Done::Lease { .. }, None) => self.walk(context, mm, done),
            (Done::Unlink { .. }, None) => {}
        }
    }

    fn walk(&mut self, context: &mut Context, mm: Mm, done: &Happening) {
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
        for ((gib, table, generation), link) in &mut self.links {
            if done.what.from.gib() <= *gib && *gib < done.what.to {
                is_unlinked |= !link.unlinks.is_empty();
                for unlink in &mut link.unlinks {
                    context.judge((mm, *gib, *table, *generation), sig, unlink);
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
