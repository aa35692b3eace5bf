//! Claims on runs with lost records.

use std::{collections::BTreeSet, fmt::Write as _};

use observer_engine::{
    Engine, Hole,
    event::{Body, Event, SiteId},
    finding::Finding,
    trace,
};

use super::{
    check::{Checked, HUNG_NS, Tally, cycles, quiet},
    random::Random,
    sites,
};

/// Records are lost this long before a run, when no task of the run exists yet.
const BEFORE_NS: u64 = 4_000_000_000;

impl Checked<'_> {
    /// Checks the run again with some of its records lost and the holes reported.
    pub fn lossy(&self, seed: u64, tally: &mut Tally) -> String {
        let mut random = Random::new(seed);
        // Per thousand.
        let share = if self.case.crowd > 100 { 1 } else { random.pick(&[30, 100, 300]) };
        let mut lost: Vec<bool> = self.run.events.iter().map(|_| random.below(1000) < share).collect();
        if random.percent(30) {
            // The record that an address belongs to another lock from now on.
            let names = |e: &Event| matches!(e.body, Body::LockForget { .. } | Body::LockName { .. });
            lost.iter_mut().zip(&self.run.events).for_each(|(lost, e)| *lost |= names(e));
        }
        let how = random.pick(&[How::Full, How::Full, How::Anywhere, How::Skipped]);
        let mut engine = Engine::new(sites::setup(&self.case.visibility));
        let mut out = String::new();
        for (at, event) in self.run.events.iter().enumerate() {
            if lost[at] {
                engine.hole(hole(&self.run.events, &lost, at, how));
            } else {
                engine.push(event);
            }
        }
        if self.run.is_cut {
            engine.finish();
        } else {
            engine.tick(self.run.end_ns + HUNG_NS);
        }
        let findings = engine.findings();
        for (finding, _) in cycles(&findings) {
            *tally.lossy.entry(finding.rank.name()).or_default() += 1;
        }
        self.sound(&findings, " with loss", &mut out);
        if !out.is_empty() {
            let mut text = String::new();
            for (at, event) in self.run.events.iter().enumerate() {
                let line = trace::line(event, &sites::setup(&self.case.visibility));
                if lost[at] {
                    let h = hole(&self.run.events, &lost, at, how);
                    let cpu = if h.cpu == Hole::ANY_CPU { "any".to_owned() } else { format!("cpu{}", h.cpu) };
                    let site = h.site.map_or(String::new(), |site| format!(" site={}", site.0));
                    let _ = writeln!(
                        text,
                        "hole {cpu} {}..{} 1 {}{site}\n# lost: {line}",
                        h.lo_ns, h.hi_ns, h.reason
                    );
                } else {
                    let _ = writeln!(text, "{line}");
                }
            }
            out = format!("{text}{out}");
        }
        out
    }

    /// Checks the run after a loss on every CPU. No task of the run existed then, so the same alarms must be
    /// reported.
    pub fn after_loss(&self, findings: &[Finding], tally: &mut Tally) -> String {
        let visibility = self.case.visibility;
        if !visibility.introduced || self.case.born < self.programs.len() || self.run.events.is_empty() {
            return String::new();
        }
        let mut engine = Engine::new(sites::setup(&visibility));
        let hole = |cpu, reason, site| Hole { cpu, lo_ns: 100, hi_ns: 105, lost: 1, reason, site };
        (0..3).for_each(|cpu| engine.hole(hole(cpu, "ring-full", None)));
        engine.hole(hole(Hole::ANY_CPU, "skipped", Some(SiteId(sites::RELEASE))));
        let mut last_ns = 0;
        for event in &self.run.events {
            let event = Event { time_ns: event.time_ns + BEFORE_NS, ..*event };
            quiet(&mut engine, last_ns, event.time_ns);
            last_ns = event.time_ns;
            engine.push(&event);
        }
        if self.run.is_cut {
            engine.finish();
        } else {
            engine.tick(self.run.end_ns + BEFORE_NS + HUNG_NS);
        }
        let alarms = |findings: &[Finding]| -> BTreeSet<String> {
            findings
                .iter()
                .filter(|f| f.rank.is_alarm())
                .map(|f| format!("{} {}", f.rank.name(), f.id))
                .collect()
        };
        let (whole, now) = (alarms(findings), alarms(&engine.findings()));
        tally.after_loss += whole.len();
        let mut out = String::new();
        for muted in whole.difference(&now) {
            let _ = writeln!(out, "# muted by a loss before: {muted}");
        }
        for new in now.difference(&whole) {
            let _ = writeln!(out, "# made by a loss before: {new}");
        }
        out
    }
}

/// How records are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Full,
    /// The CPU is not known.
    Anywhere,
    /// The kernel skipped a program. The site is known, the place in the stream is not.
    Skipped,
}

/// From the record before it on its CPU to the record after it.
fn hole(events: &[Event], lost: &[bool], at: usize, how: How) -> Hole {
    let event = &events[at];
    let near = |i: &usize| (how == How::Skipped || events[*i].cpu == event.cpu) && !lost[*i];
    let lo_ns = (0..at).rev().find(near).map_or(0, |i| events[i].time_ns);
    let hi_ns = (at..events.len()).find(near).map_or(u64::MAX, |i| events[i].time_ns);
    let cpu = if how == How::Full { event.cpu } else { Hole::ANY_CPU };
    let reason = if how == How::Skipped { "skipped" } else { "ring-full" };
    let site = (how == How::Skipped).then_some(event.site);
    Hole { cpu, lo_ns, hi_ns: hi_ns.min(events[events.len() - 1].time_ns), lost: 1, reason, site }
}
