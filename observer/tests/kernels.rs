//! Tests of the plan on the five measured kernels of `fixtures/kernels` (made by `cargo xtask matrix --write`). Each row serves
//! the kernels that the facts declare, the coverage is as recorded, and a hidden function makes its role blind.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not `#[test]` functions for clippy")]

use std::{collections::BTreeSet, path::Path};

use observer::{
    doctor,
    facts::{self, Facts, Known, MEASURED},
    host::{
        plan::{self, Graded, Options, Plan, plan},
        probe::Host,
        saved::Saved,
    },
};
use observer_engine::setup::{Grade, Role};

fn saved(kernel: &str) -> Saved {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../fixtures/kernels/{kernel}.json"));
    Saved::read(path.to_str().unwrap()).unwrap()
}

/// Each kernel with its recorded answers to attempts to attach.
fn kernels() -> impl Iterator<Item = (&'static str, Host, Vec<plan::Failure>)> {
    MEASURED.into_iter().map(|kernel| {
        let saved = saved(kernel);
        (kernel, saved.host(), saved.refused().unwrap())
    })
}

fn planned(facts: &Facts, host: &Host, answers: &[plan::Failure], without: &[String]) -> (Plan, Vec<Graded>) {
    let plan = plan(facts, host, Options { without, ..Options::default() });
    let coverage = plan.coverage(&plan.answered(answers));
    (plan, coverage)
}

fn whole(coverage: &[Graded], role: Role) -> &Graded {
    coverage.iter().find(|g| g.coverage.role == role && g.coverage.part.is_empty()).unwrap()
}

#[test]
fn a_row_serves_exactly_the_kernels_that_it_declares() {
    let facts = facts::load().unwrap();
    let mut wrong = Vec::new();
    for (kernel, host, answers) in kernels() {
        let (plan, _) = planned(&facts, &host, &answers, &[]);
        let outcomes = plan.answered(&answers);
        for site in &facts.sites {
            let serves = plan
                .working(&outcomes)
                .any(|(s, _)| s.fact.role == site.role && s.fact.name() == site.name());
            if serves != site.on.has(kernel) {
                wrong.push(format!("{kernel}: {} as {}: serves: {serves}", site.name(), site.role.name()));
            }
        }
        for path in facts.fields.iter().flat_map(|f| &f.paths) {
            if host.types.field(&path.path).is_some() != path.on.has(kernel) {
                wrong.push(format!("{kernel}: {}", path.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_coverage_of_each_kernel_is_as_recorded() {
    let facts = facts::load().unwrap();
    for (kernel, host, answers) in kernels() {
        let (_, coverage) = planned(&facts, &host, &answers, &[]);
        let lines = coverage.iter().map(|g| {
            let c = &g.coverage;
            let part = if c.part.is_empty() { String::new() } else { format!(" / {}", c.part) };
            let reason = if c.reason.is_empty() { String::new() } else { format!(": {}", c.reason) };
            format!("{}{part} = {}{reason}\n", c.role.name(), c.grade.name())
        });
        insta::assert_snapshot!(format!("coverage-{kernel}"), lines.collect::<String>());
    }
}

/// Checks the coverage without one function. Its role is not exact if the function is essential, otherwise a part is not, and
/// the reason names the function.
fn check_reported(
    before: &[Graded],
    after: &[Graded],
    role: Role,
    essential: bool,
    name: &str,
) -> Result<(), String> {
    let news = |g: &&Graded| g.coverage.grade != Grade::Exact && !before.contains(g);
    if !after.iter().filter(news).any(|g| g.coverage.reason.contains(name)) {
        return Err("no row of the coverage names it".into());
    }
    if essential && whole(after, role).coverage.grade == Grade::Exact {
        return Err(format!("{} is still called exact", role.name()));
    }
    Ok(())
}

#[test]
fn a_hidden_function_makes_its_role_blind() {
    let facts = facts::load().unwrap();
    let mut wrong = Vec::new();
    for (kernel, host, answers) in kernels() {
        let (plan, before) = planned(&facts, &host, &answers, &[]);
        for site in plan.sites.iter().map(|s| &s.fact) {
            // Without a vma_lock, nothing depends on its end.
            if kernel == "5.10" && site.name() == "hugetlb_vm_op_close" {
                continue;
            }
            let (name, essential) = (site.name().to_owned(), site.essential && site.role != Role::Operation);
            let (hidden, after) = planned(&facts, &host, &answers, std::slice::from_ref(&name));
            assert!(
                hidden.sites.iter().all(|s| s.fact.name() != name),
                "{kernel}: {name} is planned all the same"
            );
            if let Err(what) = check_reported(&before, &after, site.role, essential, &name) {
                wrong.push(format!("{kernel}: {name} as {}: {what}", site.role.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_symbol_that_a_kernel_lacks_is_reported_as_missing() {
    let facts = facts::load().unwrap();
    let mut wrong = Vec::new();
    for kernel in MEASURED {
        let kept = saved(kernel);
        let answers = kept.refused().unwrap();
        let (plan, before) = planned(&facts, &kept.host(), &answers, &[]);
        for site in plan.sites.iter().map(|s| &s.fact).filter(|s| !s.function.is_empty()) {
            let mut lacking = kept.clone();
            lacking.forget(&site.function);
            let (_, after) = planned(&facts, &lacking.host(), &answers, &[]);
            let essential = site.essential && site.role != Role::Operation;
            // Symbols do not show that a function of another name unmaps for memory failure instead.
            if site.function == "try_to_unmap_poisoned_hugetlb_one"
                || (kernel == "5.10" && site.object.is_some())
            {
                continue;
            }
            // An operation that is only the context of others may be missing without a notice if its row says why.
            let is_context =
                site.role == Role::Operation && site.looks_up.is_empty() && site.absent.is_some();
            match check_reported(&before, &after, site.role, essential, &site.function) {
                Err(what) if !is_context && site.object.is_none() => {
                    wrong.push(format!("{kernel}: {} as {}: {what}", site.function, site.role.name()));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn changed_arguments_are_reported_like_a_missing_function() {
    let facts = facts::load().unwrap();
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for kernel in MEASURED {
        let kept = saved(kernel);
        let answers = kept.refused().unwrap();
        let (plan, before) = planned(&facts, &kept.host(), &answers, &[]);
        let outcomes = plan.answered(&answers);
        for site in plan.working(&outcomes).map(|(s, _)| &s.fact).filter(|s| !s.args.is_empty()) {
            // The test of symbols skips it too.
            if kernel == "5.10" && site.object.is_some() {
                continue;
            }
            let mut other = kept.clone();
            other.rename_arguments(&site.function);
            let (_, after) = planned(&facts, &other.host(), &answers, &[]);
            let essential = site.essential && site.role != Role::Operation;
            tried += 1;
            if let Err(what) = check_reported(&before, &after, site.role, essential, &site.function)
                && site.object.is_none()
            {
                wrong.push(format!("{kernel}: {} as {}: {what}", site.function, site.role.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tried > 300, "vacuous: {tried}");
}

/// The mmap function of hugetlbfs has another name and argument on 6.19.
#[test]
fn a_function_that_another_row_serves_is_not_reported_as_missing() {
    let facts = facts::load().unwrap();
    let kept = saved("7.3");
    let answers = kept.refused().unwrap();
    let missed = |kept: &Saved| {
        let (_, coverage) = planned(&facts, &kept.host(), &answers, &[]);
        coverage.into_iter().find(|g| g.coverage.reason.contains("hugetlbfs_file_mmap"))
    };
    assert_eq!(missed(&kept), None);
    let mut renamed = kept.clone();
    renamed.rename("hugetlbfs_file_mmap", "hugetlbfs_file_mmap_prepare", &[("desc", "vm_area_desc *")]);
    assert_eq!(missed(&renamed), None);
    let mut other = kept.clone();
    other.rename("hugetlbfs_file_mmap", "hugetlbfs_file_mmap_prepare", &[("other", "vm_area_desc *")]);
    let row = missed(&other).unwrap().coverage;
    assert_eq!((row.role, row.grade), (Role::Operation, Grade::Blind));
    let mut gone = kept;
    gone.forget("hugetlbfs_file_mmap");
    assert_eq!(missed(&gone).unwrap().coverage.grade, Grade::Blind);
}

/// Callers of a lookup function, including those behind functions that return its result.
fn callers_of(facts: &Facts, kept: &Saved, callee: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut to_visit = vec![callee.to_owned()];
    while let Some(callee) = to_visit.pop() {
        for caller in kept.callers().unwrap().get(&callee).into_iter().flatten() {
            if found.insert(caller.clone())
                && facts.callers.iter().any(|c| c.passes_on && c.function == *caller)
            {
                to_visit.push(caller.clone());
            }
        }
    }
    found
}

/// Lookups that a row names and some kernels lack: the function exists and does not look up by itself.
const ABSENT_LOOKUPS: [(&str, &str, &[&str]); 2] = [
    ("hugetlb_fault", "huge_pte_offset", &["6.12", "6.18", "7.3"]),
    ("pagemap_scan_pte_hole", "huge_pte_alloc", &["6.12", "6.18"]),
];

#[test]
fn every_caller_of_a_lookup_function_is_known() {
    let facts = facts::load().unwrap();
    let mut wrong = Vec::new();
    for kernel in MEASURED {
        let kept = saved(kernel);
        let all: BTreeSet<&String> = kept.callers().unwrap().values().flatten().collect();
        for caller in &all {
            if facts.caller(caller) == Known::Unknown {
                wrong.push(format!("{kernel}: no row knows {caller}"));
            }
        }
        for row in &facts.callers {
            if all.contains(&row.function) != row.on.has(kernel) {
                wrong.push(format!("{kernel}: {}: is there: {}", row.function, all.contains(&row.function)));
            }
        }
        let answers = kept.refused().unwrap();
        let (plan, coverage) = planned(&facts, &kept.host(), &answers, &[]);
        let not_watched = coverage.iter().filter(|g| g.coverage.reason.contains("and is not watched"));
        wrong.extend(not_watched.map(|g| format!("{kernel}: {}", g.coverage.reason)));
        // The other direction: each lookup function of a row is called in the kernel's code.
        for site in plan.sites.iter().map(|s| &s.fact) {
            for through in site.looks_up.iter().filter_map(|l| l.through.as_deref()) {
                let callers = callers_of(&facts, &kept, through);
                let by = if site.role == Role::Callback { "__walk_page_range" } else { &site.function };
                let is_absent =
                    ABSENT_LOOKUPS.iter().any(|(f, l, on)| *f == by && *l == through && on.contains(&kernel));
                if callers.contains(by) == is_absent {
                    wrong.push(format!("{kernel}: {by} through {through}: {}", !is_absent));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_caller_without_a_row_is_reported_as_blind() {
    let mut facts = facts::load().unwrap();
    let kept = saved("6.12");
    let answers = kept.refused().unwrap();
    facts.sites.retain(|s| s.function != "mfill_atomic_continue");
    facts.callers.retain(|c| c.function != "write_protect_page");
    let (_, coverage) = planned(&facts, &kept.host(), &answers, &[]);
    for (caller, callee) in
        [("mfill_atomic_continue", "huge_pte_alloc"), ("write_protect_page", "page_vma_mapped_walk")]
    {
        let row =
            coverage.iter().find(|g| g.coverage.role == Role::Lookup && g.coverage.part == caller).unwrap();
        assert_eq!(row.coverage.grade, Grade::Blind);
        assert!(row.coverage.reason.contains(&format!("{caller} calls {callee}")), "{row:?}");
        assert!(row.advice.contains(caller), "{row:?}");
    }
    // An operation that others depend on, and that is not watched.
    let without = ["memory_failure".to_owned()];
    let (_, coverage) = planned(&facts::load().unwrap(), &kept.host(), &answers, &without);
    assert!(coverage.iter().any(|g| g.coverage.part == "collect_procs" && g.coverage.grade == Grade::Blind));
}

#[test]
fn doctor_judges_a_saved_kernel_as_on_its_machine() {
    for kernel in MEASURED {
        let from = format!("{}/../fixtures/kernels/{kernel}.json", env!("CARGO_MANIFEST_DIR"));
        let doctor = |without: &[&str]| {
            let without = without.iter().map(|w| (*w).to_owned()).collect();
            let options = doctor::Options { from: Some(from.clone()), without, ..doctor::Options::default() };
            let mut said = Vec::new();
            let verdict = doctor::run(&options, &mut said).unwrap();
            (verdict, String::from_utf8(said).unwrap())
        };
        let (verdict, said) = doctor(&[]);
        assert_eq!(verdict, doctor::Verdict::Covered, "{kernel}: {said}");
        assert!(said.ends_with("every essential role is covered\n"), "{kernel}: {said}");
        let (verdict, said) = doctor(&["huge_pmd_share"]);
        assert_eq!(verdict, doctor::Verdict::Holes);
        assert!(said.contains("try: leave out --without huge_pmd_share"), "{kernel}: {said}");
    }
}

#[test]
fn a_foreign_file_is_not_a_saved_kernel() {
    let text = Saved::read(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap_err();
    assert!(format!("{text:#}").contains("is not a saved kernel"), "{text:#}");
}

#[test]
fn a_saved_kernel_that_was_damaged_is_refused() {
    let folder = std::env::temp_dir().join(format!("observer-saved-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("kernel.json");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Saved::read(path.to_str().unwrap()).map(|saved| saved.kernel.release).map_err(|e| format!("{e:#}"))
    };
    let text = saved("6.12").text().unwrap();
    let release = saved("6.12").kernel.release;
    assert_eq!(read(&text), Ok(release.clone()));
    // Every digit that is another one changes a number or a name without making the file unreadable.
    let digits: Vec<usize> = text.match_indices(|c: char| c.is_ascii_digit()).map(|(at, _)| at).collect();
    for at in digits.iter().step_by(97) {
        let mut damaged = text.clone().into_bytes();
        damaged[*at] ^= 1;
        let why = read(&String::from_utf8(damaged).unwrap()).unwrap_err();
        assert!(why.contains("is damaged") || why.contains("is of schema"), "byte {at}: {why}");
    }
    // What an older observer saved has no checksum; its text is made printable.
    let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
    old.as_object_mut().unwrap().remove("checksum");
    old["kernel"]["release"] = "6.12\u{1b}[2J".into();
    assert_eq!(read(&old.to_string()), Ok("6.12\u{fffd}[2J".into()));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(Saved::read("/dev/zero").is_err());
}
