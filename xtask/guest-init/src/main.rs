//! The first process of a test guest. It mounts the file systems that a tracer needs, runs the job's command, streams files
//! below `/out` to the host meanwhile, reports the command's status, and powers the machine off.
//!
//! Ports: ttyS0 is only the command's terminal, ttyS1 carries frames, and ttyS2 is the kernel's log, written by the kernel
//! itself. The host judges log and status.

mod out;

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{
        fd::{AsRawFd as _, IntoRawFd as _},
        unix::{
            fs::OpenOptionsExt as _,
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    process::{Command, ExitStatus},
    thread,
    time::Duration,
};

use guest_init::{
    frame::Frame,
    job::{self, Job},
};

/// Interval of scans of `/out`: long enough to cost nothing, short enough to lose little when the guest is killed.
const POLL: Duration = Duration::from_millis(100);
/// The kernel's default of 120 s would outlast most tests; an emulated machine under load needs more than a few.
const HUNG_TASK_SECONDS: &str = "60";

fn main() {
    if std::process::id() != 1 {
        eprintln!("guest-init: this is the first process of a test guest, not a command");
        std::process::exit(2);
    }
    if let Err(error) = run() {
        // Without an exit frame, the host reports the last lines of this terminal.
        eprintln!("guest-init: {error}");
    }
    power_off();
}

fn run() -> io::Result<()> {
    mount_all()?;
    let terminal = take_terminal()?;
    let mut line =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/ttyS1")?;
    make_raw(&line)?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    line.write_all(&Frame::Hello { release }.to_bytes())?;

    prepare()?;
    let bytes = fs::read(job::PATH).map_err(|error| named("cannot read", job::PATH, &error))?;
    let job = Job::from_bytes(&bytes).ok_or_else(|| io::Error::other("the job is not readable"))?;
    match job.terminal {
        Some((rows, columns)) => set_window_size(&terminal, rows, columns)?,
        None => make_raw(&terminal)?,
    }
    let mut out = out::Out::new(job::OUT);
    let code = match spawn(&job) {
        Ok(child) => loop {
            out.send_new(&mut line)?;
            if let Some(status) = reap(child)? {
                break status;
            }
            thread::sleep(POLL);
        },
        Err(error) => {
            eprintln!("cannot run {}: {error}", job.argv[0]);
            127
        }
    };
    // SAFETY: plain system calls. They kill everything but this process, so that files no longer change.
    unsafe { libc::kill(-1, libc::SIGKILL) };
    out.send_rest(&mut line)?;
    drain(&terminal);
    line.write_all(&Frame::Exit { code }.to_bytes())?;
    drain(&line);
    Ok(())
}

fn mount_all() -> io::Result<()> {
    for (kind, target) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("devpts", "/dev/pts"),
        ("tracefs", "/sys/kernel/tracing"),
        ("bpf", "/sys/fs/bpf"),
        ("tmpfs", "/tmp"),
        ("tmpfs", job::OUT),
    ] {
        fs::create_dir_all(target).map_err(|error| named("cannot make", target, &error))?;
        let (kind_c, target_c) = (CString::new(kind)?, CString::new(target)?);
        // SAFETY: all three strings end with NUL and outlive the call; no data is passed.
        let result =
            unsafe { libc::mount(kind_c.as_ptr(), target_c.as_ptr(), kind_c.as_ptr(), 0, std::ptr::null()) };
        if result != 0 {
            let error = io::Error::last_os_error();
            // Some kernels mount devtmpfs themselves.
            if error.raw_os_error() != Some(libc::EBUSY) {
                return Err(named(&format!("cannot mount {kind} on"), target, &error));
            }
        }
    }
    Ok(())
}

/// Releases the kernel's console and makes ttyS0 the standard input, output and error. The console must be closed first: its
/// port shares an interrupt with ttyS0, and the driver refuses to open both.
fn take_terminal() -> io::Result<File> {
    // SAFETY: only the standard streams use these descriptors, and they are reopened at once.
    unsafe {
        for fd in 0..3 {
            libc::close(fd);
        }
    }
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open("/dev/ttyS0")
        .map_err(|error| named("cannot open", "/dev/ttyS0", &error))?;
    let lowest = terminal.into_raw_fd();
    for fd in 0..3 {
        // SAFETY: `lowest` is open. It usually is 0 already; then dup2 does nothing, and does not clear close-on-exec either.
        if unsafe { libc::dup2(lowest, fd) < 0 || libc::fcntl(fd, libc::F_SETFD, 0) < 0 } {
            return Err(io::Error::last_os_error());
        }
    }
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/ttyS0")
}

fn prepare() -> io::Result<()> {
    fs::write("/proc/sys/kernel/hung_task_timeout_secs", HUNG_TASK_SECONDS).ok();
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the structure is valid for the call. Kernels before 5.11 charge BPF maps against this limit.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &unlimited) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let applets = Command::new("/bin/busybox").args(["--install", "-s", "/bin"]).status()?;
    if !applets.success() {
        return Err(io::Error::other(format!("busybox --install: {applets}")));
    }
    Ok(())
}

fn spawn(job: &Job) -> io::Result<libc::pid_t> {
    let has_terminal = job.terminal.is_some();
    let mut command = Command::new(&job.argv[0]);
    command.args(&job.argv[1..]).env_clear();
    command.env("PATH", "/bin").env("HOME", "/root").env("TERM", "dumb");
    // Allows `observer doctor --exercise`, which checks this variable: nothing on this machine can be harmed.
    command.env("OBSERVER_GUEST", "1");
    command.envs(job.env.iter().map(|(name, value)| (name, value)));
    if !has_terminal {
        command.stdin(std::process::Stdio::null());
    }
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 || (has_terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) < 0) {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    Ok(command.spawn()?.id() as libc::pid_t)
}

/// Reaps every child that ended, orphans included. Returns the exit code of `child` if it was among them.
fn reap(child: libc::pid_t) -> io::Result<Option<i32>> {
    let mut code = None;
    loop {
        let mut status = 0;
        // SAFETY: `status` is valid for the call.
        match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } {
            0 => return Ok(code),
            -1 => {
                let error = io::Error::last_os_error();
                return if error.raw_os_error() == Some(libc::ECHILD) { Ok(code) } else { Err(error) };
            }
            pid if pid == child => {
                let status = ExitStatus::from_raw(status);
                code = status.code().or(status.signal().map(|signal| 128 + signal));
            }
            _ => {}
        }
    }
}

/// Disables echo and translation of line ends, so that bytes pass unchanged.
fn make_raw(port: &File) -> io::Result<()> {
    // SAFETY: zeroed is a valid termios to be filled in, and the descriptor is open.
    unsafe {
        let mut settings: libc::termios = std::mem::zeroed();
        if libc::tcgetattr(port.as_raw_fd(), &mut settings) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::cfmakeraw(&mut settings);
        settings.c_cflag |= libc::CLOCAL;
        if libc::tcsetattr(port.as_raw_fd(), libc::TCSANOW, &settings) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn set_window_size(port: &File, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is the structure that TIOCSWINSZ reads.
    if unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCSWINSZ, &size) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Waits until the port has sent all pending bytes.
fn drain(port: &File) {
    // SAFETY: the descriptor is open.
    unsafe { libc::tcdrain(port.as_raw_fd()) };
}

fn power_off() -> ! {
    // SAFETY: all file systems are in memory, so nothing is lost. The call returns only if it fails.
    unsafe {
        libc::reboot(libc::RB_POWER_OFF);
    }
    // The first process must not exit: the kernel would panic.
    loop {
        thread::sleep(Duration::from_secs(60));
    }
}

fn named(what: &str, path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {path}: {error}"))
}
