//! A cycle: lock-order edges that close, so that each party can wait for the next one.
//!
//! Reported for locks that closed in this run (`feasible`, or `confirmed` if the tasks wait now), for cycles that a common lock
//! excludes (`guarded`), and for classes that close without their locks (`class-only`), also across recordings. Merged by the
//! chain of lock classes and by the sites; what no locks close is merged by the classes alone.
//!
//! How to word it: in the style of lockdep, whose readers know it. Each party is a numbered side; it *holds* one lock and
//! *requests*, or *waits for*, the next. Say why the rank is not worse. "Deadlock" is for `confirmed` alone.

use std::borrow::Cow;

use super::{About, Kind, Party, Step, Subject};
use crate::{lock_class::LockClass, setup::Role};

pub(super) const ABOUT: About = About {
    name: "cycle",
    is_of_tables: false,
    needs: &[Role::Lock, Role::FolioHeld, Role::FolioRelease],
    fields: &["path", "gate"],
};

/// A closed chain of steps: each step's `to` is the next one's `from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cycle {
    pub steps: Vec<Step>,
    /// Only for rank `guarded`: the lock that excludes the cycle. Two parties hold it, or all in a merged report.
    pub gate: Option<(LockClass, u64)>,
    /// Writers that queue between two readers, if the cycle needs them.
    pub queued: Vec<Queued>,
    /// Recording of each step, from 0, in a report on several recordings. Empty: all steps are of one run.
    pub recordings: Vec<usize>,
}

/// A task that requests a lock for writing while a party holds it for reading: another party's read request waits
/// behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Index of the step whose request waits behind it.
    pub step: usize,
    pub party: Party,
    /// The task was seen waiting.
    pub waiting: bool,
}

impl Subject for Cycle {
    fn kind(&self) -> Kind {
        Kind::Cycle
    }

    fn parties(&self) -> Vec<(Cow<'static, str>, &Party)> {
        let steps = self.steps.iter().enumerate().map(|(i, s)| (format!("side {}", i + 1).into(), &s.party));
        steps.chain(self.queued.iter().map(|q| ("writer".into(), &q.party))).collect()
    }

    fn field(&self, key: &str) -> Option<String> {
        match key {
            "path" => Some(self.steps.iter().map(|s| s.from.name()).collect::<Vec<_>>().join(">")),
            "gate" => self.gate.map(|(class, _)| class.name().to_owned()),
            _ => None,
        }
    }

    fn cycle(&self) -> &[Step] {
        &self.steps
    }
}
