//! Hosts that show nothing: each is found before anything is attached, or said in the first line of the report.

use std::{
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::Value;

const SWITCH: &str = "/proc/sys/kernel/ftrace_enabled";

fn observer() -> Command {
    Command::new(std::env::var("OBSERVER_BIN").unwrap())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A command line that must be refused at once, with these words, and leave no file behind.
fn is_refused(args: &[&str], words: &str) {
    let folder = Path::new("/tmp/refused");
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir(folder).unwrap();
    let begun = Instant::now();
    let output = observer().args(["record", "-o", "/tmp/refused/a.obs"]).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains(words) && text(&output).contains("try: "), "{}", text(&output));
    assert!(begun.elapsed() < Duration::from_secs(5), "it attached first: {:?}", begun.elapsed());
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Returns true if function tracing can be switched off on this kernel; since 7.3 it cannot.
fn can_switch() -> bool {
    let can = std::fs::write(SWITCH, "0").is_ok();
    if can {
        std::fs::write(SWITCH, "1").unwrap();
    } else {
        println!("this kernel does not let {SWITCH} be 0");
    }
    can
}

/// Runs that cannot work are refused before anything is attached.
pub fn refusals() {
    is_refused(&["--pid", "999999"], "process 999999 does not exist");
    is_refused(&["--", "no-such-command"], "start no-such-command");
    if !can_switch() {
        return;
    }
    std::fs::write(SWITCH, "0").unwrap();
    is_refused(&["--duration", "1s"], "kernel.ftrace_enabled is 0");
    std::fs::write(SWITCH, "1").unwrap();
}

/// Function tracing that is switched off during a run makes the report one of a part, and detaching waits for the switch.
pub fn switched_off() {
    if !can_switch() {
        return;
    }
    let file = "/tmp/switch.obs";
    let script = format!("sleep 1; echo 0 > {SWITCH}; sleep 3; (sleep 4; echo 1 > {SWITCH}) & exit 0");
    let output =
        observer().args(["record", "--force", "-o", file, "--", "sh", "-c", &script]).output().unwrap();
    std::fs::write(SWITCH, "1").unwrap();
    let words = text(&output);
    assert!(words.contains("function tracing was switched off"), "{words}");
    assert!(words.contains("detaching waits until kernel.ftrace_enabled is 1"), "{words}");
    assert_eq!(output.status.code(), Some(4), "{words}");
    // The same process can trace again afterwards: the kernel did not give function tracing up.
    let bin = std::env::var("OBSERVER_BIN").unwrap();
    let output =
        observer().args(["record", "--force", "-o", file, "--", &bin, "exercise", "share"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let report = observer().args(["report", "--format", "json", file]).output().unwrap();
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert!(report["counts"]["lookups"].as_u64().unwrap() > 0, "{}", report["counts"]);
}

/// Of its privileges a run keeps what reading the programs' maps and ending its command needs, in every set.
pub fn privileges() {
    const KEPT: u64 = 1 << 39 | 1 << 5;
    let script = "sleep 1; cat /proc/$PPID/status > /tmp/status; $OBSERVER_BIN exercise share";
    let args = ["record", "--force", "-o", "/tmp/privileges.obs", "--", "sh", "-c", script];
    let output = observer().args(args).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let status = std::fs::read_to_string("/tmp/status").unwrap();
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        u64::from_str_radix(line.unwrap_or_else(|| panic!("no {name} in {status}")), 16).unwrap()
    };
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(value(set), KEPT, "{set}: {status}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(value(set), 0, "{set}: {status}");
    }
    assert_eq!(value("NoNewPrivs"), 1);
    // It sees as much as before.
    let report = observer().args(["report", "--format", "json", "/tmp/privileges.obs"]).output().unwrap();
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert!(report["counts"]["lookups"].as_u64().unwrap() > 0, "{}", report["counts"]);
    // As the user who ran sudo.
    let args = ["record", "--force", "-o", "/tmp/privileges.obs", "--", "sh", "-c", "id -u"];
    let output = observer().args(args).env("SUDO_UID", "1234").env("SUDO_GID", "1234").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1234", "{}", text(&output));
}
