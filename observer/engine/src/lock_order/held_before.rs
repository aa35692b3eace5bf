//! Folios that turn out to have been locked since some time ago.
//!
//! A folio's fast path is inline, so its lock is known by a contract some time after it was acquired, or only by its
//! release. Locks requested in between were requested under it. This module decides at which place of the task's path
//! the folio was locked, and which edges follow.

use super::{
    LockOrder,
    graph::{LockRequest, Requester},
    path::{Act, Op, held},
};
use crate::{
    event::{Event, SiteId},
    finding::AcquireKind,
    holds::{Instance, LockHold, TaskId},
    world::World,
};

impl LockOrder {
    /// Handles a folio that turns out to be locked since some time ago: later requests were made under it. Returns true
    /// if the task's path now contains the lock.
    pub fn was_held(&mut self, world: &World, id: TaskId, event: &Event, hold: &LockHold) -> bool {
        let task = &world.tasks[id];
        let path = &self.paths[id];
        // The innermost operation that states when it locks folios; else the outermost operation.
        let known =
            task.frames.iter().rev().find_map(|f| Some((f.begin_ns, world.rules.folio_taken(f.site)?)));
        let Some((begin_ns, taken)) = known
            .map(|(begin_ns, taken)| (begin_ns, Some(taken)))
            .or_else(|| task.frames.first().map(|f| (f.begin_ns, None)))
        else {
            return false;
        };
        let Some(at) = path.place(begin_ns, taken) else { return false };
        let site = world.on_behalf(id, event.site);
        let is_lossy = task.frames.iter().any(|frame| frame.lossy || frame.folios_lossy);
        // A lock that the operation acquired before, and that the facts do not name, may be released before the folio is locked.
        // 5.10's hole punch acquires the fault mutex again under i_mmap_rwsem, and locks the page after it releases
        // i_mmap_rwsem (fs/hugetlbfs/inode.c:529-537).
        let is_named =
            |class| taken.is_none_or(|t| t.first || t.after.is_empty() || t.after.contains(&class));
        let is_other = |op: &Op| op.time_ns >= begin_ns && !is_named(op.class.wire());
        let held = held(path.to(at));
        let others: Vec<Instance> = held.iter().filter(|op| is_other(op)).map(|op| op.lock).collect();
        let sure = taken.is_some() && others.is_empty() && !is_lossy && !task.is_doubtful(event.time_ns);
        let (serial, blocks) = (task.serial, taken.is_some_and(|t| t.blocks));
        if is_lossy {
            // Requests that are not in the path may have been made under this lock, too.
            self.graph.doubt_since(serial, begin_ns);
        }
        if blocks {
            let is_sure = |op: &Op| !is_lossy && !others.contains(&op.lock);
            self.requested_blocking(world, (id, site), at, hold, (&held, is_sure));
        }
        let op = Op { site, sure, ..Op::on(hold, Act::Take, hold.since_ns) };
        self.paths[id].insert(at, begin_ns, op);
        let path = &self.paths[id];
        let by = Requester { task, path, presences: world.presences() };
        self.relocks.held_more(task.serial, begin_ns, |time_ns| path.until(time_ns).into());
        path.requests_from(at + 1, |request| {
            if request.op.lock != hold.instance {
                self.graph.requested_before(
                    by,
                    &op,
                    sure,
                    &LockRequest::of(&request.op),
                    request.path,
                    request.held,
                );
                self.graph.held_more(by, request);
            }
        });
        true
    }

    /// Adds the edges of a blocking request for the folio at this place of the path, under the locks held there. `is_sure` returns
    /// true if the task certainly holds that lock when it requests the folio.
    fn requested_blocking(
        &mut self,
        world: &World,
        (id, site): (TaskId, SiteId),
        at: usize,
        hold: &LockHold,
        (held, is_sure): (&[Op], impl Fn(&Op) -> bool),
    ) {
        let by = Requester { task: &world.tasks[id], path: &self.paths[id], presences: world.presences() };
        let path = by.path.to(at);
        let time_ns = path.last().map_or(hold.since_ns, |op| op.time_ns);
        let request = LockRequest {
            class: hold.class,
            instance: hold.instance,
            mode: hold.mode,
            acquire: AcquireKind::Blocking,
            time_ns,
            site,
        };
        for from in held {
            self.graph.requested_before(by, from, is_sure(from), &request, path, held);
        }
    }
}
