//! Operations of a task: straight-line code of lock operations, with a branch for a failed trylock.
//!
//! The builder ensures that the locks held at an instruction do not depend on the path to it. So the state of all
//! tasks is the instruction of each one and the order of the waiters. The engine knows nothing of this.

use observer_engine::event::Mode;

use super::{random::Random, sites};

pub type LockNo = usize;
pub type TaskNo = usize;
pub type Pc = usize;

/// Kinds of locks. A page-table lock is a spinlock: no task sleeps while it holds one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    MmapLock,
    VmaLock,
    IMmap,
    FaultMutex,
    Ptl,
    FileFolio,
    AnonFolio,
}

impl Kind {
    pub fn is_rwsem(self) -> bool {
        matches!(self, Kind::MmapLock | Kind::VmaLock | Kind::IMmap)
    }

    pub fn is_folio(self) -> bool {
        matches!(self, Kind::FileFolio | Kind::AnonFolio)
    }
}

/// A lock of the simulated kernel. Two locks may have the same address, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    pub kind: Kind,
    pub addr: u64,
    /// Only for folios.
    pub mapping: u64,
    pub index: u64,
    /// The lock is used only after all uses of this other lock at the same address.
    pub after: Option<LockNo>,
    /// Another place of the same page. The page moves there and back while no task uses the lock of either place.
    pub twin: Option<LockNo>,
}

/// How the request and the hold are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Request,
    /// A site that tries first and blocks if that fails.
    TryThenBlock,
    /// An ordinary trylock. If it fails, the code requests the same lock in a way that can block.
    TryThenRequest,
    /// A lookup whose request names the folio that it will lock.
    Named,
    /// A lookup whose return names the folio.
    Found,
    /// The acquisition has no record. `slow`: a wait has one.
    Silent {
        slow: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ins {
    /// Can block. `gave_up`: where a killed task continues.
    Take {
        lock: LockNo,
        mode: Mode,
        way: Way,
        gave_up: Option<Pc>,
    },
    Try {
        lock: LockNo,
        mode: Mode,
        is_silent: bool,
        failed: Pc,
    },
    /// `lent`: another context than the acquiring task releases it.
    Release {
        lock: LockNo,
        mode: Mode,
        lent: bool,
    },
    Downgrade {
        lock: LockNo,
    },
    /// The task enters a function whose contract is the locked folio.
    Prove {
        lock: LockNo,
    },
    Fork {
        child: TaskNo,
    },
    Jump {
        to: Pc,
    },
    Begin {
        op: u16,
    },
    End {
        op: u16,
    },
}

/// A lock that is held at an instruction, and the instruction that acquired it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub lock: LockNo,
    pub mode: Mode,
    pub taken: Pc,
}

/// The code, and the locks held before each instruction.
#[derive(Clone, Debug, Default)]
pub struct Program {
    pub code: Vec<Ins>,
    pub held: Vec<Vec<Held>>,
}

impl Program {
    /// Returns true for an attempt that may fail although no task of the case holds the lock. After the failure the
    /// task may request the same lock in the same mode, with or without releasing others first. The two then count as
    /// one acquisition, which leads to the same instruction either way. Or the task continues with another lock while
    /// it holds nothing: then any task of the machine may have held the first one.
    pub fn may_fail(&self, pc: Pc) -> bool {
        let Ins::Try { lock, mode, failed, .. } = self.code[pc] else { return false };
        let mut at = failed;
        loop {
            match self.code.get(at) {
                Some(Ins::Jump { to }) => at = *to,
                Some(Ins::Take { lock: of, mode: in_mode, .. }) => {
                    return if *of == lock { *in_mode == mode } else { self.held[at].is_empty() };
                }
                Some(Ins::Try { lock: of, .. }) => return *of != lock && self.held[at].is_empty(),
                None => return false,
                Some(_) => at += 1,
            }
        }
    }
}

/// An operation of a segment, which begins and ends without locks. Shrinking a failing case removes these.
#[derive(Clone, Debug)]
pub enum Act {
    Take {
        lock: LockNo,
        mode: Mode,
        way: Way,
        kill: Option<Vec<Act>>,
    },
    Try {
        lock: LockNo,
        mode: Mode,
        is_silent: bool,
        body: Vec<Act>,
        other: Vec<Act>,
    },
    Release {
        lock: LockNo,
    },
    /// Tried for reading. If acquired, an interrupt on another task releases it at once.
    Lend {
        lock: LockNo,
    },
    Downgrade {
        lock: LockNo,
    },
    Prove {
        lock: LockNo,
    },
    Fork {
        child: TaskNo,
    },
}

/// One segment, which may be inside a watched operation.
#[derive(Clone, Debug)]
pub struct Segment {
    pub op: Option<u16>,
    pub acts: Vec<Act>,
}

/// Compiles acts to code. It omits acts that make no sense in their place, so that any act can be removed.
pub struct Builder<'a> {
    locks: &'a [Lock],
    program: Program,
    now: Vec<Held>,
    /// Locks held at the end of the other branch, by the instructions that acquired them.
    keep: Vec<Pc>,
    /// True inside a branch that depends on the result of a trylock.
    depth: usize,
}

impl Builder<'_> {
    pub fn program(locks: &[Lock], segments: &[Segment]) -> Program {
        let mut builder =
            Builder { locks, program: Program::default(), now: Vec::new(), keep: Vec::new(), depth: 0 };
        for segment in segments {
            if let Some(op) = segment.op {
                builder.emit(Ins::Begin { op });
            }
            builder.scope(&segment.acts);
            if let Some(op) = segment.op {
                builder.emit(Ins::End { op });
            }
        }
        let held = builder.now.clone();
        builder.program.held.push(held);
        builder.program
    }

    fn emit(&mut self, ins: Ins) -> Pc {
        self.program.code.push(ins);
        self.program.held.push(self.now.clone());
        self.program.code.len() - 1
    }

    fn here(&self) -> Pc {
        self.program.code.len()
    }

    /// Releases everything at the end of a scope that was acquired in it.
    fn scope(&mut self, acts: &[Act]) {
        let before = self.now.clone();
        for act in acts {
            self.act(act);
        }
        while let Some(held) = self.now.iter().rev().find(|h| !before.iter().any(|b| b.taken == h.taken)) {
            self.release(held.lock);
        }
    }

    fn is_atomic(&self) -> bool {
        self.now.iter().any(|h| self.locks[h.lock].kind == Kind::Ptl)
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Take { lock, mode, way, kill } => {
                let held = self.now.iter().find(|h| h.lock == *lock).map(|h| h.mode);
                // A repeated request: read after read, or a task that certainly hangs and ends there. Not in a branch
                // that only some runs take, because only the others would run the rest of the code.
                let hangs = held.is_some_and(|held| held != Mode::Read || *mode != Mode::Read);
                if self.is_atomic()
                    || (hangs && self.depth > 0)
                    || (held.is_some() && *way != Way::Request && *way != Way::TryThenBlock)
                {
                    return;
                }
                let at = self.emit(Ins::Take { lock: *lock, mode: *mode, way: *way, gave_up: None });
                match kill {
                    None => self.now.push(Held { lock: *lock, mode: *mode, taken: at }),
                    Some(body) => self.split(at, *lock, *mode, (body, &[])),
                }
            }
            Act::Try { lock, mode, is_silent, body, other } => {
                if self.now.iter().any(|h| h.lock == *lock && (h.mode != Mode::Read || *mode != Mode::Read)) {
                    return;
                }
                let (lock, mode, is_silent) = (*lock, *mode, *is_silent);
                let at = self.emit(Ins::Try { lock, mode, is_silent, failed: 0 });
                self.split(at, lock, mode, (body, other));
            }
            Act::Release { lock } => self.release(*lock),
            Act::Downgrade { lock } => {
                let mut held = self.now.iter_mut().filter(|h| h.lock == *lock);
                if let (Some(one), None) = (held.next(), held.next())
                    && one.mode == Mode::Write
                    && !self.keep.contains(&one.taken)
                {
                    let at = self.program.code.len();
                    self.program.held.push(self.now.clone());
                    self.program.code.push(Ins::Downgrade { lock: *lock });
                    self.now.iter_mut().filter(|h| h.lock == *lock).for_each(|h| h.mode = Mode::Read);
                    debug_assert_eq!(self.program.held.len(), at + 1);
                }
            }
            Act::Prove { lock } => {
                if self.now.iter().any(|h| h.lock == *lock) {
                    self.emit(Ins::Prove { lock: *lock });
                }
            }
            Act::Lend { lock } => self.lend(*lock),
            Act::Fork { child } => drop(self.emit(Ins::Fork { child: *child })),
        }
    }

    fn lend(&mut self, lock: LockNo) {
        if !self.locks[lock].kind.is_rwsem() || self.now.iter().any(|h| h.lock == lock) {
            return;
        }
        let (mode, at) = (Mode::Read, self.here());
        self.emit(Ins::Try { lock, mode, is_silent: false, failed: at + 2 });
        self.now.push(Held { lock, mode, taken: at });
        self.emit(Ins::Release { lock, mode, lent: true });
        self.now.pop();
    }

    fn release(&mut self, lock: LockNo) {
        let Some(at) = self.now.iter().rposition(|h| h.lock == lock) else { return };
        let mode = self.now[at].mode;
        if self.keep.contains(&self.now[at].taken) {
            return;
        }
        self.emit(Ins::Release { lock, mode, lent: false });
        self.now.remove(at);
    }

    /// Emits both branches after a trylock at `at`: success and failure. Both end with the same locks held.
    fn split(&mut self, at: Pc, lock: LockNo, mode: Mode, (body, other): (&[Act], &[Act])) {
        let before = self.now.clone();
        self.now.push(Held { lock, mode, taken: at });
        self.depth += 1;
        for act in body {
            self.act(act);
        }
        while let Some(held) = self.now.iter().rev().find(|h| !before.iter().any(|b| b.taken == h.taken)) {
            self.release(held.lock);
        }
        let (jump, after) = (self.emit(Ins::Jump { to: 0 }), self.now.clone());
        let other_at = self.here();
        self.now = before;
        let kept = self.keep.len();
        self.keep.extend(after.iter().map(|h| h.taken));
        self.scope(other);
        self.keep.truncate(kept);
        self.depth -= 1;
        for held in self.now.clone() {
            match after.iter().find(|h| h.taken == held.taken) {
                None => self.release(held.lock),
                Some(h) if h.mode != held.mode => self.act(&Act::Downgrade { lock: held.lock }),
                Some(_) => {}
            }
        }
        debug_assert_eq!(self.now, after, "both ways end with the same locks");
        let end = self.here();
        self.program.code[jump] = Ins::Jump { to: end };
        match &mut self.program.code[at] {
            Ins::Take { gave_up, .. } => *gave_up = Some(other_at),
            Ins::Try { failed, .. } => *failed = other_at,
            _ => {}
        }
    }
}

/// Generates random acts.
pub struct Maker<'a> {
    pub random: &'a mut Random,
    pub locks: &'a [Lock],
    /// Children that are still to be forked.
    pub forks: Vec<TaskNo>,
    /// Number of acquisitions that remain.
    pub budget: usize,
    held: Vec<(LockNo, Mode)>,
    /// Locks to choose from.
    choice: Vec<LockNo>,
}

impl<'a> Maker<'a> {
    pub fn new(random: &'a mut Random, locks: &'a [Lock], forks: Vec<TaskNo>) -> Maker<'a> {
        let choice = (0..locks.len()).collect();
        Maker { random, locks, forks, budget: 0, held: Vec::new(), choice }
    }

    pub fn segment(&mut self, takes: usize) -> Segment {
        self.budget = takes;
        self.held.clear();
        if self.random.percent(15)
            && let Some(segment) = self.known()
        {
            return segment;
        }
        self.choice = (0..self.locks.len()).collect();
        let op = self.random.percent(70).then(|| self.random.pick(&sites::OPERATIONS));
        let acts = self.acts(0);
        Segment { op, acts }
    }

    /// Returns an operation of which it is known when it locks a folio without a record. It locks one at that point.
    fn known(&mut self) -> Option<Segment> {
        let of = |kind: fn(Kind) -> bool| -> Vec<LockNo> {
            (0..self.locks.len()).filter(|no| kind(self.locks[*no].kind)).collect()
        };
        let (folios, mutexes) = (of(Kind::is_folio), of(|kind| kind == Kind::FaultMutex));
        let first = self.random.percent(40);
        if folios.is_empty() || (mutexes.is_empty() && !first) {
            return None;
        }
        let (folio, mode) = (self.random.pick(&folios), Mode::Exclusive);
        // Such an operation locks one folio at a time.
        self.choice = of(|kind| !kind.is_folio());
        if first {
            self.budget = if self.choice.is_empty() { 0 } else { self.budget };
            self.held.push((folio, mode));
            let body = self.acts(0);
            let acts = vec![Act::Try { lock: folio, mode, is_silent: true, body, other: Vec::new() }];
            return Some(Segment { op: Some(sites::FOLIO_FIRST), acts });
        }
        let mutex = self.random.pick(&mutexes);
        self.choice.retain(|no| !mutexes.contains(no));
        let before = if self.choice.is_empty() { 0 } else { self.random.below(2) };
        let after = std::mem::replace(&mut self.budget, before);
        let mut acts: Vec<Act> = self.flat();
        acts.push(Act::Take { lock: mutex, mode, way: Way::Request, kill: None });
        let way = Way::Silent { slow: self.random.percent(50) };
        acts.push(Act::Take { lock: folio, mode, way, kill: None });
        self.held.extend([(mutex, mode), (folio, mode)]);
        self.budget = if self.choice.is_empty() { 0 } else { after };
        acts.extend(self.acts(0));
        Some(Segment { op: Some(sites::FOLIO_AFTER_MUTEX), acts })
    }

    /// Returns acquisitions without branches.
    fn flat(&mut self) -> Vec<Act> {
        let mut acts = Vec::new();
        while self.budget > 0 {
            self.budget -= 1;
            let lock = self.random.pick(&self.choice);
            let kind = self.locks[lock].kind;
            if kind.is_rwsem() && self.held.iter().all(|(l, _)| *l != lock) {
                let mode = self.random.pick(&[Mode::Read, Mode::Write]);
                self.held.push((lock, mode));
                acts.push(Act::Take { lock, mode, way: Way::Request, kill: None });
            }
        }
        acts
    }

    fn acts(&mut self, depth: usize) -> Vec<Act> {
        let mut acts = Vec::new();
        while self.budget > 0 {
            match self.random.below(20) {
                0..4 if !self.held.is_empty() => {
                    let at = self.random.below(self.held.len());
                    let (lock, _) = self.held.remove(at);
                    acts.push(Act::Release { lock });
                }
                4 => {
                    if let Some(held) = self.held.iter_mut().rfind(|(_, m)| *m == Mode::Write) {
                        held.1 = Mode::Read;
                        acts.push(Act::Downgrade { lock: held.0 });
                    }
                }
                5 | 6 => {
                    let folios = self.held.iter().filter(|(l, _)| self.locks[*l].kind.is_folio());
                    let folios: Vec<LockNo> = folios.map(|(l, _)| *l).collect();
                    if !folios.is_empty() {
                        acts.push(Act::Prove { lock: self.random.pick(&folios) });
                    }
                }
                7 if !self.forks.is_empty() => {
                    let child = self.forks.remove(0);
                    acts.push(Act::Fork { child });
                }
                8 | 9 if depth > 0 => break,
                10 if self.random.percent(15) => {
                    let lock = self.random.pick(&self.choice);
                    acts.push(Act::Lend { lock });
                }
                _ => {
                    let act = self.take(depth);
                    let spinlock = match act {
                        Act::Take { lock, .. } if self.locks[lock].kind == Kind::Ptl => Some(lock),
                        _ => None,
                    };
                    acts.push(act);
                    if let Some(lock) = spinlock
                        && self.random.percent(70)
                    {
                        self.held.retain(|(l, _)| *l != lock);
                        acts.push(Act::Release { lock });
                    }
                }
            }
        }
        // The builder releases the rest, in reverse order.
        while depth == 0 && !self.held.is_empty() && self.random.percent(60) {
            let at = self.random.below(self.held.len());
            let (lock, _) = self.held[at];
            if self.locks[lock].kind.is_folio() && self.random.percent(40) {
                acts.push(Act::Prove { lock });
                continue;
            }
            self.held.remove(at);
            acts.push(Act::Release { lock });
        }
        acts
    }

    fn take(&mut self, depth: usize) -> Act {
        self.budget -= 1;
        let lock = loop {
            let lock = self.random.pick(&self.choice);
            let again = self.held.iter().any(|(l, _)| *l == lock);
            if !again || self.random.percent(if self.choice.len() > 1 { 8 } else { 50 }) {
                break lock;
            }
        };
        let kind = self.locks[lock].kind;
        let mode = match kind.is_rwsem() {
            true if self.random.percent(60) => Mode::Read,
            true => Mode::Write,
            false => Mode::Exclusive,
        };
        let again = self.held.iter().find(|(l, _)| *l == lock).map(|(_, m)| *m);
        // Only few requests hang for certain.
        let mode = if again == Some(Mode::Read) && !self.random.percent(3) { Mode::Read } else { mode };
        if again.is_some_and(|m| (m != Mode::Read || mode != Mode::Read) && !self.random.percent(3)) {
            return Act::Release { lock };
        }
        let chance = self.random.below(100);
        if kind.is_folio() {
            return self.folio(lock, mode, chance, depth);
        }
        match chance {
            0..17 => {
                let (body, other) = self.branches(lock, mode, depth);
                Act::Try { lock, mode, is_silent: false, body, other }
            }
            17..27 => {
                let (body, _) = self.branches(lock, mode, depth);
                Act::Take { lock, mode, way: Way::Request, kill: Some(body) }
            }
            _ => {
                self.held.push((lock, mode));
                let way = match chance {
                    ..40 if kind.is_rwsem() => Way::TryThenBlock,
                    40..55 if again.is_none() => Way::TryThenRequest,
                    _ => Way::Request,
                };
                Act::Take { lock, mode, way, kill: None }
            }
        }
    }

    fn folio(&mut self, lock: LockNo, mode: Mode, chance: usize, depth: usize) -> Act {
        let way = match chance {
            0..25 => Way::Named,
            25..55 if self.locks[lock].kind == Kind::FileFolio => Way::Found,
            25..85 => Way::Silent { slow: self.random.percent(50) },
            _ => {
                // The actions of a task after an unseen trylock cannot be known.
                let (body, _) = self.branches(lock, mode, depth);
                return Act::Try { lock, mode, is_silent: true, body, other: Vec::new() };
            }
        };
        self.held.push((lock, mode));
        Act::Take { lock, mode, way, kill: None }
    }

    fn branches(&mut self, lock: LockNo, mode: Mode, depth: usize) -> (Vec<Act>, Vec<Act>) {
        let before = self.held.clone();
        self.held.push((lock, mode));
        let body = self.acts(depth + 1);
        self.held.clone_from(&before);
        // A task that continues without the lock may do something else.
        let other = match self.random.percent(40) {
            true => {
                let left = std::mem::replace(&mut self.budget, 1 + self.random.below(2));
                let other = self.acts(depth + 1);
                self.budget = left;
                other
            }
            false => Vec::new(),
        };
        self.held = before;
        (body, other)
    }
}
