//! A stock kernel in an emulator, with one command to run. The guest has three serial ports: the command's terminal, the
//! files that it writes below `/out` (they arrive while it runs and survive the guest), and the kernel's log. This module
//! boots the guest and reports what went wrong; the caller interprets the output.

mod initramfs;
mod klog;
mod machine;
mod received;
pub mod terminal;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use guest_init::job::{self, Job};

use crate::{
    build, host,
    setup::{GuestTools, Kernel},
};
use initramfs::Initramfs;

/// Memory in MiB: enough for 32 huge pages on each node and a test binary with symbols.
const MEMORY_MIB: u32 = 2048;
const CPUS: u32 = 2;
const TIMEOUT: Duration = Duration::from_secs(600);
/// Directories that init mounts or fills.
const DIRECTORIES: [&str; 8] = ["bin", "dev", "etc", "proc", "root", "sys", "tmp", "out"];

pub struct Guest {
    kernel: Kernel,
    tools: GuestTools,
    memory_mib: u32,
    cpus: u32,
    counts_instructions: bool,
    /// Arguments for the kernel, after those of every guest.
    append: String,
    files: Vec<(String, PathBuf)>,
    job: Job,
    timeout: Option<Duration>,
    out: Option<PathBuf>,
    echo: Echo,
    until: Option<Until>,
}

/// Returns true when a guest that will not end by itself has done its work.
type Until = Box<dyn Fn() -> bool>;

/// Selects how the command's output is shown while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Echo {
    No,
    Yes,
    /// Whole lines, each prefixed with this label, to distinguish guests that run side by side.
    Labelled(String),
}

/// Outcome of a guest's run.
#[derive(Debug)]
pub struct Outcome {
    /// The command's status, as in a shell; `None` if the guest ended without reporting it.
    pub exit: Option<i32>,
    pub release: Option<String>,
    /// Everything that the command wrote to its terminal.
    pub console: String,
    /// Reasons why the run failed, independent of the command's status.
    pub problems: Vec<String>,
    pub notices: Vec<String>,
    pub seconds: f64,
}

impl Outcome {
    /// An outcome for a run that failed before booting.
    pub fn failed(problem: String) -> Outcome {
        let (console, problems) = (String::new(), vec![problem]);
        Outcome { exit: None, release: None, console, problems, notices: Vec::new(), seconds: 0.0 }
    }

    /// Returns one line about the run, always in the same format, so that it can be searched for.
    pub fn verdict(&self) -> String {
        let release = self.release.as_deref().unwrap_or("unknown");
        let exit = self.exit.map_or("none".into(), |code| code.to_string());
        let verdict = if self.problems.is_empty() { "ok" } else { "failed" };
        format!("guest: {verdict} kernel={release} exit={exit} seconds={:.1}", self.seconds)
    }

    /// Returns the status of the run: the command's, unless the guest itself failed.
    pub fn status(&self) -> i32 {
        match self.exit {
            Some(code) if self.problems.is_empty() => code,
            _ => 1,
        }
    }

    /// Returns verdict, problems and notices, for standard error.
    pub fn report(&self) -> String {
        let lines = |kind: &str, lines: &[String]| -> String {
            lines.iter().map(|line| format!("{kind}: {line}\n")).collect()
        };
        let problems = lines("problem", &self.problems);
        format!("{}{problems}{}", lines("notice", &self.notices), self.verdict())
    }
}

impl Guest {
    pub fn new(kernel: &Kernel, tools: &GuestTools) -> Self {
        Guest {
            kernel: kernel.clone(),
            tools: tools.clone(),
            memory_mib: MEMORY_MIB,
            cpus: CPUS,
            counts_instructions: false,
            append: String::new(),
            files: Vec::new(),
            job: Job::default(),
            timeout: Some(TIMEOUT),
            out: None,
            echo: Echo::No,
            until: None,
        }
    }

    pub fn memory_mib(mut self, memory_mib: u32) -> Self {
        self.memory_mib = memory_mib;
        self
    }

    /// Sets the number of CPUs, split between two nodes and therefore rounded up to an even number.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// Makes a guest with counted instructions: one CPU, on which one tick of the time stamp counter is one instruction. All
    /// clocks of this guest are made from that count, and a sleep of all tasks takes no time on the host.
    pub fn count_instructions(mut self) -> Self {
        self.counts_instructions = true;
        self
    }

    /// Adds arguments to the kernel's command line.
    pub fn append(mut self, arguments: &str) -> Self {
        self.append = arguments.to_owned();
        self
    }

    /// Puts a file of the host into the guest, with the host's mode.
    pub fn file(mut self, path_in_guest: &str, host: &Path) -> Self {
        self.files.push((path_in_guest.to_owned(), host.to_owned()));
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.job.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn command<S: Into<String>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.job.argv = argv.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the time limit; `None`, for interactive use, waits for ever.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the host directory for the files below `/out`.
    pub fn out(mut self, directory: &Path) -> Self {
        self.out = Some(directory.to_owned());
        self
    }

    /// Declares a guest that is expected to hang. `is_over` is called every second, and the guest is killed once it returns
    /// true. A hung task is then not a failure, and neither is an end without the command's status.
    pub fn until(mut self, is_over: impl Fn() -> bool + 'static) -> Self {
        self.until = Some(Box::new(is_over));
        self
    }

    /// Shows the command's output as it arrives.
    pub fn echo(mut self) -> Self {
        self.echo = Echo::Yes;
        self
    }

    /// Shows the output in whole lines, each prefixed with a label.
    pub fn echo_as(mut self, label: &str) -> Self {
        self.echo = Echo::Labelled(label.to_owned());
        self
    }

    /// Boots and runs without a terminal.
    pub fn run(self) -> Result<Outcome> {
        self.boot(None)
    }

    /// Boots with the user's terminal connected to the guest.
    pub fn run_interactive(mut self) -> Result<Outcome> {
        self.job.terminal = Some(terminal::size());
        for name in ["TERM", "COLORTERM", "NO_COLOR"] {
            if let Ok(value) = std::env::var(name) {
                self.job.env.push((name.to_owned(), value));
            }
        }
        self.echo = Echo::Yes;
        let raw = terminal::Raw::enter()?;
        self.boot(Some(raw))
    }

    fn boot(self, raw: Option<terminal::Raw>) -> Result<Outcome> {
        let directory = RunDirectory::create()?;
        let initramfs = directory.path.join("initramfs");
        self.write_initramfs(&initramfs)?;
        let outcome = machine::run(&self, &directory.path, &initramfs, raw.is_some());
        if let (Some(raw), Ok(outcome)) = (&raw, &outcome)
            && outcome.exit.is_none()
        {
            raw.reset_screen();
        }
        drop(raw);
        let mut outcome = outcome?;
        if outcome.problems.is_empty() {
            directory.remove();
        } else {
            let kept = directory.path.join(machine::KERNEL_LOG);
            outcome.problems.push(format!("the kernel's log is in {}", kept.display()));
            fs::remove_file(initramfs).ok();
        }
        Ok(outcome)
    }

    fn write_initramfs(&self, path: &Path) -> Result<()> {
        let mut archive = Initramfs::create(path)?;
        for directory in DIRECTORIES {
            archive.directory(directory).context("cannot write the initramfs")?;
        }
        archive.copy("/init", 0o755, &build::static_binary("guest-init", &[])?)?;
        archive.copy("/bin/busybox", 0o755, &self.tools.busybox)?;
        archive.symlink("/bin/sh", "busybox").context("cannot write the initramfs")?;
        archive.file(job::PATH, 0o644, &self.job.to_bytes()).context("cannot write the initramfs")?;
        for (path, host) in &self.files {
            archive.copy(path, mode_of(host)?, host)?;
        }
        archive.finish().context("cannot write the initramfs")?;
        Ok(())
    }
}

fn mode_of(path: &Path) -> Result<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(metadata.permissions().mode() & 0o7777)
}

/// The host's directory of a run. If the run failed, it stays until later runs remove it.
struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    fn create() -> Result<Self> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let parent = host::target_dir()?.join("guest");
        remove_orphans(&parent);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{}-{run}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(RunDirectory { path })
    }

    fn remove(self) {
        fs::remove_dir_all(self.path).ok();
    }
}

/// Removes the directories of processes that have ended, except the newest few, which somebody may be reading.
fn remove_orphans(parent: &Path) {
    const KEPT: usize = 5;
    let mut orphans: Vec<_> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.split('-').next()?.parse::<u32>().ok());
            pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        })
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    orphans.sort();
    orphans.truncate(orphans.len().saturating_sub(KEPT));
    for (_, path) in orphans {
        fs::remove_dir_all(path).ok();
    }
}
