//! Tests of the search itself, with cases whose truth is known without it.

use observer_engine::event::Mode::{Exclusive, Read, Write};

use super::{
    machine,
    program::{Act, Builder, Kind, Lock, LockNo, Segment, Way},
};

/// Two rwsems and two mutexes.
const LOCKS: [Lock; 4] = {
    const fn lock(kind: Kind, addr: u64) -> Lock {
        Lock { kind, addr, mapping: 0, index: 0, after: None, twin: None }
    }
    [
        lock(Kind::IMmap, 0x1000),
        lock(Kind::VmaLock, 0x2000),
        lock(Kind::FaultMutex, 0x3000),
        lock(Kind::FaultMutex, 0x4000),
    ]
};
const A: LockNo = 0;
const B: LockNo = 1;
const M: LockNo = 2;
const N: LockNo = 3;

fn request(lock: LockNo) -> Act {
    let mode = if LOCKS[lock].kind.is_rwsem() { Write } else { Exclusive };
    Act::Take { lock, mode, way: Way::Request, kill: None }
}

fn read(lock: LockNo) -> Act {
    Act::Take { lock, mode: Read, way: Way::Request, kill: None }
}

fn tries(lock: LockNo, body: Vec<Act>, other: Vec<Act>) -> Act {
    let mode = if LOCKS[lock].kind.is_rwsem() { Write } else { Exclusive };
    Act::Try { lock, mode, is_silent: false, body, other }
}

/// Returns the tasks that can wait for a lock that they hold.
fn selves(tasks: Vec<Vec<Act>>) -> Vec<usize> {
    let programs: Vec<_> =
        tasks.into_iter().map(|acts| Builder::program(&LOCKS, &[Segment { op: None, acts }])).collect();
    let found = machine::reachable(&programs, programs.len()).unwrap().selves;
    found.into_iter().map(|(task, _)| task).collect()
}

/// Returns the deadlocks of tasks with one segment each, as the tasks in them. The first `born` tasks exist at the
/// start.
fn deadlocks(born: usize, tasks: Vec<Vec<Act>>) -> Vec<Vec<usize>> {
    let programs: Vec<_> =
        tasks.into_iter().map(|acts| Builder::program(&LOCKS, &[Segment { op: None, acts }])).collect();
    let found = machine::reachable(&programs, born).unwrap().chains;
    let mut tasks: Vec<Vec<usize>> =
        found.iter().map(|chain| chain.iter().map(|w| w.task).collect()).collect();
    tasks.sort();
    tasks.dedup();
    tasks
}

const NONE: [Vec<usize>; 0] = [];

#[test]
fn two_orders_deadlock_and_one_order_does_not() {
    assert_eq!(deadlocks(2, vec![vec![request(A), request(M)], vec![request(M), request(A)]]), [[0, 1]]);
    assert_eq!(deadlocks(2, vec![vec![request(A), request(M)], vec![request(A), request(M)]]), NONE);
    let ring = vec![vec![request(A), request(B)], vec![request(B), request(M)], vec![request(M), request(A)]];
    assert_eq!(deadlocks(3, ring), [[0, 1, 2]]);
}

#[test]
fn a_released_lock_is_not_held() {
    let released = vec![request(M), Act::Release { lock: M }, request(A)];
    assert_eq!(deadlocks(2, vec![vec![request(A), request(M)], released]), NONE);
}

#[test]
fn readers_wait_only_for_a_queued_writer() {
    let parties = || vec![vec![read(A), request(M)], vec![request(M), read(A)]];
    assert_eq!(deadlocks(2, parties()), NONE);
    let third = |act: Act| [parties(), vec![vec![act]]].concat();
    assert_eq!(deadlocks(3, third(request(A))), [[0, 1]]);
    assert_eq!(deadlocks(3, third(read(A))), NONE);
    // A trylock does not queue.
    assert_eq!(deadlocks(3, third(tries(A, vec![], vec![]))), NONE);
    // A writer behind the same gate as a reader is too late.
    let gated =
        vec![vec![request(N), read(A), request(M)], vec![request(M), read(A)], vec![request(N), request(A)]];
    assert_eq!(deadlocks(3, gated), NONE);
}

#[test]
fn a_reader_waits_for_itself_only_behind_a_writer() {
    let reader = || vec![read(A), read(A)];
    assert_eq!(selves(vec![reader()]), [0; 0]);
    assert_eq!(selves(vec![reader(), reader()]), [0; 0]);
    assert_eq!(selves(vec![reader(), vec![request(A)]]), [0]);
    assert_eq!(selves(vec![reader(), vec![request(B)]]), [0; 0]);
    // A trylock does not queue, and a writer behind the reader's gate is too late.
    assert_eq!(selves(vec![reader(), vec![tries(A, vec![], vec![])]]), [0; 0]);
    let gated = [vec![request(M)], reader()].concat();
    assert_eq!(selves(vec![gated, vec![request(M), request(A)]]), [0; 0]);
    // The only writer is the reader itself.
    assert_eq!(selves(vec![vec![request(A), Act::Release { lock: A }, read(A), read(A)]]), [0; 0]);
    assert_eq!(selves(vec![vec![request(A), request(A)]]), [0]);
}

#[test]
fn a_lock_released_by_another_context_has_no_holder() {
    let lends = |then: Act| vec![Act::Lend { lock: A }, then];
    assert_eq!(selves(vec![lends(request(A))]), [0; 0]);
    assert_eq!(deadlocks(2, vec![lends(request(M)), vec![request(M), request(A)]]), NONE);
}

#[test]
fn an_exclusive_gate_excludes_a_deadlock_and_a_shared_gate_does_not() {
    let gated = |gate: fn(LockNo) -> Act| {
        vec![vec![gate(B), request(A), request(M)], vec![gate(B), request(M), request(A)]]
    };
    assert_eq!(deadlocks(2, gated(request)), NONE);
    assert_eq!(deadlocks(2, gated(read)), [[0, 1]]);
}

#[test]
fn an_inner_deadlock_happens_before_the_outer_one() {
    // At the end the parties have no lock in common. But one holds A and has released B, and the other holds B and
    // has released A.
    let party = |first, second, third, last| {
        vec![request(first), request(second), Act::Release { lock: second }, request(third), request(last)]
    };
    let programs: Vec<_> = [party(A, B, M, N), party(B, A, N, M)]
        .into_iter()
        .map(|acts| Builder::program(&LOCKS, &[Segment { op: None, acts }]))
        .collect();
    let found = machine::reachable(&programs, 2).unwrap().chains;
    let locks: Vec<_> = found[0].iter().map(|w| (w.from.0, w.to.0)).collect();
    assert_eq!((found.len(), locks), (1, vec![(A, B), (B, A)]));
}

#[test]
fn a_trylock_never_blocks_and_its_lock_is_held() {
    assert_eq!(
        deadlocks(2, vec![vec![request(A), request(M)], vec![request(M), tries(A, vec![], vec![])]]),
        NONE
    );
    assert_eq!(
        deadlocks(2, vec![vec![request(A), request(M)], vec![tries(M, vec![request(A)], vec![])]]),
        [[0, 1]]
    );
    // The branch for a failed trylock runs while another task holds the lock.
    let other = vec![tries(N, vec![], vec![request(M), request(A)])];
    assert_eq!(deadlocks(2, vec![vec![request(A), request(M)], other.clone()]), NONE);
    assert_eq!(deadlocks(3, vec![vec![request(A), request(M)], other, vec![request(N)]]), [[0, 1]]);
}

#[test]
fn a_child_does_not_exist_before_its_fork() {
    let child = vec![request(M), request(A)];
    let fork = || Act::Fork { child: 1 };
    assert_eq!(deadlocks(1, vec![vec![request(A), request(M), fork()], child.clone()]), [[0, 1]; 0]);
    assert_eq!(deadlocks(1, vec![vec![request(A), fork(), request(M)], child]), [[0, 1]]);
    // The task would have to release A before it acquires M, but A is already held there.
    let child = vec![request(A), Act::Release { lock: A }, request(M), request(A)];
    assert_eq!(deadlocks(1, vec![vec![request(A), fork(), request(M)], child.clone()]), NONE);
    assert_eq!(deadlocks(1, vec![vec![fork(), request(A), request(M)], child]), [[0, 1]]);
}

#[test]
fn a_downgrade_lets_readers_in() {
    let tasks = |first: Vec<Act>| {
        vec![[vec![request(A)], first, vec![request(M)]].concat(), vec![request(M), read(A)]]
    };
    assert_eq!(deadlocks(2, tasks(vec![])), [[0, 1]]);
    assert_eq!(deadlocks(2, tasks(vec![Act::Downgrade { lock: A }])), NONE);
}
