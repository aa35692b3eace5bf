//! An orphan wait: a task waits for a lock that no task is known to hold.
//!
//! Reported after ten seconds of waiting: the holder leaked the lock, or a release woke nobody. `confirmed` if the kernel
//! reported the wait and the last known hold ended, `possible` if a holder may exist that was not seen. Merged by the lock's
//! class and the site of the task that waits longest; a wait that ended is not reported.
//!
//! How to word it: the waiting task first, how long it has waited and for which lock, then the last holder. "No task is
//! known to hold it", not "no task holds it".

use std::{borrow::Cow, sync::Arc};

use super::{About, HoldBasis, Kind, Party, Subject, TaskRef, task_name};
use crate::{
    event::{Mapping, Mode},
    lock_class::LockClass,
    setup::Role,
};

pub(super) const ABOUT: About = About {
    name: "orphan-wait",
    is_of_tables: false,
    needs: &[Role::Lock, Role::Wait, Role::FolioHeld, Role::FolioRelease, Role::Task],
    fields: &["class", "site", "waiter", "waiters", "last", "ended"],
};

/// A task waits for a lock that no task is known to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanWait {
    pub class: LockClass,
    /// Mode of the request.
    pub mode: Option<Mode>,
    /// Address of the lock; for a folio lock, of the folio. `None`: the folio's lookup did not return, so its address
    /// is not known.
    pub lock: Option<u64>,
    /// Mapping and index of a folio.
    pub place: Option<(Mapping, u64)>,
    /// The task that has waited longest; its time is that of the request.
    pub party: Party,
    /// The kernel reported the wait. If false, the task was silent since its request.
    pub reported: bool,
    /// Number of tasks that wait for it, this one included.
    pub waiters: u64,
    pub last: Option<LastHolder>,
}

/// End of the last known hold of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The lock was released at this time.
    Released(u64),
    /// The task exited at this time and was not seen to release the lock.
    Exited(u64),
}

/// The last known holder of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastHolder {
    pub task: TaskRef,
    /// The watched operation that the task was in when the hold ended.
    pub site: Option<Arc<str>>,
    pub basis: HoldBasis,
    /// `None`: at some time before the event that showed the hold.
    pub acquired_ns: Option<u64>,
    pub ended: Ended,
}

impl Subject for OrphanWait {
    fn kind(&self) -> Kind {
        Kind::OrphanWait
    }

    fn parties(&self) -> Vec<(Cow<'static, str>, &Party)> {
        vec![("waiter".into(), &self.party)]
    }

    fn field(&self, key: &str) -> Option<String> {
        let last = self.last.as_ref();
        Some(match key {
            "class" => self.class.name().to_owned(),
            "site" => self.party.site.to_string(),
            "waiter" => task_name(&self.party),
            "waiters" => self.waiters.to_string(),
            "last" => last.map_or("none".into(), |last| format!("t{}", last.task.tid.0)),
            "ended" => match last.map(|last| last.ended) {
                Some(Ended::Released(_)) => "released".into(),
                Some(Ended::Exited(_)) => "exited".into(),
                None => "none".into(),
            },
            _ => return None,
        })
    }
}
