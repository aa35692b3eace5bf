//! Windows: the headline names both sites and the time after the unlink; the detail has the first case, then the longest.

use observer_engine::finding::{Finding, Use, Window, WindowCase};
use observer_engine::view::TableEvent;
use serde::Serialize;

use super::{Explain, Run};
use crate::{
    report::stacks::Stacks,
    sink::{
        json::parts::{Side, side as wire_side},
        words::{history, holding, side, stack},
    },
    text::{moment, row, span},
};

impl Explain for Window {
    fn headline(&self, _: &Finding) -> String {
        let c = &self.longest;
        let part = if c.certain_ns > 0 {
            format!("for {}", span(c.certain_ns))
        } else {
            format!("for up to {}", span(c.possible_ns))
        };
        let (holder, unlinker) = (&c.holder.site, &c.unlinker.site);
        format!("{holder} held a pte pointer whose table {unlinker} unlinked, {part}")
    }

    fn detail(&self, out: &mut Vec<String>, _: &Finding, run: Run<'_>, _: &[Run<'_>]) {
        case(out, &self.first, None, run);
        if self.longest != self.first {
            out.push("case with the longest certain use".into());
            case(out, &self.longest, Some(&self.first), run);
        }
    }

    fn wire(&self, stacks: &Stacks, _: &[&Stacks]) -> super::Wire {
        let wire = Wire { first: wire_case(&self.first, stacks), longest: wire_case(&self.longest, stacks) };
        super::Wire::Window(Box::new(wire))
    }
}

/// Adds one case. Stacks that are the same as in the case `shown` are left out.
fn case(out: &mut Vec<String>, c: &WindowCase, shown: Option<&WindowCase>, run: Run<'_>) {
    let at = |ns| moment(ns, run.start_ns);
    side(out, "holder", &c.holder, &format!("looked up at {}", at(c.holder.time_ns)));
    out.push(row("", &format!("mm {}, address {}, pte {}", c.mm, c.addr, c.pte)));
    holding(out, &c.holder.holds);
    if shown.is_none_or(|shown| shown.holder.stack != c.holder.stack) {
        stack::rows(out, &c.holder, run.stacks);
    }
    let gone = if c.unlink_lo_ns == c.unlink_hi_ns {
        format!("unlinked at {}", at(c.unlink_hi_ns))
    } else {
        format!("unlinked between {} and {}", at(c.unlink_lo_ns), at(c.unlink_hi_ns))
    };
    side(out, "unlinker", &c.unlinker, &gone);
    holding(out, &c.unlinker.holds);
    if shown.is_none_or(|shown| shown.unlinker.stack != c.unlinker.stack) {
        stack::rows(out, &c.unlinker, run.stacks);
    }
    out.push(row(
        "table",
        &format!("{}, generation {} at this address, since {}", c.table, c.generation, at(c.table_birth_ns)),
    ));
    history::rows(out, c);
    let used = match c.used {
        Use::No => "no use was seen after the unlink".to_owned(),
        Use::Contract => "in use by contract: inside a callback that received the pointer".to_owned(),
        Use::Seen(_) => "used after the unlink".to_owned(),
    };
    out.push(row(
        "stale",
        &format!("certain {}, possible {}; {used}", span(c.certain_ns), span(c.possible_ns)),
    ));
    if let Some(used) = &c.at_use {
        side(
            out,
            "use",
            used,
            &format!("requested the table's PTL at {}, and acquired it", at(used.time_ns)),
        );
        holding(out, &used.holds);
        if used.stack != c.holder.stack {
            stack::rows(out, used, run.stacks);
        }
    }
    if let Some(ns) = c.freed_ns {
        out.push(row("freed", &format!("the table's page was freed at {}", at(ns))));
    }
}

#[derive(Serialize)]
pub(crate) struct Wire {
    first: Case,
    longest: Case,
}

#[derive(Serialize)]
struct Case {
    holder: Side,
    unlinker: Side,
    mm: String,
    addr: String,
    pte: String,
    table: String,
    generation: u32,
    table_birth_ns: u64,
    unlink_lo_ns: u64,
    unlink_hi_ns: u64,
    certain_ns: u64,
    possible_ns: u64,
    /// One of `no`, `contract` or `seen`.
    used: &'static str,
    used_ns: Option<u64>,
    at_use: Option<Side>,
    freed_ns: Option<u64>,
    history: Vec<Happened>,
}

/// A step in the history of a table.
#[derive(Serialize)]
struct Happened {
    time_ns: u64,
    generation: u32,
    /// One of `born`, `shared`, `seen`, `unshared` or `freed`.
    what: &'static str,
    mm: String,
    gib: String,
    tid: u32,
}

fn wire_case(c: &WindowCase, stacks: &Stacks) -> Case {
    let (used, used_ns) = match c.used {
        Use::No => ("no", None),
        Use::Contract => ("contract", None),
        Use::Seen(ns) => ("seen", Some(ns)),
    };
    Case {
        holder: wire_side(&c.holder, stacks),
        unlinker: wire_side(&c.unlinker, stacks),
        mm: c.mm.to_string(),
        addr: c.addr.to_string(),
        pte: c.pte.to_string(),
        table: c.table.to_string(),
        generation: c.generation,
        table_birth_ns: c.table_birth_ns,
        unlink_lo_ns: c.unlink_lo_ns,
        unlink_hi_ns: c.unlink_hi_ns,
        certain_ns: c.certain_ns,
        possible_ns: c.possible_ns,
        used,
        used_ns,
        at_use: c.at_use.as_deref().map(|s| wire_side(s, stacks)),
        freed_ns: c.freed_ns,
        history: c.history.iter().map(happened).collect(),
    }
}

fn happened(e: &TableEvent) -> Happened {
    Happened {
        time_ns: e.time_ns,
        generation: e.generation,
        what: e.what.name(),
        mm: e.mm.to_string(),
        gib: e.gib.to_string(),
        tid: e.tid.0,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use observer_engine::{
        event::{Addr, Mm, Pte, Table, Tid},
        finding::{Evidence, Rank},
        view::TableStep,
    };

    use super::*;
    use crate::sink::finding::{
        summary,
        tests::{finding, side, text},
    };

    fn case(used: Use) -> WindowCase {
        WindowCase {
            holder: side(),
            unlinker: side(),
            mm: Mm(1),
            addr: Addr(2),
            pte: Pte(3),
            table: Table(4),
            generation: 1,
            table_birth_ns: 1,
            unlink_lo_ns: 2,
            unlink_hi_ns: 3,
            certain_ns: 4,
            possible_ns: 5,
            used,
            at_use: Some(Box::new(side())),
            freed_ns: Some(6),
            history: STEPS.map(happened).to_vec(),
        }
    }

    const STEPS: [TableStep; 5] =
        [TableStep::Born, TableStep::Shared, TableStep::Seen, TableStep::Unshared, TableStep::Freed];

    fn happened(what: TableStep) -> TableEvent {
        match what {
            TableStep::Born
            | TableStep::Shared
            | TableStep::Seen
            | TableStep::Unshared
            | TableStep::Freed => {}
        }
        TableEvent { time_ns: 1, generation: 1, what, mm: Mm(1), gib: Addr(1 << 30), tid: Tid(11) }
    }

    pub fn sample(used: Use) -> Evidence {
        Evidence::Window(Box::new(Window { first: case(used), longest: case(Use::Seen(7)) }))
    }

    #[test]
    fn the_headline_shows_the_longest_case_and_the_detail_both() {
        let f = finding(Rank::Used, sample(Use::Contract));
        let headline =
            "smaps_hugetlb_range held a pte pointer whose table smaps_hugetlb_range unlinked, for 4 ns";
        assert_eq!(summary(&f), headline);
        let text = text(&f);
        assert_eq!(text.matches("holder    task 11").count(), 2, "{text}");
        assert!(text.contains("in use by contract") && text.contains("used after the unlink"), "{text}");
    }

    #[test]
    fn a_window_without_a_certain_part_is_an_upper_limit() {
        let case = WindowCase { certain_ns: 0, ..case(Use::No) };
        let evidence = Evidence::Window(Box::new(Window { first: case.clone(), longest: case }));
        let f = finding(Rank::Possible, evidence);
        assert!(summary(&f).ends_with("for up to 5 ns"), "{}", summary(&f));
    }
}
