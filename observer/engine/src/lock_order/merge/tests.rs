use std::sync::Arc;

use super::*;
use crate::finding::{HoldBasis, Party, TaskRef};

type End = (LockClass, Option<Mode>);

const FAULT: End = (LockClass::FaultMutex, Some(Mode::Exclusive));
const FOLIO: End = (LockClass::FolioFile, Some(Mode::Exclusive));
const IMMAP_W: End = (LockClass::IMmap, Some(Mode::Write));
const IMMAP_R: End = (LockClass::IMmap, Some(Mode::Read));
const PTL: End = (LockClass::Ptl, Some(Mode::Exclusive));
const INODE: End = (LockClass::Inode, Some(Mode::Write));

fn hold((class, mode): End) -> Hold {
    Hold { class, lock: 1, mode, basis: HoldBasis::Requested, since_ns: 1, lossy: false }
}

fn edge(from: End, to: End, tid: u32) -> EdgeView {
    let task = TaskRef { tid: Tid(tid), tgid: tid, comm: "task".into(), cpu: 0 };
    let party = Party { task, site: Arc::from("site"), time_ns: 5, stack: None, holds: vec![hold(from)] };
    let witness = Step {
        from: from.0,
        from_mode: from.1,
        from_lock: 1,
        from_basis: HoldBasis::Requested,
        to: to.0,
        to_mode: to.1,
        to_lock: 2,
        acquire: AcquireKind::Blocking,
        sure: true,
        party,
        count: 3,
        waiting: false,
    };
    EdgeView {
        gates: Vec::new(),
        from: from.0,
        from_mode: from.1,
        to: to.0,
        to_mode: to.1,
        acquire: AcquireKind::Blocking,
        sure: true,
        count: 3,
        tasks: 1,
        instances: 1,
        lossy: false,
        first_ns: 5,
        last_ns: 6,
        documented: Vec::new(),
        witness,
    }
}

fn tried(mut e: EdgeView, acquire: AcquireKind) -> EdgeView {
    (e.acquire, e.witness.acquire) = (acquire, acquire);
    e
}

/// Merges runs of different boots.
fn merged(runs: &[&[EdgeView]]) -> Merged {
    const BOOTS: [&str; 4] = ["a", "b", "c", "d"];
    let parts: Vec<Part<'_>> =
        runs.iter().zip(BOOTS).map(|(edges, boot)| Part { boot, edges, findings: &[] }).collect();
    merge(&parts)
}

/// Returns the rank, the id and the run of each step.
fn listed(m: &Merged) -> Vec<(Rank, &str, &[usize])> {
    let of = |f: &Finding| match &f.evidence {
        Evidence::Cycle(c) => c.recordings.clone(),
        _ => panic!("no cycle"),
    };
    m.findings.iter().map(|f| (f.rank, f.id.as_str(), &*of(f).leak())).collect()
}

#[test]
fn two_runs_without_a_cycle_merge_into_a_cycle() {
    let (a, b) = ([edge(FAULT, FOLIO, 1)], [edge(FOLIO, FAULT, 1)]);
    let m = merged(&[&a, &b]);
    assert_eq!(listed(&m), [(Rank::ClassOnly, "cycle:fault_mutex>folio_lock(file)", &[0, 1][..])]);
    assert!(m.findings[0].doubts.contains(&Doubt::Merged));
    assert!(listed(&merged(&[&a, &a])).is_empty());
    let both: Vec<&[usize]> = m.edges.iter().map(|e| &*e.recordings).collect();
    assert_eq!(both, [[0], [1]]);
}

#[test]
fn three_runs_merge_into_a_cycle_of_three() {
    let runs = [[edge(FAULT, FOLIO, 1)], [edge(FOLIO, IMMAP_W, 1)], [edge(IMMAP_W, FAULT, 1)]];
    let m = merged(&[&runs[0], &runs[1], &runs[2]]);
    assert_eq!(
        listed(&m),
        [(Rank::ClassOnly, "cycle:i_mmap_rwsem>fault_mutex>folio_lock(file)", &[2, 0, 1][..])]
    );
}

#[test]
fn a_trylock_closes_no_cycle_and_try_then_block_does() {
    let a = [edge(FAULT, FOLIO, 1)];
    let close = |acquire| merged(&[&a, &[tried(edge(FOLIO, FAULT, 1), acquire)]]).findings.len();
    assert_eq!([AcquireKind::Try, AcquireKind::TryThenBlock].map(close), [0, 1]);
}

#[test]
fn locks_of_one_class_make_no_cycle() {
    assert!(merged(&[&[edge(PTL, PTL, 1)], &[edge(PTL, PTL, 2)]]).findings.is_empty());
    assert!(merged(&[&[edge(IMMAP_W, IMMAP_R, 1)], &[edge(IMMAP_R, IMMAP_W, 2)]]).findings.is_empty());
}

#[test]
fn a_cycle_of_one_run_is_not_reported_again() {
    let both = [edge(FAULT, FOLIO, 1), edge(FOLIO, FAULT, 2)];
    let shown = merged(&[&both[..1], &both[1..]]).findings;
    let parts =
        [Part { boot: "a", edges: &both, findings: &shown }, Part { boot: "b", edges: &both, findings: &[] }];
    assert!(merge(&parts).findings.is_empty());
}

#[test]
fn steps_are_from_two_runs_even_if_one_run_has_all() {
    // In the first run, one task made both edges, which makes no cycle. In the second run, another task makes one of
    // them.
    let alone = [edge(FAULT, FOLIO, 1), edge(FOLIO, FAULT, 1)];
    let m = merged(&[&alone, &[edge(FOLIO, FAULT, 1)]]);
    assert_eq!(listed(&m), [(Rank::ClassOnly, "cycle:fault_mutex>folio_lock(file)", &[0, 1][..])]);
}

#[test]
fn one_task_of_one_boot_makes_no_cycle() {
    let (a, b) = ([edge(FAULT, FOLIO, 7)], [edge(FOLIO, FAULT, 7)]);
    let of = |boot, edges| Part { boot, edges, findings: &[] };
    assert!(merge(&[of("same", &a), of("same", &b)]).findings.is_empty());
    let several = [EdgeView { tasks: 2, ..b[0].clone() }];
    assert_eq!(merge(&[of("same", &a), of("same", &several)]).findings.len(), 1);
}

#[test]
fn readers_need_a_writer_and_the_doubt_says_if_one_was_seen() {
    let doubts = |more: &[EdgeView]| {
        let a: Vec<EdgeView> = [&[edge(IMMAP_R, FOLIO, 1)], more].concat();
        let m = merged(&[&a, &[edge(FOLIO, IMMAP_R, 1)]]);
        m.findings[0].doubts.clone()
    };
    let needs = |writer_seen| Doubt::QueuedWriter { class: LockClass::IMmap, writer_seen };
    assert!(doubts(&[]).contains(&needs(false)));
    assert!(doubts(&[edge(INODE, IMMAP_W, 2)]).contains(&needs(true)));
}

#[test]
fn a_file_lock_that_all_parties_hold_exclusively_is_a_gate() {
    let under = |mut e: EdgeView, gate: End| {
        e.witness.party.holds.push(hold(gate));
        e
    };
    let rank = |gate: End, other: End| {
        let runs = [[under(edge(FAULT, FOLIO, 1), gate)], [under(edge(FOLIO, FAULT, 1), other)]];
        merged(&[&runs[0], &runs[1]]).findings[0].rank
    };
    assert_eq!(rank(INODE, INODE), Rank::Guarded);
    assert_eq!(rank(INODE, IMMAP_W), Rank::ClassOnly);
    assert_eq!(rank(IMMAP_R, IMMAP_R), Rank::ClassOnly);
    // A lock of one mm does not exclude users of another mm.
    let mmap = (LockClass::MmapLock, Some(Mode::Write));
    assert_eq!(rank(mmap, mmap), Rank::ClassOnly);
}

#[test]
fn a_lossy_step_is_incomplete_unless_another_run_has_it_complete() {
    let lossy = [EdgeView { lossy: true, ..edge(FOLIO, FAULT, 1) }];
    let (a, whole) = ([edge(FAULT, FOLIO, 1)], [edge(FOLIO, FAULT, 1)]);
    let m = merged(&[&a, &lossy]);
    assert_eq!(m.findings[0].rank, Rank::Incomplete);
    assert!(m.findings[0].doubts.contains(&Doubt::Loss));
    let m = merged(&[&a, &lossy, &whole]);
    assert_eq!(listed(&m), [(Rank::ClassOnly, "cycle:fault_mutex>folio_lock(file)", &[0, 2][..])]);
}

#[test]
fn uncertain_and_inferred_holds_are_doubts() {
    let mut b = edge(FOLIO, FAULT, 1);
    (b.witness.from_basis, b.witness.sure) = (HoldBasis::InferredFromRelease, false);
    let m = merged(&[&[edge(FAULT, FOLIO, 1)], &[b]]);
    let class = LockClass::FolioFile;
    assert!(m.findings[0].doubts.contains(&Doubt::InferredHold(class)));
    assert!(m.findings[0].doubts.contains(&Doubt::Moment(class)));
}
