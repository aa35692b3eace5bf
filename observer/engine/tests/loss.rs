//! Loss invents no finding: runs every text trace again, with each of its records lost in turn, and with several
//! random ones lost.
//!
//! A loss is reported as in a live run, by a hole between the neighbours on the same CPU. A finding may become
//! `incomplete` or vanish. No finding may appear or get a worse rank.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests read files")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{collections::BTreeMap, fs, path::Path};

use observer_ebpf::loss;
use observer_engine::{
    Engine, Hole,
    event::Event,
    finding::{Finding, Kind, Rank},
    trace::{Step, Trace, line},
};

/// Random choices of lost records, per trace.
const CHOICES: u64 = 200;

fn traces() -> Vec<(String, Trace)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/traces");
    let mut found: Vec<(String, Trace)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "trace"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(&path).unwrap().parse().unwrap())
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// The task of the records next to the lost ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Neighbours {
    /// The trace itself: holes reach from the previous to the next record on their CPU.
    OfTheTrace,
    /// Unrelated tasks, directly before and after: holes are as short as possible.
    Others,
}

/// Consecutive lost records of one CPU.
struct Lost {
    n: u64,
    /// Place of the hole in the steps, and its begin.
    at: usize,
    since_ns: u64,
    /// Times of the first and the last of them.
    times: (u64, u64),
}

/// Returns the trace without these steps, and with the holes.
fn without(trace: &Trace, lost: &[bool], neighbours: Neighbours) -> Trace {
    let mut steps = Vec::new();
    // Time of the last record received from each CPU, and the place after it.
    let mut last: BTreeMap<u16, (u64, usize)> = BTreeMap::new();
    let mut open: BTreeMap<u16, Lost> = BTreeMap::new();
    let mut holes: Vec<(usize, Hole)> = Vec::new();
    let mut close = |cpu, lost: Lost, until_ns: u64| {
        let (lo_ns, hi_ns) = match neighbours {
            Neighbours::OfTheTrace => (lost.since_ns.min(until_ns), until_ns),
            Neighbours::Others => lost.times,
        };
        let reason = loss::REASONS[loss::RING_FULL].0;
        holes.push((lost.at, Hole { cpu, lo_ns, hi_ns, lost: lost.n, reason, site: None }));
    };
    for (step, is_lost) in trace.steps.iter().zip(lost) {
        let Step::Event(event) = step else {
            steps.push(*step);
            continue;
        };
        if *is_lost {
            let (since_ns, at) = last.get(&event.cpu).copied().unwrap_or_default();
            // A record of another task is at the place of the lost one.
            let at = if neighbours == Neighbours::Others { steps.len() } else { at };
            let fresh = Lost { n: 0, at, since_ns, times: (event.time_ns, event.time_ns) };
            let lost = open.entry(event.cpu).or_insert(fresh);
            lost.n += 1;
            lost.times.1 = event.time_ns;
            continue;
        }
        if let Some(lost) = open.remove(&event.cpu) {
            close(event.cpu, lost, event.time_ns);
        }
        steps.push(*step);
        last.insert(event.cpu, (event.time_ns, steps.len()));
    }
    for (cpu, lost) in open {
        // No record of the trace ends the hole. The counters report it before the next step.
        let until_ns = lost.times.1;
        close(cpu, lost, until_ns);
    }
    // The order reports a hole at the place of the record before it.
    holes.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    for (at, hole) in holes {
        steps.insert(at, Step::Hole(hole));
    }
    Trace { steps, ..trace.clone() }
}

/// Returns the subject of a finding, without its rank.
fn subject(finding: &Finding) -> &str {
    if finding.kind() == Kind::Cycle {
        // The operation may be among the lost records.
        let classes = finding.id.match_indices(':').nth(1).map_or(finding.id.len(), |(at, _)| at);
        return &finding.id[..classes];
    }
    let rank = format!(":{}", finding.rank.name());
    finding.id.strip_suffix(&rank).unwrap_or(&finding.id)
}

/// Returns the findings that exist only with loss, or are worse with it. A seen window hides its prediction, so the
/// prediction of a lost window does not count.
fn invented(whole: &[Finding], lossy: &[Finding]) -> Vec<String> {
    let hides = |w: &str, f: &str| matches!((w.strip_prefix("window:"), f.strip_prefix("prediction:")), (Some(w), Some(f)) if w == f);
    let same = |w: &str, f: &str| w == f || hides(w, f);
    let seen = |f: &Finding| whole.iter().any(|w| same(subject(w), subject(f)) && w.rank <= f.rank);
    let known = |f: &Finding| {
        seen(f) || (f.kind() == Kind::Prediction && whole.iter().any(|w| hides(subject(w), subject(f))))
    };
    let invented = lossy.iter().filter(|f| f.rank < Rank::Incomplete && !known(f));
    invented.map(|f| format!("{} {}", f.rank.name(), f.id)).collect()
}

fn words(trace: &Trace, lost: &[bool]) -> String {
    let event = |step: &Step| -> Option<Event> { if let Step::Event(e) = step { Some(*e) } else { None } };
    let lost = trace.steps.iter().zip(lost).filter(|(_, lost)| **lost);
    lost.filter_map(|(step, _)| Some(format!("    lost: {}\n", line(&event(step)?, &trace.setup)))).collect()
}

/// Invented findings, by trace and finding: the smallest number of lost records, and these records as text.
type Inventions = BTreeMap<String, (usize, String)>;

/// Drops these records and notes the findings that this invented.
fn drop_and_compare(
    name: &str,
    trace: &Trace,
    whole: &[Finding],
    lost: &[bool],
    inventions: &mut Inventions,
) {
    let n = lost.iter().filter(|lost| **lost).count();
    for neighbours in [Neighbours::OfTheTrace, Neighbours::Others] {
        let engine = without(trace, lost, neighbours).run();
        for finding in invented(whole, &engine.findings()) {
            let least = inventions.entry(format!("{name}: {finding}")).or_insert((usize::MAX, String::new()));
            if n < least.0 {
                *least = (n, format!("    next to records of {neighbours:?}\n{}", words(trace, lost)));
            }
        }
    }
}

fn assert_none(inventions: &Inventions) {
    let text: String = inventions.iter().map(|(finding, (_, lost))| format!("{finding}\n{lost}")).collect();
    assert!(text.is_empty(), "\n{text}");
}

#[test]
fn losing_one_record_invents_no_finding() {
    let mut inventions = Inventions::new();
    for (name, trace) in traces() {
        let whole = trace.run().findings();
        for at in (0..trace.steps.len()).filter(|at| matches!(trace.steps[*at], Step::Event(_))) {
            let lost: Vec<bool> = (0..trace.steps.len()).map(|i| i == at).collect();
            drop_and_compare(&name, &trace, &whole, &lost, &mut inventions);
        }
    }
    assert_none(&inventions);
}

#[test]
fn losing_several_records_invents_no_finding() {
    let mut inventions = Inventions::new();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % n
    };
    for (name, trace) in traces() {
        let whole = trace.run().findings();
        for _ in 0..CHOICES {
            let one_of = 2 + below(8);
            let lost: Vec<bool> = trace.steps.iter().map(|_| below(one_of) == 0).collect();
            drop_and_compare(&name, &trace, &whole, &lost, &mut inventions);
        }
    }
    assert_none(&inventions);
}

/// Checks that the tests above can fail.
#[test]
fn unreported_loss_invents_findings() {
    let mut invented_some = 0;
    for (_, trace) in traces() {
        let whole = trace.run().findings();
        for at in 0..trace.steps.len() {
            let mut silent = trace.clone();
            silent.steps.remove(at);
            invented_some += usize::from(!invented(&whole, &silent.run().findings()).is_empty());
        }
    }
    assert!(invented_some > 20, "only {invented_some} records matter to the traces");
}

/// The acquisition of two read locks was skipped while other tasks hold the same locks for reading. The releases may
/// be those of this task, so the protection of its lookup is not known.
#[test]
fn a_lookup_after_a_lost_acquisition_is_not_reported_as_unprotected() {
    let trace: Trace = "
site 1 operation hugetlb_fault
site 2 operation huge_pmd_share
site 3 operation __unmap_hugepage_range
site 10 lock down_read
site 11 lookup huge_pte_offset
site 12 unshare __huge_pmd_unshare
site 30 task sched_process_fork
exclude vma_lock read,write except hugetlb_unshare_pmds
exclude i_mmap_rwsem read,write
coverage unshare exact
900 cpu0 t11 lock_name vma_lock lock=0x200 owner=0xf000
902 cpu0 t11 lock_name i_mmap_rwsem lock=0x300 owner=0xf000
904 cpu0 t11 task tgid=11 comm=reader mm=0xa000
910 cpu0 t11 site=sched_process_fork fork child_tid=12 child_tgid=11
920 cpu1 t12 task tgid=11 comm=reader mm=0xa000
1000 cpu0 t11 site=down_read ask vma_lock read lock=0x200
1010 cpu0 t11 site=down_read ask i_mmap_rwsem read lock=0x300
1100 cpu1 t12 site=hugetlb_fault op_begin mm=0xa000
hole any 1101..1199 2 skipped
1200 cpu1 t12 site=huge_pmd_share op_begin mm=0xa000
1210 cpu1 t12 site=huge_pte_offset lookup mm=0xa000 addr=0x40000000 pte=0x7000
1220 cpu1 t12 release i_mmap_rwsem read lock=0x300
1230 cpu1 t12 site=huge_pmd_share op_end
1240 cpu1 t12 release vma_lock read lock=0x200
1250 cpu1 t12 site=hugetlb_fault op_end
1300 cpu0 t11 release i_mmap_rwsem read lock=0x300
1310 cpu0 t11 release vma_lock read lock=0x200
"
    .parse()
    .unwrap();
    let engine = trace.run();
    let protection = engine.protection();
    let lookup = protection.lookups.iter().find(|l| &*l.site == "huge_pmd_share").unwrap();
    assert_eq!((lookup.leases, lookup.bare), (1, 0), "{lookup:?}");
    assert!(engine.findings().iter().all(|f| !f.rank.is_alarm()));
}

/// Releases were lost while a task held a lock. It may have released the lock and acquired it again, so it is not
/// known if its next lookup was protected.
#[test]
fn a_lookup_after_a_possibly_lost_release_is_not_reported_as_unprotected() {
    let trace: Trace = "
site 1 operation hugetlb_fault
site 10 lock down_read
site 11 lookup huge_pte_offset
site 12 unshare __huge_pmd_unshare
site 13 lock up_read
exclude vma_lock read,write except hugetlb_unshare_pmds
coverage unshare exact
900 cpu0 t11 lock_name vma_lock lock=0x200 owner=0xf000
904 cpu0 t11 task tgid=11 comm=reader mm=0xa000
910 cpu0 t11 site=down_read ask vma_lock read lock=0x210
920 cpu0 t11 site=up_read release vma_lock read lock=0x210
1000 cpu0 t11 site=hugetlb_fault op_begin mm=0xa000
1010 cpu0 t11 site=down_read ask vma_lock read lock=0x200
hole any 1020..1030 2 skipped site=up_read
1100 cpu0 t11 site=huge_pte_offset lookup mm=0xa000 addr=0x40000000 pte=0x7000
1190 cpu0 t11 site=up_read release vma_lock read lock=0x200
1200 cpu0 t11 site=hugetlb_fault op_end
"
    .parse()
    .unwrap();
    let engine = trace.run();
    let protection = engine.protection();
    let lookup = protection.lookups.iter().find(|l| &*l.site == "hugetlb_fault").unwrap();
    assert_eq!((lookup.leases, lookup.bare, lookup.unjudged), (1, 0, 1), "{lookup:?}");
}

/// Thousands of holes on four CPUs that are open for the whole run: the engine asks at most events for what they hide.
#[test]
fn holes_as_long_as_the_run_cost_little_for_each_event() {
    const TIMES: u64 = 200;
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/traces/predicted-walker-then-faults-locked.trace");
    let trace: Trace = fs::read_to_string(path).unwrap().parse().unwrap();
    let event = |step: &Step| if let Step::Event(event) = step { Some(*event) } else { None };
    let once: Vec<Event> = trace.steps.iter().filter_map(event).collect();
    let span_ns = once[once.len() - 1].time_ns + 1_000;
    let events: Vec<Event> = (0..TIMES)
        .flat_map(|n| once.iter().map(move |event| Event { time_ns: event.time_ns + n * span_ns, ..*event }))
        .collect();
    let run = |holes: u16| {
        let mut engine = Engine::new(trace.setup.clone());
        for n in 0..holes {
            let (lo_ns, hi_ns) = (u64::from(n), TIMES * span_ns);
            engine.hole(Hole { cpu: n % 4, lo_ns, hi_ns, lost: 2, reason: "x", site: None });
        }
        let begun = std::time::Instant::now();
        events.iter().for_each(|event| engine.push(event));
        begun.elapsed()
    };
    let best = |holes| (0..5).map(|_| run(holes)).min().unwrap();
    let (none, one, many) = (best(0), best(1), best(8_000));
    println!("{} events: {none:?}, with one hole {one:?}, with thousands {many:?}", events.len());
    assert!(many < 3 * one, "{many:?} with thousands of holes, {one:?} with one");
}
