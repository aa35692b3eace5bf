//! Whether tasks can all come to where they wait: the filter that makes a cycle `feasible`.
//!
//! Locks that are seen in a bad order make a deadlock only if the tasks can be brought there, each holding what it holds,
//! all at once. That is undecidable for programs and hard for traces; sound filters keep to reorderings of what was seen.
//! The closest published one is *sync-preserving* deadlocks (Tunc, Mathur, Pavlogiannis, Viswanathan, "Sound Dynamic Deadlock
//! Prediction in Linear Time", PLDI 2023), which keeps the order of critical sections on each lock. This one goes by where
//! tasks hold nothing: a task that is held back there keeps no lock from anybody, so that all others can do what they did. Hence
//! every task but those of the cycle is held back where it holds nothing, those of the cycle are brought to the begin of their
//! paths, and what is left is whether these few short paths can be interleaved so that each comes to its last ask. That is
//! searched in full.
//!
//! It does not see what tasks tell each other but by locks, and takes a trylock that failed as one that has to fail again.

use crate::{
    event::Mode,
    fx::FxMap,
    path::{Act, Op},
    tasks::Instance,
};

/// States tried.
const STATES_MAX: usize = 20_000;

/// What the search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Reached,
    Unreachable,
    /// There were too many states.
    Cut,
}

/// Whether two modes keep each other out.
pub(crate) fn conflict(a: Option<Mode>, b: Option<Mode>) -> bool {
    !(a == Some(Mode::Read) && b == Some(Mode::Read))
}

/// One task's way: what it does, and after each operation what it holds.
struct Way {
    ops: Vec<Op>,
    /// By place: from before the first operation to after the last.
    holds: Vec<Vec<(Instance, Option<Mode>)>>,
}

impl Way {
    fn new(ops: Vec<Op>) -> Way {
        let holds = (0..=ops.len())
            .map(|at| crate::path::held(&ops[..at]).iter().map(|op| (op.lock, op.mode)).collect())
            .collect();
        Way { ops, holds }
    }

    /// Whether what it holds at a place keeps others from a lock.
    fn keeps(&self, at: usize, lock: Instance, mode: Option<Mode>) -> bool {
        self.holds[at].iter().any(|(held, as_mode)| *held == lock && conflict(*as_mode, mode))
    }
}

/// Whether the paths can all be gone to their ends at one time.
pub(crate) fn reach(paths: &[&[Op]]) -> Reach {
    // A lock that one path alone touches stands in nobody's way.
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

/// Whether a task's next operation can be done while the others are where they are.
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
        finding::{Known, Manner},
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
                manner: Manner::Asked,
                known: Known::Asked,
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
    fn two_locks_in_two_orders_are_reached() {
        assert_eq!(of(&["+1", "+2"]), Reach::Reached);
    }

    #[test]
    fn a_common_lock_keeps_them_apart() {
        assert_eq!(of(&["+9 +1", "+9 +2"]), Reach::Unreachable);
        assert_eq!(of(&["r9 +1", "r9 +2"]), Reach::Reached);
    }

    #[test]
    fn a_lock_that_is_only_passed_is_no_gate() {
        assert_eq!(of(&["+9 -9 +1", "+9 +2"]), Reach::Reached);
    }

    #[test]
    fn an_inner_cycle_is_met_first() {
        assert_eq!(of(&["+1 +2 -2", "+2 +1 -1"]), Reach::Unreachable);
    }

    #[test]
    fn what_failed_has_to_fail_again() {
        assert_eq!(of(&["!2 +1", "+2"]), Reach::Reached);
        assert_eq!(of(&["+1 !3", "+2"]), Reach::Unreachable);
    }
}
