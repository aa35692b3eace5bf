//! Feasibility: decides if tasks can all get to the point where they wait. This filter makes a cycle `feasible`.
//!
//! Locks in a bad order make a deadlock only if an interleaving brings all tasks there at once, each with the locks
//! that it holds. This question is undecidable for programs and hard for traces; sound filters consider only
//! reorderings of the recorded events. The closest published filter is *sync-preserving* deadlocks (Tunc, Mathur,
//! Pavlogiannis, Viswanathan, "Sound Dynamic Deadlock Prediction in Linear Time", PLDI 2023), which keeps the order of
//! critical sections on each lock.
//!
//! This filter uses the points at which tasks hold nothing. A task that is delayed there blocks no other task, so the
//! others can proceed as recorded. Hence every task outside the cycle is delayed where it holds nothing, and the tasks
//! of the cycle are brought to the begin of their paths. The remaining question is if these few short paths can be
//! interleaved so that each gets to its last request. The search is exhaustive.
//!
//! The filter does not see communication between tasks except by locks. It assumes that a failed trylock has to fail
//! again.

use crate::{
    event::Mode,
    fx::FxMap,
    holds::Instance,
    lock_order::path::{Act, Op},
};

/// Maximum number of states tried.
const STATES_MAX: usize = 20_000;

/// Result of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Reached,
    Unreachable,
    /// The search was cut: too many states.
    Cut,
}

/// Returns true if two modes exclude each other.
pub(crate) fn conflict(a: Option<Mode>, b: Option<Mode>) -> bool {
    !(a == Some(Mode::Read) && b == Some(Mode::Read))
}

/// One task's path, with the locks that are held after each operation.
struct Way {
    ops: Vec<Op>,
    /// Indexed by place, from before the first operation to after the last.
    holds: Vec<Vec<(Instance, Option<Mode>)>>,
}

impl Way {
    fn new(ops: Vec<Op>) -> Way {
        let holds = (0..=ops.len())
            .map(|at| crate::lock_order::path::held(&ops[..at]).iter().map(|op| (op.lock, op.mode)).collect())
            .collect();
        Way { ops, holds }
    }

    /// Returns true if the locks held at a place block a request of another task.
    fn keeps(&self, at: usize, lock: Instance, mode: Option<Mode>) -> bool {
        self.holds[at].iter().any(|(held, as_mode)| *held == lock && conflict(*as_mode, mode))
    }
}

/// Decides if an interleaving brings all paths to their ends at once.
pub(crate) fn reach(paths: &[&[Op]]) -> Reach {
    // A lock on only one of the paths blocks nothing.
    let mut touched: FxMap<Instance, (usize, bool)> = FxMap::default();
    for (of, path) in paths.iter().enumerate() {
        for op in *path {
            let known = touched.entry(op.lock).or_insert((of, false));
            known.1 |= known.0 != of;
        }
    }
    let shared = |op: &&Op| op.act == Act::Fail || touched.get(&op.lock).is_some_and(|(_, shared)| *shared);
    let ways: Vec<Way> =
        paths.iter().map(|path| Way::new(path.iter().filter(shared).copied().collect())).collect();
    search(&ways)
}

fn search(ways: &[Way]) -> Reach {
    let mut seen: FxMap<Vec<u8>, ()> = FxMap::default();
    let mut open: Vec<Vec<u8>> = vec![vec![0; ways.len()]];
    while let Some(at) = open.pop() {
        if at.iter().zip(ways).all(|(place, way)| usize::from(*place) == way.ops.len()) {
            return Reach::Reached;
        }
        for of in 0..ways.len() {
            if usize::from(at[of]) < ways[of].ops.len() && can_go(ways, &at, of) {
                let mut next = at.clone();
                next[of] += 1;
                if seen.insert(next.clone(), ()).is_none() {
                    open.push(next);
                }
            }
        }
        if seen.len() > STATES_MAX {
            return Reach::Cut;
        }
    }
    Reach::Unreachable
}

/// Returns true if a task's next operation is possible while the others stay where they are.
fn can_go(ways: &[Way], at: &[u8], of: usize) -> bool {
    let op = &ways[of].ops[usize::from(at[of])];
    let kept = || {
        let mut others = (0..ways.len()).filter(|other| *other != of);
        others.any(|other| ways[other].keeps(usize::from(at[other]), op.lock, op.mode))
    };
    match op.act {
        Act::Take => !kept(),
        Act::Fail => kept(),
        Act::Release | Act::Downgrade => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::SiteId,
        finding::{AcquireKind, HoldBasis},
        lock_class::LockClass,
    };

    /// `+1` takes, `-1` releases, `r1` takes for reading, `!1` fails.
    fn path(text: &str) -> Vec<Op> {
        let op = |word: &str| {
            let (act, mode) = match &word[..1] {
                "+" => (Act::Take, Mode::Exclusive),
                "r" => (Act::Take, Mode::Read),
                "!" => (Act::Fail, Mode::Exclusive),
                _ => (Act::Release, Mode::Exclusive),
            };
            Op {
                lock: Instance { addr: word[1..].parse().unwrap(), life: 1 },
                time_ns: 0,
                site: SiteId(1),
                class: LockClass::FaultMutex,
                mode: Some(mode),
                act,
                acquire: AcquireKind::Blocking,
                basis: HoldBasis::Requested,
                sure: true,
            }
        };
        text.split_whitespace().map(op).collect()
    }

    fn of(paths: &[&str]) -> Reach {
        let paths: Vec<Vec<Op>> = paths.iter().map(|text| path(text)).collect();
        reach(&paths.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    #[test]
    fn two_locks_in_two_orders_can_deadlock() {
        assert_eq!(of(&["+1", "+2"]), Reach::Reached);
    }

    #[test]
    fn a_common_lock_excludes_the_deadlock() {
        assert_eq!(of(&["+9 +1", "+9 +2"]), Reach::Unreachable);
        assert_eq!(of(&["r9 +1", "r9 +2"]), Reach::Reached);
    }

    #[test]
    fn a_lock_released_before_the_cycle_excludes_nothing() {
        assert_eq!(of(&["+9 -9 +1", "+9 +2"]), Reach::Reached);
    }

    #[test]
    fn an_inner_deadlock_happens_first() {
        assert_eq!(of(&["+1 +2 -2", "+2 +1 -1"]), Reach::Unreachable);
    }

    #[test]
    fn a_failed_trylock_must_fail_again() {
        assert_eq!(of(&["!2 +1", "+2"]), Reach::Reached);
        assert_eq!(of(&["+1 !3", "+2"]), Reach::Unreachable);
    }
}
