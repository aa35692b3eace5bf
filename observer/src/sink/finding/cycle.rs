//! Cycles: each party with the lock it requested and the locks it held, then the scenario, then the reason for the rank.

use observer_engine::{
    event::Mode,
    finding::{Cycle, Doubt, Finding, Queued as EngineQueued, Rank, Step},
    lock_class::LockClass,
};
use serde::Serialize;

use super::{Explain, Run};
use crate::{
    report::stacks::Stacks,
    sink::{
        json::parts::{self, Side, address},
        words::{
            hold, lock,
            scenario::{self, Act},
            stack, step, task,
        },
    },
    text::{moment, paragraph},
};

impl Explain for Cycle {
    fn headline(&self, _: &Finding) -> String {
        let mut text: Vec<String> = self.steps.iter().map(step::held).collect();
        if let Some(first) = self.steps.first() {
            text.push(first.from.name().to_owned());
        }
        text.join(" -> ")
    }

    fn detail(&self, out: &mut Vec<String>, f: &Finding, run: Run<'_>, all: &[Run<'_>]) {
        let n = self.steps.len();
        for (at, s) in self.steps.iter().enumerate() {
            let of = self.recordings.get(at).copied().unwrap_or(0);
            let run = all.get(of).unwrap_or(&run);
            let next = Some((&self.steps[(at + 1) % n], (at + 1) % n));
            step::party(out, &format!("side {}", at + 1), s, run);
            step::request(out, s, next.filter(|_| self.recordings.is_empty()));
            let before = (at + n - 1) % n;
            let same = self.recordings.is_empty() && self.steps[before].to_lock == s.from_lock;
            let wanted = if same { "which" } else { "such as" };
            step::holds(out, s, &format!(", {wanted} side {} requests", before + 1));
            stack::rows(out, &s.party, run.stacks);
        }
        for q in &self.queued {
            writer(out, q, &self.steps[q.step], run);
        }
        scenario(out, self, f.rank);
        if let Some((class, address)) = self.gate {
            let which = if self.recordings.is_empty() { format!(" {address:#x}") } else { String::new() };
            let gate = format!("two sides hold {}{which}, which excludes one from the other", class.name());
            paragraph(out, "gate", &gate);
        }
        paragraph(out, "rank", &rank(f, self));
    }

    fn wire(&self, stacks: &Stacks, all: &[&Stacks]) -> super::Wire {
        let of_step =
            |at: usize| self.recordings.get(at).and_then(|run| all.get(*run)).copied().unwrap_or(stacks);
        super::Wire::Cycle(Wire {
            steps: self.steps.iter().enumerate().map(|(at, s)| parts::step(s, of_step(at))).collect(),
            gate: self.gate.map(|(class, lock)| Lock { class: class.name(), lock: address(lock) }),
            queued: self.queued.iter().map(|q| queued(q, stacks)).collect(),
            recordings: self.recordings.clone(),
        })
    }
}

/// Describes a writer that queues between two readers: behind it, the requesting reader waits for the holding one.
fn writer(out: &mut Vec<String>, q: &EngineQueued, behind: &Step, run: Run<'_>) {
    let (t, at) = (&q.party.task, moment(q.party.time_ns, run.start_ns));
    paragraph(out, "writer", &format!("{} on cpu {} in {}, at {at}", task(t), t.cpu, q.party.site));
    let asks = if q.waiting { "waits for" } else { "requested" };
    let what = format!("{} {:#x}", lock(behind.to, Some(Mode::Write)), behind.to_lock);
    paragraph(out, "", &format!("{asks} {what}; side {} requests it behind this", q.step + 1));
    for h in q.party.holds.iter().filter(|h| h.lock != behind.to_lock) {
        hold(out, h);
    }
    stack::rows(out, &q.party, run.stacks);
}

/// Draws the scenario.
fn scenario(out: &mut Vec<String>, c: &Cycle, rank: Rank) {
    let n = c.steps.len();
    let names = names(&c.steps);
    let act = |column, mode, of: usize, note: &str| Act::new(column, mode, &names[of], note);
    let mut acts: Vec<Act> = c.steps.iter().enumerate().map(|(at, s)| act(at, s.from_mode, at, "")).collect();
    let mut columns = n;
    for (at, s) in c.steps.iter().enumerate() {
        let next = (at + 1) % n;
        if needs_writer(s, &c.steps[next]) || c.queued.iter().any(|q| q.step == at) {
            acts.push(act(columns, Some(Mode::Write), next, " queued"));
            columns += 1;
        }
    }
    acts.extend(c.steps.iter().enumerate().map(|(at, s)| act(at, s.to_mode, (at + 1) % n, "")));
    let meet = |(at, s): (usize, &Step)| s.to_lock == c.steps[(at + 1) % n].from_lock;
    let same = c.recordings.is_empty() && c.steps.iter().enumerate().all(meet);
    let title = match rank {
        Rank::Confirmed => "how it hangs",
        _ if !same => "possible unsafe locking scenario, if these were the same locks",
        Rank::Guarded => "possible unsafe locking scenario without the gate",
        _ => "possible unsafe locking scenario",
    };
    scenario::draw(out, title, (n, columns - n), &acts);
}

/// Names of the lock that each step holds; equal classes are numbered.
fn names(steps: &[Step]) -> Vec<String> {
    let name = |(at, s): (usize, &Step)| {
        let same = |class: LockClass| move |s: &&Step| s.from == class;
        if steps.iter().filter(same(s.from)).count() == 1 {
            return s.from.name().to_owned();
        }
        format!("{} #{}", s.from.name(), steps[..=at].iter().filter(same(s.from)).count())
    };
    steps.iter().enumerate().map(name).collect()
}

/// Returns true if the step blocks only behind a queued writer: a reader requests a lock held by a reader.
fn needs_writer(s: &Step, next: &Step) -> bool {
    (s.to_mode, next.from_mode) == (Some(Mode::Read), Some(Mode::Read))
}

/// Reason for a cycle's rank, and why it is not worse.
fn rank(f: &Finding, c: &Cycle) -> String {
    let because = match f.rank {
        Rank::Confirmed => "each side was seen waiting for a lock that the next side holds",
        Rank::Feasible => {
            "each side can block, the sides are different tasks, and no lock that both hold keeps them apart; not confirmed, because they \
             were not all seen waiting at the same time"
        }
        Rank::Possible => {
            "it depends on the exact time at which a folio was locked, or on a search that ended at its bound"
        }
        Rank::Guarded => "without the gate its rank would be worse",
        Rank::Incomplete => "lost records could have decided it",
        _ if f.doubts.iter().any(keeps_down) => {
            "the lock classes form a cycle; not feasible, for the reasons below"
        }
        _ if !c.recordings.is_empty() => {
            "the lock classes form a cycle; locks of different recordings cannot be compared"
        }
        _ => "the lock classes form a cycle; no locks of these classes were seen to form one",
    };
    format!("{}: {because}", f.rank.name())
}

/// Returns true if this doubt is why a cycle is only `class-only`.
fn keeps_down(d: &Doubt) -> bool {
    matches!(
        d,
        Doubt::QueuedWriter { writer_seen: false, .. }
            | Doubt::FewTasks
            | Doubt::NotTogether
            | Doubt::Unreachable
            | Doubt::SearchCut
            | Doubt::Moment(_)
            | Doubt::Merged
            | Doubt::Bound(_)
    )
}

#[derive(Serialize)]
pub(crate) struct Wire {
    steps: Vec<parts::Step>,
    gate: Option<Lock>,
    queued: Vec<Queued>,
    recordings: Vec<usize>,
}

#[derive(Serialize)]
struct Lock {
    class: &'static str,
    lock: String,
}

/// A writer between two readers.
#[derive(Serialize)]
struct Queued {
    step: usize,
    waiting: bool,
    side: Side,
}

fn queued(q: &EngineQueued, stacks: &Stacks) -> Queued {
    Queued { step: q.step, waiting: q.waiting, side: parts::side(&q.party, stacks) }
}

#[cfg(test)]
pub(super) mod tests {
    use observer_engine::finding::Evidence;

    use super::*;
    use crate::sink::finding::{
        summary,
        tests::{finding, side, step, text},
    };

    pub fn sample() -> Evidence {
        Evidence::Cycle(Cycle {
            steps: vec![step(Some(Mode::Write)), step(None)],
            gate: Some((LockClass::Inode, 3)),
            queued: vec![EngineQueued { step: 0, party: side(), waiting: true }],
            recordings: vec![0, 1],
        })
    }

    #[test]
    fn the_headline_shows_the_chain_and_the_detail_names_each_party_and_the_gate() {
        let f = finding(Rank::Guarded, sample());
        assert_eq!(summary(&f), "fault_mutex -> fault_mutex -> fault_mutex");
        let text = text(&f);
        for row in ["side 1", "side 2", "writer", "gate", "rank"] {
            assert!(text.lines().any(|line| line.starts_with(row)), "{row}: {text}");
        }
    }
}
