//! The words for findings, used by the report, the lines and the dashboard alike.
//!
//! Decides how evidence reads. Times are given since the start of the run; addresses as the kernel prints them.

pub mod diff;
mod history;
mod ledger;
pub mod order;
mod orphan;
pub(crate) mod prediction;
pub mod protection;
mod stack;

use observer_engine::{
    event::Mode,
    finding::{Doubt, Evidence, Finding, FreedShared, Hold, Known, Side, TaskRef, Use, WindowCase},
    lock_class::LockClass,
};

pub use self::{
    history::of_table as table_history,
    ledger::{per_second, seconds, unsharer},
    order::edge_detail,
};
use crate::report::stacks::Stacks;

/// A time span with a fitting unit.
#[must_use]
pub fn span(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{}.{:03} us", ns / 1_000, ns % 1_000),
        1_000_000..1_000_000_000 => format!("{}.{:03} ms", ns / 1_000_000, ns / 1_000 % 1_000),
        _ => format!("{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1_000),
    }
}

/// Event time as time since the start of the run.
#[must_use]
pub fn moment(ns: u64, start_ns: u64) -> String {
    let since = ns.saturating_sub(start_ns);
    format!("+{}.{:06} s", since / 1_000_000_000, since / 1_000 % 1_000_000)
}

/// A number with thousands separators.
#[must_use]
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

/// Number and noun: `1 finding`, `2 findings`.
#[must_use]
pub fn plural(n: u64, one: &str) -> String {
    format!("{} {one}{}", number(n), if n == 1 { "" } else { "s" })
}

/// Name of a lock and its mode: `i_mmap_rwsem(write)`; no mode if the lock has only one.
#[must_use]
pub fn lock(class: LockClass, mode: Option<Mode>) -> String {
    match mode {
        Some(Mode::Exclusive) => class.name().to_owned(),
        Some(mode) => format!("{}({})", class.name(), mode.name()),
        None => format!("{}(?)", class.name()),
    }
}

/// Summary of a finding in one line.
#[must_use]
pub fn summary(finding: &Finding) -> String {
    match &finding.evidence {
        Evidence::Window(w) => {
            let c = &w.longest;
            let part = if c.certain_ns > 0 {
                format!("for {}", span(c.certain_ns))
            } else {
                format!("for up to {}", span(c.possible_ns))
            };
            let (holder, unlinker) = (&c.holder.site, &c.unlinker.site);
            format!("{holder} held a pte pointer whose table {unlinker} unlinked, {part}")
        }
        Evidence::Prediction(p) => prediction::summary(p),
        Evidence::Cycle(c) => order::cycle_summary(c),
        Evidence::AgainstOrder(a) => order::against_summary(a),
        Evidence::Relock(r) => order::relock_summary(r),
        Evidence::FreedShared(f) => {
            format!(
                "{} gave a table's page back that others still use, in {}",
                task(&f.side.task),
                f.side.site
            )
        }
        Evidence::OrphanWait(o) => orphan::summary(finding, o),
    }
}

/// Evidence of a finding: the parties, what happened between them, and the doubts.
#[must_use]
pub fn detail(finding: &Finding, stacks: &Stacks, start_ns: u64) -> Vec<String> {
    let mut out = Vec::new();
    let run = order::Run { stacks, start_ns, name: None };
    match &finding.evidence {
        Evidence::Window(w) => {
            window(&mut out, &w.first, None, stacks, start_ns);
            if w.longest != w.first {
                out.push("the one that was certain for longest".into());
                window(&mut out, &w.longest, Some(&w.first), stacks, start_ns);
            }
        }
        Evidence::Prediction(p) => prediction::detail(&mut out, finding, p, stacks, start_ns),
        Evidence::Cycle(c) => order::cycle(&mut out, finding, c, &[run]),
        Evidence::AgainstOrder(a) => order::against(&mut out, finding, a, run),
        Evidence::Relock(r) => order::relock(&mut out, finding, r, run),
        Evidence::FreedShared(f) => freed_shared(&mut out, f, stacks, start_ns),
        Evidence::OrphanWait(o) => orphan::detail(&mut out, finding, o, stacks, start_ns),
    }
    doubts(&mut out, finding);
    out
}

/// Evidence of a cycle whose steps are from several runs.
#[must_use]
pub fn detail_of_several(finding: &Finding, runs: &[order::Run<'_>]) -> Vec<String> {
    let mut out = Vec::new();
    if let Evidence::Cycle(c) = &finding.evidence {
        order::cycle(&mut out, finding, c, runs);
    }
    doubts(&mut out, finding);
    out
}

/// Doubts that could make the finding false.
fn doubts(out: &mut Vec<String>, finding: &Finding) {
    for d in &finding.doubts {
        paragraph(out, "but", &doubt(d));
    }
}

/// Number of times: `once`, `2 times`.
#[must_use]
pub fn times(n: u64) -> String {
    if n == 1 { "once".into() } else { format!("{} times", number(n)) }
}

fn row(name: &str, text: &str) -> String {
    format!("{name:<9} {text}")
}

/// Columns of text beside the name of a row.
const TEXT: usize = 85;

/// Adds rows for a text of any length; the first row has the name.
fn paragraph(out: &mut Vec<String>, name: &str, text: &str) {
    let (mut name, mut line) = (name, String::new());
    for word in text.split(' ') {
        if !line.is_empty() && line.len() + 1 + word.len() > TEXT {
            out.push(row(name, &line));
            (name, line) = ("", "  ".to_owned());
        } else if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push(row(name, &line));
}

fn task(t: &TaskRef) -> String {
    let comm = if t.comm.is_empty() { "?" } else { &t.comm };
    match t.tgid {
        0 => format!("task {} ({comm})", t.tid.0),
        tgid => format!("task {} ({comm}, process {tgid})", t.tid.0),
    }
}

/// Adds one case. Stacks that are the same as in the case `told` are left out.
fn window(out: &mut Vec<String>, c: &WindowCase, told: Option<&WindowCase>, stacks: &Stacks, start_ns: u64) {
    let at = |ns| moment(ns, start_ns);
    side(out, "holder", &c.holder, &format!("looked up at {}", at(c.holder.time_ns)));
    out.push(row("", &format!("mm {}, address {}, pte {}", c.mm, c.addr, c.pte)));
    holding(out, &c.holder.holds);
    if told.is_none_or(|told| told.holder.stack != c.holder.stack) {
        stack::rows(out, &c.holder, stacks);
    }
    let gone = if c.unlink_lo_ns == c.unlink_hi_ns {
        format!("unlinked at {}", at(c.unlink_hi_ns))
    } else {
        format!("unlinked between {} and {}", at(c.unlink_lo_ns), at(c.unlink_hi_ns))
    };
    side(out, "unlinker", &c.unlinker, &gone);
    holding(out, &c.unlinker.holds);
    if told.is_none_or(|told| told.unlinker.stack != c.unlinker.stack) {
        stack::rows(out, &c.unlinker, stacks);
    }
    out.push(row(
        "table",
        &format!("{}, life {} of this address, since {}", c.table, c.generation, at(c.table_birth_ns)),
    ));
    history::rows(out, c);
    let used = match c.used {
        Use::No => "no use seen after it".to_owned(),
        Use::Contract => "in use by contract: inside a callback that was handed the pointer".to_owned(),
        Use::Seen(_) => "used after it".to_owned(),
    };
    out.push(row(
        "stale",
        &format!("certain {}, possible {}; {used}", span(c.certain_ns), span(c.possible_ns)),
    ));
    if let Some(used) = &c.at_use {
        side(
            out,
            "use",
            used,
            &format!("requested the table's PTL at {}, and acquired it", at(used.time_ns)),
        );
        holding(out, &used.holds);
        if used.stack != c.holder.stack {
            stack::rows(out, used, stacks);
        }
    }
    if let Some(ns) = c.freed_ns {
        out.push(row("freed", &format!("the table's page was given back at {}", at(ns))));
    }
}

fn side(out: &mut Vec<String>, name: &str, s: &Side, what: &str) {
    out.push(row(name, &format!("{} on cpu {} in {}, {what}", task(&s.task), s.task.cpu, s.site)));
}

fn holding(out: &mut Vec<String>, holds: &[Hold]) {
    if holds.is_empty() {
        out.push(row("", "holding no watched lock"));
    }
    for h in holds {
        hold(out, h);
    }
}

fn hold(out: &mut Vec<String>, h: &Hold) {
    let doubt = if h.lossy { "; its release may be among what was lost" } else { "" };
    let what = format!("holding {} {:#x} ({}{doubt})", lock(h.class, h.mode), h.lock, known(h.known));
    out.push(row("", &what));
}

/// Hold basis in words: how a hold is known.
fn known(k: Known) -> &'static str {
    match k {
        Known::Asked => "requested",
        Known::Asking => "requested, perhaps not acquired yet",
        Known::Tried => "by trylock",
        Known::Returned => "returned locked by a lookup",
        Known::Contract => "inferred: the function's contract is a locked folio",
        Known::SlowPath => "after waiting",
        Known::Released => "inferred: only its release was seen",
    }
}

fn freed_shared(out: &mut Vec<String>, f: &FreedShared, stacks: &Stacks, start_ns: u64) {
    side(out, "task", &f.side, &format!("gave the page back at {}", moment(f.side.time_ns, start_ns)));
    holding(out, &f.side.holds);
    stack::rows(out, &f.side, stacks);
    let table = format!("{}, life {} of this address, mm {}", f.table, f.generation, f.mm);
    out.push(row("table", &format!("{table}; the kernel's share count was {}", f.count)));
    for (mm, gib) in &f.links {
        out.push(row("link", &format!("mm {mm}, GiB of {gib}")));
    }
}

/// A doubt about a finding, in words.
#[must_use]
pub fn doubt(d: &Doubt) -> String {
    match d {
        Doubt::Loss => "records were lost on these CPUs while it happened".into(),
        Doubt::UnlinkInterval => "the moment of the unlink is known as an interval only".into(),
        Doubt::NoOperation => "looked up outside any watched operation: the end of its use is not known".into(),
        Doubt::InferredHold(class) => format!("the hold of {} is inferred", class.name()),
        Doubt::QueuedWriter { class, writer_seen: true } => {
            format!("needs a writer of {} queued between two readers; writers were seen", class.name())
        }
        Doubt::QueuedWriter { class, writer_seen: false } => {
            format!(
                "needs a writer of {} queued between two readers; none was seen in this run",
                class.name()
            )
        }
        Doubt::FewTasks => "fewer tasks than steps were seen".into(),
        Doubt::NotTogether => "the tasks of the sides were not there at one time".into(),
        Doubt::Unreachable => {
            "the tasks cannot all reach the point where they wait: another lock prevents it".into()
        }
        Doubt::Inside => "a task is inside the operation yet: a folio may be locked in it, unseen".into(),
        Doubt::SearchCut => "whether the tasks can all come to where they wait was too much to try".into(),
        Doubt::Moment(class) => format!("when {} was taken is not known to the moment", class.name()),
        Doubt::Merged => "the sides are of different recordings, whose locks cannot be compared".into(),
        Doubt::Bound(what) => {
            format!("incomplete: more {what} were seen than are kept, and what is not kept could change this")
        }
        Doubt::WaitNotSeen { tid, class } => format!(
            "task {}'s wait for {} was not seen: the kernel does not report such waits, and the task was silent since",
            tid.0,
            class.name()
        ),
        Doubt::HolderUnseen => {
            "a task may hold the lock that was not seen to acquire it: before the run began, or where observer does not look"
                .into()
        }
        Doubt::HolderForgotten { releases } => format!(
            "who held the lock last is not remembered: of locks that nobody waits for, only the last {} are",
            plural(*releases as u64, "release")
        ),
        Doubt::CirclesCut(tasks) => format!(
            "the search for circles reached its bound: from {} that wait in the same knot none was looked for",
            plural(*tasks as u64, "more task")
        ),
        Doubt::Coverage(what) => format!("not fully seen on this kernel: {what}"),
    }
}

/// Number of times a finding was seen, and when.
#[must_use]
pub fn seen(finding: &Finding, start_ns: u64) -> String {
    let (first, last) = (moment(finding.first_ns, start_ns), moment(finding.last_ns, start_ns));
    let often = match &finding.evidence {
        // A prediction is concluded some time after both parties were seen.
        Evidence::Prediction(p) => format!("{}, concluded", prediction::counted(p)),
        _ => times(finding.count) + ",",
    };
    if finding.first_ns == finding.last_ns {
        format!("{often} at {first}")
    } else {
        format!("{often} from {first} to {last}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_numbers_read_well() {
        let spans = [0, 999, 1_000, 1_400_500, 61_000_000_000].map(span);
        assert_eq!(spans, ["0 ns", "999 ns", "1.000 us", "1.400 ms", "61.000 s"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(moment(3_000_001_000, 1_000_000_000), "+2.000001 s");
        assert_eq!([plural(1, "edge"), plural(2_000, "edge")], ["1 edge", "2,000 edges"]);
    }
}
