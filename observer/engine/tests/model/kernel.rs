//! The simulated kernel: tables, upper-level entries, locks, and tasks that run programs of atomic steps.
//!
//! Every step changes the state, sends the events that real probes would send, and logs the truth (`truth`). Which
//! events are sent and which are not (repeated lookups, locks of freed tables) follows the eBPF side. This module
//! decides nothing about findings.

mod locking;
mod pages;

use std::collections::{BTreeMap, BTreeSet};

use observer_engine::event::{Addr, Body, Event, LockStep, Mm, Mode, Tid};

use super::{
    kernels::Protocol,
    locks::{Lock, Locks},
    programs::Ins,
    random::Random,
    sites::Site,
    truth::{Deed, Held, Log, Span},
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

/// A pointer in a task's register: its table, and the lookup that returned it. `None`: the lookup was not seen.
#[derive(Clone, Copy, Debug)]
struct Pointer {
    table: usize,
    addr: u64,
    lease: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct LockRequest {
    lock: Lock,
    mode: Mode,
    requested_ns: u64,
    lease: Option<usize>,
    is_wait_reported: bool,
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
    request: Option<LockRequest>,
    /// Acquired, but not recorded yet: the next event shows it.
    acquired: Option<(LockRequest, u64)>,
    /// The last lookup that was sent: mm, GiB, table. Equal lookups after it are only counted.
    sent: Option<(usize, u64, u64)>,
    sent_lease: Option<usize>,
    repeats: u32,
    /// Table of the last lookup, as the probes remember it.
    last_table: u64,
    seen: Option<Seen>,
    /// A share that the return of its function will report.
    shared: Option<(Place, usize)>,
    release_reported: bool,
    /// Number of steps that others make while an interrupt or another task stops this one.
    away: usize,
    /// Other mms that the task keeps alive.
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
    /// Locks of freed tables.
    retired: BTreeSet<u64>,
    lock_lives: BTreeMap<u64, u32>,
}

impl Kernel {
    /// `born`: number of tasks that exist at the start; the others are forked.
    pub fn new(
        protocol: Protocol,
        places: &[Place],
        programs: Vec<(usize, Vec<Ins>)>,
        born: usize,
        seed: u64,
    ) -> Kernel {
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
                request: None,
                acquired: None,
                sent: None,
                sent_lease: None,
                repeats: 0,
                last_table: 0,
                seen: None,
                shared: None,
                release_reported: false,
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
            vmas: places.iter().map(|p| (*p, Vma { mapped: true, shareable: true, in_tree: true })).collect(),
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

    /// Runs until no task can continue, or for `steps_max` steps. Returns the number of steps.
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

    /// Returns true if every task exited. Otherwise they wait for each other.
    pub fn is_over(&self) -> bool {
        self.tasks.iter().all(|t| t.is_gone || !t.is_born)
    }

    fn can_step(&self, no: TaskNo) -> bool {
        let task = &self.tasks[no];
        if !task.is_born || task.is_gone {
            return false;
        }
        task.request.is_none_or(|a| {
            self.locks.is_free(a.lock, a.mode, no) || (self.protocol.waits && !a.is_wait_reported)
        })
    }

    fn advance(&mut self) -> u64 {
        let max = if self.random.once_in(4) { 500 } else { 20 };
        self.now_ns += 1 + self.random.below(max) as u64;
        if self.protocol.slow && self.random.once_in(40) {
            self.now_ns += self.random.below(3_000_000_000) as u64;
        }
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
        if !still_waits && let Some((request, acquired_ns)) = self.tasks[no].acquired.take() {
            let held = self.tasks[no].held.iter().rfind(|h| h.lock == request.lock);
            // Released without a record, but held all the same.
            if let Some(held) = held.copied() {
                self.deed(no, time_ns, Deed::Acquired { held });
            }
            if let Some(lease) = request.lease {
                let deed = Deed::TookPtl {
                    lease,
                    lock: request.lock,
                    requested_ns: request.requested_ns,
                    acquired_ns,
                };
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

    fn step(&mut self, no: TaskNo) {
        if let Some(request) = self.tasks[no].request {
            return self.step_request(no, request);
        }
        let Some(ins) = self.tasks[no].program.get(self.tasks[no].pc).copied() else {
            self.tasks[no].is_gone = true;
            return;
        };
        self.tasks[no].pc += 1;
        self.execute(no, ins);
        // A task that just acquired a pointer is stopped most often.
        let acquired = matches!(ins, Ins::Look(reg, ..) if self.tasks[no].regs[reg].is_some());
        if (acquired || matches!(ins, Ins::Call(..) | Ins::PtlRequest(_))) && self.random.once_in(4) {
            self.tasks[no].away = 1 + self.random.below(100);
        }
    }

    fn jump(&mut self, no: TaskNo, to: usize) {
        self.tasks[no].pc = to;
    }

    fn execute(&mut self, no: TaskNo, ins: Ins) {
        match ins {
            Ins::Begin(site, place) => {
                self.begin_range(no, site, place, place.gib() + (1 << 30));
            }
            Ins::BeginSweep(place, to) => self.begin_sweep(no, place, to),
            Ins::End => self.end(no),
            Ins::Call(reg, place) => self.call(no, reg, place),
            Ins::Request(lock, mode) => self.request(no, lock, mode, None),
            Ins::Try(lock, mode, busy) => self.try_lock(no, lock, mode, busy),
            Ins::Release(lock) => self.release(no, lock),
            Ins::Downgrade(lock) => self.downgrade(no, lock),
            Ins::PtlRequest(reg) => {
                let pointer = self.tasks[no].regs[reg].expect("a pointer");
                self.request(no, Lock::Ptl(self.tables[pointer.table].addr), Mode::Exclusive, pointer.lease);
            }
            Ins::PtlRelease(reg) => {
                let pointer = self.tasks[no].regs[reg].expect("a pointer");
                self.release(no, Lock::Ptl(self.tables[pointer.table].addr));
            }
            Ins::Look(reg, place, site) => self.look(no, reg, place, site, false),
            Ins::LookPartner(reg, place) => self.look_partner(no, reg, place),
            Ins::LookSilently(reg, place) => self.look_silently(no, reg, place),
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

    fn begin_range(&mut self, no: TaskNo, site: Site, place: Place, to: u64) -> u64 {
        self.tasks[no].sent = None;
        let mm = mm_addr(place.mm);
        self.name(no, site, Lock::Mmap(place.mm), mm);
        if self.protocol.vma_lock && self.vmas[&place].in_tree {
            self.name(no, site, Lock::Vma(place.mm, place.vma), 0x3_0000);
        }
        self.name(no, site, Lock::IMmap, 0x3_0000);
        let (start, end) = (Addr(place.gib()), Addr(to));
        let now_ns = self.emit(no, site, Body::OpBegin { mm: Mm(mm), start, end, page_kib: 0 });
        let task = &mut self.tasks[no];
        task.frames.push(site);
        if site.is_compared() {
            task.seen = None;
        }
        now_ns
    }

    fn end(&mut self, no: TaskNo) {
        let site = *self.tasks[no].frames.last().expect("inside an operation");
        if site.is_compared() {
            self.compare(no);
        }
        if let Some((place, table)) = self.tasks[no].shared.filter(|_| site == Site::Sharing) {
            self.tasks[no].shared = None;
            self.report_shared(no, place, table);
        }
        self.tasks[no].frames.pop();
        self.tasks[no].sent = None;
        let now_ns = self.emit(no, site, Body::OpEnd { ret: 0 });
        let depth = self.tasks[no].frames.len();
        self.deed(no, now_ns, Deed::Left { depth });
    }

    fn fork(&mut self, no: TaskNo, child: TaskNo) {
        let mm = self.tasks[child].mm;
        // Thread ids of exited tasks are reused.
        let alive = |tid| self.tasks.iter().any(|t| t.tid == tid && t.is_born && !t.is_gone);
        let free: Vec<u32> = self.tasks.iter().map(|t| t.tid).filter(|tid| !alive(*tid)).collect();
        if alive(self.tasks[child].tid) || self.random.once_in(2) {
            self.tasks[child].tid = match free.len() {
                0 => 100 + child as u32,
                n => free[self.random.below(n)],
            };
        }
        let (tid, tgid) = (Tid(self.tasks[child].tid), 100 + mm as u32);
        let now_ns = self.emit(no, Site::Tasks, Body::Fork { child: tid, child_tgid: tgid });
        self.tasks[child].is_born = true;
        self.log.spans[child].birth_ns = Some(now_ns);
        self.mms[mm].users += 1;
        if self.mms[mm].users == 1 {
            // A new process, with a copy of the mappings.
            for (_, vma) in self.vmas.iter_mut().filter(|(p, _)| p.mm == mm) {
                *vma = Vma { mapped: true, shareable: true, in_tree: true };
            }
        }
        self.name_all(no, |p| p.mm == mm);
    }

    fn exit(&mut self, no: TaskNo) {
        let mm = self.tasks[no].mm;
        // The mm was given up before (5.10 to 6.12).
        let body = Body::TaskExit { tgid: 100 + mm as u32, mm: Mm(0) };
        let now_ns = self.emit(no, Site::Tasks, body);
        self.deed(no, now_ns, Deed::Exited);
        self.log.spans[no].exit_ns = Some(now_ns);
        self.tasks[no].is_gone = true;
    }
}
