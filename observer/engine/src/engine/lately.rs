//! What tasks did, handed on to be judged for predicted windows.
//!
//! Decides when: a second after it happened, or when the task or the mm goes, or at the end of the run.

use super::Engine;
use crate::{
    cover::Cover,
    event::{Addr, Class, Mm, Mode, SiteId, Table},
    finding::{Doubt, Evidence, Finding, Prediction, Rank, Side, TaskRef},
    leases::{Lease, Sort},
    locks::Locks,
    predict::{self, Done, Happening, KEPT, Pair, What, Who, Witness, World},
    tasks::{Held, HoldSet, Instance, Task, TaskId, comm_text},
};

/// How often what waited is looked at.
const JUDGE_EVERY_NS: u64 = 100_000_000;

/// Sorted, so that the same locks are the same whatever the order in which they were taken.
fn phase<'a>(locks: &Locks, held: impl Iterator<Item = &'a Held>) -> Vec<predict::Key> {
    let mut keys: Vec<predict::Key> = held.map(|h| predict::key(locks, h)).collect();
    keys.sort_unstable();
    keys
}

/// Whether things were done under the locks of a lease.
fn is_under(done: &Happening, cover: &Cover) -> bool {
    if let (Some(held), Some(whole)) = (&done.held, cover.whole())
        && held.is_same(whole)
    {
        return true;
    }
    done.phases.len() == cover.phases()
        && done.phases.iter().enumerate().all(|(n, keys)| predict::are(keys, cover.phase(n)))
}

impl Engine {
    fn who(&self, id: TaskId, time_ns: u64, cpu: u16, stack: Option<u32>) -> Who {
        let Task { serial, tid, tgid, comm, born_ns, .. } = self.tasks[id];
        Who { serial, id, tid, tgid, comm, cpu, born_ns, time_ns, stack }
    }

    /// Classes of a phase that keep links to the table in place.
    fn excluding<'a>(&self, table: Table, held: impl Iterator<Item = &'a Held>) -> u16 {
        let excludes = |h: &&Held| self.excludes(table, h.class.wire(), h.mode, h.instance.addr);
        held.filter(excludes).fold(0, |all, h| all | 1 << h.class as u16)
    }

    /// A lease is over.
    pub(super) fn lease_over(&mut self, id: TaskId, lease: &Lease) {
        if !self.rules.sees_locks() {
            return;
        }
        let task = &self.tasks[id];
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
            whole: lease.depth > 0 && !cover.is_cut(),
            sure: !lease.lossy && lease.start_ns >= task.unsure_until_ns,
            in_mm: task.mm == lease.mm,
            epoch: self.tasks.epoch,
        };
        let end_ns = lease.ends().1.max(lease.start_ns);
        let same = |h: &&mut Happening| h.what == what && is_under(h, cover);
        if let Some(known) = self.tasks[id].lately.iter_mut().rev().find(same) {
            known.count += 1;
            known.last_ns = known.last_ns.max(end_ns);
            return;
        }
        let done = Happening {
            what,
            phases: (0..cover.phases()).map(|n| phase(&self.locks, cover.phase(n))).collect(),
            held: cover.whole().copied(),
            covers: (0..cover.phases()).map(|n| self.excluding(lease.of.table, cover.phase(n))).collect(),
            count: 1,
            who: self.who(id, lease.start_ns, lease.cpu, lease.stack),
            known_ns: self.now_ns,
            first_ns: lease.start_ns,
            last_ns: end_ns,
        };
        self.did(id, done);
    }

    /// A link was removed.
    pub(super) fn removed(
        &mut self,
        id: TaskId,
        site: SiteId,
        (mm, gib, table): (Mm, Addr, (Table, u32)),
        (lo_ns, now_ns): (u64, u64),
        lossy: bool,
    ) {
        if !self.rules.sees_locks() {
            return;
        }
        let task = &self.tasks[id];
        let mut holds = HoldSet::of(&task.holds);
        // It is not known which of these were held at the moment itself.
        for (_, held) in task.released.iter().filter(|(at_ns, _)| *at_ns >= lo_ns && lo_ns < now_ns) {
            holds.push(*held);
        }
        let last_user = task.frames.iter().any(|f| self.rules.last_user(f.site));
        let what = What {
            mm,
            from: gib,
            to: gib,
            table: Some(table),
            site,
            done: Done::Unlink { last_user },
            whole: !holds.is_cut(),
            sure: !lossy && now_ns >= task.unsure_until_ns,
            in_mm: task.mm == mm,
            epoch: self.tasks.epoch,
        };
        let done = Happening {
            what,
            phases: vec![phase(&self.locks, holds.iter())],
            held: None,
            covers: vec![self.excluding(table.0, holds.iter())],
            count: 1,
            who: self.who(id, now_ns, task.cpu, task.stack()),
            known_ns: self.now_ns,
            first_ns: now_ns,
            last_ns: now_ns,
        };
        let same = |h: &&mut Happening| h.what == what && h.phases == done.phases;
        if let Some(known) = self.tasks[id].lately.iter_mut().rev().find(same) {
            known.count += 1;
            known.last_ns = now_ns;
            return;
        }
        self.did(id, done);
    }

    fn did(&mut self, id: TaskId, done: Happening) {
        if self.tasks[id].lately.len() == KEPT {
            let oldest = self.tasks[id].lately.remove(0);
            self.judge(&[oldest]);
        }
        let task = &mut self.tasks[id];
        task.lately.push(done);
        if !std::mem::replace(&mut task.listed_lately, true) {
            self.busy.push(id);
        }
    }

    /// A lock was released that was not seen to be taken: it was held all the time.
    pub(super) fn held_all_the_time(&mut self, id: TaskId, class: Class, mode: Option<Mode>, addr: u64) {
        let Some((life, owner)) = self.locks.get(addr).map(|l| (l.life, l.owner)) else { return };
        let excludes = class != Class::Ptl && self.rules.excludes(class, mode);
        for done in &mut self.tasks[id].lately {
            done.was_held(class, Instance { addr, life }, mode != Some(Mode::Read), owner, excludes);
        }
    }

    fn judge(&mut self, done: &[Happening]) {
        let (rules, tasks, locks, losses) = (&self.rules, &self.tasks, &self.locks, &self.losses);
        let world = World { rules, tasks, locks, losses };
        for done in done {
            self.predictions.take(&world, done);
        }
    }

    /// Judges all that a task did.
    pub(super) fn judge_task(&mut self, id: TaskId) {
        let done = std::mem::take(&mut self.tasks[id].lately);
        self.judge(&done);
    }

    /// Judges what has waited long enough.
    pub(super) fn judge_due(&mut self) {
        let now_ns = self.now_ns;
        if now_ns < self.judge_ns {
            return;
        }
        self.judge_ns = now_ns + JUDGE_EVERY_NS;
        self.judge_those(|h| h.is_due(now_ns));
        self.predictions.forget(now_ns);
    }

    /// Judges all that is left.
    pub(super) fn judge_all(&mut self) {
        self.judge_those(|_| true);
    }

    fn judge_those(&mut self, which: impl Fn(&Happening) -> bool) {
        let (mut at, mut due) = (0, Vec::new());
        while at < self.busy.len() {
            let task = &mut self.tasks[self.busy[at]];
            due.extend(task.lately.extract_if(.., |h| which(h)));
            if task.lately.is_empty() {
                task.listed_lately = false;
                self.busy.swap_remove(at);
            } else {
                at += 1;
            }
        }
        // As it happened, and not by the order of that list, which depends on when it was looked through last.
        due.sort_by_key(|h| h.known_ns);
        self.judge(&due);
    }

    /// An mm is gone: its address may be another's from now on.
    pub(super) fn mm_gone(&mut self, mm: Mm) {
        self.judge_those(|h| h.what.mm == mm);
        self.predictions.mm_gone(mm);
    }

    /// Predicted windows, but for those of which something as bad was seen.
    pub(super) fn predicted(&self) -> impl Iterator<Item = Finding> + '_ {
        let unseen = |((lookup, unlink, rank), _): &(&predict::PairKey, &Pair)| {
            self.windows.worst(*lookup, *unlink).is_none_or(|seen| seen > *rank)
        };
        self.predictions.pairs.iter().filter(unseen).map(|((lookup, unlink, rank), pair)| {
            let (lookup, unlink) = (self.name(*lookup), self.name(*unlink));
            let (mm, gib, table, generation) = pair.link;
            Finding {
                id: format!("prediction:{lookup}/{unlink}:{}", rank.name()),
                rank: *rank,
                count: pair.leases,
                first_ns: pair.first_ns,
                last_ns: pair.last_ns,
                doubts: if *rank == Rank::Incomplete { vec![Doubt::Loss] } else { Vec::new() },
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
