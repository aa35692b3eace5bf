//! A terminal for keys and screens, as people have it: tmux, which `cargo xtask test` puts into the guest.

use std::{
    process::Command,
    time::{Duration, Instant},
};

/// Time limit for an emulated kernel on a loaded machine, which may also search for cycles.
const PATIENCE: Duration = Duration::from_secs(90);

/// A session with one shell; ended when it is dropped.
pub struct Tmux(());

impl Tmux {
    pub fn start(columns: u16, rows: u16) -> Tmux {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        tmux(&["new-session", "-d", "-x", &columns, "-y", &rows, "sh"]);
        // tmux keeps what an application copies, so that the test can read it.
        tmux(&["set-option", "-s", "set-clipboard", "on"]);
        Tmux(())
    }

    /// Types a line into the shell.
    pub fn run(&self, command: &str) {
        tmux(&["send-keys", "-l", command]);
        tmux(&["send-keys", "Enter"]);
    }

    /// Presses keys, by their names in tmux.
    pub fn press(&self, keys: &[&str]) {
        tmux(&[&["send-keys"], keys].concat());
    }

    /// Types text into an open prompt.
    pub fn enter(&self, text: &str) {
        tmux(&["send-keys", "-l", text]);
        self.press(&["Enter"]);
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    pub fn screen(&self) -> String {
        tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen meets a condition, and returns it.
    pub fn wait_for(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if holds(&screen) {
                return screen;
            }
            assert!(begun.elapsed() < PATIENCE, "no {what}:\n{screen}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn shows(&self, text: &str) -> String {
        self.wait_for(&format!("{text:?}"), |screen| screen.contains(text))
    }

    /// Waits until a part of the screen no longer changes: a slow terminal shows half of a picture for a moment.
    pub fn still(&self, what: &str, part: impl Fn(&str) -> Vec<String>) -> String {
        let begun = Instant::now();
        let mut before = Vec::new();
        loop {
            let screen = self.screen();
            let now = part(&screen);
            if !now.is_empty() && now == before {
                return screen;
            }
            assert!(begun.elapsed() < PATIENCE, "{what} do not stay as they are:\n{screen}");
            before = now;
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Goes one step back; two key presses at once would be another key.
    pub fn back_to(&self, what: &str, holds: impl Fn(&str) -> bool) {
        self.press(&["Escape"]);
        self.wait_for(what, holds);
    }

    /// The text that was copied last.
    pub fn copied(&self) -> String {
        tmux(&["show-buffer"])
    }

    /// Waits until the terminal is as before; a shell takes a moment to print its prompt.
    pub fn is_as(&self, before: &str) {
        self.wait_for(&format!("terminal as it was:\n{before}\nbut\n{}", self.modes()), |_| {
            self.modes() == before
        });
    }

    /// Modes that an application may change: alternate screen, cursor, mouse, and the modes of the line.
    pub fn modes(&self) -> String {
        let [own, line] = ["#{alternate_on} #{cursor_flag} #{mouse_any_flag}", "#{pane_tty}"]
            .map(|format| tmux(&["display-message", "-p", format]).trim().to_owned());
        format!("{own}\n{}", said(Command::new("busybox").args(["stty", "-a", "-F", &line])))
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // A failed test prints the screen.
        if std::thread::panicking() {
            println!("{}", self.screen());
        }
        let _ = command(&["kill-server"]).output();
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("tmux");
    command.args(["-u", "-f", "/dev/null"]).args(arguments);
    command
}

fn tmux(arguments: &[&str]) -> String {
    said(&mut command(arguments))
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
