//! A kernel in which the release of page-table locks cannot be seen, as 5.10 is: the same runs without those records.
//!
//! What is said for certain then is less, and never more than the truth: each alarm is a window in which the pointer was in use
//! after the removal, and none is longer than it was.

use std::collections::BTreeMap;

use observer_engine::{
    Engine,
    event::{Body, Class, Event, LockStep},
    finding::{Evidence, Finding, Rank},
    setup::{Coverage, Grade, Role},
};

use super::{
    kernel::Kernel,
    kernels::{KERNELS, Row},
    oracle,
    scenario::Scenario,
    sites,
};

/// Windows that are alarms, by unlink site: how many, and the longest that is certain. On whose behalf the pointer was looked up
/// may be told otherwise: that it was handed on is less certain too.
type Alarms = BTreeMap<String, (u64, u64)>;

fn is_ptl_release(event: &Event) -> bool {
    matches!(event.body, Body::Lock { step: LockStep::Release, class: Class::Ptl, .. })
}

fn findings(kernel: &Kernel) -> Vec<Finding> {
    let mut setup = sites::setup(&kernel.protocol);
    setup.coverage.push(Coverage {
        role: Role::Ptl,
        part: "release".into(),
        grade: Grade::Bounded,
        reason: "left out".into(),
    });
    let mut engine = Engine::new(setup);
    kernel.events.iter().filter(|event| !is_ptl_release(event)).for_each(|event| engine.push(event));
    engine.finish();
    engine.findings()
}

fn add(alarms: &mut Alarms, unlink: &str, count: u64, certain_ns: u64) {
    let alarm = alarms.entry(unlink.to_owned()).or_default();
    *alarm = (alarm.0 + count, alarm.1.max(certain_ns));
}

fn said(kernel: &Kernel) -> Alarms {
    let mut alarms = Alarms::new();
    for finding in findings(kernel).into_iter().filter(|f| f.rank.is_alarm()) {
        if let Evidence::Window(w) = finding.evidence {
            add(&mut alarms, &w.first.unlinker.site, finding.count, w.longest.certain_ns);
        }
    }
    alarms
}

fn truth(kernel: &Kernel) -> Alarms {
    let mut alarms = Alarms::new();
    for w in oracle::windows(&kernel.log) {
        // Who looked up again under the lock before using it did use the lock of a table that was not his any more.
        if w.rank.is_alarm() || w.rank == Rank::Revalidated {
            add(&mut alarms, w.unlink.function(), 1, w.certain_ns);
        }
    }
    alarms
}

/// Alarms said and true ones in so many runs.
fn is_sound(row: &Row, seeds: u64) -> (u64, u64) {
    let total = |alarms: &Alarms| alarms.values().map(|(count, _)| count).sum::<u64>();
    let mut found = (0, 0);
    for seed in 0..seeds {
        let kernel = Scenario::random(&row.protocol, seed).run();
        let (said, truth) = (said(&kernel), truth(&kernel));
        for (unlink, (count, certain_ns)) in &said {
            let (most, longest_ns) = truth.get(unlink).copied().unwrap_or_default();
            assert!(
                *count <= most && *certain_ns <= longest_ns,
                "{}, seed {seed}: {unlink}: {count} alarms of up to {certain_ns} ns; in truth {most}, {longest_ns} ns",
                row.name
            );
        }
        found = (found.0 + total(&said), found.1 + total(&truth));
    }
    found
}

fn all_are_sound(seeds: u64) {
    let (mut said, mut true_ones) = (0, 0);
    for row in KERNELS {
        let (s, t) = is_sound(row, seeds);
        assert!(!row.clean || s == 0, "{}", row.name);
        (said, true_ones) = (said + s, true_ones + t);
    }
    println!("{said} of {true_ones} alarms without the releases");
    assert!(2 * said > true_ones, "what is not seen should not hide most of it");
}

#[test]
fn without_ptl_releases_every_alarm_is_true() {
    all_are_sound(100);
}

#[test]
#[ignore = "long"]
fn without_ptl_releases_every_alarm_is_true_in_full() {
    all_are_sound(5000);
}
