//! Predictions: the locks at the lookup, the locks at the unlink, and the lock that would have excluded them.

use observer_engine::{
    finding::{Finding, Hold, Prediction, Rank},
    lock_class::LockClass,
};
use serde::Serialize;

use super::{Explain, Run};
use crate::{
    report::stacks::Stacks,
    sink::{
        json::parts::{Side, side as wire_side},
        words::{holding, lock, side, stack},
    },
    text::{moment, paragraph, plural, row},
};

impl Explain for Prediction {
    fn headline(&self, _: &Finding) -> String {
        format!(
            "{} looks up under {}, {} unlinks the table under {}: {}",
            self.holder.site,
            under(&self.holder.holds),
            self.unlinker.site,
            under(&self.unlinker.holds),
            apart(self)
        )
    }

    fn detail(&self, out: &mut Vec<String>, f: &Finding, run: Run<'_>, _: &[Run<'_>]) {
        let at = |ns| moment(ns, run.start_ns);
        side(out, "holder", &self.holder, &format!("looked up at {}", at(self.holder.time_ns)));
        throughout(out, &self.holder.holds);
        stack::rows(out, &self.holder, run.stacks);
        side(out, "unlinker", &self.unlinker, &format!("unlinked at {}", at(self.unlinker.time_ns)));
        holding(out, &self.unlinker.holds);
        stack::rows(out, &self.unlinker, run.stacks);
        out.push(row("link", &format!("mm {}, GiB of {}", self.mm, self.gib)));
        out.push(row("table", &format!("{}, generation {} at this address", self.table, self.generation)));
        let excluder = match self.doubtful_lock() {
            Some(hold) => format!(
                "perhaps {} {:#x}, which both hold: its release or its end may not have been seen. The order of the \
                 two accesses is chance",
                hold.class.name(),
                hold.lock
            ),
            None => "none: no lock of one excludes a lock of the other, and both tasks existed at both times. The order \
                     of the two accesses is chance"
                .to_owned(),
        };
        paragraph(out, "excluder", &excluder);
        paragraph(out, "help", &would_exclude(&self.would_exclude));
        if !self.unlinker_lacks.is_empty() {
            lacks(out, self);
        }
        paragraph(out, "rank", rank(f.rank));
    }

    /// A prediction is concluded some time after both parties were seen.
    fn counted(&self, _: &Finding) -> String {
        format!("{}, {}, concluded", plural(self.leases, "lookup"), plural(self.unlinks, "unlink"))
    }

    fn wire(&self, stacks: &Stacks, _: &[&Stacks]) -> super::Wire {
        super::Wire::Prediction(Box::new(Wire {
            holder: wire_side(&self.holder, stacks),
            unlinker: wire_side(&self.unlinker, stacks),
            mm: self.mm.to_string(),
            gib: self.gib.to_string(),
            table: self.table.to_string(),
            generation: self.generation,
            leases: self.leases,
            unlinks: self.unlinks,
            would_exclude: self.would_exclude.iter().copied().map(LockClass::name).collect(),
            unlinker_lacks: self.unlinker_lacks.iter().copied().map(LockClass::name).collect(),
        }))
    }
}

/// Says if an excluder of the two parties is doubtful or missing.
pub fn apart(p: &Prediction) -> String {
    match p.doubtful_lock() {
        Some(hold) => format!("it is not certain that {} excludes one from the other", hold.class.name()),
        None => "no lock excludes one from the other".to_owned(),
    }
}

/// Adds the locks that the holder relies on and the unlinker does not respect.
fn lacks(out: &mut Vec<String>, p: &Prediction) {
    let has = |class: &LockClass| p.unlinker.holds.iter().any(|h| h.class == *class);
    let (another, none): (Vec<LockClass>, Vec<LockClass>) = p.unlinker_lacks.iter().partition(|c| has(c));
    for (classes, does) in [(none, "does not hold it"), (another, "holds another lock of this class")] {
        if !classes.is_empty() {
            let under = names(&classes);
            let text = format!("the holder holds {under}, which excludes other unlinks; this unlink {does}");
            paragraph(out, "", &text);
        }
    }
}

/// Reason for the rank of a prediction.
fn rank(rank: Rank) -> &'static str {
    match rank {
        Rank::Possible => {
            "possible: the holder dropped the pointer again; no use of it was certain in any lookup"
        }
        Rank::Incomplete => "incomplete: a lost record may show a lock that excludes them, or a task's exit",
        Rank::Revalidated => {
            "revalidated: the holder looked up again under the PTL before it used the pointer"
        }
        _ => "predicted: this run shows no window of the two sites with a rank as bad as this",
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

#[derive(Serialize)]
pub(crate) struct Wire {
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

#[cfg(test)]
pub(super) mod tests {
    use observer_engine::{
        event::{Addr, Mm, Table},
        finding::Evidence,
    };

    use super::*;
    use crate::sink::finding::{
        seen, summary,
        tests::{finding, side, text},
    };

    pub fn sample() -> Evidence {
        Evidence::Prediction(Box::new(Prediction {
            holder: side(),
            unlinker: side(),
            mm: Mm(1),
            gib: Addr(1 << 30),
            table: Table(4),
            generation: 1,
            leases: 2,
            unlinks: 3,
            would_exclude: vec![LockClass::Ptl],
            unlinker_lacks: vec![LockClass::IMmap],
        }))
    }

    #[test]
    fn the_text_names_possible_excluders_and_counts_both_accesses() {
        let f = finding(Rank::Predicted, sample());
        assert!(summary(&f).ends_with(": no lock excludes one from the other"), "{}", summary(&f));
        assert!(text(&f).contains("ptl, held from the lookup to the last use, would have excluded it"));
        assert!(seen(&f, 0).starts_with("2 lookups, 3 unlinks, concluded"), "{}", seen(&f, 0));
    }
}
