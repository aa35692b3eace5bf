//! Runs many cases, and holds the engine to what can be said of each.

use std::collections::BTreeMap;

use super::{
    case::{Case, shrink},
    check::{Checked, Tally},
    machine, run,
};

/// What is wrong, with the run; empty: nothing.
fn differences(case: &Case, tally: &mut Tally) -> String {
    let programs = case.programs();
    if programs.is_empty() {
        return String::new();
    }
    tally.cases += 1;
    let Some((truth, states)) = machine::reachable(&programs, case.born.min(programs.len())) else {
        tally.too_many += 1;
        return String::new();
    };
    tally.states += states;
    tally.reachable += usize::from(!truth.is_empty());
    let run = run::run(case, &programs);
    let checked = Checked { case, programs: &programs, run: &run, truth: &truth };
    let mut out = checked.whole(tally);
    if !out.is_empty() {
        return format!("{}{out}", checked.text());
    }
    for seed in 0..2 {
        out = checked.lossy(case.schedule ^ seed, tally);
        if !out.is_empty() {
            return format!("{}# with loss:\n{out}", checked.text());
        }
    }
    out
}

/// What kind of difference it is: the first words of the first one.
fn sort_of(differences: &str) -> String {
    let about = |l: &&str| {
        ["# false", "# missing", "# guarded", "# one task", "# a step", "# hangs", "# no"]
            .iter()
            .any(|begin| l.starts_with(begin))
    };
    let line = differences.lines().find(about).unwrap_or("");
    line.split(':').next().unwrap_or("").to_owned()
}

fn smallest(case: Case) -> String {
    let sort = sort_of(&differences(&case, &mut Tally::default()));
    let small = shrink(case, |c| sort_of(&differences(c, &mut Tally::default())) == sort);
    differences(&small, &mut Tally::default())
}

fn agree(seeds: std::ops::Range<u64>) {
    let mut tally = Tally::default();
    let mut wrong: BTreeMap<String, (usize, Vec<u64>)> = BTreeMap::new();
    for seed in seeds {
        let case = Case::random(seed);
        let differences = differences(&case, &mut tally);
        if !differences.is_empty() {
            let entry = wrong.entry(sort_of(&differences)).or_default();
            entry.0 += 1;
            if entry.1.len() < 5 {
                entry.1.push(seed);
            }
        }
    }
    println!("{tally:#?}");
    let mut told = String::new();
    for (sort, (n, seeds)) in &wrong {
        let small = seeds.iter().map(|s| (smallest(Case::random(*s)), *s)).min_by_key(|(text, _)| text.len());
        let (text, seed) = small.unwrap_or_default();
        told.push_str(&format!(
            "{n} times{} such as seeds {seeds:?}; seed {seed}, smallest:\n{text}\n",
            &sort[1..]
        ));
    }
    assert!(wrong.is_empty(), "{told}");
    let some = |counts: &BTreeMap<&str, usize>, name: &str| counts.get(name).copied().unwrap_or(0);
    let n = tally.cases;
    assert!(tally.too_many * 100 < n, "too many cases are too large: {}", tally.too_many);
    assert!(tally.reachable * 10 > n && tally.hangs * 50 > n && tally.relocks * 50 > n, "too little happens");
    for rank in ["confirmed", "feasible", "guarded", "class-only"] {
        assert!(some(&tally.cycles, rank) * 200 > n, "hardly any {rank}");
    }
}

#[test]
fn every_alarm_can_happen_and_what_can_happen_is_listed() {
    agree(0..20_000);
}

#[test]
#[ignore = "long: 200,000 cases"]
fn every_alarm_can_happen_and_what_can_happen_is_listed_in_full() {
    agree(20_000..220_000);
}

/// For whoever looks into a failure: `DEADLOCK_SEED` is the seed.
#[test]
#[ignore = "for one seed, told by the environment"]
fn one_seed() {
    let Ok(seed) = std::env::var("DEADLOCK_SEED") else {
        println!("DEADLOCK_SEED says which");
        return;
    };
    let case = Case::random(seed.parse().expect("a seed is a number"));
    let mut tally = Tally::default();
    let said = differences(&case, &mut tally);
    println!("{tally:#?}");
    assert!(said.is_empty(), "{said}\nsmallest:\n{}", smallest(case));
}
