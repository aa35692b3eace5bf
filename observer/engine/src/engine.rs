//! The engine itself: receives events, passes them to the rules, and returns findings and views.
//!
//! This module decides which rules an event, a tick and the end of the run reach, and in which order. The submodules
//! interpret events: tasks in `lifetimes` and `operations`, page tables in `pages`, locks in `locking`, `holds` and
//! `folios`. Each rule keeps its own state; all of them read the [`World`].

mod counts;
mod folios;
mod holds;
mod lifetimes;
mod locking;
mod operations;
mod pages;
mod report;
mod waiting;

use self::{counts::Counts, holds::Holders, locking::NamedLock};
use crate::{
    event::{Body, Event},
    freed::FreedTables,
    holds::TaskId,
    leases::{Entry, Leases, Unlink},
    ledger::Ledger,
    lock_order::LockOrder,
    locks::FolioPlace,
    loss::{Hole, Span},
    predict::Predictions,
    setup::Setup,
    tables::Tables,
    windows::Windows,
    world::World,
};

/// State of the engine: takes events and ticks, returns findings.
#[derive(Clone, Debug)]
pub struct Engine {
    world: World,
    tables: Tables,
    leases: Leases,
    lock_order: LockOrder,
    windows: Windows,
    predictions: Predictions,
    ledger: Ledger,
    freed: FreedTables,
    holders: Holders,
    counts: Counts,
    finished: bool,
}

impl Engine {
    #[must_use]
    pub fn new(setup: Setup) -> Engine {
        Engine {
            world: World::new(setup),
            tables: Tables::default(),
            leases: Leases::default(),
            lock_order: LockOrder::default(),
            windows: Windows::default(),
            predictions: Predictions::default(),
            ledger: Ledger::default(),
            freed: FreedTables::default(),
            holders: Holders::default(),
            counts: Counts::default(),
            finished: false,
        }
    }

    /// Processes one event. Events are ordered by time; a late one is processed as if it happened now.
    pub fn push(&mut self, event: &Event) {
        self.counts.add(event);
        self.world.now_ns = self.world.now_ns.max(event.time_ns);
        self.world.losses.sends(event);
        // The task, and the records of it that may be lost since its last event.
        let id = self.arrives(event);
        // The lock-order graph makes room before it grows.
        self.lock_order.make_room(&self.world);
        // Requests before this event: the task holds these locks now.
        self.settle(id, event);
        // The event itself.
        self.dispatch(id, event);
        // The task may have been removed; then its slot is unused.
        self.world.tasks[id].last_ns = event.time_ns;
    }

    /// Passes an event to the rules for its kind.
    fn dispatch(&mut self, id: TaskId, event: &Event) {
        let now_ns = event.time_ns;
        match event.body {
            Body::Task { tgid, comm, mm } => self.task_is(id, event, (tgid, comm, mm)),
            Body::TaskExit { mm, .. } => self.task_exits(id, mm, now_ns),
            Body::Fork { child, .. } => self.forked(id, child, now_ns),
            Body::Stack { stack, op } => self.world.tasks[id].has_stack(op, stack),
            Body::OpBegin { .. } => self.op_begin(id, event),
            Body::CallbackBegin { mm, addr, pte } => self.callback_begin(id, event, Entry { mm, addr, pte }),
            Body::OpEnd { .. } => self.op_end(id, event),
            Body::Lookup { mm, addr, pte, repeats } => {
                self.lookup(id, event, Entry { mm, addr, pte }, repeats)
            }
            Body::LookupOtherSize { page_kib, .. } => self.counts.other_size(page_kib).lookups += 1,
            Body::Share { mm, addr, pte, .. } => {
                self.counts.shares += 1;
                let mapping = self.tables.shared(mm, addr.gib(), pte.table(), now_ns, event.tid);
                self.ledger.shared(mapping, now_ns);
            }
            Body::TableAlloc { mm, addr, table } => {
                self.tables.born(mm, addr.gib(), table, now_ns, event.tid);
                self.tables_died();
            }
            Body::Unshare { mm, addr, pte } => self.unshare(id, event, Entry { mm, addr, pte }),
            Body::Unlinked { mm, gib, table, lo_ns, .. } => {
                let span = Span { from_ns: lo_ns.min(now_ns), to_ns: now_ns };
                self.unlinked(id, event, Unlink { mm, gib: Some(gib.gib()), table, span, freed: false });
            }
            Body::TableFree { mm, table, count } => self.table_free(id, event, mm, table, count),
            Body::Lock { step, class, mode, lock, .. } => {
                self.counts.add_lock(step, class);
                self.lock(id, event, step, NamedLock { class: class.into(), mode, addr: lock.0 });
            }
            Body::LockName { class, lock, owner, .. } => self.lock_named(id, class, lock.0, owner, now_ns),
            Body::LockForget { class, lock } => self.lock_gone(class, lock.0, now_ns),
            Body::FolioRequest { mapping, index, folio } => {
                self.folio_request(id, event, FolioPlace { folio, mapping, index })
            }
            Body::FolioHeld { folio, mapping, index, how } => {
                self.folio_held(id, event, FolioPlace { folio, mapping, index }, how);
            }
            Body::FolioRelease { folio, mapping, index } => {
                self.folio_release(id, event, FolioPlace { folio, mapping, index });
            }
            Body::FolioWait { folio, mapping, index } => {
                self.folio_wait(id, event, FolioPlace { folio, mapping, index });
            }
        }
    }

    /// Records a known loss.
    pub fn hole(&mut self, hole: Hole) {
        self.world.losses.add(&hole);
        self.lock_order.hole(hole.hi_ns);
    }

    /// Advances event time, even if nothing happened.
    pub fn tick(&mut self, now_ns: u64) {
        self.world.now_ns = self.world.now_ns.max(now_ns);
        // Waits first: what follows reads them.
        self.find_stuck();
        self.keep_last_holders();
        self.lock_order.settle_due(&self.world, now_ns);
        // A task that is gone has its accesses judged before those of the others.
        self.reap_exited(now_ns);
        self.predictions.judge_due(&self.world);
    }

    /// Ends the run: open leases end here. Later calls do nothing.
    pub fn finish(&mut self) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        self.find_stuck();
        for id in self.world.tasks.ids().collect::<Vec<TaskId>>() {
            self.run_ends(id);
        }
        self.reap_all();
        self.predictions.judge_all(&self.world);
        self.lock_order.settle(&self.world, u64::MAX);
    }
}
