//! The matrix of one kernel: for every scenario, the counts of each role and of the witness.
//!
//! Writes `/out/matrix.json` for `cargo xtask matrix`, which judges and prints. This side measures and compares; it does not
//! decide which result is good enough.

use std::{collections::BTreeMap, env, fs};

use anyhow::{Context as _, Result};
use observer::{
    doctor::exercise::{self, Ending, Run},
    facts::{self, Facts, MEASURED},
    host::{
        attach,
        plan::{self, Failure, Outcome, Plan, plan},
        probe::{self, Host},
        saved::Saved,
    },
    meta::Level,
};
use observer_engine::setup::{Coverage, Grade, Role};
use serde_json::{Value, json};

use super::witness::{Counts, Witness};
use crate::differs;

/// The witness's measure that each role or lock class of observer is compared with.
const COMPARED: [(&str, &str, Role, &str); 15] = [
    ("lookup", "lookup", Role::Lookup, ""),
    ("share", "share", Role::Share, ""),
    ("unshare", "unshare", Role::Unshare, ""),
    ("unlink", "unshare", Role::Unlink, ""),
    ("table-alloc", "table-alloc", Role::TableAlloc, ""),
    ("table-free", "table-free", Role::TableFree, ""),
    ("i_mmap_rwsem", "i_mmap_rwsem", Role::Lock, "i_mmap_rwsem"),
    ("i_mmap_rwsem released", "i_mmap_rwsem released", Role::Lock, "i_mmap_rwsem"),
    ("vma_lock", "vma_lock", Role::Lock, "vma_lock"),
    ("vma_lock released", "vma_lock released", Role::Lock, "vma_lock"),
    ("fault_mutex", "fault_mutex", Role::Lock, "fault_mutex"),
    ("fault_mutex released", "fault_mutex released", Role::Lock, "fault_mutex"),
    ("ptl", "ptl", Role::Ptl, ""),
    ("ptl released", "ptl released", Role::Ptl, "release"),
    ("folio-release", "folio-release", Role::FolioRelease, ""),
];

/// Number of huge pages: enough for every scenario.
const POOL: &str = "48";

/// Functions that each scenario must reach, by their names on all kernels.
const REACHES: [(&str, &[&str]); 15] = [
    ("smaps", &["smaps_hugetlb_range"]),
    ("pagemap", &["pagemap_hugetlb_range"]),
    ("numa_maps", &["gather_hugetlb_stats"]),
    ("mincore", &["mincore_hugetlb"]),
    ("vmread", &["follow_hugetlb_page", "vma_pgtable_walk_begin"]),
    ("movestat", &["follow_huge_pmd_pte", "vma_pgtable_walk_begin"]),
    ("mbind", &["queue_pages_hugetlb", "queue_folios_hugetlb"]),
    ("pagemap-scan", &["pagemap_scan_hugetlb_entry"]),
    ("uffd-copy", &["mcopy_atomic", "mfill_atomic_copy"]),
    ("uffd-continue", &["mcopy_continue", "mfill_atomic_continue"]),
    ("uffd-poison", &["mfill_atomic_poison"]),
    ("mprotect", &["hugetlb_change_protection"]),
    ("mremap", &["move_hugetlb_page_tables"]),
    ("uffd-wp", &["hugetlb_unshare_pmds"]),
    ("migrate", &["remove_migration_pte"]),
];

/// Measures everything and writes the report.
pub fn run() -> Result<()> {
    let row = env::var("OBSERVER_GUEST_KERNEL").unwrap_or_default();
    let wanted = env::var("OBSERVER_MATRIX_SCENARIOS").unwrap_or_default();
    // With a large enough pool, the kernel need not compact memory for huge pages, which migrates pages of any kind at any
    // time.
    fs::write("/proc/sys/vm/nr_hugepages", POOL).context("enlarge the pool of huge pages")?;
    let exe = env::var_os("OBSERVER_BIN").context("OBSERVER_BIN: run by `cargo xtask matrix`")?;
    let facts = facts::load()?;
    let host = probe::probe_host(&facts)?;
    let release = host.kernel.release.clone();
    let plan = plan(&facts, &host, plan::Options { level: Level::Full, without: &[] });
    let attached = attach::attach(&plan, 0, false)?;
    let outcomes = attached.outcomes.clone();
    let answers: Vec<Failure> = outcomes.iter().flat_map(|o| o.failures.clone()).collect();
    let saved = Saved::of(&facts, &host, Some(&answers));
    let facts_checked = check_facts(&facts, &host, &plan, &outcomes, &row);
    let coverage = plan.coverage(&outcomes);
    let symbols = watched(&plan, &outcomes);

    let mut run = Run::start_with(attached, host, &plan, exe.into())?;
    let programs = programs(&run);
    let targets: Vec<String> = symbols.values().cloned().collect();
    // The witness knows the kernels of our rows; its gaps on another kernel are not observer's faults.
    let witness = match Witness::start(&targets) {
        Err(error) if !MEASURED.contains(&row.as_str()) => {
            println!("no witness on this kernel: {error:#}");
            None
        }
        witness => Some(witness?),
    };
    // Setting up the witness touched huge pages.
    run.restart()?;
    let mut scenarios = Vec::new();
    let mut failures = Vec::new();
    let graded: Vec<Coverage> = coverage.iter().map(|g| g.coverage.clone()).collect();
    for scenario in exercise::scenarios() {
        if !wanted.is_empty() && !wanted.split(',').any(|w| w == scenario.name) {
            continue;
        }
        let before = witness.as_ref().map(Witness::counts).transpose()?;
        let seen = run.scenario(scenario)?;
        let after = witness.as_ref().map(Witness::counts).transpose()?;
        let counted = after.zip(before).map(|(after, before)| after.since(&before)).unwrap_or_default();
        println!("{:<18} {:<8} {}", seen.name, seen.outcome.name(), seen.text);
        failures.extend(seen.problems.iter().map(|p| format!("{}: {p}", seen.name)));
        failures.extend(functions_differ(&seen, &symbols, &counted));
        failures.extend(not_reached(&seen));
        scenarios.push(measured(&seen, &graded, &counted));
    }
    drop(witness);
    failures.extend(run.finish()?);

    let coverage: Vec<Value> = coverage.iter().map(coverage_row).collect();
    let (checked, problems) = facts_checked;
    let matrix = json!({
        "schema": "observer-matrix/1",
        "kernel": release,
        "row": row,
        "coverage": coverage,
        "programs": programs,
        "scenarios": scenarios,
        "facts": { "checked": checked, "problems": problems },
        "failures": failures,
    });
    fs::create_dir_all("/out")?;
    fs::write("/out/kernel.json", serde_json::to_vec_pretty(&saved)?).context("write /out/kernel.json")?;
    fs::write("/out/matrix.json", serde_json::to_vec_pretty(&matrix)?).context("write /out/matrix.json")?;
    Ok(())
}

fn coverage_row(graded: &plan::Graded) -> Value {
    let c = &graded.coverage;
    json!({
        "role": c.role.name(), "part": c.part, "grade": c.grade.name(), "reason": c.reason, "advice": graded.advice,
    })
}

fn programs(run: &Run) -> Vec<Value> {
    let row = |loaded: attach::Loaded| {
        let name = &loaded.program.name;
        let family = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('_');
        json!({
            "program": name, "family": family, "target": loaded.program.target,
            "attempt": loaded.program.attach.name(), "verified": loaded.verified, "translated": loaded.translated,
        })
    };
    run.loaded().into_iter().map(row).collect()
}

/// Functions whose entries are all counted, with the symbol that they are watched under.
fn watched(plan: &Plan, outcomes: &[Outcome]) -> BTreeMap<String, String> {
    let sites = plan.working(outcomes).filter(|(site, _)| exercise::COUNTED_WHOLE.contains(&site.fact.role));
    sites.map(|(site, way)| (site.fact.name().to_owned(), way.programs[0].target.clone())).collect()
}

/// Checks that a row of the facts serves exactly the kernels that it declares.
fn check_facts(
    facts: &Facts,
    host: &Host,
    plan: &Plan,
    outcomes: &[Outcome],
    row: &str,
) -> (usize, Vec<String>) {
    if !MEASURED.contains(&row) {
        return (0, Vec::new());
    }
    let (mut checked, mut problems) = (0, Vec::new());
    let mut check = |what: String, says: bool, is: bool| {
        checked += 1;
        if says != is {
            let words = |there: bool| if there { "there" } else { "not there" };
            problems.push(format!("{what}: is {}, and the row says {}", words(is), words(says)));
        }
    };
    for site in &facts.sites {
        let serves =
            plan.working(outcomes).any(|(s, _)| s.fact.role == site.role && s.fact.name() == site.name());
        check(format!("{} as {}", site.name(), site.role.name()), site.on.has(row), serves);
    }
    for path in facts.fields.iter().flat_map(|f| &f.paths) {
        check(path.path.clone(), path.on.has(row), host.types.field(&path.path).is_some());
    }
    for mark in &facts.marks {
        let enumerator = host.types.enumerator(&mark.r#type, &mark.enumerator);
        let is = enumerator.is_some() && host.types.field(&mark.path).is_some();
        check(mark.enumerator.clone(), mark.on.has(row), is);
    }
    for variable in &facts.variables {
        check(
            variable.symbol.clone(),
            variable.on.has(row),
            host.symbols.address(&variable.symbol).is_some(),
        );
    }
    (checked, problems)
}

/// Functions that serve all memory: other tasks call them at any time, also between two readings of the counters.
const GENERAL: [&str; 8] = [
    "exit_mmap",
    "vma_pgtable_walk_begin",
    "migrate_pages",
    "try_to_migrate_one",
    "try_to_unmap_one",
    "remove_migration_pte",
    "__walk_page_range",
    "soft_offline_page",
];

/// Entries that observer's program and the witness's probe counted differently.
fn functions_differ(
    seen: &exercise::Scenario,
    symbols: &BTreeMap<String, String>,
    counted: &Counts,
) -> Vec<String> {
    let differ = |ours: &exercise::Fired| {
        let symbol = symbols.get(&ours.name).filter(|_| !GENERAL.contains(&ours.name.as_str()))?;
        let theirs = counted.functions.get(symbol).copied().flatten()?;
        differs(theirs, ours.count, seen.skipped).then(|| {
            format!("{}: {symbol} was entered {theirs} times, and {} were seen", seen.name, ours.count)
        })
    };
    seen.functions.iter().filter_map(differ).collect()
}

/// Says which function a finished scenario did not reach, if that function is watched here.
fn not_reached(seen: &exercise::Scenario) -> Option<String> {
    let (_, names) = REACHES.iter().find(|(scenario, _)| *scenario == seen.name)?;
    let mut watched = seen.functions.iter().filter(|f| names.contains(&f.name.as_str())).peekable();
    watched.peek()?;
    let reached = watched.any(|f| f.count > 0) || seen.outcome != Ending::Done;
    (!reached).then(|| format!("{}: none of {} was entered", seen.name, names.join(", ")))
}

fn measured(seen: &exercise::Scenario, coverage: &[Coverage], counted: &Counts) -> Value {
    let all = counted.measures();
    let theirs = |name: &str| all.iter().find(|(n, _)| *n == name).and_then(|(_, n)| *n);
    // A blind role or part is not compared.
    let is_blind = |role: Role, part: &str| {
        let mut rows = coverage.iter().filter(|c| c.role == role && (c.part.is_empty() || c.part == part));
        rows.any(|c| c.grade == Grade::Blind)
    };
    let rows = COMPARED.iter().filter_map(|(name, witness, role, part)| {
        let ours = seen.fired.iter().find(|f| f.name == *name)?.count;
        let theirs = theirs(witness).filter(|_| !is_blind(*role, part));
        let skipped = if *role == Role::Ptl { seen.skipped_spinlocks } else { seen.skipped };
        Some(json!({ "name": name, "witness": theirs, "observer": ours, "skipped": skipped }))
    });
    let skipped = seen.outcome == Ending::Skipped;
    let measures: Vec<Value> = if skipped { Vec::new() } else { rows.collect() };
    json!({
        "name": seen.name, "outcome": seen.outcome.name(), "text": seen.text, "measures": measures,
        "extra": [{ "name": "windows", "value": seen.windows }],
    })
}
