//! Tests of identity and operations: tasks that execute another program, and all paths of userfaultfd.

use std::{collections::BTreeMap, fs, io::Cursor, process::Command};

use observer::recording::Reader;
use observer_ebpf::record::Records;
use observer_engine::event::{Body, Event, Tid, decode};

use crate::{observer, record, report, run, skipped};

const MOUNT: &str = "/tmp/identity";
const RECORDING: &str = "/tmp/identity.obs";

/// Every lookup of userfaultfd's functions is inside an operation, and its scenarios in turns raise no alarm.
pub fn userfaultfd() {
    record(RECORDING, &[], &["uffd-copy", "uffd-continue", "uffd-poison", "uffd-wp", "uffd-turns"]);
    let report = report(RECORDING);
    // A lookup outside every operation would be a loss.
    skipped(&report);
    let findings = report["findings"].as_array().unwrap();
    let alarms: Vec<_> = findings.iter().filter(|f| f["alarm"] == true).collect();
    assert!(alarms.is_empty(), "{alarms:#?}");
    let hits = |names: &[&str]| -> u64 {
        let sites = report["sites"].as_array().unwrap().iter();
        sites.filter(|s| names.iter().any(|n| s["function"] == *n)).map(|s| s["hits"].as_u64().unwrap()).sum()
    };
    let copies = hits(&["mcopy_atomic", "mfill_atomic_copy"]);
    let continues = hits(&["mcopy_continue", "mfill_atomic_continue"]);
    println!("copies {copies}, continues {continues}, poisoned {}", hits(&["mfill_atomic_poison"]));
    assert!(copies > 0, "vacuous");
    // 5.10 has no minor faults of hugetlbfs.
    let has_minor_faults = std::env::var("OBSERVER_GUEST_KERNEL").is_ok_and(|row| row != "5.10");
    assert_eq!(continues > 0, has_minor_faults);
}

/// A shell truncates a file and executes a program that truncates it again: one task, two programs, two mms.
pub fn exec() {
    fs::create_dir_all(MOUNT).unwrap();
    let mounted = Command::new("mount").args(["-t", "hugetlbfs", "none", MOUNT]).status().unwrap();
    assert!(mounted.success());
    let file = format!("{MOUNT}/file");
    fs::File::create(&file).unwrap();
    // The full path is needed: the shell runs its built-in applets without exec.
    let script = format!(": > {file}; exec /bin/busybox truncate -s 2M {file}");
    let output = run(observer().args(["record", "--force", "-o", RECORDING, "--", "sh", "-c", &script]));
    assert!(output.status.success());
    let (task, events) = of_program(events(), "busybox");
    let steps: Vec<String> = events.iter().filter_map(step).collect();
    println!("task {}: {}", task.0, steps.join(", "));
    let at =
        |what: &str| steps.iter().position(|s| s == what).unwrap_or_else(|| panic!("no {what}: {steps:?}"));
    let (shell, program) = (at("sh"), at("busybox"));
    assert!(steps[shell..program].contains(&"operation".to_owned()), "{steps:?}");
    assert!(steps[program..].contains(&"operation".to_owned()), "{steps:?}");
    let mms: Vec<u64> = events.iter().filter_map(|e| mm(&e.body)).collect();
    // Before the shell, the task is a fork of observer, which may be seen too (6.18).
    let [.., of_shell, of_program] = mms[..] else { panic!("{mms:x?}") };
    assert!(of_shell != of_program && !mms.contains(&0), "{mms:x?}");
}

fn mm(body: &Body) -> Option<u64> {
    if let Body::Task { mm, .. } = body { Some(mm.0) } else { None }
}

/// The name of a task from its `task` record, or that it began an operation.
fn step(event: &Event) -> Option<String> {
    match event.body {
        Body::Task { comm, .. } => Some(name(&comm)),
        Body::OpBegin { .. } => Some("operation".to_owned()),
        _ => None,
    }
}

fn name(comm: &[u8]) -> String {
    String::from_utf8_lossy(comm).trim_end_matches('\0').to_owned()
}

/// The task that was once recorded under this name, and its events by time.
fn of_program(events: Vec<Event>, program: &str) -> (Tid, Vec<Event>) {
    let mut by_task: BTreeMap<u32, Vec<Event>> = BTreeMap::new();
    for event in events {
        by_task.entry(event.tid.0).or_default().push(event);
    }
    let comm_of = |e: &Event| if let Body::Task { comm, .. } = e.body { Some(name(&comm)) } else { None };
    let names: Vec<String> = by_task.values().flatten().filter_map(comm_of).collect();
    let is_it = |e: &Event| comm_of(e).is_some_and(|name| name == program);
    let found = by_task.into_iter().find(|(_, events)| events.iter().any(is_it));
    let (tid, mut events) = found.unwrap_or_else(|| panic!("no task is called {program}: {names:?}"));
    events.sort_by_key(|e| (e.time_ns, e.seq));
    (Tid(tid), events)
}

fn events() -> Vec<Event> {
    let mut reader = Reader::new(Box::new(Cursor::new(fs::read(RECORDING).unwrap()))).unwrap();
    let mut events = Vec::new();
    while let Some(pass) = reader.next_pass().unwrap() {
        for batch in &pass.batches {
            events.extend(Records::of(&batch.bytes).flat_map(|record| decode(batch.cpu, record)));
        }
    }
    events
}
