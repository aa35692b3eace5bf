//! A report that has everything: each rank, each kind of finding, each way in which a hold is known.
//!
//! It makes no sense as a run; it is there to be written out.

use std::{collections::BTreeMap, sync::Arc};

use observer::{
    meta::{Closing, End, Kernel, Meta, Misses, SiteCount, Symbol, setup},
    report::{
        Report,
        several::{Named, Several},
        stacks::Stacks,
    },
    source::{Mark, Pass, Stack},
};
use observer_engine::{
    event::{Addr, Mapping, Mm, Mode, Pte, Table, Tid},
    finding::{
        AgainstOrder, Cycle, Doubt, Ended, Evidence, Finding, FreedShared, Hold, Kind, Known, LastHolder,
        Manner, OrphanWait, Prediction, Queued, Rank, Relock, Side, Step, TaskRef, Use, Window, WindowCase,
    },
    lock_class::LockClass,
    order::Counts,
    setup::Grade,
    view::{
        ApartView, Documented, EdgeView, LinkView, LookupProtection, MappingView, PairProtection,
        ProtectionView, Stats, TableEvent, TableStep, TableView, UnlinkProtection, UnsharerView, Verdict,
    },
};

const KNOWN: [Known; 7] = [
    Known::Asked,
    Known::Asking,
    Known::Tried,
    Known::Returned,
    Known::Contract,
    Known::SlowPath,
    Known::Released,
];

/// A variant that is added stops this from compiling until `KNOWN` and the document have it.
fn is_listed(known: Known) {
    match known {
        Known::Asked
        | Known::Asking
        | Known::Tried
        | Known::Returned
        | Known::Contract
        | Known::SlowPath
        | Known::Released => {}
    }
}

fn hold(known: Known) -> Hold {
    is_listed(known);
    Hold { class: LockClass::IMmap, lock: 0x40, mode: Some(Mode::Read), known, since_ns: 1, lossy: false }
}

fn side() -> Side {
    Side {
        task: TaskRef { tid: Tid(11), tgid: 10, comm: "walker".into(), cpu: 1 },
        site: Arc::from("smaps_hugetlb_range"),
        time_ns: 1,
        stack: Some(0),
        holds: KNOWN.map(hold).to_vec(),
    }
}

fn case(used: Use) -> WindowCase {
    WindowCase {
        holder: side(),
        unlinker: side(),
        mm: Mm(1),
        addr: Addr(2),
        pte: Pte(3),
        table: Table(4),
        generation: 1,
        table_birth_ns: 1,
        unlink_lo_ns: 2,
        unlink_hi_ns: 3,
        certain_ns: 4,
        possible_ns: 5,
        used,
        at_use: Some(Box::new(side())),
        freed_ns: Some(6),
        history: STEPS.map(happened).to_vec(),
    }
}

const STEPS: [TableStep; 5] =
    [TableStep::Born, TableStep::Shared, TableStep::Seen, TableStep::Unshared, TableStep::Freed];

fn happened(what: TableStep) -> TableEvent {
    match what {
        TableStep::Born | TableStep::Shared | TableStep::Seen | TableStep::Unshared | TableStep::Freed => {}
    }
    TableEvent { time_ns: 1, generation: 1, what, mm: Mm(1), gib: Addr(1 << 30), tid: Tid(11) }
}

fn prediction() -> Prediction {
    Prediction {
        holder: side(),
        unlinker: side(),
        mm: Mm(1),
        gib: Addr(1 << 30),
        table: Table(4),
        generation: 1,
        leases: 2,
        unlinks: 3,
        would_exclude: vec![LockClass::Ptl],
        unlinker_lacks: vec![LockClass::IMmap],
    }
}

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
            ever: vec![ApartView::Lock(LockClass::VmaLock), ApartView::VmaLocked, ApartView::LastUser],
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

fn step(to_mode: Option<Mode>) -> Step {
    Step {
        from: LockClass::FaultMutex,
        from_mode: Some(Mode::Exclusive),
        from_lock: 1,
        from_known: Known::Asked,
        to: LockClass::FolioFile,
        to_mode,
        to_lock: 2,
        manner: Manner::TryThenBlock,
        sure: true,
        side: side(),
        count: 1,
        waiting: true,
    }
}

fn evidence(kind: Kind, used: Use) -> Evidence {
    match kind {
        Kind::Window => Evidence::Window(Box::new(Window { first: case(used), longest: case(Use::Seen(7)) })),
        Kind::Prediction => Evidence::Prediction(Box::new(prediction())),
        Kind::Cycle => Evidence::Cycle(Cycle {
            steps: vec![step(Some(Mode::Write)), step(None)],
            gate: Some((LockClass::Inode, 3)),
            queued: vec![Queued { step: 0, side: side(), waiting: true }],
            recordings: vec![0, 1],
        }),
        Kind::AgainstOrder => {
            Evidence::AgainstOrder(Box::new(AgainstOrder { step: step(None), source: "mm/rmap.c".into() }))
        }
        Kind::Relock => {
            Evidence::Relock(Relock { held: hold(Known::Asked), asked_mode: Some(Mode::Write), side: side() })
        }
        Kind::FreedShared => Evidence::FreedShared(FreedShared {
            side: side(),
            table: Table(4),
            generation: 1,
            mm: Mm(1),
            count: 1,
            links: vec![(Mm(5), Addr(6))],
        }),
        Kind::OrphanWait => Evidence::OrphanWait(Box::new(OrphanWait {
            class: LockClass::FolioFile,
            mode: Some(Mode::Exclusive),
            lock: Some(7),
            place: Some((Mapping(9), 8)),
            side: side(),
            reported: true,
            waiters: 2,
            last: Some(LastHolder {
                task: side().task,
                site: Some(side().site),
                known: Known::Returned,
                acquired_ns: Some(1),
                ended: Ended::Released(2),
            }),
        })),
    }
}

/// As many findings as there are ranks; kinds and uses go round.
fn findings() -> Vec<Finding> {
    let kinds = Kind::ALL.into_iter().cycle();
    let uses = [Use::No, Use::Contract].into_iter().flat_map(|used| [used; 6]).cycle();
    let finding = |((rank, kind), used)| Finding {
        id: "made".into(),
        rank,
        count: 1,
        first_ns: 1,
        last_ns: 2,
        doubts: vec![Doubt::Loss],
        evidence: evidence(kind, used),
    };
    Rank::ALL.into_iter().zip(kinds).zip(uses).map(finding).collect()
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

fn edge(manner: Manner, verdict: Verdict) -> EdgeView {
    EdgeView {
        from: LockClass::MmapLock,
        from_mode: Some(Mode::Read),
        to: LockClass::Ptl,
        to_mode: None,
        manner,
        sure: true,
        count: 1,
        tasks: 1,
        gates: vec![LockClass::MmapLock],
        instances: 1,
        lossy: false,
        first_ns: 1,
        last_ns: 2,
        documented: vec![Documented { verdict, source: "mm/rmap.c".into(), reason: "as documented".into() }],
        witness: Step { manner, ..step(None) },
    }
}

fn edges() -> Vec<EdgeView> {
    vec![
        edge(Manner::Asked, Verdict::Agrees),
        edge(Manner::TryThenBlock, Verdict::Against),
        edge(Manner::Tried, Verdict::Exception),
    ]
}

/// One that differs from it in all ways.
pub fn other() -> Report {
    let mut other = everything();
    other.findings.truncate(1);
    other.findings.push(Finding { id: "another".into(), ..other.findings[0].clone() });
    other.findings[0].rank = Rank::Held;
    other.edges = vec![EdgeView { to: LockClass::Inode, ..other.edges[0].clone() }];
    other.coverage[0].grade = Grade::Exact;
    other
}

/// Recordings that make a cycle together.
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
        notices: vec!["a notice".into()],
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
        stats: Stats { by_kind: vec![("lookup", 1)], ..Stats::default() },
        counts: Counts::default(),
        passes: 1,
        loss: vec![("ring-full", 1)],
        end_ns: 9,
    }
}
