//! Accesses: what of an ended lease, and of an unlink, is kept until it is judged.
//!
//! This module decides which accesses of a task are equal, and the predicted windows that are reported.

use std::sync::Arc;

use super::{
    Pair, PairKey, Predictions, key,
    link_history::Witness,
    pending::{Access, AccessKey, AccessKind, Actor, PendingAccesses, VARIANTS, Variant, add_variant},
};
use crate::{
    event::{Class, Mm, Mode, SiteId, Table},
    finding::{Doubt, Evidence, Finding, Party, Prediction, TaskRef, comm_text},
    fx::mix,
    holds::{Held, HoldSet, Instance, Key, LockHold, TaskId},
    leases::{Lease, LeaseKind},
    lock_class::LockClass,
    locks::Locks,
    loss::{Missing, Span},
    protection::Cover,
    tables::LinkId,
    tasks::Task,
    windows::Windows,
    world::World,
};

/// An unlink by a task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnlinkAt {
    pub id: TaskId,
    pub site: SiteId,
    pub link: LinkId,
    pub span: Span,
    /// Lost records could show that it happened otherwise.
    pub lossy: bool,
}

/// Returns true for classes of which a link has one lock, or few. Other locks belong to single pages, or to no link.
fn is_of_link(class: LockClass) -> bool {
    matches!(class.wire(), Class::MmapLock | Class::VmaLock | Class::IMmap | Class::Ptl)
}

/// Splits the locks of a phase into those of the link and the others. The first are sorted, so that their order of
/// acquisition does not matter.
fn split<'a>(locks: &Locks, held: impl Iterator<Item = &'a Held>) -> (Vec<Key>, Vec<Key>) {
    let keys = held.map(|h| key(locks, h));
    let (mut of_link, of_pages): (Vec<Key>, Vec<Key>) = keys.partition(|key| key.is_of_link());
    of_link.sort_unstable();
    of_link.dedup();
    (of_link, of_pages)
}

/// Returns the signature of an access: the kind of access and the link's locks that were held.
#[inline]
fn signature<'a>(key: &AccessKey, phases: impl Iterator<Item = impl Iterator<Item = &'a Held>>) -> u64 {
    let mut hash = key.signature();
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

/// Returns the task of an access.
fn actor(world: &World, id: TaskId, time_ns: u64, cpu: u16, stack: Option<u32>) -> Actor {
    let Task { serial, tid, tgid, comm, born_ns, made_ns, .. } = world.tasks[id];
    let is_made = made_ns != 0;
    Actor { serial, id, tid, tgid, comm, cpu, born_ns, is_made, time_ns, stack }
}

/// Returns the classes of a phase that certainly exclude unlinks of the table.
fn excluding<'a>(world: &World, table: Table, held: impl Iterator<Item = &'a Held>) -> u16 {
    let excludes = |h: &&Held| !h.lossy && world.excludes(table, h.class.wire(), h.mode, h.instance.addr);
    held.filter(excludes).fold(0, |all, h| all | 1 << h.class as u16)
}

impl Predictions {
    /// Adds an ended lease to the task's pending accesses.
    pub fn lease_ended(&mut self, world: &World, id: TaskId, lease: &Lease) {
        if !world.rules.sees_locks() {
            return;
        }
        let task = &world.tasks[id];
        let cover = &lease.cover;
        let gib = lease.addr.gib();
        let (from, to, table, certain) = match lease.kind {
            LeaseKind::Walk(to) => (lease.addr, to, None, true),
            _ => (gib, gib, Some((lease.of.table, lease.of.generation)), lease.is_certain()),
        };
        let key = AccessKey {
            mm: lease.mm,
            from,
            to,
            table,
            site: lease.site,
            kind: AccessKind::Lease { certain, revalidated: lease.revalidated },
            in_operation: lease.depth > 0,
            whole: !cover.is_cut(),
            sure: !lease.lossy && !task.is_doubtful(lease.start_ns),
            in_mm: task.mm == lease.mm,
            epoch: world.tasks.epoch,
        };
        let end_ns = lease.ends().1.max(lease.start_ns);
        let signature = signature(&key, (0..cover.phases()).map(|n| cover.phase(n)));
        if let Some(known) = self.pending[id].accesses.find(signature, &key) {
            known.count += 1;
            known.last_ns = known.last_ns.max(end_ns);
            if !is_known(&known.variants, cover) && has_room(&known.variants, cover) {
                let pages = |n| split(&world.locks, cover.phase(n)).1;
                known.is_cut |= !add_variant(&mut known.variants, (0..cover.phases()).map(pages).collect());
            } else if known.variants.len() == VARIANTS {
                known.is_cut = true;
            }
            return;
        }
        let (phases, variant): (Vec<_>, Vec<_>) =
            (0..cover.phases()).map(|n| split(&world.locks, cover.phase(n))).unzip();
        let access = Access {
            key,
            phases,
            variants: vec![variant.into_boxed_slice()],
            is_cut: false,
            covers: (0..cover.phases()).map(|n| excluding(world, lease.of.table, cover.phase(n))).collect(),
            count: 1,
            actor: actor(world, id, lease.start_ns, lease.cpu, lease.stack),
            known_ns: world.now_ns,
            first_ns: lease.start_ns,
            last_ns: end_ns,
        };
        self.pending.add(id, signature, access);
    }

    /// Adds an unlink to the task's pending accesses.
    pub fn unlinked(&mut self, world: &World, unlink: &UnlinkAt) {
        if !world.rules.sees_locks() {
            return;
        }
        let UnlinkAt { id, site, link, span, lossy } = *unlink;
        let task = &world.tasks[id];
        let mut holds = HoldSet::of(&task.holds);
        let pending = &self.pending[id];
        // Any of these may have been held at the moment of the unlink. `is_forgotten`: earlier ones are not remembered.
        let is_forgotten = !span.is_moment() && pending.released_before_ns >= span.from_ns;
        for (_, held) in
            pending.released.iter().filter(|(at_ns, _)| *at_ns >= span.from_ns && !span.is_moment())
        {
            holds.push(*held);
        }
        let last_user = task.frames.iter().any(|f| world.rules.last_user(f.site));
        let key = AccessKey {
            mm: link.mm,
            from: link.gib,
            to: link.gib,
            table: Some((link.table, link.generation)),
            site,
            kind: AccessKind::Unlink { last_user },
            in_operation: true,
            whole: true,
            sure: !lossy && !is_forgotten && !task.is_doubtful(span.to_ns),
            in_mm: task.mm == link.mm,
            epoch: world.tasks.epoch,
        };
        let signature = signature(&key, std::iter::once(holds.iter()));
        let (phase, pages) = split(&world.locks, holds.iter());
        let actor = actor(world, id, span.to_ns, task.cpu, task.stack());
        if let Some(known) = self.pending[id].accesses.find(signature, &key) {
            known.count += 1;
            known.last_ns = span.to_ns;
            known.is_cut |= !add_variant(&mut known.variants, vec![pages].into_boxed_slice());
            return;
        }
        let access = Access {
            key,
            phases: vec![phase],
            variants: vec![vec![pages].into_boxed_slice()],
            is_cut: false,
            covers: vec![excluding(world, link.table, holds.iter())],
            count: 1,
            actor,
            known_ns: world.now_ns,
            first_ns: span.to_ns,
            last_ns: span.to_ns,
        };
        self.pending.add(id, signature, access);
    }

    /// Records a lock that a task released.
    #[inline]
    pub fn released(&mut self, world: &World, id: TaskId, hold: &LockHold, now_ns: u64) {
        if !world.rules.unshare_exact() {
            self.pending.released(id, now_ns, hold);
        }
    }

    /// Adds a lock whose acquisition was not seen to all pending accesses of the task: it was held during all of them.
    pub fn held_all_the_time(&mut self, id: TaskId, key: Key, excludes: bool) {
        self.pending[id].accesses.iter_mut().for_each(|access| access.was_held(key, excludes));
    }

    /// Confirms that a lock was held all the time, although records were lost meanwhile.
    pub fn redeem(&mut self, world: &World, id: TaskId, lock: Instance) {
        for access in self.pending[id].accesses.iter_mut() {
            access.redeem(lock, |key| {
                let mode = if key.exclusive { Mode::Write } else { Mode::Read };
                key.class != LockClass::Ptl && world.rules.excludes(key.class.wire(), Some(mode))
            });
        }
    }

    /// Marks all accesses of a task since `since_ns` as doubtful.
    pub fn doubt_since(&mut self, id: TaskId, since_ns: u64) {
        self.pending[id].accesses.iter_mut().for_each(|access| access.doubt_since(since_ns));
    }

    /// Handles a loss in which records of this task may be missing: a lost release could have shown a hold, of a folio or
    /// of a lock that was acquired before it was named.
    pub fn touched_by_loss(&mut self, task: &Task, id: TaskId, missing: Missing) {
        let begin_ns = task.frames.first().filter(|_| missing.concerns_folios()).map(|frame| frame.begin_ns);
        for access in self.pending[id].accesses.iter_mut() {
            if let Some(begin_ns) = begin_ns {
                access.doubt_since(begin_ns);
            }
            access.key.sure &= !task.loss.may_hold_unnamed(access.known_ns);
        }
    }

    pub fn add_task(&mut self, id: TaskId) {
        self.pending.add_task(id);
    }

    /// Handles the end of a task: its pending accesses are judged.
    pub fn task_gone(&mut self, world: &World, id: TaskId, now_ns: u64) {
        let mut due = Vec::new();
        self.pending[id].accesses.take_all(&mut due);
        self.judge_accesses(world, &due);
        self.pending.forget_task(id);
        self.exits.add(world.tasks[id].serial, now_ns);
    }

    /// Judges accesses that have been pending long enough.
    pub fn judge_due(&mut self, world: &World) {
        if !self.pending.is_due(world.now_ns) {
            return;
        }
        let due = self.pending.take(|accesses, due| accesses.take_due(world.now_ns, due));
        self.judge_accesses(world, &due);
        self.forget(world.now_ns);
    }

    /// Judges all pending accesses of all tasks.
    pub fn judge_all(&mut self, world: &World) {
        let due = self.pending.take(PendingAccesses::take_all);
        self.judge_accesses(world, &due);
    }

    /// Handles the end of an mm: its address may belong to another mm from now on.
    pub fn mm_gone(&mut self, world: &World, mm: Mm) {
        let due = self.pending.take(|accesses, due| accesses.take_of(mm, due));
        self.judge_accesses(world, &due);
        self.forget_mm(mm);
    }

    fn judge_accesses(&mut self, world: &World, due: &[Access]) {
        for access in due {
            self.take(world, access);
        }
    }

    /// Predicted windows, without the pairs for which a window of the same or a worse rank was seen.
    pub fn findings<'a>(
        &'a self,
        windows: &'a Windows,
        name: impl Fn(SiteId) -> Arc<str> + 'a,
    ) -> impl Iterator<Item = Finding> + 'a {
        let unseen = move |((lookup, unlink, rank), _): &(&PairKey, &Pair)| {
            windows.worst(*lookup, *unlink).is_none_or(|seen| seen > *rank)
        };
        self.pairs.iter().filter(unseen).map(move |((lookup, unlink, rank), pair)| {
            let (lookup, unlink) = (name(*lookup), name(*unlink));
            let LinkId { mm, gib, table, generation } = pair.link;
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
                    holder: party(&pair.holder, lookup),
                    unlinker: party(&pair.unlinker, unlink),
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

fn party(witness: &Witness, site: Arc<str>) -> Party {
    let Actor { tid, tgid, ref comm, cpu, time_ns, stack, .. } = witness.actor;
    let task = TaskRef { tid, tgid, comm: comm_text(comm), cpu };
    Party { task, site, time_ns, stack, holds: witness.holds.clone() }
}
