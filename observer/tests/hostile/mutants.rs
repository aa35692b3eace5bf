//! Fixtures that were changed at random and have right checksums: nothing panics, nothing takes long, and no sink is misled.
//!
//! Debug builds check for overflows, so that a sum that wraps is a panic here. A failure names its seed; `OBSERVER_MUTANT=SEED` runs
//! that one again.

use observer::report::Report;

use super::{
    LIMIT,
    everything::{self, OnDisk, processor_time},
    fixtures,
    random::Random,
    subject::{Subject, mutate},
};

/// Mutants of a run of the tests.
const MUTANTS: u64 = 300;
/// Fixtures up to this size are mutated as a whole: the others take seconds each.
const BYTES_MAX: usize = 30_000;
/// Bytes of records in a part of a fixture.
const PART_BYTES: usize = 4_000;

/// A recording to mutate, and the report on it.
struct Original {
    subject: Subject,
    report: Report,
    is_small: bool,
}

fn originals() -> Vec<Original> {
    let of = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        let is_small = bytes.len() <= BYTES_MAX;
        Original {
            subject: Subject::read(&bytes).unwrap(),
            report: everything::report(&bytes).unwrap(),
            is_small,
        }
    };
    let all: Vec<Original> = fixtures::paths().iter().map(of).collect();
    assert!(all.iter().filter(|original| original.is_small).count() >= 4);
    all
}

fn check(originals: &[Original], seed: u64) {
    let mut random = Random::new(seed);
    let whole = &originals[random.below(originals.len() as u64) as usize];
    // A small recording is mostly what a change made of it, and ten of them take as long as a large one.
    let mut mutant = if whole.is_small && random.below(8) == 0 {
        whole.subject.clone()
    } else {
        whole.subject.part(PART_BYTES, &mut random)
    };
    mutate(&mut mutant, &mut random);
    let result = std::panic::catch_unwind(move || {
        let bytes = mutant.written();
        let begun = processor_time();
        // A description with unknown names is refused, as one of a later version.
        let Some(report) = everything::report(&bytes) else { return };
        everything::sinks(&report);
        everything::comparisons(&whole.report, &report);
        // These read the file again and again.
        if random.below(4) == 0 {
            let disk = OnDisk::new(&bytes);
            disk.lookups(&bytes, &report, &mut random);
            disk.dashboard(&report, &mut random);
        }
        let took = processor_time() - begun;
        assert!(took < LIMIT, "{took:?}");
    });
    assert!(result.is_ok(), "OBSERVER_MUTANT={seed}");
}

#[test]
fn mutants_with_right_checksums_are_reported_or_refused() {
    let originals = originals();
    match std::env::var("OBSERVER_MUTANT") {
        Ok(seed) => check(&originals, seed.parse().unwrap()),
        Err(_) => (0..MUTANTS).for_each(|seed| check(&originals, seed)),
    }
}

/// `OBSERVER_MUTANTS=1000000 cargo test --profile soak -p observer --test hostile -- --ignored soak`; `OBSERVER_MUTANTS_FROM=N` continues a run.
#[test]
#[ignore = "takes hours"]
fn soak() {
    let originals = originals();
    let number = |name, default| std::env::var(name).map_or(default, |n| n.parse().unwrap());
    let (from, count): (u64, u64) = (number("OBSERVER_MUTANTS_FROM", 0), number("OBSERVER_MUTANTS", 10_000));
    for n in from..from + count {
        check(&originals, 1_000_000 + n);
        if n % 1_000 == 0 {
            println!("{n} mutants");
        }
    }
}
