//! The dashboard on a terminal of its own: what it takes it gives back, however it ends.
//!
//! The terminal is a pseudo terminal that tells no size and answers no question, as a serial line does. The dashboard
//! runs in a second process of this test, since it takes over signals and the panic hook.

// Helpers are no `#[test]` functions to clippy; a test that cannot go on shall say where.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use observer::tui::{self, Mode};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, tcgetattr};

use crate::stage;

/// Tells the second process that it is the one, and what to do.
const ROLE: &str = "OBSERVER_TEST_DASHBOARD";
const PATIENCE: Duration = Duration::from_secs(20);

/// The dashboard's process. A test by name only: without the variable it has nothing to do.
#[test]
fn dashboard() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (_sender, snapshots) = tokio::sync::watch::channel(Arc::new(stage::live("share-unmap", 0.5)));
        let (commands, _receiver) = tokio::sync::mpsc::channel(4);
        if role == "panic" {
            std::thread::spawn(|| {
                std::thread::sleep(Duration::from_millis(500));
                panic!("on purpose");
            });
            let _ = tui::run(snapshots, commands, None, Mode::Live).await;
        } else {
            tui::run(snapshots, commands, None, Mode::Live).await.unwrap();
        }
    });
}

struct Terminal {
    master: std::fs::File,
    line: OwnedFd,
    before: Termios,
    child: Child,
    /// All that the dashboard wrote so far.
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(role: &str) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let line = ioctl_tiocgptpeer(&master, flags).unwrap();
        let before = tcgetattr(&line).unwrap();
        let end = || Stdio::from(line.try_clone().unwrap());
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "terminal::dashboard", "--nocapture"])
            .env(ROLE, role)
            .envs([("TERM", "xterm"), ("RUST_BACKTRACE", "0")])
            .env_remove("COLUMNS")
            .env_remove("LINES")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let master = std::fs::File::from(master);
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut source, sink) = (master.try_clone().unwrap(), written.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = source.read(&mut bytes) {
                sink.lock().unwrap().extend_from_slice(&bytes[..n]);
            }
        });
        Terminal { master, line, before, child, written }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    fn wait_for(&self, text: &str) {
        let since = Instant::now();
        while !self.text().contains(text) {
            assert!(since.elapsed() < PATIENCE, "no {text:?} in {:?}", self.text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the end and checks that nothing of the dashboard is left on the terminal.
    fn ends_restored(mut self) -> String {
        let since = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if since.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                panic!("the dashboard does not end: {:?}", self.text());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // The test harness speaks last, after the dashboard.
        self.wait_for("test result");
        let after = tcgetattr(&self.line).unwrap();
        assert_eq!(format!("{:?}", self.before), format!("{after:?}"), "terminal modes");
        let text = self.text();
        for (taken, given_back) in [("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?25l", "\x1b[?25h")] {
            assert!(text.rfind(taken) < text.rfind(given_back), "{taken:?} is not undone in {text:?}");
        }
        text
    }
}

#[test]
fn quit_by_key() {
    let mut terminal = Terminal::start("run");
    // The picture is there for 80x24 although the terminal tells no size.
    terminal.wait_for("quit");
    terminal.master.write_all(b"?").unwrap();
    terminal.wait_for("keys and words");
    terminal.master.write_all(b"q").unwrap();
    let text = terminal.ends_restored();
    assert!(!text.contains("\x1b[6n"), "asks where the cursor is: {text:?}");
}

#[test]
fn ended_by_a_signal() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let terminal = Terminal::start("run");
        terminal.wait_for("quit");
        kill_process(Pid::from_child(&terminal.child), signal).unwrap();
        terminal.ends_restored();
    }
}

#[test]
fn a_panic_elsewhere_is_read_on_the_restored_screen() {
    let terminal = Terminal::start("panic");
    terminal.wait_for("on purpose");
    let text = terminal.ends_restored();
    assert!(text.rfind("\x1b[?1049l") < text.find("on purpose"), "{text:?}");
}
