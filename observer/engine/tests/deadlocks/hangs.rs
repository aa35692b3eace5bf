//! Claims on waiting tasks: runs that end in a deadlock, and tasks that request a lock that they hold.

use std::fmt::Write as _;

use observer_engine::{
    event::Mode,
    event::{Body, Event, LockStep},
    finding::{Evidence, Finding, Rank, Relock},
};

use super::{
    case::is_silent,
    check::{Checked, Tally, cycles, kind, words},
    machine::{Machine, Wait},
    program::{Ins, Kind, Way},
    run::{Again, tid},
};

impl Checked<'_> {
    /// Checks that a hang with recorded waits is confirmed, and that every confirmed deadlock hangs.
    pub fn confirmed(&self, findings: &[Finding], tally: &mut Tally, out: &mut String) {
        let Some(end) = self.run.end else { return };
        let machine = Machine { programs: self.programs, is_eager: false };
        let hangs = machine.deadlocks(&end);
        tally.hangs += usize::from(!hangs.is_empty());
        for chain in hangs.iter().filter(|_| !self.run.is_cut) {
            let is_clear = |w: &Wait| !self.run.unclear.contains(&w.from.0);
            let is_reported = chain.iter().all(|w| is_clear(w) && self.waits_reported(w, chain));
            let reported = self.finding_of(findings, chain);
            let (rank, least) = (reported.map(|f| f.rank), self.least_rank(chain));
            if is_reported && rank.is_none_or(|rank| rank > least) {
                let rank = rank.map_or("nothing", Rank::name);
                let _ = writeln!(out, "# hangs, and is {rank}: {}", self.truth_words(chain));
            }
        }
        // A killed task does not wait.
        for (finding, cycle) in cycles(findings).filter(|(f, _)| f.rank == Rank::Confirmed) {
            if !self.case.is_killed && !self.is_among(cycle, &hangs, false) {
                let _ = writeln!(out, "# confirmed, and does not hang: {}", words(finding, cycle));
            }
        }
    }

    /// Returns `Confirmed` if each wait was recorded. If a wait is known by silence only, the finding must be an
    /// alarm.
    fn least_rank(&self, chain: &[Wait]) -> Rank {
        let is_seen = chain.iter().all(|w| self.run.waits.contains(&(w.task, w.pc)));
        if is_seen { Rank::Confirmed } else { Rank::Feasible }
    }

    fn waits_reported(&self, wait: &Wait, chain: &[Wait]) -> bool {
        let has = |w: &Wait, lock| {
            let held = self.programs[w.task].held[w.pc].iter().find(|h| h.lock == lock);
            held.is_some_and(|h| self.run.known_ns.contains_key(&(w.task, h.taken)))
        };
        let next = chain.iter().find(|w| w.from.0 == wait.to.0);
        let way = match self.programs[wait.task].code.get(wait.pc) {
            Some(Ins::Take { way, .. }) => *way,
            _ => return false,
        };
        let waits = match way {
            // If waits are not recorded, a reader that requested before the writer may hold the lock and sleep
            // elsewhere.
            Way::Request | Way::TryThenBlock | Way::TryThenRequest => {
                self.case.visibility.waits || wait.to.1 != Mode::Read
            }
            Way::Named => true,
            Way::Found => self.case.locks[wait.to.0].kind == Kind::FileFolio,
            Way::Silent { .. } => self.run.waits.contains(&(wait.task, wait.pc)),
        };
        let is_relock = self.programs[wait.task].held[wait.pc].iter().any(|h| h.lock == wait.to.0);
        waits && !is_relock && has(wait, wait.from.0) && next.is_some_and(|w| has(w, wait.to.0))
    }

    pub fn relocks(&self, findings: &[Finding], tally: &mut Tally, out: &mut String) {
        tally.relocks += self.run.relocks.len();
        let reported = findings.iter().filter_map(|f| match &f.evidence {
            Evidence::Relock(relock) => Some((f, relock)),
            _ => None,
        });
        let reported: Vec<_> = reported.collect();
        for again in &self.run.relocks {
            tally.true_relocks += usize::from(self.can_wait(again));
            let kind_of = |r: &Relock| kind(r.held.class) == Some(self.case.locks[again.lock].kind);
            let same = |f: &Finding, r: &Relock| {
                let modes = (r.held.mode, r.requested_mode) == (Some(again.held), Some(again.requested));
                kind_of(r) && modes && f.rank.is_alarm()
            };
            if self.is_demanded(again) && !reported.iter().any(|(f, r)| same(f, r)) {
                let _ = writeln!(out, "# no relock: {}", self.again_words(again));
            }
        }
        for (f, r) in reported {
            let of = |again: &&Again| self.is_of(again, r);
            // A folio that both hold may be known late.
            let late = self.case.tasks.iter().flatten().any(|s| is_silent(&s.acts));
            if late && f.rank == Rank::Possible {
                continue;
            }
            // A merged finding shows its first occurrence.
            let may_wait = |again: &Again| self.allowed.selves.contains(&(again.task, again.pc));
            if !self.run.relocks.iter().filter(of).any(may_wait) {
                let _ = writeln!(out, "# false relock: {} {}", f.rank.name(), f.id);
            }
            if f.rank == Rank::Confirmed && !self.run.relocks.iter().any(|again| self.is_waiting(again, r)) {
                let _ = writeln!(out, "# confirmed relock, and nobody waits: {}", f.id);
            }
        }
    }

    fn is_of(&self, again: &Again, r: &Relock) -> bool {
        let lock = self.case.locks[again.lock];
        tid(again.task) == r.party.task.tid
            && (lock.addr, Some(lock.kind)) == (r.held.lock, kind(r.held.class))
            && (Some(again.held), Some(again.requested)) == (r.held.mode, r.requested_mode)
    }

    /// Returns true if a state is reachable in which the task waits there for a lock that it holds.
    fn can_wait(&self, again: &Again) -> bool {
        self.truth.selves.contains(&(again.task, again.pc))
    }

    /// Returns true if a task waits for itself at the end, or gave up such a wait, with this class and these modes.
    fn is_waiting(&self, again: &Again, r: &Relock) -> bool {
        let machine = Machine { programs: self.programs, is_eager: false };
        let is_at = |end: super::machine::State| {
            end.pc(again.task) == again.pc && machine.waits_for_itself(&end, again.task)
        };
        let is_there = self.run.end.is_some_and(is_at);
        let same = (Some(again.held), Some(again.requested)) == (r.held.mode, r.requested_mode)
            && kind(r.held.class) == Some(self.case.locks[again.lock].kind);
        let gave_up = |e: &Event| {
            let addr = self.case.locks[again.lock].addr;
            // The lock itself, or the writer in front of it.
            matches!(e.body, Body::Lock { step: LockStep::GaveUp, lock, .. } if lock.0 == addr)
        };
        same && (is_there || self.case.is_killed || self.run.events.iter().any(gave_up))
    }

    /// Returns true if a finding is required. Exclusive holds always block. Two reads block only if a writer that can
    /// queue between them was seen.
    fn is_demanded(&self, again: &Again) -> bool {
        let is_read = (again.held, again.requested) == (Mode::Read, Mode::Read);
        self.run.unclear.is_empty() && self.can_wait(again) && (!is_read || self.is_between(again))
    }

    fn again_words(&self, again: &Again) -> String {
        let (t, addr) = (tid(again.task).0, self.case.locks[again.lock].addr);
        format!("t{t} {addr:#x} {:?} {:?}", again.held, again.requested)
    }
}
