//! Words that several findings and views share: tasks, locks, holds, stacks, doubts, lock order and histories.
//!
//! Decides how a party and a lock read. Addresses are as the kernel prints them. `sink::finding` has the words of each kind.

pub mod diff;
mod doubt;
pub(crate) mod history;
mod ledger;
pub mod order;
pub mod protection;
pub(crate) mod scenario;
pub(crate) mod stack;
pub(crate) mod step;

use observer_engine::{
    event::Mode,
    finding::{Hold, HoldBasis, Party, TaskRef},
    lock_class::LockClass,
};

pub use self::{
    doubt::doubt,
    history::of_table as table_history,
    ledger::{per_second, seconds, unsharer},
    order::edge_detail,
};
pub use super::finding::{detail, detail_of_several, seen, summary};
use crate::text::row;

/// Name of a lock and its mode: `i_mmap_rwsem(write)`; no mode if the lock has only one.
#[must_use]
pub fn lock(class: LockClass, mode: Option<Mode>) -> String {
    match mode {
        Some(Mode::Exclusive) => class.name().to_owned(),
        Some(mode) => format!("{}({})", class.name(), mode.name()),
        None => format!("{}(?)", class.name()),
    }
}

pub(crate) fn task(t: &TaskRef) -> String {
    let comm = if t.comm.is_empty() { "?" } else { &t.comm };
    match t.tgid {
        0 => format!("task {} ({comm})", t.tid.0),
        tgid => format!("task {} ({comm}, process {tgid})", t.tid.0),
    }
}

pub(crate) fn side(out: &mut Vec<String>, name: &str, s: &Party, what: &str) {
    out.push(row(name, &format!("{} on cpu {} in {}, {what}", task(&s.task), s.task.cpu, s.site)));
}

pub(crate) fn holding(out: &mut Vec<String>, holds: &[Hold]) {
    if holds.is_empty() {
        out.push(row("", "holding no watched lock"));
    }
    for h in holds {
        hold(out, h);
    }
}

pub(crate) fn hold(out: &mut Vec<String>, h: &Hold) {
    let doubt = if h.lossy { "; the record of its release may be lost" } else { "" };
    let what = format!("holding {} {:#x} ({}{doubt})", lock(h.class, h.mode), h.lock, known(h.basis));
    out.push(row("", &what));
}

/// Hold basis in words: how a hold is known.
pub(crate) fn known(k: HoldBasis) -> &'static str {
    match k {
        HoldBasis::Requested => "its request was seen",
        HoldBasis::Requesting => "its request was seen, perhaps not acquired yet",
        HoldBasis::Try => "by trylock",
        HoldBasis::ReturnedLocked => "returned locked by a page-cache lookup",
        HoldBasis::Contract => "inferred: the function's contract is a locked folio",
        HoldBasis::SlowPath => "after waiting",
        HoldBasis::InferredFromRelease => "inferred: only its release was seen",
    }
}
