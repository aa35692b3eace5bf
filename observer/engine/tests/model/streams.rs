//! Runs in the form in which a kernel sends them: as bytes of each CPU's ring, cut into passes at random places, and
//! with lost records.
//!
//! The findings are the same, byte for byte, for every cut. Every alarm is true for every loss.

use observer_engine::{
    Engine, Hole,
    event::{Event, encode},
    finding::{Evidence, Finding, Rank},
    order::{Item, Mark, Order},
};

use super::{
    compare,
    kernel::Kernel,
    kernels::{KERNELS, Row},
    oracle, predicted,
    random::Random,
    scenario::Scenario,
    sites,
};

/// Sends a run through the rings. Returns the engine, and the number of records found missing.
///
/// Each pass reports its own loss, as the loss counters do. The gap in the sequence numbers is not known before the
/// next record of that CPU.
pub fn through_rings(kernel: &Kernel, lost: impl Fn(&Event) -> bool, random: &mut Random) -> (Engine, u64) {
    let mut engine = Engine::new(sites::setup(&kernel.protocol));
    let mut order = Order::new();
    let mut events = kernel.events.as_slice();
    let mut number = 0;
    while !events.is_empty() {
        let (pass, rest) = events.split_at((1 + random.below(120)).min(events.len()));
        events = rest;
        let (lo_ns, hi_ns) = (pass[0].time_ns, pass[pass.len() - 1].time_ns);
        for cpu in 0..kernel.protocol.cpus as u16 {
            let mut bytes = Vec::new();
            pass.iter().filter(|e| e.cpu == cpu && !lost(e)).for_each(|e| encode(e, &mut bytes));
            let mut left = bytes.as_slice();
            while !left.is_empty() {
                let (batch, more) = left.split_at((1 + random.below(300)).min(left.len()));
                order.batch(cpu, batch);
                left = more;
            }
            let lost = pass.iter().filter(|e| e.cpu == cpu && lost(e)).count() as u64;
            if lost > 0 {
                engine.hole(Hole { cpu, lo_ns, hi_ns, lost, reason: "ring-full", site: None });
            }
        }
        number += 1;
        let complete = !random.once_in(5);
        // A mark is read before the rings: later records may belong to the same pass.
        let until_ns = order.mark(Mark { number, time_ns: lo_ns, complete }, |item| take(&mut engine, item));
        if let Some(until_ns) = until_ns {
            engine.tick(until_ns);
        }
    }
    order.finish(|item| take(&mut engine, item));
    engine.finish();
    assert_eq!((order.counts().late, order.counts().undecodable()), (0, 0));
    (engine, order.counts().lost)
}

fn take(engine: &mut Engine, item: Item<'_>) {
    if let Item::Event(event) = item {
        engine.push(event);
    }
}

fn same_however_it_is_cut(seeds: u64) {
    // If seconds pass, judgements depend on the times of the ticks. These follow the marks, which are a part of the
    // stream.
    for row in KERNELS.iter().filter(|row| !row.protocol.slow) {
        for seed in 0..seeds {
            let kernel = Scenario::random(&row.protocol, seed).run();
            let whole = format!("{:#?}", compare::engine(&kernel).findings());
            let (cut, lost) = through_rings(&kernel, |_| false, &mut Random(seed));
            assert_eq!(lost, 0);
            assert_eq!(whole, format!("{:#?}", cut.findings()), "{}, seed {seed}", row.name);
        }
    }
}

/// Returns the identity of a finding about a lookup and an unlink.
fn pair(finding: &Finding) -> Option<(String, String, Rank)> {
    match &finding.evidence {
        Evidence::Window(w) => {
            Some((w.first.holder.site.to_string(), w.first.unlinker.site.to_string(), finding.rank))
        }
        Evidence::Prediction(p) => {
            Some((p.holder.site.to_string(), p.unlinker.site.to_string(), finding.rank))
        }
        _ => None,
    }
}

/// Rings that are sometimes full: CPU, and the times of the first and the last record that find no room.
#[derive(Debug)]
pub struct Holes {
    full: Vec<(u16, u64, u64)>,
    /// Time of the last record of each CPU. A loss after it cannot be detected.
    last_ns: Vec<u64>,
}

impl Holes {
    pub fn random(kernel: &Kernel, random: &mut Random) -> Holes {
        let full = (0..1 + random.below(3)).map(|_| {
            let at = kernel.events[random.below(kernel.events.len())].time_ns;
            (random.below(kernel.protocol.cpus) as u16, at, at + random.below(3000) as u64)
        });
        let full = full.collect();
        let of = |cpu| kernel.events.iter().filter(move |e| e.cpu == cpu).map(|e| e.time_ns);
        let last_ns = (0..kernel.protocol.cpus as u16).map(|cpu| of(cpu).max().unwrap_or(0)).collect();
        Holes { full, last_ns }
    }

    pub fn lose(&self, e: &Event) -> bool {
        let is_full = |(cpu, lo, hi): &(u16, u64, u64)| *cpu == e.cpu && (*lo..=*hi).contains(&e.time_ns);
        e.time_ns != self.last_ns[usize::from(e.cpu)] && self.full.iter().any(is_full)
    }
}

/// Runs with some records lost. Returns the numbers of findings that stayed certain and that became incomplete.
fn lossy(row: &Row, seed: u64) -> (usize, usize) {
    let kernel = Scenario::random(&row.protocol, seed).run();
    let mut random = Random(seed);
    let holes = Holes::random(&kernel, &mut random);
    let is_lost = |e: &Event| holes.lose(e);
    let n = kernel.events.iter().filter(|e| is_lost(e)).count() as u64;
    let (engine, lost) = through_rings(&kernel, is_lost, &mut random);
    assert_eq!((lost, engine.stats().lost), (n, n), "{}, seed {seed}: loss is named", row.name);
    let windows = oracle::windows(&kernel.log);
    let predictions = predicted::predictions(&kernel.log, &[]);
    let mut is_true: Vec<(String, String, Rank)> = windows
        .iter()
        .map(|w| (w.lookup.function().to_owned(), w.unlink.function().to_owned(), w.rank))
        .collect();
    is_true.extend(predictions.into_keys().map(|(l, u, rank)| (l.to_owned(), u.to_owned(), rank)));
    let (mut sure, mut incomplete) = (0, 0);
    for finding in engine.findings() {
        let words =
            format!("{}, seed {seed}, holes {holes:?}: {} {}", row.name, finding.rank.name(), finding.id);
        assert!(!row.clean || !finding.rank.is_alarm(), "{words}");
        let Some(pair) = pair(&finding) else { continue };
        if finding.rank < Rank::Incomplete {
            assert!(is_true.contains(&pair) || !finding.rank.is_alarm(), "{words} is not true");
            sure += 1;
        } else if finding.rank == Rank::Incomplete {
            incomplete += 1;
        }
    }
    (sure, incomplete)
}

fn loss_makes_no_alarm(seeds: u64) {
    let (mut sure, mut incomplete) = (0, 0);
    for row in KERNELS {
        for seed in 0..seeds {
            let (s, i) = lossy(row, seed);
            (sure, incomplete) = (sure + s, incomplete + i);
        }
    }
    println!("{} lossy runs: {sure} sure findings, {incomplete} incomplete", KERNELS.len() as u64 * seeds);
    assert!(sure > 50 && incomplete > 50, "{sure} sure, {incomplete} incomplete: holes test nothing");
}

#[test]
fn findings_do_not_depend_on_how_the_stream_is_cut() {
    same_however_it_is_cut(20);
}

#[test]
#[ignore = "long"]
fn findings_do_not_depend_on_how_the_stream_is_cut_in_full() {
    same_however_it_is_cut(1000);
}

#[test]
fn lost_records_make_no_alarm() {
    loss_makes_no_alarm(30);
}

#[test]
#[ignore = "long"]
fn lost_records_make_no_alarm_in_full() {
    loss_makes_no_alarm(2000);
}
