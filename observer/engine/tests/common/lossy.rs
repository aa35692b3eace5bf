//! A run as a healthy server records it: one record in ten thousand is lost, and one program is skipped per second.
//!
//! Decides which records are missing and which holes replace them, as in a live run, and counts which findings of the
//! whole run are still reported. The tests of both crates use it. It depends on no recording and no model.

use std::collections::BTreeSet;

use observer_ebpf::loss;
use observer_engine::{
    Engine, Hole,
    event::{Body, Event},
    finding::{Finding, Kind, Rank},
    setup::Setup,
    trace::Step,
    view::{PairProtection, ProtectionView},
};

use super::random::Random;

/// Time between two reads of the counters of skipped programs: one pass of a live run.
const LOOK_NS: u64 = 5_000_000;
const SECOND_NS: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The ring was full. The gap in the CPU's sequence numbers is seen between the neighbours.
    RingFull,
    /// The kernel skipped the program. Only the program's counter rises, between two reads.
    Skipped,
}

/// Returns the missing events: each one with a probability of 1 in `one_in`, and one in each second of event time.
pub fn choose(events: &[Event], one_in: u64, random: &mut Random) -> Vec<Option<Missing>> {
    let mut missing: Vec<_> =
        events.iter().map(|_| (random.below(one_in) == 0).then_some(Missing::RingFull)).collect();
    let Some(last) = events.last() else { return missing };
    let (mut from_ns, end_ns) = (events[0].time_ns, last.time_ns);
    while from_ns <= end_ns {
        let at = |ns: u64| events.partition_point(|e| e.time_ns < ns);
        let (first, end) = (at(from_ns), at(from_ns + SECOND_NS));
        // A run shorter than the last second has a proportional chance.
        let span_ns = SECOND_NS.min(end_ns + 1 - from_ns);
        if first < end && random.below(SECOND_NS) < span_ns {
            let one = first + random.below((end - first) as u64) as usize;
            if can_be_skipped(&events[one]) {
                missing[one] = Some(Missing::Skipped);
            }
        }
        from_ns += SECOND_NS;
    }
    missing
}

/// Returns the input of the engine: the received events, and a hole for each missing one.
pub fn steps(events: &[Event], missing: &[Option<Missing>]) -> Vec<Step> {
    // Index in `events` before which the engine receives a step, and the step.
    let mut holes: Vec<(usize, Hole)> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        match missing[at] {
            None => {}
            Some(Missing::RingFull) => holes.push(gap(events, missing, at)),
            Some(Missing::Skipped) => {
                let lo_ns = event.time_ns / LOOK_NS * LOOK_NS;
                let before = events.partition_point(|e| e.time_ns < lo_ns);
                let reason = loss::REASONS[loss::SKIPPED].0;
                // The counters are read after the mark of the pass.
                let hi_ns = lo_ns + 2 * LOOK_NS;
                let site = Some(event.site);
                holes.push((before, Hole { cpu: Hole::ANY_CPU, lo_ns, hi_ns, lost: 1, reason, site }));
            }
        }
    }
    holes.sort_by_key(|(at, _)| *at);
    let mut out = Vec::with_capacity(events.len());
    let mut holes = holes.into_iter().peekable();
    for (at, event) in events.iter().enumerate() {
        while let Some((_, hole)) = holes.next_if(|(before, _)| *before <= at) {
            out.push(Step::Hole(hole));
        }
        if missing[at].is_none() {
            out.push(Step::Event(*event));
        }
    }
    out.extend(holes.map(|(_, hole)| Step::Hole(hole)));
    out
}

/// Returns the gap in its CPU's sequence numbers that a missing record leaves, at the place after the record before
/// it. The counter of that CPU is read every [`LOOK_NS`], which limits the time.
fn gap(events: &[Event], missing: &[Option<Missing>], at: usize) -> (usize, Hole) {
    let cpu = events[at].cpu;
    let came = |i: &usize| events[*i].cpu == cpu && missing[*i].is_none();
    let before = (0..at).rev().find(came);
    let lo_ns = before.map_or(events[0].time_ns, |i| events[i].time_ns);
    let hi_ns = (at..events.len()).find(came).map_or(events[events.len() - 1].time_ns, |i| events[i].time_ns);
    let look_ns = events[at].time_ns / LOOK_NS * LOOK_NS;
    let (lo_ns, hi_ns) = (lo_ns.max(look_ns), hi_ns.min(look_ns + 2 * LOOK_NS));
    let reason = loss::REASONS[loss::RING_FULL].0;
    (before.map_or(0, |i| i + 1), Hole { cpu, lo_ns, hi_ns, lost: 1, reason, site: None })
}

/// Runs an engine on these steps. `end_ns`: event time at the end.
pub fn run(setup: &Setup, steps: &[Step], end_ns: u64) -> Engine {
    let mut engine = Engine::new(setup.clone());
    for step in steps {
        match step {
            Step::Event(event) => engine.push(event),
            Step::Hole(hole) => engine.hole(*hole),
            Step::Tick(now_ns) => engine.tick(*now_ns),
        }
    }
    engine.tick(end_ns);
    engine.finish();
    engine
}

/// Returns false for spinlocks: skipped programs of spinlocks are not counted, because they have records of PTLs.
fn can_be_skipped(event: &Event) -> bool {
    !matches!(event.body, Body::Lock { class: observer_engine::event::Class::Ptl, .. })
}

/// Returns the subject of a finding, without its rank. For a cycle, the classes: the operation may be lost.
pub fn subject(finding: &Finding) -> &str {
    if finding.kind() == Kind::Cycle {
        let classes = finding.id.match_indices(':').nth(1).map_or(finding.id.len(), |(at, _)| at);
        return &finding.id[..classes];
    }
    let rank = format!(":{}", finding.rank.name());
    finding.id.strip_suffix(&rank).unwrap_or(&finding.id)
}

/// Returns true if a window hides this prediction of the same sites. If loss removes the window, the prediction
/// shows.
fn hides(window: &str, prediction: &str) -> bool {
    let pair = window.strip_prefix("window:");
    pair.is_some() && pair == prediction.strip_prefix("prediction:")
}

/// Returns the findings that are worse than, or absent from, those of the whole run.
pub fn invented(whole: &[Finding], lossy: &[Finding]) -> Vec<String> {
    let known = |f: &Finding| {
        whole.iter().any(|w| (subject(w) == subject(f) && w.rank <= f.rank) || hides(subject(w), subject(f)))
    };
    let new = lossy.iter().filter(|f| f.rank < Rank::Incomplete && !known(f));
    new.map(|f| format!("{} {}", f.rank.name(), f.id)).collect()
}

/// Numbers of alarms in whole runs, and of those that are still alarms in the lossy runs.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub runs: usize,
    /// Runs with at least one missing record.
    pub hit: usize,
    pub missing: usize,
    pub alarms: usize,
    pub kept: usize,
    /// The same numbers, only for runs with a missing record.
    pub hit_alarms: usize,
    pub hit_kept: usize,
    pub lost: BTreeSet<String>,
}

impl Kept {
    pub fn add(&mut self, whole: &[Finding], lossy: &[Finding], missing: &[Option<Missing>]) {
        let missing = missing.iter().flatten().count();
        self.runs += 1;
        self.hit += usize::from(missing > 0);
        self.missing += missing;
        let alarms: BTreeSet<&str> = whole.iter().filter(|f| f.rank.is_alarm()).map(subject).collect();
        for alarm in alarms {
            self.alarms += 1;
            self.hit_alarms += usize::from(missing > 0);
            let same = |f: &&Finding| subject(f) == alarm || hides(alarm, subject(f));
            let now = lossy.iter().filter(same).map(|f| f.rank).min();
            if now.is_some_and(Rank::is_alarm) {
                self.kept += 1;
                self.hit_kept += usize::from(missing > 0);
            } else {
                self.lost.insert(format!("{alarm} is {}", now.map_or("nothing", Rank::name)));
            }
        }
    }

    pub fn merge(&mut self, other: Kept) {
        self.runs += other.runs;
        self.hit += other.hit;
        self.missing += other.missing;
        self.alarms += other.alarms;
        self.kept += other.kept;
        self.hit_alarms += other.hit_alarms;
        self.hit_kept += other.hit_kept;
        self.lost.extend(other.lost);
    }

    /// Returns the kept alarms per thousand.
    pub fn share(&self) -> usize {
        share(self.kept, self.alarms)
    }
}

fn share(of: usize, all: usize) -> usize {
    (of * 1000).checked_div(all).unwrap_or(1000)
}

impl std::fmt::Display for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |of, all| format!("{of} of {all} ({:.1} %)", share(of, all) as f64 / 10.0);
        let Kept { runs, hit, missing, alarms, kept, hit_alarms, hit_kept, .. } = *self;
        write!(
            f,
            "alarms kept {}, where anything was missing {}; {missing} records missing in {hit} of {runs} runs",
            percent(kept, alarms),
            percent(hit_kept, hit_alarms)
        )
    }
}

/// Returns true if the protection report shows an excluder for these sites each time.
pub fn is_protected(pair: &PairProtection) -> bool {
    !pair.open && !pair.always.is_empty()
}

/// Returns the pairs of sites that are reported as protected and were open in the whole run.
pub fn falsely_protected(whole: &ProtectionView, lossy: &ProtectionView) -> Vec<String> {
    let is_open = |p: &PairProtection| {
        whole.pairs.iter().any(|w| w.open && (&w.lookup, &w.unlink) == (&p.lookup, &p.unlink))
    };
    let false_ones = lossy.pairs.iter().filter(|p| is_protected(p) && is_open(p));
    false_ones.map(|p| format!("{}/{}", p.lookup, p.unlink)).collect()
}
