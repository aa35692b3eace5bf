//! A model of page-table sharing whose truth is known, and a brute-force oracle: whatever the interleaving, the engine finds
//! every window that was there, none that was not, and says the same of it.
//!
//! `model/kernel.rs` simulates, `model/programs.rs` has the paths of the kernel in their variants, `model/oracle.rs` says
//! what there is to find.

#[path = "model/compare.rs"]
mod compare;
#[path = "model/kernel.rs"]
mod kernel;
#[path = "model/locks.rs"]
mod locks;
#[path = "model/oracle.rs"]
mod oracle;
#[path = "model/programs.rs"]
mod programs;
#[path = "model/random.rs"]
mod random;
#[path = "model/scenario.rs"]
mod scenario;
#[path = "model/sites.rs"]
mod sites;
#[path = "model/truth.rs"]
mod truth;

use programs::{Late, Protocol, Told};
use scenario::{Scenario, shrink};

const PROTECTED: Protocol = Protocol {
    vma_lock: true,
    walkers_lock: true,
    first_look: false,
    late: Late::Never,
    split: false,
    split_takes_i_mmap: true,
    moves: true,
    told: Told::Both,
    waits: true,
    late_share: false,
    walk_seen: true,
    named_early: true,
    cpus: 4,
    run_max: 6,
};

fn check(protocol: &Protocol, seeds: std::ops::Range<u64>) {
    let (mut leases, mut unlinks, mut windows, mut events) = (0, 0, 0, 0);
    for seed in seeds {
        let scenario = Scenario::random(protocol, seed);
        let kernel = scenario.run();
        leases += kernel.log.leases.len();
        unlinks += kernel.log.unlinks.len();
        events += kernel.events.len();
        windows += oracle::windows(&kernel.log).len();
        let differences = compare::differences(&kernel);
        if !differences.is_empty() {
            let small = shrink(scenario, |s| !compare::differences(&s.run()).is_empty());
            let kernel = small.run();
            panic!(
                "seed {seed}\n{differences}\nsmallest:\n{}\n{}",
                compare::text(&small, &kernel),
                compare::differences(&kernel)
            );
        }
    }
    println!("{leases} leases, {unlinks} unlinks, {windows} windows, {events} events");
}

#[test]
fn protected() {
    check(&PROTECTED, 0..2000);
}

#[test]
fn unprotected() {
    let p = Protocol { walkers_lock: false, first_look: true, split: true, split_takes_i_mmap: false, ..PROTECTED };
    check(&p, 0..2000);
}

#[test]
fn no_vma_lock() {
    let p = Protocol { vma_lock: false, first_look: true, split: true, ..PROTECTED };
    check(&p, 0..2000);
}

#[test]
fn blindly() {
    let p = Protocol { late: Late::Blindly, ..PROTECTED };
    check(&p, 0..2000);
}

#[test]
fn revalidates() {
    let p = Protocol { late: Late::Revalidates, ..PROTECTED };
    check(&p, 0..2000);
}
#[test]
fn revalidates_before() {
    let p = Protocol { late: Late::RevalidatesBefore, ..PROTECTED };
    check(&p, 0..2000);
}
#[test]
fn revalidates_after_use() {
    let p = Protocol { late: Late::RevalidatesAfterUse, ..PROTECTED };
    check(&p, 0..2000);
}
#[test]
fn ignores_takes() {
    let p = Protocol { late: Late::IgnoresTakesAgain, ..PROTECTED };
    check(&p, 0..2000);
}
#[test]
fn ignores_hands() {
    let p = Protocol { late: Late::IgnoresHandsOver, ..PROTECTED };
    check(&p, 0..2000);
}
