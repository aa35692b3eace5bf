//! Relocks: tasks that request a lock which they hold.
//!
//! If the two modes conflict, the task waits for itself: `feasible` when it requests the lock, `confirmed` when it
//! waits. A repeated read request blocks only behind a writer that queues between the two. It becomes a finding only
//! when another task is seen that requests the lock for writing and can get to that point ([`super::feasible`]).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    event::{Mode, SiteId},
    finding::{Doubt, Evidence, Finding, Hold, Party, Rank, Relock},
    holds::Instance,
    lock_class::LockClass,
    lock_order::{
        feasible::{Reach, conflict, reach},
        graph::Witness,
        path::Op,
    },
    presence::{Presence, Presences},
};

/// Maximum number of read requests that wait for a writer to be seen. The oldest make room, counted in
/// [`Relocks::dropped`].
const OPEN_MAX: usize = 4096;

/// Merge key: site, class, held mode, requested mode and rank.
type Key = (SiteId, LockClass, Option<Mode>, Option<Mode>, Rank);

/// A request, or a wait, for a lock that the task holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repeat {
    pub site: SiteId,
    pub requested: Option<Mode>,
    pub time_ns: u64,
}

/// One request for a lock that the task holds.
#[derive(Clone, Debug)]
pub(crate) struct Again {
    pub site: SiteId,
    pub instance: Instance,
    pub held: Hold,
    pub requested: Option<Mode>,
    pub party: Party,
    pub presence: Presence,
    /// Lock operations of the task since it held nothing, up to the request.
    pub path: Arc<[Op]>,
    pub lossy: bool,
}

impl Again {
    /// Returns true if it blocks without another task.
    pub fn is_certain(&self) -> bool {
        conflict(self.held.mode, self.requested)
    }
}

/// Findings and open read requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Relocks {
    found: BTreeMap<Key, Finding>,
    /// Repeated read requests without a suitable writer so far.
    open: VecDeque<Again>,
    /// Number of requests that made room before a writer was seen.
    pub dropped: u64,
}

impl Relocks {
    /// Adds a request; `rank` is its rank if it blocks.
    pub fn add(&mut self, again: Again, rank: Rank, name: impl Fn(SiteId) -> Arc<str>) {
        if again.is_certain() || rank == Rank::Confirmed {
            self.found(&again, rank, Vec::new(), name);
            return;
        }
        let same = |o: &Again| {
            (o.presence.serial, o.site, o.instance, o.lossy)
                == (again.presence.serial, again.site, again.instance, again.lossy)
                && o.path.len() == again.path.len()
        };
        // The first request may meet writers that are gone now, the last one those that came since.
        if self.open.iter().filter(|o| same(o)).count() > 1
            && let Some(at) = self.open.iter().rposition(same)
        {
            self.open.remove(at);
        }
        if self.open.len() == OPEN_MAX {
            self.open.pop_front();
            self.dropped += 1;
        }
        self.open.push_back(again);
    }

    /// Updates the open requests of a task since `since_ns`: it turns out to have held more locks then. `path` returns
    /// its operations up to a time.
    pub fn held_more(&mut self, serial: u64, since_ns: u64, path: impl Fn(u64) -> Arc<[Op]>) {
        let is_it = |o: &&mut Again| o.presence.serial == serial && o.presence.time_ns >= since_ns;
        for again in self.open.iter_mut().filter(is_it) {
            again.path = path(again.presence.time_ns);
        }
    }

    /// Marks the open requests of a task since `since_ns` as lossy.
    pub fn doubt_since(&mut self, serial: u64, since_ns: u64) {
        let is_it = |o: &&mut Again| o.presence.serial == serial && o.presence.time_ns >= since_ns;
        self.open.iter_mut().filter(is_it).for_each(|again| again.lossy = true);
    }

    /// Looks for writers that can come between. It considers requests before `before_ns` whose operation has ended,
    /// because a folio may turn out to have been locked until then.
    pub fn settle<'g>(
        &mut self,
        presences: Presences<'_>,
        before_ns: u64,
        writers: impl Fn(Instance) -> &'g [Arc<Witness>],
        name: impl Fn(SiteId) -> Arc<str>,
    ) {
        let is_open = |of: &Presence| {
            before_ns != u64::MAX && (of.time_ns >= before_ns || of.is_inside(presences.tasks))
        };
        let rank = |again: &Again| {
            let rank = |writer: &Arc<Witness>| {
                if is_open(&writer.presence) {
                    return None;
                }
                let sure = presences.together(&again.presence, &writer.presence)?;
                let blocks = writer.presence.serial != again.presence.serial
                    && reach(&[&again.path, &writer.path]) == Reach::Reached;
                let is_inside =
                    again.presence.is_inside(presences.tasks) || writer.presence.is_inside(presences.tasks);
                let is_sure = sure && !again.lossy && !writer.lossy;
                blocks.then_some(match (is_sure, is_inside) {
                    (false, _) => Rank::Incomplete,
                    (true, true) => Rank::Possible,
                    (true, false) => Rank::Feasible,
                })
            };
            if is_open(&again.presence) {
                return None;
            }
            writers(again.instance).iter().filter_map(rank).min()
        };
        for at in (0..self.open.len()).rev() {
            if let Some(rank) = rank(&self.open[at])
                && let Some(again) = self.open.remove(at)
            {
                let mut doubts = vec![Doubt::QueuedWriter { class: again.held.class, writer_seen: true }];
                doubts.extend((rank == Rank::Possible).then_some(Doubt::Inside));
                self.found(&again, rank, doubts, &name);
            }
        }
    }

    fn found(
        &mut self,
        again: &Again,
        rank: Rank,
        mut doubts: Vec<Doubt>,
        name: impl Fn(SiteId) -> Arc<str>,
    ) {
        let key = (again.site, again.held.class, again.held.mode, again.requested, rank);
        let at_ns = again.party.time_ns;
        if let Some(known) = self.found.get_mut(&key) {
            known.count += 1;
            known.last_ns = known.last_ns.max(at_ns);
            known.first_ns = known.first_ns.min(at_ns);
            return;
        }
        if rank == Rank::Incomplete {
            doubts.insert(0, Doubt::Loss);
        }
        let mode = |m: Option<Mode>| m.map_or("unknown", Mode::name);
        let (class, held, requested) =
            (again.held.class.name(), mode(again.held.mode), mode(again.requested));
        let finding = Finding {
            id: format!("relock:{}:{class}:{held}-{requested}:{}", name(again.site), rank.name()),
            rank,
            count: 1,
            first_ns: at_ns,
            last_ns: at_ns,
            doubts,
            evidence: Evidence::Relock(Relock {
                held: again.held,
                requested_mode: again.requested,
                party: again.party.clone(),
            }),
        };
        self.found.insert(key, finding);
    }

    /// Returns the findings in no particular order.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.found.values()
    }
}
