//! Hangs with more tasks than fit in a text trace: rings of any length, and crowds that wait for a few locks.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use observer_engine::{
    Engine,
    event::{Body, Class, Event, LockAddr, LockStep, Mode, SiteId, Tid},
    finding::{Cycle, Doubt, Evidence, Finding, Rank},
    trace::Trace,
};

const DOWN_READ: u16 = 10;
const DOWN_WRITE: u16 = 11;
const MUTEX_LOCK: u16 = 14;
const HUNG_NS: u64 = 2_000_000_000;

struct Run {
    engine: Engine,
    now_ns: u64,
}

impl Run {
    /// `more`: further lines of the head of a text trace.
    fn new(more: &str) -> Run {
        let head = format!(
            "site {DOWN_READ} lock down_read\nsite {DOWN_WRITE} lock down_write\nsite {MUTEX_LOCK} lock mutex_lock\n{more}"
        );
        Run { engine: Engine::new(head.parse::<Trace>().unwrap().setup), now_ns: 1_000 }
    }

    fn lock(&mut self, tid: u32, step: LockStep, (class, mode, lock): (Class, Mode, u64)) {
        self.now_ns += 1;
        let site = match mode {
            Mode::Read => DOWN_READ,
            Mode::Write => DOWN_WRITE,
            Mode::Exclusive => MUTEX_LOCK,
        };
        self.engine.push(&Event {
            time_ns: self.now_ns,
            seq: 0,
            tid: Tid(tid),
            cpu: (tid % 8) as u16,
            site: SiteId(site),
            body: Body::Lock { step, class, mode: Some(mode), lock: LockAddr(lock), failed: false },
        });
    }

    /// Acquires a lock without waiting.
    fn acquire(&mut self, tid: u32, lock: (Class, Mode, u64)) {
        self.lock(tid, LockStep::Request, lock);
    }

    fn wait(&mut self, tid: u32, lock: (Class, Mode, u64)) {
        self.lock(tid, LockStep::Request, lock);
        self.lock(tid, LockStep::WaitBegin, lock);
    }

    fn cycles(mut self) -> Vec<(Finding, Cycle)> {
        self.engine.tick(self.now_ns + HUNG_NS);
        let cycle = |f: Finding| match f.evidence.clone() {
            Evidence::Cycle(cycle) => Some((f, cycle)),
            _ => None,
        };
        self.engine.findings().into_iter().filter_map(cycle).collect()
    }
}

fn mutex(n: u32) -> (Class, Mode, u64) {
    (Class::FaultMutex, Mode::Exclusive, 0x1000 + 0x40 * u64::from(n))
}

fn i_mmap(mode: Mode, n: u32) -> (Class, Mode, u64) {
    (Class::IMmap, mode, 0x10_0000 + 0x40 * u64::from(n))
}

#[test]
fn rings_of_any_length_are_confirmed() {
    for tasks in [2, 9, 40, 300] {
        let mut run = Run::new("");
        (0..tasks).for_each(|n| run.acquire(100 + n, mutex(n)));
        (0..tasks).for_each(|n| run.wait(100 + n, mutex((n + 1) % tasks)));
        let cycles = run.cycles();
        let confirmed: Vec<_> = cycles.iter().filter(|(f, _)| f.rank == Rank::Confirmed).collect();
        assert_eq!(confirmed.len(), 1, "{tasks}");
        let (finding, cycle) = confirmed[0];
        assert_eq!(cycle.steps.len(), tasks as usize);
        assert_eq!(finding.doubts, [], "{tasks}");
        let closes = |n: usize| cycle.steps[n].to_lock == cycle.steps[(n + 1) % cycle.steps.len()].from_lock;
        assert!((0..cycle.steps.len()).all(closes));
    }
}

/// One lock short of a ring: all tasks wait except the last one.
#[test]
fn a_chain_of_waits_makes_no_deadlock() {
    let mut run = Run::new("");
    (0..40).for_each(|n| run.acquire(100 + n, mutex(n)));
    (0..39).for_each(|n| run.wait(100 + n, mutex(n + 1)));
    assert!(run.cycles().iter().all(|(f, _)| f.rank != Rank::Confirmed));
}

/// Four holders and thousands of readers, each of which closes a circle. Enumerating all circles is not possible
/// here.
#[test]
fn thousands_of_readers_are_judged_completely() {
    for readers in [64, 1_000] {
        let mut run = Run::new("");
        (0..4).for_each(|n| run.acquire(10 + n, mutex(n)));
        (0..readers).for_each(|n| run.acquire(100 + n, i_mmap(Mode::Read, 0)));
        run.wait(10, i_mmap(Mode::Write, 0));
        (1..4).for_each(|n| run.wait(10 + n, mutex((n + 1) % 4)));
        (0..readers).for_each(|n| run.wait(100 + n, mutex(n % 4)));
        let confirmed: Vec<_> = run.cycles().into_iter().filter(|(f, _)| f.rank == Rank::Confirmed).collect();
        // From a reader through one, two, three and four of the mutexes.
        let mut steps: Vec<usize> = confirmed.iter().map(|(_, cycle)| cycle.steps.len()).collect();
        steps.sort_unstable();
        assert_eq!(steps, [2, 3, 4, 5], "{readers}");
        assert!(confirmed.iter().all(|(f, _)| f.doubts.is_empty()), "{readers}");
    }
}

/// Returns the cycle of two readers with a writer queued between them. `coverage`: whether the kernel reports waits.
/// `reported`: whether it reported the second reader's wait.
fn readers(coverage: &str, reported: bool) -> Finding {
    let mut run = Run::new(coverage);
    run.acquire(11, i_mmap(Mode::Read, 0));
    run.acquire(12, mutex(0));
    run.acquire(11, mutex(0));
    run.acquire(13, i_mmap(Mode::Write, 0));
    match reported {
        true => run.wait(12, i_mmap(Mode::Read, 0)),
        false => run.acquire(12, i_mmap(Mode::Read, 0)),
    }
    run.cycles().swap_remove(0).0
}

#[test]
fn a_silent_task_is_not_reported_as_waiting() {
    let (reports, silent) = ("coverage wait exact\n", "coverage wait inferred no tracepoint\n");
    let waiting = |f: &Finding| match &f.evidence {
        Evidence::Cycle(cycle) => cycle.steps.iter().filter(|s| s.waiting).count(),
        _ => 0,
    };
    let seen = readers(reports, true);
    assert_eq!((seen.rank, waiting(&seen)), (Rank::Confirmed, 2));
    let unseen = readers(silent, false);
    assert_eq!((unseen.rank, waiting(&unseen)), (Rank::Feasible, 1));
    assert!(unseen.doubts.iter().any(|d| matches!(d, Doubt::WaitNotSeen { tid: Tid(12), .. })), "{unseen:?}");
    // A wait would have been reported, so the reader acquired the lock. The lock order alone makes the cycle
    // feasible.
    let at_work = readers(reports, false);
    assert_eq!((at_work.rank, waiting(&at_work)), (Rank::Feasible, 0));
    assert!(!at_work.doubts.iter().any(|d| matches!(d, Doubt::WaitNotSeen { .. })), "{at_work:?}");
}
