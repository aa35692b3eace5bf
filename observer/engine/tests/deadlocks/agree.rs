//! Runs many cases and checks the engine's findings against the truth of each case.

use std::collections::BTreeMap;

use super::{
    case::{Case, shrink},
    check::{Checked, Tally},
    machine,
    program::{Ins, Pc, Program, TaskNo},
    run,
};

/// Returns the differences between findings and truth, with the run. Empty if there are none.
fn differences(case: &Case, tally: &mut Tally) -> String {
    let programs = case.programs();
    if programs.is_empty() {
        return String::new();
    }
    tally.cases += 1;
    // The kernel starts a child after its parent has released the locks that it held to copy the mm. Only the fork
    // orders the two.
    let forks_inside =
        |p: &Program| p.code.iter().zip(&p.held).any(|(i, h)| matches!(i, Ins::Fork { .. }) && !h.is_empty());
    if programs.iter().any(forks_inside) {
        tally.forks_inside += 1;
        return String::new();
    }
    let (searched, born) = (case.searched(&programs), case.born.min(programs.len()));
    let never = |_, _| false;
    let Some(truth) = machine::reachable_if(&searched, born, never) else {
        tally.too_many += 1;
        return String::new();
    };
    let may_fail = |t: TaskNo, pc: Pc| searched[t].may_fail(pc);
    let is_any = (0..searched.len()).any(|t| (0..searched[t].code.len()).any(|pc| may_fail(t, pc)));
    let allowed = is_any.then(|| machine::reachable_if(&searched, born, may_fail)).flatten();
    tally.states += truth.states;
    tally.reachable += usize::from(!truth.chains.is_empty());
    let run = run::run(case, &programs);
    let checked = Checked {
        case,
        programs: &programs,
        run: &run,
        truth: &truth,
        allowed: allowed.as_ref().unwrap_or(&truth),
    };
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

/// Returns the kind of a difference: the first words of its first line.
fn kind_of(differences: &str) -> String {
    let about = |l: &&str| {
        let begins = ["# can be reached", "# lost:", "# with loss", "# t"];
        l.starts_with("# ") && !begins.iter().any(|begin| l.starts_with(begin))
    };
    let line = differences.lines().find(about).unwrap_or("");
    line.split(':').next().unwrap_or("").to_owned()
}

fn smallest(case: Case) -> String {
    let kind = kind_of(&differences(&case, &mut Tally::default()));
    let fails = |c: &Case| kind_of(&differences(c, &mut Tally::default())) == kind;
    let alone = Case { crowd: 0, ..case.clone() };
    if case.crowd > 100 && !fails(&alone) {
        // A case with a crowd is thousands of lines as a trace, and its failure needs the crowd. Shrink it by hand.
        let differences = differences(&case, &mut Tally::default());
        let differences: String =
            differences.lines().filter(|l| l.starts_with("# ")).map(|l| format!("{l}\n")).collect();
        return format!("# with {} faults of others\n{differences}", case.crowd);
    }
    let small = shrink(if case.crowd > 100 { alone } else { case }, fails);
    differences(&small, &mut Tally::default())
}

/// Checks the engine against each of these cases. Returns the counts of all of them.
fn agree(seeds: std::ops::Range<u64>, make: fn(u64) -> Case) -> Tally {
    let mut tally = Tally::default();
    let mut wrong: BTreeMap<String, (usize, Vec<u64>)> = BTreeMap::new();
    for seed in seeds {
        let differences = differences(&make(seed), &mut tally);
        if !differences.is_empty() {
            let entry = wrong.entry(kind_of(&differences)).or_default();
            entry.0 += 1;
            if entry.1.len() < 5 {
                entry.1.push(seed);
            }
        }
    }
    println!("{tally:#?}");
    let mut wrong_text = String::new();
    for (kind, (n, seeds)) in &wrong {
        let small = seeds.iter().map(|s| (smallest(make(*s)), *s)).min_by_key(|(text, _)| text.len());
        let (text, seed) = small.unwrap_or_default();
        wrong_text.push_str(&format!(
            "{n} times{} such as seeds {seeds:?}; seed {seed}, smallest:\n{text}\n",
            &kind[1..]
        ));
    }
    assert!(wrong.is_empty(), "of {} cases:\n{wrong_text}", tally.cases);
    tally
}

/// Checks random cases. The counts must be high enough for the claims to mean something.
fn agree_on_random(seeds: std::ops::Range<u64>) {
    let tally = agree(seeds, Case::random);
    let some = |counts: &BTreeMap<&str, usize>, name: &str| counts.get(name).copied().unwrap_or(0);
    let n = tally.cases;
    assert!(tally.forks_inside * 10 < n, "too many cases are left out: {}", tally.forks_inside);
    assert!(tally.too_many * 100 < n, "too many cases are too large: {}", tally.too_many);
    assert!(tally.reachable * 10 > n && tally.hangs * 50 > n && tally.relocks * 50 > n, "too little happens");
    assert!(tally.demanded * 40 > n && tally.true_relocks * 50 > n, "too little has to be found");
    assert!(tally.demanded_rings * 1000 > n && tally.after_loss * 100 > n, "too little has to be found");
    for rank in ["confirmed", "feasible", "guarded", "class-only"] {
        assert!(some(&tally.cycles, rank) * 200 > n, "hardly any {rank}");
    }
}

#[test]
fn every_alarm_is_reachable_and_every_reachable_deadlock_is_listed() {
    agree_on_random(0..20_000);
}

#[test]
#[ignore = "long: 200,000 cases"]
fn every_alarm_is_reachable_and_every_reachable_deadlock_is_listed_in_full() {
    agree_on_random(20_000..220_000);
}

/// `DEADLOCK_CASES` is the number of cases. A million cases take some minutes on one core, in a release build.
#[test]
#[ignore = "as long as the environment says"]
fn soak() {
    let Ok(cases) = std::env::var("DEADLOCK_CASES") else {
        println!("DEADLOCK_CASES says how many");
        return;
    };
    let cases: u64 = cases.parse().expect("a number of cases");
    agree_on_random(1_000_000..1_000_000 + cases);
}

fn agree_on_crowds(seeds: std::ops::Range<u64>) {
    let tally = agree(seeds, Case::crowded);
    assert!(tally.demanded * 30 > tally.cases, "too little has to be found: {}", tally.demanded);
}

/// With up to 20,000 faults of other tasks between the steps, every finding that is required must still be reported.
#[test]
fn other_tasks_change_no_verdict() {
    agree_on_crowds(0..60);
}

#[test]
#[ignore = "long: 1,000 cases of up to 20,000 faults"]
fn other_tasks_change_no_verdict_in_full() {
    agree_on_crowds(60..1_060);
}

/// To debug a failure: `DEADLOCK_SEED` is the seed. With `DEADLOCK_CROWD` set, the case has a crowd.
#[test]
#[ignore = "for one seed, given by the environment"]
fn one_seed() {
    let Ok(seed) = std::env::var("DEADLOCK_SEED") else {
        println!("DEADLOCK_SEED says which");
        return;
    };
    let make = if std::env::var_os("DEADLOCK_CROWD").is_some() { Case::crowded } else { Case::random };
    let case = make(seed.parse().expect("a seed is a number"));
    let mut tally = Tally::default();
    let differences = differences(&case, &mut tally);
    println!("{tally:#?}");
    assert!(differences.is_empty(), "{differences}\nsmallest:\n{}", smallest(case));
}
