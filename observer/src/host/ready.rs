//! Checks before anything is attached.
//!
//! Decides which runs would show nothing, or could not be finished: they are refused at once, with the next step, and nothing is left
//! behind. The plan decides about single functions; here is what concerns the whole machine and the command line.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::{
    hint::Hint as _,
    host::{attach, probe},
};

/// The switch of function tracing (`kernel.ftrace_enabled`). While it is 0, programs attach and are never called.
pub const FTRACE_ENABLED: &str = "/proc/sys/kernel/ftrace_enabled";
/// Inode number of the initial pid namespace (include/linux/proc_ns.h, `PROC_PID_INIT_INO`).
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";
/// Open files that a run needs at most: some for each program and each CPU.
const OPEN_FILES: u64 = 1024;
/// Bytes that a run needs beside its rings: the kernel's types and symbols, the programs and their maps, the engine's state
/// (measured on 6.12 with 2 CPUs: 186 MiB at most, rings included).
const MEMORY: u64 = 192 << 20;
/// Bytes of addresses that a run maps beside its memory: threads' stacks and arenas.
const ADDRESSES: u64 = 128 << 20;

/// Returns false if function tracing is switched off; a kernel without the switch traces.
#[must_use]
pub fn is_tracing_enabled() -> bool {
    fs::read_to_string(FTRACE_ENABLED).map_or(true, |text| text.trim() != "0")
}

/// Next step where function tracing is off.
pub const SWITCH_ON: &str = "sysctl kernel.ftrace_enabled=1";

/// Checks that function tracing is on.
///
/// # Errors
/// It is off.
pub fn check_tracing() -> anyhow::Result<()> {
    match is_tracing_enabled() {
        true => Ok(()),
        false => {
            Err(anyhow::anyhow!("kernel.ftrace_enabled is 0: programs would attach, and never be called"))
        }
    }
}

/// Checks the machine.
///
/// # Errors
/// Function tracing is off, or this process may open too few files or use too little memory.
pub fn check_host() -> anyhow::Result<()> {
    check_tracing().hint(SWITCH_ON)?;
    check_memory()?;
    if raise_open_files() < OPEN_FILES {
        return Err(anyhow::anyhow!("fewer than {OPEN_FILES} files may be open: each program needs some"))
            .hint(format!("ulimit -n {OPEN_FILES}"));
    }
    Ok(())
}

/// Checks that this process may use as much memory as a run needs: killed by the kernel, it could not say why.
fn check_memory() -> anyhow::Result<()> {
    let cpus = probe::present_cpus()?.len() as u64;
    let needed = MEMORY + cpus * u64::from(attach::RING_BYTES);
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // A ring is mapped twice, one after the other.
    let mapped = needed + cpus * u64::from(attach::RING_BYTES) + ADDRESSES;
    // SAFETY: a valid pointer.
    if unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) } == 0 && limit.rlim_cur < mapped {
        let (has, needs) = (mib(limit.rlim_cur), mib(mapped));
        return Err(anyhow::anyhow!("addresses are limited to {has} MiB, and a run maps {needs} MiB"))
            .hint("ulimit -v unlimited");
    }
    if let Some((path, bytes)) = memory_limit().filter(|(_, bytes)| *bytes < needed) {
        let (has, needs) = (mib(bytes), mib(needed));
        return Err(anyhow::anyhow!("{} allows {has} MiB, and a run needs {needs} MiB", path.display()))
            .hint(format!("a limit of at least {needs} MiB, or another cgroup"));
    }
    Ok(())
}

/// The lowest memory limit of the cgroups that this process is in, and its file; `None` if there is not one.
fn memory_limit() -> Option<(PathBuf, u64)> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = groups.lines().flat_map(|line| {
        // Version 2 has an empty list of controllers; version 1 has its own hierarchy for memory.
        let (root, file, path) = match line.splitn(3, ':').collect::<Vec<_>>()[..] {
            [_, "", path] => ("/sys/fs/cgroup", "memory.max", path),
            [_, kinds, path] if kinds.split(',').any(|kind| kind == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", path)
            }
            _ => return Vec::new(),
        };
        let group = Path::new(root).join(path.trim_start_matches('/'));
        let files = group.ancestors().take_while(|dir| dir.starts_with(root)).map(|dir| dir.join(file));
        files.filter_map(|file| Some((fs::read_to_string(&file).ok()?.trim().parse().ok()?, file))).collect()
    });
    limits.min_by_key(|(bytes, _): &(u64, _)| *bytes).map(|(bytes, file)| (file, bytes))
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
