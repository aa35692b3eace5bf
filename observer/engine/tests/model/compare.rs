//! Compares the findings of the engine with those of the oracle.

use std::fmt::Write as _;

use observer_engine::{
    Engine,
    finding::{Evidence, Kind, Rank, Use, WindowCase},
    trace,
};

use super::{
    kernel::{Kernel, mm_addr},
    kernels::UnlinkReport,
    oracle::{self, Window},
    predicted,
    scenario::Scenario,
    sites,
};

/// Returns the engine after all events of a run.
pub fn engine(kernel: &Kernel) -> Engine {
    let mut engine = Engine::new(sites::setup(&kernel.protocol));
    for (no, event) in kernel.events.iter().enumerate() {
        engine.push(event);
        if no % 32 == 0 {
            engine.tick(event.time_ns);
        }
    }
    engine.finish();
    engine
}

fn case_by_engine(case: &WindowCase) -> String {
    let used = match case.used {
        Use::No => "no".to_owned(),
        Use::Contract => "contract".to_owned(),
        Use::Seen(at) => format!("seen at {at}"),
    };
    format!(
        "t{} / t{} mm={:#x} addr={:#x} table={:#x}.{} start={} unlink={}..{} certain={} possible={} used={used} freed={}",
        case.holder.task.tid.0,
        case.unlinker.task.tid.0,
        case.mm.0,
        case.addr.0,
        case.table.0,
        case.generation,
        case.holder.time_ns,
        case.unlink_lo_ns,
        case.unlink_hi_ns,
        case.certain_ns,
        case.possible_ns,
        case.freed_ns.is_some(),
    )
}

fn case_true(kernel: &Kernel, w: &Window) -> String {
    let used = match w.used {
        Use::No => "no".to_owned(),
        Use::Contract => "contract".to_owned(),
        Use::Seen(at) => format!("seen at {at}"),
    };
    format!(
        "t{} / t{} mm={:#x} addr={:#x} table={:#x}.{} start={} unlink={}..{} certain={} possible={} used={used} freed={}",
        kernel.tasks[w.holder].tid,
        kernel.tasks[w.unlinker].tid,
        mm_addr(w.mm),
        w.addr,
        w.table,
        w.life,
        w.start_ns,
        w.lo_ns,
        w.hi_ns,
        w.certain_ns,
        w.possible_ns,
        w.freed,
    )
}

/// Windows of one pair of sites and rank, as text. Several cases can be the first, or the longest.
struct Windows {
    subject: String,
    first: Vec<String>,
    longest: Vec<String>,
}

impl Windows {
    fn agrees(&self, other: &Windows) -> bool {
        let meet = |a: &[String], b: &[String]| a.iter().any(|case| b.contains(case));
        self.subject == other.subject
            && meet(&self.first, &other.first)
            && meet(&self.longest, &other.longest)
    }

    fn text(&self) -> String {
        format!(
            "{}\n  first {}\n  longest {}",
            self.subject,
            self.first.join("\n   or "),
            self.longest.join("\n   or ")
        )
    }
}

fn by_engine(engine: &Engine) -> Vec<Windows> {
    let windows = engine.findings().into_iter().filter_map(|f| match &f.evidence {
        Evidence::Window(w) => Some(Windows {
            subject: format!(
                "{} {}/{} count={} {}..{}",
                f.rank.name(),
                w.first.holder.site,
                w.first.unlinker.site,
                f.count,
                f.first_ns,
                f.last_ns
            ),
            first: vec![case_by_engine(&w.first)],
            longest: vec![case_by_engine(&w.longest)],
        }),
        _ => None,
    });
    windows.collect()
}

fn truth(kernel: &Kernel) -> Vec<Windows> {
    let merged = oracle::merged(oracle::windows(&kernel.log)).into_iter();
    let words = merged.map(|((lookup, unlink, rank), windows)| {
        let first_ns = windows.iter().map(|w| w.hi_ns).min();
        let last_ns = windows.iter().map(|w| w.hi_ns).max();
        let longest = windows.iter().map(|w| (w.certain_ns, w.possible_ns)).max();
        let cases = |which: &dyn Fn(&Window) -> bool| {
            windows.iter().filter(|w| which(w)).map(|w| case_true(kernel, w)).collect()
        };
        Windows {
            subject: format!(
                "{} {lookup}/{unlink} count={} {}..{}",
                rank.name(),
                windows.len(),
                first_ns.unwrap_or(0),
                last_ns.unwrap_or(0)
            ),
            first: cases(&|w| Some(w.hi_ns) == first_ns),
            longest: cases(&|w| Some((w.certain_ns, w.possible_ns)) == longest),
        }
    });
    words.collect()
}

/// A prediction as text, and the numbers of its leases and unlinks.
type Predicted = (String, u64, u64);

fn predicted_by_engine(engine: &Engine) -> Vec<Predicted> {
    let predictions = engine.findings().into_iter().filter_map(|f| match &f.evidence {
        Evidence::Prediction(p) => {
            let subject = format!("{} prediction {}/{}", f.rank.name(), p.holder.site, p.unlinker.site);
            Some((subject, p.leases, p.unlinks))
        }
        _ => None,
    });
    predictions.collect()
}

/// Returns the predictions that differ. Accesses that the engine cannot distinguish count together.
fn predicted_differences(kernel: &Kernel, engine: &Engine) -> String {
    let mut by_engine = predicted_by_engine(engine);
    let mut out = String::new();
    for ((lookup, unlink, rank), p) in predicted::predictions(&kernel.log, &oracle::windows(&kernel.log)) {
        let subject = format!("{} prediction {lookup}/{unlink}", rank.name());
        let within = |n: u64, (least, most): (usize, usize)| (least as u64..=most as u64).contains(&n);
        let agrees = |(by_engine, leases, unlinks): &Predicted| {
            *by_engine == subject && within(*leases, p.leases) && within(*unlinks, p.unlinks)
        };
        match by_engine.iter().position(agrees) {
            Some(at) => drop(by_engine.swap_remove(at)),
            None if p.leases.0 == 0 => {}
            None => drop(writeln!(out, "# truth: {subject} leases={:?} unlinks={:?}", p.leases, p.unlinks)),
        }
    }
    for (subject, leases, unlinks) in by_engine {
        let _ = writeln!(out, "# engine: {subject} leases={leases} unlinks={unlinks}");
    }
    out
}

/// Returns the findings that only one of the two reports. Empty: they agree.
pub fn differences(kernel: &Kernel) -> String {
    let engine = engine(kernel);
    let (by_engine, truth) = (by_engine(&engine), truth(kernel));
    let mut out = String::new();
    for (source, these, those) in [("engine", &by_engine, &truth), ("truth", &truth, &by_engine)] {
        for one in these.iter().filter(|one| !those.iter().any(|other| one.agrees(other))) {
            let _ = writeln!(out, "# {source}: {}", one.text().replace('\n', "\n# "));
        }
    }
    out.push_str(&predicted_differences(kernel, &engine));
    // If unlinks are recorded late, the engine's list of links may be stale. The kernel's own count is more exact.
    let bound =
        if kernel.protocol.unlink_report == UnlinkReport::Entries { Rank::Predicted } else { Rank::Possible };
    for finding in engine
        .findings()
        .iter()
        .filter(|f| !matches!(f.kind(), Kind::Window | Kind::Prediction) && f.rank <= bound)
    {
        let _ = writeln!(out, "# engine: {} {}", finding.rank.name(), finding.id);
    }
    out
}

/// Returns the run as a text trace.
pub fn text(scenario: &Scenario, kernel: &Kernel) -> String {
    let setup = sites::setup(&scenario.protocol);
    let mut out = String::new();
    for site in &setup.sites {
        let _ = write!(out, "site {} {} {}", site.id.0, site.role.name(), site.function);
        if let Some(class) = site.foreign_lookup_until {
            let _ = write!(out, " foreign-lookup-until={}", class.name());
        }
        out.push('\n');
    }
    for e in &setup.exclusions {
        let modes: Vec<&str> = e.modes.iter().map(|m| m.name()).collect();
        let _ = write!(out, "exclude {} {}", e.class.name(), modes.join(","));
        if !e.except_unlink_sites.is_empty() {
            let _ = write!(out, " except {}", e.except_unlink_sites.join(","));
        }
        out.push('\n');
    }
    for c in &setup.coverage {
        let _ = writeln!(out, "coverage {} {}", c.role.name(), c.grade.name());
    }
    for event in &kernel.events {
        let _ = writeln!(out, "{}", trace::line(event, &setup));
    }
    out
}
