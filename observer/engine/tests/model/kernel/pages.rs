//! Steps that look up, share, unlink and free page tables.

use observer_engine::event::{Addr, Body, Mm, Pte, Table};

use super::{Kernel, PageTable, Place, Pointer, Seen, TaskNo, mm_addr};
use crate::{
    kernels::UnlinkReport,
    locks::Lock,
    sites::Site,
    truth::{Deed, Lease, Sort, Unlink},
};

impl Kernel {
    pub(super) fn call(&mut self, no: TaskNo, reg: usize, place: Place) {
        let pointer = self.tasks[no].regs[reg].expect("a pointer");
        let (table, life) = (self.tables[pointer.table].addr, self.tables[pointer.table].life);
        self.tasks[no].sent = None;
        self.name(no, Site::Smaps, Lock::Ptl(table), table);
        let depth = self.tasks[no].frames.len() + 1;
        let pte = Pte(table + (pointer.addr >> 21 & 511) * 8);
        let body = Body::CallbackBegin { mm: Mm(mm_addr(place.mm)), addr: Addr(pointer.addr), pte };
        let now_ns = self.emit(no, Site::Smaps, body);
        let held = self.tasks[no].held.clone();
        self.tasks[no].frames.push(Site::Smaps);
        match pointer.lease {
            Some(lease) => self.deed(no, now_ns, Deed::Handed { lease, site: Site::Smaps, depth }),
            None => {
                let lease = Lease {
                    task: no,
                    sort: Sort::Callback,
                    site: Site::Smaps,
                    place,
                    addr: pointer.addr,
                    to: pointer.addr,
                    table,
                    life,
                    start_ns: now_ns,
                    depth,
                    held,
                    is_user: self.is_user(no, place),
                    is_own: self.tasks[no].mm == place.mm,
                    deed: self.log.deeds[no].len(),
                };
                self.log.leases.push(lease);
                let lease = self.log.leases.len() - 1;
                self.tasks[no].regs[reg] = Some(Pointer { lease: Some(lease), ..pointer });
            }
        }
    }

    pub(super) fn compare(&mut self, no: TaskNo) {
        let Some(seen) = self.tasks[no].seen.take() else { return };
        let now = self.entries.get(&seen.place).copied();
        let now_addr = now.map_or(0, |t| self.tables[t].addr);
        let PageTable { addr, life, links } = self.tables[seen.table];
        if !seen.shared || now_addr == addr || self.protocol.unlink_report == UnlinkReport::Body {
            return;
        }
        let site = *self.tasks[no].frames.last().expect("inside an operation");
        let body = Body::Unlinked {
            mm: Mm(mm_addr(seen.place.mm)),
            gib: Addr(seen.place.gib()),
            table: Table(addr),
            lo_ns: seen.at_ns,
            now: now_addr,
            count: links.saturating_sub(1) as u32,
        };
        let hi_ns = self.emit(no, site, body);
        let is_this_unlink = |u: &&mut Unlink| {
            (u.place, u.table, u.life) == (seen.place, addr, life)
                && u.at_ns >= seen.at_ns
                && u.reported_ns.is_none()
        };
        if let Some(unlink) = self.log.unlinks.iter_mut().find(is_this_unlink) {
            unlink.reported_ns = Some((seen.at_ns, hi_ns));
        }
    }

    pub(super) fn look(&mut self, no: TaskNo, reg: usize, place: Place, site: Site, partner: bool) {
        let table = self.entries.get(&place).copied();
        let addr = place.gib() + ((self.random.below(8) as u64) << 21);
        let table_addr = table.map_or(0, |t| self.tables[t].addr);
        let mm = Mm(mm_addr(place.mm));
        self.tasks[no].last_table = table_addr;
        let frame = self.tasks[no].frames.last().copied();
        if frame.is_some_and(Site::is_compared) {
            let same = |s: &Seen| s.place == place && Some(s.table) == table;
            if !self.tasks[no].seen.as_ref().is_some_and(same) {
                self.compare(no);
                let at_ns = self.advance();
                self.tasks[no].seen =
                    table.map(|t| Seen { place, table: t, at_ns, shared: self.tables[t].links > 1 });
            }
        }
        let what = (place.mm, place.gib(), table_addr);
        if self.tasks[no].sent == Some(what) {
            self.tasks[no].repeats += 1;
            let lease = self.tasks[no].sent_lease;
            self.tasks[no].regs[reg] = table.map(|t| Pointer { table: t, addr, lease });
            return;
        }
        if let Some(table) = table {
            let addr = self.tables[table].addr;
            self.name(no, site, Lock::Ptl(addr), addr);
        }
        let pte = Pte(if table.is_some() { table_addr + (addr >> 21 & 511) * 8 } else { 0 });
        let repeats = std::mem::take(&mut self.tasks[no].repeats);
        let now_ns = self.emit(no, site, Body::Lookup { mm, addr: Addr(addr), pte, repeats });
        let lease = table.map(|t| {
            self.log.leases.push(Lease {
                task: no,
                sort: if partner { Sort::Partner } else { Sort::Own },
                site: frame.unwrap_or(site),
                place,
                addr,
                to: addr,
                table: table_addr,
                life: self.tables[t].life,
                start_ns: now_ns,
                depth: self.tasks[no].frames.len(),
                held: self.tasks[no].held.clone(),
                is_user: self.is_user(no, place),
                is_own: self.tasks[no].mm == place.mm,
                deed: self.log.deeds[no].len() + 1,
            });
            self.log.leases.len() - 1
        });
        self.deed(no, now_ns, Deed::Looked { place, partner });
        let task = &mut self.tasks[no];
        task.regs[reg] = table.map(|t| Pointer { table: t, addr, lease });
        (task.sent, task.sent_lease) = (Some(what), lease);
    }

    pub(super) fn is_user(&self, no: TaskNo, place: Place) -> bool {
        self.tasks[no].mm == place.mm || self.tasks[no].uses == Some(place.mm)
    }

    /// The walk through the mapping's tree. Partners without a table are looked up, too.
    pub(super) fn look_partner(&mut self, no: TaskNo, reg: usize, place: Place) {
        self.tasks[no].regs[reg] = None;
        let partners: Vec<Place> = self
            .vmas
            .iter()
            .filter(|(p, v)| **p != place && v.in_tree && v.shareable)
            .map(|(p, _)| *p)
            .collect();
        let first = if partners.is_empty() { 0 } else { self.random.below(partners.len()) };
        for i in 0..partners.len() {
            let partner = partners[(first + i) % partners.len()];
            self.look(no, reg, partner, Site::Offset, true);
            if self.tasks[no].regs[reg].is_some() {
                return;
            }
        }
    }

    pub(super) fn look_silently(&mut self, no: TaskNo, reg: usize, place: Place) {
        let addr = place.gib() + ((self.random.below(8) as u64) << 21);
        let pointer = self.entries.get(&place).map(|t| Pointer { table: *t, addr, lease: None });
        self.tasks[no].regs[reg] = pointer;
    }

    pub(super) fn link(&mut self, no: TaskNo, reg: usize, place: Place) {
        let table = self.tasks[no].regs[reg].expect("a pointer").table;
        if self.entries.contains_key(&place) {
            return;
        }
        self.entries.insert(place, table);
        self.tables[table].links += 1;
        match self.protocol.late_share {
            true => self.tasks[no].shared = Some((place, table)),
            false => self.report_shared(no, place, table),
        }
    }

    pub(super) fn report_shared(&mut self, no: TaskNo, place: Place, table: usize) {
        let PageTable { addr, links, .. } = self.tables[table];
        let body = Body::Share {
            mm: Mm(mm_addr(place.mm)),
            addr: Addr(place.gib()),
            pte: Pte(addr),
            count: links.saturating_sub(1) as u32,
        };
        self.emit(no, Site::Shared, body);
    }

    pub(super) fn alloc(&mut self, no: TaskNo, place: Place) {
        if self.entries.contains_key(&place) {
            return;
        }
        let addr = if self.free_pages.is_empty() {
            self.pages += 1;
            0x10_0000 + (self.pages << 12)
        } else {
            let at = self.random.below(self.free_pages.len());
            self.free_pages.swap_remove(at)
        };
        let life = self.lives.entry(addr).or_default();
        *life += 1;
        self.tables.push(PageTable { addr, life: *life, links: 1 });
        self.entries.insert(place, self.tables.len() - 1);
        self.name(no, Site::AllocPmd, Lock::Ptl(addr), addr);
        let (mm, addr, table) = (Mm(mm_addr(place.mm)), Addr(place.gib()), Table(addr));
        self.emit(no, Site::AllocPmd, Body::TableAlloc { mm, addr, table });
    }

    pub(super) fn unshare(&mut self, no: TaskNo, reg: usize, place: Place) {
        let pointer = self.tasks[no].regs[reg].expect("a pointer");
        let table = self.entries.get(&place).copied();
        if table != Some(pointer.table) || self.tables[pointer.table].links < 2 {
            return;
        }
        self.entries.remove(&place);
        self.tables[pointer.table].links -= 1;
        let PageTable { addr, life, .. } = self.tables[pointer.table];
        self.tasks[no].sent = None;
        let is_reported = self.protocol.unlink_report != UnlinkReport::Entries;
        let now_ns = if is_reported {
            let pte = Pte(addr + (pointer.addr >> 21 & 511) * 8);
            let body = Body::Unshare { mm: Mm(mm_addr(place.mm)), addr: Addr(pointer.addr), pte };
            self.emit(no, Site::Body, body)
        } else {
            self.advance()
        };
        self.unlinked(no, place, (addr, life), now_ns, is_reported, false);
    }

    pub(super) fn unlinked(
        &mut self,
        no: TaskNo,
        place: Place,
        (table, life): (u64, u32),
        at_ns: u64,
        is_reported: bool,
        freed: bool,
    ) {
        let task = &self.tasks[no];
        self.log.unlinks.push(Unlink {
            task: no,
            site: task.frames.last().copied().unwrap_or(if freed { Site::FreePmd } else { Site::Body }),
            place,
            table,
            life,
            at_ns,
            reported_ns: is_reported.then_some((at_ns, at_ns)),
            freed,
            held: task.held.clone(),
            is_own: task.mm == place.mm,
            last_user: task.frames.contains(&Site::Exit),
        });
    }

    pub(super) fn free(&mut self, no: TaskNo, place: Place) {
        let Some(table) = self.entries.remove(&place) else { return };
        self.tables[table].links -= 1;
        let PageTable { addr, life, links } = self.tables[table];
        assert_eq!(links, 0, "a table that others use is given back");
        let body = Body::TableFree { mm: Mm(mm_addr(place.mm)), table: Table(addr), count: 0 };
        let now_ns = self.emit(no, Site::FreePmd, body);
        self.unlinked(no, place, (addr, life), now_ns, true, true);
        let lock = Lock::Ptl(addr);
        if self.named.remove(&lock.addr()) {
            self.retired.insert(lock.addr());
        }
        self.free_pages.push(addr);
    }

    /// Begins a walk that may look up any entry up to `to`.
    pub(super) fn begin_sweep(&mut self, no: TaskNo, place: Place, to: u64) {
        let now_ns = self.begin_range(no, Site::Sweep, place, to);
        self.log.leases.push(Lease {
            task: no,
            sort: Sort::Walk,
            site: Site::Sweep,
            place,
            addr: place.gib(),
            to,
            table: 0,
            life: 0,
            start_ns: now_ns,
            depth: self.tasks[no].frames.len(),
            held: self.tasks[no].held.clone(),
            is_user: self.is_user(no, place),
            is_own: self.tasks[no].mm == place.mm,
            deed: self.log.deeds[no].len(),
        });
    }
}
