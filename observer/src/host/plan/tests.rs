//! The plan as a table: what a kernel has, and what becomes of it.

use super::*;
use crate::{
    host::{btf::build::Build, symbols::Symbols},
    meta::Kernel,
};

/// A kernel with some functions and symbols.
fn host(functions: &[(&str, &[(&str, &str)])], more_symbols: &[&str]) -> Host {
    let mut btf = Build::default();
    for (name, params) in functions {
        btf.function(name, params);
    }
    btf.record("hugetlb_vma_lock", &["refs", "rw_sema"]);
    btf.record("page", &["flags", "pt_share_count", "ptl"]);
    let names = functions.iter().map(|(name, _)| *name).chain(more_symbols.iter().copied());
    let table: String = names.enumerate().map(|(i, n)| format!("ffffffff8100{i:04x} T {n}\n")).collect();
    Host { kernel: Kernel::default(), btf: btf.finish(), symbols: Symbols::of(&table) }
}

const VMA: (&str, &str) = ("vma", "vm_area_struct");
const MM: (&str, &str) = ("mm", "mm_struct");

fn planned<'a>(plan: &'a Plan, function: &str) -> Option<&'a PlannedSite> {
    plan.sites.iter().find(|s| s.fact.name() == function)
}

fn plan_of(host: &Host, level: Level) -> Plan {
    plan(&facts::load().unwrap(), host, level)
}

#[test]
fn arguments_are_found_by_name_and_type_wherever_they_stand() {
    let four = host(&[("huge_pte_alloc", &[MM, VMA, ("addr", ""), ("sz", "")])], &[]);
    let three = host(&[("huge_pte_alloc", &[MM, ("addr", ""), ("sz", "")])], &[]);
    for (host, row) in [(four, [0, NO_ARG, 2, NO_ARG, 3, 4]), (three, [0, NO_ARG, 1, NO_ARG, 2, 3])] {
        let plan = plan_of(&host, Level::Full);
        assert_eq!(planned(&plan, "huge_pte_alloc").unwrap().args[..6], row);
    }
}

#[test]
fn an_argument_of_another_type_is_refused_with_the_signature() {
    let host = host(&[("huge_pte_alloc", &[("mm", "vm_area_struct"), ("addr", ""), ("sz", "")])], &[]);
    let plan = plan_of(&host, Level::Full);
    assert!(planned(&plan, "huge_pte_alloc").is_none());
    let refused = plan.refused.iter().find(|r| r.function == "huge_pte_alloc").unwrap();
    assert!(
        refused.reason.contains("no argument mm mm_struct *: it takes (vm_area_struct * mm,"),
        "{}",
        refused.reason
    );
}

#[test]
fn the_body_of_unshare_is_found_under_its_compiler_made_name_and_the_wrapper_left_out() {
    let wrapper: (&str, &[(&str, &str)]) = ("huge_pmd_unshare", &[VMA]);
    let both = host(&[wrapper], &["__huge_pmd_unshare.constprop.0.isra.0"]);
    let plan = plan_of(&both, Level::Full);
    assert!(planned(&plan, "huge_pmd_unshare").is_none());
    let body = &planned(&plan, "__huge_pmd_unshare").unwrap().programs[0];
    assert_eq!(
        (body.attach, body.target.as_str()),
        (Attach::Kretprobe, "__huge_pmd_unshare.constprop.0.isra.0")
    );

    let alone = plan_of(&host(&[wrapper], &[]), Level::Full);
    assert!(planned(&alone, "__huge_pmd_unshare").is_none());
    assert_eq!(planned(&alone, "huge_pmd_unshare").unwrap().programs[0].target, "huge_pmd_unshare");
}

#[test]
fn levels_leave_roles_out_and_say_so() {
    let locks: &[(&str, &[(&str, &str)])] = &[
        ("down_read", &[("sem", "rw_semaphore")]),
        ("_raw_spin_lock", &[("lock", "raw_spinlock")]),
        ("hugetlbfs_evict_inode", &[("inode", "inode")]),
    ];
    for (level, down_read, spin_lock) in
        [(Level::Light, false, false), (Level::Locks, true, false), (Level::Full, true, true)]
    {
        let plan = plan_of(&host(locks, &[]), level);
        assert_eq!(planned(&plan, "down_read").is_some(), down_read, "{level:?}");
        assert_eq!(planned(&plan, "_raw_spin_lock").is_some(), spin_lock, "{level:?}");
        let ptl = plan.coverage(&[]).into_iter().find(|c| c.role == Role::Ptl).unwrap();
        let lock = plan.coverage(&[]).into_iter().find(|c| c.role == Role::Lock).unwrap();
        // The end of an inode is attached on every level and shows no lock. From `locks` on locks are probed; that
        // these types lack the field to know them by is then the reason.
        let probed = lock.reason.starts_with("BTF has no field");
        assert_eq!((lock.grade, probed), (Grade::Blind, down_read), "{level:?}: {lock:?}");
        // At full the probe is there, but this kernel hides where its page descriptors are.
        let reason = if spin_lock {
            "no address of the variable page_offset_base in the symbol table".to_owned()
        } else {
            format!("not probed at level {}", level.name())
        };
        assert_eq!((ptl.grade, ptl.reason), (Grade::Blind, reason));
    }
}

#[test]
fn what_attaching_refused_makes_a_part_blind_and_all_of_it_the_role() {
    let lookups: &[(&str, &[(&str, &str)])] = &[
        ("huge_pte_alloc", &[MM, ("addr", ""), ("sz", "")]),
        ("huge_pte_offset", &[MM, ("addr", ""), ("sz", "")]),
    ];
    let plan = plan_of(&host(lookups, &[]), Level::Full);
    let failure = |function: &str| Failure {
        site: planned(&plan, function).unwrap().id,
        program: "p".into(),
        target: function.into(),
        attempt: format!("fexit on {function}"),
        error: "ENOTSUPP".into(),
    };
    let lookup = |failures: &[Failure]| {
        let rows = plan.coverage(failures);
        rows.into_iter().filter(|c| c.role == Role::Lookup && c.part != "GUP-fast").collect::<Vec<_>>()
    };
    assert_eq!(lookup(&[]).iter().map(|c| c.grade).collect::<Vec<_>>(), [Grade::Exact]);
    let one = lookup(&[failure("huge_pte_alloc")]);
    assert_eq!(one.iter().map(|c| c.grade).collect::<Vec<_>>(), [Grade::Exact, Grade::Blind]);
    assert_eq!(
        (one[1].part.as_str(), one[1].reason.as_str()),
        ("huge_pte_alloc", "fexit on huge_pte_alloc: ENOTSUPP")
    );
    let all = lookup(&[failure("huge_pte_alloc"), failure("huge_pte_offset")]);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].reason, "fexit on huge_pte_alloc, fexit on huge_pte_offset: ENOTSUPP");
    // What was refused is not among the sites that the engine is told.
    assert!(plan.setup(&[failure("huge_pte_alloc")]).sites.iter().all(|s| s.function != "huge_pte_alloc"));
}

#[test]
fn holes_apply_by_what_the_kernel_has() {
    let gup = |plan: &Plan| plan.holes.iter().any(|h| h.part.starts_with("GUP ("));
    assert!(!gup(&plan_of(&host(&[], &[]), Level::Full)));
    assert!(gup(&plan_of(&host(&[], &["vma_pgtable_walk_begin"]), Level::Full)));
}

#[test]
fn the_documented_order_is_the_one_of_a_kernel_with_or_without_vma_lock() {
    let with = plan_of(&host(&[], &[]), Level::Full);
    assert!(with.orders.iter().any(|o| o.source.contains("6.12:49")));
    assert!(!with.orders.iter().any(|o| o.source.contains("5.10:48")));
}

#[test]
fn every_program_of_a_plan_has_its_own_place() {
    let host = host(
        &[("down_read", &[("sem", "rw_semaphore")]), ("down_write", &[("sem", "rw_semaphore")])],
        &["__tracepoint_contention_begin", "__tracepoint_contention_end"],
    );
    let plan = plan_of(&host, Level::Full);
    let mut programs: Vec<_> = plan.sites.iter().flat_map(|s| &s.programs).map(|p| p.name.as_str()).collect();
    programs.sort_unstable();
    assert_eq!(programs, ["ask_0", "ask_1", "wait_0", "wait_1"]);
}
