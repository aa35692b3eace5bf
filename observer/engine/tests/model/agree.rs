//! Runs every kernel many times and checks the engine against the oracle.

use std::{collections::BTreeMap, ops::Range};

use super::{
    compare,
    kernels::{KERNELS, Row},
    oracle, predicted,
    scenario::{Scenario, shrink},
};

/// Counts of the windows and predictions in the runs of one kernel.
#[derive(Default)]
struct Found {
    leases: usize,
    unlinks: usize,
    events: usize,
    windows: BTreeMap<&'static str, usize>,
    predictions: BTreeMap<&'static str, usize>,
}

fn run(row: &Row, seeds: Range<u64>) -> Result<Found, String> {
    let mut found = Found::default();
    for seed in seeds {
        let scenario = Scenario::random(&row.protocol, seed);
        let kernel = scenario.run();
        found.leases += kernel.log.leases.len();
        found.unlinks += kernel.log.unlinks.len();
        found.events += kernel.events.len();
        let windows = oracle::windows(&kernel.log);
        for (_, _, rank) in predicted::predictions(&kernel.log, &windows).into_keys() {
            *found.predictions.entry(rank.name()).or_default() += 1;
        }
        for window in &windows {
            *found.windows.entry(window.rank.name()).or_default() += 1;
        }
        let differences = compare::differences(&kernel);
        if !differences.is_empty() {
            let small = shrink(scenario, |s| !compare::differences(&s.run()).is_empty());
            let kernel = small.run();
            let (text, differences_left) = (compare::text(&small, &kernel), compare::differences(&kernel));
            return Err(format!(
                "{}, seed {seed}\n{differences}\nsmallest:\n{text}\n{differences_left}",
                row.name
            ));
        }
    }
    Ok(found)
}

/// Runs all kernels with this number of seeds each.
fn agree(seeds: u64) {
    let (mut failed, mut ranks, mut runs) = (Vec::new(), BTreeMap::<&str, usize>::new(), 0);
    for row in KERNELS {
        match run(row, 0..seeds) {
            Ok(found) => {
                println!(
                    "{}: {} leases, {} unlinks, {} events, windows {:?}, predictions {:?}",
                    row.name, found.leases, found.unlinks, found.events, found.windows, found.predictions
                );
                runs += seeds;
                let least = seeds as usize;
                assert!(
                    found.leases > 5 * least && found.unlinks > least,
                    "{}: too little happens",
                    row.name
                );
                let worst: Vec<_> =
                    [&found.windows, &found.predictions].iter().flat_map(|f| f.keys()).collect();
                assert!(!row.clean || worst.is_empty(), "{}: {worst:?} in a kernel that is clean", row.name);
                for (rank, n) in found.windows.iter().chain(&found.predictions) {
                    *ranks.entry(rank).or_default() += n;
                }
            }
            Err(e) => failed.push(e),
        }
    }
    println!("{runs} interleavings, found {ranks:?}");
    assert!(failed.is_empty(), "{} of {} kernels\n{}", failed.len(), KERNELS.len(), failed.join("\n\n"));
    for rank in ["freed", "used", "held", "predicted", "possible", "revalidated"] {
        assert!(ranks.get(rank).is_some_and(|n| *n >= 5), "hardly any {rank}: {ranks:?}");
    }
}

#[test]
fn the_engine_agrees_with_the_oracle() {
    agree(200);
}

#[test]
#[ignore = "long: over 100,000 interleavings"]
fn the_engine_agrees_with_the_oracle_in_full() {
    agree(5000);
}

/// To debug a failure: `MODEL_KERNEL` is the kernel's name, `MODEL_SEED` the seed.
#[test]
#[ignore = "for one seed, given by the environment"]
fn one_seed() {
    let (Ok(kernel), Ok(seed)) = (std::env::var("MODEL_KERNEL"), std::env::var("MODEL_SEED")) else {
        println!("MODEL_KERNEL and MODEL_SEED say which");
        return;
    };
    let seed = seed.parse().expect("a seed is a number");
    let row = KERNELS.iter().find(|row| row.name == kernel).expect("a kernel of the list");
    if let Err(e) = run(row, seed..seed + 1) {
        panic!("{e}");
    }
}
