//! Parts that the JSON of several things is made of: parties, holds, steps and links, with their modes and addresses.

use observer_engine::{
    event::{Addr, Mm, Mode},
    finding::{Hold as EngineHold, Party as EngineParty, Step as EngineStep},
};
use serde::Serialize;

use crate::report::stacks::Stacks;

/// A party as it is written.
#[derive(Serialize)]
pub struct Side {
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

/// A held lock.
#[derive(Serialize)]
pub struct Hold {
    class: &'static str,
    lock: String,
    mode: Option<&'static str>,
    basis: &'static str,
    since_ns: u64,
    lossy: bool,
}

/// An upper-level entry: its mm and GiB.
#[derive(Serialize)]
pub struct Link {
    mm: String,
    gib: String,
}

/// A step as it is written.
#[derive(Serialize)]
pub struct Step {
    from: &'static str,
    from_mode: Option<&'static str>,
    from_lock: String,
    from_basis: &'static str,
    to: &'static str,
    to_mode: Option<&'static str>,
    to_lock: String,
    acquire: &'static str,
    sure: bool,
    waiting: bool,
    count: u64,
    side: Side,
}

impl Link {
    pub fn new(mm: Mm, gib: Addr) -> Link {
        Link { mm: mm.to_string(), gib: gib.to_string() }
    }
}

pub fn side(s: &EngineParty, stacks: &Stacks) -> Side {
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

pub fn hold(h: &EngineHold) -> Hold {
    Hold {
        class: h.class.name(),
        lock: address(h.lock),
        mode: mode(h.mode),
        basis: h.basis.name(),
        since_ns: h.since_ns,
        lossy: h.lossy,
    }
}

/// Converts a step of a cycle or an edge.
pub fn step(s: &EngineStep, stacks: &Stacks) -> Step {
    Step {
        from: s.from.name(),
        from_mode: mode(s.from_mode),
        from_lock: address(s.from_lock),
        from_basis: s.from_basis.name(),
        to: s.to.name(),
        to_mode: mode(s.to_mode),
        to_lock: address(s.to_lock),
        acquire: s.acquire.name(),
        sure: s.sure,
        waiting: s.waiting,
        count: s.count,
        side: side(&s.party, stacks),
    }
}

/// Name of a mode; `null` if the kernel does not report it.
pub fn mode(m: Option<Mode>) -> Option<&'static str> {
    m.map(Mode::name)
}

pub fn address(a: u64) -> String {
    format!("{a:#x}")
}
