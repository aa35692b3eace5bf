//! Deadlocks that must be an alarm: the paths of the parties reach them, and all records arrived completely and in
//! time.
//!
//! A path is what a task did from its last moment without locks up to its request, as it ran. The search is the same
//! as for the truth, but sees only these paths. So other tasks and other segments do not matter.

use std::fmt::Write as _;

use observer_engine::{
    event::{Body, Mode},
    finding::{Finding, Rank},
};

use super::{
    case::is_silent,
    check::{Checked, Tally},
    machine::{self, Wait},
    program::{Held, Ins, LockNo, Pc, Program, TaskNo, Way},
    run::{Again, tid},
};

impl Checked<'_> {
    pub fn demanded(&self, findings: &[Finding], tally: &mut Tally, out: &mut String) {
        if !self.is_plain() || !self.run.unclear.is_empty() {
            return;
        }
        for chain in &self.truth.chains {
            let Some(least) = self.least(chain) else { continue };
            tally.demanded += 1;
            tally.demanded_rings += usize::from(chain.len() > 4);
            let reported = self.finding_of(findings, chain);
            if reported.is_none_or(|f| f.rank > least) {
                let rank = reported.map_or("nothing", |f| f.rank.name());
                let n = if chain.len() > 4 { " of a ring" } else { "" };
                let _ = writeln!(out, "# no alarm{n}, but {rank}: {}", self.truth_words(chain));
            }
        }
    }

    /// Returns true if every task existed from the start and exited: nothing is still running.
    fn is_plain(&self) -> bool {
        let Some(end) = self.run.end else { return false };
        let is_over = |t: TaskNo| end.pc(t) >= self.programs[t].code.len() && !end.waits(t);
        self.case.born >= self.programs.len()
            && self.case.visibility.ptl_release
            && (0..self.programs.len()).all(is_over)
    }

    /// Returns the rank that the finding must have at least.
    fn least(&self, chain: &[Wait]) -> Option<Rank> {
        let is_reported = chain.iter().all(|w| self.reported(w) == Some(true));
        // It is not always known which reader's hold a release by another task ends.
        let is_lent = |lock: LockNo| {
            let is_it = |ins: &Ins| matches!(ins, Ins::Release { lock: of, lent: true, .. } if *of == lock);
            self.programs.iter().flat_map(|p| &p.code).any(is_it)
        };
        if chain.iter().any(|w| is_lent(w.from.0)) {
            return None;
        }
        if !is_reported || !self.were_together(chain.iter().map(|w| (w.task, w.pc))) {
            return None;
        }
        let paths = chain.iter().map(|w| self.path(w.task, w.pc)).collect::<Option<Vec<_>>>()?;
        let comes = |paths: &[Program]| {
            machine::reachable(paths, paths.len())
                .is_some_and(|truth| truth.chains.iter().any(|found| is_same(found, chain, paths)))
        };
        let wanted: Vec<LockNo> = chain.iter().map(|w| w.to.0).collect();
        if comes(&paths) {
            return Some(Rank::Feasible);
        }
        let is_written = |(at, writer): ((TaskNo, Pc), Program)| {
            let all = chain.iter().map(|w| (w.task, w.pc)).chain([at]);
            self.were_together(all) && comes(&[paths.clone(), vec![writer]].concat())
        };
        // Another request of the same writer may be known incompletely.
        let late = self.case.tasks.iter().flatten().any(|s| is_silent(&s.acts));
        let mut writers = self.writers(&wanted, |t| chain.iter().any(|w| w.task == t)).into_iter();
        writers.any(is_written).then_some(if late { Rank::Possible } else { Rank::Feasible })
    }

    /// Returns true if a recorded writer can queue between the two requests of a reader.
    pub fn is_between(&self, again: &Again) -> bool {
        let Some(path) = self.path(again.task, again.pc) else { return false };
        let last = path.code.len() - 1;
        self.is_plain()
            && self.writers(&[again.lock], |t| t == again.task).into_iter().any(|(at, writer)| {
                let comes = || {
                    machine::reachable(&[path.clone(), writer.clone()], 2)
                        .is_some_and(|truth| truth.selves.contains(&(0, last)))
                };
                self.were_together([(again.task, again.pc), at].into_iter()) && comes()
            })
    }

    /// Returns the write requests for these locks by other tasks that were recorded in time, each with the path to
    /// it.
    fn writers(&self, of: &[LockNo], is_party: impl Fn(TaskNo) -> bool) -> Vec<((TaskNo, Pc), Program)> {
        let mut found = Vec::new();
        for t in (0..self.programs.len()).filter(|t| !is_party(*t)) {
            for pc in self.run.trail[t].iter().copied() {
                let Ins::Take { lock, mode, .. } = self.programs[t].code[pc] else { continue };
                let is_reported =
                    self.run.requests.get(&(t, pc)).is_some_and(|requested| requested.is_reported);
                if mode != Mode::Read && of.contains(&lock) && is_reported {
                    found.extend(self.path(t, pc).map(|path| ((t, pc), path)));
                }
            }
        }
        found
    }

    /// Returns true if no task was seen to exit before the last of the requests.
    fn were_together(&self, mut all: impl Iterator<Item = (TaskNo, Pc)> + Clone) -> bool {
        let requested_ns = |at| self.run.requests.get(&at).map_or(u64::MAX, |requested| requested.time_ns);
        let last_ns = all.clone().map(requested_ns).max().unwrap_or(0);
        all.all(|(t, _)| {
            let exits = |body: &Body| matches!(body, Body::TaskExit { .. });
            let mut events = self.run.events.iter();
            !events.any(|e| e.tid == tid(t) && exits(&e.body) && e.time_ns <= last_ns)
        })
    }

    /// Returns what the task did from its last moment without locks up to this request. `None`: it did not reach the
    /// request, or a record is missing or late.
    fn path(&self, t: TaskNo, pc: Pc) -> Option<Program> {
        let (program, trail) = (&self.programs[t], &self.run.trail[t]);
        let end = trail.iter().rposition(|at| *at == pc)?;
        let begin = (0..=end).rev().find(|at| program.held[trail[*at]].is_empty())?;
        // A folio that is locked without a record may have been locked at any time in the operation.
        let bounds = |at: &Pc| matches!(program.code[*at], Ins::Begin { .. } | Ins::End { .. });
        let first = (0..begin).rev().find(|at| bounds(&trail[*at])).unwrap_or(0);
        let rest = trail[end..].iter().take_while(|at| !bounds(at));
        let is_silent = |pc: &Pc| match program.code[*pc] {
            Ins::Take { way, .. } => matches!(way, Way::Silent { .. }),
            Ins::Try { is_silent, .. } => is_silent,
            _ => false,
        };
        if trail[first..end].iter().chain(rest).any(is_silent) {
            return None;
        }
        // A failed attempt at a lock that the task then requests is part of the path. What the task would have done
        // with the lock is not recorded.
        let requested = |at: &usize| match program.code[trail[*at]] {
            Ins::Take { lock, .. } | Ins::Try { lock, .. } if !is_silent(&trail[*at]) => Some(lock),
            _ => None,
        };
        let failed = |at: &usize| {
            let (pc, next) = (trail[*at], trail[*at + 1]);
            matches!(program.code[pc], Ins::Try { failed, .. } if failed == next)
        };
        let before = (0..begin).rev().filter(|at| requested(at).is_some()).take_while(failed);
        let here: Vec<LockNo> = (begin..=end).filter_map(|at| requested(&at)).collect();
        if before.filter_map(|at| requested(&at)).any(|lock| here.contains(&lock)) {
            return None;
        }
        let mut path = Path::default();
        for at in begin..=end {
            let (pc, next) = (trail[at], trail.get(at + 1).copied());
            let is_last = at == end;
            match program.code[pc] {
                Ins::Take { gave_up, .. } if !is_last && gave_up.is_some() && next == gave_up => return None,
                Ins::Take { lock, mode, way, .. } => {
                    let is_tried = way == Way::TryThenRequest && !self.run.requests.contains_key(&(t, pc));
                    path.take(lock, mode, is_tried);
                }
                Ins::Try { failed, .. } if next == Some(failed) => return None,
                Ins::Try { lock, mode, .. } => path.take(lock, mode, true),
                Ins::Release { lock, mode, .. } => path.release(lock, mode),
                Ins::Downgrade { lock } => path.downgrade(lock),
                _ => {}
            }
        }
        Some(path.whole())
    }
}

/// A path without branches. A failed trylock ends it, because the other branch was not recorded.
#[derive(Default)]
struct Path {
    program: Program,
    now: Vec<Held>,
    /// Locks held where a trylock failed.
    failed: Vec<Vec<Held>>,
}

impl Path {
    fn put(&mut self, ins: Ins) -> Pc {
        self.program.code.push(ins);
        self.program.held.push(self.now.clone());
        self.program.code.len() - 1
    }

    fn take(&mut self, lock: LockNo, mode: Mode, is_tried: bool) {
        let at = if is_tried {
            self.failed.push(self.now.clone());
            // Counted from the end, because the number of instructions is not known yet.
            self.put(Ins::Try { lock, mode, is_silent: false, failed: self.failed.len() })
        } else {
            self.put(Ins::Take { lock, mode, way: Way::Request, gave_up: None })
        };
        self.now.push(Held { lock, mode, taken: at });
    }

    fn release(&mut self, lock: LockNo, mode: Mode) {
        self.put(Ins::Release { lock, mode, lent: false });
        if let Some(at) = self.now.iter().rposition(|h| h.lock == lock) {
            self.now.remove(at);
        }
    }

    fn downgrade(&mut self, lock: LockNo) {
        self.put(Ins::Downgrade { lock });
        self.now.iter_mut().filter(|h| h.lock == lock).for_each(|h| h.mode = Mode::Read);
    }

    fn whole(mut self) -> Program {
        let end = self.program.code.len();
        self.program.held.push(self.now);
        self.program.held.extend(self.failed);
        for ins in &mut self.program.code {
            if let Ins::Try { failed, .. } = ins {
                *failed += end;
            }
        }
        self.program
    }
}

/// Returns true if the chain found among the paths is this chain: each party waits at the end of its path.
fn is_same(found: &[Wait], chain: &[Wait], paths: &[Program]) -> bool {
    let at_end = |w: &Wait| w.pc + 1 == paths[w.task].code.len() && w.task < chain.len();
    found.len() == chain.len()
        && found.iter().all(|w| at_end(w) && (chain[w.task].from, chain[w.task].to) == (w.from, w.to))
}
