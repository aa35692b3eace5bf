//! Runs every text trace of `fixtures/traces/`, and the example in their documentation.
//!
//! Each trace has its own `expect` lines; this file adds no expectation.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests read files")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{fs, path::Path};

use observer_ebpf::kinds;
use observer_ebpf::record::Record;
use observer_engine::{
    event::{Body, Event, SiteId, Tid, decode, encode},
    trace::{self, Step, Trace},
};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Returns the names and texts of all traces, sorted by name.
fn traces() -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = fs::read_dir(root().join("fixtures/traces"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "trace"))
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect();
    found.sort();
    found
}

/// Returns the differences from the expectations. Empty if there are none.
fn run(name: &str, text: &str) -> String {
    let trace: Trace = match text.parse() {
        Ok(trace) => trace,
        Err(e) => return format!("{name}: {e}\n"),
    };
    if trace.expectations.is_empty() {
        return format!("{name}: expects nothing: say `expect none` or what is expected\n");
    }
    trace.check(&trace.run()).iter().map(|difference| format!("{name}: {difference}\n")).collect()
}

#[test]
fn every_trace_meets_its_expectations() {
    let traces = traces();
    assert!(traces.len() >= 25, "only {} traces found", traces.len());
    let wrong: String = traces.iter().map(|(name, text)| run(name, text)).collect();
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn the_documented_example_meets_its_expectations() {
    let text = fs::read_to_string(root().join("docs/text-traces.md")).unwrap();
    let example = text.split("## Example").nth(1).unwrap().split("```").nth(1).unwrap();
    assert_eq!(run("example", example.strip_prefix("text").unwrap()), "");
}

/// Without these differences, the test of the traces could not fail.
#[test]
fn unexpected_and_missing_findings_are_differences() {
    let text = fs::read_to_string(root().join("docs/text-traces.md")).unwrap();
    let example = text.split("## Example").nth(1).unwrap().split("```text").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let (events, expectation) = example.split_once("expect").unwrap();
    assert!(run("unexpected", &format!("{events}expect none")).contains("not expected: expect used window"));
    let twice = format!("{events}expect{expectation}\nexpect{expectation}");
    assert!(run("missing", &twice).contains("not met: expect used window"));
}

#[test]
fn reading_findings_early_does_not_change_them() {
    for (name, text) in traces() {
        let trace: Trace = text.parse().unwrap();
        let (mut read_early, once) = (observer_engine::Engine::new(trace.setup.clone()), trace.run());
        for step in &trace.steps {
            match step {
                Step::Event(event) => read_early.push(event),
                Step::Hole(hole) => read_early.hole(*hole),
                Step::Tick(now_ns) => read_early.tick(*now_ns),
            }
            let _ = (read_early.findings(), read_early.tables(), read_early.edges(), read_early.stats());
        }
        read_early.finish();
        assert_eq!(read_early.findings(), once.findings(), "{name}");
        assert_eq!(read_early.tables(), once.tables(), "{name}");
    }
}

/// Every kind of event, printed as a line, is parsed to the same event.
#[test]
fn printed_events_parse_to_the_same_events() {
    let setup = "site 3 operation hugetlb_fault\nsite 4 lookup huge_pte_alloc\nsite 5 share huge_pte_alloc"
        .parse::<Trace>()
        .unwrap()
        .setup;
    for kind in kinds::TABLE {
        for (seed, site) in [(0u64, 3u16), (1, 4), (0x9e37_79b9_7f4a_7c15, 5), (u64::MAX, 9)] {
            let arg = match kind.arg.name {
                "class_mode" => 2 | (1 + (seed as u32 & 1)) << 8 | (seed as u32 & 1) << 31,
                "how" => 1 + (seed as u32 & 1),
                "" => 0,
                _ => seed as u32,
            };
            let mut words = [0; 5];
            for (i, word) in words.iter_mut().take(kind.words.len()).enumerate() {
                *word = seed.rotate_left(i as u32 * 7);
            }
            let Some(body) = Body::from_wire(kind.number, arg, &words) else {
                panic!("{} cannot be made", kind.name)
            };
            let event =
                Event { time_ns: seed >> 1, seq: seed as u32, tid: Tid(7), cpu: 1, site: SiteId(site), body };
            let line = trace::line(&event, &setup);
            let header =
                "site 3 operation hugetlb_fault\nsite 4 lookup huge_pte_alloc\nsite 5 share huge_pte_alloc\n";
            let read: Trace = format!("{header}{line}").parse().unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(read.steps, [Step::Event(event)], "{line}");
        }
    }
}

/// The wire form of a body decodes to the same body.
#[test]
fn event_bodies_survive_encoding_and_decoding() {
    for (name, text) in traces() {
        for step in text.parse::<Trace>().unwrap().steps {
            let Step::Event(event) = step else { continue };
            let mut bytes = Vec::new();
            encode(&event, &mut bytes);
            let record = Record::first(&bytes).unwrap();
            assert_eq!(decode(event.cpu, record), Ok(event), "{name}");
        }
    }
}

#[test]
fn errors_name_the_line_and_the_word() {
    for (text, error) in [
        (
            "1000 cpu0 t1 lookup mm=1 adr=2",
            "line 1: `adr` is not a field of `lookup`; there are mm, addr, pte",
        ),
        ("\n1000 cpu0 t1 look", "line 2: `look` is not a kind of event"),
        ("nonsense", "line 1: `nonsense` does not begin a line of a trace"),
        ("1000 t1", "line 1: expected `cpuN`, found `t1`"),
        ("1000 cpu0 t1 site=hugetlb_fault op_begin", "line 1: no `site` line defines `hugetlb_fault`"),
        ("1000 cpu0 t1 ask read lock=1", "line 1: the lock class is missing"),
        ("1000 cpu0 t1 ask vma_lock reed lock=1", "line 1: `reed` is not a mode"),
        ("1000 cpu0 t1 lookup mm=1 mm=2", "line 1: `mm` is given twice"),
        ("1000 cpu70000 t1 lookup", "line 1: `70000` is too large"),
        ("1000 cpu0 t1 task comm=abcdefghijklmnopq", "line 1: `abcdefghijklmnopq` is longer"),
        ("hole cpu0 1..2 5 gone", "line 1: `gone` is not a reason of loss"),
        ("expect bad window", "line 1: `bad` is not a rank"),
        ("expect used window lookp=x", "line 1: `lookp` cannot be expected here"),
        ("site 1 operation f\nsite 1 lookup g", "line 2: site 1 is defined twice"),
        ("order somewhere: ptl", "line 1: an order has two classes at least"),
        ("order-exception ptl vma_lock: x", "line 1: there is no `order` line before it"),
        ("order s: ptl vma_lock\norder-exception vma_lock ptl", "line 2: `order-exception CLASS CLASS"),
        ("order s: ptl vma_lock\norder-exception vma ptl: x", "line 2: `vma` is not a lock class"),
        ("site 1 lock f try-then-block=vma", "line 1: `vma` is not a lock class"),
    ] {
        let got = text.parse::<Trace>().unwrap_err().to_string();
        assert!(got.starts_with(error), "{text:?}: {got}");
    }
}
