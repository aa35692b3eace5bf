//! Hosts that show nothing: each is found before anything is attached, or said in the first line of the report.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::bpf::Loaded;
use crate::{Load, observer, random::Random, report, wait_for};

const SWITCH: &str = "/proc/sys/kernel/ftrace_enabled";

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
    let unseen = "programs are attached and do not run: observer's own munmap at the end was not seen at ";
    assert!(words.contains(unseen), "{words}");
    assert!(words.contains("detaching waits until kernel.ftrace_enabled is 1"), "{words}");
    assert_eq!(output.status.code(), Some(4), "{words}");
    // The same process can trace again afterwards: the kernel did not give function tracing up.
    let bin = std::env::var("OBSERVER_BIN").unwrap();
    let output =
        observer().args(["record", "--force", "-o", file, "--", &bin, "exercise", "share"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let report = report(file);
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
    let report = report("/tmp/privileges.obs");
    assert!(report["counts"]["lookups"].as_u64().unwrap() > 0, "{}", report["counts"]);
    // As the user who ran sudo.
    let args = ["record", "--force", "-o", "/tmp/privileges.obs", "--", "sh", "-c", "id -u"];
    let output = observer().args(args).env("SUDO_UID", "1234").env("SUDO_GID", "1234").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1234", "{}", text(&output));
}

/// Capabilities that the README asks for, with their numbers (include/uapi/linux/capability.h).
const ASKED_FOR: [(&str, u32); 3] = [("CAP_BPF", 39), ("CAP_PERFMON", 38), ("CAP_SYSLOG", 34)];
const NOBODY: u32 = 65_534;

/// Lets the command run as nobody, with these capabilities and no others.
fn as_nobody_with(command: &mut Command, capabilities: &[u32]) {
    let all = capabilities.iter().fold(0_u64, |all, number| all | 1 << number);
    let capabilities = capabilities.to_vec();
    let done = |code: libc::c_long| if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: system calls between fork and exec, with numbers and with structures that outlive the calls.
    unsafe {
        command.pre_exec(move || {
            done(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).into())?;
            done(libc::setgid(NOBODY).into())?;
            done(libc::setuid(NOBODY).into())?;
            let head = [0x2008_0522_u32, 0];
            let (low, high) = (all as u32, (all >> 32) as u32);
            let data = [low, low, low, high, high, high];
            done(libc::syscall(libc::SYS_capset, head.as_ptr(), data.as_ptr()))?;
            for number in &capabilities {
                let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
                done(libc::prctl(libc::PR_CAP_AMBIENT, raise, libc::c_ulong::from(*number), 0, 0).into())?;
            }
            Ok(())
        });
    }
}

fn sysctl(name: &str, value: &str) -> String {
    let path = format!("/proc/sys/kernel/{name}");
    let before = fs::read_to_string(&path).unwrap().trim().to_owned();
    fs::write(path, value).unwrap();
    before
}

/// Every role that findings need is seen.
fn sees_all(report: &Value) -> bool {
    let roles = ["operation", "lookup", "share", "table-free", "unshare", "lock", "ptl"];
    let rows = report["coverage"].as_array().unwrap();
    let is_blind = |role: &str| {
        rows.iter().any(|row| {
            row["role"] == role && row["part"].as_str().unwrap_or("").is_empty() && row["grade"] == "blind"
        })
    };
    report["counts"]["lookups"].as_u64().unwrap() > 100
        && report["counts"]["shares"].as_u64().unwrap() > 0
        && !roles.iter().any(|role| is_blind(role))
}

/// With exactly these capabilities every essential role is served, or the run is refused with what is missing.
pub fn least_privilege() {
    let folder = "/tmp/nobody";
    fs::create_dir_all(folder).unwrap();
    std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
    let file = format!("{folder}/a.obs");
    let record = |capabilities: &[u32], locked_kib: u64| {
        let mut command = observer();
        command.args(["record", "--force", "--duration", "1s", "-o", &file]);
        limit(&mut command, libc::RLIMIT_MEMLOCK, locked_kib << 10);
        as_nobody_with(&mut command, capabilities);
        command.output().unwrap()
    };
    let is_refused = |output: &Output, words: &str| {
        let said = text(output);
        output.status.code() == Some(1) && said.contains(words) && said.contains("try: ")
    };
    let asked: Vec<u32> = ASKED_FOR.iter().map(|(_, number)| *number).collect();
    let load = Load::start("share");
    // Debian's kernels ask for CAP_SYS_ADMIN at level 3, their default; others have no such level.
    let paranoid = sysctl("perf_event_paranoid", "3");
    let strict = record(&asked, 1 << 20);
    let names_it = is_refused(&strict, "perf_event_paranoid is 3); this process lacks CAP_SYS_ADMIN");
    assert!(names_it || strict.status.success() && sees_all(&report(&file)), "{}", text(&strict));
    sysctl("perf_event_paranoid", "2");
    // Before 5.11 maps are locked memory, of which most systems allow 64 KiB.
    let little = record(&asked, 64);
    let needs_more = is_refused(&little, "ulimit -l unlimited, or add CAP_SYS_RESOURCE");
    let plain = if needs_more { record(&asked, 1 << 20) } else { little };
    assert!(plain.status.success() && sees_all(&report(&file)), "{}", text(&plain));
    println!(
        "at level 3 {}; 64 KiB of locked memory {}",
        strict.status,
        if needs_more { "refused" } else { "enough" }
    );
    for (name, number) in ASKED_FOR {
        let others: Vec<u32> = asked.iter().copied().filter(|other| *other != number).collect();
        let without = record(&others, 1 << 20);
        let said = text(&without);
        if name == "CAP_SYSLOG" {
            assert_eq!(without.status.code(), Some(4), "{said}");
            assert!(said.contains("\nPARTIAL ") && said.contains("kptr_restrict"), "{said}");
        } else {
            assert!(is_refused(&without, &format!("this process lacks {name}")), "{said}");
        }
    }
    sysctl("perf_event_paranoid", &paranoid);
    drop(load);
}

/// Sets a resource limit of the command.
fn limit(command: &mut Command, of: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: a system call between fork and exec, with a structure that outlives the call.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(of, &raw const limit) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
}

/// Puts a line into the file before the command runs.
fn first_write(command: &mut Command, path: &str, line: &'static str) {
    let path = path.to_owned();
    // SAFETY: a file is written between fork and exec, by a process with one thread.
    unsafe { command.pre_exec(move || fs::write(&path, line)) };
}

/// A file that observer reads and that is hidden is named, with a next step.
pub fn hidden_files() {
    for (hidden, words) in [
        ("/sys", "/sys/devices/system/cpu/present"),
        ("/sys/kernel/btf/vmlinux", "/sys/kernel/btf/vmlinux"),
        ("/proc/kallsyms", "/proc/kallsyms"),
    ] {
        let mut command = observer();
        command.args(["record", "--duration", "1s", "-o", "/tmp/hidden-file.obs"]);
        let path = std::ffi::CString::new(hidden).unwrap();
        // SAFETY: system calls between fork and exec, with strings that outlive the calls.
        unsafe {
            command.pre_exec(move || {
                let done = |code| if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
                let none = std::ptr::null();
                done(libc::unshare(libc::CLONE_NEWNS))?;
                done(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()))?;
                if path.as_bytes() == b"/sys" {
                    return done(libc::umount2(path.as_ptr(), libc::MNT_DETACH));
                }
                done(libc::mount(c"/dev/null".as_ptr(), path.as_ptr(), none, libc::MS_BIND, none.cast()))
            });
        }
        let output = command.output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{hidden}: {said}");
        assert!(said.contains(words) && said.contains("\ntry: "), "{hidden}: {said}");
    }
}

/// Limits that are too low are found before attaching: the kernel would kill a run without a word.
pub fn memory_limits() {
    const GROUP: &str = "/sys/fs/cgroup/observer-test";
    let mounted = Command::new("mount").args(["-t", "cgroup2", "none", "/sys/fs/cgroup"]).status();
    assert!(mounted.unwrap().success());
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory").unwrap();
    fs::create_dir_all(GROUP).unwrap();
    let record = || {
        let mut command = observer();
        command.args(["record", "--force", "--duration", "1s", "-o", "/tmp/limit.obs"]);
        command
    };
    let in_group = |limit: &str| {
        fs::write(format!("{GROUP}/memory.max"), limit).unwrap();
        let mut command = record();
        first_write(&mut command, &format!("{GROUP}/cgroup.procs"), "0");
        command.output().unwrap()
    };
    let unlimited = in_group("max");
    assert!(unlimited.status.success(), "{}", text(&unlimited));
    let peak: u64 = fs::read_to_string(format!("{GROUP}/memory.peak")).unwrap().trim().parse().unwrap();
    println!("a run needs {} MiB at most", peak >> 20);
    for limit in ["33554432", "100663296"] {
        let output = in_group(limit);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(GROUP) && said.contains("\ntry: a limit of at least "), "{said}");
    }
    // What is asked for is enough, and not far from what is used.
    let said = text(&in_group("33554432"));
    let (_, after) = said.split_once("a run needs ").unwrap();
    let asked: u64 = after.split_once(" MiB").unwrap().0.parse().unwrap();
    assert!(asked >= peak >> 20 && asked < 2 * (peak >> 20), "asks for {asked} MiB and uses {peak} bytes");
    assert!(in_group(&(asked << 20).to_string()).status.success());
    let mut command = record();
    limit(&mut command, libc::RLIMIT_AS, 200 << 20);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("\ntry: ulimit -v unlimited"), "{}", text(&output));
}

/// A CPU that comes online during a run is covered from its first event on.
pub fn processors() {
    const CPU: &str = "/sys/devices/system/cpu/cpu1/online";
    let file = "/tmp/processors.obs";
    fs::write(CPU, "0").unwrap();
    // After it came online, a load runs on it alone; then it goes and comes back under load.
    let script = format!(
        "sleep 1; echo 1 > {CPU}; taskset 2 $OBSERVER_BIN exercise share; \
         $OBSERVER_BIN exercise fault-truncate --duration 4s & for n in 1 2 3; do \
         sleep 0.3; echo 0 > {CPU}; sleep 0.3; echo 1 > {CPU}; done; wait"
    );
    let args = ["record", "--force", "-o", file, "--", "sh", "-c", &script];
    let output = observer().args(args).output().unwrap();
    fs::write(CPU, "1").unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let report = report(file);
    println!("{} lookups, lost {}", report["counts"]["lookups"], report["loss"]);
    assert_eq!(report["loss"], Value::Array(Vec::new()));
    assert!(report["counts"]["lookups"].as_u64().unwrap() > 1_000);
}

/// A full disk ends the recording; the run, its command and its report go on.
pub fn full_disk() {
    fs::create_dir_all("/tmp/small").unwrap();
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=128k", "none", "/tmp/small"]).status();
    assert!(mounted.unwrap().success());
    let script = "$OBSERVER_BIN exercise fault-truncate --duration 4s && touch /tmp/went-on";
    let args = ["attach", "--record", "/tmp/small/a.obs", "--format", "json", "--", "sh", "-c", script];
    let output = observer().args(args).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("the recording breaks off") && said.contains("No space left"), "{said}");
    assert!(Path::new("/tmp/went-on").exists(), "the command was ended");
    let whole: Value = serde_json::from_slice(&output.stdout).unwrap();
    let part = report("/tmp/small/a.obs");
    let lookups = |report: &Value| report["counts"]["lookups"].as_u64().unwrap();
    println!("{} lookups, {} of them in the recording", lookups(&whole), lookups(&part));
    assert!(lookups(&part) > 0 && lookups(&whole) > lookups(&part));
    assert!(Command::new("umount").arg("/tmp/small").status().unwrap().success());
}

/// A kernel that is locked down refuses with a next step. It stays so until the next boot.
pub fn locked_down() {
    let _ = Command::new("mount").args(["-t", "securityfs", "none", "/sys/kernel/security"]).status();
    fs::write("/sys/kernel/security/lockdown", "confidentiality").unwrap();
    is_refused(&["--duration", "1s"], "locked down (confidentiality)");
    let doctor = observer().arg("doctor").output().unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert_eq!(doctor.status.code(), Some(3), "{said}");
    assert!(said.contains("locked down (confidentiality)\n  try: boot without lockdown"), "{said}");
}

/// Variable with the number of runs that are killed.
const KILLS: &str = "OBSERVER_KILLS";

/// A run that is killed leaves nothing in the kernel, and a recording that can be read and lacks less than a second.
pub fn kills() {
    let before = Loaded::count().unwrap();
    let kills: u64 = std::env::var(KILLS).map_or(6, |n| n.parse().unwrap());
    let load = Load::start("share");
    let (mut recorded, mut worst_ms) = (0, 0);
    let mut random = Random::new(1);
    for n in 0..kills {
        let file = "/tmp/killed.obs";
        let _ = fs::remove_file(file);
        let args: &[&str] = if n % 2 == 0 {
            &["record", "-o", file]
        } else {
            &["attach", "--format", "json", "--record", file]
        };
        let quiet = || Stdio::null();
        let mut run = observer().args(args).stdout(quiet()).stderr(quiet()).spawn().unwrap();
        // Two of three while they record, the others while they load and attach, which takes seconds in an emulator.
        let attaches = random.below(3) == 0;
        wait_for(Duration::from_secs(60), || attaches || Path::new(file).exists());
        std::thread::sleep(Duration::from_millis(random.below(if attaches { 10_000 } else { 3_000 })));
        run.kill().unwrap();
        let killed_ns = monotonic_ns();
        run.wait().unwrap();
        if !Path::new(file).exists() {
            continue;
        }
        recorded += 1;
        let report = report(file);
        let lacks_ms = killed_ns.saturating_sub(report["end_ns"].as_u64().unwrap()) / 1_000_000;
        worst_ms = worst_ms.max(lacks_ms);
    }
    drop(load);
    // The kernel frees programs after a grace period.
    wait_for(Duration::from_secs(20), || Loaded::count().unwrap() == before);
    println!(
        "{kills} killed, {recorded} while they recorded; the worst recording lacks its last {worst_ms} ms"
    );
    assert_eq!(Loaded::count().unwrap(), before);
    assert!(recorded > 0, "vacuous");
    assert!(worst_ms < 1_000);
}

fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid pointer; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
