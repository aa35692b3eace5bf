//! The emulator process: its arguments, its ports, and the supervision until it ends or must be killed.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{Echo, Guest, Outcome, klog, received::Received};

pub const KERNEL_LOG: &str = "kernel.log";
const FRAMES: &str = "frames";
const POLL: Duration = Duration::from_millis(50);
/// Time limit for booting. An emulated kernel boots within 15 s; a loaded machine gets a multiple of that.
const BOOT_MAX: Duration = Duration::from_secs(120);
/// Time that the guest may continue after the kernel's first complaint, to see what follows.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// Interval of the check for a guest that is to be killed from outside.
const LOOK: Duration = Duration::from_secs(1);
const LAST_LINES: usize = 15;

pub fn run(guest: &Guest, directory: &Path, initramfs: &Path, interactive: bool) -> Result<Outcome> {
    let begun = Instant::now();
    let frames = directory.join(FRAMES);
    let kernel_log = directory.join(KERNEL_LOG);
    for file in [&frames, &kernel_log] {
        File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let out = guest.out.clone().unwrap_or_else(|| directory.join("out"));
    let mut received = Received::new(&frames, &out)?;
    let mut log = Log::open(&kernel_log)?;

    let mut command = command(guest, initramfs, &frames, &kernel_log);
    let stdin = if interactive { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut machine = Machine(command.spawn().context("cannot run QEMU")?);
    let console = pump(&mut machine.0, guest.echo.clone());

    let mut problems = Vec::new();
    let mut looked = Instant::now();
    let mut is_over = || {
        let due = looked.elapsed() >= LOOK;
        if due {
            looked = Instant::now();
        }
        due && guest.until.as_ref().is_some_and(|until| until())
    };
    let mut killed = false;
    let ended = loop {
        // Check the state first: everything written before the end is then read below.
        let ended = machine.0.try_wait().context("cannot wait for QEMU")?;
        received.poll()?;
        log.poll()?;
        if ended.is_some() {
            break ended;
        }
        if is_over() {
            killed = true;
            break None;
        }
        if let Some(problem) = overdue(guest, begun, &received, &log) {
            problems.push(problem);
            break None;
        }
        thread::sleep(POLL);
    };
    let said = machine.end();
    received.poll()?;
    log.poll()?;
    let console = console.join();

    let failures = log.failures.iter().filter(|line| guest.until.is_none() || !klog::is_hung_task(line));
    problems.extend(failures.map(|line| format!("the kernel said: {line}")));
    if let Some(status) = ended.filter(|status| !status.success()) {
        problems.push(format!("QEMU: {status}: {}", said.trim()));
    }
    if received.exit.is_none() && !killed {
        problems.push("the guest ended without reporting the command's status; its last lines:".into());
        problems.extend(last_lines(&log.text));
        problems.extend(last_lines(&console));
    }
    if received.skipped_bytes() > 0 {
        problems.push(format!("{} bytes of the guest's files are not readable", received.skipped_bytes()));
    }
    Ok(Outcome {
        exit: received.exit,
        release: received.release.clone(),
        console,
        problems,
        notices: log.notices,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

fn overdue(guest: &Guest, begun: Instant, received: &Received, log: &Log) -> Option<String> {
    if received.release.is_none() && begun.elapsed() > BOOT_MAX {
        return Some(format!("the guest's init did not come up within {} s", BOOT_MAX.as_secs()));
    }
    if let Some(timeout) = guest.timeout.filter(|timeout| begun.elapsed() > *timeout) {
        return Some(format!("timed out after {} s", timeout.as_secs()));
    }
    let failed = log.first_failure.is_some_and(|first| first.elapsed() > AFTER_FAILURE);
    (failed && guest.timeout.is_some())
        .then(|| format!("ended {} s after the kernel's complaint", AFTER_FAILURE.as_secs()))
}

/// Builds QEMU's command line. There are always two NUMA nodes, because nothing migrates without a second one.
fn command(guest: &Guest, initramfs: &Path, frames: &Path, kernel_log: &Path) -> Command {
    let mut command = guest.tools.qemu.command();
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-no-reboot"]);
    command.args(["-cpu", "max"]);
    // Each node is a socket: the kernel warns if cores of one socket are in two nodes.
    let half = guest.cpus.div_ceil(2).max(1);
    if guest.counts_instructions {
        command.args(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-smp", "1"]);
    } else {
        let cpus = format!("{},sockets=2,cores={half},threads=1", 2 * half);
        command.args(["-accel", "tcg,thread=multi", "-smp", &cpus]);
    }
    command.args(["-m", &format!("{}M", guest.memory_mib)]);
    for node in 0..2 {
        let (memory, first) = (guest.memory_mib / 2, node * half);
        command.arg("-object").arg(format!("memory-backend-ram,size={memory}M,id=m{node}"));
        command.arg("-numa");
        let cpus = match (guest.counts_instructions, node) {
            (false, _) => format!(",cpus={first}-{}", first + half - 1),
            (true, 0) => ",cpus=0".into(),
            // Memory alone.
            (true, _) => String::new(),
        };
        command.arg(format!("node,nodeid={node},memdev=m{node}{cpus}"));
    }
    let file = |id: &str, path: &Path| {
        // A comma ends a value in QEMU's options; two commas mean a literal one.
        format!("file,id={id},path={}", path.display().to_string().replace(',', ",,"))
    };
    for (index, id, backend) in [
        (0, "terminal", "stdio,id=terminal,signal=off".to_owned()),
        (1, "frames", file("frames", frames)),
        (2, "log", file("log", kernel_log)),
    ] {
        command.arg("-chardev").arg(backend);
        command.arg("-device").arg(format!("isa-serial,chardev={id},index={index}"));
    }
    command.arg("-kernel").arg(&guest.kernel.vmlinuz).arg("-initrd").arg(initramfs);
    // A panic ends the machine at once. The log is still complete, since nothing else uses its port. A preemptible (-rt)
    // kernel handles the ports' interrupts in threads; without `noirqdebug` it takes the emulator's interrupt rate for a
    // fault and disables the interrupt.
    let arguments = format!("console=ttyS2,115200 loglevel=7 panic=-1 noirqdebug {}", guest.append);
    command.args(["-append", arguments.trim_end()]);
    // SAFETY: prctl is async-signal-safe. The emulator must not outlive this program, even if it is killed.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    command
}

/// The emulator's process; killed on drop.
struct Machine(Child);

impl Machine {
    /// Kills it if it still runs, and returns its standard error.
    fn end(&mut self) -> String {
        self.0.kill().ok();
        self.0.wait().ok();
        let mut said = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            stderr.read_to_string(&mut said).ok();
        }
        said
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The threads that connect the user and the guest's terminal.
struct Console {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Console {
    fn join(self) -> String {
        if let Some(reader) = self.reader {
            reader.join().ok();
        }
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn pump(machine: &mut Child, echo: Echo) -> Console {
    let text = Arc::new(Mutex::new(Vec::new()));
    let reader = machine.stdout.take().map(|mut from| {
        let text = Arc::clone(&text);
        thread::spawn(move || {
            let mut bytes = [0; 8 << 10];
            let mut lines = Vec::new();
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                text.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..count]);
                match &echo {
                    Echo::No => {}
                    Echo::Yes => show(&bytes[..count]),
                    Echo::Labelled(label) => {
                        lines.extend_from_slice(&bytes[..count]);
                        show(&whole_lines(&mut lines, label));
                    }
                }
            }
            if let Echo::Labelled(label) = &echo
                && !lines.is_empty()
            {
                lines.push(b'\n');
                show(&whole_lines(&mut lines, label));
            }
        })
    });
    if let Some(mut to) = machine.stdin.take() {
        // Not joined: it blocks waiting for a key, and ends with the process.
        thread::spawn(move || {
            let mut bytes = [0; 1 << 10];
            while let Ok(count @ 1..) = io::stdin().lock().read(&mut bytes) {
                if to.write_all(&bytes[..count]).and_then(|()| to.flush()).is_err() {
                    break;
                }
            }
        });
    }
    Console { text, reader }
}

fn show(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    // If the reader of our output is gone, the guest continues.
    out.write_all(bytes).and_then(|()| out.flush()).ok();
}

/// Removes the complete lines from `bytes` and returns them, each prefixed with the label.
fn whole_lines(bytes: &mut Vec<u8>, label: &str) -> Vec<u8> {
    let Some(end) = bytes.iter().rposition(|&byte| byte == b'\n') else { return Vec::new() };
    let rest = bytes.split_off(end + 1);
    let lines = std::mem::replace(bytes, rest);
    let line = |line: &[u8]| [label.as_bytes(), b" | ", line].concat();
    lines.split_inclusive(|&byte| byte == b'\n').flat_map(line).collect()
}

/// The kernel's log, read as it grows.
struct Log {
    file: File,
    text: String,
    judged: usize,
    failures: Vec<String>,
    notices: Vec<String>,
    first_failure: Option<Instant>,
}

impl Log {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (text, failures, notices) = (String::new(), Vec::new(), Vec::new());
        Ok(Log { file, text, judged: 0, failures, notices, first_failure: None })
    }

    fn poll(&mut self) -> Result<()> {
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes).context("cannot read the kernel's log")?;
        self.text.push_str(&String::from_utf8_lossy(&bytes));
        while let Some(length) = self.text[self.judged..].find('\n') {
            let line = self.text[self.judged..self.judged + length].trim_end();
            match klog::judge(line) {
                Some(klog::Severity::Failure) => {
                    self.failures.push(line.to_owned());
                    self.first_failure.get_or_insert_with(Instant::now);
                }
                Some(klog::Severity::Notice) => self.notices.push(format!("the kernel said: {line}")),
                None => {}
            }
            self.judged += length + 1;
        }
        Ok(())
    }
}

fn last_lines(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| format!("  {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_precedes_whole_lines() {
        let mut bytes = b"one\ntwo\nth".to_vec();
        assert_eq!(whole_lines(&mut bytes, "6.12"), b"6.12 | one\n6.12 | two\n");
        assert_eq!(bytes, b"th");
        assert_eq!(whole_lines(&mut bytes, "6.12"), b"");
        bytes.extend_from_slice(b"ree\n");
        assert_eq!(whole_lines(&mut bytes, "6.12"), b"6.12 | three\n");
        assert_eq!(bytes, b"");
    }
}
