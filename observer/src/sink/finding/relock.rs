//! Relocks: the task, how it holds the lock and how it requested it again, then the scenario.

use observer_engine::{
    event::Mode,
    finding::{Finding, Rank, Relock},
};
use serde::Serialize;

use super::{Explain, Run};
use crate::{
    report::stacks::Stacks,
    sink::{
        json::parts::{self, Hold, Side},
        words::{
            holding, lock,
            scenario::{self, Act},
            stack, task,
        },
    },
    text::{moment, paragraph},
};

impl Explain for Relock {
    fn headline(&self, _: &Finding) -> String {
        let (asked, held) =
            (lock(self.held.class, self.requested_mode), lock(self.held.class, self.held.mode));
        format!("{asked} requested by the task that holds it as {held}, in {}", self.party.site)
    }

    fn detail(&self, out: &mut Vec<String>, f: &Finding, run: Run<'_>, _: &[Run<'_>]) {
        let (s, at) = (&self.party, moment(self.party.time_ns, run.start_ns));
        let party = format!("{} on cpu {} in {}, at {at}", task(&s.task), s.task.cpu, s.site);
        paragraph(out, "side", &party);
        let again = format!("requested {} {:#x}", lock(self.held.class, self.requested_mode), self.held.lock);
        paragraph(out, "", &format!("{again}, which it holds"));
        holding(out, &s.holds);
        stack::rows(out, s, run.stacks);
        scenario(out, self);
        let rank = match f.rank {
            Rank::Incomplete => "incomplete: the record of its release may be lost",
            Rank::Confirmed => "confirmed: it was seen waiting for a lock that it holds itself",
            _ => "feasible: it did not hang in this run, but nothing prevents a hang",
        };
        paragraph(out, "rank", rank);
    }

    fn wire(&self, stacks: &Stacks, _: &[&Stacks]) -> super::Wire {
        super::Wire::Relock(Box::new(Wire {
            held: parts::hold(&self.held),
            requested_mode: parts::mode(self.requested_mode),
            side: parts::side(&self.party, stacks),
        }))
    }
}

/// Draws the scenario.
fn scenario(out: &mut Vec<String>, r: &Relock) {
    let act = |column, mode, note: &str| Act::new(column, mode, r.held.class.name(), note);
    let mut acts = vec![act(0, r.held.mode, "")];
    let readers = (r.held.mode, r.requested_mode) == (Some(Mode::Read), Some(Mode::Read));
    if readers {
        acts.push(act(1, Some(Mode::Write), " queued"));
    }
    acts.push(act(0, r.requested_mode, ""));
    scenario::draw(out, "possible unsafe locking scenario", (1, usize::from(readers)), &acts);
}

#[derive(Serialize)]
pub(crate) struct Wire {
    held: Hold,
    requested_mode: Option<&'static str>,
    side: Side,
}

#[cfg(test)]
pub(super) mod tests {
    use observer_engine::finding::{Evidence, HoldBasis};

    use super::*;
    use crate::sink::finding::{
        summary,
        tests::{finding, hold, side, text},
    };

    pub fn sample() -> Evidence {
        Evidence::Relock(Relock {
            held: hold(HoldBasis::Requested),
            requested_mode: Some(Mode::Write),
            party: side(),
        })
    }

    #[test]
    fn the_text_names_both_modes() {
        let f = finding(Rank::Confirmed, sample());
        let headline = "i_mmap_rwsem(write) requested by the task that holds it as i_mmap_rwsem(read), in \
                        smaps_hugetlb_range";
        assert_eq!(summary(&f), headline);
        assert!(text(&f).contains("confirmed: "), "{}", text(&f));
    }
}
