//! Edges against a documented order: the request, the order that it contradicts, and the document.

use observer_engine::finding::{AgainstOrder, Finding, Rank, Step};
use serde::Serialize;

use super::{Explain, Run};
use crate::{
    report::stacks::Stacks,
    sink::{
        json::parts,
        words::{stack, step},
    },
    text::paragraph,
};

impl Explain for AgainstOrder {
    fn headline(&self, _: &Finding) -> String {
        format!(
            "{} requested while {} is held, in {}",
            step::requested(&self.step),
            step::held(&self.step),
            self.step.party.site
        )
    }

    fn detail(&self, out: &mut Vec<String>, f: &Finding, run: Run<'_>, _: &[Run<'_>]) {
        step::party(out, "side", &self.step, &run);
        // The finding has the count; the step also counts requests at other sites.
        step::request(out, &Step { count: 1, ..self.step.clone() }, None);
        step::holds(out, &self.step, "");
        stack::rows(out, &self.step.party, run.stacks);
        let (outer, inner) = (self.step.to.name(), self.step.from.name());
        paragraph(out, "order", &format!("{outer} comes before {inner}, as documented in {}", self.source));
        let rank = match f.rank {
            Rank::Incomplete => "incomplete: records were lost around every occurrence",
            Rank::Possible => "possible: the time at which the held lock was acquired is not known exactly",
            _ => {
                "against-order: only the order is broken; a cycle that this edge closes is reported separately"
            }
        };
        paragraph(out, "rank", rank);
    }

    fn wire(&self, stacks: &Stacks, _: &[&Stacks]) -> super::Wire {
        let wire = Wire { step: parts::step(&self.step, stacks), source: self.source.clone() };
        super::Wire::AgainstOrder(Box::new(wire))
    }
}

#[derive(Serialize)]
pub(crate) struct Wire {
    step: parts::Step,
    source: String,
}

#[cfg(test)]
pub(super) mod tests {
    use observer_engine::finding::Evidence;

    use super::*;
    use crate::sink::finding::{
        summary,
        tests::{finding, step as step_to, text},
    };

    pub fn sample() -> Evidence {
        Evidence::AgainstOrder(Box::new(AgainstOrder { step: step_to(None), source: "mm/rmap.c".into() }))
    }

    #[test]
    fn the_text_names_the_document() {
        let f = finding(Rank::AgainstOrder, sample());
        let headline = "folio_lock(file)(?) requested while fault_mutex is held, in smaps_hugetlb_range";
        assert_eq!(summary(&f), headline);
        assert!(text(&f).contains("folio_lock(file) comes before fault_mutex, as documented in mm/rmap.c"));
    }
}
