//! Every "protected" in the report is true. If a lookup site and an unlink site are reported as excluded each time,
//! or a lease as protected by a lock, no recorded access contradicts it. This holds with lost records, too.
//!
//! The claim does not cover a lookup or an unlink whose own record, or that of its operation, is lost: its site is
//! not known.

use std::collections::BTreeSet;

use observer_engine::{event::Body, view::ProtectionView};

use super::{
    compare,
    kernel::{Kernel, TaskNo},
    kernels::{KERNELS, Row},
    predicted,
    random::Random,
    scenario::Scenario,
    streams::{Holes, through_rings},
    truth::{Lease, Log, Unlink},
};

#[derive(Debug, Default)]
struct Found {
    runs: usize,
    /// Runs in which a pair of sites was truly open, and all those pairs.
    open_runs: usize,
    open: usize,
    protected: usize,
    covered: u64,
}

/// Returns the pairs of sites that were open, according to the records.
fn open(kernel: &Kernel, is_lost: impl Fn(u64) -> bool) -> BTreeSet<(String, String)> {
    let mut log: Log = kernel.log.clone();
    let frames = |task: TaskNo, at_ns: u64| is_frame_lost(kernel, task, at_ns, &is_lost);
    let is_lost_of = |lease: &Lease| is_lost(lease.start_ns) || frames(lease.task, lease.start_ns);
    for lease in log.leases.iter_mut().filter(|lease| is_lost_of(lease)) {
        // No link has such a table.
        (lease.table, lease.addr, lease.to) = (u64::MAX, 0, 0);
    }
    for unlink in log.unlinks.iter_mut() {
        let Unlink { task, at_ns: done_ns, .. } = *unlink;
        let is_known = |at_ns: u64| !is_lost(at_ns) && !frames(task, done_ns);
        unlink.reported_ns = unlink.reported_ns.filter(|(_, at_ns)| is_known(*at_ns));
    }
    // For some, both answers are right: no lock on which the lease depends shows if the VMA was the same.
    let pairs = predicted::predictions(&log, &[]).into_iter();
    let is_sure = |p: &predicted::Prediction| p.leases.0 > 0 && p.unlinks.0 > 0;
    let sure = pairs.filter(|(_, prediction)| is_sure(prediction));
    sure.map(|((lookup, unlink, _), _)| (lookup.to_owned(), unlink.to_owned())).collect()
}

/// Returns true if the begin or the end of an operation was lost since the task was last outside all operations.
fn is_frame_lost(kernel: &Kernel, task: TaskNo, at_ns: u64, is_lost: impl Fn(u64) -> bool) -> bool {
    let tid = kernel.tasks[task].tid;
    let (mut depth, mut any) = (0_usize, false);
    for event in kernel.events.iter().filter(|e| e.tid.0 == tid && e.time_ns <= at_ns) {
        match event.body {
            Body::OpBegin { .. } | Body::CallbackBegin { .. } => depth += 1,
            Body::OpEnd { .. } => depth = depth.saturating_sub(1),
            _ => continue,
        }
        any |= is_lost(event.time_ns);
        // A loss at the end of an operation counts for the next operation, too.
        any &= depth > 0 || is_lost(event.time_ns);
    }
    any
}

fn claims(view: &ProtectionView, open: &BTreeSet<(String, String)>, found: &mut Found) -> Vec<String> {
    found.open_runs += usize::from(!open.is_empty());
    found.open += open.len();
    found.runs += 1;
    found.covered += view.lookups.iter().flat_map(|l| &l.covered).map(|(_, n)| n).sum::<u64>();
    let protected = view.pairs.iter().filter(|p| !p.open && !p.always.is_empty());
    let mut wrong = Vec::new();
    for pair in protected {
        found.protected += 1;
        if open.contains(&(pair.lookup.to_string(), pair.unlink.to_string())) {
            wrong.push(format!("{}/{} was open, and is called protected", pair.lookup, pair.unlink));
        }
    }
    wrong
}

fn all_are_true(seeds: u64) {
    let (mut whole, mut lossy, mut wrong) = (Found::default(), Found::default(), Vec::new());
    for row in KERNELS {
        for seed in 0..seeds {
            let kernel = Scenario::random(&row.protocol, seed).run();
            let engine = compare::engine(&kernel);
            let differences = claims(&engine.protection(), &open(&kernel, |_| false), &mut whole);
            wrong.extend(differences.into_iter().map(|w| format!("{}, seed {seed}: {w}", row.name)));
            wrong.extend(with_loss(row, &kernel, seed, &mut lossy));
        }
    }
    println!("whole: {whole:?}");
    println!("with loss: {lossy:?}, {} claims are false", wrong.len());
    assert!(whole.protected > 1000 && lossy.covered > 1000, "nothing was claimed: {whole:?}, {lossy:?}");
    assert!(lossy.open_runs > 10, "nothing was open: {lossy:?}");
    wrong.truncate(20);
    assert!(wrong.is_empty(), "such as\n{}", wrong.join("\n"));
}

fn with_loss(row: &Row, kernel: &Kernel, seed: u64, found: &mut Found) -> Vec<String> {
    let mut random = Random(seed ^ 0x10_55);
    let holes = Holes::random(kernel, &mut random);
    let (engine, lost) = through_rings(kernel, |e| holes.lose(e), &mut random);
    if lost == 0 {
        return Vec::new();
    }
    let lost_ns: BTreeSet<u64> = kernel.events.iter().filter(|e| holes.lose(e)).map(|e| e.time_ns).collect();
    let open = open(kernel, |at_ns| lost_ns.contains(&at_ns));
    let differences = claims(&engine.protection(), &open, found);
    differences.into_iter().map(|w| format!("{}, seed {seed}, {holes:?}: {w}", row.name)).collect()
}

#[test]
fn pairs_reported_as_protected_are_protected() {
    all_are_true(100);
}

#[test]
#[ignore = "long"]
fn pairs_reported_as_protected_are_protected_in_full() {
    all_are_true(2000);
}
