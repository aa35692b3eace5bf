//! Grants locks and enumerates all states that the tasks can reach.
//!
//! The semantics are those of Linux' rwsem and mutex. A reader waits behind a queued writer. Waiters are served in
//! the order of their requests, and readers at the head are served together. One definition serves both the run whose
//! records the engine receives and the search for all reachable states.

use std::collections::{BTreeSet, HashSet};

use observer_engine::event::Mode;

use super::program::{Held, Ins, LockNo, Pc, Program, TaskNo};

pub const TASKS: usize = 8;
const UNBORN: u8 = 0xff;
/// A case with more states than this is skipped and counted.
const STATES_MAX: usize = 400_000;

/// Instruction of each task, and the order of the waiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pc: [u8; TASKS],
    /// 0: does not wait.
    came: [u8; TASKS],
}

impl State {
    pub fn is_born(&self, t: TaskNo) -> bool {
        self.pc[t] != UNBORN
    }

    pub fn waits(&self, t: TaskNo) -> bool {
        self.came[t] != 0
    }

    pub fn pc(&self, t: TaskNo) -> Pc {
        usize::from(self.pc[t])
    }
}

/// Result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acquired,
    Waits,
    Failed,
}

/// One task of a deadlock: it holds `from` and waits for `to`, which the next task holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait {
    pub task: TaskNo,
    pub pc: Pc,
    pub from: (LockNo, Mode),
    pub to: (LockNo, Mode),
}

pub struct Machine<'a> {
    pub programs: &'a [Program],
    /// Steps that take no time and change nothing are made at once.
    pub is_eager: bool,
}

impl Machine<'_> {
    /// Returns the state in which the first `born` tasks exist.
    pub fn begin(&self, born: usize) -> State {
        let mut state = State { pc: [UNBORN; TASKS], came: [0; TASKS] };
        for t in 0..born {
            self.go_to(&mut state, t, 0);
        }
        state
    }

    pub fn ins(&self, state: &State, t: TaskNo) -> Option<Ins> {
        self.programs.get(t)?.code.get(state.pc(t)).copied()
    }

    pub fn held(&self, state: &State, t: TaskNo) -> &[Held] {
        match self.programs.get(t).and_then(|p| p.held.get(state.pc(t))) {
            Some(held) if state.is_born(t) => held,
            _ => &[],
        }
    }

    /// Returns the lock for which the task waits.
    pub fn wanted(&self, state: &State, t: TaskNo) -> Option<(LockNo, Mode)> {
        match self.ins(state, t) {
            Some(Ins::Take { lock, mode, .. }) if state.waits(t) => Some((lock, mode)),
            _ => None,
        }
    }

    /// Returns true if a task waits for a lock that it holds.
    pub fn waits_for_itself(&self, state: &State, t: TaskNo) -> bool {
        self.wanted(state, t).is_some_and(|(lock, _)| self.held(state, t).iter().any(|h| h.lock == lock))
    }

    /// Returns a key: states with the same key have the same future. The order of requests matters only between
    /// waiters for one lock.
    fn key(&self, state: &State) -> u128 {
        let bytes = |b: [u8; TASKS]| u128::from(u64::from_le_bytes(b));
        let mut places = [0; TASKS];
        for (t, (lock, _)) in (0..self.programs.len()).filter_map(|t| Some((t, self.wanted(state, t)?))) {
            let is_before = |u: &TaskNo| {
                state.came[*u] <= state.came[t] && self.wanted(state, *u).is_some_and(|(l, _)| l == lock)
            };
            places[t] = (0..self.programs.len()).filter(is_before).count() as u8;
        }
        bytes(state.pc) << 64 | bytes(places)
    }

    fn is_shut(&self, state: &State, lock: LockNo, mode: Mode) -> bool {
        let holds = |h: &Held| h.lock == lock && (mode != Mode::Read || h.mode != Mode::Read);
        (0..self.programs.len()).any(|t| self.held(state, t).iter().any(holds))
    }

    fn is_queued(&self, state: &State, lock: LockNo) -> bool {
        (0..self.programs.len()).any(|t| self.wanted(state, t).is_some_and(|(l, _)| l == lock))
    }

    pub fn go_to(&self, state: &mut State, t: TaskNo, pc: Pc) {
        state.pc[t] = pc as u8;
        if !self.is_eager {
            return;
        }
        loop {
            match self.ins(state, t) {
                Some(Ins::Fork { child }) => {
                    state.pc[t] += 1;
                    self.go_to(state, child, 0);
                }
                Some(Ins::Jump { to }) => state.pc[t] = to as u8,
                Some(Ins::Prove { .. } | Ins::Begin { .. } | Ins::End { .. }) => state.pc[t] += 1,
                _ => return,
            }
        }
    }

    /// Executes the task's current lock instruction.
    pub fn attempt(&self, state: &mut State, t: TaskNo) -> Outcome {
        let pc = state.pc(t);
        let is_free =
            |state: &State, lock, mode| !self.is_shut(state, lock, mode) && !self.is_queued(state, lock);
        match self.ins(state, t) {
            Some(Ins::Take { lock, mode, .. }) if !is_free(state, lock, mode) => {
                state.came[t] = 1 + state.came.iter().max().copied().unwrap_or(0);
                return Outcome::Waits;
            }
            Some(Ins::Try { lock, mode, failed, .. }) if !is_free(state, lock, mode) => {
                self.go_to(state, t, failed);
                return Outcome::Failed;
            }
            Some(Ins::Release { lock, .. } | Ins::Downgrade { lock }) => {
                self.go_to(state, t, pc + 1);
                self.wake(state, lock);
                return Outcome::Acquired;
            }
            _ => {}
        }
        self.go_to(state, t, pc + 1);
        Outcome::Acquired
    }

    /// Ends the wait of a killed task.
    pub fn give_up(&self, state: &mut State, t: TaskNo) {
        let Some(Ins::Take { lock, gave_up: Some(to), .. }) = self.ins(state, t) else { return };
        leave(state, t);
        self.go_to(state, t, to);
        self.wake(state, lock);
    }

    /// Serves the waiters of a lock as far as possible.
    fn wake(&self, state: &mut State, lock: LockNo) {
        loop {
            let first = (0..self.programs.len())
                .filter_map(|t| Some((state.came[t], t, self.wanted(state, t)?)))
                .filter(|(_, _, (l, _))| *l == lock)
                .min();
            match first {
                Some((_, t, (_, mode))) if !self.is_shut(state, lock, mode) => {
                    let pc = state.pc(t);
                    leave(state, t);
                    self.go_to(state, t, pc + 1);
                }
                _ => return,
            }
        }
    }

    /// Returns the tasks that wait for each other.
    pub fn deadlocks(&self, state: &State) -> Vec<Vec<Wait>> {
        let mut found = Vec::new();
        for t in 0..self.programs.len() {
            self.chains(state, t, &mut Vec::new(), &mut found);
        }
        found
    }

    /// Collects the chains that begin with their least task.
    fn chains(&self, state: &State, t: TaskNo, path: &mut Vec<Wait>, found: &mut Vec<Vec<Wait>>) {
        let Some(to) = self.wanted(state, t) else { return };
        let first = path.first().map_or(t, |w| w.task);
        if t < first || path.iter().any(|w| w.task == t) {
            return;
        }
        path.push(Wait { task: t, pc: state.pc(t), from: to, to });
        for next in 0..self.programs.len() {
            for held in self.held(state, next).iter().filter(|h| h.lock == to.0) {
                if next == first && path.len() > 1 {
                    let mut chain = path.clone();
                    for at in 0..chain.len() {
                        let before = (at + chain.len() - 1) % chain.len();
                        chain[at].from = chain[before].to;
                        let mode = |t: TaskNo, lock: LockNo| {
                            self.held(state, t).iter().find(|h| h.lock == lock).map(|h| h.mode)
                        };
                        let (task, lock) = (chain[at].task, chain[at].from.0);
                        chain[at].from.1 = mode(task, lock).unwrap_or(held.mode);
                    }
                    found.push(chain);
                }
                self.chains(state, next, path, found);
            }
        }
        path.pop();
    }
}

fn leave(state: &mut State, t: TaskNo) {
    let came = std::mem::take(&mut state.came[t]);
    state.came.iter_mut().filter(|c| **c > came).for_each(|c| *c -= 1);
}

/// Returns true if the lock orders can close at all. Most cases need no search.
fn closes(programs: &[Program]) -> bool {
    let mut after = [0_u64; 64];
    for program in programs {
        for (ins, held) in program.code.iter().zip(&program.held) {
            if let Ins::Take { lock, .. } = ins {
                held.iter().for_each(|h| after[h.lock] |= 1 << lock);
            }
        }
    }
    for via in 0..after.len() {
        for from in 0..after.len() {
            if after[from] & 1 << via != 0 {
                after[from] |= after[via];
            }
        }
    }
    (0..after.len()).any(|lock| after[lock] & 1 << lock != 0)
}

/// Everything that any interleaving can reach.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Deadlocks of two or more tasks.
    pub chains: Vec<Vec<Wait>>,
    /// Instructions at which a task waits for a lock that it holds.
    pub selves: BTreeSet<(TaskNo, Pc)>,
    /// Number of states visited.
    pub states: usize,
}

/// Returns everything that is reachable. `None`: there are too many states.
pub fn reachable(programs: &[Program], born: usize) -> Option<Truth> {
    reachable_if(programs, born, |_, _| false)
}

/// The same, but an attempt may fail although no task holds the lock if `fails` returns true for its instruction.
pub fn reachable_if(programs: &[Program], born: usize, fails: impl Fn(TaskNo, Pc) -> bool) -> Option<Truth> {
    let mut truth = Truth::default();
    if !closes(programs) {
        return Some(truth);
    }
    let machine = Machine { programs, is_eager: true };
    let begin = machine.begin(born);
    let (mut seen, mut open) = (HashSet::from([machine.key(&begin)]), vec![begin]);
    while let Some(state) = open.pop() {
        let waiting = state.came.iter().filter(|c| **c > 0).count();
        for t in (0..programs.len()).filter(|t| waiting > 0 && state.waits(*t)) {
            if machine.waits_for_itself(&state, t) {
                truth.selves.insert((t, state.pc(t)));
            }
        }
        if waiting > 1 {
            for chain in machine.deadlocks(&state) {
                if !truth.chains.contains(&chain) {
                    truth.chains.push(chain);
                }
            }
        }
        let mut reach = |next: State| {
            if seen.insert(machine.key(&next)) {
                open.push(next);
            }
        };
        for t in (0..programs.len()).filter(|t| state.is_born(*t)) {
            let Some(ins) = machine.ins(&state, t) else { continue };
            let mut next = state;
            if let Ins::Try { failed, .. } = ins
                && fails(t, state.pc(t))
            {
                machine.go_to(&mut next, t, failed);
                reach(next);
                next = state;
            }
            if !state.waits(t) {
                machine.attempt(&mut next, t);
                reach(next);
            } else if let Ins::Take { gave_up: Some(_), .. } = ins {
                machine.give_up(&mut next, t);
                reach(next);
            }
        }
        if seen.len() > STATES_MAX {
            return None;
        }
    }
    truth.states = seen.len();
    Some(truth)
}
