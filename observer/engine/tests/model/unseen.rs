//! A kernel in which the release of a PTL is invisible, as in 5.10: the same runs without those records.
//!
//! Less is certain then, but everything that is reported must be true: each alarm is a window in which the pointer
//! was used after the unlink, and none is longer than in truth.

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

/// Windows that are alarms, by unlink site: count, and the longest certain time. The lookup site may be another one,
/// because it is less certain that a pointer was passed on.
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

fn reported(kernel: &Kernel) -> Alarms {
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
        // A task that looked up again under the PTL before any use did use the PTL of the old table.
        if w.rank.is_alarm() || w.rank == Rank::Revalidated {
            add(&mut alarms, w.unlink.function(), 1, w.certain_ns);
        }
    }
    alarms
}

/// Returns the numbers of reported and of true alarms in this number of runs.
fn is_sound(row: &Row, seeds: u64) -> (u64, u64) {
    let total = |alarms: &Alarms| alarms.values().map(|(count, _)| count).sum::<u64>();
    let mut found = (0, 0);
    for seed in 0..seeds {
        let kernel = Scenario::random(&row.protocol, seed).run();
        let (reported, truth) = (reported(&kernel), truth(&kernel));
        for (unlink, (count, certain_ns)) in &reported {
            let (most, longest_ns) = truth.get(unlink).copied().unwrap_or_default();
            assert!(
                *count <= most && *certain_ns <= longest_ns,
                "{}, seed {seed}: {unlink}: {count} alarms of up to {certain_ns} ns; in truth {most}, {longest_ns} ns",
                row.name
            );
        }
        found = (found.0 + total(&reported), found.1 + total(&truth));
    }
    found
}

fn all_are_sound(seeds: u64) {
    let (mut reported, mut true_ones) = (0, 0);
    for row in KERNELS {
        let (s, t) = is_sound(row, seeds);
        assert!(!row.clean || s == 0, "{}", row.name);
        (reported, true_ones) = (reported + s, true_ones + t);
    }
    println!("{reported} of {true_ones} alarms without the releases");
    assert!(2 * reported > true_ones, "the missing records should hide less than half of the alarms");
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
