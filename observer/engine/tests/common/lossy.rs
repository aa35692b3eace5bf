//! A run as a healthy server records it: one record in ten thousand lost, one program skipped in a second.
//!
//! Decides which records are missing and which holes the engine is given instead, as a live run does, and how much of what the
//! whole run reports is still reported. Used by the tests of both crates; knows no recording and no model.

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

/// Nanoseconds between two looks at the counters of skipped programs: a pass of a live run.
const LOOK_NS: u64 = 5_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// xorshift64*, so that what is lost is the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % n.max(1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The ring was full: the gap in the CPU's sequence numbers is seen between its neighbours.
    RingFull,
    /// The kernel skipped the program: only the program's counter rises, between two looks.
    Skipped,
}

/// Which events are missing: each one with a chance of `one_in`, and one in each second of event time.
pub fn choose(events: &[Event], one_in: u64, random: &mut Random) -> Vec<Option<Missing>> {
    let mut missing: Vec<_> =
        events.iter().map(|_| (random.below(one_in) == 0).then_some(Missing::RingFull)).collect();
    let Some(last) = events.last() else { return missing };
    let (mut from_ns, end_ns) = (events[0].time_ns, last.time_ns);
    while from_ns <= end_ns {
        let at = |ns: u64| events.partition_point(|e| e.time_ns < ns);
        let (first, end) = (at(from_ns), at(from_ns + SECOND_NS));
        // A second that the run is not long enough for has its share of the chance.
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

/// What the engine is given: events that came, and a hole for each that did not.
pub fn steps(events: &[Event], missing: &[Option<Missing>]) -> Vec<Step> {
    // Place in `events` before which a step is told, and the step.
    let mut holes: Vec<(usize, Hole)> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        match missing[at] {
            None => {}
            Some(Missing::RingFull) => holes.push(gap(events, missing, at)),
            Some(Missing::Skipped) => {
                let lo_ns = event.time_ns / LOOK_NS * LOOK_NS;
                let before = events.partition_point(|e| e.time_ns < lo_ns);
                let reason = loss::REASONS[loss::SKIPPED].0;
                // The counters are read after the mark of the look.
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

/// The gap in the numbers of its CPU that a record leaves, given where the record before it has its place. The counter of that
/// CPU is read every [`LOOK_NS`], which says when.
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

/// An engine that was given these steps. `end_ns`: event time passes up to there.
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

/// Skipped programs of spinlocks are no loss that is counted: their records are of page-table locks.
fn can_be_skipped(event: &Event) -> bool {
    !matches!(event.body, Body::Lock { class: observer_engine::event::Class::Ptl, .. })
}

/// What a finding is about, whatever its rank. Of a cycle the classes: in which operation it happened may be lost.
pub fn subject(finding: &Finding) -> &str {
    if finding.kind() == Kind::Cycle {
        let classes = finding.id.match_indices(':').nth(1).map_or(finding.id.len(), |(at, _)| at);
        return &finding.id[..classes];
    }
    let rank = format!(":{}", finding.rank.name());
    finding.id.strip_suffix(&rank).unwrap_or(&finding.id)
}

/// A window hides the prediction of the same sites: where loss took the window, the prediction shows.
fn hides(window: &str, prediction: &str) -> bool {
    let pair = window.strip_prefix("window:");
    pair.is_some() && pair == prediction.strip_prefix("prediction:")
}

/// Findings that are worse than, or absent from, those of the whole run.
pub fn invented(whole: &[Finding], lossy: &[Finding]) -> Vec<String> {
    let known = |f: &Finding| {
        whole.iter().any(|w| (subject(w) == subject(f) && w.rank <= f.rank) || hides(subject(w), subject(f)))
    };
    let new = lossy.iter().filter(|f| f.rank < Rank::Incomplete && !known(f));
    new.map(|f| format!("{} {}", f.rank.name(), f.id)).collect()
}

/// Alarms of the whole run that are alarms of the lossy one too, and how many there are in all.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub runs: usize,
    /// Runs in which anything was missing.
    pub hit: usize,
    pub missing: usize,
    pub alarms: usize,
    pub kept: usize,
    /// The same of the runs in which something was missing.
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

    /// Alarms kept, per thousand.
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

/// Whether the protection report says that these sites were kept apart each time.
pub fn is_protected(pair: &PairProtection) -> bool {
    !pair.open && !pair.always.is_empty()
}

/// Pairs of sites that are called protected and were open in the whole run.
pub fn falsely_protected(whole: &ProtectionView, lossy: &ProtectionView) -> Vec<String> {
    let is_open = |p: &PairProtection| {
        whole.pairs.iter().any(|w| w.open && (&w.lookup, &w.unlink) == (&p.lookup, &p.unlink))
    };
    let false_ones = lossy.pairs.iter().filter(|p| is_protected(p) && is_open(p));
    false_ones.map(|p| format!("{}/{}", p.lookup, p.unlink)).collect()
}
