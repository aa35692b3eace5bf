//! Cases with shapes that are rare at random: rings of many tasks, and pages that move.

use observer_engine::event::Mode;

use super::{
    case::{Case, Visibility},
    machine::TASKS,
    program::{Act, Kind, Lock, LockNo, Segment, Way},
    random::Random,
    sites,
};

fn lock(random: &mut Random, no: u64) -> Lock {
    let kinds = [
        Kind::MmapLock,
        Kind::VmaLock,
        Kind::IMmap,
        Kind::FaultMutex,
        Kind::FaultMutex,
        Kind::FileFolio,
        Kind::AnonFolio,
    ];
    let kind = random.pick(&kinds);
    let mapping = match kind {
        Kind::FileFolio => 0xf000,
        Kind::AnonFolio => 0xe001,
        _ => 0,
    };
    Lock { kind, addr: 0x1000 * (1 + no), mapping, index: no, after: None, twin: None }
}

fn take(random: &mut Random, locks: &[Lock], no: LockNo) -> Act {
    let kind = locks[no].kind;
    let mode = match kind.is_rwsem() {
        true if random.percent(15) => Mode::Read,
        true => Mode::Write,
        false => Mode::Exclusive,
    };
    let way = match kind {
        Kind::FileFolio if random.percent(50) => Way::Found,
        _ if kind.is_folio() => Way::Named,
        _ if random.percent(20) => Way::TryThenRequest,
        _ => Way::Request,
    };
    Act::Take { lock: no, mode, way, kill: None }
}

/// Five to eight tasks. Each holds a lock and requests the lock of the next one.
pub fn ring(random: &mut Random) -> Case {
    let n = 5 + random.below(TASKS - 4);
    let mut locks: Vec<Lock> = (0..n as u64).map(|no| lock(random, no)).collect();
    // A mutex that two of the tasks hold around their locks.
    let gated = random.percent(25).then(|| [random.below(n), random.below(n)]);
    locks.push(Lock { kind: Kind::FaultMutex, mapping: 0, ..lock(random, n as u64) });
    let is_open = random.percent(15);
    let tasks = (0..n).map(|t| {
        let mut acts = Vec::new();
        if gated.is_some_and(|gated| gated.contains(&t)) {
            acts.push(Act::Take { lock: n, mode: Mode::Exclusive, way: Way::Request, kill: None });
        }
        acts.push(take(random, &locks, t));
        if !is_open || t + 1 < n {
            acts.push(take(random, &locks, (t + 1) % n));
        }
        let op = random.percent(50).then(|| random.pick(&sites::OPERATIONS));
        vec![Segment { op, acts }]
    });
    Case {
        tasks: tasks.collect(),
        locks,
        born: n,
        visibility: Visibility::random(random),
        run_max: random.pick(&[0, 0, 0, 40]),
        is_killed: false,
        is_last_first: false,
        is_slow: random.percent(20),
        crowd: 0,
        schedule: random.next(),
    }
}

/// Two or three tasks that lock a page, at one of two places, and one or two other locks.
pub fn moved(random: &mut Random) -> Case {
    let others = 1 + random.below(2);
    let mut locks: Vec<Lock> = (0..others as u64).map(|no| lock(random, no)).collect();
    let (old, new) = (others, others + 1);
    let (kind, mapping) =
        random.pick(&[(Kind::FileFolio, 0xf000), (Kind::FileFolio, 0xf000), (Kind::AnonFolio, 0xe001)]);
    let page = Lock { kind, addr: 0xd000, mapping, index: 7, after: None, twin: None };
    let (mapping, index) =
        random.pick(&[(mapping, 8), (mapping, 8), (mapping + 0x40, 7), (mapping + 0x40, 8)]);
    let is_back = random.percent(50);
    locks.push(Lock { twin: is_back.then_some(new), ..page });
    locks.push(Lock {
        mapping,
        index,
        twin: is_back.then_some(old),
        after: (!is_back).then_some(old),
        ..page
    });
    let n = 2 + random.below(2);
    let tasks = (0..n).map(|_| (0..1 + random.below(3)).map(|_| pair(random, &locks, others)).collect());
    Case {
        tasks: tasks.collect(),
        locks,
        born: n,
        visibility: Visibility::random(random),
        run_max: random.pick(&[0, 0, 0, 8, 40]),
        is_killed: false,
        is_last_first: false,
        is_slow: random.percent(20),
        crowd: if random.percent(10) { 1 + random.below(40) } else { 0 },
        schedule: random.next(),
    }
}

/// The page and another lock, in either order.
fn pair(random: &mut Random, locks: &[Lock], others: usize) -> Segment {
    let place = others + random.below(2);
    let mut page = take(random, locks, place);
    let is_silent = random.percent(25);
    if let Act::Take { way, .. } = &mut page
        && is_silent
    {
        *way = Way::Silent { slow: random.percent(50) };
    }
    let no = random.below(others);
    let mut acts = vec![page, take(random, locks, no)];
    if random.percent(50) {
        acts.swap(0, 1);
    }
    let op = (is_silent || random.percent(50)).then(|| random.pick(&sites::OPERATIONS));
    Segment { op, acts }
}
