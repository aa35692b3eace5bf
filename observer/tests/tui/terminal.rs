//! Tests of the dashboard on a terminal: it restores the terminal however it ends.
//!
//! The pseudo terminal reports no size and answers no query, as a serial line does. The dashboard runs in a second process of
//! this test, because it takes over signals and the panic hook.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not `#[test]` functions for clippy")]

use std::{process::Command, sync::Arc, time::Duration};

use observer::tui::{self, Mode};
use rustix::process::{Pid, Signal, kill_process};

use crate::{pty::Terminal, stage};

/// Environment variable that marks the second process and selects its role.
const ROLE: &str = "OBSERVER_TEST_DASHBOARD";

/// The process of the dashboard. It is a test by name only: without the variable it does nothing.
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

fn command(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "terminal::dashboard", "--nocapture"])
        .env(ROLE, role)
        .envs([("TERM", "xterm"), ("RUST_BACKTRACE", "0")])
        .env_remove("COLUMNS")
        .env_remove("LINES");
    command
}

/// Starts the dashboard on a terminal that reports no size.
fn start(role: &str) -> Terminal {
    Terminal::start(&mut command(role), None)
}

/// Waits for the exit and checks that the terminal is restored; returns all output.
fn ends_restored(mut terminal: Terminal) -> String {
    terminal.ends();
    // The test harness prints its result after the dashboard ended.
    terminal.wait_for("test result");
    assert_eq!(format!("{:?}", terminal.before), format!("{:?}", terminal.modes()), "terminal modes");
    let text = terminal.written();
    for (taken, given_back) in [("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?25l", "\x1b[?25h")] {
        assert!(text.rfind(taken) < text.rfind(given_back), "{taken:?} is not undone in {text:?}");
    }
    text
}

#[test]
fn quit_by_key() {
    let terminal = start("run");
    // The picture is drawn for 80x24 although the terminal reports no size.
    terminal.wait_for("quit");
    terminal.press("?");
    terminal.wait_for("keys and words");
    terminal.press("q");
    let text = ends_restored(terminal);
    assert!(!text.contains("\x1b[6n"), "asks where the cursor is: {text:?}");
}

#[test]
fn ended_by_a_signal() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let terminal = start("run");
        terminal.wait_for("quit");
        kill_process(Pid::from_child(&terminal.child), signal).unwrap();
        ends_restored(terminal);
    }
}

#[test]
fn a_panic_elsewhere_is_read_on_the_restored_screen() {
    let terminal = start("panic");
    terminal.wait_for("on purpose");
    let text = ends_restored(terminal);
    assert!(text.rfind("\x1b[?1049l") < text.find("on purpose"), "{text:?}");
}

#[test]
fn a_new_size_is_drawn_at_once() {
    let terminal = Terminal::start(&mut command("run"), Some((80, 24)));
    let is_drawn_for = |rows: u16| {
        terminal.wait("keys in the last line", |screen| {
            screen.rows(0, 80).nth(usize::from(rows) - 1).filter(|line| line.contains("quit"))
        });
    };
    is_drawn_for(24);
    for rows in [40, 24, 30, 12].into_iter().cycle().take(40) {
        // A key follows at once: the program must not forget the new size over it.
        terminal.resize((80, rows));
        terminal.press("j");
        is_drawn_for(rows);
    }
}
