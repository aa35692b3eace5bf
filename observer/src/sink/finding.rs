//! Findings as output: the headline, the detail and the JSON of each kind.
//!
//! Decides which file words which evidence, and the parts that every finding has: how often it was seen, and its doubts. Each kind is
//! a file in `finding/`, beside that of its evidence in the engine, whose doc says how to word it. Times are given since the
//! start of the run; addresses as the kernel prints them.

mod against_order;
mod cycle;
mod freed_shared;
mod orphan_wait;
pub(crate) mod prediction;
mod relock;
mod window;

use observer_engine::finding::{Evidence, Finding};
use serde::Serialize;

use super::words::doubt;
use crate::{
    report::stacks::Stacks,
    text::{moment, paragraph, times},
};

/// Context of the run that a party is from.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub stacks: &'a Stacks,
    pub start_ns: u64,
    /// Name of the run, where there are several.
    pub name: Option<&'a str>,
}

/// Words and wire type of the evidence of one kind.
trait Explain {
    /// Returns a summary in one line.
    fn headline(&self, f: &Finding) -> String;

    /// Adds the parties, what happened between them, and the reason for the rank. `run`: the run of the evidence. `all`: every run
    /// of merged recordings, else that run alone.
    fn detail(&self, out: &mut Vec<String>, f: &Finding, run: Run<'_>, all: &[Run<'_>]);

    /// Returns the number of times that it was seen, as the begin of a phrase that a time ends.
    fn counted(&self, f: &Finding) -> String {
        times(f.count) + ","
    }

    /// Returns the evidence as JSON. `stacks` and `all` are those of the runs, as for `detail`.
    fn wire(&self, stacks: &Stacks, all: &[&Stacks]) -> Wire;
}

/// Evidence in JSON; the finding has the name of the kind.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Wire {
    Window(Box<window::Wire>),
    Prediction(Box<prediction::Wire>),
    Cycle(cycle::Wire),
    AgainstOrder(Box<against_order::Wire>),
    Relock(Box<relock::Wire>),
    FreedShared(Box<freed_shared::Wire>),
    OrphanWait(Box<orphan_wait::Wire>),
}

fn explain(evidence: &Evidence) -> &dyn Explain {
    match evidence {
        Evidence::Window(w) => &**w,
        Evidence::Prediction(p) => &**p,
        Evidence::Cycle(c) => c,
        Evidence::AgainstOrder(a) => &**a,
        Evidence::Relock(r) => r,
        Evidence::FreedShared(f) => f,
        Evidence::OrphanWait(o) => &**o,
    }
}

/// Summary of a finding in one line.
#[must_use]
pub fn summary(finding: &Finding) -> String {
    explain(&finding.evidence).headline(finding)
}

/// Evidence of a finding: the parties, what happened between them, and the doubts.
#[must_use]
pub fn detail(finding: &Finding, stacks: &Stacks, start_ns: u64) -> Vec<String> {
    detail_of_several(finding, &[Run { stacks, start_ns, name: None }])
}

/// Evidence of a finding whose parties are from several runs.
#[must_use]
pub fn detail_of_several(finding: &Finding, runs: &[Run<'_>]) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(run) = runs.first() {
        explain(&finding.evidence).detail(&mut out, finding, *run, runs);
    }
    for d in &finding.doubts {
        paragraph(&mut out, "but", &doubt(d));
    }
    out
}

/// Number of times a finding was seen, and when.
#[must_use]
pub fn seen(finding: &Finding, start_ns: u64) -> String {
    let (first, last) = (moment(finding.first_ns, start_ns), moment(finding.last_ns, start_ns));
    let often = explain(&finding.evidence).counted(finding);
    if finding.first_ns == finding.last_ns {
        format!("{often} at {first}")
    } else {
        format!("{often} from {first} to {last}")
    }
}

/// Evidence in JSON. `all`: the stacks of its run, or of each run that its parties may be from.
pub(super) fn wire(evidence: &Evidence, all: &[&Stacks]) -> Wire {
    let none = Stacks::default();
    explain(evidence).wire(all.first().copied().unwrap_or(&none), all)
}

/// Samples of every kind, in the order of `Kind::ALL`; together they have every key of the JSON.
#[cfg(test)]
pub(super) fn samples() -> Vec<Evidence> {
    vec![
        window::tests::sample(observer_engine::finding::Use::No),
        window::tests::sample(observer_engine::finding::Use::Contract),
        prediction::tests::sample(),
        cycle::tests::sample(),
        against_order::tests::sample(),
        relock::tests::sample(),
        freed_shared::tests::sample(),
        orphan_wait::tests::sample(),
    ]
}

#[cfg(test)]
pub(super) mod tests;
