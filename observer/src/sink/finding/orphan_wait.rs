//! Waits without a holder: first the waiting task and its wait time, then the last holder of the lock.

use observer_engine::finding::{Ended, Finding, LastHolder as EngineLastHolder, OrphanWait, Rank};
use serde::Serialize;

use super::{Explain, Run};
use crate::{
    report::stacks::Stacks,
    sink::{
        json::parts::{self, Side, address},
        words::{holding, known, lock, stack, task},
    },
    text::{moment, paragraph, plural, row, span},
};

impl Explain for OrphanWait {
    fn headline(&self, f: &Finding) -> String {
        let waited = span(f.last_ns.saturating_sub(self.party.time_ns));
        format!(
            "{} waits for {} in {}, for {waited}, and no task is known to hold it",
            task(&self.party.task),
            lock(self.class, self.mode),
            self.party.site
        )
    }

    fn detail(&self, out: &mut Vec<String>, f: &Finding, run: Run<'_>, _: &[Run<'_>]) {
        let s = &self.party;
        let at = moment(s.time_ns, run.start_ns);
        paragraph(
            out,
            "waiter",
            &format!("{} on cpu {} in {}, since {at}", task(&s.task), s.task.cpu, s.site),
        );
        let what = format!("{}{}", lock(self.class, self.mode), which(self));
        let how = if self.reported {
            format!("waits for {what}")
        } else {
            format!("requested {what}; no later event of this task was seen")
        };
        paragraph(out, "", &how);
        holding(out, &s.holds);
        stack::rows(out, s, run.stacks);
        if self.waiters > 1 {
            out.push(row(
                "",
                &format!("{} wait for this lock; this one waits longest", plural(self.waiters, "task")),
            ));
        }
        match &self.last {
            Some(last) => last_holder(out, last, run.start_ns),
            None => out.push(row("last", "no holder is known")),
        }
        let rank = match f.rank {
            Rank::Confirmed => {
                "confirmed: the kernel reported the wait, and the last known holder no longer holds the lock"
            }
            Rank::Incomplete => "incomplete: lost records may show a holder, or the end of the wait",
            _ => "possible: another task may hold the lock unseen, or this task may not wait",
        };
        paragraph(out, "rank", rank);
    }

    fn wire(&self, stacks: &Stacks, _: &[&Stacks]) -> super::Wire {
        super::Wire::OrphanWait(Box::new(Wire {
            class: self.class.name(),
            mode: parts::mode(self.mode),
            lock: self.lock.map(address),
            mapping: self.place.map(|(mapping, _)| mapping.to_string()),
            index: self.place.map(|(_, index)| index),
            side: parts::side(&self.party, stacks),
            reported: self.reported,
            waiters: self.waiters,
            last_holder: self.last.as_ref().map(wire_last_holder),
        }))
    }
}

/// Address of the lock, and for folios their place in the file.
fn which(o: &OrphanWait) -> String {
    let address = o.lock.map_or(String::new(), |lock| format!(" {lock:#x}"));
    let place = o.place.filter(|(mapping, _)| mapping.0 != 0);
    let place =
        place.map_or(String::new(), |(mapping, index)| format!(" (mapping {mapping}, index {index})"));
    address + &place
}

fn last_holder(out: &mut Vec<String>, last: &EngineLastHolder, start_ns: u64) {
    let at = |ns| moment(ns, start_ns);
    let site = last.site.as_ref().map_or(String::new(), |site| format!(" in {site}"));
    let (ended, ns) = match last.ended {
        Ended::Released(ns) => (format!("released it{site}"), ns),
        Ended::Exited(ns) => ("exited while it held the lock: leaked".to_owned(), ns),
    };
    let text = format!("{} on cpu {} {ended}, at {}", task(&last.task), last.task.cpu, at(ns));
    paragraph(out, "last", &text);
    let acquired = match last.acquired_ns {
        Some(ns) => format!("acquired it at {} ({})", at(ns), known(last.basis)),
        None => format!("acquired it at an earlier time that is not known ({})", known(last.basis)),
    };
    out.push(row("", &acquired));
}

#[derive(Serialize)]
pub(crate) struct Wire {
    class: &'static str,
    mode: Option<&'static str>,
    lock: Option<String>,
    mapping: Option<String>,
    index: Option<u64>,
    side: Side,
    reported: bool,
    waiters: u64,
    last_holder: Option<LastHolder>,
}

#[derive(Serialize)]
struct LastHolder {
    tid: u32,
    tgid: u32,
    comm: String,
    cpu: u16,
    site: Option<String>,
    basis: &'static str,
    acquired_ns: Option<u64>,
    released_ns: Option<u64>,
    exited_ns: Option<u64>,
}

fn wire_last_holder(last: &EngineLastHolder) -> LastHolder {
    let (released_ns, exited_ns) = match last.ended {
        Ended::Released(ns) => (Some(ns), None),
        Ended::Exited(ns) => (None, Some(ns)),
    };
    LastHolder {
        tid: last.task.tid.0,
        tgid: last.task.tgid,
        comm: last.task.comm.clone(),
        cpu: last.task.cpu,
        site: last.site.as_ref().map(|site| site.to_string()),
        basis: last.basis.name(),
        acquired_ns: last.acquired_ns,
        released_ns,
        exited_ns,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use observer_engine::{
        event::{Mapping, Mode},
        finding::{Evidence, HoldBasis},
        lock_class::LockClass,
    };

    use super::*;
    use crate::sink::finding::{
        summary,
        tests::{finding, side, text},
    };

    pub fn sample() -> Evidence {
        Evidence::OrphanWait(Box::new(OrphanWait {
            class: LockClass::FolioFile,
            mode: Some(Mode::Exclusive),
            lock: Some(7),
            place: Some((Mapping(9), 8)),
            party: side(),
            reported: true,
            waiters: 2,
            last: Some(EngineLastHolder {
                task: side().task,
                site: Some(side().site),
                basis: HoldBasis::ReturnedLocked,
                acquired_ns: Some(1),
                ended: Ended::Released(2),
            }),
        }))
    }

    #[test]
    fn the_text_names_the_waiter_and_the_last_holder() {
        let f = finding(Rank::Confirmed, sample());
        let headline = "task 11 (walker, process 10) waits for folio_lock(file) in smaps_hugetlb_range, for 1 ns, \
                        and no task is known to hold it";
        assert_eq!(summary(&f), headline);
        assert!(
            text(&f).contains("last      task 11 (walker, process 10) on cpu 1 released it"),
            "{}",
            text(&f)
        );
    }
}
