//! One schedule of a case, and the events that real probes would send for it.
//!
//! A request and the acquisition are two moments, and so are the record of a release and the release: other tasks run
//! in between. This module notes what was recorded, for the claims. It decides nothing about findings.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use observer_engine::event::{
    Addr, Body, Event, Folio, How, LockAddr, LockStep, Mapping, Mm, Mode, SiteId, Tid,
};

use super::{
    case::Case,
    crowd::Crowd,
    machine::{Machine, Outcome, State},
    program::{Held, Ins, Kind, Lock, LockNo, Pc, Program, TaskNo, Way},
    random::Random,
    sites,
};

const CPUS: usize = 3;

pub fn tid(t: TaskNo) -> Tid {
    Tid(11 + t as u32)
}

/// A recorded request that can block.
#[derive(Clone, Copy, Debug)]
pub struct Requested {
    pub time_ns: u64,
    /// The requested lock is recorded, too, or the later hold shows which one it was.
    pub is_reported: bool,
}

/// Records of a run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub events: Vec<Event>,
    /// By requesting instruction.
    pub requests: BTreeMap<(TaskNo, Pc), Requested>,
    /// By acquiring instruction: time of the first record which shows that the task holds the lock.
    pub known_ns: BTreeMap<(TaskNo, Pc), u64>,
    /// By acquiring instruction: time of the record of the folio's release.
    pub released_ns: BTreeMap<(TaskNo, Pc), u64>,
    /// Recorded waits.
    pub waits: BTreeSet<(TaskNo, Pc)>,
    /// By requesting instruction: time of the record of a wait for a folio.
    pub folio_waits_ns: BTreeMap<(TaskNo, Pc), u64>,
    /// Blocking requests for locks that the task holds.
    pub relocks: Vec<Again>,
    /// Instructions that each task reached, in order.
    pub trail: Vec<Vec<Pc>>,
    /// Times at which a moving page arrived at a place.
    pub places: Vec<(u64, LockNo)>,
    /// Times at which an address became that of another lock.
    pub renamed_ns: BTreeMap<LockNo, u64>,
    /// Locks that a task released for another one, where the records do not show whose hold it was.
    pub unclear: BTreeSet<LockNo>,
    pub end: Option<State>,
    pub end_ns: u64,
    /// A task could not continue only because an address was still in use.
    pub is_cut: bool,
}

/// A request for a lock that the task holds.
#[derive(Clone, Copy, Debug)]
pub struct Again {
    pub task: TaskNo,
    pub pc: Pc,
    pub lock: LockNo,
    pub held: Mode,
    pub requested: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Fresh,
    /// A trylock failed; a request follows.
    Tried,
    Requested,
    Releasing,
}

struct QueuedRecord {
    site: u16,
    body: Body,
    known: Option<Pc>,
    requested: Option<Pc>,
}

struct Runner<'a> {
    case: &'a Case,
    machine: Machine<'a>,
    state: State,
    random: Random,
    run: Run,
    now_ns: u64,
    phase: Vec<Phase>,
    queued: Vec<VecDeque<QueuedRecord>>,
    waiting: Vec<Option<(Pc, Ins)>>,
    cpu: Vec<u16>,
    is_introduced: Vec<bool>,
    is_gone: Vec<bool>,
    crowd: Crowd,
}

/// Runs one random schedule.
pub fn run(case: &Case, programs: &[Program]) -> Run {
    let machine = Machine { programs, is_eager: false };
    let mut random = Random::new(case.schedule);
    let n = programs.len();
    let mut runner = Runner {
        case,
        state: machine.begin(case.born.min(n)),
        machine,
        run: Run { trail: vec![Vec::new(); n], ..Run::default() },
        now_ns: 1000,
        phase: vec![Phase::Fresh; n],
        queued: (0..n).map(|_| VecDeque::new()).collect(),
        waiting: vec![None; n],
        cpu: (0..n).map(|_| random.below(CPUS) as u16).collect(),
        is_introduced: vec![false; n],
        is_gone: vec![false; n],
        crowd: Crowd::new(case.crowd, case.schedule),
        random,
    };
    runner.begin();
    if case.is_last_first {
        while runner.step(n - 1) {}
    }
    runner.go();
    runner.run.end = Some(runner.state);
    runner.run.end_ns = runner.now_ns;
    runner.run
}

impl Runner<'_> {
    fn begin(&mut self) {
        let born = self.case.born.min(self.machine.programs.len());
        for t in (0..born).filter(|_| self.case.visibility.introduced) {
            self.introduce(t);
        }
        for no in 0..self.case.locks.len() {
            let lock = self.case.locks[no];
            let is_reused = self.case.locks.iter().any(|l| l.after == Some(no));
            if (self.case.visibility.names || is_reused) && lock.after.is_none() && born > 0 {
                self.name(0, no);
            }
        }
    }

    fn name(&mut self, t: TaskNo, no: LockNo) {
        let lock = self.case.locks[no];
        if let Some(class) = sites::class(lock.kind) {
            let owner = 0x10_0000 + 0x100 * no as u64;
            self.send(t, sites::NONE, Body::LockName { class, lock: LockAddr(lock.addr), owner, vma: 0 });
        }
    }

    fn introduce(&mut self, t: TaskNo) {
        if !std::mem::replace(&mut self.is_introduced[t], true) {
            let body = Body::Task { tgid: tid(t).0, comm: [0; 16], mm: Mm(0xa000) };
            self.send(t, sites::NONE, body);
        }
    }

    fn send(&mut self, t: TaskNo, site: u16, body: Body) -> u64 {
        self.introduce(t);
        self.crowd.burst(&mut self.now_ns, &mut self.run.events);
        if self.case.is_slow && self.random.percent(6) {
            self.now_ns += 1_500_000_000 + 100_000_000 * self.random.below(40) as u64;
        }
        if self.random.percent(5) {
            self.cpu[t] = self.random.below(CPUS) as u16;
        }
        self.now_ns += 10;
        let cpu = self.cpu[t];
        self.run.events.push(Event {
            time_ns: self.now_ns,
            seq: 0,
            tid: tid(t),
            cpu,
            site: SiteId(site),
            body,
        });
        self.now_ns
    }

    fn go(&mut self) {
        let n = self.machine.programs.len();
        let (mut t, mut left) = (self.random.below(n), 0);
        loop {
            if left == 0 {
                t = self.random.below(n);
                left = 1 + self.random.below(self.case.run_max.max(1));
            }
            if !self.step(t) {
                let first = self.random.below(n);
                let Some(other) = (0..n).map(|i| (first + i) % n).find(|t| self.step(*t)) else {
                    if self.is_killed() {
                        continue;
                    }
                    return;
                };
                t = other;
            }
            let holds = !self.machine.held(&self.state, t).is_empty();
            if self.case.run_max > 0 || !holds {
                left = left.saturating_sub(1);
            }
        }
    }

    /// If no task can continue, a killed task may give up its request.
    fn is_killed(&mut self) -> bool {
        let n = self.machine.programs.len();
        self.case.is_killed && (0..n).any(|t| self.gives_up(t))
    }

    fn gives_up(&mut self, t: TaskNo) -> bool {
        let Some((_, Ins::Take { lock, mode, gave_up: Some(_), .. })) = self.waiting[t] else { return false };
        if !self.state.waits(t) || !self.queued[t].is_empty() {
            return false;
        }
        let at = self.state.pc(t);
        self.machine.give_up(&mut self.state, t);
        self.waiting[t] = None;
        self.phase[t] = Phase::Fresh;
        if self.case.visibility.waits {
            self.queue_lock(t, sites::CONTENTION, (LockStep::WaitEnd, lock, Some(mode)), true);
        }
        self.queue_lock(
            t,
            sites::of_request(self.case.locks[lock].kind, mode),
            (LockStep::GaveUp, lock, Some(mode)),
            false,
        );
        self.run.known_ns.remove(&(t, at));
        true
    }

    fn queue_lock(
        &mut self,
        t: TaskNo,
        site: u16,
        (step, no, mode): (LockStep, LockNo, Option<Mode>),
        failed: bool,
    ) {
        let lock = self.case.locks[no];
        let Some(class) = sites::class(lock.kind) else { return };
        let body = Body::Lock { step, class, mode, lock: LockAddr(lock.addr), failed };
        self.queued[t].push_back(QueuedRecord { site, body, known: None, requested: None });
    }

    fn send_record(&mut self, t: TaskNo, record: &QueuedRecord) {
        let at = self.send(t, record.site, record.body);
        if let Some(pc) = record.known {
            self.run.known_ns.entry((t, pc)).or_insert(at);
        }
        if let Some(pc) = record.requested {
            self.requested(t, pc, at);
            if matches!(record.body, Body::FolioWait { .. }) {
                self.run.folio_waits_ns.insert((t, pc), at);
            }
        }
    }

    /// Makes one step of a task. Returns false if it cannot continue now.
    fn step(&mut self, t: TaskNo) -> bool {
        if !self.state.is_born(t) || self.is_gone[t] {
            return false;
        }
        if let Some(record) = self.queued[t].pop_front() {
            self.send_record(t, &record);
            return true;
        }
        if self.state.waits(t) {
            return self.random.percent(2) && self.gives_up(t);
        }
        if let Some((pc, ins)) = self.waiting[t].take() {
            self.wait_over(t, pc, ins);
            return true;
        }
        let Some(ins) = self.machine.ins(&self.state, t) else { return self.leaves(t) };
        if self.phase[t] == Phase::Fresh && !self.is_free(t, ins) {
            self.run.is_cut = true;
            return false;
        }
        self.run.is_cut = false;
        self.act(t, ins);
        true
    }

    fn leaves(&mut self, t: TaskNo) -> bool {
        self.is_gone[t] = true;
        if self.case.visibility.exits {
            self.send(t, sites::EXIT, Body::TaskExit { tgid: tid(t).0, mm: Mm(0) });
        }
        true
    }

    /// Returns true if the previous lock at this address is not needed any more.
    fn is_free(&mut self, t: TaskNo, ins: Ins) -> bool {
        let code = &self.machine.programs[t].code;
        // A lock that is acquired next without a record is inferred from the request before it.
        let next = match (ins, code.get(self.state.pc(t) + 1)) {
            (Ins::Take { .. }, Some(Ins::Take { lock, way: Way::Silent { .. }, .. })) => Some(*lock),
            _ => None,
        };
        let (Ins::Take { lock, .. } | Ins::Try { lock, .. }) = ins else { return true };
        self.is_free_for(t, lock) && next.is_none_or(|next| self.is_free_for(t, next))
    }

    fn is_free_for(&mut self, t: TaskNo, lock: LockNo) -> bool {
        if let Some(twin) = self.case.locks[lock].twin {
            return !self.is_in_use(twin) && self.is_put(lock);
        }
        let Some(old) = self.case.locks[lock].after else { return true };
        let needs = |t: TaskNo| {
            let from = if self.state.is_born(t) { self.state.pc(t) } else { 0 };
            self.machine.programs[t].code.iter().skip(from).any(|ins| of_lock(ins) == Some(old))
        };
        if (0..self.machine.programs.len()).any(needs) {
            return false;
        }
        if !self.run.renamed_ns.contains_key(&lock) {
            self.run.renamed_ns.insert(lock, self.now_ns);
            let before = self.case.locks[old];
            if let Some(class) = sites::class(before.kind) {
                self.send(t, sites::NONE, Body::LockForget { class, lock: LockAddr(before.addr) });
                self.name(t, lock);
            }
        }
        true
    }

    /// Returns true if a task holds the lock or is about to acquire it.
    fn is_in_use(&self, lock: LockNo) -> bool {
        (0..self.machine.programs.len()).any(|t| {
            let comes = self.machine.ins(&self.state, t).as_ref().and_then(of_lock) == Some(lock);
            self.machine.held(&self.state, t).iter().any(|h| h.lock == lock)
                || (comes && (self.phase[t] != Phase::Fresh || self.state.waits(t)))
        })
    }

    /// Moves the page to the place of this lock.
    fn is_put(&mut self, lock: LockNo) -> bool {
        let addr = self.case.locks[lock].addr;
        let last = self.run.places.iter().rfind(|(_, no)| self.case.locks[*no].addr == addr);
        if last.is_none_or(|(_, no)| *no != lock) {
            self.run.places.push((self.now_ns, lock));
        }
        true
    }

    fn act(&mut self, t: TaskNo, ins: Ins) {
        let pc = self.state.pc(t);
        if self.run.trail[t].last() != Some(&pc) {
            self.run.trail[t].push(pc);
        }
        match (self.phase[t], ins) {
            (Phase::Fresh, Ins::Release { lock, mode, lent }) => {
                let by = if lent { self.other_than(t, lock) } else { t };
                if by != t && !self.is_clear(by, lock) {
                    self.run.unclear.insert(lock);
                }
                self.send_release(by, lock, mode);
                self.phase[t] = Phase::Releasing;
            }
            (Phase::Fresh, Ins::Downgrade { lock }) => {
                self.queue_lock(t, sites::DOWNGRADE, (LockStep::Downgrade, lock, Some(Mode::Read)), false);
                self.phase[t] = Phase::Releasing;
            }
            (Phase::Releasing, Ins::Release { .. } | Ins::Downgrade { .. }) => {
                self.machine.attempt(&mut self.state, t);
                self.phase[t] = Phase::Fresh;
            }
            (_, Ins::Take { lock, mode, way, .. }) => self.take(t, pc, ins, (lock, mode, way)),
            (_, Ins::Try { lock, mode, is_silent, .. }) => {
                let acquired = self.machine.attempt(&mut self.state, t) == Outcome::Acquired;
                if !is_silent {
                    let step = if acquired { LockStep::Try } else { LockStep::Busy };
                    let site = sites::of_try(self.case.locks[lock].kind, mode);
                    self.queue_lock(t, site, (step, lock, Some(mode)), false);
                    if acquired && let Some(record) = self.queued[t].back_mut() {
                        record.known = Some(pc);
                    }
                }
            }
            (_, Ins::Prove { lock }) => {
                let taken = |h: &Held| h.lock == lock && h.taken + 1 == pc;
                let is_new = self.machine.held(&self.state, t).iter().any(taken);
                let site = if is_new { sites::CONTRACT } else { sites::LATE_CONTRACT };
                let at = self.send(t, site, held_body(self.case.locks[lock], How::Contract));
                for held in self.machine.held(&self.state, t).iter().filter(|h| h.lock == lock) {
                    self.run.known_ns.entry((t, held.taken)).or_insert(at);
                }
                self.machine.go_to(&mut self.state, t, pc + 1);
            }
            (_, Ins::Fork { child }) => {
                self.send(t, sites::FORK, Body::Fork { child: tid(child), child_tgid: tid(child).0 });
                self.machine.go_to(&mut self.state, t, pc + 1);
                self.machine.go_to(&mut self.state, child, 0);
            }
            (_, Ins::Jump { to }) => self.machine.go_to(&mut self.state, t, to),
            (_, Ins::Begin { op }) => {
                self.send(t, op, Body::OpBegin { mm: Mm(0xa000), start: Addr(0), end: Addr(0), page_kib: 0 });
                self.machine.go_to(&mut self.state, t, pc + 1);
            }
            (_, Ins::End { op }) => {
                self.send(t, op, Body::OpEnd { ret: 0 });
                self.machine.go_to(&mut self.state, t, pc + 1);
            }
            (phase, ins) => unreachable!("{phase:?} {ins:?}"),
        }
    }

    fn send_release(&mut self, t: TaskNo, no: LockNo, mode: Mode) {
        let lock = self.case.locks[no];
        let Some(class) = sites::class(lock.kind) else {
            let (folio, mapping, index) = (Folio(lock.addr), Mapping(lock.mapping), lock.index);
            let at = self.send(t, sites::FOLIO_RELEASE, Body::FolioRelease { folio, mapping, index });
            for held in self.machine.held(&self.state, t).iter().filter(|h| h.lock == no) {
                self.run.released_ns.insert((t, held.taken), at);
            }
            return;
        };
        if lock.kind != Kind::Ptl || self.case.visibility.ptl_release {
            let (site, step, lock) = (sites::of_release(lock.kind), LockStep::Release, LockAddr(lock.addr));
            self.send(t, site, Body::Lock { step, class, mode: Some(mode), lock, failed: false });
        }
    }

    /// Returns a task that does not use the lock and can be interrupted, or the task itself if there is none.
    fn other_than(&mut self, t: TaskNo, lock: LockNo) -> TaskNo {
        let n = self.machine.programs.len();
        let comes = |t: TaskNo| self.machine.ins(&self.state, t).as_ref().and_then(of_lock) == Some(lock);
        let holds = |t: TaskNo| self.machine.held(&self.state, t).iter().any(|h| h.lock == lock);
        let first = self.random.below(n);
        let all = (0..n).map(|i| (first + i) % n);
        let mut fits = all
            .filter(|u| *u != t && self.state.is_born(*u) && !self.is_gone[*u] && !comes(*u) && !holds(*u));
        fits.next().unwrap_or(t)
    }

    /// Returns true if the records show that the releasing task does not hold the lock, and which task does: it is
    /// the only holder, and the releasing task started after the lock's first record, or a writer held the lock
    /// since.
    fn is_clear(&self, by: TaskNo, no: LockNo) -> bool {
        let addr = self.case.locks[no].addr;
        let of_lock = |body: &Body| match *body {
            Body::Lock { lock, .. } | Body::LockName { lock, .. } => lock.0 == addr,
            _ => false,
        };
        let written = |body: &Body| {
            let write = (LockStep::Release, Some(Mode::Write));
            matches!(*body, Body::Lock { step, mode, lock, .. } if (step, mode) == write && lock.0 == addr)
        };
        let holders = (0..self.machine.programs.len())
            .filter(|t| self.machine.held(&self.state, *t).iter().any(|h| h.lock == no));
        let first_of_lock = self.run.events.iter().position(|e| of_lock(&e.body));
        let made = |e: &Event| matches!(e.body, Body::Fork { child, .. } if child == tid(by));
        let first_of_task = self.run.events.iter().position(|e| e.tid == tid(by) || made(e));
        let is_new = first_of_task.is_none_or(|task| first_of_lock.is_some_and(|lock| lock < task));
        holders.count() == 1 && (is_new || self.run.events.iter().any(|e| written(&e.body)))
    }

    fn take(&mut self, t: TaskNo, pc: Pc, ins: Ins, (no, mode, way): (LockNo, Mode, Way)) {
        let lock = self.case.locks[no];
        match (self.phase[t], way) {
            (Phase::Fresh, Way::TryThenBlock | Way::TryThenRequest) => {
                let is_wait = way == Way::TryThenBlock;
                let site =
                    if is_wait { sites::of_try_then_block(mode) } else { sites::of_try(lock.kind, mode) };
                let mut tried = self.state;
                if self.machine.attempt(&mut tried, t) == Outcome::Acquired {
                    if is_wait {
                        self.note_relock(t, pc, no, mode);
                    }
                    self.state = tried;
                    self.queue_lock(t, site, (LockStep::Try, no, Some(mode)), false);
                    if let Some(record) = self.queued[t].back_mut() {
                        (record.known, record.requested) = (Some(pc), is_wait.then_some(pc));
                    }
                } else {
                    self.queue_lock(t, site, (LockStep::Busy, no, Some(mode)), false);
                    self.phase[t] = Phase::Tried;
                }
            }
            (Phase::Fresh | Phase::Tried, Way::Request | Way::TryThenBlock | Way::TryThenRequest) => {
                self.note_relock(t, pc, no, mode);
                self.queue_lock(
                    t,
                    sites::of_request(lock.kind, mode),
                    (LockStep::Request, no, Some(mode)),
                    false,
                );
                if let Some(record) = self.queued[t].back_mut() {
                    (record.known, record.requested) = (Some(pc), Some(pc));
                }
                self.phase[t] = Phase::Requested;
            }
            (Phase::Fresh, Way::Named | Way::Found) => {
                let folio = Folio(if way == Way::Named { lock.addr } else { 0 });
                let (mapping, index) = (Mapping(lock.mapping), lock.index);
                let at = self.send(t, sites::LOOKUP_FOLIO, Body::FolioRequest { mapping, index, folio });
                self.run.requests.insert((t, pc), Requested { time_ns: at, is_reported: way == Way::Named });
                self.phase[t] = Phase::Requested;
            }
            _ => match self.machine.attempt(&mut self.state, t) {
                Outcome::Acquired => self.has(t, pc, lock, way, false),
                _ => self.waits(t, pc, ins, (no, mode, way)),
            },
        }
    }

    fn note_relock(&mut self, t: TaskNo, pc: Pc, lock: LockNo, requested: Mode) {
        if let Some(held) = self.machine.held(&self.state, t).iter().find(|h| h.lock == lock).map(|h| h.mode)
        {
            self.run.relocks.push(Again { task: t, pc, lock, held, requested });
        }
    }

    fn requested(&mut self, t: TaskNo, pc: Pc, at: u64) {
        self.run.requests.entry((t, pc)).or_insert(Requested { time_ns: at, is_reported: true });
    }

    fn waits(&mut self, t: TaskNo, pc: Pc, ins: Ins, (no, mode, way): (LockNo, Mode, Way)) {
        self.waiting[t] = Some((pc, ins));
        let lock = self.case.locks[no];
        match way {
            Way::Request | Way::TryThenBlock | Way::TryThenRequest if self.case.visibility.waits => {
                let mode = self.random.percent(70).then_some(mode);
                self.queue_lock(t, sites::CONTENTION, (LockStep::WaitBegin, no, mode), false);
                self.run.waits.insert((t, pc));
            }
            Way::Silent { slow: true } | Way::Named | Way::Found
                if matches!(way, Way::Silent { .. }) || self.case.visibility.waits =>
            {
                let (folio, mapping) = (Folio(lock.addr), Mapping(lock.mapping));
                let body = Body::FolioWait { folio, mapping, index: lock.index };
                self.queued[t].push_back(QueuedRecord {
                    site: sites::FOLIO_SLOW,
                    body,
                    known: None,
                    requested: Some(pc),
                });
                self.run.waits.insert((t, pc));
            }
            _ => {}
        }
    }

    fn wait_over(&mut self, t: TaskNo, pc: Pc, ins: Ins) {
        let Ins::Take { lock: no, mode, way, .. } = ins else { return };
        if matches!(way, Way::Request | Way::TryThenBlock | Way::TryThenRequest) && self.case.visibility.waits
        {
            self.queue_lock(t, sites::CONTENTION, (LockStep::WaitEnd, no, Some(mode)), false);
        }
        self.has(t, pc, self.case.locks[no], way, true);
    }

    /// Records that the task acquired the lock.
    fn has(&mut self, t: TaskNo, pc: Pc, lock: Lock, way: Way, waited: bool) {
        self.phase[t] = Phase::Fresh;
        let (site, how) = match way {
            Way::Named | Way::Found => (sites::LOOKUP_FOLIO, How::Returned),
            Way::Silent { slow: true } if waited => (sites::FOLIO_SLOW, How::SlowPath),
            _ => return,
        };
        if let Some(requested) = self.run.requests.get_mut(&(t, pc)) {
            requested.is_reported = true;
        }
        self.queued[t].push_back(QueuedRecord {
            site,
            body: held_body(lock, how),
            known: Some(pc),
            requested: None,
        });
    }
}

fn of_lock(ins: &Ins) -> Option<LockNo> {
    match ins {
        Ins::Take { lock, .. }
        | Ins::Try { lock, .. }
        | Ins::Release { lock, .. }
        | Ins::Downgrade { lock }
        | Ins::Prove { lock } => Some(*lock),
        _ => None,
    }
}

fn held_body(lock: Lock, how: How) -> Body {
    Body::FolioHeld { folio: Folio(lock.addr), mapping: Mapping(lock.mapping), index: lock.index, how }
}
