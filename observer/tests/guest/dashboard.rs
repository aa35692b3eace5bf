//! Test of the dashboard as people use it, on a running kernel: attach, open findings, export them, end it by a signal, and
//! replay the recording.

use std::fs;

use serde_json::Value;

use super::tmux::Tmux;
use crate::report;

/// Expected findings on a kernel, in the order in which the test opens them.
struct Found {
    kernel: &'static str,
    /// Scenarios that the exerciser repeats.
    scenarios: &'static str,
    /// The view that lists it, its row there, and the first line of its page.
    view: &'static str,
    row: &'static str,
    page: &'static str,
    /// Functions that must be on its stacks.
    stacks: &'static [&'static str],
    /// True if it has a pte pointer, so that its table can be opened.
    has_table: bool,
}

const FOUND: [Found; 3] = [
    Found {
        kernel: "5.10",
        scenarios: "turns:mincore:punch race:vmread:migrate --duration 300ms",
        view: "2",
        row: "follow_hugetlb_page held",
        page: "window: follow_hugetlb_page held a pte pointer",
        stacks: &["follow_hugetlb_page+0x", "try_to_unmap_one+0x"],
        has_table: true,
    },
    Found {
        kernel: "6.1",
        scenarios: "turns:mincore:punch share",
        view: "2",
        row: "mincore_hugetlb looks up",
        page: "prediction: mincore_hugetlb looks up",
        stacks: &["mincore_hugetlb+0x", "__unmap_hugepage_range+0x"],
        has_table: true,
    },
    Found {
        kernel: "6.12",
        scenarios: "abba-fault-mutex share",
        view: "1",
        row: "feasible",
        page: "feasible cycle: fault_mutex -> folio_lock(file)",
        stacks: &["hugetlb_fault+0x", "hugetlb_wp+0x"],
        has_table: false,
    },
];

const QUIET: &str = "share unmap exit";
const SAVED: &str = "/tmp/saved.obs";
const REPORT: &str = "/tmp/report.json";
const LAST: &str = "/tmp/last.json";

pub fn story() {
    let kernel = std::env::var("OBSERVER_GUEST_KERNEL").unwrap_or_default();
    let found = FOUND.iter().find(|f| f.kernel == kernel);
    for file in [SAVED, REPORT, LAST] {
        let _ = fs::remove_file(file);
    }
    let tmux = Tmux::start(110, 34);
    tmux.wait_for("prompt", |screen| screen.contains(['#', '$']));
    let before = tmux.modes();
    live(&tmux, found);
    ended(&tmux, &before);
    replayed(&tmux, found);
    tmux.press(&["q"]);
    tmux.wait_for("shell", |screen| !screen.contains("Overview"));
    tmux.is_as(&before);
}

fn live(tmux: &Tmux, found: Option<&Found>) {
    let scenarios = found.map_or(QUIET, |f| f.scenarios);
    let bin = std::env::var("OBSERVER_BIN").unwrap();
    // The shell's prompt shows the exit code of the run.
    tmux.run(&format!("{bin} attach -- {bin} exercise {scenarios} --loop; echo ended with $?"));
    tmux.shows("1 Overview");
    match found {
        Some(found) => look_into(tmux, found),
        None => look_at_tables(tmux),
    }

    // Frozen rows do not change while the kernel runs.
    tmux.press(&["5", "f"]);
    tmux.shows("FROZEN at");
    let frozen = tmux.still("frozen rows", rows);
    let total = total_events(&frozen);
    let later = tmux.wait_for("events that come in", |screen| total_events(screen) > total + 100);
    assert_eq!(rows(&frozen), rows(&later), "frozen rows\n{frozen}\n{later}");
    assert!(rows(&later).len() > 10, "vacuous:\n{later}");
    tmux.press(&["f"]);
    tmux.wait_for("rows that go on", |screen| !screen.contains("FROZEN") && rows(screen) != rows(&later));

    // Only matching rows are left.
    tmux.press(&["&"]);
    tmux.enter("kind=unshare");
    let only = |screen: &str| {
        let rows = rows(screen);
        rows.len() >= 3 && rows.iter().all(|row| row.contains("unshared"))
    };
    tmux.wait_for("unshares only", only);
    tmux.press(&["Escape"]);
    tmux.wait_for("all events again", |screen| !only(screen) && rows(screen).len() > 10);

    // Every size is valid; the smallest shows nothing useful and must not end the program.
    for (columns, rows) in [(80, 24), (20, 5), (1, 1), (160, 45), (110, 34)] {
        tmux.resize(columns, rows);
        // The footer is on the last row at every size.
        let fits =
            |screen: &str| screen.lines().nth(usize::from(rows) - 1).is_some_and(|l| l.contains("help"));
        if columns >= 20 {
            tmux.wait_for(&format!("picture of {columns}x{rows}"), fits);
        }
    }
    tmux.shows("1 Overview");

    // Copies a finding, and exports the recording so far and its report.
    tmux.press(&["1"]);
    if found.is_some() {
        tmux.press(&["g", "y"]);
        tmux.shows("copied");
        let copied = tmux.copied();
        assert!(copied.contains("holding") && copied.lines().count() > 5, "{copied}");
    }
    tmux.press(&["w"]);
    tmux.enter(SAVED);
    wrote(tmux, SAVED);
    tmux.press(&["x", "j"]);
    tmux.enter(REPORT);
    wrote(tmux, REPORT);
}

/// Waits for the message that the file is complete.
fn wrote(tmux: &Tmux, path: &str) {
    tmux.wait_for(&format!("word of {path}"), |s| s.contains("wrote") && s.contains(&format!("to {path}, ")));
    assert!(fs::metadata(path).unwrap().len() > 0);
}

/// Opens the table and the stacks of a finding, and goes back.
fn look_into(tmux: &Tmux, found: &Found) {
    tmux.press(&[found.view]);
    tmux.shows(found.row);
    // The list is searched for it, because it may not be the first.
    tmux.press(&["g", "/"]);
    tmux.enter(found.row);
    tmux.press(&["Enter"]);
    tmux.shows("> finding");
    tmux.shows(found.page);
    if found.has_table {
        tmux.press(&["t"]);
        tmux.shows("> table 0x");
        tmux.press(&["e"]);
        tmux.shows("> events of table 0x");
        tmux.wait_for("events of the table", |screen| screen.contains("looked up"));
        // A table that was freed long ago has a page with a link that reads "> events".
        tmux.back_to("the table", |screen| !screen.contains("> events of"));
        tmux.back_to("the finding", |screen| !screen.contains("> table 0x"));
    }
    tmux.press(&["s"]);
    tmux.shows("> stacks");
    // Stacks may be longer than the screen.
    for function in found.stacks {
        tmux.press(&["g", "/"]);
        tmux.enter(function);
        tmux.shows(function);
    }
    tmux.back_to("the finding", |screen| !screen.contains("> stacks"));
    tmux.back_to("the list", |screen| screen.contains("WHAT"));
}

/// Opens a file, its table and its events, on a kernel without findings.
fn look_at_tables(tmux: &Tmux) {
    tmux.press(&["3"]);
    let is_file = |line: &str| line.trim_start().starts_with("file ") && line.contains("0x");
    tmux.wait_for("file", |screen| screen.lines().any(is_file));
    tmux.press(&["g", "Enter"]);
    tmux.shows("> file 0x");
    tmux.press(&["Enter"]);
    tmux.shows("> table 0x");
    tmux.press(&["e"]);
    tmux.wait_for("events of the table", |screen| screen.contains("looked up"));
    tmux.press(&["Enter"]);
    tmux.shows("> event");
    tmux.press(&["3"]);
    tmux.wait_for("list", |screen| !screen.contains("> file"));
}

/// A signal ends it in order, and the terminal is restored.
fn ended(tmux: &Tmux, before: &str) {
    let pid = pid_of("attach").expect("a running attach");
    // SAFETY: a child of our shell that runs: it was just listed, and nobody else waits for it.
    unsafe { libc::kill(pid, libc::SIGTERM) };
    tmux.shows("ended with ");
    let screen = tmux.screen();
    assert!(!screen.contains("1 Overview"), "the dashboard is still there:\n{screen}");
    tmux.is_as(before);
}

fn replayed(tmux: &Tmux, found: Option<&Found>) {
    let bin = std::env::var("OBSERVER_BIN").unwrap();
    tmux.run(&format!("clear; {bin} replay {SAVED}"));
    tmux.shows("at its end");
    // The export at the end equals the report.
    tmux.press(&["x", "j"]);
    tmux.enter(LAST);
    wrote(tmux, LAST);
    let exported: Value = serde_json::from_slice(&fs::read(LAST).unwrap()).unwrap();
    assert_eq!(exported, report(SAVED));
    // If records were lost, findings that the loss affects are listed as incomplete and are not alarms.
    let findings = exported["findings"].as_array().unwrap();
    let is_left_open = |f: &&Value| exported["loss"] != Value::Array(Vec::new()) && f["rank"] == "incomplete";
    assert_eq!(findings.iter().all(|f| is_left_open(&f)), found.is_none(), "{findings:#?}");
    let live: Value = serde_json::from_slice(&fs::read(REPORT).unwrap()).unwrap();
    assert!(live["counts"]["events"].as_u64() > Some(100), "{}", live["counts"]);

    // Seeks by position, by event, by finding and by time.
    let at = |screen: &str| event(screen);
    tmux.press(&["@"]);
    tmux.enter("#500");
    tmux.wait_for("event 500", |screen| at(screen) == Some(500));
    tmux.press(&["."]);
    tmux.wait_for("event 501", |screen| at(screen) == Some(501));
    tmux.press(&[",", ","]);
    tmux.wait_for("event 499", |screen| at(screen) == Some(499));
    if let Some(found) = found {
        tmux.press(&["]"]);
        let screen = tmux.wait_for("a later finding", |screen| at(screen) > Some(499));
        assert!(!screen.contains("at its end"), "{screen}");
        tmux.press(&[found.view]);
        tmux.shows("WHAT");
    }
    tmux.press(&["@"]);
    tmux.enter("10%");
    let tenth = tmux.wait_for("another place", |screen| !screen.contains("at its end"));
    tmux.press(&["*", "Space"]);
    tmux.wait_for("the end", |screen| screen.contains("at its end") && at(screen) > at(&tenth));
}

/// The number in the header's `total 71,737`.
fn total_events(screen: &str) -> u64 {
    let after = screen.split_once("total ").map_or("", |(_, after)| after);
    number(after).unwrap_or(0)
}

/// The event in the time bar's "▏ 71,737 of 71,737 events", or its only number.
fn event(screen: &str) -> Option<u64> {
    let bar = screen.lines().rev().find_map(|line| line.rsplit_once("▏ "))?;
    number(bar.1)
}

fn number(text: &str) -> Option<u64> {
    let digits: String = text.chars().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
    digits.replace(',', "").parse().ok()
}

/// The listed events.
fn rows(screen: &str) -> Vec<String> {
    let is_row = |line: &&str| line.contains(" s ") && line.trim_start().starts_with(['+', '>']);
    screen.lines().filter(is_row).map(str::to_owned).collect()
}

/// Id of observer's process with this subcommand.
fn pid_of(subcommand: &str) -> Option<i32> {
    let mut pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let mut words = line.split(|b| *b == 0);
        let program = words.next()?;
        (program.ends_with(b"observer") && words.next()? == subcommand.as_bytes()).then_some(pid)
    });
    pids.next()
}
