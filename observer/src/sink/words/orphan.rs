//! The words for a wait without a holder.
//!
//! Decides the reading order: first the waiting task and its wait time, then the last holder of the lock.

use observer_engine::finding::{Ended, Finding, LastHolder, OrphanWait, Rank};

use super::{holding, known, lock, moment, paragraph, plural, row, span, stack, task};
use crate::report::stacks::Stacks;

/// Summary of the finding in one line.
pub fn summary(f: &Finding, o: &OrphanWait) -> String {
    let waited = span(f.last_ns.saturating_sub(o.side.time_ns));
    format!(
        "{} waits for {} in {}, for {waited}, and no task is known to hold it",
        task(&o.side.task),
        lock(o.class, o.mode),
        o.side.site
    )
}

/// Describes the task that waits longest, the lock, and its last holder.
pub fn detail(out: &mut Vec<String>, f: &Finding, o: &OrphanWait, stacks: &Stacks, start_ns: u64) {
    let s = &o.side;
    let at = moment(s.time_ns, start_ns);
    paragraph(out, "waiter", &format!("{} on cpu {} in {}, since {at}", task(&s.task), s.task.cpu, s.site));
    let how = if o.reported { "waits for" } else { "requested, and was silent since:" };
    paragraph(out, "", &format!("{how} {}{}", lock(o.class, o.mode), which(o)));
    holding(out, &s.holds);
    stack::rows(out, s, stacks);
    if o.waiters > 1 {
        out.push(row(
            "",
            &format!("{} wait for this lock; this one waits longest", plural(o.waiters, "task")),
        ));
    }
    match &o.last {
        Some(last) => last_holder(out, last, start_ns),
        None => out.push(row("last", "no holder is known")),
    }
    let rank = match f.rank {
        Rank::Confirmed => {
            "confirmed: the kernel reported the wait, and the last known holder does not hold the lock any more"
        }
        Rank::Incomplete => "incomplete: lost records may show a holder, or the end of the wait",
        _ => "possible: a holder may exist that was not seen, or the task may not wait",
    };
    paragraph(out, "rank", rank);
}

/// Address of the lock, and for folios their place in the file.
fn which(o: &OrphanWait) -> String {
    let address = o.lock.map_or(String::new(), |lock| format!(" {lock:#x}"));
    let place = o.place.filter(|(mapping, _)| mapping.0 != 0);
    let place =
        place.map_or(String::new(), |(mapping, index)| format!(" (mapping {mapping}, index {index})"));
    address + &place
}

fn last_holder(out: &mut Vec<String>, last: &LastHolder, start_ns: u64) {
    let at = |ns| moment(ns, start_ns);
    let site = last.site.as_ref().map_or(String::new(), |site| format!(" in {site}"));
    let (ended, ns) = match last.ended {
        Ended::Released(ns) => (format!("released it{site}"), ns),
        Ended::Exited(ns) => ("exited while it held the lock: leaked".to_owned(), ns),
    };
    let text = format!("{} on cpu {} {ended}, at {}", task(&last.task), last.task.cpu, at(ns));
    paragraph(out, "last", &text);
    let acquired = match last.acquired_ns {
        Some(ns) => format!("acquired it at {} ({})", at(ns), known(last.known)),
        None => format!("acquired it some time before ({})", known(last.known)),
    };
    out.push(row("", &acquired));
}
