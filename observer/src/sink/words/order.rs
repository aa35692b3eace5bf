//! The words for lock order: edges, and the verdicts of the kernel's documents.

use observer_engine::{
    finding::{AcquireKind, Step},
    view::{EdgeView, Verdict},
};

use super::{step, task};
use crate::text::{moment, paragraph, plural, row, times};

/// Note about how the second lock of an edge was requested; empty if the request can block.
#[must_use]
pub fn acquire(m: AcquireKind) -> &'static str {
    match m {
        AcquireKind::Blocking => "",
        AcquireKind::TryThenBlock => "try, then blocks",
        AcquireKind::Try => "try",
    }
}

/// Worst verdict of the documents on an edge, in one word.
#[must_use]
pub fn verdict(e: &EdgeView) -> &'static str {
    match e.documented.iter().map(|d| d.verdict).max() {
        Some(Verdict::Against) if e.acquire.can_block() && e.sure => "AGAINST",
        Some(Verdict::Against) if e.acquire.can_block() => "perhaps",
        Some(Verdict::Exception) if e.acquire.can_block() => "exception",
        Some(Verdict::Agrees) => "agrees",
        _ => "",
    }
}

/// Verdicts on an edge, one line for each documented order that names both of its classes; the worst first.
#[must_use]
pub fn documented(e: &EdgeView) -> Vec<String> {
    if !e.acquire.can_block() {
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
    let (w, at) = (&e.witness, moment(e.witness.party.time_ns, start_ns));
    let mut out = Vec::new();
    let party = format!("{} on cpu {} in {}, at {at}", task(&w.party.task), w.party.task.cpu, w.party.site);
    paragraph(&mut out, "first", &party);
    step::request(&mut out, &Step { count: 1, ..w.clone() }, None);
    step::holds(&mut out, w, "");
    out.push(row("seen", &format!("{}, on {}", times(e.count), plural(e.instances as u64, "lock pair"))));
    if !e.gates.is_empty() {
        let gates: Vec<&str> = e.gates.iter().map(|class| class.name()).collect();
        paragraph(&mut out, "gates", &format!("also held every time: {}", gates.join(", ")));
    }
    for line in documented(e) {
        paragraph(&mut out, "order", &line);
    }
    if e.lossy {
        out.push(row("but", "records were lost around every occurrence"));
    }
    if !e.sure {
        out.push(row("but", "not certain: the held lock may have been acquired after the request"));
    }
    out
}
