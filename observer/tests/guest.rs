//! Tests on a real kernel, as root inside a guest: `cargo xtask test` boots one and runs them.
//!
//! They compare observer's results with witnesses that share no code with it: tracefs counts, the kernel's own lists of
//! programs, maps and links, the kernel log.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not `#[test]` functions for clippy")]

#[path = "common/random.rs"]
mod random;

mod guest {
    pub mod bpf;
    pub mod dashboard;
    pub mod hosts;
    pub mod identity;
    pub mod matrix;
    pub mod order;
    pub mod page_sizes;
    pub mod stale;
    pub mod tmux;
    pub mod witness;
}

use std::{
    fs,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use guest::{bpf::Loaded, witness::Witness};
use serde_json::Value;

/// Every deterministic scenario that unshares, and one race.
const SCENARIOS: [&str; 15] = [
    "share",
    "fork",
    "three",
    "exit",
    "unmap",
    "mprotect",
    "split-mprotect",
    "split-munmap",
    "mremap",
    "punch",
    "truncate",
    "dontneed",
    "migrate",
    "uffd-wp",
    "fault-truncate",
];

fn observer() -> Command {
    Command::new(std::env::var_os("OBSERVER_BIN").expect("OBSERVER_BIN: run by `cargo xtask test`"))
}

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    if !output.status.success() {
        println!("{}", String::from_utf8_lossy(&output.stdout));
        println!("{}", String::from_utf8_lossy(&output.stderr));
    }
    output
}

/// Records the scenarios; options go before the `--`.
fn record(file: &str, options: &[&str], scenarios: &[&str]) {
    let bin = std::env::var("OBSERVER_BIN").unwrap();
    let mut command = observer();
    command
        .args(["record", "--force", "-o", file])
        .args(options)
        .args(["--", &bin, "exercise"])
        .args(scenarios);
    let output = run(&mut command);
    // A function that is left out may make a role blind, which makes the run partial.
    let may_be_partial = options.contains(&"--without");
    let is_well = output.status.success() || may_be_partial && output.status.code() == Some(4);
    assert!(is_well, "record ended with {}", output.status);
}

fn report(file: &str) -> Value {
    let args = ["report", "--format", "json", "--fail-on", "never", "--accept-partial", file];
    let output = run(observer().args(args));
    assert!(output.status.success(), "report ended with {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Sum of a counter over the sites of a role.
fn count(report: &Value, role: &str, counter: &str) -> u64 {
    let sites = report["sites"].as_array().unwrap();
    sites.iter().filter(|s| s["role"] == role).map(|s| s[counter].as_u64().unwrap()).sum()
}

/// Number of programs that a preemptible kernel skipped; any other loss is a failure.
fn skipped(report: &Value) -> u64 {
    let losses = report["loss"].as_array().unwrap();
    assert!(losses.iter().all(|loss| loss["reason"] == "skipped"), "loss: {losses:#?}");
    losses.iter().map(|loss| loss["total"].as_u64().unwrap()).sum()
}

/// Returns true if observer's count differs from the witness by more than the programs that the kernel skipped.
fn differs(witness: u64, ours: u64, skipped: u64) -> bool {
    witness < ours || witness - ours > skipped
}

/// Names of the roles whose count differs from the witness by more than the programs that the kernel skipped.
fn compare(options: &[&str], scenarios: &[&str]) -> Vec<&'static str> {
    let witness = Witness::start(&[]).unwrap();
    record("/tmp/compare.obs", options, scenarios);
    let seen = witness.counts().unwrap();
    let [lookups, shares, unshares] = ["lookup", "share", "unshare"].map(|name| seen.get(name));
    drop(witness);
    let report = report("/tmp/compare.obs");
    // If a function is not watched, its lookups have no operation, which is reported as loss.
    let skipped = if options.is_empty() { skipped(&report) } else { 0 };
    assert!(unshares > 50 && shares > 50 && lookups > 5_000, "vacuous: {seen:?}");
    // This comparison of upper-level entries uses another kind of probe, on other functions than the witness.
    let by_diff = count(&report, "operation", "outcomes");
    let by_body = count(&report, "unshare", "outcomes");
    let rows = [
        ("lookup", lookups, count(&report, "lookup", "hits")),
        ("share", shares, count(&report, "share", "outcomes")),
        ("unshare by the entries", unshares, by_diff),
        ("unshare by the body", unshares, by_body),
    ];
    println!("{:<24} {:>9} {:>9}, {skipped} skipped", "role", "witness", "observer");
    for (role, witness, ours) in rows {
        println!("{role:<24} {witness:>9} {ours:>9}");
    }
    rows.into_iter()
        .filter(|&(_, witness, ours)| differs(witness, ours, skipped))
        .map(|(role, ..)| role)
        .collect()
}

#[test]
#[ignore = "needs a guest"]
fn matrix_of_this_kernel() {
    guest::matrix::run().unwrap();
}

/// Tests that `cargo xtask test` runs on every kernel, beside the matrix.
mod on_every_kernel {
    use crate::guest::{dashboard, hosts, identity, stale};

    #[test]
    #[ignore = "needs a guest"]
    fn the_dashboard_is_used_from_attach_to_replay() {
        dashboard::story();
    }

    #[test]
    #[ignore = "needs a guest"]
    fn windows_occur_only_without_protection() {
        stale::race();
    }

    #[test]
    #[ignore = "needs a guest"]
    fn predictions_do_not_depend_on_timing() {
        stale::turns();
    }

    #[test]
    #[ignore = "needs a guest"]
    fn every_lookup_of_userfaultfd_is_inside_an_operation() {
        identity::userfaultfd();
    }

    #[test]
    #[ignore = "needs a guest"]
    fn a_task_that_executes_another_program_is_recorded_again() {
        identity::exec();
    }

    #[test]
    #[ignore = "needs a guest"]
    fn a_run_that_cannot_work_is_refused_before_it_attaches() {
        hosts::refusals();
    }

    #[test]
    #[ignore = "needs a guest"]
    fn unneeded_privileges_are_dropped_after_attaching() {
        hosts::privileges();
    }

    #[test]
    #[ignore = "needs a guest"]
    fn least_privilege_serves_all_or_is_refused() {
        hosts::least_privilege();
    }

    /// Tests that also run on kernels that are listed for one deadlock only.
    mod order {
        use crate::guest::order;

        #[test]
        #[ignore = "needs a guest"]
        fn a_fault_and_a_migration_deadlock_on_affected_kernels() {
            order::migrate();
        }

        #[test]
        #[ignore = "needs a guest"]
        fn a_copy_and_a_fault_deadlock_on_affected_kernels() {
            order::fault_mutex();
        }

        #[test]
        #[ignore = "needs a guest"]
        fn a_punch_and_a_migration_deadlock_on_affected_kernels() {
            order::punch_migrate();
        }

        #[test]
        #[ignore = "needs a guest"]
        fn a_violation_of_the_documented_order_is_explained_or_reported() {
            order::documented();
        }
    }
}

/// On 6.12: 5.10 does not let the switch be 0 while programs are attached, and 7.3 never.
#[test]
#[ignore = "needs a guest"]
fn function_tracing_that_is_switched_off_is_reported() {
    guest::hosts::switched_off();
}

#[test]
#[ignore = "needs a guest"]
fn counts_equal_an_independent_witness() {
    assert_eq!(compare(&[], &SCENARIOS), Vec::<&str>::new());
}

/// In a guest of their own, in the order of their names: a kernel that is locked down stays so.
mod own_guest {
    use crate::guest::{hosts, page_sizes};

    #[test]
    #[ignore = "needs a guest of its own"]
    fn a_hidden_file_is_named() {
        hosts::hidden_files();
    }

    #[test]
    #[ignore = "needs a guest of its own"]
    fn a_limit_of_memory_is_found_before_attaching() {
        hosts::memory_limits();
    }

    #[test]
    #[ignore = "needs a guest of its own"]
    fn a_processor_that_comes_online_is_covered() {
        hosts::processors();
    }

    #[test]
    #[ignore = "needs a guest of its own"]
    fn a_full_disk_does_not_end_the_run() {
        hosts::full_disk();
    }

    #[test]
    #[ignore = "needs a guest of its own"]
    fn a_run_that_is_killed_leaves_nothing_behind_but_a_readable_recording() {
        hosts::kills();
    }

    #[test]
    #[ignore = "needs a guest of its own"]
    fn page_sizes_are_counted_apart() {
        page_sizes::counted_apart();
        let scenarios = ["mprotect", "punch", "dontneed", "migrate", "wide-remap", "crowd-dontneed"];
        assert_eq!(crate::compare(&[], &scenarios), Vec::<&str>::new());
    }

    #[test]
    #[ignore = "needs a guest of its own"]
    fn the_kernel_is_locked_down() {
        hosts::locked_down();
    }
}

#[test]
#[ignore = "needs a guest"]
fn the_comparison_fails_without_a_probe() {
    assert_eq!(compare(&["--without", "huge_pte_alloc"], &SCENARIOS), ["lookup"]);
    assert_eq!(compare(&["--without", "__unmap_hugepage_range"], &SCENARIOS), ["unshare by the entries"]);
}

#[test]
#[ignore = "needs a guest"]
fn the_fault_path_takes_its_locks_in_the_documented_order() {
    record("/tmp/order.obs", &[], &["share", "fault-truncate"]);
    let report = report("/tmp/order.obs");
    let edge = |from: &str, from_mode: &str, to: &str, to_mode: &str| {
        report["edges"].as_array().unwrap().iter().any(|e| {
            e["from"] == from
                && e["from_mode"] == from_mode
                && e["to"] == to
                && e["to_mode"] == to_mode
                && e["acquire"] != "try"
        })
    };
    // mm/rmap.c of 6.12: fault mutex, vma_lock, i_mmap_rwsem (inside huge_pmd_share), folio lock; the PTL innermost.
    let documented = [
        ("fault_mutex", "exclusive", "vma_lock", "read"),
        ("vma_lock", "read", "i_mmap_rwsem", "read"),
        ("fault_mutex", "exclusive", "folio_lock(file)", "exclusive"),
        ("vma_lock", "read", "folio_lock(file)", "exclusive"),
        ("vma_lock", "read", "ptl", "exclusive"),
        ("folio_lock(file)", "exclusive", "ptl", "exclusive"),
    ];
    for (from, from_mode, to, to_mode) in documented {
        assert!(
            edge(from, from_mode, to, to_mode),
            "no edge {from}({from_mode}) -> {to}({to_mode}): {}",
            report["edges"]
        );
        assert!(!edge(to, to_mode, from, from_mode), "against the order: {to} -> {from}");
    }
    let against =
        report["findings"].as_array().unwrap().iter().filter(|f| f["rank"] == "against-order").count();
    assert_eq!(against, 0, "{}", report["findings"]);
}

#[test]
#[ignore = "needs a guest"]
fn a_kernel_that_excludes_unshare_gives_no_window() {
    record("/tmp/protected.obs", &[], &["demo", "--duration", "20s"]);
    let report = report("/tmp/protected.obs");
    let (leases, unshares) = (&report["counts"]["leases"], count(&report, "unshare", "outcomes"));
    println!("{leases} leases, {unshares} unshares");
    assert!(leases.as_u64().unwrap() >= 1_000 && unshares >= 50, "vacuous");
    let windows: Vec<_> =
        report["findings"].as_array().unwrap().iter().filter(|f| f["kind"] == "window").collect();
    assert!(windows.is_empty(), "{windows:#?}");
}

#[test]
#[ignore = "needs a guest"]
fn live_findings_and_two_replays_are_byte_identical() {
    let bin = std::env::var("OBSERVER_BIN").unwrap();
    for format in ["json", "text"] {
        let file = "/tmp/identical.obs";
        let live = run(observer()
            .args(["attach", "--force", "--record", file, "--format", format, "--", &bin, "exercise"])
            .args(["share", "punch", "abba-fault-mutex", "fault-truncate"]));
        assert!(live.status.success());
        let live = String::from_utf8(live.stdout).unwrap();
        let replay =
            || run(observer().args(["report", "--fail-on", "never", "--format", format, file])).stdout;
        let (first, second) = (replay(), replay());
        assert!(first.len() > 1000, "vacuous: {}", String::from_utf8_lossy(&first));
        assert!(first == second, "two replays differ");
        assert!(
            live.as_bytes() == first,
            "live and replay differ:\n{live}\n----\n{}",
            String::from_utf8_lossy(&first)
        );
        println!("{format}: {} bytes, identical live and in two replays", first.len());
    }
}

/// A load that runs until it is dropped.
struct Load(Child);

impl Load {
    fn start(scenario: &str) -> Load {
        let child = observer().args(["exercise", scenario, "--loop"]).stdout(Stdio::null()).spawn().unwrap();
        Load(child)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // SAFETY: a child of ours that was not waited for.
        unsafe { libc::kill(self.0.id() as i32, libc::SIGTERM) };
        let _ = self.0.wait();
    }
}

/// Waits until the condition is true or the time is over.
fn wait_for(limit: Duration, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() && begun.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The kernel's messages since the last call.
fn kernel_log() -> String {
    String::from_utf8_lossy(&run(Command::new("dmesg").arg("-c")).stdout).into_owned()
}

#[test]
#[ignore = "needs a guest"]
fn fifty_attaches_under_load_leave_nothing_behind() {
    let before = Loaded::count().unwrap();
    kernel_log();
    let load = Load::start("demo");
    for n in 0..50 {
        let file = "/tmp/fifty.obs";
        let _ = fs::remove_file(file);
        let mut attach = observer().args(["record", "-o", file]).stderr(Stdio::null()).spawn().unwrap();
        // Most are ended while they load and attach, at all stages of it; every fifth runs first.
        let running = n % 5 == 0;
        if running {
            wait_for(Duration::from_secs(120), || fs::metadata(file).is_ok());
            // The recording is created a moment before the run handles signals.
            std::thread::sleep(Duration::from_secs(1));
        } else {
            std::thread::sleep(Duration::from_millis(100 + 137 * (n % 20)));
        }
        let signal = if n % 2 == 0 { libc::SIGKILL } else { libc::SIGINT };
        // SAFETY: a child of ours that was not waited for.
        unsafe { libc::kill(attach.id() as i32, signal) };
        let status = attach.wait().unwrap();
        // Ctrl-C ends a run in order. A program that still attaches has no handler and is killed by it.
        let in_order = running && signal == libc::SIGINT;
        assert!(
            if in_order { status.success() } else { status.signal() == Some(signal) },
            "attach {n}: {status}"
        );
    }
    drop(load);
    // The kernel frees programs after a grace period.
    wait_for(Duration::from_secs(10), || Loaded::count().unwrap() == before);
    let after = Loaded::count().unwrap();
    println!("before {before:?}, after {after:?}");
    assert_eq!(after, before);
    let log = kernel_log();
    let bad: Vec<_> = log
        .lines()
        .filter(|l| ["WARNING", "BUG", "Oops", "blocked for more"].iter().any(|w| l.contains(w)))
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
#[ignore = "needs a guest"]
fn doctor_finds_every_essential_role_and_the_kernel_attaches_them() {
    let output = run(observer().args(["doctor", "--attach", "--format", "json"]));
    assert!(output.status.success());
    let doctor: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(doctor["essential_covered"], true);
    let refused: Vec<_> = doctor["sites"].as_array().unwrap().iter().filter(|s| s["refused"] != "").collect();
    assert!(refused.is_empty(), "{refused:?}");
    let hidden = observer().args(["doctor", "--without", "huge_pmd_share"]).output().unwrap();
    assert_eq!(hidden.status.code(), Some(3), "a blind essential role is an exit code");
}

#[test]
#[ignore = "needs a guest"]
fn doctor_lists_the_roles_that_fire() {
    let output = run(observer().args(["doctor", "--exercise", "--format", "json"]));
    let doctor: Value = serde_json::from_slice(&output.stdout).unwrap();
    let exercised = &doctor["exercised"];
    assert!(output.status.success(), "{exercised:#}");
    let scenarios = exercised["scenarios"].as_array().unwrap();
    let unshares = |scenario: &Value| {
        let fired = scenario["fired"].as_array().unwrap();
        fired.iter().find(|f| f["name"] == "unshare").unwrap()["count"].as_u64().unwrap()
    };
    let total: u64 = scenarios.iter().map(unshares).sum();
    println!("{} scenarios, {total} unshares", scenarios.len());
    assert!(scenarios.len() > 30 && total > 200, "vacuous");
    // If a declared path does not fire, doctor reports it: without the probe nothing fires.
    let hidden =
        observer().args(["doctor", "--exercise", "--without", "__unmap_hugepage_range"]).output().unwrap();
    let said = String::from_utf8_lossy(&hidden.stdout);
    assert_eq!(hidden.status.code(), Some(3), "{said}");
    assert!(said.contains("  munmap, exit, MADV_DONTNEED, truncate, hole punch\n"), "{said}");
}

/// Functions to hide, each with the role that becomes blind and the kinds of findings that depend on that role.
const HIDDEN: [(&str, &str, &[&str]); 6] = [
    ("huge_pte_offset", "unshare", &["window", "freed-shared"]),
    ("__huge_pmd_unshare", "unshare", &["window", "freed-shared"]),
    ("__pmd_alloc", "share", &["freed-shared"]),
    ("up_read", "lock", &["window", "cycle", "order", "relock"]),
    ("folio_unlock", "folio-held", &["cycle", "order", "relock"]),
    ("_raw_spin_lock", "ptl", &["window"]),
];

#[test]
#[ignore = "needs a guest"]
fn a_hidden_function_makes_its_role_blind_and_its_findings_doubtful() {
    for (function, role, kinds) in HIDDEN {
        record("/tmp/hidden.obs", &["--without", function], &["share", "abba-fault-mutex", "punch"]);
        let report = report("/tmp/hidden.obs");
        let coverage = report["coverage"].as_array().unwrap();
        let row = coverage
            .iter()
            .find(|c| c["role"] == role && c["part"].as_str().unwrap_or("").is_empty())
            .unwrap();
        assert_eq!(row["grade"], "blind", "{function}: {row}");
        assert!(row["reason"].as_str().unwrap().contains(function), "{function}: {row}");
        // A blind role records no events.
        let seen = count(&report, role, "outcomes") + count(&report, role, "hits");
        // Other functions of these roles still count: their releases, and the calls that do not share.
        let is_all_gone = !["lock", "share", "ptl"].contains(&role);
        assert!(!is_all_gone || seen == 0, "{function}: {seen} of {role}");
        for finding in report["findings"].as_array().unwrap() {
            let doubted = finding["doubts"].to_string().contains(&format!("{role} is blind"));
            let counts_on_it = kinds.iter().any(|kind| finding["kind"] == *kind);
            assert!(doubted || !counts_on_it, "{function}: {finding}");
        }
        println!(
            "without {function}: {role} is blind; {} findings",
            report["findings"].as_array().unwrap().len()
        );
    }
}

#[test]
#[ignore = "needs a guest"]
fn a_refusal_without_privilege_has_a_next_step() {
    for arguments in [&["attach", "--duration", "1s"][..], &["doctor"]] {
        let output = observer().args(arguments).uid(65_534).gid(65_534).output().unwrap();
        assert!(!output.status.success());
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("CAP_BPF") && said.contains("try: "), "{arguments:?} said: {said}");
    }
}
