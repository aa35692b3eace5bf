//! The words for predictions: the locks at the lookup, the locks at the unlink, and what would help.

use observer_engine::{
    finding::{Finding, Hold, Prediction, Rank},
    lock_class::LockClass,
};

use super::{holding, lock, moment, plural, row, side, stack};
use crate::report::stacks::Stacks;

/// Summary of a prediction in one line.
pub fn summary(p: &Prediction) -> String {
    format!(
        "{} looks up under {}, {} unlinks the table under {}: {}",
        p.holder.site,
        under(&p.holder.holds),
        p.unlinker.site,
        under(&p.unlinker.holds),
        apart(p)
    )
}

/// Says if an excluder of the two parties is doubtful or missing.
pub fn apart(p: &Prediction) -> String {
    match p.doubtful_lock() {
        Some(hold) => format!("it is not certain that {} excludes one from the other", hold.class.name()),
        None => "no lock excludes one from the other".to_owned(),
    }
}

/// Evidence of a prediction.
pub fn detail(out: &mut Vec<String>, f: &Finding, p: &Prediction, stacks: &Stacks, start_ns: u64) {
    let at = |ns| moment(ns, start_ns);
    side(out, "holder", &p.holder, &format!("looked up at {}", at(p.holder.time_ns)));
    throughout(out, &p.holder.holds);
    stack::rows(out, &p.holder, stacks);
    side(out, "unlinker", &p.unlinker, &format!("unlinked at {}", at(p.unlinker.time_ns)));
    holding(out, &p.unlinker.holds);
    stack::rows(out, &p.unlinker, stacks);
    out.push(row("link", &format!("mm {}, GiB of {}", p.mm, p.gib)));
    out.push(row("table", &format!("{}, life {} of this address", p.table, p.generation)));
    if let Some(hold) = p.doubtful_lock() {
        let lock = format!("{} {:#x}", hold.class.name(), hold.lock);
        out.push(row("apart", &format!("perhaps {lock}, which both hold: its release, or its end,")));
        out.push(row("", "may not have been seen. Their order is chance"));
    } else {
        let none = "nothing: no lock of one excludes a lock of the other, and both tasks existed";
        out.push(row("apart", none));
        out.push(row("", "at both moments. Their order is chance"));
    }
    out.push(row("help", &would_exclude(&p.would_exclude)));
    if !p.unlinker_lacks.is_empty() {
        lacks(out, p);
    }
    out.push(row("rank", rank(f.rank)));
}

/// Adds the locks that the holder relies on and the unlinker does not respect.
fn lacks(out: &mut Vec<String>, p: &Prediction) {
    let has = |class: &LockClass| p.unlinker.holds.iter().any(|h| h.class == *class);
    let (another, none): (Vec<LockClass>, Vec<LockClass>) = p.unlinker_lacks.iter().partition(|c| has(c));
    for (classes, does) in [(none, "does not take it"), (another, "takes another one")] {
        if !classes.is_empty() {
            let under = names(&classes);
            out.push(row(
                "",
                &format!("the holder holds {under}, which excludes other unlinks; this one {does}"),
            ));
        }
    }
}

/// Reason for the rank of a prediction.
fn rank(rank: Rank) -> &'static str {
    match rank {
        Rank::Possible => {
            "possible: it looked and dropped the pointer; no use of it was certain in any of these"
        }
        Rank::Incomplete => "incomplete: a lost record may show a lock that excludes them, or a task's exit",
        Rank::Revalidated => {
            "revalidated: it looked up again under the table's lock before it used the pointer"
        }
        _ => "predicted: a window of the two as bad as this was not seen in this run",
    }
}

fn would_exclude(classes: &[LockClass]) -> String {
    match classes {
        [] => "no lock that all these unlinks held would have excluded them".to_owned(),
        [one] => format!("{}, held from the lookup to the last use, would have excluded it", one.name()),
        more => {
            format!("any of {}, held from the lookup to the last use, would have excluded it", names(more))
        }
    }
}

/// Adds holds that last from the lookup on, without the time of their acquisition.
fn throughout(out: &mut Vec<String>, holds: &[Hold]) {
    if holds.is_empty() {
        out.push(row("", "holding no watched lock throughout"));
    }
    for h in holds {
        out.push(row("", &format!("holding throughout {} {:#x}", lock(h.class, h.mode), h.lock)));
    }
}

fn under(holds: &[Hold]) -> String {
    let mut locks: Vec<String> = holds.iter().map(|h| lock(h.class, h.mode)).collect();
    locks.dedup();
    if locks.is_empty() { "no watched lock".to_owned() } else { locks.join(" + ") }
}

fn names(classes: &[LockClass]) -> String {
    classes.iter().map(|c| c.name()).collect::<Vec<_>>().join(", ")
}

/// Number of times that each party was seen.
pub fn counted(p: &Prediction) -> String {
    format!("{}, {}", plural(p.leases, "lookup"), plural(p.unlinks, "unlink"))
}
