//! A watcher: a tracer that runs beside the measurements. It starts a command when it watches, and ends when that command does.
//! Observer, bpftrace, perf and trace-cmd can do that, so that another tracer needs nothing here.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Command of a watcher: it reports that it was started, and waits for the end of the measurements.
const LATCH: &str = "/tmp/latch";
const READY: &str = "/tmp/ready";
const END: &str = "/tmp/end";
const SCRIPT: &str = "#!/bin/sh\n: > /tmp/ready\nread _ < /tmp/end\n";

/// Time for a watcher to attach, in the guest's time: attaching takes some 5 s.
const START_MAX: Duration = Duration::from_secs(120);
/// Pause after the start and after the end, so that what they leave to the kernel's own tasks is done.
const SETTLE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);

pub struct Watcher {
    name: String,
    process: Child,
}

impl Watcher {
    /// Starts a watcher and returns when it watches. Its output goes to files below `/out`.
    pub fn start(name: &str, command: &str) -> io::Result<Watcher> {
        fs::remove_file(READY).ok();
        if !Path::new(END).exists() {
            crate::sys::make_fifo(c"/tmp/end")?;
            fs::write(LATCH, SCRIPT)?;
            fs::set_permissions(LATCH, fs::Permissions::from_mode(0o755))?;
        }
        let mut words = command.split_whitespace();
        let program = words.next().ok_or_else(|| io::Error::other(format!("{name} has no command")))?;
        let output = |kind: &str| File::create(format!("/out/{name}.{kind}"));
        let process = Command::new(program)
            .args(words)
            .arg(LATCH)
            .stdin(Stdio::null())
            .stdout(output("out")?)
            .stderr(output("err")?)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("cannot run {program}: {error}")))?;
        let mut watcher = Watcher { name: name.to_owned(), process };
        let begun = Instant::now();
        while !Path::new(READY).exists() {
            if let Some(status) = watcher.process.try_wait()? {
                return Err(watcher.failed(&format!("ended early: {status}")));
            }
            if begun.elapsed() > START_MAX {
                return Err(watcher.failed("did not start to watch in time"));
            }
            thread::sleep(POLL);
        }
        thread::sleep(SETTLE);
        Ok(watcher)
    }

    /// Ends the watcher. Its exit status is not looked at: observer's says what it found.
    pub fn end(mut self) -> io::Result<()> {
        // Not blocking: without the reader, this is an error and not a wait.
        let mut end = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(END);
        match &mut end {
            Ok(end) => end.write_all(b"\n")?,
            Err(error) => return Err(self.failed(&format!("ended during the measurements: {error}"))),
        }
        drop(end);
        self.process.wait()?;
        thread::sleep(SETTLE);
        Ok(())
    }

    fn failed(&self, what: &str) -> io::Error {
        let said = fs::read_to_string(format!("/out/{}.err", self.name)).unwrap_or_default();
        io::Error::other(format!("{} {what}: {}", self.name, said.trim()))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
