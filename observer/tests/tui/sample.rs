//! Snapshots for the dashboard's tests: made up, in the shape of real ones.

use observer::snapshot::{
    CoverageRow, EdgeRow, FindingRow, MappingRow, Position, ProtectionRow, Snapshot, TableRow,
};

/// Start of every run here.
pub const START_NS: u64 = 40_000_000_000;

/// A run in which all is seen and nothing has happened yet.
pub fn empty() -> Snapshot {
    Snapshot {
        kernel_release: "6.12.95+deb13-cloud-amd64".into(),
        machine: "x86_64".into(),
        level: "full",
        now_ns: START_NS + 1_200_000_000,
        elapsed_ns: 1_200_000_000,
        drains: 12,
        events: ["lookup", "share", "unshare", "table", "lock", "ptl", "folio", "task"]
            .map(|g| (g, 0))
            .to_vec(),
        coverage: vec![
            covered("lookup", "", "exact", ""),
            covered("unlink", "", "exact", ""),
            covered("lock", "", "exact", ""),
        ],
        ..Snapshot::default()
    }
}

/// One row of everything.
pub fn one_row() -> Snapshot {
    Snapshot {
        events: [("lookup", 4021), ("share", 6), ("lock", 18_400)].to_vec(),
        leases: 1,
        tasks: 3,
        findings: vec![window(0)],
        findings_total: 1,
        edges: vec![edge(0)],
        edges_total: 1,
        tables: vec![table(0)],
        tables_total: 1,
        ..empty()
    }
}

/// More of everything than any screen holds, and than the snapshot holds.
pub fn thousands() -> Snapshot {
    Snapshot {
        events: ["lookup", "share", "unshare", "table", "lock", "ptl", "folio", "task"]
            .iter()
            .enumerate()
            .map(|(i, g)| (*g, 10_u64.pow(9 - i as u32) + 12_345))
            .collect(),
        leases: 812,
        tasks: 1204,
        findings: (0..1000).map(window).collect(),
        findings_total: 4711,
        edges: (0..1000).map(edge).collect(),
        edges_total: 1000,
        tables: (0..1000).map(table).collect(),
        tables_total: 2048,
        coverage: (0..300).map(|i| covered("lookup", &format!("walker_{i}"), "exact", "")).collect(),
        ..one_row()
    }
}

/// A window that did not happen, a file, and what keeps others apart.
pub fn predicted() -> Snapshot {
    Snapshot {
        findings: vec![prediction(), window(2)],
        findings_total: 2,
        mappings: vec![mapping()],
        protection: vec![
            protection(
                "lookup",
                "mincore_hugetlb",
                40,
                &["40 at some moment under none of vma_lock, i_mmap_rwsem, ptl"],
            ),
            protection(
                "lookup",
                "hugetlb_fault",
                4021,
                &["4,000 under vma_lock", "21 under vma_lock, then ptl"],
            ),
            protection(
                "removal",
                "move_hugetlb_page_tables",
                3,
                &["all under vma_lock + i_mmap_rwsem, without ptl"],
            ),
            protection("apart", "mincore_hugetlb / move_hugetlb_page_tables", 0, &["by nothing"]),
        ],
        ..one_row()
    }
}

fn protection(what: &'static str, site: &str, count: u64, ways: &[&str]) -> ProtectionRow {
    let ways = ways.iter().map(|way| (*way).to_owned()).collect::<Vec<_>>();
    let open = ways[0].contains("none of") || ways[0].contains("nothing");
    ProtectionRow { what, site: site.into(), count, open, ways }
}

fn prediction() -> FindingRow {
    FindingRow {
        id: "p".into(),
        rank: "predicted",
        kind: "prediction",
        summary: "mincore_hugetlb looks up under ptl, move_hugetlb_page_tables takes the table away under mmap_lock(write): nothing keeps them apart".into(),
        certain_ns: 0,
        possible_ns: 0,
        ..window(0)
    }
}

fn mapping() -> MappingRow {
    MappingRow {
        mapping: 0xffff_8880_0777_0000,
        tables: 1,
        sharers: 2,
        shares: 1200,
        unshares: 1100,
        first_ns: START_NS + 300_000_000,
        detail: vec![
            "1,200 shares: 30 per second, 120 at most".into(),
            "1,100 unshares: 27 per second, 110 at most".into(),
            "postgres in __unmap_hugepage_range: 1,100 unshares; 40 operations of 1.200 ms on average, 4.000 ms at most".into(),
        ],
    }
}

/// Records are missing.
pub fn lossy() -> Snapshot {
    Snapshot {
        loss: vec![("ring-full", 120_345), ("slot-busy", 7)],
        late: 3,
        undecodable: 1,
        notices: vec!["recording is truncated after 12.3 s: a record of 4096 bytes breaks off".into()],
        position: Position::Replay {
            file: "share.obs".into(),
            permille: 457,
            paused: true,
            speed: Some(0.25),
            ended: false,
        },
        ..one_row()
    }
}

/// Much cannot be seen.
pub fn blind() -> Snapshot {
    let why = "__huge_pmd_unshare.isra.0 has no BTF and fentry refused it: EINVAL; every call through a VMA split is missed";
    Snapshot {
        level: "light",
        filter: "comm postgres".into(),
        coverage: vec![
            covered("lookup", "", "exact", ""),
            covered("lookup", "follow_hugetlb_page", "blind", "nine arguments: more than fentry takes"),
            covered("unlink", "", "bounded", "seen as a change over the enclosing function"),
            covered("unshare", "", "blind", why),
            covered("ptl", "", "blind", "level light attaches to no lock function"),
            covered("folio-held", "", "inferred", "from the release"),
        ],
        ..empty()
    }
}

fn covered(role: &'static str, part: &str, grade: &'static str, reason: &str) -> CoverageRow {
    CoverageRow { role, part: part.into(), grade, reason: reason.into() }
}

pub fn window(i: usize) -> FindingRow {
    let cycle = i % 4 == 3;
    FindingRow {
        id: format!("f{i}"),
        rank: ["freed", "used", "held", "feasible"][i % 4],
        alarm: true,
        kind: if cycle { "cycle" } else { "window" },
        summary: if cycle {
            "folio_lock(file) -> i_mmap_rwsem(read) -> folio_lock(file)".into()
        } else {
            "smaps_hugetlb_range had a pte pointer whose table hugetlb_unshare_all_pmds took away, for 12.345 us".into()
        },
        count: 3 + i as u64,
        first_ns: START_NS + 400_000_000,
        certain_ns: if cycle { 0 } else { 12_345 },
        possible_ns: if cycle { 0 } else { 2_340_000 },
        detail: vec![
            "holder   task 212 (reader) cpu 1, lookup in smaps_hugetlb_range at 00:00:00.4".into(),
            "  held   mmap_lock(read) 0xffff888003c21a80".into(),
            "unlinker task 214 (mover) cpu 0, in hugetlb_unshare_all_pmds".into(),
            "  held   mmap_lock(write) vma_lock(write) i_mmap_rwsem(write)".into(),
            "missing  no lock that excludes hugetlb_unshare_all_pmds was held over the whole lease of the pointer".into(),
            "could be false if: nothing known; loss 0 on both CPUs in the interval".into(),
        ],
    }
}

fn edge(i: usize) -> EdgeRow {
    EdgeRow {
        from: ["fault_mutex(exclusive)", "vma_lock(read)", "folio_lock(file)"][i % 3].into(),
        to: format!("i_mmap_rwsem(read){}", if i < 3 { String::new() } else { format!("#{i}") }),
        ask: ["wait", "wait", "try/wait", "wait", "try"][i % 5],
        order: ["agrees", "AGAINST", "", "exception"][i % 4],
        count: 20_000 >> (i % 12),
        tasks: 2,
        detail: vec!["first by task 212 (toucher) in hugetlb_fault, cpu 1".into()],
    }
}

fn table(i: usize) -> TableRow {
    TableRow {
        address: 0xffff_8880_0412_3000 + ((i as u64) << 12),
        generation: (i % 3) as u32,
        alive: i % 4 != 2,
        born_ns: START_NS + 300_000_000,
        sharers: (0..(i % 4) as u64 + 1)
            .map(|n| (0xffff_8880_0510_0000 + (n << 10), 0x40_0000_0000))
            .collect(),
        lookups: 90_000 >> (i % 12),
        shares: 3,
        unshares: 2,
        sharers_max: 4,
        mapping: 0xffff_8880_0777_0000,
        history: vec![
            "+0.310000 s  link of mm 0xffff888005100000, GiB of 0x4000000000, made by sharing by task 212"
                .into(),
        ],
    }
}
