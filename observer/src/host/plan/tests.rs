//! Tests of the plan as a table: the functions of a kernel, and the plan that follows.

use observer_ebpf::config::{NO_ARG, flag, site};
use observer_engine::{event::Class, lock_class::LockClass, setup::Grade};

use super::*;
use crate::{
    host::{btf::build::Build, symbols::Symbols, types::Types},
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
    Host::of(Kernel::default(), Types::Btf(btf.finish()), Symbols::parse(&table))
}

const VMA: (&str, &str) = ("vma", "vm_area_struct");
const MM: (&str, &str) = ("mm", "mm_struct");

fn planned<'a>(plan: &'a Plan, function: &str) -> Option<&'a PlannedSite> {
    plan.sites.iter().find(|s| s.fact.name() == function)
}

fn plan_of(host: &Host, level: Level) -> Plan {
    plan(&facts::load().unwrap(), host, Options { level, without: &[] })
}

fn refused<'a>(plan: &'a Plan, function: &str) -> Option<&'a Reason> {
    plan.refused.iter().find(|r| r.fact.name() == function).map(|r| &r.reason)
}

/// The rows of a role: part, grade, reason.
fn rows(plan: &Plan, outcomes: &[Outcome], role: Role) -> Vec<(String, Grade, String)> {
    let of_role = plan.coverage(outcomes).into_iter().map(|g| g.coverage).filter(|c| c.role == role);
    of_role.map(|c| (c.part, c.grade, c.reason)).collect()
}

/// Outcomes in which the kernel refuses every way of one function.
fn without(plan: &Plan, function: &str) -> Vec<Outcome> {
    let refused = |site: &PlannedSite| site.fact.name() == function;
    let outcome = |site: &PlannedSite| match refused(site) {
        false => Outcome::hoped(),
        true => Outcome {
            failures: vec![Failure { attempt: site.ways[0].programs[0].attempt(), error: "EBUSY".into() }],
            ..Outcome::default()
        },
    };
    plan.sites.iter().map(outcome).collect()
}

const MORE: (&str, &str) = ("more", "");

#[test]
fn arguments_are_found_by_name_and_type_at_any_position() {
    let four = host(&[("huge_pte_alloc", &[MM, VMA, ("addr", ""), ("sz", "")])], &[]);
    let three = host(&[("huge_pte_alloc", &[MM, ("addr", ""), ("sz", "")])], &[]);
    for (host, row) in [(four, [0, NO_ARG, 2, NO_ARG, 3, 4]), (three, [0, NO_ARG, 1, NO_ARG, 2, 3])] {
        let plan = plan_of(&host, Level::Full);
        assert_eq!(planned(&plan, "huge_pte_alloc").unwrap().ways[0].args[..6], row);
    }
}

#[test]
fn an_argument_of_another_type_is_refused_with_the_signature() {
    let host = host(&[("huge_pte_alloc", &[("mm", "vm_area_struct"), ("addr", ""), ("sz", "")])], &[]);
    let plan = plan_of(&host, Level::Full);
    assert!(planned(&plan, "huge_pte_alloc").is_none());
    let words = refused(&plan, "huge_pte_alloc").unwrap().words();
    assert!(words.contains("no argument mm mm_struct *: it takes (vm_area_struct * mm,"), "{words}");
}

#[test]
fn a_function_is_traced_and_probed_only_where_tracing_may_be_refused() {
    let few: &[(&str, &str)] = &[VMA, ("address", ""), ("end", ""), ("newprot", "")];
    let many: &[(&str, &str)] = &[MM, VMA, MORE, MORE, MORE, MORE, MORE, MORE, MORE];
    let host = host(
        &[("hugetlb_change_protection", few), ("follow_hugetlb_page", many)],
        &["hugetlb_vma_maps_page.isra.0", "soft_offline_page"],
    );
    let plan = plan_of(&host, Level::Full);
    let attempts = |function: &str| -> Vec<Vec<String>> {
        let ways = &planned(&plan, function).unwrap().ways;
        ways.iter().map(|w| w.programs.iter().map(|p| p.attempt()).collect()).collect()
    };
    let traced = |f: &str| vec![format!("fexit on {f}"), format!("fentry on {f}")];
    let probed = |f: &str| vec![format!("kretprobe on {f}"), format!("kprobe on {f}")];
    assert_eq!(attempts("hugetlb_change_protection"), [traced("hugetlb_change_protection")]);
    assert_eq!(
        attempts("follow_hugetlb_page"),
        [traced("follow_hugetlb_page"), probed("follow_hugetlb_page")],
        "nine arguments: a trampoline may refuse"
    );
    // A copy made by the compiler has no types; the row needs no argument.
    assert_eq!(attempts("hugetlb_vma_maps_page"), [probed("hugetlb_vma_maps_page.isra.0")]);
    let ways = &planned(&plan, "follow_hugetlb_page").unwrap().ways;
    assert!(usize::from(ways[0].site) < site::OP_PROBED && usize::from(ways[1].site) >= site::OP_PROBED);
    assert_eq!(attempts("soft_offline_page"), [probed("soft_offline_page")], "no types, no arguments wanted");
}

#[test]
fn an_argument_on_the_stack_is_out_of_reach_of_a_probe() {
    let late: &[(&str, &str)] = &[MORE, MORE, MORE, MORE, MORE, MORE, ("mm", "mm_struct"), VMA];
    let plan = plan_of(&host(&[("follow_hugetlb_page", late)], &[]), Level::Full);
    assert_eq!(planned(&plan, "follow_hugetlb_page").unwrap().ways.len(), 1, "tracing may still work");
}

#[test]
fn a_function_not_listed_as_traceable_is_not_tried() {
    let mut host = host(&[("huge_pte_alloc", &[MM, ("addr", ""), ("sz", "")])], &[]);
    for (list, served) in
        [(None, true), (Some(vec!["huge_pte_alloc".to_owned()]), true), (Some(vec![]), false)]
    {
        host.traceable = list.map(|l| l.into_iter().collect());
        let plan = plan_of(&host, Level::Full);
        assert_eq!(planned(&plan, "huge_pte_alloc").is_some(), served);
        assert_eq!(matches!(refused(&plan, "huge_pte_alloc"), Some(Reason::NotTraceable(_))), !served);
    }
}

#[test]
fn a_known_configuration_explains_a_missing_function() {
    let mut host = host(&[], &[]);
    for (config, words) in [
        (
            None,
            "no symbol memory_failure: CONFIG_MEMORY_FAILURE is off in the cloud flavours of 5.10 and 6.1",
        ),
        (
            Some("# CONFIG_MEMORY_FAILURE is not set\n"),
            "no symbol memory_failure: this kernel is built without CONFIG_MEMORY_FAILURE",
        ),
        (
            Some("CONFIG_MEMORY_FAILURE=y\n"),
            "no symbol memory_failure: CONFIG_MEMORY_FAILURE is off in the cloud flavours of 5.10 and 6.1",
        ),
    ] {
        host.config = config.map(str::to_owned);
        assert_eq!(refused(&plan_of(&host, Level::Full), "memory_failure").unwrap().words(), words);
    }
}

const LOOKUPS: [(&str, &[(&str, &str)]); 2] = [
    ("huge_pte_alloc", &[MM, ("addr", ""), ("sz", "")]),
    ("huge_pte_offset", &[MM, ("addr", ""), ("sz", "")]),
];

#[test]
fn the_compiler_made_body_of_unshare_is_found_and_its_wrapper_left_out() {
    let wrapper: (&str, &[(&str, &str)]) = ("huge_pmd_unshare", &[VMA]);
    let both = host(&[LOOKUPS[1], wrapper], &["__huge_pmd_unshare.constprop.0.isra.0"]);
    let plan = plan_of(&both, Level::Full);
    assert!(planned(&plan, "huge_pmd_unshare").is_none());
    let ways = &planned(&plan, "__huge_pmd_unshare").unwrap().ways;
    assert_eq!(ways.len(), 1, "no types: no fexit");
    assert_eq!(ways[0].programs[0].attempt(), "kretprobe on __huge_pmd_unshare.constprop.0.isra.0");
    assert_eq!(ways[0].args[arg::RET], 0);

    let alone = plan_of(&host(&[LOOKUPS[1], wrapper], &[]), Level::Full);
    let ways = &planned(&alone, "huge_pmd_unshare").unwrap().ways;
    let attempts: Vec<_> = ways.iter().map(|w| w.programs[0].attempt()).collect();
    assert_eq!(attempts, ["fexit on huge_pmd_unshare", "kretprobe on huge_pmd_unshare"]);

    // A function with no more code than a call is the wrapper, whichever name the body has.
    let table =
        "ffffffff81000000 T huge_pte_offset\nffffffff81000100 T huge_pmd_unshare\nffffffff81000130 T next\n";
    let mut small = host(&[LOOKUPS[1], wrapper], &[]);
    small.symbols = Symbols::parse(table);
    let plan = plan_of(&small, Level::Full);
    assert_eq!(
        refused(&plan, "huge_pmd_unshare"),
        Some(&Reason::Wrapper { symbol: "huge_pmd_unshare".into(), bytes: 48 })
    );

    // If the body is hidden, the wrapper is not taken for it.
    let names = ["__huge_pmd_unshare.constprop.0.isra.0".to_owned()];
    let hidden =
        super::plan(&facts::load().unwrap(), &both, Options { without: &names, ..Options::default() });
    assert!(planned(&hidden, "huge_pmd_unshare").is_none());
    let unshare = &rows(&hidden, &hidden.untried(), Role::Unshare)[0];
    assert_eq!(
        (unshare.1, unshare.2.as_str()),
        (Grade::Blind, "__huge_pmd_unshare is not to be watched (--without)")
    );
}

#[test]
fn a_row_is_watched_only_with_the_functions_that_it_needs() {
    let body: (&str, &[(&str, &str)]) = ("huge_pmd_unshare", &[VMA]);
    // Without any lookup function, the object of an unshare is unknown.
    let plan = plan_of(&host(&[body], &[]), Level::Full);
    assert!(
        matches!(refused(&plan, "huge_pmd_unshare"), Some(Reason::Needs { what, .. }) if what == "huge_pte_offset")
    );
    // Without releases, requested locks would count as held forever.
    let plan = plan_of(&host(&[("down_read", &[("sem", "rw_semaphore")])], &[]), Level::Full);
    let lock = &rows(&plan, &plan.untried(), Role::Lock)[0];
    assert_eq!(lock.1, Grade::Blind);
    assert!(lock.2.contains("needs up_read, which is not watched: no symbol up_read"), "{}", lock.2);
}

#[test]
fn levels_leave_roles_out_with_a_reason() {
    let locks: &[(&str, &[(&str, &str)])] = &[
        ("up_read", &[("sem", "rw_semaphore")]),
        ("_raw_spin_lock", &[("lock", "raw_spinlock")]),
        ("hugetlbfs_evict_inode", &[("inode", "inode")]),
    ];
    for (level, up_read, spin_lock) in
        [(Level::Light, false, false), (Level::Locks, true, false), (Level::Full, true, true)]
    {
        let plan = plan_of(&host(locks, &[]), level);
        assert_eq!(planned(&plan, "up_read").is_some(), up_read, "{level:?}");
        assert_eq!(planned(&plan, "_raw_spin_lock").is_some(), spin_lock, "{level:?}");
        assert!(planned(&plan, "hugetlbfs_evict_inode").is_some(), "the end of an inode shows no lock");
        let graded = plan.coverage(&plan.untried());
        let whole = |role| graded.iter().find(|g| g.coverage.role == role).unwrap();
        let not_probed = format!("not probed at level {}", level.name());
        let ptl = whole(Role::Ptl);
        assert_eq!(ptl.coverage.grade, Grade::Blind, "this kernel hides where its page descriptors are");
        assert_eq!(ptl.coverage.reason == not_probed, !spin_lock);
        assert_eq!(
            ptl.advice,
            if spin_lock {
                "run as root, or sysctl kernel.kptr_restrict=0: the symbol table hides its addresses"
            } else {
                "--level full"
            }
        );
        assert_eq!(whole(Role::Lock).coverage.reason == not_probed, !up_read);
    }
}

#[test]
fn a_refused_essential_site_makes_the_role_blind() {
    let plan = plan_of(&host(&LOOKUPS, &[]), Level::Full);
    assert_eq!(rows(&plan, &plan.untried(), Role::Lookup)[0].1, Grade::Exact);
    let lookup = &rows(&plan, &without(&plan, "huge_pte_alloc"), Role::Lookup)[0];
    assert_eq!((lookup.1, lookup.2.as_str()), (Grade::Blind, "fexit on huge_pte_alloc: EBUSY"));
    // A refused site is not in the engine's setup.
    let setup = plan.setup(&without(&plan, "huge_pte_alloc"));
    assert!(setup.sites.iter().all(|s| s.function != "huge_pte_alloc"));
    assert!(setup.coverage.iter().any(|c| c.role == Role::Lookup && c.grade == Grade::Blind));
}

#[test]
fn a_lookup_site_needs_its_operation_and_its_lookup_function() {
    let fault: (&str, &[(&str, &str)]) = ("hugetlb_fault", &[MM, VMA, ("address", "")]);
    let plan = plan_of(&host(&[LOOKUPS[0], LOOKUPS[1], fault], &[]), Level::Full);
    let site = |outcomes: &[Outcome], name: &str| {
        let (_, grade, reason) =
            rows(&plan, outcomes, Role::Lookup).into_iter().find(|r| r.0 == name).unwrap();
        (grade, reason)
    };
    assert_eq!(site(&plan.untried(), "page fault"), (Grade::Exact, String::new()));
    let needs = "needs huge_pte_alloc, which is not watched: fexit on huge_pte_alloc: EBUSY".to_owned();
    assert_eq!(site(&without(&plan, "huge_pte_alloc"), "page fault"), (Grade::Blind, needs));
    assert_eq!(site(&without(&plan, "huge_pte_alloc"), "page fault, first look").0, Grade::Exact);
    assert_eq!(
        site(&without(&plan, "hugetlb_fault"), "page fault"),
        (Grade::Blind, "fexit on hugetlb_fault: EBUSY".into())
    );
    let (grade, reason) = site(&plan.untried(), "GUP: process_vm_readv, /proc/PID/mem, O_DIRECT");
    assert_eq!(grade, Grade::Blind);
    assert!(reason.starts_with("no symbol follow_hugetlb_page: the walk is inlined into"), "{reason}");
}

#[test]
fn each_kernel_has_its_own_function_for_an_unlink_site() {
    let one = |name: &'static str| -> (&'static str, &'static [(&'static str, &'static str)]) {
        (name, &[VMA, ("address", "")])
    };
    let migration = |functions: &[(&str, &[(&str, &str)])], hidden: &[String]| {
        let host = host(functions, &[]);
        let plan =
            super::plan(&facts::load().unwrap(), &host, Options { without: hidden, ..Options::default() });
        let found =
            rows(&plan, &plan.untried(), Role::Unlink).into_iter().find(|r| r.0 == "migration").unwrap();
        (found.1, found.2)
    };
    let old = migration(&[LOOKUPS[1], one("try_to_unmap_one")], &[]);
    assert_eq!(old, (Grade::Bounded, "the entries behind the lookups of try_to_unmap_one".into()));
    let new = migration(&[LOOKUPS[1], one("try_to_unmap_one"), one("try_to_migrate_one")], &[]);
    assert_eq!(new, (Grade::Bounded, "the entries behind the lookups of try_to_migrate_one".into()));
    // If the newer function exists and is not watched, the older one does not replace it.
    let hidden = ["try_to_migrate_one".to_owned()];
    let blind = migration(&[LOOKUPS[1], one("try_to_unmap_one"), one("try_to_migrate_one")], &hidden);
    assert_eq!(blind, (Grade::Blind, "try_to_migrate_one is not to be watched (--without)".into()));
}

/// All lock functions, and the fields that identify their classes.
fn locks_host(more: &[&str]) -> Host {
    let mut btf = Build::default();
    let sem: &[(&str, &str)] = &[("sem", "rw_semaphore")];
    let lock: &[(&str, &str)] = &[("lock", "mutex")];
    let functions = [
        ("down_read", sem),
        ("down_write", sem),
        ("down_read_trylock", sem),
        ("down_write_trylock", sem),
        ("up_read", sem),
        ("up_write", sem),
        ("downgrade_write", sem),
        ("mutex_lock", lock),
        ("mutex_unlock", lock),
        ("hugetlbfs_evict_inode", &[("inode", "inode")]),
    ];
    for (name, params) in functions {
        btf.function(name, params);
    }
    btf.record("vm_area_struct", &["vm_mm", "vm_file", "vm_private_data"]);
    btf.record("file", &["f_mapping"]);
    btf.record("address_space", &["host", "i_mmap_rwsem"]);
    let names = functions.iter().map(|(name, _)| *name).chain(more.iter().copied());
    let table: String = names.enumerate().map(|(i, n)| format!("ffffffff8100{i:04x} T {n}\n")).collect();
    Host::of(Kernel::default(), Types::Btf(btf.finish()), Symbols::parse(&table))
}

#[test]
fn a_lock_class_needs_its_address_its_functions_and_its_end() {
    let plan = plan_of(&locks_host(&[]), Level::Full);
    let class = |outcomes: &[Outcome], name: &str| {
        let (_, grade, reason) = rows(&plan, outcomes, Role::Lock).into_iter().find(|r| r.0 == name).unwrap();
        (grade, reason)
    };
    assert_eq!(class(&plan.untried(), "i_mmap_rwsem"), (Grade::Exact, String::new()));
    let (grade, reason) = class(&plan.untried(), "vma_lock");
    assert_eq!(grade, Grade::Exact, "there is none, and nothing is missed");
    assert!(reason.starts_with("no hugetlb vma_lock before"), "{reason}");
    let (grade, reason) = class(&plan.untried(), "fault_mutex");
    assert_eq!(grade, Grade::Blind);
    assert!(reason.contains("no address of the variable hugetlb_fault_mutex_table"), "{reason}");
    let (grade, reason) = class(&without(&plan, "hugetlbfs_evict_inode"), "i_mmap_rwsem");
    assert_eq!(grade, Grade::Inferred);
    assert!(reason.starts_with("needs the end of its object, which is not watched: fentry on"), "{reason}");
    // If one of its functions is not watched, the whole role is blind and has no usable parts.
    assert_eq!(rows(&plan, &without(&plan, "down_write"), Role::Lock)[0].1, Grade::Blind);
}

#[test]
fn without_contention_tracepoints_waits_are_inferred() {
    let spin: &[(&str, &str)] = &[("lock", "raw_spinlock")];
    let plan = plan_of(&host(&[("_raw_spin_lock", spin)], &[]), Level::Full);
    let wait = &rows(&plan, &plan.untried(), Role::Wait)[0];
    assert_eq!(wait.1, Grade::Inferred);
    assert!(wait.2.ends_with("a wait is an ask that stays unanswered for a second"), "{}", wait.2);
    let spoken =
        plan_of(&host(&[], &["__tracepoint_contention_begin", "__tracepoint_contention_end"]), Level::Full);
    assert_eq!(rows(&spoken, &spoken.untried(), Role::Wait)[0].1, Grade::Exact);
}

#[test]
fn with_preempt_rt_the_page_table_lock_is_another_function() {
    let spin: &[(&str, &str)] = &[("lock", "spinlock")];
    let rt = plan_of(&host(&[("_raw_spin_lock", spin), ("rt_spin_lock", spin)], &[]), Level::Full);
    assert!(planned(&rt, "_raw_spin_lock").is_none() && planned(&rt, "rt_spin_lock").is_some());
    let plain = plan_of(&host(&[("_raw_spin_lock", spin)], &[]), Level::Full);
    assert!(planned(&plain, "_raw_spin_lock").is_some());
}

#[test]
fn the_documented_order_depends_on_the_vma_lock() {
    let with = plan_of(&host(&[], &[]), Level::Full);
    assert!(with.orders.iter().any(|o| o.source.contains("6.12:49")));
    assert!(!with.orders.iter().any(|o| o.source.contains("5.10:48")));
}

#[test]
fn try_then_block_sites_and_known_exceptions_reach_the_engine() {
    let sem: &[(&str, &str)] = &[("sem", "rw_semaphore")];
    let functions =
        ["down_read_trylock", "down_write_trylock", "up_read", "up_write"].map(|name| (name, sem));
    let plan = plan_of(&host(&functions, &[]), Level::Full);
    let setup = plan.setup(&plan.untried());
    let waits = |f: &str| setup.sites.iter().find(|s| s.function == f).unwrap().try_then_block.clone();
    assert_eq!(waits("down_read_trylock"), [Class::IMmap]);
    assert_eq!(waits("down_write_trylock"), [], "who tries to write gives up");
    let exceptions: Vec<_> = setup.orders.iter().flat_map(|o| &o.exceptions).collect();
    let covered = |from, to, site| exceptions.iter().any(|e| e.covers((from, to), site));
    assert!(covered(LockClass::MmapLock, LockClass::Inode, "hugetlbfs_file_mmap"));
    assert!(covered(LockClass::FolioAnon, LockClass::FaultMutex, "hugetlb_wp"));
    // The stock kernels' deadlocks are not exceptions.
    assert!(!covered(LockClass::FolioFile, LockClass::FaultMutex, "hugetlb_wp"));
    assert!(!covered(LockClass::FolioFile, LockClass::IMmap, "hugetlb_wp"));
    assert!(!covered(LockClass::FolioFile, LockClass::IMmap, "migrate_pages"));
}

#[test]
fn only_operations_that_unlink_compare_entries() {
    let args: &[(&str, &str)] = &[VMA, ("start", ""), ("end", "")];
    let host = host(&[LOOKUPS[1], ("__unmap_hugepage_range", args), ("hugetlbfs_file_mmap", args)], &[]);
    let plan = plan_of(&host, Level::Full);
    let compares = |f: &str| planned(&plan, f).unwrap().ways[0].args[arg::FLAGS] & flag::DIFF != 0;
    assert!(compares("__unmap_hugepage_range") && !compares("hugetlbfs_file_mmap"));
}

#[test]
fn every_program_of_a_plan_has_its_own_place() {
    let sem: &[(&str, &str)] = &[("sem", "rw_semaphore")];
    let functions = ["down_read", "down_write", "up_read", "up_write"].map(|name| (name, sem));
    let host = host(&functions, &["__tracepoint_contention_begin", "__tracepoint_contention_end"]);
    let plan = plan_of(&host, Level::Full);
    let ways = plan.sites.iter().flat_map(|s| &s.ways);
    let mut programs: Vec<_> = ways.flat_map(|w| &w.programs).map(|p| p.name.as_str()).collect();
    programs.sort_unstable();
    assert_eq!(programs, ["ask_0", "ask_1", "release_0", "release_1", "wait_0", "wait_1"]);
}

#[test]
fn only_a_watched_function_can_be_left_out() {
    let facts = facts::load().unwrap();
    let check = |name: &str| {
        let without = [name.to_owned()];
        Options { without: &without, ..Options::default() }.check(&facts).is_ok()
    };
    assert!(check("huge_pte_alloc") && check("__huge_pmd_unshare.isra.0") && check("contention_begin"));
    assert!(!check("huge_pte_aloc") && !check(""));
}

#[test]
fn a_walk_has_two_ends_with_the_same_arguments() {
    let (begin, end) = ("vma_pgtable_walk_begin", "vma_pgtable_walk_end");
    let both = plan_of(&host(&[(begin, &[VMA]), (end, &[VMA])], &[]), Level::Full);
    let way = &planned(&both, begin).unwrap().ways[0];
    let attempts: Vec<String> = way.programs.iter().map(Program::attempt).collect();
    assert_eq!(attempts, [format!("fentry on {end}"), format!("fexit on {begin}")]);
    let lookups = rows(&both, &both.untried(), Role::Lookup);
    let (_, grade, reason) = lookups.iter().find(|(part, ..)| part.starts_with("GUP:")).unwrap();
    assert_eq!(*grade, Grade::Bounded);
    assert!(reason.contains(begin) && reason.contains(end), "{reason}");

    let others = [
        (host(&[(begin, &[VMA])], &[]), "no symbol vma_pgtable_walk_end"),
        (host(&[(begin, &[VMA]), (end, &[MORE, VMA])], &[]), "in different places"),
    ];
    for (host, why) in others {
        let plan = plan_of(&host, Level::Full);
        let words = refused(&plan, begin).unwrap().words();
        assert!(words.contains(why), "{words}");
        let lookups = rows(&plan, &plan.untried(), Role::Lookup);
        let (_, grade, reason) = lookups.iter().find(|(part, ..)| part.starts_with("GUP:")).unwrap();
        assert!(*grade == Grade::Blind && reason.contains(why), "{reason}");
    }
}

#[test]
fn a_function_called_for_every_mm_checks_that_the_mm_is_watched() {
    let plan = plan_of(&host(&[("exit_mmap", &[MM])], &[]), Level::Full);
    let args = planned(&plan, "exit_mmap").unwrap().ways[0].args;
    assert_eq!((args[arg::VMA], args[arg::FLAGS]), (NO_ARG, flag::KNOWN_MM));
    let setup = plan.setup(&plan.untried());
    let sites = |is: fn(&setup::Site) -> bool| -> Vec<String> {
        setup.sites.iter().filter(|s| is(s)).map(|s| s.function.clone()).collect()
    };
    assert_eq!(sites(|s| s.last_user), ["exit_mmap"]);
    assert_eq!(sites(|s| s.vma_locked), Vec::<String>::new());
}

#[test]
fn walks_from_the_mm_hold_mmap_lock_or_the_vma_lock() {
    for site in facts::load().unwrap().sites {
        let walks = matches!(site.role, Role::Callback | Role::Walk);
        // A walk by the file holds the file's lock.
        let by_the_file = !site.unlinks.is_empty() && site.name().starts_with("try_to_");
        assert!(!walks || site.vma_locked, "{}", site.name());
        assert!(!by_the_file || !site.vma_locked, "{}", site.name());
    }
}
