//! Page-table events and their effect on leases: which task holds a pointer, and whose link was removed meanwhile.

use super::Engine;
use crate::{
    event::{Addr, Class, Event, Mapping, Mm, Pte, SiteId, Table},
    freed::FreedTable,
    holds::TaskId,
    leases::{Entry, Lease, LeaseEnd, LeaseKind, LeaseStart, Pointer, Unlink},
    loss::Span,
    predict::UnlinkAt,
    tables::{Generation, LinkId, Removal},
};

impl Engine {
    pub(super) fn lookup(&mut self, id: TaskId, event: &Event, entry: Entry, repeats: u32) {
        let Entry { mm, addr, pte } = entry;
        let now_ns = event.time_ns;
        self.counts.lookups += 1 + u64::from(repeats);
        let last_table = self.leases.looked_up(id, (pte.0 != 0).then_some(pte.table()));
        if let Some(table) = last_table.filter(|_| repeats > 0) {
            self.tables.looked_up_again(table, repeats);
        }
        let foreign = self.world.tasks[id].frames.last().and_then(|f| f.foreign_until);
        if foreign.is_none() {
            // On such kernels it is unknown whether the task still holds the PTL, so a lookup does not count as made
            // under it.
            if self.world.rules.ptl_release_unseen() {
                self.drop_ptls(id, now_ns);
            }
            self.replace_leases(id, now_ns, mm, addr);
        }
        if pte.0 == 0 {
            return;
        }
        let of = self.tables.looked_up(mm, addr.gib(), pte.table(), now_ns, event.tid);
        if foreign.is_some() {
            self.know_mapping(id, pte.table());
        }
        let kind = match foreign {
            None => LeaseKind::Own,
            Some(class) if self.world.tasks[id].holds.iter().any(|h| h.class.wire() == class) => {
                LeaseKind::Foreign(class)
            }
            // The end of the lease is the release of this lock, which the task does not hold.
            Some(_) => return,
        };
        self.lease(id, event, kind, Pointer { entry, of });
    }

    /// Ends the task's earlier leases in this mm, which the new lookup replaces.
    fn replace_leases(&mut self, id: TaskId, now_ns: u64, mm: Mm, addr: Addr) {
        let mut at = 0;
        while let Some(lease) = self.leases.of_mut(id).get_mut(at) {
            if lease.mm == mm && lease.looked_up_again(addr.gib(), now_ns) {
                self.end_lease(id, at, LeaseEnd { now_ns, seen_ns: now_ns, by_lock: false });
            } else {
                at += 1;
            }
        }
    }

    /// Handles the begin of a walk without a lookup function: the walk itself is a lease of the whole range.
    pub(super) fn walk(&mut self, id: TaskId, event: &Event, mm: Mm, start: Addr, end: Addr) {
        let of = Generation { table: Table(0), generation: 0, birth_ns: 0 };
        self.lease(
            id,
            event,
            LeaseKind::Walk(end),
            Pointer { entry: Entry { mm, addr: start, pte: Pte(0) }, of },
        );
    }

    pub(super) fn callback_begin(&mut self, id: TaskId, event: &Event, entry: Entry) {
        let Entry { mm, addr, pte } = entry;
        self.push_frame(id, event);
        if pte.0 == 0 {
            return;
        }
        let site = self.world.on_behalf(id, event.site);
        let depth = self.world.tasks[id].frames.len();
        let stack = self.world.tasks[id].stack();
        let handed = |l: &&mut Lease| l.kind == LeaseKind::Own && l.mm == mm && l.of.table == pte.table();
        if let Some(lease) = self.leases.of_mut(id).iter_mut().filter(handed).max_by_key(|l| l.start_ns) {
            lease.hand_over(addr, pte, site, depth);
            lease.stack = stack;
            return;
        }
        let of = self.tables.handed(mm, addr.gib(), pte.table(), event.time_ns, event.tid);
        self.lease(id, event, LeaseKind::Callback, Pointer { entry, of });
    }

    fn lease(&mut self, id: TaskId, event: &Event, kind: LeaseKind, pointer: Pointer) {
        let site = self.world.on_behalf(id, event.site);
        let task = &self.world.tasks[id];
        let lease = self.leases.begin(
            id,
            &LeaseStart {
                kind,
                pointer,
                start_ns: event.time_ns,
                cpu: event.cpu,
                site,
                depth: task.frames.len(),
                holds: &task.holds,
            },
        );
        lease.stack = task.stack();
        let unsure = task.is_doubtful(event.time_ns);
        lease.lossy = task.is_site_unsure(event.time_ns);
        for hold in &task.holds {
            if self.world.excludes(pointer.of.table, hold.class.wire(), hold.mode, hold.instance.addr) {
                lease.exclude_by(hold.instance.addr);
            }
        }
        // A lock that protects the lookup may be unknown because its records were lost.
        lease.lossy |= unsure && kind == LeaseKind::Own && !lease.is_guarded();
    }

    /// Ends the task's leases for which `over` returns true.
    pub(super) fn end_leases(&mut self, id: TaskId, now_ns: u64, over: impl Fn(&Lease) -> bool) {
        self.end_leases_seen(id, now_ns, now_ns, over);
    }

    /// Like `end_leases`, for a missed end: the task was last seen at `seen_ns`.
    pub(super) fn end_leases_seen(
        &mut self,
        id: TaskId,
        now_ns: u64,
        seen_ns: u64,
        over: impl Fn(&Lease) -> bool,
    ) {
        let mut at = 0;
        while let Some(lease) = self.leases.of(id).get(at) {
            if over(lease) {
                self.end_lease(id, at, LeaseEnd { now_ns, seen_ns, by_lock: false });
            } else {
                at += 1;
            }
        }
    }

    pub(super) fn end_lease(&mut self, id: TaskId, at: usize, end: LeaseEnd) {
        // The lease is large, so it stays in the vector while it is judged.
        let lease = &mut self.leases.of_mut(id)[at];
        lease.end(end);
        self.predictions.lease_ended(&self.world, id, lease);
        if lease.hit.is_some() {
            let task = &self.world.tasks[id];
            let history = |table| self.tables.history(table);
            self.windows.ended(lease, || task.reference(), |s| self.world.name(s), history);
        }
        self.leases.remove(&self.world, id, at);
    }

    pub(super) fn unshare(&mut self, id: TaskId, event: &Event, entry: Entry) {
        let Entry { mm, addr, pte } = entry;
        let now_ns = event.time_ns;
        self.counts.unlinks_exact += 1;
        let table = pte.table();
        self.tables.unshared(mm, addr.gib(), table, now_ns, event.tid);
        let unlink = Unlink { mm, gib: Some(addr.gib()), table, span: Span::at(now_ns), freed: false };
        self.unlink(id, event, unlink);
    }

    pub(super) fn unlinked(&mut self, id: TaskId, event: &Event, unlink: Unlink) {
        let Unlink { mm, gib: Some(gib), table, span, .. } = unlink else { return };
        self.counts.unlinks_diff += 1;
        match self.tables.unlinked(mm, gib, table, span, event.tid) {
            Removal::Known => self.counts.unlinks_both += 1,
            Removal::New => {
                self.unlink(id, event, unlink);
                self.unlink_of_ended(id, event, unlink);
            }
        }
    }

    pub(super) fn table_free(&mut self, id: TaskId, event: &Event, mm: Mm, table: Table, count: u32) {
        let now_ns = event.time_ns;
        let unlink = Unlink { mm, gib: None, table, span: Span::at(now_ns), freed: true };
        self.unlink(id, event, unlink);
        let Some(generation) = self.tables.get(table).map(|t| t.generation) else { return };
        let left = self.tables.freed(mm, table, now_ns, event.tid);
        self.tables_died();
        // For users of other links the page is gone, regardless of the kernel's share count. If the moment of an unlink
        // is not seen, only the count shows that such a link still exists.
        let is_left = count > 0 || self.world.rules.unshare_exact();
        for link in left.iter().filter(|_| is_left) {
            self.unlink(id, event, Unlink { mm: link.mm, gib: Some(link.gib), ..unlink });
        }
        if left.is_empty() && count == 0 {
            return;
        }
        let freed = FreedTable { mm, table, generation, count };
        self.freed.add(&self.world, id, event, freed, &left);
    }

    /// Assigns the table to a file: it is looked up, or unshared, under the file's lock.
    fn know_mapping(&mut self, id: TaskId, table: Table) {
        let mut files = self.world.tasks[id].holds.iter().filter(|h| h.class.wire() == Class::IMmap);
        if let (Some(hold), None) = (files.next(), files.next())
            && let Some(lock) = self.world.locks.get(hold.instance.addr)
            && lock.owner != 0
        {
            self.tables.belongs(table, Mapping(lock.owner));
        }
    }

    /// Records an unlink in the ledger.
    fn write_down(&mut self, id: TaskId, site: SiteId, unlink: Unlink) {
        self.know_mapping(id, unlink.table);
        let mapping = self.tables.get(unlink.table).map_or(Mapping(0), |t| t.mapping);
        self.ledger.unshared(mapping, unlink.span.to_ns, self.world.tasks[id].comm, site);
        if let Some(frame) = self.world.tasks[id].frames.last_mut() {
            frame.unlinks += 1;
            frame.unlinked_of = mapping;
        }
    }

    pub(super) fn tables_died(&mut self) {
        while let Some(died) = self.tables.take_died() {
            self.predictions.died(died);
        }
    }

    /// Marks other tasks' leases on the link as unlinked.
    fn unlink(&mut self, id: TaskId, event: &Event, unlink: Unlink) {
        let Some(of) = self.tables.generation(unlink.table) else { return };
        if let (false, Some(gib)) = (unlink.freed, unlink.gib) {
            let site = self.world.on_behalf(id, event.site);
            self.write_down(id, site, unlink);
            let link = LinkId { mm: unlink.mm, gib, table: of.table, generation: of.generation };
            let span = unlink.span;
            let lossy = self.world.tasks[id].is_site_unsure(event.time_ns)
                || (!span.is_moment() && self.world.losses.touches(event.cpu, span.from_ns, span.to_ns));
            self.predictions.unlinked(&self.world, &UnlinkAt { id, site, link, span, lossy });
        }
        self.leases.unlink(&self.world, id, event, unlink, of);
    }

    /// An unlink whose moment is known only as an interval may have hit leases that ended inside the interval.
    fn unlink_of_ended(&mut self, id: TaskId, event: &Event, unlink: Unlink) {
        self.leases.may_have_hit_forgotten(unlink);
        let Some(of) = self.tables.generation(unlink.table) else { return };
        self.leases.unlink_ended(&self.world, id, event, unlink, of, |lease, holder| {
            let history = |table| self.tables.history(table);
            self.windows.ended(lease, || holder, |s| self.world.name(s), history);
        });
    }
}
