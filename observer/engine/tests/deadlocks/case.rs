//! One random case: locks, tasks, their operations, and which records the engine receives. A failing case is shrunk
//! by removing parts.

use super::{
    program::{Act, Builder, Ins, Kind, Lock, LockNo, Maker, Program, Segment, Way},
    random::Random,
    shapes, sites,
};

/// Which records of a run the engine receives.
#[derive(Clone, Copy, Debug)]
pub struct Visibility {
    /// Waits have records. Otherwise a waiting task is only silent.
    pub waits: bool,
    /// Locks are named before they are used.
    pub names: bool,
    /// Tasks that exist at the start are named at the start.
    pub introduced: bool,
    pub ptl_release: bool,
    pub exits: bool,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub locks: Vec<Lock>,
    pub tasks: Vec<Vec<Segment>>,
    /// Number of tasks that exist at the start; the others are forked.
    pub born: usize,
    pub visibility: Visibility,
    /// Maximum number of steps of a task before another task runs. 0: no limit while the task holds a lock.
    pub run_max: usize,
    /// A killed task gives up its request when all tasks wait.
    pub is_killed: bool,
    /// The last task runs first, alone, and to its end.
    pub is_last_first: bool,
    /// Seconds pass between some steps, also while locks are held.
    pub is_slow: bool,
    /// Number of faults by other tasks on other pages between the steps.
    pub crowd: usize,
    pub schedule: u64,
}

impl Visibility {
    pub fn random(random: &mut Random) -> Visibility {
        Visibility {
            waits: random.percent(70),
            names: random.percent(50),
            introduced: random.percent(85),
            ptl_release: random.percent(70),
            exits: random.percent(50),
        }
    }
}

impl Case {
    /// Returns a case with thousands of faults of other tasks on other pages.
    pub fn crowded(seed: u64) -> Case {
        let case = Case::random(seed);
        Case { crowd: Random::new(!seed).pick(&[600, 2_500, 10_000, 20_000]), ..case }
    }

    pub fn random(seed: u64) -> Case {
        let mut random = Random::new(seed);
        match random.below(100) {
            0..3 => return shapes::ring(&mut random),
            3..7 => return shapes::moved(&mut random),
            _ => {}
        }
        let mut case = Case::of_few(&mut random);
        let n = case.tasks.len();
        if n == 2 && case.born == n && random.percent(20) {
            // A short-lived task does now what another task does later.
            let copied = case.tasks[random.below(n)].clone();
            case.tasks.push(copied);
            (case.born, case.is_last_first) = (n + 1, true);
        }
        case
    }

    fn of_few(random: &mut Random) -> Case {
        let locks = locks(random);
        let n = random.pick(&[1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4, 4]);
        let born = if n > 1 && random.percent(35) { 1 + random.below(n - 1) } else { n };
        let mut children = vec![Vec::new(); n];
        for child in born..n {
            children[random.below(child)].push(child);
        }
        let (segments, takes) = [(3, 4), (3, 4), (3, 3), (2, 2)][n - 1];
        let tasks = children
            .into_iter()
            .map(|forks| {
                let n = 1 + random.below(segments);
                let mut maker = Maker::new(random, &locks, forks);
                let mut all: Vec<Segment> = (0..n)
                    .map(|_| {
                        let takes = 1 + maker.random.below(takes).max(maker.random.below(takes));
                        let segment = maker.segment(takes);
                        let op =
                            segment.op.or_else(|| is_silent(&segment.acts).then_some(sites::OPERATIONS[0]));
                        Segment { op, ..segment }
                    })
                    .collect();
                let rest = maker.forks.iter().map(|child| Act::Fork { child: *child }).collect();
                all.push(Segment { op: None, acts: rest });
                all
            })
            .collect();
        Case {
            locks,
            tasks,
            born,
            visibility: Visibility::random(random),
            run_max: random.pick(&[0, 0, 0, 2, 8, 40]),
            is_killed: random.percent(50),
            is_last_first: false,
            is_slow: random.percent(20),
            crowd: if random.percent(10) { 1 + random.below(40) } else { 0 },
            schedule: random.next(),
        }
    }

    pub fn programs(&self) -> Vec<Program> {
        self.tasks.iter().map(|segments| Builder::program(&self.locks, segments)).collect()
    }

    /// Returns the part of the programs that decides which states are reachable. In a ring, each party waits in its
    /// only segment at the last lock that it requests. The code after that is omitted, because eight tasks have too
    /// many states.
    pub fn searched(&self, programs: &[Program]) -> Vec<Program> {
        let mut programs = programs.to_vec();
        let is_ring = programs.len() > 4;
        for program in programs.iter_mut().filter(|_| is_ring) {
            let last =
                program.code.iter().rposition(|ins| matches!(ins, Ins::Take { .. })).map_or(0, |at| at + 1);
            program.code.truncate(last);
            program.held.truncate(last + 1);
        }
        programs
    }
}

/// Returns two to five locks. Two of them may have the same address, one after the other.
fn locks(random: &mut Random) -> Vec<Lock> {
    let kinds = [
        Kind::MmapLock,
        Kind::VmaLock,
        Kind::IMmap,
        Kind::IMmap,
        Kind::FaultMutex,
        Kind::FaultMutex,
        Kind::Ptl,
        Kind::FileFolio,
        Kind::FileFolio,
        Kind::FileFolio,
        Kind::AnonFolio,
    ];
    let n = random.pick(&[2, 2, 3, 3, 3, 4, 4, 5]);
    let mut locks: Vec<Lock> = Vec::new();
    while locks.len() < n {
        let kind = random.pick(&kinds);
        if kind == Kind::Ptl && locks.len() < 2 {
            continue;
        }
        let no = locks.len() as u64;
        let mapping = match kind {
            Kind::FileFolio => 0xf000 + 0x100 * (no % 2),
            Kind::AnonFolio => 0xe001 + 0x100 * (no % 2),
            _ => 0,
        };
        locks.push(Lock { kind, addr: 0x1000 * (1 + no), mapping, index: no, after: None, twin: None });
    }
    if random.percent(30) {
        let (old, new) = (random.below(n), random.below(n));
        if random.percent(60) {
            let mapping = 0xf000 + 0x100 * (old as u64 % 2);
            locks[old] = Lock { kind: Kind::FileFolio, mapping, ..locks[old] };
        }
        if old != new {
            let Lock { kind, addr, mapping, index, .. } = locks[old];
            // The page moves to another index of its file, to the same index of another file, or both change.
            let (mapping, index) = match random.below(3) {
                _ if !kind.is_folio() => (0, locks[new].index),
                0 => (mapping, locks[new].index),
                1 => (mapping + 0x40, index),
                _ => (mapping + 0x40, locks[new].index),
            };
            locks[new] = Lock { kind, addr, mapping, index, ..locks[new] };
            if kind.is_folio() && random.percent(50) {
                (locks[new].twin, locks[old].twin) = (Some(old), Some(new));
            } else {
                locks[new].after = Some(old as LockNo);
            }
        }
    }
    locks
}

/// Returns a smaller case for which `fails` is true as well.
pub fn shrink(case: Case, fails: impl Fn(&Case) -> bool) -> Case {
    let mut small = case;
    'again: loop {
        for candidate in smaller(&small) {
            for attempt in 0..60u64 {
                let schedule = if attempt == 0 { small.schedule } else { Random::new(attempt).next() };
                let candidate = Case { schedule, ..candidate.clone() };
                if fails(&candidate) {
                    small = candidate;
                    continue 'again;
                }
            }
        }
        return small;
    }
}

fn smaller(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    for (t, segments) in case.tasks.iter().enumerate() {
        for (at, segment) in segments.iter().enumerate() {
            let mut less = case.clone();
            less.tasks[t].remove(at);
            all.push(less);
            for acts in fewer(&segment.acts) {
                let mut less = case.clone();
                less.tasks[t][at].acts = acts;
                all.push(less);
            }
            if segment.op.is_some() && !is_silent(&segment.acts) {
                let mut less = case.clone();
                less.tasks[t][at].op = None;
                all.push(less);
            }
        }
    }
    for run_max in [0, 40] {
        if case.run_max != run_max && case.run_max != 0 {
            all.push(Case { run_max, ..case.clone() });
        }
    }
    for (is, less) in [
        (case.crowd > 0, Case { crowd: case.crowd / 2, ..case.clone() }),
        (case.is_slow, Case { is_slow: false, ..case.clone() }),
        (case.is_last_first, Case { is_last_first: false, ..case.clone() }),
    ] {
        all.extend(is.then_some(less));
    }
    let visibility = case.visibility;
    for (is, visibility) in [
        (visibility.exits, Visibility { exits: false, ..visibility }),
        (visibility.names, Visibility { names: false, ..visibility }),
        (!visibility.introduced, Visibility { introduced: true, ..visibility }),
    ] {
        if is {
            all.push(Case { visibility, ..case.clone() });
        }
    }
    all
}

/// Returns true if a folio is locked without a record. Its release is then known only inside operations.
pub fn is_silent(acts: &[Act]) -> bool {
    acts.iter().any(|act| match act {
        Act::Take { way: Way::Silent { .. }, .. } | Act::Try { is_silent: true, .. } => true,
        Act::Take { kill: Some(body), .. } => is_silent(body),
        Act::Try { body, other, .. } => is_silent(body) || is_silent(other),
        _ => false,
    })
}

/// Returns all variants of these acts with one act less.
fn fewer(acts: &[Act]) -> Vec<Vec<Act>> {
    let mut all = Vec::new();
    let mut put = |at: usize, instead: Vec<Act>| {
        let mut less = acts.to_vec();
        less.splice(at..=at, instead);
        all.push(less);
    };
    for (at, act) in acts.iter().enumerate() {
        put(at, Vec::new());
        match act {
            Act::Try { lock, mode, is_silent, body, other } => {
                let with = |body: Vec<Act>, other: Vec<Act>| Act::Try {
                    lock: *lock,
                    mode: *mode,
                    is_silent: *is_silent,
                    body,
                    other,
                };
                put(at, body.clone());
                put(at, other.clone());
                fewer(body).into_iter().for_each(|b| put(at, vec![with(b, other.clone())]));
                fewer(other).into_iter().for_each(|o| put(at, vec![with(body.clone(), o)]));
            }
            Act::Take { lock, mode, way, kill: Some(body) } => {
                let with =
                    |body: Vec<Act>| Act::Take { lock: *lock, mode: *mode, way: *way, kill: Some(body) };
                let plain = Act::Take { lock: *lock, mode: *mode, way: *way, kill: None };
                put(at, [vec![plain], body.clone()].concat());
                fewer(body).into_iter().for_each(|b| put(at, vec![with(b)]));
            }
            _ => {}
        }
    }
    all
}
