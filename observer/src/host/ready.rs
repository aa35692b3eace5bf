//! Checks before anything is attached.
//!
//! Decides which runs would show nothing, or could not be finished: they are refused at once, with the next step, and nothing is left
//! behind. The plan decides about single functions; here is what concerns the whole machine and the command line.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use crate::hint::Hint as _;

/// The switch of function tracing (`kernel.ftrace_enabled`). While it is 0, programs attach and are never called.
pub const FTRACE_ENABLED: &str = "/proc/sys/kernel/ftrace_enabled";
/// Inode number of the initial pid namespace (include/linux/proc_ns.h, `PROC_PID_INIT_INO`).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";
/// Open files that a run needs at most: some for each program and each CPU.
const OPEN_FILES: u64 = 1024;

/// Returns false if function tracing is switched off; a kernel without the switch traces.
#[must_use]
pub fn is_tracing_enabled() -> bool {
    fs::read_to_string(FTRACE_ENABLED).map_or(true, |text| text.trim() != "0")
}

/// Checks the machine.
///
/// # Errors
/// Function tracing is off, or this process may open too few files.
pub fn check_host() -> anyhow::Result<()> {
    if !is_tracing_enabled() {
        return Err(anyhow::anyhow!(
            "kernel.ftrace_enabled is 0: programs would attach, and never be called"
        ))
        .hint("sysctl kernel.ftrace_enabled=1");
    }
    if raise_open_files() < OPEN_FILES {
        return Err(anyhow::anyhow!("fewer than {OPEN_FILES} files may be open: each program needs some"))
            .hint(format!("ulimit -n {OPEN_FILES}"));
    }
    Ok(())
}

/// Raises the limit of open files as far as this process may, and returns it.
fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid pointer.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return u64::MAX;
    }
    let wanted = limit.rlim_max.min(OPEN_FILES.max(limit.rlim_cur));
    let raised = libc::rlimit { rlim_cur: wanted, ..limit };
    // SAFETY: a valid pointer.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
        wanted
    } else {
        limit.rlim_cur
    }
}

/// Checks the process to watch. Programs see process ids of the initial namespace.
///
/// # Errors
/// The process does not exist, or it has another number for the programs.
pub fn check_pid(pid: u32) -> anyhow::Result<()> {
    let namespace = fs::read_link("/proc/self/ns/pid");
    if namespace.is_ok_and(|link| link != Path::new(FIRST_PID_NAMESPACE)) {
        return Err(anyhow::anyhow!(
            "--pid {pid} is a number of this pid namespace, and programs see those of the host"
        ))
        .hint("observer on the host, or in a container with its pid namespace (--pid=host)");
    }
    if !Path::new("/proc").join(pid.to_string()).exists() {
        return Err(anyhow::anyhow!("process {pid} does not exist"))
            .hint("the id of a process that runs: pgrep NAME");
    }
    Ok(())
}

/// Checks that the command after `--` can be executed.
///
/// # Errors
/// The program does not exist.
pub fn check_command(command: &[String]) -> anyhow::Result<()> {
    let Some(program) = command.first() else { return Ok(()) };
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let found = if program.contains('/') {
        is_program(Path::new(program))
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| is_program(&folder.join(program)))
    };
    if found {
        return Ok(());
    }
    let missing = io::Error::from(io::ErrorKind::NotFound);
    Err(anyhow::Error::new(missing).context(format!("start {program}")))
        .hint("the command after --, as a shell would find it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_as_a_shell_finds_them() {
        let of = |words: &[&str]| {
            check_command(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()).is_ok()
        };
        assert!(of(&[]) && of(&["sh", "-c", "no such thing"]) && of(&["/bin/sh"]));
        assert!(!of(&["no-such-program-anywhere"]) && !of(&["/etc/passwd"]) && !of(&["/"]));
    }

    #[test]
    fn a_process_has_to_be_there() {
        let is_initial = fs::read_link("/proc/self/ns/pid").unwrap() == Path::new(FIRST_PID_NAMESPACE);
        assert_eq!(check_pid(std::process::id()).is_ok(), is_initial);
        assert!(check_pid(u32::MAX).is_err());
    }
}
