//! The engine itself: receives events, passes them to the rules, and returns findings and views.
//!
//! This module decides the order in which one event updates tasks, tables, locks and leases. The rules are in the
//! submodules: page-table events in `engine/pages`, lock events in `engine/locking`.

mod folios;
mod locking;
mod pages;
mod waiting;

use std::collections::BTreeSet;

use observer_ebpf::kinds;

use crate::{
    event::{Body, Class, Event, LockStep, Mapping, Mm, Tid},
    finding::{Finding, TaskRef},
    fx::FxMap,
    holds::TaskId,
    last_holders::LastHolders,
    leases::Leases,
    ledger::Ledger,
    lock_order::{LockOrder, SETTLED_NS},
    loss::{Hole, Missing, Span, UNSURE_NS},
    predict::Predictions,
    presence::EXIT_NS,
    setup::{Coverage, Setup},
    tables::Tables,
    tasks::{Frame, Popped, Task},
    view::{ClassCount, EdgeView, LeaseView, MappingView, ProtectionView, Stats, TableView},
    windows::Windows,
    world::World,
};

/// Upper bound of kind numbers, exclusive.
const KINDS: usize = 64;
/// Counts that cannot be derived from the state.
#[derive(Clone, Debug, Default)]
struct Counts {
    events: u64,
    first_ns: u64,
    lookups: u64,
    shares: u64,
    removals_exact: u64,
    removals_diff: u64,
    removals_both: u64,
    unmatched_ends: u64,
    unmatched_begins: u64,
    unknown_releases: u64,
    missed_folio_releases: u64,
    /// Acquisition attempts and releases by class on the wire.
    by_class: [[u64; 2]; Class::ALL.len()],
}

/// State of the engine: takes events and ticks, returns findings.
#[derive(Clone, Debug)]
pub struct Engine {
    world: World,
    tables: Tables,
    leases: Leases,
    order: LockOrder,
    windows: Windows,
    predictions: Predictions,
    ledger: Ledger,
    /// Findings about single events.
    singles: Vec<Finding>,
    /// Locks that were released by a task without a known hold: a known holder may not hold them any more.
    disputed: BTreeSet<u64>,
    /// Presumed holder of each folio's lock.
    folio_holders: FxMap<u64, TaskId>,
    last_holders: LastHolders,
    by_kind: [u64; KINDS],
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
            order: LockOrder::default(),
            windows: Windows::default(),
            predictions: Predictions::default(),
            ledger: Ledger::default(),
            singles: Vec::new(),
            disputed: BTreeSet::new(),
            folio_holders: FxMap::default(),
            last_holders: LastHolders::default(),
            by_kind: [0; KINDS],
            counts: Counts::default(),
            finished: false,
        }
    }

    /// Processes one event. Events are ordered by time; a late one is processed as if it happened now.
    pub fn push(&mut self, event: &Event) {
        if self.counts.events == 0 {
            self.counts.first_ns = event.time_ns;
        }
        self.counts.events += 1;
        self.by_kind[usize::from(event.body.kind()) % KINDS] += 1;
        self.world.now_ns = self.world.now_ns.max(event.time_ns);
        self.world.losses.sends(event);
        let id = self.world.tasks.claim(event.tid, event.cpu);
        let task = &mut self.world.tasks[id];
        task.cpu = event.cpu;
        if task.last_ns == 0 {
            self.first_seen(id, event);
        }
        if !self.world.losses.is_whole_since(self.world.tasks[id].last_ns) {
            self.was_silent(id, event.time_ns);
        }
        self.order.make_room(&self.world);
        self.settle(id, event);
        self.dispatch(id, event);
        // The task may have been removed; then its slot is unused.
        self.world.tasks[id].last_ns = event.time_ns;
    }

    /// Initializes a task at its first event. Its earlier records, since it was forked or since the run began, may be
    /// lost.
    fn first_seen(&mut self, id: TaskId, event: &Event) {
        let made_ns = self.world.lifetimes.made_ns(event.tid);
        self.leases.add_task(id);
        self.order.add_task(id);
        self.predictions.add_task(id);
        let task = &mut self.world.tasks[id];
        task.born_ns = made_ns.unwrap_or(event.time_ns);
        task.made_ns = made_ns.unwrap_or(0);
        // A `Task` record precedes all other records of a task, so nothing before it is missing.
        task.last_ns = match event.body {
            Body::Task { .. } => event.time_ns,
            _ => made_ns.unwrap_or(0),
        };
    }

    /// Handles a task's first event after a silence in which records of it may have been lost.
    fn was_silent(&mut self, id: TaskId, now_ns: u64) {
        let task = &self.world.tasks[id];
        // A task at rest has released everything that it acquired more than `UNSURE_NS` ago.
        let from_ns = match task.is_at_rest() {
            true => task.last_ns.max(now_ns.saturating_sub(UNSURE_NS)),
            false => task.last_ns,
        };
        let missing = self.world.losses.anywhere(from_ns, now_ns);
        if missing.is_nothing() {
            return;
        }
        let unsure_ns = task.loss.unsure_since_ns;
        let is_adrift = task.frames.is_empty() && task.loss.is_adrift(now_ns);
        let adrift_ns = if is_adrift { task.loss.adrift_since_ns() } else { 0 };
        let is_sparse = unsure_ns == 0 || self.world.losses.are_sparse(unsure_ns, now_ns);
        let until_ns = self.world.losses.latest_ns().min(now_ns);
        self.touched_by_loss(id, missing, Span { from_ns, to_ns: until_ns }, is_sparse);
        if !is_sparse {
            self.doubt_since(id, unsure_ns);
        }
        // A folio that is locked without a record becomes known only by its release.
        let is_silent = missing.concerns_folios() && !self.world.tasks[id].frames.is_empty();
        if is_silent || self.order.path(id).is_lossy() {
            self.order.doubt(&self.world, id);
        }
        if missing.concerns_folios() && adrift_ns > 0 {
            // The same applies inside an operation whose begin was lost.
            self.doubt_order_since(id, adrift_ns);
        }
    }

    /// Handles a loss in which records of a task may be missing: each rule doubts what it keeps of the task.
    fn touched_by_loss(&mut self, id: TaskId, missing: Missing, span: Span, sparse: bool) {
        let task = &mut self.world.tasks[id];
        if task.touched_by_loss(missing, span, sparse) {
            self.order.task(id).touched_by_loss();
        }
        self.leases.touched_by_loss(id, missing);
        self.predictions.touched_by_loss(task, id, missing);
    }

    /// Marks all accesses and edges of a task since `since_ns` as doubtful: it held, or may have held, a lock unseen.
    fn doubt_since(&mut self, id: TaskId, since_ns: u64) {
        self.predictions.doubt_since(id, since_ns);
        self.doubt_order_since(id, since_ns);
    }

    /// Like `doubt_since`, for edges only: pending accesses are corrected otherwise.
    fn doubt_order_since(&mut self, id: TaskId, since_ns: u64) {
        let serial = self.world.tasks[id].serial;
        self.order.doubt_since(serial, since_ns);
    }

    fn dispatch(&mut self, id: TaskId, event: &Event) {
        let now_ns = event.time_ns;
        match event.body {
            Body::Task { tgid, comm, mm } => {
                if self.world.tasks[id].tgid != 0 && self.world.tasks[id].tgid != tgid {
                    self.task_gone(id, now_ns);
                    self.world.tasks.claim(event.tid, event.cpu);
                    self.first_seen(id, event);
                }
                let task = &mut self.world.tasks[id];
                (task.tgid, task.comm, task.mm) = (tgid, comm, mm);
            }
            Body::TaskExit { mm, .. } => self.task_exits(id, mm, now_ns),
            Body::Fork { child, .. } => {
                if let Some(old) = self.world.tasks.find(child).filter(|old| *old != id) {
                    // The thread id was reused: the old task's exit was not seen.
                    let last_ns = self.world.tasks[old].last_ns;
                    self.task_gone(old, last_ns);
                }
                self.world.lifetimes.forked(child, now_ns);
            }
            Body::Stack { stack, op } => self.world.tasks[id].has_stack(op, stack),
            Body::OpBegin { .. } => self.op_begin(id, event),
            Body::CallbackBegin { mm, addr, pte } => self.callback_begin(id, event, mm, addr, pte),
            Body::OpEnd { .. } => self.op_end(id, event),
            Body::Lookup { mm, addr, pte, repeats } => self.lookup(id, event, (mm, addr, pte), repeats),
            Body::Share { mm, addr, pte, .. } => {
                self.counts.shares += 1;
                let mapping = self.tables.shared(mm, addr.gib(), pte.table(), now_ns, event.tid);
                self.ledger.shared(mapping, now_ns);
            }
            Body::TableAlloc { mm, addr, table } => {
                self.tables.born(mm, addr.gib(), table, now_ns, event.tid);
                self.tables_died();
            }
            Body::Unshare { mm, addr, pte } => self.unshare(id, event, mm, addr, pte),
            Body::Unlinked { mm, gib, table, lo_ns, .. } => self.unlinked(id, event, (mm, gib, table), lo_ns),
            Body::TableFree { mm, table, count } => self.table_free(id, event, mm, table, count),
            Body::Lock { step, class, mode, lock, .. } => {
                match step {
                    LockStep::Ask | LockStep::Try | LockStep::Busy => {
                        self.counts.by_class[class as usize - 1][0] += 1
                    }
                    LockStep::Release => self.counts.by_class[class as usize - 1][1] += 1,
                    _ => {}
                }
                self.lock(id, event, step, class, mode, lock.0);
            }
            Body::LockName { class, lock, owner, .. } => {
                if class != Class::Ptl {
                    self.world.tasks[id].loss.named_ns = now_ns;
                }
                let lossy = |since_ns| self.world.losses.anywhere(since_ns, now_ns).ends();
                self.world.locks.name(lock.0, class, owner, now_ns, lossy);
            }
            Body::LockForget { class, lock } => {
                if class == Class::MmapLock {
                    match self.world.locks.get(lock.0).map_or(0, |l| l.owner) {
                        // The lock's mm is unknown: the record that named it was lost.
                        0 => self.world.losses.not_known(now_ns),
                        owner => self.predictions.mm_gone(&self.world, Mm(owner)),
                    }
                }
                if class == Class::VmaLock {
                    // From now on, this address belongs to another VMA.
                    self.world.tasks.epoch += 1;
                }
                self.world.locks.forget(lock.0, now_ns);
            }
            Body::FolioAsk { mapping, index, folio } => self.folio_ask(id, event, mapping, index, folio),
            Body::FolioHeld { folio, mapping, index, how } => {
                self.folio_held(id, event, (folio, mapping, index), how);
            }
            Body::FolioRelease { folio, mapping, index } => {
                self.folio_release(id, event, (folio, mapping, index));
            }
            Body::FolioWait { folio, mapping, index } => {
                self.folio_wait(id, event, (folio, mapping, index));
            }
        }
    }

    /// Records a known loss.
    pub fn hole(&mut self, hole: Hole) {
        self.world.losses.add(&hole);
        self.order.hole(hole.hi_ns);
    }

    /// Advances event time, even if nothing happened.
    pub fn tick(&mut self, now_ns: u64) {
        self.world.now_ns = self.world.now_ns.max(now_ns);
        self.find_stuck();
        self.keep_last_holders();
        self.order.settle_due(&self.world);
        self.reap(|at_ns| at_ns + EXIT_NS < now_ns);
        self.predictions.judge_due(&self.world);
    }

    /// Ends the run: open leases end here. Later calls do nothing.
    pub fn finish(&mut self) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        self.find_stuck();
        let ids: Vec<TaskId> = self.world.tasks.ids().collect();
        for id in ids {
            let last_ns = self.world.tasks[id].last_ns;
            let missing = self.world.losses.anywhere(last_ns, u64::MAX);
            if !missing.is_nothing() {
                let span = Span { from_ns: last_ns, to_ns: self.world.now_ns };
                self.touched_by_loss(id, missing, span, true);
                self.order.doubt(&self.world, id);
            }
            self.end_leases(id, self.world.now_ns, |_| true);
            let task = &self.world.tasks[id];
            if task.loss.unsure_since_ns != 0 && task.last_ns + SETTLED_NS > self.world.now_ns {
                // A later release could have shown which lock it held.
                let since_ns = task.loss.unsure_since_ns.max(self.world.now_ns.saturating_sub(SETTLED_NS));
                self.doubt_since(id, since_ns);
            }
        }
        self.reap(|_| true);
        self.predictions.judge_all(&self.world);
        self.order.settle(&self.world, u64::MAX);
    }

    /// Returns all findings so far, worst first, then by id.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut all: Vec<Finding> = self.windows.findings().chain(self.singles.iter().cloned()).collect();
        all.extend(self.predictions.findings(&self.windows, |s| self.world.name(s)));
        all.extend(self.order.findings(&self.world));
        all.extend(self.orphan_waits());
        for finding in &mut all {
            finding.doubts.extend(self.world.rules.doubts(finding.kind(), self.entries_only() > 0));
        }
        all.sort_by(|a, b| (a.rank, &a.id).cmp(&(b.rank, &b.id)));
        all
    }

    /// Number of unlinks that the entries showed and the body of unshare did not report.
    fn entries_only(&self) -> u64 {
        self.counts.removals_diff - self.counts.removals_both
    }

    /// Number of events so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.counts.events
    }

    /// Current event time.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.world.now_ns
    }

    /// Returns the setup's coverage, corrected by what the run disproved.
    #[must_use]
    pub fn coverage(&self) -> Vec<Coverage> {
        self.world.rules.coverage(self.entries_only(), self.counts.removals_exact + self.entries_only())
    }

    /// Live tables and the ones that were freed last, sorted by address.
    #[must_use]
    pub fn tables(&self) -> Vec<TableView> {
        self.tables.views()
    }

    /// Shares and unshares by mapping, most unshares first. `tables` is the result of [`Engine::tables`].
    #[must_use]
    pub fn mappings(&self, tables: &[TableView]) -> Vec<MappingView> {
        self.ledger.views(tables, |s| self.world.rules.name(s))
    }

    /// Edges of the class graph, sorted by class and mode.
    #[must_use]
    pub fn edges(&self) -> Vec<EdgeView> {
        self.order.views(&self.world)
    }

    /// Locks that protected leases, and locks that unlinks held.
    #[must_use]
    pub fn protection(&self) -> ProtectionView {
        // A lost record may hide an access that nothing excluded.
        let is_lossy = self.world.losses.anywhere(0, u64::MAX).can_hide_access();
        self.predictions.report().view(is_lossy, |s| self.world.rules.name(s))
    }

    /// At most `limit` live leases, oldest first.
    #[must_use]
    pub fn leases(&self, limit: usize) -> Vec<LeaseView> {
        self.leases.views(&self.world, limit)
    }

    /// A live task with its name, if it is known.
    #[must_use]
    pub fn task_name(&self, tid: Tid) -> Option<TaskRef> {
        self.world.tasks.find(tid).map(|id| self.world.tasks[id].reference())
    }

    /// Live tasks with their names, in no particular order.
    pub fn tasks(&self) -> impl Iterator<Item = TaskRef> {
        self.world.tasks.iter().map(Task::reference)
    }

    /// Live locks and the objects that they belong to, in no particular order.
    pub fn owners(&self) -> impl Iterator<Item = (u64, u64)> {
        self.world.locks.owners()
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        let c = &self.counts;
        Stats {
            events: c.events,
            by_kind: kinds::TABLE.iter().map(|k| (k.name, self.by_kind[usize::from(k.number)])).collect(),
            by_class: Class::ALL[..Class::ALL.len() - 1]
                .iter()
                .map(|class| {
                    let [takes, releases] = c.by_class[*class as usize - 1];
                    ClassCount { class: class.name(), takes, releases }
                })
                .collect(),
            first_ns: c.first_ns,
            last_ns: self.world.now_ns,
            lost: self.world.losses.lost,
            holes: self.world.losses.holes,
            lost_by_reason: self.world.losses.by_reason.iter().map(|(reason, n)| (*reason, *n)).collect(),
            live_leases: self.leases.alive(),
            leases: self.leases.count,
            live_tasks: self.world.tasks.len(),
            live_tables: self.tables.alive(),
            lookups: c.lookups,
            shares: c.shares,
            removals_exact: c.removals_exact,
            removals_diff: c.removals_diff,
            removals_both: c.removals_both,
            windows: self.windows.count,
            unmatched_ends: c.unmatched_ends,
            unmatched_begins: c.unmatched_begins,
            unknown_releases: c.unknown_releases,
            untried_pairs: self.order.untried_pairs(),
            dropped_pairs: self.order.dropped_pairs(),
            dropped_requests: self.order.dropped_requests(),
            dropped_walks: self.predictions.dropped_walks,
            missed_frees: self.tables.missed_frees,
            missed_folio_releases: c.missed_folio_releases,
            forgotten_leases: self.leases.forgotten,
        }
    }

    fn op_begin(&mut self, id: TaskId, event: &Event) {
        if self.world.tasks[id].frames.is_empty() {
            // A hold whose release may be lost is not carried from one operation into the next.
            self.give_up_lossy(id, event.time_ns);
            if self.world.tasks[id].holds.is_empty() {
                self.order.task(id).clear();
            }
            // A lookup outside of operations was for a use that has ended.
            self.end_leases(id, event.time_ns, |_| true);
        }
        self.push_frame(id, event);
        if self.world.rules.is_walk(event.site)
            && let Body::OpBegin { mm, start, end } = event.body
        {
            self.walk(id, event, mm, (start, end));
        }
    }

    fn push_frame(&mut self, id: TaskId, event: &Event) {
        if let Popped::To { depth, missed } = self.world.tasks[id].begin_cuts(event.site) {
            self.counts.unmatched_begins += missed;
            let seen_ns = self.world.tasks[id].last_ns;
            self.cut(id, depth, event.time_ns, seen_ns);
        }
        let foreign_until = self.world.rules.foreign_until(event.site);
        self.world.tasks[id].frames.push(Frame {
            site: event.site,
            begin_ns: event.time_ns,
            lossy: false,
            folios_lossy: false,
            unlinks: 0,
            unlinked_of: Mapping(0),
            foreign_until,
        });
    }

    fn op_end(&mut self, id: TaskId, event: &Event) {
        if self.world.rules.ptl_release_unseen() {
            self.drop_ptls(id, event.time_ns);
        }
        match self.world.tasks[id].end_pops(event.site) {
            Popped::Nothing => {
                self.counts.unmatched_ends += 1;
                self.world.tasks[id].loss.was_adrift();
            }
            Popped::To { depth, missed } => {
                self.counts.unmatched_begins += missed;
                if missed > 0 {
                    let seen_ns = self.world.tasks[id].last_ns;
                    self.cut(id, depth + 1, event.time_ns, seen_ns);
                }
                let (frame, comm) = (self.world.tasks[id].frames[depth], self.world.tasks[id].comm);
                if frame.unlinks > 0 {
                    let by = (comm, self.world.rules.canonical(frame.site));
                    let took_ns = event.time_ns.saturating_sub(frame.begin_ns);
                    self.ledger.took(frame.unlinked_of, event.time_ns, by, took_ns);
                }
                self.cut(id, depth, event.time_ns, event.time_ns);
            }
        }
    }

    /// Truncates the stack to `depth` operations; the leases of the others end.
    fn cut(&mut self, id: TaskId, depth: usize, now_ns: u64, seen_ns: u64) {
        self.world.tasks[id].frames.truncate(depth);
        self.end_leases_seen(id, now_ns, seen_ns, |lease| lease.depth > depth);
    }

    /// Handles an exit. If the kernel reports it before the task gives its mm up (7.3), the task is kept for a while.
    fn task_exits(&mut self, id: TaskId, mm: Mm, now_ns: u64) {
        self.reap(|at_ns| at_ns + EXIT_NS < now_ns);
        if mm.0 == 0 {
            self.task_gone(id, now_ns);
            return;
        }
        self.world.tasks[id].exiting = true;
        if let Some(oldest_ns) = self.world.lifetimes.oldest_exiting_ns() {
            self.reap(|at_ns| at_ns <= oldest_ns);
        }
        let serial = self.world.tasks[id].serial;
        self.world.lifetimes.exits_soon(id, serial, now_ns);
    }

    /// Removes exiting tasks whose exit was reported at a time for which `is_over` returns true.
    fn reap(&mut self, is_over: impl Fn(u64) -> bool) {
        while let Some((id, serial)) = self.world.lifetimes.take_exiting(&is_over) {
            if self.world.tasks.is_alive(id, serial) {
                let last_ns = self.world.tasks[id].last_ns;
                self.task_gone(id, last_ns);
            }
        }
    }

    fn task_gone(&mut self, id: TaskId, now_ns: u64) {
        self.end_leases(id, now_ns, |_| true);
        self.leases.forget_task(id);
        self.order.forget_task(id);
        self.predictions.task_gone(&self.world, id, now_ns);
        self.world.lifetimes.exited(self.world.tasks[id].serial, now_ns);
        for hold in &self.world.tasks[id].holds {
            self.folio_holders.remove(&hold.instance.addr);
            self.last_holders.exited(&self.world.tasks[id], hold, now_ns);
        }
        self.world.tasks.remove(id);
    }

    /// Adds an occurrence to the finding with this id, or creates it.
    fn single(&mut self, finding: Finding) {
        match self.singles.iter_mut().find(|f| f.id == finding.id) {
            Some(known) => {
                known.count += 1;
                known.last_ns = finding.last_ns;
            }
            None => self.singles.push(finding),
        }
    }
}
