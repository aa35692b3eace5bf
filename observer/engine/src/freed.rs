//! Tables that are freed while others use them.
//!
//! This module decides the rank of such a free. A share count above 0 is the kernel's own statement. Links known only to
//! the engine may be stale, the more so after loss.

use crate::{
    event::{Event, Mm, Table},
    finding::{Doubt, Evidence, Finding, FreedShared, Rank},
    holds::TaskId,
    view::LinkView,
    world::World,
};

/// The frees found so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct FreedTables(Vec<Finding>);

impl FreedTables {
    /// Adds a free by a task; `count` is the kernel's share count.
    pub fn add(&mut self, world: &World, id: TaskId, event: &Event, freed: FreedTable, left: &[LinkView]) {
        let FreedTable { mm, table, generation, count } = freed;
        let now_ns = event.time_ns;
        let site = world.on_behalf(id, event.site);
        let party = world.party(id, site, now_ns);
        let lossy = count == 0 && world.losses.holes > 0;
        let rank = match (count, lossy) {
            (1.., _) => Rank::Freed,
            (0, true) => Rank::Incomplete,
            (0, false) => Rank::Possible,
        };
        let finding = Finding {
            id: format!("freed-shared:{}:{}", party.site, rank.name()),
            rank,
            count: 1,
            first_ns: now_ns,
            last_ns: now_ns,
            doubts: if lossy { vec![Doubt::Loss] } else { Vec::new() },
            evidence: Evidence::FreedShared(FreedShared {
                party,
                table,
                generation,
                mm,
                count,
                links: left.iter().map(|l| (l.mm, l.gib)).collect(),
            }),
        };
        match self.0.iter_mut().find(|f| f.id == finding.id) {
            Some(known) => {
                known.count += 1;
                known.last_ns = finding.last_ns;
            }
            None => self.0.push(finding),
        }
    }

    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }
}

/// A freed table, as the kernel reports it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FreedTable {
    pub mm: Mm,
    pub table: Table,
    pub generation: u32,
    /// Share count as the kernel kept it.
    pub count: u32,
}
