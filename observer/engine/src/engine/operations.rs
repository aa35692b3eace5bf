//! Begin and end of watched operations.
//!
//! This module decides which operations and leases an event ends when begins or ends are missing.

use super::Engine;
use crate::{
    event::{Body, Event, Mapping},
    holds::TaskId,
    tasks::{Frame, Popped},
};

impl Engine {
    pub(super) fn op_begin(&mut self, id: TaskId, event: &Event) {
        if self.world.tasks[id].frames.is_empty() {
            // A hold whose release may be lost is not carried from one operation into the next.
            self.give_up_lossy(id, event.time_ns);
            if self.world.tasks[id].holds.is_empty() {
                self.lock_order.task(id).clear();
            }
            // A lookup outside of operations was for a use that has ended.
            self.end_leases(id, event.time_ns, |_| true);
        }
        self.push_frame(id, event);
        if self.world.rules.is_walk(event.site)
            && let Body::OpBegin { mm, start, end, page_kib } = event.body
        {
            match page_kib {
                0 => self.walk(id, event, mm, start, end),
                // Unlinks do not reach the tables of these entries.
                _ => self.counts.other_size(page_kib).walks += 1,
            }
        }
    }

    pub(super) fn push_frame(&mut self, id: TaskId, event: &Event) {
        if let Popped::To { depth, missed } = self.world.tasks[id].begin_cuts(event.site) {
            self.counts.unmatched_begins += missed;
            let seen_ns = self.world.tasks[id].last_ns;
            self.cut(id, depth, event.time_ns, seen_ns);
        }
        let foreign_until = self.world.rules.foreign_until(event.site);
        self.world.tasks[id].frames.push(Frame {
            site: event.site,
            begin_ns: event.time_ns,
            lossy: false,
            folios_lossy: false,
            unlinks: 0,
            unlinked_of: Mapping(0),
            foreign_until,
        });
    }

    pub(super) fn op_end(&mut self, id: TaskId, event: &Event) {
        if self.world.rules.ptl_release_unseen() {
            self.drop_ptls(id, event.time_ns);
        }
        match self.world.tasks[id].end_pops(event.site) {
            Popped::Nothing => {
                self.counts.unmatched_ends += 1;
                self.world.tasks[id].loss.was_adrift();
            }
            Popped::To { depth, missed } => {
                self.counts.unmatched_begins += missed;
                if missed > 0 {
                    let seen_ns = self.world.tasks[id].last_ns;
                    self.cut(id, depth + 1, event.time_ns, seen_ns);
                }
                let (frame, comm) = (self.world.tasks[id].frames[depth], self.world.tasks[id].comm);
                if frame.unlinks > 0 {
                    let site = self.world.rules.canonical(frame.site);
                    let took_ns = event.time_ns.saturating_sub(frame.begin_ns);
                    self.ledger.took(frame.unlinked_of, event.time_ns, comm, site, took_ns);
                }
                self.cut(id, depth, event.time_ns, event.time_ns);
            }
        }
    }

    /// Truncates the stack to `depth` operations; the leases of the others end.
    fn cut(&mut self, id: TaskId, depth: usize, now_ns: u64, seen_ns: u64) {
        self.world.tasks[id].frames.truncate(depth);
        self.end_leases_seen(id, now_ns, seen_ns, |lease| lease.depth > depth);
    }
}
