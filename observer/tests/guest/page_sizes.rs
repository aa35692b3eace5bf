//! Pages of 1 GiB beside pages of 2 MiB, against probes on tracefs that read the size that each lookup is called with.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};

use super::witness::trace::Trace;
use crate::{count, record, report};

const RECORDING: &str = "/tmp/page-sizes.obs";
const GIB: u64 = 1 << 30;
const MIB_2: u64 = 2 << 20;
/// Where the scenario maps its pages of 1 GiB.
const AWAY: u64 = 0x4100_0000_0000;

/// The guest is the one that this test is about.
fn check_guest() {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    assert_eq!(read("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages"), "2");
    assert!(!read("/proc/cpuinfo").contains("la57"), "five levels of page tables");
    // 5.10 and 6.1 cloud flavours may lack it.
    println!("descriptors of tails are freed: {:?}", read("/proc/sys/vm/hugetlb_optimize_vmemmap"));
}

/// Counts of the witness.
#[derive(Debug)]
struct Seen {
    /// Lookups by page size.
    lookups: BTreeMap<u64, u64>,
    /// Lookups of faults, of any size.
    faults: u64,
    /// Walks over the pages of 1 GiB.
    walks: u64,
}

fn witness(run: impl FnOnce()) -> Seen {
    let mut trace = Trace::new().unwrap();
    // From 5.12 on the VMA is the second argument.
    let is_old = std::env::var("OBSERVER_GUEST_KERNEL").is_ok_and(|row| row == "5.10");
    let size = if is_old { " size=%dx:x64" } else { " size=%cx:x64" };
    let fault = trace.probe("p", "huge_pte_alloc", size, "").unwrap();
    trace.probe("p", "huge_pte_offset", " size=%dx:x64", "").unwrap();
    // The first field of a VMA is its first address. Older kernels have no such walk.
    let walk = trace.probe("p", "vma_pgtable_walk_begin", " start=+0(%di):x64", "").ok();
    run();
    let mut seen = Seen { lookups: BTreeMap::new(), faults: 0, walks: 0 };
    for record in trace.drain().unwrap() {
        if walk == Some(record.probe) {
            seen.walks += u64::from(record.args[0] == AWAY);
        } else {
            *seen.lookups.entry(record.args[0]).or_default() += 1;
            seen.faults += u64::from(record.probe == fault);
        }
    }
    seen
}

pub fn counted_apart() {
    check_guest();
    let Seen { lookups, faults, walks } = witness(|| record(RECORDING, &[], &["gigantic"]));
    println!("the witness: lookups by size {lookups:?}, {faults} of faults, {walks} walks");
    assert!(lookups[&GIB] > 20 && lookups[&MIB_2] > 1_000, "vacuous");
    let report = report(RECORDING);
    let expected = json!([{ "page_bytes": GIB, "lookups": lookups[&GIB], "walks": walks }]);
    assert_eq!(report["counts"]["other_sizes"], expected);
    assert_eq!(report["counts"]["lookups"], lookups[&MIB_2]);
    assert_eq!(count(&report, "unshare", "outcomes"), 1);
    // The only table is that of the 2 MiB pages: shared once, unshared once, freed.
    let tables = report["tables"].as_array().unwrap();
    let [table] = &tables[..] else { panic!("{tables:#?}") };
    assert_eq!(
        (&table["shares"], &table["unshares"], &table["alive"]),
        (&json!(1), &json!(1), &json!(false))
    );
    assert_eq!(report["findings"], Value::Array(Vec::new()));
    assert_eq!(report["loss"], Value::Array(Vec::new()));
    // The locks of faults on both sizes are recorded. Before 6.1 there is no vma_lock.
    let edges = report["edges"].as_array().unwrap();
    let of_faults = edges.iter().find(|e| e["from"] == "fault_mutex" && e["to"] == "vma_lock");
    if std::env::var("OBSERVER_GUEST_KERNEL").is_ok_and(|row| row != "5.10") {
        assert_eq!(of_faults.unwrap()["count"], faults);
    }
}
