//! Context from earlier events that later ones need: task names, and the owners of locks.
//!
//! Decides how long it is remembered: a name until the task's number gets another name, an owner until its lock is forgotten.
//! So it is bounded by the numbers of tasks and of existing locks.

use std::{collections::HashMap, sync::Arc};

use observer_engine::{
    event::{Body, Event, Tid},
    finding::comm_text,
};

use super::{EventRow, Filter, lock_of};

/// Context that is built from every event of a run, in order.
#[derive(Clone, Debug, Default)]
pub struct Context {
    comms: HashMap<Tid, Arc<str>>,
    owners: HashMap<u64, u64>,
}

/// New information from an event.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    Comm(Tid, Arc<str>),
    /// Owner of a lock; 0 if the lock was forgotten.
    Owner(u64, u64),
}

impl Context {
    /// Takes the information of an event; `None` if it was known already.
    pub fn learn(&mut self, event: &Event) -> Option<News> {
        let news = match &event.body {
            Body::Task { comm, .. } => {
                let name = comm_text(comm);
                let known = self.comms.get(&event.tid);
                News::Comm(event.tid, known.filter(|k| ***k == name).is_none().then(|| name.into())?)
            }
            Body::LockName { lock, owner, .. } => {
                (self.owners.get(&lock.0) != Some(owner)).then_some(News::Owner(lock.0, *owner))?
            }
            Body::LockForget { lock, .. } => {
                self.owners.contains_key(&lock.0).then_some(News::Owner(lock.0, 0))?
            }
            _ => return None,
        };
        self.take(&news);
        Some(news)
    }

    /// Takes information that was learned at another time.
    pub fn take(&mut self, news: &News) {
        match news {
            News::Comm(tid, comm) => {
                self.comms.insert(*tid, comm.clone());
            }
            News::Owner(lock, 0) => {
                self.owners.remove(lock);
            }
            News::Owner(lock, owner) => {
                self.owners.insert(*lock, *owner);
            }
        }
    }

    /// Takes an event; returns its row if it passes the filter.
    pub fn pick(&mut self, number: u64, event: &Event, filter: &Filter) -> Option<EventRow> {
        // The row of a forget event still shows the owner that is being forgotten.
        let forgets = matches!(event.body, Body::LockForget { .. });
        if !forgets {
            self.learn(event);
        }
        let picked = filter.wants(event, || self.comm(event), || self.owner(event));
        let row = picked.then(|| self.row(number, event));
        if forgets {
            self.learn(event);
        }
        row
    }

    /// An event with the known context.
    #[must_use]
    pub fn row(&self, number: u64, event: &Event) -> EventRow {
        let comm = self.comms.get(&event.tid).cloned().unwrap_or_default();
        EventRow { number, event: *event, comm, owner: self.owner(event) }
    }

    fn comm(&self, event: &Event) -> &str {
        self.comms.get(&event.tid).map_or("", |comm| comm)
    }

    fn owner(&self, event: &Event) -> u64 {
        let Some((class, lock, _)) = lock_of(&event.body) else { return 0 };
        if class.is_folio() { 0 } else { self.owners.get(&lock).copied().unwrap_or(0) }
    }
}
