//! Pending accesses of tasks, judged for predicted windows.
//!
//! This module decides when: a second after the access, when the task or the mm ends, or at the end of the run.

use super::Engine;
use crate::{
    event::{Addr, Class, Mm, Mode, SiteId, Table},
    finding::{Doubt, Evidence, Finding, Prediction, Side, TaskRef},
    fx::mix,
    holds::{Held, HoldSet, Instance, Key, TaskId},
    leases::{Lease, Sort},
    lock_class::LockClass,
    locks::Locks,
    predict::{self, Done, Happening, Lately, Pair, VARIANTS, Variant, What, Who, Witness, add_variant},
    protection::Cover,
    tasks::{Task, comm_text},
};

/// Interval between checks of pending accesses.
const JUDGE_EVERY_NS: u64 = 100_000_000;

/// Returns true for classes of which a link has one lock, or few. Other locks belong to single pages, or to no link.
fn is_of_link(class: LockClass) -> bool {
    matches!(class.wire(), Class::MmapLock | Class::VmaLock | Class::IMmap | Class::Ptl)
}

/// Splits the locks of a phase into those of the link and the others. The first are sorted, so that their order of
/// acquisition does not matter.
fn split<'a>(locks: &Locks, held: impl Iterator<Item = &'a Held>) -> (Vec<Key>, Vec<Key>) {
    let keys = held.map(|h| predict::key(locks, h));
    let (mut of_link, of_pages): (Vec<Key>, Vec<Key>) = keys.partition(|key| key.is_of_link());
    of_link.sort_unstable();
    of_link.dedup();
    (of_link, of_pages)
}

/// Returns the signature of an access: the kind of access and the link's locks that were held.
#[inline]
fn signature<'a>(what: &What, phases: impl Iterator<Item = impl Iterator<Item = &'a Held>>) -> u64 {
    let mut hash = what.signature();
    for phase in phases {
        // A sum does not depend on the order.
        let mut all = 1_u64;
        for held in phase.filter(|h| is_of_link(h.class)) {
            let bits = u64::from(held.mode.map_or(0, |m| m as u8)) << 2
                | u64::from(held.downgraded) << 1
                | u64::from(held.lossy);
            all = all.wrapping_add(mix(mix(held.instance.addr, held.instance.life), bits));
        }
        hash = mix(hash, all);
    }
    hash
}

/// Returns true if one of these variants holds no more than the phases of a lease.
fn is_known(variants: &[Variant], cover: &Cover) -> bool {
    variants.iter().any(|variant| {
        variant
            .iter()
            .enumerate()
            .all(|(n, keys)| keys.iter().all(|key| cover.phase(n).any(|held| key.is(held))))
    })
}

/// Returns true if a variant of these phases fits: there is room, or it may hold less than a known variant.
fn has_room(variants: &[Variant], cover: &Cover) -> bool {
    let n = |phase: usize| cover.phase(phase).filter(|h| !is_of_link(h.class)).count();
    variants.len() < VARIANTS
        || variants.iter().any(|known| known.iter().enumerate().any(|(phase, keys)| n(phase) < keys.len()))
}

impl Engine {
    fn who(&self, id: TaskId, time_ns: u64, cpu: u16, stack: Option<u32>) -> Who {
        let Task { serial, tid, tgid, comm, born_ns, made_ns, .. } = self.world.tasks[id];
        let is_made = made_ns != 0;
        Who { serial, id, tid, tgid, comm, cpu, born_ns, is_made, time_ns, stack }
    }

    /// Classes of a phase that certainly exclude unlinks of the table.
    fn excluding<'a>(&self, table: Table, held: impl Iterator<Item = &'a Held>) -> u16 {
        let excludes =
            |h: &&Held| !h.lossy && self.world.excludes(table, h.class.wire(), h.mode, h.instance.addr);
        held.filter(excludes).fold(0, |all, h| all | 1 << h.class as u16)
    }

    /// Adds an ended lease to the task's pending accesses.
    pub(super) fn lease_over(&mut self, id: TaskId, lease: &Lease) {
        if !self.world.rules.sees_locks() {
            return;
        }
        let task = &self.world.tasks[id];
        let cover = &lease.cover;
        let gib = lease.addr.gib();
        let (from, to, table, certain) = match lease.sort {
            Sort::Walk(to) => (lease.addr, to, None, true),
            _ => (gib, gib, Some((lease.of.table, lease.of.generation)), lease.is_certain()),
        };
        let what = What {
            mm: lease.mm,
            from,
            to,
            table,
            site: lease.site,
            done: Done::Lease { certain, revalidated: lease.revalidated },
            in_operation: lease.depth > 0,
            whole: !cover.is_cut(),
            sure: !lease.lossy && !task.is_doubtful(lease.start_ns),
            in_mm: task.mm == lease.mm,
            epoch: self.world.tasks.epoch,
        };
        let end_ns = lease.ends().1.max(lease.start_ns);
        let signature = signature(&what, (0..cover.phases()).map(|n| cover.phase(n)));
        if let Some(known) = self.world.tasks[id].lately.find(signature, &what) {
            known.count += 1;
            known.last_ns = known.last_ns.max(end_ns);
            if !is_known(&known.variants, cover) && has_room(&known.variants, cover) {
                let pages = |n| split(&self.world.locks, cover.phase(n)).1;
                known.is_cut |= !add_variant(&mut known.variants, (0..cover.phases()).map(pages).collect());
            } else if known.variants.len() == VARIANTS {
                known.is_cut = true;
            }
            return;
        }
        let (phases, variant): (Vec<_>, Vec<_>) =
            (0..cover.phases()).map(|n| split(&self.world.locks, cover.phase(n))).unzip();
        let done = Happening {
            what,
            phases,
            variants: vec![variant.into_boxed_slice()],
            is_cut: false,
            covers: (0..cover.phases()).map(|n| self.excluding(lease.of.table, cover.phase(n))).collect(),
            count: 1,
            who: self.who(id, lease.start_ns, lease.cpu, lease.stack),
            known_ns: self.world.now_ns,
            first_ns: lease.start_ns,
            last_ns: end_ns,
        };
        self.did(id, signature, done);
    }

    /// Adds an unlink to the task's pending accesses.
    pub(super) fn removed(
        &mut self,
        id: TaskId,
        site: SiteId,
        (mm, gib, table): (Mm, Addr, (Table, u32)),
        (lo_ns, now_ns): (u64, u64),
        lossy: bool,
    ) {
        if !self.world.rules.sees_locks() {
            return;
        }
        let task = &self.world.tasks[id];
        let mut holds = HoldSet::of(&task.holds);
        // Any of these may have been held at the moment of the unlink. `is_forgotten`: earlier ones are not remembered.
        let is_forgotten = lo_ns < now_ns && task.released_before_ns >= lo_ns;
        for (_, held) in task.released.iter().filter(|(at_ns, _)| *at_ns >= lo_ns && lo_ns < now_ns) {
            holds.push(*held);
        }
        let last_user = task.frames.iter().any(|f| self.world.rules.last_user(f.site));
        let what = What {
            mm,
            from: gib,
            to: gib,
            table: Some(table),
            site,
            done: Done::Unlink { last_user },
            in_operation: true,
            whole: true,
            sure: !lossy && !is_forgotten && !task.is_doubtful(now_ns),
            in_mm: task.mm == mm,
            epoch: self.world.tasks.epoch,
        };
        let signature = signature(&what, std::iter::once(holds.iter()));
        let (phase, pages) = split(&self.world.locks, holds.iter());
        let who = self.who(id, now_ns, task.cpu, task.stack());
        if let Some(known) = self.world.tasks[id].lately.find(signature, &what) {
            known.count += 1;
            known.last_ns = now_ns;
            known.is_cut |= !add_variant(&mut known.variants, vec![pages].into_boxed_slice());
            return;
        }
        let done = Happening {
            what,
            phases: vec![phase],
            variants: vec![vec![pages].into_boxed_slice()],
            is_cut: false,
            covers: vec![self.excluding(table.0, holds.iter())],
            count: 1,
            who,
            known_ns: self.world.now_ns,
            first_ns: now_ns,
            last_ns: now_ns,
        };
        self.did(id, signature, done);
    }

    fn did(&mut self, id: TaskId, signature: u64, done: Happening) {
        let task = &mut self.world.tasks[id];
        task.lately.add(signature, done);
        if !std::mem::replace(&mut task.listed_lately, true) {
            self.busy.push(id);
        }
    }

    /// Adds a lock whose acquisition was not seen to all pending accesses of the task: it was held during all of them.
    pub(super) fn held_all_the_time(&mut self, id: TaskId, class: Class, mode: Option<Mode>, addr: u64) {
        let now_ns = self.world.now_ns;
        let lock = self.world.locks.see(addr, class, now_ns);
        let (life, owner) = (lock.life, lock.owner);
        let excludes = class != Class::Ptl && self.world.rules.excludes(class, mode);
        let (instance, exclusive) = (Instance { addr, life }, mode != Some(Mode::Read));
        let key = Key { class: class.into(), instance, exclusive, owner, doubtful: false };
        self.world.tasks[id].lately.iter_mut().for_each(|done| done.was_held(key, excludes));
    }

    fn judge(&mut self, done: &[Happening]) {
        for done in done {
            self.predictions.take(&self.world, done);
        }
    }

    /// Judges all pending accesses of a task.
    pub(super) fn judge_task(&mut self, id: TaskId) {
        let mut done = Vec::new();
        self.world.tasks[id].lately.take_all(&mut done);
        self.judge(&done);
    }

    /// Judges accesses that have been pending long enough.
    pub(super) fn judge_due(&mut self) {
        let now_ns = self.world.now_ns;
        if now_ns < self.judge_ns {
            return;
        }
        self.judge_ns = now_ns + JUDGE_EVERY_NS;
        self.judge_those(|lately, due| lately.take_due(now_ns, due));
        self.predictions.forget(now_ns);
    }

    /// Judges all pending accesses of all tasks.
    pub(super) fn judge_all(&mut self) {
        self.judge_those(|lately, due| lately.take_all(due));
    }

    fn judge_those(&mut self, take: impl Fn(&mut Lately, &mut Vec<Happening>)) {
        let (mut at, mut due) = (0, Vec::new());
        while at < self.busy.len() {
            let task = &mut self.world.tasks[self.busy[at]];
            take(&mut task.lately, &mut due);
            if task.lately.is_empty() {
                task.listed_lately = false;
                self.busy.swap_remove(at);
            } else {
                at += 1;
            }
        }
        // Sort by time: the order of `busy` depends on when it was last checked.
        due.sort_by_key(|h| h.known_ns);
        self.judge(&due);
    }

    /// Handles the end of an mm: its address may belong to another mm from now on.
    pub(super) fn mm_gone(&mut self, mm: Mm) {
        self.judge_those(|lately, due| lately.take_of(mm, due));
        self.predictions.mm_gone(mm);
    }

    /// Predicted windows, without the pairs for which a window of the same or a worse rank was seen.
    pub(super) fn predicted(&self) -> impl Iterator<Item = Finding> + '_ {
        let unseen = |((lookup, unlink, rank), _): &(&predict::PairKey, &Pair)| {
            self.windows.worst(*lookup, *unlink).is_none_or(|seen| seen > *rank)
        };
        self.predictions.pairs.iter().filter(unseen).map(|((lookup, unlink, rank), pair)| {
            let (lookup, unlink) = (self.world.name(*lookup), self.world.name(*unlink));
            let (mm, gib, table, generation) = pair.link;
            Finding {
                id: format!("prediction:{lookup}/{unlink}:{}", rank.name()),
                rank: *rank,
                count: pair.leases,
                first_ns: pair.first_ns,
                last_ns: pair.last_ns,
                doubts: [(pair.lossy, Doubt::Loss), (pair.bound, Doubt::Bound("accesses of one link"))]
                    .into_iter()
                    .filter_map(|(is_so, doubt)| is_so.then_some(doubt))
                    .collect(),
                evidence: Evidence::Prediction(Box::new(Prediction {
                    holder: side(&pair.holder, lookup),
                    unlinker: side(&pair.unlinker, unlink),
                    mm,
                    gib,
                    table,
                    generation,
                    leases: pair.leases,
                    unlinks: pair.unlinks,
                    would_exclude: pair.would_exclude.classes().collect(),
                    unlinker_lacks: pair.unlinker_lacks.classes().collect(),
                })),
            }
        })
    }
}

fn side(witness: &Witness, site: std::sync::Arc<str>) -> Side {
    let Who { tid, tgid, ref comm, cpu, time_ns, stack, .. } = witness.who;
    let task = TaskRef { tid, tgid, comm: comm_text(comm), cpu };
    Side { task, site, time_ns, stack, holds: witness.holds.clone() }
}
