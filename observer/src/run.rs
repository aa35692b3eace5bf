//! The run: one pipeline, for any source.
//!
//! Decides when a run ends: the source ends, a signal arrives, the duration is over, the command after `--` ends, or the
//! person quits. Decides which part gets each pass: the recorder first, then the pipeline, then the watchers. [`pipeline`]
//! decides what a pass means. Live and replay differ only in the source; [`player`] moves through a recording that is shown
//! on a dashboard.

pub mod pipeline;
pub mod player;

use std::{
    pin::Pin,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokio::{
    process::{Child, Command as Process},
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};

use self::pipeline::Pipeline;
use crate::{
    hint::Hint,
    host::privileges::{self, Capability},
    meta::{End, Meta, Notice},
    recording::{InMemory, Writer},
    report::Report,
    sink::line::{Lines, Progress},
    snapshot::{Command, Position, Snapshot},
    source::{Pass, Source},
};

/// Shortest time between new lines.
const LINES: Duration = Duration::from_millis(100);
/// Shortest time between two snapshots: 30 a second, with the timer's millisecond.
const FRAME: Duration = Duration::from_millis(32);
/// Snapshots take at most one part in this number of the time.
const SNAPSHOT_SHARE: u32 = 10;
/// Interval at which a source that always has data lets the runtime check for signals.
const YIELD: Duration = Duration::from_millis(10);

/// Longest time that a command may take to end after it was asked to.
const CHILD_GRACE: Duration = Duration::from_secs(2);

/// Channels to the dashboard.
pub struct Dashboard {
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    pub commands: mpsc::Receiver<Command>,
}

/// Options of a run.
#[derive(Default)]
pub struct Options {
    pub recorder: Option<Writer>,
    /// Recorder of the last moments in memory, for lookups.
    pub keep: Option<InMemory>,
    pub duration: Option<Duration>,
    /// The command after `--`; empty: none.
    pub command: Vec<String>,
    /// True if standard output is reserved for the report: the command's output then goes to standard error.
    pub stdout_is_taken: bool,
    pub dashboard: Option<Dashboard>,
    pub lines: Option<Lines>,
    /// Capabilities that the process keeps once the command was started; `None`: all that it has.
    pub privileges: Option<Vec<Capability>>,
    /// True if a signal ends the process at once, as without observer's care: a recording leaves nothing to save.
    pub dies_of_signals: bool,
}

/// Outcome of a run.
pub struct Outcome {
    pub report: Report,
    /// Exit code of the command if the run ended with it; 128 and the signal if it was killed.
    pub command: Option<i32>,
}

/// Runs a source to its end.
///
/// # Errors
/// The source or the recorder fails, the setup is of a later version, or the command cannot be started.
pub async fn run(source: &mut impl Source, mut options: Options) -> anyhow::Result<Outcome> {
    let meta = Arc::new(source.meta().clone());
    let mut pipeline = Pipeline::new(&meta)?;
    let mut stops = Stops::new(&mut options)?;
    let now = Instant::now();
    let mut looked = Looked { due: now, news: true, yielded: now, notices: Vec::new() };
    let mut end = None;
    loop {
        let look = looked.look(&meta, &pipeline, &mut options, &stops).await?;
        let step = tokio::select! {
            biased;
            stop = stops.next(), if end.is_none() => stop,
            pass = source.next() => match pass? {
                Some(pass) => Step::Pass(pass),
                None => break,
            },
            () = sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => Step::Look,
        };
        match step {
            Step::Look => {}
            Step::Pass(pass) => {
                if let Some(recorder) = &mut options.recorder
                    && let Err(why) = recorder.pass(&pass)
                {
                    options.recorder = None;
                    looked.notices.push(broken_off(why)?);
                }
                looked.notices.extend(keep(&mut options.keep, &pass));
                pipeline.pass(&pass);
            }
            Step::Command(Command::Tail(filter)) => pipeline.keep_tail(filter),
            // A kernel cannot be paused.
            Step::Command(_) => {}
            Step::End(why) => {
                end = Some(why);
                source.stop();
            }
        }
        looked.news = true;
    }
    let end = end.unwrap_or(End::Source);
    let closing = source.closing(end.clone())?;
    if let Some(recorder) = options.recorder.take()
        && let Err(why) = recorder.finish(closing.as_ref())
    {
        looked.notices.push(broken_off(why)?);
    }
    if let Some(kept) = options.keep.take()
        && let Err(why) = kept.finish(closing.as_ref())
    {
        looked.notices.push(not_kept(&why));
    }
    let notices = source.notices().into_iter().chain(looked.notices).collect();
    let report = pipeline.finish(source.meta(), closing, notices);
    if let Some(lines) = &mut options.lines {
        quietly(lines.findings(&report.findings))?;
    }
    if let Some(dashboard) = &stops.dashboard {
        dashboard.snapshots.send_replace(Arc::new(pipeline::last_snapshot(&report, Position::Live)));
    }
    if !matches!(end, End::Quit | End::Interrupted) {
        stops.quit().await;
    }
    if let Some(left) = stops.end_child().await? {
        eprintln!("observer: {left}");
    }
    let command = if let End::Command(code) = end { Some(code) } else { None };
    Ok(Outcome { report, command })
}

/// Adds a pass to the in-memory recording. If that fails, the run continues without it.
fn keep(kept: &mut Option<InMemory>, pass: &Pass) -> Option<Notice> {
    let why = kept.as_mut()?.pass(pass).err()?;
    *kept = None;
    Some(not_kept(&why))
}

fn not_kept(why: &anyhow::Error) -> Notice {
    Notice::remark(format!("no more is kept to look back at: {why:#}"))
}

/// Says that the recording could not be continued, as on a full disk. The run continues: it still ends in a report, and its command is
/// not disturbed. A reader that closes its pipe ends the run.
fn broken_off(why: anyhow::Error) -> anyhow::Result<Notice> {
    let mut causes = why.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    if causes.any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe) {
        return Err(why.context("write recording"));
    }
    let text = format!("the recording breaks off, and only this report is of the whole run: {why:#}");
    eprintln!("observer: {text}");
    Ok(Notice::partial(text))
}

enum Step {
    /// The watchers are due.
    Look,
    Pass(Pass),
    Command(Command),
    End(End),
}

/// Everything except the source that can end a run.
struct Stops {
    /// SIGINT and SIGTERM, unless the process dies of them.
    signals: Option<[Signal; 2]>,
    deadline: Option<Pin<Box<Sleep>>>,
    child: Option<Child>,
    dashboard: Option<Dashboard>,
}

impl Stops {
    fn new(options: &mut Options) -> anyhow::Result<Stops> {
        let watch_for = |kind, name| signal(kind).with_context(|| format!("watch for {name}"));
        let dashboard = options.dashboard.take();
        let child = start(&options.command, dashboard.is_some(), options.stdout_is_taken)?;
        if let Some(keep) = &options.privileges
            && let Err(why) = privileges::drop_all_but(keep)
        {
            eprintln!("observer: privileges are kept that are not needed any more: {why}");
        }
        Ok(Stops {
            signals: match options.dies_of_signals {
                true => None,
                false => Some([
                    watch_for(SignalKind::interrupt(), "SIGINT")?,
                    watch_for(SignalKind::terminate(), "SIGTERM")?,
                ]),
            },
            deadline: options.duration.map(|d| Box::pin(sleep(d))),
            child,
            dashboard,
        })
    }

    async fn next(&mut self) -> Step {
        tokio::select! {
            () = signalled(&mut self.signals) => Step::End(End::Interrupted),
            () = async { if let Some(d) = &mut self.deadline { d.await } else { std::future::pending().await } } => {
                Step::End(End::Duration)
            }
            code = wait(&mut self.child) => Step::End(End::Command(code)),
            command = command(&mut self.dashboard) => match command {
                Some(Command::Quit) | None => Step::End(End::Quit),
                Some(other) => Step::Command(other),
            },
        }
    }

    /// Waits until the person leaves the dashboard.
    async fn quit(&mut self) {
        while self.dashboard.is_some() {
            tokio::select! {
                () = signalled(&mut self.signals) => return,
                command = command(&mut self.dashboard) => {
                    if matches!(command, Some(Command::Quit) | None) {
                        return;
                    }
                }
            }
        }
    }

    /// Requests that the command ends, if it is still running, and kills it if it does not. Returns a remark if it is left behind: a
    /// task that waits in the kernel, as in a deadlock, does not die.
    async fn end_child(&mut self) -> anyhow::Result<Option<String>> {
        // A child without an id has been waited for already.
        if let Some(child) = &mut self.child
            && let Some(pid) = child.id()
        {
            // SAFETY: the child was not waited for, so the process id is still its own.
            unsafe { libc::kill(pid as libc::pid_t, libc::SIGTERM) };
            if timeout(CHILD_GRACE, child.wait()).await.is_err() {
                child.start_kill().context("kill the command")?;
            }
            match timeout(CHILD_GRACE, child.wait()).await {
                Ok(ended) => drop(ended.context("wait for the command")?),
                Err(_) => {
                    return Ok(Some(format!(
                        "process {pid}, the command, does not end when it is killed: it is left behind"
                    )));
                }
            }
        }
        Ok(None)
    }
}

/// Waits for a signal.
async fn signalled(signals: &mut Option<[Signal; 2]>) {
    let Some([interrupt, terminate]) = signals else { return std::future::pending().await };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Starts the command. `mute`: without input and output, because the dashboard owns the terminal.
fn start(command: &[String], mute: bool, stdout_is_taken: bool) -> anyhow::Result<Option<Child>> {
    let Some((program, args)) = command.split_first() else { return Ok(None) };
    let mut process = Process::new(program);
    process.args(args).kill_on_drop(true);
    as_invoking_user(&mut process);
    if mute {
        process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    } else if stdout_is_taken {
        process.stdout(std::io::stderr());
    }
    let child = process.spawn().with_context(|| format!("start {program}"));
    child.hint("the command after --, as a shell would find it").map(Some)
}

/// Lets the command run as the user who ran `sudo`, and end with observer.
fn as_invoking_user(process: &mut Process) {
    let id = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    // SAFETY: no argument.
    let is_root = unsafe { libc::geteuid() } == 0;
    let user = if is_root { id("SUDO_UID").zip(id("SUDO_GID")) } else { None };
    let name = std::env::var("SUDO_USER").ok().and_then(|name| std::ffi::CString::new(name).ok());
    // SAFETY: system calls between fork and exec; `initgroups` reads files, as it does in every login.
    unsafe {
        process.pre_exec(move || {
            let check = |code: libc::c_int| {
                if code < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            };
            if let Some((uid, gid)) = user {
                match &name {
                    Some(name) => check(libc::initgroups(name.as_ptr(), gid))?,
                    None => check(libc::setgroups(0, std::ptr::null()))?,
                }
                check(libc::setgid(gid))?;
                check(libc::setuid(uid))?;
            }
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM))
        });
    }
}

async fn wait(child: &mut Option<Child>) -> i32 {
    match child {
        Some(child) => child.wait().await.map_or(1, code),
        None => std::future::pending().await,
    }
}

async fn command(dashboard: &mut Option<Dashboard>) -> Option<Command> {
    match dashboard {
        Some(dashboard) => dashboard.commands.recv().await,
        None => std::future::pending().await,
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Ignores a broken pipe: the run has other readers.
fn quietly(written: std::io::Result<()>) -> std::io::Result<()> {
    written.or_else(|e| if e.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) })
}

/// Time until the next snapshot, if the last one took this time.
fn after_snapshot(took: Duration) -> Duration {
    FRAME.max(took * SNAPSHOT_SHARE)
}

/// State of serving the watchers.
struct Looked {
    due: Instant,
    /// Set if something happened since they were served last.
    news: bool,
    yielded: Instant,
    /// Failures that did not end the run.
    notices: Vec<Notice>,
}

impl Looked {
    /// Serves the watchers if it is time; else returns when it will be, if there is news for them.
    async fn look(
        &mut self,
        meta: &Arc<Meta>,
        pipeline: &Pipeline,
        options: &mut Options,
        stops: &Stops,
    ) -> anyhow::Result<Option<Instant>> {
        if self.yielded.elapsed() >= YIELD {
            tokio::task::yield_now().await;
            self.yielded = Instant::now();
        }
        let now = Instant::now();
        if self.due > now {
            return Ok(self.news.then_some(self.due));
        }
        if !std::mem::replace(&mut self.news, false) {
            return Ok(None);
        }
        self.due = now + LINES;
        if let Some(dashboard) = &stops.dashboard {
            let mut snapshot = pipeline.snapshot(meta, Position::Live);
            snapshot.notices.extend(self.notices.iter().map(ToString::to_string));
            dashboard.snapshots.send_replace(Arc::new(snapshot));
            self.due = now + after_snapshot(now.elapsed());
        }
        if let Some(lines) = &mut options.lines {
            let findings = pipeline.findings();
            let stats = pipeline.stats();
            let progress = Progress {
                events: stats.events,
                lost: pipeline.lost(),
                shares: stats.shares,
                unshares: stats.unlinks_exact + stats.unlinks_diff - stats.unlinks_both,
                findings: findings.len(),
            };
            quietly(lines.findings(&findings))?;
            quietly(lines.progress(pipeline.now_ns(), progress))?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
