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
    paired: true,
    cpus: 4,
    run_max: 6,
};

fn check(protocol: &Protocol, seeds: std::ops::Range<u64>) {
    let (mut leases, mut unlinks, mut windows, mut events) = (0, 0, 0, 0);
    let mut ranks = std::collections::BTreeMap::new();
    for seed in seeds {
        let scenario = Scenario::random(protocol, seed);
        let kernel = scenario.run();
        leases += kernel.log.leases.len();
        unlinks += kernel.log.unlinks.len();
        events += kernel.events.len();
        for w in oracle::windows(&kernel.log) {
            windows += 1;
            *ranks.entry(w.rank.name()).or_insert(0) += 1;
        }
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
    println!("{leases} leases, {unlinks} unlinks, {windows} windows, {events} events {ranks:?}");
}


/// Kernels, by name.
const KERNELS: &[(&str, Protocol)] = &[
    ("protected", PROTECTED),
    ("protected, entries only", Protocol { told: Told::Entries, ..PROTECTED }),
    ("protected, late share", Protocol { late_share: true, told: Told::Body, ..PROTECTED }),
    ("first look", Protocol { first_look: true, ..PROTECTED }),
    ("split", Protocol { split: true, ..PROTECTED }),
    ("split without i_mmap", Protocol { split: true, split_takes_i_mmap: false, ..PROTECTED }),
    ("walkers without", WALKERS),
    ("walkers without, entries only", Protocol { told: Told::Entries, ..WALKERS }),
    ("walkers without, body only", Protocol { told: Told::Body, waits: false, ..WALKERS }),
    ("walkers without, late share", Protocol { late_share: true, ..WALKERS }),
    ("walkers without, unseen lookups", Protocol { walk_seen: false, ..WALKERS }),
    ("walkers without, everything", EVERYTHING),
    ("everything, entries only", Protocol { told: Told::Entries, split_takes_i_mmap: true, ..EVERYTHING }),
    ("no vma lock", OLD),
    ("no vma lock, entries only", Protocol { told: Told::Entries, ..OLD }),
    ("late", Protocol { late: Late::Blindly, ..PROTECTED }),
    ("late, everything", Protocol { late: Late::Blindly, ..EVERYTHING }),
    ("revalidates", Protocol { late: Late::Revalidates, ..PROTECTED }),
    ("revalidates, everything", Protocol { late: Late::Revalidates, ..EVERYTHING }),
    ("revalidates before", Protocol { late: Late::RevalidatesBefore, ..PROTECTED }),
    ("revalidates after use", Protocol { late: Late::RevalidatesAfterUse, ..PROTECTED }),
    ("ignores, takes again", Protocol { late: Late::IgnoresTakesAgain, ..PROTECTED }),
    ("ignores, hands over", Protocol { late: Late::IgnoresHandsOver, ..PROTECTED }),
];

const WALKERS: Protocol = Protocol { walkers_lock: false, ..PROTECTED };
const OLD: Protocol = Protocol { vma_lock: false, first_look: true, ..PROTECTED };
const EVERYTHING: Protocol =
    Protocol { walkers_lock: false, first_look: true, split: true, split_takes_i_mmap: false, late_share: true, ..PROTECTED };

fn each(seeds: u64) {
    for (name, p) in KERNELS {
        println!("--- {name}");
        let p = *p;
        let r = std::panic::catch_unwind(move || check(&p, 0..seeds));
        if let Err(e) = r {
            let s = e.downcast_ref::<String>().unwrap();
            println!("FAILED {name}\n{s}");
        }
    }
}

#[test]
fn few() {
    each(500);
}

#[test]
#[ignore = "long"]
fn many() {
    each(20_000);
}
