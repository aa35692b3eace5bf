//! Runs one scenario in its own process, and removes that process at its end, at its time limit, or on Ctrl-C. A scenario may
//! be killed by what it does (a poisoned page) or hang in the kernel (a real deadlock); both are results here. This file does
//! not know what a scenario does.

use std::fs;
use std::io::{PipeReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libc::{c_int, pid_t};

use super::outcome::{Outcome, Result};
use super::process;
use super::sys::{self, check};
use super::touch;

/// Time limit for killed tasks to disappear. Freeing a GiB of huge pages takes far less, even under emulation.
const DEATH_LIMIT: Duration = Duration::from_secs(5);
/// Interval of the check for a signal that arrived just before the wait began.
const TICK: Duration = Duration::from_millis(100);

/// End of a supervised scenario.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    Outcome(Outcome),
    /// Ctrl-C or SIGTERM stopped everything.
    Interrupted,
    /// Tasks that SIGKILL does not end, each with the place where it is stuck.
    Hung(Vec<String>),
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_interrupt(_: c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Guard under which Ctrl-C and SIGTERM request an orderly end, and this process reaps a scenario's orphans.
pub struct Signals {
    before: Vec<(c_int, libc::sigaction)>,
}

impl Signals {
    pub fn take_over() -> sys::Result<Signals> {
        INTERRUPTED.store(false, Ordering::Relaxed);
        // SAFETY: PR_SET_CHILD_SUBREAPER takes a flag.
        let returned = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
        check(returned.into(), || "prctl(PR_SET_CHILD_SUBREAPER)".into())?;
        let mut before = Vec::new();
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            before.push((signal, set_action(signal, on_interrupt as *const () as usize)?));
        }
        Ok(Signals { before })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for (signal, action) in &self.before {
            // SAFETY: the action that sigaction returned for this signal.
            unsafe { libc::sigaction(*signal, action, std::ptr::null_mut()) };
        }
    }
}

fn set_action(signal: c_int, handler: usize) -> sys::Result<libc::sigaction> {
    // SAFETY: all zeros is a valid sigaction; no SA_RESTART, so a signal ends a wait.
    let (mut action, mut before): (libc::sigaction, libc::sigaction) = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    // SAFETY: the handler only stores to an atomic; both structures live over the call.
    let returned = unsafe { libc::sigaction(signal, &action, &mut before) };
    check(returned.into(), || format!("sigaction of signal {signal}"))?;
    Ok(before)
}

/// Runs `body` in a new process group. Returns when nothing of it is left, or when it cannot be ended.
///
/// The calling process must have one thread; see [`process::Child::fork`].
pub fn supervise(limit: Duration, body: impl FnOnce() -> Result<String>) -> sys::Result<Ending> {
    let (mut reader, mut writer) = std::io::pipe().map_err(|source| sys::Error::new("pipe", source))?;
    let child = process::Child::fork("main", || {
        let begin = || {
            // SAFETY: makes this process the leader of a new group, in which its children stay.
            check(unsafe { libc::setpgid(0, 0) }.into(), || "setpgid".into())?;
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                set_action(signal, libc::SIG_DFL)?;
            }
            touch::install()
        };
        let result = begin().map_err(Into::into).and_then(|()| body());
        i32::from(writer.write_all(&Outcome::from(result).to_bytes()).is_err())
    })?;
    drop(writer);
    let group = child.pid();
    // SAFETY: as in the child; the first call does it, and the second changes nothing.
    unsafe { libc::setpgid(group, group) };

    let in_time = wait_for_end(group, Instant::now() + limit)?;
    let stuck = if in_time { Vec::new() } else { stuck_tasks(group) };
    // SAFETY: the group is ours and its leader is not reaped yet.
    unsafe { libc::kill(-group, libc::SIGKILL) };
    let gone = reap_group(group, Instant::now() + DEATH_LIMIT);
    std::mem::forget(child); // reaped with its group, or beyond reaping

    if !gone {
        let stuck = stuck_tasks(group);
        return Ok(Ending::Hung(if stuck.is_empty() {
            vec![format!("process group {group}")]
        } else {
            stuck
        }));
    }
    if interrupted() {
        return Ok(Ending::Interrupted);
    }
    Ok(Ending::Outcome(match last_words(&mut reader) {
        Some(outcome) => outcome,
        None if in_time => Outcome::Failed("the scenario's main task was killed".into()),
        None => {
            let stuck: String = stuck.iter().map(|task| format!("; {task}")).collect();
            Outcome::Failed(format!("no end after {} ms{stuck}", limit.as_millis()))
        }
    }))
}

/// Returns true when the main task ended, false at the limit or when interrupted.
fn wait_for_end(pid: pid_t, deadline: Instant) -> sys::Result<bool> {
    // SAFETY: our own child, not yet reaped.
    let handle =
        sys::owned_fd(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }, || "pidfd_open".into())?;
    while !interrupted() {
        let left = deadline.saturating_duration_since(Instant::now());
        if readable(&handle, left.min(TICK)) {
            return Ok(true);
        }
        if left.is_zero() {
            break;
        }
    }
    Ok(false)
}

fn readable(handle: &OwnedFd, wait: Duration) -> bool {
    let mut entry = libc::pollfd { fd: handle.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid entry; an interrupted call counts as nothing readable.
    unsafe { libc::poll(&mut entry, 1, wait.as_millis() as c_int) == 1 }
}

/// Reaps all our children in the group, orphans included. Returns false if some do not die.
fn reap_group(group: pid_t, deadline: Instant) -> bool {
    loop {
        // SAFETY: only our children in this group; the status is not needed.
        match unsafe { libc::waitpid(-group, std::ptr::null_mut(), libc::WNOHANG) } {
            -1 => return true,
            0 if Instant::now() > deadline => return false,
            0 => std::thread::sleep(Duration::from_millis(5)),
            _ => {}
        }
    }
}

/// Returns the main task's outcome, if it was sent. All writers are dead, so this does not block.
fn last_words(reader: &mut PipeReader) -> Option<Outcome> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).ok()?;
    Outcome::from_bytes(&bytes)
}

/// Lists the group's tasks in uninterruptible sleep, with the kernel functions that they sleep in.
fn stuck_tasks(group: pid_t) -> Vec<String> {
    let numbers = |folder: &str| -> Vec<pid_t> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    };
    let mut stuck = Vec::new();
    for pid in numbers("/proc") {
        for task in numbers(&format!("/proc/{pid}/task")) {
            let folder = format!("/proc/{pid}/task/{task}");
            if let Some(stat) =
                sys::read_text(format!("{folder}/stat")).ok().and_then(|text| Stat::parse(&text))
                && stat.group == group
                && stat.state == 'D'
            {
                let stack = sys::read_text(format!("{folder}/stack")).unwrap_or_default();
                stuck.push(format!("{} ({task}) sleeps in {}", stat.name, innermost(&stack)));
            }
        }
    }
    stuck
}

/// Returns the functions of /proc/PID/stack, innermost first, without addresses.
fn innermost(stack: &str) -> String {
    const FRAMES: usize = 6;
    let frames = stack.lines().filter_map(|line| line.split_whitespace().nth(1)?.split('+').next());
    let frames: Vec<&str> = frames.take(FRAMES).collect();
    if frames.is_empty() { "the kernel, where is not shown; try: as root".into() } else { frames.join(" < ") }
}

struct Stat {
    name: String,
    state: char,
    group: pid_t,
}

impl Stat {
    /// Parses `/proc/PID/stat`. The name is in parentheses and may itself contain any character.
    fn parse(text: &str) -> Option<Stat> {
        let (head, tail) = text.rsplit_once(')')?;
        let mut fields = tail.split_whitespace();
        Some(Stat {
            name: head.split_once('(')?.1.to_string(),
            state: fields.next()?.chars().next()?,
            group: fields.nth(1)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Stop;
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn failed(ending: Ending) -> String {
        match ending {
            Ending::Outcome(Outcome::Failed(text)) => text,
            other => panic!("not a failure: {other:?}"),
        }
    }

    #[test]
    fn the_output_of_a_scenario_arrives() {
        let done = supervise(LONG, || Ok("8 pages".into())).unwrap();
        assert_eq!(done, Ending::Outcome(Outcome::Done("8 pages".into())));
        let skipped = supervise(LONG, || Err(Stop::Skip("one node".into()))).unwrap();
        assert_eq!(skipped, Ending::Outcome(Outcome::Skipped("one node".into())));
    }

    #[test]
    fn a_killed_scenario_is_a_failure_and_leaves_no_process() {
        let ending = supervise(LONG, || {
            let sleeper = process::Child::fork("sleeper", || {
                std::thread::sleep(LONG);
                0
            })?;
            std::mem::forget(sleeper);
            // SAFETY: kills only this process.
            unsafe { libc::raise(libc::SIGKILL) };
            Ok(String::new())
        });
        assert_eq!(failed(ending.unwrap()), "the scenario's main task was killed");
    }

    #[test]
    fn the_time_limit_ends_a_scenario() {
        let begin = Instant::now();
        let ending = supervise(Duration::from_millis(200), || {
            std::thread::sleep(LONG);
            Ok(String::new())
        });
        assert!(failed(ending.unwrap()).starts_with("no end after 200 ms"));
        assert!(begin.elapsed() < LONG);
    }

    #[test]
    fn a_task_name_may_hold_parentheses() {
        let stat = Stat::parse("17 (a) b) D 1 42 42 0").unwrap();
        assert_eq!((stat.name.as_str(), stat.state, stat.group), ("a) b", 'D', 42));
    }

    #[test]
    fn stacks_are_shortened() {
        let stack = "[<0>] folio_wait_bit_common+0x13d/0x350\n[<0>] hugetlb_fault+0x1/0x2\n";
        assert_eq!(innermost(stack), "folio_wait_bit_common < hugetlb_fault");
    }
}
