//! Pages of tables that were freed too early: the task that freed one, the kernel's share count, and the links of others.

use observer_engine::finding::{Finding, FreedShared};
use serde::Serialize;

use super::{Explain, Run};
use crate::{
    report::stacks::Stacks,
    sink::{
        json::parts::{self, Link, Side},
        words::{holding, side, stack, task},
    },
    text::{moment, row},
};

impl Explain for FreedShared {
    fn headline(&self, _: &Finding) -> String {
        format!(
            "{} freed a table's page that others still use, in {}",
            task(&self.party.task),
            self.party.site
        )
    }

    fn detail(&self, out: &mut Vec<String>, _: &Finding, run: Run<'_>, _: &[Run<'_>]) {
        side(
            out,
            "task",
            &self.party,
            &format!("freed the page at {}", moment(self.party.time_ns, run.start_ns)),
        );
        holding(out, &self.party.holds);
        stack::rows(out, &self.party, run.stacks);
        let table = format!("{}, generation {} at this address, mm {}", self.table, self.generation, self.mm);
        out.push(row("table", &format!("{table}; the kernel's share count was {}", self.count)));
        for (mm, gib) in &self.links {
            out.push(row("link", &format!("mm {mm}, GiB of {gib}")));
        }
    }

    fn wire(&self, stacks: &Stacks, _: &[&Stacks]) -> super::Wire {
        super::Wire::FreedShared(Box::new(Wire {
            side: parts::side(&self.party, stacks),
            table: self.table.to_string(),
            generation: self.generation,
            mm: self.mm.to_string(),
            count: self.count,
            links: self.links.iter().map(|(mm, gib)| Link::new(*mm, *gib)).collect(),
        }))
    }
}

#[derive(Serialize)]
pub(crate) struct Wire {
    side: Side,
    table: String,
    generation: u32,
    mm: String,
    count: u32,
    links: Vec<Link>,
}

#[cfg(test)]
pub(super) mod tests {
    use observer_engine::{
        event::{Addr, Mm, Table},
        finding::{Evidence, Rank},
    };

    use super::*;
    use crate::sink::finding::{
        summary,
        tests::{finding, side, text},
    };

    pub fn sample() -> Evidence {
        Evidence::FreedShared(FreedShared {
            party: side(),
            table: Table(4),
            generation: 1,
            mm: Mm(1),
            count: 1,
            links: vec![(Mm(5), Addr(6))],
        })
    }

    #[test]
    fn the_text_lists_the_remaining_links() {
        let f = finding(Rank::Freed, sample());
        assert!(summary(&f).starts_with("task 11 (walker, process 10) "), "{}", summary(&f));
        assert!(text(&f).contains("link      mm 0x5, GiB of 0x6"), "{}", text(&f));
    }
}
