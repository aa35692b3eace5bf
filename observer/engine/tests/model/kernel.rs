//! The simulated kernel: tables, upper-level entries, locks, and tasks that run programs of atomic steps.
//!
//! Every step changes the state, sends the events that real probes would send, and writes down what is true (`truth`).
//! What is sent and what is kept back (repeated lookups, locks of tables that were given back) follows the eBPF side.
//! Decides nothing about findings.

use std::collections::{BTreeMap, BTreeSet};

use observer_engine::event::{
    Addr, Body, Class, Event, LockAddr, LockStep, Mm, Mode, Pte, Table, Tid,
};

use super::{
    locks::{Lock, Locks},
    programs::{Ins, Protocol, Told},
    random::Random,
    sites::Site,
    truth::{Deed, Held, Lease, Log, Sort, Span, Unlink},
};

pub type TaskNo = usize;
pub const REGS: usize = 4;

/// A VMA, which covers one GiB: the unit of sharing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub mm: usize,
    pub vma: usize,
}

impl Place {
    pub fn gib(self) -> u64 {
        // Some mms map the file at the same address, some elsewhere.
        (1 + (self.vma as u64) * 2 + (self.mm as u64 & 1)) << 30
    }
}

pub fn mm_addr(mm: usize) -> u64 {
    0xa000 + 0x1000 * mm as u64
}

#[derive(Clone, Copy, Debug)]
struct PageTable {
    addr: u64,
    life: u32,
    links: usize,
}

#[derive(Clone, Debug, Default)]
struct Vma {
    mapped: bool,
    shareable: bool,
    in_tree: bool,
}

#[derive(Clone, Debug)]
struct MmState {
    users: usize,
}

/// A pointer in a task's register: into which table, and from which lookup. No lookup: it was not seen.
#[derive(Clone, Copy, Debug)]
struct Pointer {
    table: usize,
    addr: u64,
    lease: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Asking {
    lock: Lock,
    mode: Mode,
    ask_ns: u64,
    lease: Option<usize>,
    is_wait_told: bool,
    seen: bool,
}

/// The entry behind the last lookup of a compared function.
#[derive(Clone, Copy, Debug)]
struct Seen {
    place: Place,
    table: usize,
    at_ns: u64,
    shared: bool,
}

#[derive(Clone, Debug)]
pub struct Task {
    pub tid: u32,
    pub mm: usize,
    pub program: Vec<Ins>,
    pub pc: usize,
    pub is_born: bool,
    pub is_gone: bool,
    cpu: u16,
    is_introduced: bool,
    regs: [Option<Pointer>; REGS],
    held: Vec<Held>,
    frames: Vec<Site>,
    asking: Option<Asking>,
    /// Got, and not told yet: the next event tells.
    got: Option<(Asking, u64)>,
    sent: Option<(usize, u64)>,
    sent_lease: Option<usize>,
    repeats: u32,
    /// Table of the last lookup, as the probes remember it.
    last_table: u64,
    seen: Option<Seen>,
    /// Sharing that its function's return will tell.
    shared: Option<(Place, usize)>,
    release_told: bool,
    /// Stopped, by an interrupt or another task, while others make so many steps.
    away: usize,
    /// Other mms that it keeps alive.
    uses: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct Kernel {
    pub protocol: Protocol,
    pub tasks: Vec<Task>,
    pub events: Vec<Event>,
    pub log: Log,
    random: Random,
    now_ns: u64,
    seqs: [u32; 4],
    locks: Locks,
    tables: Vec<PageTable>,
    free_pages: Vec<u64>,
    pages: u64,
    lives: BTreeMap<u64, u32>,
    entries: BTreeMap<Place, usize>,
    vmas: BTreeMap<Place, Vma>,
    mms: Vec<MmState>,
    named: BTreeSet<u64>,
    /// Locks of tables that were given back.
    retired: BTreeSet<u64>,
    lock_lives: BTreeMap<u64, u32>,
}

impl Kernel {
    /// `born`: tasks that run from the start; the others are forked.
    pub fn new(protocol: Protocol, places: &[Place], programs: Vec<(usize, Vec<Ins>)>, born: usize, seed: u64) -> Kernel {
        let mut random = Random(seed);
        let mms = places.iter().map(|p| p.mm).max().map_or(0, |m| m + 1);
        let tasks: Vec<Task> = programs
            .into_iter()
            .enumerate()
            .map(|(no, (mm, program))| Task {
                tid: 11 + no as u32,
                mm,
                program,
                pc: 0,
                is_born: no < born,
                is_gone: false,
                cpu: random.below(protocol.cpus) as u16,
                is_introduced: false,
                regs: [None; REGS],
                held: Vec::new(),
                frames: Vec::new(),
                asking: None,
                got: None,
                sent: None,
                sent_lease: None,
                repeats: 0,
                last_table: 0,
                seen: None,
                shared: None,
                release_told: false,
                away: 0,
                uses: None,
            })
            .collect();
        let mut kernel = Kernel {
            protocol,
            events: Vec::new(),
            log: Log {
                deeds: vec![Vec::new(); tasks.len()],
                spans: vec![Span::default(); tasks.len()],
                ..Log::default()
            },
            mms: (0..mms).map(|_| MmState { users: 0 }).collect(),
            tasks,
            random,
            now_ns: 1000,
            seqs: [0; 4],
            locks: Locks::default(),
            tables: Vec::new(),
            free_pages: Vec::new(),
            pages: 0,
            lives: BTreeMap::new(),
            entries: BTreeMap::new(),
            vmas: places
                .iter()
                .map(|p| (*p, Vma { mapped: true, shareable: true, in_tree: true }))
                .collect(),
            named: BTreeSet::new(),
            retired: BTreeSet::new(),
            lock_lives: BTreeMap::new(),
        };
        for task in &kernel.tasks {
            kernel.mms[task.mm].users += usize::from(task.is_born);
        }
        for (place, vma) in &mut kernel.vmas {
            if kernel.mms[place.mm].users == 0 {
                *vma = Vma::default();
            }
        }
        kernel
    }

    /// Runs until nobody can go on, or so many steps were made. Returns how many.
    pub fn run(&mut self, steps_max: usize) -> usize {
        let mut steps = 0;
        self.name_all(0, |_| true);
        while steps < steps_max {
            let able: Vec<TaskNo> = (0..self.tasks.len()).filter(|t| self.can_step(*t)).collect();
            let here: Vec<TaskNo> = able.iter().copied().filter(|t| self.tasks[*t].away == 0).collect();
            let ready = if here.is_empty() { able } else { here };
            if ready.is_empty() {
                break;
            }
            let task = ready[self.random.below(ready.len())];
            let mut run = 1 + self.random.below(self.protocol.run_max);
            self.tasks[task].away = 0;
            for other in &mut self.tasks {
                other.away = other.away.saturating_sub(run);
            }
            while run > 0 && self.tasks[task].away == 0 && self.can_step(task) && steps < steps_max {
                self.step(task);
                run -= 1;
                steps += 1;
            }
        }
        self.log.end_ns = self.events.last().map_or(0, |e| e.time_ns);
        steps
    }

    /// Whether every task came to its end: else they wait for each other.
    pub fn is_over(&self) -> bool {
        self.tasks.iter().all(|t| t.is_gone || !t.is_born)
    }

    fn can_step(&self, no: TaskNo) -> bool {
        let task = &self.tasks[no];
        if !task.is_born || task.is_gone {
            return false;
        }
        task.asking.is_none_or(|a| {
            self.locks.is_free(a.lock, a.mode, no) || (self.protocol.waits && !a.is_wait_told)
        })
    }

    fn advance(&mut self) -> u64 {
        let max = if self.random.once_in(4) { 500 } else { 20 };
        self.now_ns += 1 + self.random.below(max) as u64;
        self.now_ns
    }

    /// Sends an event of this task, at a new moment.
    fn emit(&mut self, no: TaskNo, site: Site, body: Body) -> u64 {
        if !std::mem::replace(&mut self.tasks[no].is_introduced, true) {
            let (tgid, mm) = (100 + self.tasks[no].mm as u32, Mm(mm_addr(self.tasks[no].mm)));
            self.emit(no, Site::Tasks, Body::Task { tgid, comm: *b"task\0\0\0\0\0\0\0\0\0\0\0\0", mm });
        }
        let time_ns = self.advance();
        if self.random.once_in(12) {
            self.tasks[no].cpu = self.random.below(self.protocol.cpus) as u16;
        }
        self.log.spans[no].birth_ns.get_or_insert(time_ns);
        let still_waits = matches!(body, Body::Lock { step: LockStep::WaitBegin, .. });
        if !still_waits
            && let Some((asking, got_ns)) = self.tasks[no].got.take()
        {
            let held = self.tasks[no].held.iter().rfind(|h| h.lock == asking.lock);
            let held = *held.expect("nothing was released since");
            self.deed(no, time_ns, Deed::Got { held });
            if let Some(lease) = asking.lease {
                let deed = Deed::TookPtl { lease, lock: asking.lock, ask_ns: asking.ask_ns, got_ns };
                self.deed(no, time_ns, deed);
            }
        }
        let cpu = self.tasks[no].cpu;
        let seq = self.seqs[usize::from(cpu)];
        self.seqs[usize::from(cpu)] += 1;
        let tid = Tid(self.tasks[no].tid);
        self.events.push(Event { time_ns, seq, tid, cpu, site: site.id(), body });
        time_ns
    }

    fn deed(&mut self, no: TaskNo, time_ns: u64, deed: Deed) {
        self.log.deeds[no].push((time_ns, deed));
    }

    fn lock_event(&mut self, no: TaskNo, step: LockStep, lock: Lock, mode: Mode) -> u64 {
        let site = match (step, lock) {
            (LockStep::WaitBegin | LockStep::WaitEnd, _) => Site::Contention,
            (_, Lock::Ptl(_)) => Site::Spin,
            _ => Site::Sleeping,
        };
        let body = Body::Lock {
            step,
            class: lock.class(),
            mode: Some(mode),
            lock: LockAddr(lock.addr()),
            failed: false,
        };
        self.emit(no, site, body)
    }

    /// The lock's records are sent: it was announced; of a table that was given back only to whoever looked up in it last.
    fn is_watched(&self, no: TaskNo, lock: Lock) -> bool {
        match lock {
            Lock::Ptl(table) if self.retired.contains(&lock.addr()) => {
                self.tasks[no].last_table == table && !self.tasks[no].frames.is_empty()
            }
            Lock::Fault => true,
            _ => self.named.contains(&lock.addr()),
        }
    }

    fn name(&mut self, no: TaskNo, site: Site, lock: Lock, owner: u64) {
        if self.named.insert(lock.addr()) {
            self.retired.remove(&lock.addr());
            let body = Body::LockName { class: lock.class(), lock: LockAddr(lock.addr()), owner, vma: 0 };
            self.emit(no, site, body);
        }
    }

    fn forget(&mut self, no: TaskNo, lock: Lock) {
        if self.named.remove(&lock.addr()) {
            let body = Body::LockForget { class: lock.class(), lock: LockAddr(lock.addr()) };
            self.emit(no, Site::Sleeping, body);
        }
        *self.lock_lives.entry(lock.addr()).or_default() += 1;
    }

    fn held(&self, lock: Lock, mode: Mode) -> Held {
        let life = self.lock_lives.get(&lock.addr()).copied().unwrap_or(0);
        Held { lock, life, mode, downgraded: false, seen: false }
    }

    fn step(&mut self, no: TaskNo) {
        if let Some(asking) = self.tasks[no].asking {
            return self.step_asking(no, asking);
        }
        let Some(ins) = self.tasks[no].program.get(self.tasks[no].pc).copied() else {
            self.tasks[no].is_gone = true;
            return;
        };
        self.tasks[no].pc += 1;
        self.execute(no, ins);
        // Whoever has just got a pointer is the one to be stopped.
        let got = matches!(ins, Ins::Look(reg, ..) if self.tasks[no].regs[reg].is_some());
        if (got || matches!(ins, Ins::Call(..) | Ins::PtlAsk(_))) && self.random.once_in(4) {
            self.tasks[no].away = 1 + self.random.below(100);
        }
    }

    fn step_asking(&mut self, no: TaskNo, mut asking: Asking) {
        if !self.locks.is_free(asking.lock, asking.mode, no) {
            asking.is_wait_told = true;
            self.tasks[no].asking = Some(asking);
            if self.is_watched(no, asking.lock) {
                self.lock_event(no, LockStep::WaitBegin, asking.lock, asking.mode);
            }
            return;
        }
        self.locks.take(no, asking.lock, asking.mode);
        let held = Held { seen: asking.seen, ..self.held(asking.lock, asking.mode) };
        let got_ns = self.advance();
        let task = &mut self.tasks[no];
        task.asking = None;
        task.held.push(held);
        task.got = Some((asking, got_ns));
        if asking.is_wait_told && self.is_watched(no, asking.lock) {
            self.lock_event(no, LockStep::WaitEnd, asking.lock, asking.mode);
        }
    }

    fn jump(&mut self, no: TaskNo, to: usize) {
        self.tasks[no].pc = to;
    }

    fn execute(&mut self, no: TaskNo, ins: Ins) {
        match ins {
            Ins::Begin(site, place) => self.begin(no, site, place),
            Ins::End => self.end(no),
            Ins::Call(reg, place) => self.call(no, reg, place),
            Ins::Ask(lock, mode) => self.ask(no, lock, mode, None),
            Ins::Try(lock, mode, busy) => self.try_lock(no, lock, mode, busy),
            Ins::Release(lock) => self.release(no, lock),
            Ins::Downgrade(lock) => self.downgrade(no, lock),
            Ins::PtlAsk(reg) => {
                let pointer = self.tasks[no].regs[reg].expect("a pointer");
                self.ask(no, Lock::Ptl(self.tables[pointer.table].addr), Mode::Exclusive, pointer.lease);
            }
            Ins::PtlRelease(reg) => {
                let pointer = self.tasks[no].regs[reg].expect("a pointer");
                self.release(no, Lock::Ptl(self.tables[pointer.table].addr));
            }
            Ins::Look(reg, place, site) => self.look(no, reg, place, site, false),
            Ins::LookPartner(reg, place) => self.look_partner(no, reg, place),
            Ins::LookSilently(reg, place) => self.look_silently(no, reg, place),
            Ins::Copy(to, from) => self.tasks[no].regs[to] = self.tasks[no].regs[from],
            Ins::Link(reg, place) => self.link(no, reg, place),
            Ins::Alloc(place) => self.alloc(no, place),
            Ins::Unshare(reg, place) => self.unshare(no, reg, place),
            Ins::Free(place) => self.free(no, place),
            Ins::IfNull(reg, to) if self.tasks[no].regs[reg].is_none() => self.jump(no, to),
            Ins::IfSame(a, b, to) if self.address(no, a) == self.address(no, b) => self.jump(no, to),
            Ins::IfUnmapped(place, to) if !self.vmas[&place].mapped => self.jump(no, to),
            Ins::IfMapped(place, to) if self.vmas[&place].mapped => self.jump(no, to),
            Ins::IfOutOfTree(place, to) if !self.vmas[&place].in_tree => self.jump(no, to),
            Ins::Get(mm, dead) => match self.mms[mm].users {
                0 => self.jump(no, dead),
                _ => {
                    self.mms[mm].users += 1;
                    self.tasks[no].uses = Some(mm);
                }
            },
            Ins::Put(mm, to) => {
                self.mms[mm].users -= 1;
                self.tasks[no].uses = None;
                if self.mms[mm].users > 0 {
                    self.jump(no, to);
                }
            }
            Ins::Goto(to) => self.jump(no, to),
            Ins::Map(place) => {
                *self.vma(place) = Vma { mapped: true, shareable: true, in_tree: true };
                if self.protocol.vma_lock && self.protocol.named_early {
                    self.name(no, Site::Fault, Lock::Vma(place.mm, place.vma), 0x3_0000);
                }
            }
            Ins::Detach(place) => self.vma(place).mapped = false,
            Ins::Unshareable(place) => self.vma(place).shareable = false,
            Ins::OutOfTree(place) => self.vma(place).in_tree = false,
            Ins::Forget(lock) => self.forget(no, lock),
            Ins::Fork(child) => self.fork(no, child),
            Ins::Exit => self.exit(no),
            Ins::Sleep
            | Ins::IfNull(..)
            | Ins::IfSame(..)
            | Ins::IfUnmapped(..)
            | Ins::IfMapped(..)
            | Ins::IfOutOfTree(..) => {}
        }
    }

    fn vma(&mut self, place: Place) -> &mut Vma {
        self.vmas.get_mut(&place).expect("all places are known")
    }

    fn address(&self, no: TaskNo, reg: usize) -> Option<u64> {
        self.tasks[no].regs[reg].map(|p| self.tables[p.table].addr)
    }

    fn begin(&mut self, no: TaskNo, site: Site, place: Place) {
        self.tasks[no].sent = None;
        let mm = mm_addr(place.mm);
        self.name(no, site, Lock::Mmap(place.mm), mm);
        if self.protocol.vma_lock {
            self.name(no, site, Lock::Vma(place.mm, place.vma), 0x3_0000);
        }
        self.name(no, site, Lock::IMmap, 0x3_0000);
        let (start, end) = (Addr(place.gib()), Addr(place.gib() + (1 << 30)));
        self.emit(no, site, Body::OpBegin { mm: Mm(mm), start, end });
        let task = &mut self.tasks[no];
        task.frames.push(site);
        if site.is_compared() {
            task.seen = None;
        }
    }

    fn end(&mut self, no: TaskNo) {
        let site = *self.tasks[no].frames.last().expect("inside an operation");
        if site.is_compared() {
            self.compare(no);
        }
        if let Some((place, table)) = self.tasks[no].shared.filter(|_| site == Site::Sharing) {
            self.tasks[no].shared = None;
            self.tell_shared(no, place, table);
        }
        self.tasks[no].frames.pop();
        self.tasks[no].sent = None;
        let now_ns = self.emit(no, site, Body::OpEnd { ret: 0 });
        let depth = self.tasks[no].frames.len();
        self.deed(no, now_ns, Deed::Left { depth });
    }

    fn call(&mut self, no: TaskNo, reg: usize, place: Place) {
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

    fn ask(&mut self, no: TaskNo, lock: Lock, mode: Mode, lease: Option<usize>) {
        // An ask that is not seen cannot be used as evidence.
        let watched = self.is_watched(no, lock);
        self.look_anew(no, lock, watched);
        let ask_ns = if watched { self.lock_event(no, LockStep::Ask, lock, mode) } else { self.now_ns };
        self.locks.queue(no, lock, mode);
        let lease = lease.filter(|_| watched);
        self.tasks[no].asking = Some(Asking { lock, mode, ask_ns, lease, is_wait_told: !self.protocol.waits, seen: watched });
    }

    /// What is looked up under a lock that keeps tables linked, and what is looked up without it, are two things.
    fn look_anew(&mut self, no: TaskNo, lock: Lock, seen: bool) {
        if seen && matches!(lock.class(), Class::VmaLock | Class::IMmap) {
            self.tasks[no].sent = None;
        }
    }

    fn try_lock(&mut self, no: TaskNo, lock: Lock, mode: Mode, busy: usize) {
        let free = self.locks.is_free(lock, mode, no);
        let held = Held { seen: self.is_watched(no, lock), ..self.held(lock, mode) };
        if free {
            self.locks.take(no, lock, mode);
            self.tasks[no].held.push(held);
        } else {
            self.jump(no, busy);
        }
        self.look_anew(no, lock, held.seen && free);
        if held.seen {
            self.lock_event(no, if free { LockStep::Try } else { LockStep::Busy }, lock, mode);
        }
        if free {
            self.deed(no, self.now_ns, Deed::Got { held });
        }
    }

    /// Two steps: the probe is at the entry, the lock goes at the end.
    fn release(&mut self, no: TaskNo, lock: Lock) {
        let at = self.tasks[no].held.iter().rposition(|h| h.lock == lock).expect("it is held");
        let told = std::mem::replace(&mut self.tasks[no].release_told, true);
        if !told && (self.is_watched(no, lock) || (self.tasks[no].held[at].seen && self.protocol.paired)) {
            let mode = self.tasks[no].held[at].mode;
            self.look_anew(no, lock, true);
            let now_ns = self.lock_event(no, LockStep::Release, lock, mode);
            self.deed(no, now_ns, Deed::Released { lock, seen: true });
            self.tasks[no].pc -= 1;
            return;
        }
        self.tasks[no].release_told = false;
        if !told && self.tasks[no].got.take_if(|(asking, _)| asking.lock == lock).is_none() {
            let now_ns = self.now_ns;
            self.deed(no, now_ns, Deed::Released { lock, seen: false });
        }
        self.tasks[no].held.remove(at);
        self.locks.release(no, lock);
    }

    fn downgrade(&mut self, no: TaskNo, lock: Lock) {
        self.locks.downgrade(no, lock);
        let held = self.tasks[no].held.iter_mut().find(|h| h.lock == lock).expect("it is held");
        (held.mode, held.downgraded) = (Mode::Read, true);
        if self.is_watched(no, lock) {
            self.lock_event(no, LockStep::Downgrade, lock, Mode::Read);
        }
    }

    fn compare(&mut self, no: TaskNo) {
        let Some(seen) = self.tasks[no].seen.take() else { return };
        let now = self.entries.get(&seen.place).copied();
        let now_addr = now.map_or(0, |t| self.tables[t].addr);
        let PageTable { addr, life, links } = self.tables[seen.table];
        if !seen.shared || now_addr == addr || self.protocol.told == Told::Body {
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
        let told = |u: &&mut Unlink| {
            (u.place, u.table, u.life) == (seen.place, addr, life) && u.at_ns >= seen.at_ns && u.told_ns.is_none()
        };
        if let Some(unlink) = self.log.unlinks.iter_mut().find(told) {
            unlink.told_ns = Some((seen.at_ns, hi_ns));
        }
    }

    fn look(&mut self, no: TaskNo, reg: usize, place: Place, site: Site, partner: bool) {
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
        if self.tasks[no].sent == Some((place.mm, table_addr)) {
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
        self.deed(no, now_ns, Deed::Looked { place, partner, lease });
        let task = &mut self.tasks[no];
        task.regs[reg] = table.map(|t| Pointer { table: t, addr, lease });
        (task.sent, task.sent_lease) = (Some((place.mm, table_addr)), lease);
    }

    fn is_user(&self, no: TaskNo, place: Place) -> bool {
        self.tasks[no].mm == place.mm || self.tasks[no].uses == Some(place.mm)
    }

    /// The walk through the mapping's tree: partners without a table are looked at, too.
    fn look_partner(&mut self, no: TaskNo, reg: usize, place: Place) {
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

    fn look_silently(&mut self, no: TaskNo, reg: usize, place: Place) {
        let addr = place.gib() + ((self.random.below(8) as u64) << 21);
        let pointer = self.entries.get(&place).map(|t| Pointer { table: *t, addr, lease: None });
        self.tasks[no].regs[reg] = pointer;
    }

    fn link(&mut self, no: TaskNo, reg: usize, place: Place) {
        let table = self.tasks[no].regs[reg].expect("a pointer").table;
        if self.entries.contains_key(&place) {
            return;
        }
        self.entries.insert(place, table);
        self.tables[table].links += 1;
        match self.protocol.late_share {
            true => self.tasks[no].shared = Some((place, table)),
            false => self.tell_shared(no, place, table),
        }
    }

    fn tell_shared(&mut self, no: TaskNo, place: Place, table: usize) {
        let PageTable { addr, links, .. } = self.tables[table];
        let body = Body::Share {
            mm: Mm(mm_addr(place.mm)),
            addr: Addr(place.gib()),
            pte: Pte(addr),
            count: links.saturating_sub(1) as u32,
        };
        self.emit(no, Site::Shared, body);
    }

    fn alloc(&mut self, no: TaskNo, place: Place) {
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

    fn unshare(&mut self, no: TaskNo, reg: usize, place: Place) {
        let pointer = self.tasks[no].regs[reg].expect("a pointer");
        let table = self.entries.get(&place).copied();
        if table != Some(pointer.table) || self.tables[pointer.table].links < 2 {
            return;
        }
        self.entries.remove(&place);
        self.tables[pointer.table].links -= 1;
        let PageTable { addr, life, .. } = self.tables[pointer.table];
        self.tasks[no].sent = None;
        let told = self.protocol.told != Told::Entries;
        let now_ns = if told {
            let pte = Pte(addr + (pointer.addr >> 21 & 511) * 8);
            let body = Body::Unshare { mm: Mm(mm_addr(place.mm)), addr: Addr(pointer.addr), pte };
            self.emit(no, Site::Body, body)
        } else {
            self.advance()
        };
        self.unlinked(no, place, (addr, life), now_ns, told, false);
    }

    fn unlinked(&mut self, no: TaskNo, place: Place, (table, life): (u64, u32), at_ns: u64, told: bool, freed: bool) {
        let task = &self.tasks[no];
        self.log.unlinks.push(Unlink {
            task: no,
            site: task.frames.last().copied().unwrap_or(if freed { Site::FreePmd } else { Site::Body }),
            place,
            table,
            life,
            at_ns,
            told_ns: told.then_some((at_ns, at_ns)),
            freed,
            held: task.held.clone(),
            is_own: task.mm == place.mm,
            last_user: task.frames.contains(&Site::Exit),
        });
    }

    fn free(&mut self, no: TaskNo, place: Place) {
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

    fn fork(&mut self, no: TaskNo, child: TaskNo) {
        let mm = self.tasks[child].mm;
        let (tid, tgid) = (Tid(self.tasks[child].tid), 100 + mm as u32);
        let now_ns = self.emit(no, Site::Tasks, Body::Fork { child: tid, child_tgid: tgid });
        self.tasks[child].is_born = true;
        self.log.spans[child].birth_ns = Some(now_ns);
        self.mms[mm].users += 1;
        if self.mms[mm].users == 1 {
            // A process of its own, with a copy of the mappings.
            for (_, vma) in self.vmas.iter_mut().filter(|(p, _)| p.mm == mm) {
                *vma = Vma { mapped: true, shareable: true, in_tree: true };
            }
        }
        self.name_all(no, |p| p.mm == mm);
    }

    /// Names the locks of these places, as operations on them before would have.
    fn name_all(&mut self, no: TaskNo, which: impl Fn(Place) -> bool) {
        if !self.protocol.named_early {
            return;
        }
        for place in self.vmas.keys().copied().filter(|p| which(*p)).collect::<Vec<Place>>() {
            self.name(no, Site::Fault, Lock::Mmap(place.mm), mm_addr(place.mm));
            if self.protocol.vma_lock {
                self.name(no, Site::Fault, Lock::Vma(place.mm, place.vma), 0x3_0000);
            }
        }
        self.name(no, Site::Fault, Lock::IMmap, 0x3_0000);
    }

    fn exit(&mut self, no: TaskNo) {
        let mm = self.tasks[no].mm;
        let body = Body::TaskExit { tgid: 100 + mm as u32, mm: Mm(mm_addr(mm)) };
        let now_ns = self.emit(no, Site::Tasks, body);
        self.deed(no, now_ns, Deed::Exited);
        self.log.spans[no].exit_ns = Some(now_ns);
        self.tasks[no].is_gone = true;
    }
}
