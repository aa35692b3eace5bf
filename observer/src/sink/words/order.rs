//! The words for lock order: cycles, relocks, edges, and the verdicts of the kernel's documents.
//!
//! Decides how a deadlock reads: in the style of lockdep, which its readers know. First each party, with the lock it
//! requested and the locks it held; then the scenario; then the reason for its rank.

mod scenario;

use observer_engine::{
    event::Mode,
    finding::{AgainstOrder, Cycle, Doubt, Finding, Manner, Queued, Rank, Relock, Step},
    view::{EdgeView, Verdict},
};

use super::{known, lock, moment, number, paragraph, plural, row, stack, task, times};
use crate::report::stacks::Stacks;

/// Context of the run that a party is from.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub stacks: &'a Stacks,
    pub start_ns: u64,
    /// Name of the run, where there are several.
    pub name: Option<&'a str>,
}

/// Summary of a cycle in one line.
#[must_use]
pub fn cycle_summary(c: &Cycle) -> String {
    let mut text: Vec<String> = c.steps.iter().map(held).collect();
    if let Some(first) = c.steps.first() {
        text.push(first.from.name().to_owned());
    }
    text.join(" -> ")
}

/// Summary of a documented-order violation in one line.
pub fn against_summary(a: &AgainstOrder) -> String {
    format!("{} requested while {} is held, in {}", asked(&a.step), held(&a.step), a.step.side.site)
}

/// Summary of a relock in one line.
pub fn relock_summary(r: &Relock) -> String {
    let (asked, held) = (lock(r.held.class, r.asked_mode), lock(r.held.class, r.held.mode));
    format!("{asked} requested by the task that holds it as {held}, in {}", r.side.site)
}

/// Describes a cycle: each party, the scenario, and the reason for its rank. `runs`: its run, or all runs of merged
/// recordings.
pub fn cycle(out: &mut Vec<String>, f: &Finding, c: &Cycle, runs: &[Run<'_>]) {
    let n = c.steps.len();
    for (at, step) in c.steps.iter().enumerate() {
        let of = c.recordings.get(at).copied().unwrap_or(0);
        let Some(run) = runs.get(of).or(runs.first()) else { continue };
        let next = Some((&c.steps[(at + 1) % n], (at + 1) % n));
        side(out, &format!("side {}", at + 1), step, run);
        asks(out, step, next.filter(|_| c.recordings.is_empty()));
        let before = (at + n - 1) % n;
        let same = c.recordings.is_empty() && c.steps[before].to_lock == step.from_lock;
        let wanted = if same { "which" } else { "such as" };
        holds(out, step, &format!(", {wanted} side {} requests", before + 1));
        stack::rows(out, &step.side, run.stacks);
    }
    for q in &c.queued {
        writer(out, q, &c.steps[q.step], runs);
    }
    scenario::of_cycle(out, c, f.rank);
    if let Some((class, address)) = c.gate {
        let which = if c.recordings.is_empty() { format!(" {address:#x}") } else { String::new() };
        let gate = format!("two sides hold {}{which}, which lets in only one of them", class.name());
        paragraph(out, "gate", &gate);
    }
    paragraph(out, "rank", &cycle_rank(f, c));
}

/// Describes an edge against a documented order.
pub fn against(out: &mut Vec<String>, f: &Finding, a: &AgainstOrder, run: Run<'_>) {
    side(out, "side", &a.step, &run);
    // The finding has the count; the step also counts requests at other sites.
    asks(out, &Step { count: 1, ..a.step.clone() }, None);
    holds(out, &a.step, "");
    stack::rows(out, &a.step.side, run.stacks);
    let (outer, inner) = (a.step.to.name(), a.step.from.name());
    paragraph(out, "order", &format!("{outer} comes before {inner}, as documented in {}", a.source));
    let rank = match f.rank {
        Rank::Incomplete => "incomplete: records were lost around every one of them",
        Rank::Possible => "possible: when the first was locked is not known to the moment",
        _ => "against-order: the order alone; a cycle that this closes is reported separately",
    };
    paragraph(out, "rank", rank);
}

/// Describes a task that requests a lock it holds.
pub fn relock(out: &mut Vec<String>, f: &Finding, r: &Relock, run: Run<'_>) {
    let (s, at) = (&r.side, moment(r.side.time_ns, run.start_ns));
    let who = format!("{} on cpu {} in {}, at {at}", task(&s.task), s.task.cpu, s.site);
    paragraph(out, "side", &who);
    let again = format!("requested {} {:#x}", lock(r.held.class, r.asked_mode), r.held.lock);
    paragraph(out, "", &format!("{again}, which it has"));
    super::holding(out, &s.holds);
    stack::rows(out, s, run.stacks);
    scenario::of_relock(out, r);
    let rank = match f.rank {
        Rank::Incomplete => "incomplete: its release may be among what was lost",
        Rank::Confirmed => "confirmed: it was seen waiting for what it has itself",
        _ => "feasible: it did not hang, and nothing prevents a hang",
    };
    paragraph(out, "rank", rank);
}

fn side(out: &mut Vec<String>, name: &str, s: &Step, run: &Run<'_>) {
    let t = &s.side.task;
    let of = run.name.map_or(String::new(), |name| format!(", in {name}"));
    let at = moment(s.side.time_ns, run.start_ns);
    paragraph(out, name, &format!("{} on cpu {} in {}, at {at}{of}", task(t), t.cpu, s.side.site));
}

/// Describes a writer that queues between two readers: behind it, the requesting reader waits for the holding one.
fn writer(out: &mut Vec<String>, q: &Queued, behind: &Step, runs: &[Run<'_>]) {
    let Some(run) = runs.first() else { return };
    let (t, at) = (&q.side.task, moment(q.side.time_ns, run.start_ns));
    paragraph(out, "writer", &format!("{} on cpu {} in {}, at {at}", task(t), t.cpu, q.side.site));
    let asks = if q.waiting { "waits for" } else { "requested" };
    let what = format!("{} {:#x}", lock(behind.to, Some(Mode::Write)), behind.to_lock);
    paragraph(out, "", &format!("{asks} {what}; side {} requests it behind this", q.step + 1));
    for h in q.side.holds.iter().filter(|h| h.lock != behind.to_lock) {
        super::hold(out, h);
    }
    stack::rows(out, &q.side, run.stacks);
}

/// Describes the request of a party. `next`: the party that holds such a lock.
fn asks(out: &mut Vec<String>, s: &Step, next: Option<(&Step, usize)>) {
    let what = format!("{} {:#x}", asked(s), s.to_lock);
    let how = match (s.waiting, s.manner) {
        (true, _) => format!("waits for {what}"),
        (false, Manner::Asked) => format!("requested {what}"),
        (false, Manner::TryThenBlock) => {
            format!("acquired {what} by a trylock that would have blocked if it failed")
        }
        (false, Manner::Tried) => format!("acquired {what} by trylock, which cannot wait"),
    };
    let other = match next {
        Some((next, at)) if next.from_lock != s.to_lock => {
            format!(", not the one that side {} has", at + 1)
        }
        _ => String::new(),
    };
    let often = if s.count == 1 { String::new() } else { format!("; seen {} times", number(s.count)) };
    paragraph(out, "", &format!("{how}{other}{often}"));
}

/// Describes the locks that a party held. `wanted`: note about the party that requests the first of them.
fn holds(out: &mut Vec<String>, s: &Step, wanted: &str) {
    let sure = if s.sure { "" } else { "; perhaps only after it asked" };
    let from = format!("{} {:#x} ({}{sure}){wanted}", held(s), s.from_lock, known(s.from_known));
    paragraph(out, "", &format!("holding {from}"));
    for h in s.side.holds.iter().filter(|h| h.lock != s.from_lock && h.lock != s.to_lock) {
        super::hold(out, h);
    }
}

fn held(s: &Step) -> String {
    lock(s.from, s.from_mode)
}

fn asked(s: &Step) -> String {
    lock(s.to, s.to_mode)
}

/// Returns true if the step blocks only behind a queued writer: a reader requests a lock held by a reader.
fn needs_writer(s: &Step, next: &Step) -> bool {
    (s.to_mode, next.from_mode) == (Some(Mode::Read), Some(Mode::Read))
}

/// Reason for a cycle's rank, and why it is not worse.
fn cycle_rank(f: &Finding, c: &Cycle) -> String {
    let because = match f.rank {
        Rank::Confirmed => "each side was seen waiting for what the next one has",
        Rank::Feasible => {
            "each side can block and is a task of its own, no common lock excludes them; not confirmed, since not all of \
             them were seen waiting at once"
        }
        Rank::Possible => "it rests on when exactly a folio was locked, or on more than could be tried",
        Rank::Guarded => "it would be worse, were it not for the gate",
        Rank::Incomplete => "records that could have decided it were lost",
        _ if f.doubts.iter().any(keeps_down) => "the classes close; not feasible, for what follows",
        _ if !c.recordings.is_empty() => "the classes close; of the locks nothing is known",
        _ => "the classes close; no locks of them were seen to",
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

/// Note about how the second lock of an edge was requested; empty if the request can block.
#[must_use]
pub fn manner(m: Manner) -> &'static str {
    match m {
        Manner::Asked => "",
        Manner::TryThenBlock => "try, then blocks",
        Manner::Tried => "try",
    }
}

/// Worst verdict of the documents on an edge, in one word.
#[must_use]
pub fn verdict(e: &EdgeView) -> &'static str {
    match e.documented.iter().map(|d| d.verdict).max() {
        Some(Verdict::Against) if e.manner.can_block() && e.sure => "AGAINST",
        Some(Verdict::Against) if e.manner.can_block() => "perhaps",
        Some(Verdict::Exception) if e.manner.can_block() => "exception",
        Some(Verdict::Agrees) => "agrees",
        _ => "",
    }
}

/// Verdicts on an edge, one line for each documented order that names both of its classes; the worst first.
#[must_use]
pub fn documented(e: &EdgeView) -> Vec<String> {
    if !e.manner.can_block() {
        return vec!["only tried: cannot wait".into()];
    }
    if e.documented.is_empty() {
        return vec!["not documented".into()];
    }
    let mut rows: Vec<_> = e.documented.iter().collect();
    rows.sort_by_key(|d| std::cmp::Reverse(d.verdict));
    let say = |d: &&observer_engine::view::Documented| match d.verdict {
        Verdict::Agrees => format!("as documented ({})", d.source),
        Verdict::Exception => format!("exception: {} ({})", d.reason, d.source),
        Verdict::Against if e.sure => format!("AGAINST {}", d.source),
        Verdict::Against => format!("perhaps against {}", d.source),
    };
    rows.iter().map(say).collect()
}

/// Evidence of an edge.
#[must_use]
pub fn edge_detail(e: &EdgeView, start_ns: u64) -> Vec<String> {
    let (w, at) = (&e.witness, moment(e.witness.side.time_ns, start_ns));
    let mut out = Vec::new();
    let who = format!("{} on cpu {} in {}, at {at}", task(&w.side.task), w.side.task.cpu, w.side.site);
    paragraph(&mut out, "first", &who);
    asks(&mut out, &Step { count: 1, ..w.clone() }, None);
    holds(&mut out, w, "");
    out.push(row("seen", &format!("{}, on {}", times(e.count), plural(e.instances as u64, "lock pair"))));
    if !e.gates.is_empty() {
        let gates: Vec<&str> = e.gates.iter().map(|class| class.name()).collect();
        paragraph(&mut out, "gates", &format!("also held every time: {}", gates.join(", ")));
    }
    for line in documented(e) {
        paragraph(&mut out, "order", &line);
    }
    if e.lossy {
        out.push(row("but", "records were lost around every one of them"));
    }
    if !e.sure {
        out.push(row("but", "never seen for certain: the first may have been taken after the second"));
    }
    out
}
