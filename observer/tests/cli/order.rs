//! Tests of the text of lock order. A report made by hand has findings that no run in a test can produce.

use std::sync::Arc;

use observer::{
    meta::Symbol,
    report::stacks::Stacks,
    sink::words,
    source::{Mark, Pass, Stack},
};
use observer_engine::{
    event::{Mapping, Mode, Tid},
    finding::{
        AcquireKind, AgainstOrder, Cycle, Doubt, Ended, Evidence, Finding, Hold, HoldBasis, LastHolder,
        OrphanWait, Party, Queued, Rank, Relock, Step, TaskRef,
    },
    lock_class::LockClass,
};

const START_NS: u64 = 1_000_000_000;

type Lock = (LockClass, Option<Mode>, u64);

const FAULT: Lock = (LockClass::FaultMutex, Some(Mode::Exclusive), 0xffff_8880_0001_0020);
const FOLIO: Lock = (LockClass::FolioFile, Some(Mode::Exclusive), 0xffff_ea00_0004_0000);
const READ: Lock = (LockClass::IMmap, Some(Mode::Read), 0xffff_8880_0777_0040);
const WRITE: Lock = (LockClass::IMmap, Some(Mode::Write), 0xffff_8880_0777_0040);
const INODE: Lock = (LockClass::Inode, Some(Mode::Write), 0xffff_8880_0777_0100);

fn hold((class, mode, lock): Lock, basis: HoldBasis) -> Hold {
    Hold { class, lock, mode, basis, since_ns: START_NS, lossy: false }
}

fn side(tid: u32, comm: &str, site: &str, holds: Vec<Hold>) -> Party {
    let task = TaskRef { tid: Tid(tid), tgid: tid, comm: comm.into(), cpu: (tid % 2) as u16 };
    let time_ns = START_NS + 1_000_000 * u64::from(tid);
    Party { task, site: Arc::from(site), time_ns, stack: Some(0), holds }
}

fn step(from: Lock, basis: HoldBasis, to: Lock, party: Party) -> Step {
    Step {
        from: from.0,
        from_mode: from.1,
        from_lock: from.2,
        from_basis: basis,
        to: to.0,
        to_mode: to.1,
        to_lock: to.2,
        acquire: AcquireKind::Blocking,
        sure: true,
        party,
        count: 3,
        waiting: false,
    }
}

/// A fault that requests the folio lock.
fn fault() -> Step {
    let holds = vec![hold(FAULT, HoldBasis::Requested), hold(READ, HoldBasis::Requested)];
    step(FAULT, HoldBasis::Requested, FOLIO, side(159, "reader", "hugetlb_fault", holds))
}

/// A copy-on-write that acquires the fault mutex again.
fn cow() -> Step {
    let holds = vec![hold(FOLIO, HoldBasis::ReturnedLocked)];
    step(FOLIO, HoldBasis::ReturnedLocked, FAULT, side(158, "owner", "hugetlb_wp", holds))
}

fn stacks() -> Stacks {
    let names = [(0x10, "handle_mm_fault"), (0x20, "exc_page_fault")];
    let symbol = |(address, name): (u64, &str)| Symbol { address, name: name.into(), offset: address };
    let mut stacks = Stacks::default();
    stacks.pass(
        &Pass {
            mark: Mark { number: 0, time_ns: START_NS, complete: true },
            stacks: vec![Stack { id: 5, frames: vec![0x10, 0x20] }],
            symbols: names.map(symbol).to_vec(),
            ..Pass::default()
        },
        0,
    );
    stacks
}

fn text_of(rank: Rank, doubts: Vec<Doubt>, evidence: Evidence) -> String {
    text_at(START_NS, rank, doubts, evidence)
}

fn text_at(last_ns: u64, rank: Rank, doubts: Vec<Doubt>, evidence: Evidence) -> String {
    let first_ns = START_NS;
    let finding = Finding { id: "made".into(), rank, count: 1, first_ns, last_ns, doubts, evidence };
    let mut lines = vec![format!("{} {}: {}", rank.name(), finding.kind().name(), words::summary(&finding))];
    lines.extend(words::detail(&finding, &stacks(), START_NS));
    for line in &lines[1..] {
        assert!(line.chars().count() <= 95, "with its indent more than 100 columns: {line}");
    }
    lines.join("\n")
}

fn cycle(rank: Rank, doubts: Vec<Doubt>, steps: Vec<Step>) -> String {
    text_of(rank, doubts, Evidence::Cycle(Cycle { steps, gate: None, queued: vec![], recordings: vec![] }))
}

#[test]
fn text_of_a_feasible_deadlock() {
    let doubts = vec![Doubt::InferredHold(LockClass::FolioFile)];
    insta::assert_snapshot!("splat-feasible", cycle(Rank::Feasible, doubts, vec![fault(), cow()]));
}

#[test]
fn text_of_a_confirmed_deadlock() {
    let waiting = |s: Step| Step { waiting: true, count: 1, ..s };
    let text = cycle(Rank::Confirmed, vec![], vec![waiting(fault()), waiting(cow())]);
    assert!(text.contains("waits for folio_lock(file) ") && text.contains("how it hangs"), "{text}");
    assert!(!text.contains("requested fault_mutex"), "{text}");
}

#[test]
fn text_of_a_queued_writer_and_of_a_try_then_block() {
    let reader = step(READ, HoldBasis::Requested, FOLIO, side(160, "reader", "hugetlb_fault", vec![]));
    let holds = vec![hold(FOLIO, HoldBasis::InferredFromRelease)];
    let mover = Step {
        acquire: AcquireKind::TryThenBlock,
        sure: false,
        ..step(FOLIO, HoldBasis::InferredFromRelease, READ, side(170, "mover", "migrate_pages", holds))
    };
    let writer = Doubt::QueuedWriter { class: LockClass::IMmap, writer_seen: true };
    let doubts = vec![writer, Doubt::Moment(LockClass::FolioFile)];
    let mapper = side(180, "mapper", "hugetlbfs_file_mmap", vec![hold(INODE, HoldBasis::Requested)]);
    let queued = vec![Queued { step: 1, party: mapper, waiting: false }];
    let cycle = Cycle { steps: vec![reader, mover], gate: None, queued, recordings: vec![] };
    insta::assert_snapshot!("splat-readers", text_of(Rank::Possible, doubts, Evidence::Cycle(cycle)));
}

#[test]
fn text_of_a_gate_and_of_another_lock_of_the_class() {
    let gate = Some((LockClass::Inode, INODE.2));
    let evidence = |steps| Evidence::Cycle(Cycle { steps, gate, queued: vec![], recordings: vec![] });
    let text = text_of(Rank::Guarded, vec![], evidence(vec![fault(), cow()]));
    assert!(text.contains("gate      two sides hold inode_lock 0xffff888007770100, which"), "{text}");
    assert!(text.contains("scenario without the gate"), "{text}");

    let mut other = fault();
    other.to_lock += 0x1000;
    let text = cycle(Rank::ClassOnly, vec![], vec![other, cow()]);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("0xffffea0000041000, not the one that side 2 holds; this request was seen 3 times"),
        "{text}"
    );
    assert!(text.contains("such as side 1 requests"), "{text}");
    assert!(text.contains("if these were the same locks"), "{text}");
}

#[test]
fn many_parties_are_listed_below_each_other() {
    let at = |lock: Lock, n: u64| (lock.0, lock.1, lock.2 + n);
    let locks: Vec<Lock> = (0..4).map(|n| at(FOLIO, n * 0x1000)).collect();
    let step = |n: usize| {
        let party = side(200 + n as u32, "task", "hugetlb_fault", vec![]);
        step(locks[n], HoldBasis::Contract, locks[(n + 1) % 4], party)
    };
    insta::assert_snapshot!("splat-four", cycle(Rank::Feasible, vec![], (0..4).map(step).collect()));
}

#[test]
fn text_of_an_order_violation_and_of_a_relock() {
    let source = "mm/rmap.c, 6.1:48, 6.12:49: hugetlbfs pages".to_owned();
    let against = Evidence::AgainstOrder(Box::new(AgainstOrder { step: cow(), source }));
    let relock = Evidence::Relock(Relock {
        held: hold(READ, HoldBasis::Requested),
        requested_mode: Some(Mode::Read),
        party: side(160, "reader", "hugetlb_fault", vec![hold(READ, HoldBasis::Requested)]),
    });
    let writer = Doubt::QueuedWriter { class: LockClass::IMmap, writer_seen: false };
    let text = [text_of(Rank::AgainstOrder, vec![], against), text_of(Rank::Feasible, vec![writer], relock)];
    insta::assert_snapshot!("splat-others", text.join("\n\n"));
    let relock = Evidence::Relock(Relock {
        held: hold(WRITE, HoldBasis::Requested),
        requested_mode: Some(Mode::Write),
        party: side(160, "writer", "hugetlbfs_fallocate", vec![]),
    });
    assert!(!text_of(Rank::Feasible, vec![], relock).contains("a writer"));
}

#[test]
fn text_of_a_wait_without_a_holder() {
    let waiter = side(160, "puncher", "remove_inode_hugepages", vec![hold(FAULT, HoldBasis::Requested)]);
    let last = side(159, "reader", "hugetlb_fault", vec![]);
    let orphan = OrphanWait {
        class: FOLIO.0,
        mode: FOLIO.1,
        lock: Some(FOLIO.2),
        place: Some((Mapping(0xffff_8880_0777_0000), 3)),
        party: waiter,
        reported: true,
        waiters: 2,
        last: Some(LastHolder {
            task: last.task,
            site: Some(last.site),
            basis: HoldBasis::ReturnedLocked,
            acquired_ns: Some(START_NS + 10_000_000),
            ended: Ended::Released(START_NS + 11_000_000),
        }),
    };
    let at_ns = START_NS + 12_000_000_000;
    let text = |rank, doubts, orphan: OrphanWait| {
        text_at(at_ns, rank, doubts, Evidence::OrphanWait(Box::new(orphan)))
    };
    let known = text(Rank::Confirmed, vec![], orphan.clone());
    let exited = orphan.last.clone().map(|last| LastHolder { ended: Ended::Exited(START_NS), ..last });
    let left = text(Rank::Confirmed, vec![], OrphanWait { last: exited, waiters: 1, ..orphan.clone() });
    let silent = OrphanWait { lock: None, last: None, waiters: 1, reported: false, ..orphan };
    let wait = Doubt::WaitNotSeen { tid: Tid(160), class: FOLIO.0 };
    let holder = Doubt::HolderForgotten { releases: 1024 };
    let possible = text(Rank::Possible, vec![wait, holder, Doubt::HolderUnseen], silent);
    insta::assert_snapshot!("splat-orphan", [known, left, possible].join("\n\n"));
}
