//! Tests of lock order on every kernel. The deadlocks of stock kernels are found in runs in which nothing hangs: both tasks
//! exist from the start, and their accesses follow each other. A kernel without a deadlock reports none, though both paths ran.
//!
//! Which build has which deadlock was measured by other means (the kernels hung, and printed their stacks). Here it is
//! expected.

use std::fs;

use serde_json::Value;

use crate::{record, report};

const FAULT_MUTEX: &str = "fault_mutex>folio_lock(file)";
const I_MMAP: &str = "i_mmap_rwsem>folio_lock(file)";

/// A build, and the deadlocks that each scenario shows on it.
struct Kernel {
    /// Name of the row in `xtask/kernels.toml`.
    name: &'static str,
    /// Version of the build; other builds of the row may have other deadlocks.
    version: &'static str,
    /// Deadlocks of a fault that waits for a migrating folio.
    migrate: &'static [&'static str],
    /// Deadlocks of a fault and a write to a private mapping with an empty pool.
    fault_mutex: &'static [&'static str],
    /// Deadlocks of a punch of a part of a page and a migration.
    punch: &'static [&'static str],
}

const KERNELS: [Kernel; 7] = [
    // 5.10: faults hold i_mmap_rwsem all the time, and a punch locks no folio under it.
    Kernel {
        name: "5.10",
        version: "5.10.223",
        migrate: &[I_MMAP],
        fault_mutex: &[FAULT_MUTEX, I_MMAP],
        punch: &[],
    },
    Kernel { name: "6.1", version: "6.1.176", migrate: &[], fault_mutex: &[FAULT_MUTEX], punch: &[] },
    Kernel { name: "6.12", version: "6.12.95", migrate: &[], fault_mutex: &[FAULT_MUTEX], punch: &[] },
    Kernel {
        name: "6.12.57",
        version: "6.12.57",
        migrate: &[],
        fault_mutex: &[FAULT_MUTEX],
        punch: &[I_MMAP],
    },
    Kernel { name: "6.17.13", version: "6.17.13", migrate: &[], fault_mutex: &[], punch: &[I_MMAP] },
    Kernel { name: "6.18", version: "6.18.15", migrate: &[], fault_mutex: &[], punch: &[] },
    Kernel { name: "7.3", version: "7.3.4", migrate: &[], fault_mutex: &[], punch: &[] },
];

impl Kernel {
    /// The row of the running kernel; `None`, with a printed note, if another build replaces it.
    fn this() -> Option<&'static Kernel> {
        let row = std::env::var("OBSERVER_GUEST_KERNEL").unwrap_or_default();
        let kernel = KERNELS.iter().find(|k| k.name == row);
        let kernel = kernel.unwrap_or_else(|| panic!("nothing is known of the deadlocks of {row:?}"));
        // The version looks like "... #1 SMP PREEMPT_DYNAMIC Debian 6.12.95-1~bpo12+1 (2026-07-01)".
        let running = fs::read_to_string("/proc/sys/kernel/version").unwrap();
        let running = running.split("Debian ").nth(1).and_then(|rest| rest.split(['-', ' ']).next());
        if running != Some(kernel.version) {
            println!("not testable here: known of {}, and this is {running:?}", kernel.version);
            return None;
        }
        Some(kernel)
    }

    /// True if faults hold i_mmap_rwsem and there is no vma_lock.
    fn is_old(&self) -> bool {
        self.name == "5.10"
    }
}

/// Runs one scenario, and compares the findings with those expected on this kernel.
fn run(scenario: &str, expected: &[&str]) -> Value {
    let file = format!("/tmp/{scenario}.obs");
    record(&file, &[], &[scenario]);
    let report = report(&file);
    let alarms: Vec<&Value> =
        report["findings"].as_array().unwrap().iter().filter(|f| f["alarm"] == true).collect();
    for finding in report["findings"].as_array().unwrap() {
        println!("  {} {}", finding["rank"], finding["id"]);
    }
    let mut cycles: Vec<&str> = alarms.iter().map(|f| cycle(f)).collect();
    cycles.sort_unstable();
    cycles.dedup();
    assert_eq!(cycles, expected, "{scenario}: {alarms:#?}");
    for finding in alarms {
        has_both_sides(finding);
    }
    report
}

/// The classes of a cycle, from its id; for other findings the id.
fn cycle(finding: &Value) -> &str {
    let id = finding["id"].as_str().unwrap();
    id.strip_prefix("cycle:").and_then(|chain| chain.split(':').next()).unwrap_or(id)
}

/// Checks that no task waited, and that two tasks are listed, each with the lock that it held.
fn has_both_sides(finding: &Value) {
    assert_eq!(finding["rank"], "feasible", "nothing hung: {finding}");
    let steps = finding["evidence"]["steps"].as_array().unwrap();
    let tasks: Vec<&Value> = steps.iter().map(|step| &step["side"]["tid"]).collect();
    assert!(steps.len() == 2 && tasks[0] != tasks[1], "two tasks: {finding}");
    for step in steps {
        let holds = step["side"]["holds"].as_array().unwrap();
        let is_held = holds.iter().any(|h| h["class"] == step["from"] && h["lock"] == step["from_lock"]);
        assert!(is_held, "a side has what its step begins with: {step}");
    }
}

/// Number of requests for one class while another was held: in a way that can wait, or by a trylock that replaces no wait.
fn edges(report: &Value, from: &str, to: &str, tried: bool) -> u64 {
    let edges = report["edges"].as_array().unwrap().iter();
    let these = edges.filter(|e| e["from"] == from && e["to"] == to && (e["acquire"] == "try") == tried);
    these.map(|e| e["count"].as_u64().unwrap()).sum()
}

/// Number of lookups on behalf of one of these functions.
fn lookups_in(report: &Value, sites: &[&str]) -> u64 {
    let rows = report["protection"]["lookups"].as_array().unwrap().iter();
    let these = rows.filter(|row| sites.iter().any(|site| row["site"] == *site));
    these.map(|row| row["leases"].as_u64().unwrap()).sum()
}

/// Checks that a folio was locked, i_mmap_rwsem tried for it, and the folio moved and mapped again.
fn migrated(report: &Value) {
    let tried = edges(report, "folio_lock(file)", "i_mmap_rwsem", true);
    let mapped_again = lookups_in(report, &["remove_migration_pte"]);
    println!("migration: tried i_mmap_rwsem {tried} times, mapped again {mapped_again} times");
    assert!(tried >= 8 && mapped_again >= 8, "vacuous: there was no migration");
}

/// Migration against faults.
pub fn migrate() {
    let Some(kernel) = Kernel::this() else { return };
    let report = run("abba-migrate", kernel.migrate);
    migrated(&report);
    let faults = edges(&report, "fault_mutex", "folio_lock(file)", false);
    let under_i_mmap = edges(&report, "i_mmap_rwsem", "folio_lock(file)", false);
    println!("faults: {faults} with the fault mutex, {under_i_mmap} with i_mmap_rwsem");
    assert!(faults >= 8, "vacuous: nobody waited for a folio in a fault");
    assert_eq!(under_i_mmap > 0, kernel.is_old(), "who holds i_mmap_rwsem in a fault");
    let waits = edges(&report, "folio_lock(file)", "i_mmap_rwsem", false);
    let is_after_migration = kernel.is_old() || !kernel.punch.is_empty();
    assert_eq!(waits > 0, is_after_migration, "who drops i_mmap_rwsem before the folio is mapped again");
}

/// A private mapping's copy on write with an empty pool against a fault.
pub fn fault_mutex() {
    let Some(kernel) = Kernel::this() else { return };
    let report = run("abba-fault-mutex", kernel.fault_mutex);
    // The folio's party: three writes that released the fault mutex, acquired it again and repeated the lookup.
    let again = lookups_in(&report, &["hugetlb_cow", "hugetlb_wp"]);
    let faults = edges(&report, "fault_mutex", "folio_lock(file)", false);
    println!("{again} lookups in the copy, {faults} faults with the fault mutex");
    assert!(again >= 3, "vacuous: no write found the pool empty");
    assert!(faults >= 1, "vacuous: nobody waited for the folio in a fault");
    let has_folio = edges(&report, "folio_lock(file)", "fault_mutex", false);
    assert_eq!(has_folio >= 3, !kernel.fault_mutex.is_empty(), "{has_folio} times with the file's folio");
}

/// A punch of a part of a page against migration.
pub fn punch_migrate() {
    let Some(kernel) = Kernel::this() else { return };
    let report = run("abba-punch-migrate", kernel.punch);
    migrated(&report);
    let punches = edges(&report, "i_mmap_rwsem", "folio_lock(file)", false);
    println!("{punches} folios asked for under i_mmap_rwsem");
    assert_eq!(punches >= 2, !kernel.is_old(), "whether a punch locks folios under i_mmap_rwsem");
}

/// Compares every edge of the ordinary paths with the order that the kernel's source documents, and prints it. Each edge
/// against that order is explained by the facts or reported as a finding.
pub fn documented() {
    let file = "/tmp/paths.obs";
    let paths = ["share", "fork", "unmap", "mprotect", "mremap", "punch", "truncate", "migrate", "uffd-copy"];
    record(file, &[], &[&paths[..], &["abba-punch-migrate", "soft-offline", "hwpoison"]].concat());
    let report = report(file);
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let mut against = Vec::new();
    for edge in report["edges"].as_array().unwrap() {
        let ends = format!("{}({})>{}({})", edge["from"], edge["from_mode"], edge["to"], edge["to_mode"])
            .replace('"', "");
        let documented = edge["documented"].as_array().unwrap();
        let verdicts: Vec<String> =
            documented.iter().map(|d| format!("{}: {}", text(&d["verdict"]), text(&d["source"]))).collect();
        println!("edge {ends} {} {} {verdicts:?}", text(&edge["acquire"]), edge["count"]);
        if edge["acquire"] != "try" && documented.iter().any(|d| d["verdict"] == "against") {
            against.push(format!("{}>{}", text(&edge["from"]), text(&edge["to"])));
        }
    }
    against.dedup();
    let findings = report["findings"].as_array().unwrap();
    for edge in &against {
        let prefix = format!("order:{edge}:");
        assert!(findings.iter().any(|f| text(&f["id"]).starts_with(&prefix)), "{edge} is reported");
    }
    // Migration maps again without the i_mmap_rwsem that it acquired by a trylock. Memory failure looks for tasks by the file,
    // under the folio lock (6.12 memory-failure.c:654, 2127).
    let drops = Kernel::this().is_some_and(|kernel| kernel.is_old() || !kernel.punch.is_empty());
    let failed = |site: &Value| site["function"] == "memory_failure" && site["hits"].as_u64() > Some(0);
    let poisons = report["sites"].as_array().unwrap().iter().any(failed);
    let known: &[&str] = if drops || poisons { &["folio_lock(file)>i_mmap_rwsem"] } else { &[] };
    assert_eq!(against, known, "edges against the documented order");
    let seen = |from, to| edges(&report, from, to, false) > 0;
    let always =
        [("fault_mutex", "folio_lock(file)"), ("inode_lock", "i_mmap_rwsem"), ("i_mmap_rwsem", "ptl")];
    assert!(always.iter().all(|(from, to)| seen(from, to)), "the paths ran");
}
