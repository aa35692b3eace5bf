//! The words for a step of lock order: its party, the lock that it requested, and the locks that it held.

use observer_engine::finding::{AcquireKind, Step};

use super::{hold, known, lock, task};
use crate::{
    sink::finding::Run,
    text::{moment, number, paragraph},
};

/// Describes a party: its task, site and time.
pub fn party(out: &mut Vec<String>, name: &str, s: &Step, run: &Run<'_>) {
    let t = &s.party.task;
    let of = run.name.map_or(String::new(), |name| format!(", in {name}"));
    let at = moment(s.party.time_ns, run.start_ns);
    paragraph(out, name, &format!("{} on cpu {} in {}, at {at}{of}", task(t), t.cpu, s.party.site));
}

/// Describes the request of a party. `next`: the party that holds such a lock.
pub fn request(out: &mut Vec<String>, s: &Step, next: Option<(&Step, usize)>) {
    let what = format!("{} {:#x}", requested(s), s.to_lock);
    let how = match (s.waiting, s.acquire) {
        (true, _) => format!("waits for {what}"),
        (false, AcquireKind::Blocking) => format!("requested {what}"),
        (false, AcquireKind::TryThenBlock) => {
            format!("acquired {what} by a trylock that would have blocked if it failed")
        }
        (false, AcquireKind::Try) => format!("acquired {what} by trylock, which cannot wait"),
    };
    let other = match next {
        Some((next, at)) if next.from_lock != s.to_lock => {
            format!(", not the one that side {} holds", at + 1)
        }
        _ => String::new(),
    };
    let often = if s.count == 1 {
        String::new()
    } else {
        format!("; this request was seen {} times", number(s.count))
    };
    paragraph(out, "", &format!("{how}{other}{often}"));
}

/// Describes the locks that a party held. `wanted`: note about the party that requests the first of them.
pub fn holds(out: &mut Vec<String>, s: &Step, wanted: &str) {
    let sure = if s.sure { "" } else { "; perhaps acquired only after the request" };
    let from = format!("{} {:#x} ({}{sure}){wanted}", held(s), s.from_lock, known(s.from_basis));
    paragraph(out, "", &format!("holding {from}"));
    for h in s.party.holds.iter().filter(|h| h.lock != s.from_lock && h.lock != s.to_lock) {
        hold(out, h);
    }
}

/// The lock that was held, with its mode.
pub fn held(s: &Step) -> String {
    lock(s.from, s.from_mode)
}

/// The requested lock, with its mode.
pub fn requested(s: &Step) -> String {
    lock(s.to, s.to_mode)
}
