//! The plan on the five measured kernels, as `fixtures/kernels` keeps them (made by `cargo xtask matrix --write`): what serves
//! is what the facts say, the coverage is as recorded, and whatever is hidden is said to be blind.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

use std::path::Path;

use observer::{
    doctor,
    facts::{self, Facts, MEASURED},
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

/// Each kernel with its answers to attempts to attach.
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
fn a_row_serves_where_it_says_so_and_nowhere_else() {
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

/// A function that is not watched: its role is not exact any more if it is essential, else a part is not; and the reason
/// names it.
fn is_told(
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
fn what_is_hidden_is_said_to_be_blind() {
    let facts = facts::load().unwrap();
    let mut wrong = Vec::new();
    for (kernel, host, answers) in kernels() {
        let (plan, before) = planned(&facts, &host, &answers, &[]);
        for site in plan.sites.iter().map(|s| &s.fact) {
            // Without a vma_lock nothing depends on where one ends.
            if kernel == "5.10" && site.name() == "hugetlb_vm_op_close" {
                continue;
            }
            let (name, essential) = (site.name().to_owned(), site.essential && site.role != Role::Operation);
            let (hidden, after) = planned(&facts, &host, &answers, std::slice::from_ref(&name));
            assert!(
                hidden.sites.iter().all(|s| s.fact.name() != name),
                "{kernel}: {name} is planned all the same"
            );
            if let Err(what) = is_told(&before, &after, site.role, essential, &name) {
                wrong.push(format!("{kernel}: {name} as {}: {what}", site.role.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_symbol_that_a_kernel_lacks_is_said_to_be_missing() {
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
            // That a function of another name unmaps for memory failure instead cannot be told from symbols.
            if site.function == "try_to_unmap_poisoned_hugetlb_one"
                || (kernel == "5.10" && site.object.is_some())
            {
                continue;
            }
            // Operations that are only the context of others may be missing without a word: there is no such path then.
            let is_context = site.role == Role::Operation && site.looks_up.is_empty();
            match is_told(&before, &after, site.role, essential, &site.function) {
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
fn doctor_judges_a_saved_kernel_as_it_would_on_its_machine() {
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
fn a_foreign_file_is_no_saved_kernel() {
    let text = Saved::read(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap_err();
    assert!(format!("{text:#}").contains("is no saved kernel"), "{text:#}");
}
