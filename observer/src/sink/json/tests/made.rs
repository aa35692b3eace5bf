//! A report with everything: each rank, each kind of finding, each hold basis.
//!
//! No run has such a report; the tests only write it.

use std::collections::BTreeMap;

use observer_engine::{
    event::{Addr, Mapping, Mm, Mode, Table},
    finding::{AcquireKind, Doubt, Finding, Rank, Step},
    lock_class::LockClass,
    order::Counts,
    setup::Grade,
    view::{
        Documented, EdgeView, Excluder, LinkView, LookupProtection, MappingView, OtherSize, PairProtection,
        ProtectionView, Stats, TableView, UnlinkProtection, UnsharerView, Verdict,
    },
};

use crate::{
    meta::{Closing, End, Kernel, Meta, Misses, Notice, SiteCount, Symbol, setup},
    report::{
        Report,
        several::{Named, Several},
        stacks::Stacks,
    },
    sink::finding::{
        samples,
        tests::{side, step},
    },
    source::{Mark, Pass, Stack},
};

fn protection() -> ProtectionView {
    ProtectionView {
        lookups: vec![LookupProtection {
            site: side().site,
            leases: 4,
            on_unlinked: 3,
            covered: vec![(vec![vec![LockClass::VmaLock], vec![LockClass::Ptl]], 2)],
            bare: 1,
            unjudged: 1,
        }],
        unlinks: vec![UnlinkProtection {
            site: side().site,
            unlinks: 2,
            held: vec![(vec![LockClass::IMmap, LockClass::Ptl], 1)],
            unjudged: 1,
        }],
        pairs: vec![PairProtection {
            lookup: side().site,
            unlink: side().site,
            always: vec![],
            ever: vec![Excluder::Lock(LockClass::VmaLock), Excluder::VmaLocked, Excluder::LastUser],
            open: true,
            unsure: true,
        }],
    }
}

fn mapping() -> MappingView {
    MappingView {
        mapping: Mapping(9),
        tables: 1,
        sharers: 2,
        shares: 3,
        unshares: 2,
        first_ns: 1,
        last_ns: 2,
        peak_shares_per_s: 3,
        peak_unshares_per_s: 2,
        by: vec![UnsharerView {
            comm: "unmapper".into(),
            site: side().site,
            unshares: 2,
            operations: 1,
            total_ns: 5,
            max_ns: 5,
        }],
    }
}

fn stacks() -> Stacks {
    let mut stacks = Stacks::default();
    stacks.pass(
        &Pass {
            mark: Mark { number: 0, time_ns: 1, complete: true },
            stacks: vec![Stack { id: 5, frames: vec![0x10, 0x20] }],
            symbols: vec![Symbol { address: 0x10, name: "smaps_hugetlb_range".into(), offset: 5 }],
            ..Pass::default()
        },
        0,
    );
    stacks
}

/// One finding of each rank; the samples of all kinds repeat in a cycle.
fn findings() -> Vec<Finding> {
    let finding = |(rank, evidence)| Finding {
        id: "made".into(),
        rank,
        count: 1,
        first_ns: 1,
        last_ns: 2,
        doubts: vec![Doubt::Loss],
        evidence,
    };
    Rank::ALL.into_iter().zip(samples().into_iter().cycle()).map(finding).collect()
}

fn meta() -> Meta {
    let coverage = |part: &str, reason: &str| setup::Coverage {
        role: "lookup".into(),
        part: part.into(),
        grade: "blind".into(),
        reason: reason.into(),
    };
    let site = |id, function: &str| setup::Site {
        id,
        function: function.into(),
        role: "lookup".into(),
        foreign_lookup_until: None,
        vma_locked: false,
        last_user: false,
        folio_taken: None,
        late: false,
        try_then_block: Vec::new(),
    };
    Meta {
        kernel: Kernel { build_id: Some("00ff".into()), ..Kernel::default() },
        since: None,
        setup: setup::Setup {
            sites: vec![site(1, "counted"), site(2, "not_counted")],
            coverage: vec![coverage("", ""), coverage("GUP-fast", "no function")],
            ..setup::Setup::default()
        },
        ..Meta::default()
    }
}

fn edge(acquire: AcquireKind, verdict: Verdict) -> EdgeView {
    EdgeView {
        from: LockClass::MmapLock,
        from_mode: Some(Mode::Read),
        to: LockClass::Ptl,
        to_mode: None,
        acquire,
        sure: true,
        count: 1,
        tasks: 1,
        gates: vec![LockClass::MmapLock],
        instances: 1,
        lossy: false,
        first_ns: 1,
        last_ns: 2,
        documented: vec![Documented { verdict, source: "mm/rmap.c".into(), reason: "as documented".into() }],
        witness: Step { acquire, ..step(None) },
    }
}

fn edges() -> Vec<EdgeView> {
    vec![
        edge(AcquireKind::Blocking, Verdict::Agrees),
        edge(AcquireKind::TryThenBlock, Verdict::Against),
        edge(AcquireKind::Try, Verdict::Exception),
    ]
}

/// A report that differs from it in every way that a diff shows.
pub fn other() -> Report {
    let mut other = everything();
    other.findings.truncate(1);
    other.findings.push(Finding { id: "another".into(), ..other.findings[0].clone() });
    other.findings[0].rank = Rank::Held;
    other.edges = vec![EdgeView { to: LockClass::Inode, ..other.edges[0].clone() }];
    other.coverage[0].grade = Grade::Exact;
    other
}

/// Recordings whose edges together make a cycle.
pub fn several() -> Several {
    let (mut a, mut b) = (everything(), everything());
    a.edges = vec![EdgeView { from: LockClass::IMmap, to: LockClass::Inode, ..a.edges[0].clone() }];
    b.edges = vec![EdgeView { from: LockClass::Inode, to: LockClass::IMmap, ..a.edges[0].clone() }];
    b.meta.boot_id = "another".into();
    let named = |name: &str, report| Named { name: name.into(), report };
    let several = Several::of(vec![named("a.obs", a), named("b.obs", b)]);
    assert_eq!(several.merged.findings.len(), 1);
    several
}

/// The report.
pub fn everything() -> Report {
    let other_size = OtherSize { page_bytes: 1 << 30, lookups: 3, walks: 1 };
    let link = LinkView { mm: Mm(1), gib: Addr(1 << 30), since_ns: 1 };
    Report {
        meta: meta(),
        closing: Some(Closing {
            end: End::Command(0),
            end_ns: 9,
            sites: vec![SiteCount { site: 1, hits: 3, outcomes: 2 }],
            misses: vec![Misses { program: "lookup_0".into(), recursion: 1 }],
            loss: BTreeMap::from([("ring-full".into(), 1)]),
        }),
        notices: vec![Notice::remark("a notice".into())],
        coverage: observer_engine::setup::Setup::try_from(&meta().setup).unwrap().coverage,
        findings: findings(),
        edges: edges(),
        tables: vec![TableView {
            table: Table(4),
            generation: 1,
            birth_ns: 1,
            birth_seen: true,
            last_ns: 2,
            links: vec![link],
            lookups: 1,
            shares: 1,
            unshares: 1,
            sharers_max: 2,
            mapping: Mapping(9),
            alive: true,
            history: vec![],
        }],
        protection: protection(),
        mappings: vec![mapping()],
        stacks: stacks(),
        stats: Stats { by_kind: vec![("lookup", 1)], other_sizes: vec![other_size], ..Stats::default() },
        counts: Counts::default(),
        passes: 1,
        loss: vec![("ring-full", 1)],
        end_ns: 9,
    }
}
