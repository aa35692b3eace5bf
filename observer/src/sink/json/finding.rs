//! Findings in the report for programs.
//!
//! Decides the wire types of evidence, one for each kind; see [`super`] for times and addresses.

use observer_engine::{
    event::Mode,
    finding::{
        Cycle, Ended, Evidence, Finding, Hold as EngineHold, LastHolder as EngineLastHolder,
        OrphanWait as EngineOrphanWait, Prediction as EnginePrediction, Queued as EngineQueued,
        Side as EngineSide, Step as EngineStep, Use, WindowCase,
    },
    lock_class::LockClass,
    view::TableEvent,
};
use serde::Serialize;

use crate::{report::stacks::Stacks, sink::words};

/// One finding of the report.
#[derive(Serialize)]
pub struct Wire {
    id: String,
    rank: &'static str,
    kind: &'static str,
    alarm: bool,
    count: u64,
    first_ns: u64,
    last_ns: u64,
    /// One line for people.
    summary: String,
    /// Doubts that could make the finding false, for people.
    doubts: Vec<String>,
    evidence: Wired,
}

/// Evidence by kind; the finding has the name of the kind.
#[derive(Serialize)]
#[serde(untagged)]
enum Wired {
    Window { first: Box<Case>, longest: Box<Case> },
    Prediction(Box<Prediction>),
    Cycle { steps: Vec<Step>, gate: Option<Lock>, queued: Vec<Queued>, recordings: Vec<usize> },
    AgainstOrder { step: Box<Step>, source: String },
    Relock { held: Hold, asked_mode: Option<&'static str>, side: Side },
    FreedShared { side: Side, table: String, generation: u32, mm: String, count: u32, links: Vec<Link> },
    OrphanWait(Box<OrphanWait>),
}

#[derive(Serialize)]
struct Case {
    holder: Side,
    unlinker: Side,
    mm: String,
    addr: String,
    pte: String,
    table: String,
    generation: u32,
    table_birth_ns: u64,
    unlink_lo_ns: u64,
    unlink_hi_ns: u64,
    certain_ns: u64,
    possible_ns: u64,
    /// One of `no`, `contract` or `seen`.
    used: &'static str,
    used_ns: Option<u64>,
    at_use: Option<Side>,
    freed_ns: Option<u64>,
    history: Vec<Happened>,
}

/// A step in the history of a table.
#[derive(Serialize)]
struct Happened {
    time_ns: u64,
    generation: u32,
    /// One of `born`, `shared`, `seen`, `unshared` or `freed`.
    what: &'static str,
    mm: String,
    gib: String,
    tid: u32,
}

#[derive(Serialize)]
struct Prediction {
    holder: Side,
    unlinker: Side,
    mm: String,
    gib: String,
    table: String,
    generation: u32,
    leases: u64,
    unlinks: u64,
    would_exclude: Vec<&'static str>,
    unlinker_lacks: Vec<&'static str>,
}

#[derive(Serialize)]
struct OrphanWait {
    class: &'static str,
    mode: Option<&'static str>,
    lock: Option<String>,
    mapping: Option<String>,
    index: Option<u64>,
    side: Side,
    reported: bool,
    waiters: u64,
    last_holder: Option<LastHolder>,
}

#[derive(Serialize)]
struct LastHolder {
    tid: u32,
    tgid: u32,
    comm: String,
    cpu: u16,
    site: Option<String>,
    known: &'static str,
    acquired_ns: Option<u64>,
    released_ns: Option<u64>,
    exited_ns: Option<u64>,
}

#[derive(Serialize)]
struct Side {
    tid: u32,
    tgid: u32,
    comm: String,
    cpu: u16,
    site: String,
    time_ns: u64,
    holds: Vec<Hold>,
    /// Frames as `function+0xoff`, innermost first.
    stack: Vec<String>,
}

#[derive(Serialize)]
struct Hold {
    class: &'static str,
    lock: String,
    mode: Option<&'static str>,
    known: &'static str,
    since_ns: u64,
    lossy: bool,
}

#[derive(Serialize)]
struct Lock {
    class: &'static str,
    lock: String,
}

#[derive(Serialize)]
struct Link {
    mm: String,
    gib: String,
}

/// A writer between two readers.
#[derive(Serialize)]
struct Queued {
    step: usize,
    waiting: bool,
    side: Side,
}

/// A step as it is written.
#[derive(Serialize)]
pub struct Step {
    from: &'static str,
    from_mode: Option<&'static str>,
    from_lock: String,
    from_known: &'static str,
    to: &'static str,
    to_mode: Option<&'static str>,
    to_lock: String,
    manner: &'static str,
    sure: bool,
    waiting: bool,
    count: u64,
    side: Side,
}

/// Converts a finding. `all`: the stacks of its run, or of each run that its steps may be from.
#[must_use]
pub fn wire(f: &Finding, all: &[&Stacks]) -> Wire {
    Wire {
        id: f.id.clone(),
        rank: f.rank.name(),
        kind: f.kind().name(),
        alarm: f.rank.is_alarm(),
        count: f.count,
        first_ns: f.first_ns,
        last_ns: f.last_ns,
        summary: words::summary(f),
        doubts: f.doubts.iter().map(words::doubt).collect(),
        evidence: evidence(&f.evidence, all),
    }
}

fn evidence(e: &Evidence, all: &[&Stacks]) -> Wired {
    let none = Stacks::default();
    let stacks = all.first().copied().unwrap_or(&none);
    match e {
        Evidence::Window(w) => Wired::Window {
            first: Box::new(case(&w.first, stacks)),
            longest: Box::new(case(&w.longest, stacks)),
        },
        Evidence::Prediction(p) => Wired::Prediction(Box::new(prediction(p, stacks))),
        Evidence::Cycle(c) => Wired::Cycle {
            steps: (0..).zip(&c.steps).map(|(at, s)| step(s, of_run(c, at, all).unwrap_or(stacks))).collect(),
            gate: c.gate.map(|(class, lock)| Lock { class: class.name(), lock: address(lock) }),
            queued: c.queued.iter().map(|q| queued(q, stacks)).collect(),
            recordings: c.recordings.clone(),
        },
        Evidence::AgainstOrder(a) => {
            Wired::AgainstOrder { step: Box::new(step(&a.step, stacks)), source: a.source.clone() }
        }
        Evidence::Relock(r) => {
            Wired::Relock { held: hold(&r.held), asked_mode: mode(r.asked_mode), side: side(&r.side, stacks) }
        }
        Evidence::FreedShared(f) => Wired::FreedShared {
            side: side(&f.side, stacks),
            table: f.table.to_string(),
            generation: f.generation,
            mm: f.mm.to_string(),
            count: f.count,
            links: f
                .links
                .iter()
                .map(|(mm, gib)| Link { mm: mm.to_string(), gib: gib.to_string() })
                .collect(),
        },
        Evidence::OrphanWait(o) => Wired::OrphanWait(Box::new(orphan_wait(o, stacks))),
    }
}

fn orphan_wait(o: &EngineOrphanWait, stacks: &Stacks) -> OrphanWait {
    OrphanWait {
        class: o.class.name(),
        mode: mode(o.mode),
        lock: o.lock.map(address),
        mapping: o.place.map(|(mapping, _)| mapping.to_string()),
        index: o.place.map(|(_, index)| index),
        side: side(&o.side, stacks),
        reported: o.reported,
        waiters: o.waiters,
        last_holder: o.last.as_ref().map(last_holder),
    }
}

fn last_holder(last: &EngineLastHolder) -> LastHolder {
    let (released_ns, exited_ns) = match last.ended {
        Ended::Released(ns) => (Some(ns), None),
        Ended::Exited(ns) => (None, Some(ns)),
    };
    LastHolder {
        tid: last.task.tid.0,
        tgid: last.task.tgid,
        comm: last.task.comm.clone(),
        cpu: last.task.cpu,
        site: last.site.as_ref().map(|site| site.to_string()),
        known: last.known.name(),
        acquired_ns: last.acquired_ns,
        released_ns,
        exited_ns,
    }
}

/// Stacks of the recording that a step is from.
fn of_run<'a>(c: &Cycle, at: usize, all: &[&'a Stacks]) -> Option<&'a Stacks> {
    all.get(*c.recordings.get(at)?).copied()
}

fn case(c: &WindowCase, stacks: &Stacks) -> Case {
    let (used, used_ns) = match c.used {
        Use::No => ("no", None),
        Use::Contract => ("contract", None),
        Use::Seen(ns) => ("seen", Some(ns)),
    };
    Case {
        holder: side(&c.holder, stacks),
        unlinker: side(&c.unlinker, stacks),
        mm: c.mm.to_string(),
        addr: c.addr.to_string(),
        pte: c.pte.to_string(),
        table: c.table.to_string(),
        generation: c.generation,
        table_birth_ns: c.table_birth_ns,
        unlink_lo_ns: c.unlink_lo_ns,
        unlink_hi_ns: c.unlink_hi_ns,
        certain_ns: c.certain_ns,
        possible_ns: c.possible_ns,
        used,
        used_ns,
        at_use: c.at_use.as_deref().map(|s| side(s, stacks)),
        freed_ns: c.freed_ns,
        history: c.history.iter().map(happened).collect(),
    }
}

fn happened(e: &TableEvent) -> Happened {
    Happened {
        time_ns: e.time_ns,
        generation: e.generation,
        what: e.what.name(),
        mm: e.mm.to_string(),
        gib: e.gib.to_string(),
        tid: e.tid.0,
    }
}

fn prediction(p: &EnginePrediction, stacks: &Stacks) -> Prediction {
    Prediction {
        holder: side(&p.holder, stacks),
        unlinker: side(&p.unlinker, stacks),
        mm: p.mm.to_string(),
        gib: p.gib.to_string(),
        table: p.table.to_string(),
        generation: p.generation,
        leases: p.leases,
        unlinks: p.unlinks,
        would_exclude: p.would_exclude.iter().copied().map(LockClass::name).collect(),
        unlinker_lacks: p.unlinker_lacks.iter().copied().map(LockClass::name).collect(),
    }
}

fn side(s: &EngineSide, stacks: &Stacks) -> Side {
    Side {
        tid: s.task.tid.0,
        tgid: s.task.tgid,
        comm: s.task.comm.clone(),
        cpu: s.task.cpu,
        site: s.site.to_string(),
        time_ns: s.time_ns,
        holds: s.holds.iter().map(hold).collect(),
        stack: stacks.symbolised(s.stack),
    }
}

fn hold(h: &EngineHold) -> Hold {
    Hold {
        class: h.class.name(),
        lock: address(h.lock),
        mode: mode(h.mode),
        known: h.known.name(),
        since_ns: h.since_ns,
        lossy: h.lossy,
    }
}

fn queued(q: &EngineQueued, stacks: &Stacks) -> Queued {
    Queued { step: q.step, waiting: q.waiting, side: side(&q.side, stacks) }
}

/// Converts a step of a cycle or an edge.
#[must_use]
pub fn step(s: &EngineStep, stacks: &Stacks) -> Step {
    Step {
        from: s.from.name(),
        from_mode: mode(s.from_mode),
        from_lock: address(s.from_lock),
        from_known: s.from_known.name(),
        to: s.to.name(),
        to_mode: mode(s.to_mode),
        to_lock: address(s.to_lock),
        manner: s.manner.name(),
        sure: s.sure,
        waiting: s.waiting,
        count: s.count,
        side: side(&s.side, stacks),
    }
}

/// Name of a mode; `null` if the kernel does not report it.
#[must_use]
pub fn mode(m: Option<Mode>) -> Option<&'static str> {
    m.map(Mode::name)
}

fn address(a: u64) -> String {
    format!("{a:#x}")
}
