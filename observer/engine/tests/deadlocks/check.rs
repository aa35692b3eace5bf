//! Claims on a run: the findings that are allowed and those that are required, compared with the engine's findings.
//!
//! 1. A cycle of rank `feasible` or `confirmed` is reachable: in some state, the task of each step holds one lock and
//!    waits for the other. This holds with any loss.
//! 2. A deadlock of two tasks is listed, and not as `guarded`, if it is reachable and all its requests were recorded.
//! 3. Every step of every cycle was recorded: the task requested the lock in a way that can block while it held the
//!    other lock.
//! 4. A run that ends in a deadlock has it as `confirmed` if the waits were recorded. A `confirmed` deadlock hangs
//!    (`hangs`).
//! 5. A blocking request for a lock that the task holds is a `relock` if the task can wait there. Nothing else is a
//!    `relock` (`hangs`).
//! 6. A deadlock that the parties' own paths reach is an alarm if all its records arrived in time. Other records
//!    change nothing (`demand`).
//! 7. Lost records make no alarm. Records lost before any of the tasks existed remove no alarm (`lossy`).

use std::{collections::BTreeMap, fmt::Write as _};

use observer_engine::{
    Engine,
    event::{Body, Event, Mode},
    finding::{Cycle, Doubt, Evidence, Finding, Rank, Step},
    lock_class::LockClass,
    trace,
};

use super::{
    case::{Case, is_silent},
    crowd::is_of_crowd,
    machine::{Truth, Wait},
    program::{Held, Ins, Kind, Lock, LockNo, Pc, Program, TaskNo, Way},
    run::{Run, tid},
    sites,
};

/// A task that sends no record for this time hangs.
pub const HUNG_NS: u64 = 2_000_000_000;

/// Counts over many cases: deadlocks that exist, and findings that were reported.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub cases: usize,
    pub too_many: usize,
    /// Skipped cases: a task is forked while its parent holds a lock.
    pub forks_inside: usize,
    pub states: usize,
    pub hangs: usize,
    pub reachable: usize,
    /// Deadlocks of two tasks that must be listed, by the rank under which they were. All their records arrived in
    /// time.
    pub listed: BTreeMap<&'static str, usize>,
    /// The same for deadlocks with a late record of a folio.
    pub late: BTreeMap<&'static str, usize>,
    pub cycles: BTreeMap<&'static str, usize>,
    pub lossy: BTreeMap<&'static str, usize>,
    /// Alarms of runs with lost records before them.
    pub after_loss: usize,
    pub relocks: usize,
    /// Repeated requests for a held lock that can wait.
    pub true_relocks: usize,
    /// Deadlocks that must be an alarm.
    pub demanded: usize,
    pub demanded_rings: usize,
}

pub struct Checked<'a> {
    pub case: &'a Case,
    pub programs: &'a [Program],
    pub run: &'a Run,
    /// Reachable deadlocks.
    pub truth: &'a Truth,
    /// Also includes the deadlocks that are reachable only if an attempt fails although no task of the case holds the
    /// lock (`Program::may_fail`).
    pub allowed: &'a Truth,
}

pub fn kind(class: LockClass) -> Option<Kind> {
    Some(match class {
        LockClass::MmapLock => Kind::MmapLock,
        LockClass::VmaLock => Kind::VmaLock,
        LockClass::IMmap => Kind::IMmap,
        LockClass::FaultMutex => Kind::FaultMutex,
        LockClass::Ptl => Kind::Ptl,
        LockClass::FolioFile => Kind::FileFolio,
        LockClass::FolioAnon => Kind::AnonFolio,
        LockClass::Inode | LockClass::Folio => return None,
    })
}

pub fn cycles(findings: &[Finding]) -> impl Iterator<Item = (&Finding, &Cycle)> {
    findings.iter().filter_map(|f| match &f.evidence {
        Evidence::Cycle(cycle) => Some((f, cycle)),
        _ => None,
    })
}

/// Returns true if a step is by a task of the crowd. Such a cycle must not be an alarm.
fn is_of_others(cycle: &Cycle) -> bool {
    cycle.steps.iter().any(|step| is_of_crowd(step.party.task.tid))
}

/// Lets time pass without records, as in a live run.
pub fn quiet(engine: &mut Engine, from_ns: u64, to_ns: u64) {
    const TICK_NS: u64 = 500_000_000;
    let ticks = (to_ns.saturating_sub(from_ns) / TICK_NS).min(20);
    (1..=ticks).for_each(|n| engine.tick(from_ns + n * TICK_NS - 1));
}

/// Rotates the kinds of a chain so that equal chains give equal results.
fn turned(kinds: &[Option<Kind>]) -> Vec<Option<Kind>> {
    let turns = (0..kinds.len()).map(|at| [&kinds[at..], &kinds[..at]].concat());
    turns.min().unwrap_or_default()
}

impl Checked<'_> {
    /// Returns the differences, as text, of a run without loss.
    pub fn whole(&self, tally: &mut Tally) -> String {
        let mut engine = Engine::new(sites::setup(&self.case.visibility));
        let (mut out, mut before) = (String::new(), String::new());
        // A late record of a folio may withdraw an earlier finding.
        let late = self.case.tasks.iter().flatten().any(|s| is_silent(&s.acts));
        let halfway = !late && self.case.schedule.is_multiple_of(4);
        let mut last_ns = 0;
        for (at, event) in self.run.events.iter().enumerate() {
            quiet(&mut engine, last_ns, event.time_ns);
            last_ns = event.time_ns;
            engine.push(event);
            if halfway && at % 7 == 6 && self.case.crowd < 100 {
                self.sound(&engine.findings(), " halfway", &mut before);
            }
        }
        if self.run.is_cut {
            engine.finish();
        } else {
            quiet(&mut engine, self.run.end_ns, self.run.end_ns + HUNG_NS);
            engine.tick(self.run.end_ns + HUNG_NS);
            // The engine judges in portions, one at each tick. A crowd leaves several seconds of work.
            if self.case.crowd > 100 {
                quiet(&mut engine, self.run.end_ns + HUNG_NS, self.run.end_ns + 6 * HUNG_NS);
            }
        }
        let findings = engine.findings();
        for (finding, cycle) in cycles(&findings).filter(|(_, cycle)| !is_of_others(cycle)) {
            *tally.cycles.entry(finding.rank.name()).or_default() += 1;
            self.steps_were_reported(finding, cycle, &mut out);
        }
        self.sound(&findings, "", &mut out);
        self.listed(&findings, tally, &mut out);
        self.gates(&findings, &mut out);
        self.confirmed(&findings, tally, &mut out);
        self.relocks(&findings, tally, &mut out);
        self.demanded(&findings, tally, &mut out);
        if self.case.schedule.is_multiple_of(3) && self.case.crowd < 100 {
            out.push_str(&self.after_loss(&findings, tally));
        }
        engine.finish();
        self.sound(&engine.findings(), " at the end", &mut before);
        out + &before
    }

    fn no_of(&self, class: LockClass, addr: u64, time_ns: u64) -> Option<LockNo> {
        let kind = kind(class)?;
        let fits = |no: &LockNo| {
            let lock: &Lock = &self.case.locks[*no];
            let renamed = |no: LockNo| self.run.renamed_ns.get(&no).copied();
            let is_there = lock.after.is_none_or(|_| renamed(*no).is_some_and(|at| at < time_ns));
            let is_gone = (0..self.case.locks.len())
                .any(|n| self.case.locks[n].after == Some(*no) && renamed(n).is_some_and(|at| at < time_ns));
            let at = self
                .run
                .places
                .iter()
                .rfind(|(since_ns, no)| self.case.locks[*no].addr == addr && *since_ns < time_ns);
            let is_here = lock.twin.is_none() || at.is_none_or(|(_, at)| at == no);
            lock.kind == kind && lock.addr == addr && is_there && !is_gone && is_here
        };
        (0..self.case.locks.len()).find(fits)
    }

    fn task_of(&self, step: &Step) -> Option<TaskNo> {
        (0..self.programs.len()).find(|t| tid(*t) == step.party.task.tid)
    }

    /// Returns true if a step is this wait.
    fn is_wait(&self, step: &Step, wait: &Wait) -> bool {
        let is = |class: LockClass, addr, no: LockNo| {
            let lock = self.case.locks[no];
            // The engine may have learnt the name of a folio with a late record only afterwards.
            let late = lock.kind.is_folio() && (Some(lock.kind), lock.addr) == (kind(class), addr);
            late || self.no_of(class, addr, step.party.time_ns) == Some(no)
        };
        self.task_of(step) == Some(wait.task)
            && (step.from_mode, step.to_mode) == (Some(wait.from.1), Some(wait.to.1))
            && is(step.from, step.from_lock, wait.from.0)
            && is(step.to, step.to_lock, wait.to.0)
    }

    /// Returns true if the cycle is one of these deadlocks. `exactly`: by the same requests.
    pub fn is_among(&self, cycle: &Cycle, chains: &[Vec<Wait>], exactly: bool) -> bool {
        let steps = &cycle.steps;
        chains.iter().filter(|chain| chain.len() == steps.len()).any(|chain| {
            (0..steps.len()).any(|turn| {
                (0..steps.len()).all(|at| {
                    let wait = &chain[(at + turn) % chain.len()];
                    let requested = self.run.requests.get(&(wait.task, wait.pc)).map(|a| a.time_ns);
                    self.is_wait(&steps[at], wait) && (!exactly || requested == Some(steps[at].party.time_ns))
                })
            })
        })
    }

    /// Checks that every alarm is true.
    pub fn sound(&self, findings: &[Finding], when: &str, out: &mut String) {
        for (finding, cycle) in cycles(findings) {
            if matches!(finding.rank, Rank::Feasible | Rank::Confirmed)
                && !self.is_among(cycle, &self.allowed.chains, false)
            {
                let late = self.case.tasks.iter().flatten().any(|s| is_silent(&s.acts));
                let late = if late { ", where folios are known late" } else { "" };
                let _ = writeln!(out, "# false{when}{late}: {}", words(finding, cycle));
            }
        }
    }

    /// Returns `None` if the request or the hold of the other lock was not recorded, or if the task waits for a lock
    /// that it holds. `Some(true)`: both records arrived at once. `Some(false)`: the hold was recorded later.
    pub fn reported(&self, wait: &Wait) -> Option<bool> {
        if self.programs[wait.task].held[wait.pc].iter().any(|h| h.lock == wait.to.0) {
            return None;
        }
        let requested = self.run.requests.get(&(wait.task, wait.pc)).filter(|a| a.is_reported)?;
        let held = self.programs[wait.task].held[wait.pc].iter().find(|h| h.lock == wait.from.0)?;
        let of = (wait.task, held.taken);
        let known_ns = self.run.known_ns.get(&of).or_else(|| self.run.released_ns.get(&of))?;
        if *known_ns < requested.time_ns {
            return Some(true);
        }
        // If the task released another folio since then, the engine assumes that it locked this folio after that.
        let between = |e: &Event| {
            let is_release = matches!(e.body, Body::FolioRelease { .. });
            is_release && e.tid == tid(wait.task) && (requested.time_ns..*known_ns).contains(&e.time_ns)
        };
        (!self.run.events.iter().any(between)).then_some(false)
    }

    fn kinds(&self, chain: &[Wait]) -> Vec<Option<Kind>> {
        let kinds: Vec<_> = chain.iter().map(|w| Some(self.case.locks[w.from.0].kind)).collect();
        turned(&kinds)
    }

    pub fn finding_of<'f>(&self, findings: &'f [Finding], chain: &[Wait]) -> Option<&'f Finding> {
        let kinds = self.kinds(chain);
        let same =
            |cycle: &Cycle| turned(&cycle.steps.iter().map(|s| kind(s.from)).collect::<Vec<_>>()) == kinds;
        cycles(findings).filter(|(_, cycle)| same(cycle)).map(|(f, _)| f).min_by_key(|f| f.rank)
    }

    /// Checks that every reachable and recorded deadlock is listed.
    fn listed(&self, findings: &[Finding], tally: &mut Tally, out: &mut String) {
        for chain in self.truth.chains.iter().filter(|chain| chain.len() == 2) {
            let Some(reported) = chain.iter().map(|w| self.reported(w)).collect::<Option<Vec<bool>>>() else {
                continue;
            };
            let at_once = reported.iter().all(|t| *t);
            let counts = if at_once { &mut tally.listed } else { &mut tally.late };
            let reported = self.finding_of(findings, chain);
            *counts.entry(reported.map_or("missing", |f| f.rank.name())).or_default() += 1;
            if reported.is_none() {
                let late = if at_once { "" } else { " (known late)" };
                let _ = writeln!(out, "# missing{late}: {}", self.truth_words(chain));
            }
        }
        let is_clear = |(class, addr): (LockClass, u64)| {
            let is_it = |lock: &Lock| (Some(lock.kind), lock.addr) == (kind(class), addr);
            !self.run.unclear.iter().any(|no| is_it(&self.case.locks[*no]))
        };
        for (finding, cycle) in cycles(findings).filter(|(f, _)| f.rank == Rank::Guarded) {
            if cycle.gate.is_none_or(is_clear) && self.is_among(cycle, &self.truth.chains, true) {
                let _ = writeln!(out, "# guarded, and can be reached: {}", words(finding, cycle));
            }
        }
    }

    /// Returns a lock outside the cycle that excludes the deadlock: two parties were recorded to acquire it before
    /// their requests, in conflicting modes.
    fn gate(&self, cycle: &Cycle) -> Option<LockNo> {
        let requested = |step: &Step| {
            let mut requests = self.run.requests.iter();
            let of = self.task_of(step);
            requests
                .find(|((t, _), requested)| Some(*t) == of && requested.time_ns == step.party.time_ns)
                .map(|(at, _)| *at)
        };
        let requests: Vec<(TaskNo, Pc)> = cycle.steps.iter().filter_map(requested).collect();
        let sure = |(t, pc): (TaskNo, Pc)| {
            let is_known = move |h: &&Held| {
                let is_late = match self.programs[t].code[h.taken] {
                    Ins::Take { way, .. } => matches!(way, Way::Silent { .. }),
                    Ins::Try { is_silent, .. } => is_silent,
                    _ => false,
                };
                let known_ns = self.run.known_ns.get(&(t, h.taken));
                !is_late
                    && known_ns.is_some_and(|at| {
                        self.run.requests.get(&(t, pc)).is_some_and(|requested| *at < requested.time_ns)
                    })
            };
            self.programs[t].held[pc].iter().filter(is_known)
        };
        let is_step = |no: LockNo| {
            cycle.steps.iter().any(|s| self.no_of(s.from, s.from_lock, s.party.time_ns) == Some(no))
        };
        requests.iter().enumerate().find_map(|(i, a)| {
            let shuts = |h: &Held, o: &Held| {
                h.lock == o.lock && (h.mode != Mode::Read || o.mode != Mode::Read) && !is_step(h.lock)
            };
            let others = || requests[i + 1..].iter().filter(|b| b.0 != a.0).flat_map(|b| sure(*b));
            sure(*a).find(|h| others().any(|o| shuts(h, o))).map(|h| h.lock)
        })
    }

    /// Checks that a cycle is `guarded` if and only if a lock excludes it. That is not known of a lock that another
    /// task may have released.
    fn gates(&self, findings: &[Finding], out: &mut String) {
        for (finding, cycle) in
            cycles(findings).filter(|(f, cycle)| !is_of_others(cycle) && f.rank != Rank::Incomplete)
        {
            let n = cycle.steps.len();
            let closes = (0..n).all(|at| {
                let (step, next) = (&cycle.steps[at], &cycle.steps[(at + 1) % n]);
                let (to, from) = (step.party.time_ns, next.party.time_ns);
                self.no_of(step.to, step.to_lock, to) == self.no_of(next.from, next.from_lock, from)
            });
            let is_reported = cycle.gate.is_some() == (finding.rank == Rank::Guarded);
            let is_gated = closes && self.gate(cycle).is_some();
            let is_one = cycle.steps.iter().any(|s| cycle.steps[0].party.task.tid != s.party.task.tid);
            let others = [Doubt::NotTogether, Doubt::FewTasks];
            let is_one = is_one && !others.iter().any(|doubt| finding.doubts.contains(doubt));
            if !is_reported
                || (is_gated && is_one && !matches!(finding.rank, Rank::Guarded | Rank::Confirmed))
            {
                let _ = writeln!(out, "# not reported as guarded: {}", words(finding, cycle));
            }
        }
    }

    /// Checks that every step of a cycle was recorded.
    fn steps_were_reported(&self, finding: &Finding, cycle: &Cycle, out: &mut String) {
        if self.programs.len() == 1 && self.case.crowd == 0 {
            let _ = writeln!(out, "# one task alone: {}", words(finding, cycle));
        }
        for step in &cycle.steps {
            let is_doubtful = finding.rank == Rank::Incomplete && !self.run.unclear.is_empty();
            if !is_doubtful && !self.was_reported(step, finding.rank) && !self.is_known(step) {
                let at = step.party.time_ns;
                let what = kind(step.from).map_or("?", |k| if k == Kind::Ptl { "of a spinlock" } else { "" });
                let _ = writeln!(
                    out,
                    "# a step that was not reported {what}: at {at}, {}",
                    words(finding, cycle)
                );
            }
        }
    }

    fn was_reported(&self, step: &Step, rank: Rank) -> bool {
        let at = step.party.time_ns;
        // For the lookup of a folio, the wait and the return count as the request, too.
        let mut requests = self.run.requests.iter();
        let requested = requests.find(|(of, requested)| {
            let returned =
                kind(step.to).is_some_and(Kind::is_folio) && self.run.known_ns.get(of) == Some(&at);
            let waited = self.run.folio_waits_ns.get(of) == Some(&at);
            Some(of.0) == self.task_of(step) && (requested.time_ns == at || returned || waited)
        });
        requested.is_some_and(|((t, pc), _)| {
            let is_requested = self.requested_lock(*t, *pc) == self.no_of(step.to, step.to_lock, at);
            let from = self.no_of(step.from, step.from_lock, at);
            let has = self.programs[*t].held[*pc].iter().any(|h| Some(h.lock) == from);
            // The exact time at which a folio was locked is not always recorded.
            let perhaps = rank >= Rank::Possible && kind(step.from).is_some_and(Kind::is_folio);
            // A release on behalf of the holder is not always recorded either.
            let perhaps = perhaps || rank == Rank::Incomplete;
            is_requested && (has || perhaps)
        })
    }

    /// Returns true if the operation is known to lock a folio at this point without a record.
    fn is_known(&self, step: &Step) -> bool {
        let at = step.party.time_ns;
        let Some((t, from)) = self.task_of(step).zip(self.no_of(step.from, step.from_lock, at)) else {
            return false;
        };
        let is_requested = |no: LockNo| {
            let lock = self.case.locks[no];
            (lock.addr, Some(lock.kind)) == (step.to_lock, kind(step.to))
        };
        let program = &self.programs[t];
        let requests = |pc: Pc| {
            let silent = matches!(program.code[pc], Ins::Take { lock, way: Way::Silent { .. }, .. } if is_requested(lock));
            let after =
                self.run.requests.iter().find(|((of, _), requested)| *of == t && requested.time_ns == at);
            silent
                && program.held[pc].iter().any(|h| h.lock == from)
                && after.is_some_and(|((_, before), _)| before + 1 == pc)
        };
        (0..program.code.len()).any(requests)
    }

    fn requested_lock(&self, t: TaskNo, pc: Pc) -> Option<LockNo> {
        match self.programs[t].code.get(pc) {
            Some(Ins::Take { lock, .. }) => Some(*lock),
            _ => None,
        }
    }

    pub fn truth_words(&self, chain: &[Wait]) -> String {
        let words = chain.iter().map(|w| {
            let lock = |(no, mode): (LockNo, Mode)| {
                let lock = self.case.locks[no];
                format!("{:?}:{} {:#x}", lock.kind, mode.name(), lock.addr)
            };
            format!("t{} has {} and waits for {}", tid(w.task).0, lock(w.from), lock(w.to))
        });
        words.collect::<Vec<_>>().join("; ")
    }

    /// Returns the run as a text trace.
    pub fn text(&self) -> String {
        let setup = sites::setup(&self.case.visibility);
        let used = |site: u16| self.run.events.iter().any(|e| e.site.0 == site);
        let mut out = sites::text(&self.case.visibility, used);
        for event in &self.run.events {
            let _ = writeln!(out, "{}", trace::line(event, &setup));
        }
        if !self.run.is_cut {
            let _ = writeln!(out, "tick {}", self.run.end_ns + HUNG_NS);
        }
        for (t, program) in self.programs.iter().enumerate() {
            let _ = writeln!(out, "# t{}: {:?}", tid(t).0, program.code);
        }
        for chain in &self.truth.chains {
            let _ = writeln!(out, "# can be reached: {}", self.truth_words(chain));
        }
        out
    }
}

pub fn words(finding: &Finding, cycle: &Cycle) -> String {
    let steps = cycle.steps.iter().map(|s| {
        let mode = |m: Option<Mode>| m.map_or("?", Mode::name);
        format!(
            "t{} at {}: {}:{} {:#x} > {}:{} {:#x}",
            s.party.task.tid.0,
            s.party.time_ns,
            s.from.name(),
            mode(s.from_mode),
            s.from_lock,
            s.to.name(),
            mode(s.to_mode),
            s.to_lock
        )
    });
    format!("{} {}: {}", finding.rank.name(), finding.id, steps.collect::<Vec<_>>().join("; "))
}
