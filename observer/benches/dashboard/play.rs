//! The measured program on its terminal, and the keys that are pressed.
//!
//! Decides how long each part takes and when a key is pressed. A failure names the step.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use vt100::{Color, Screen};

use super::{
    figures::{Busy, number_after, view},
    pty::Terminal,
};

/// Bytes per second of a slow terminal, such as a modem or a busy connection.
pub const SLOW_BYTES: usize = 20_000;
pub const SLOW: Duration = Duration::from_secs(6);
/// Time after a change that is not measured.
const WARM: Duration = Duration::from_millis(500);
/// Time without a change after which a picture counts as still.
const IDLE: Duration = Duration::from_secs(2);
/// Time between two readings of the processor time.
const LOOK: Duration = Duration::from_millis(10);
/// Milliseconds between two keys: the minimum, and the random part on top.
const KEY_MS: (u64, u64) = (50, 100);
const VIEWS: usize = 7;

/// Measurements of one period.
#[derive(Clone, Debug, Default)]
pub struct Part {
    took_s: f64,
    events: u64,
    pub frame_bytes: Vec<f64>,
    view_ns: u64,
    process_ns: u64,
}

impl Part {
    pub fn and(mut self, other: &Part) -> Part {
        self.frame_bytes.extend(&other.frame_bytes);
        Part {
            took_s: self.took_s + other.took_s,
            events: self.events + other.events,
            frame_bytes: self.frame_bytes,
            view_ns: self.view_ns + other.view_ns,
            process_ns: self.process_ns + other.process_ns,
        }
    }

    pub fn events_per_s(&self) -> f64 {
        self.events as f64 / self.took_s
    }

    pub fn frames_per_s(&self) -> f64 {
        self.frame_bytes.len() as f64 / self.took_s
    }

    /// Share of one core that the threads of the view used.
    pub fn view_share(&self) -> f64 {
        self.view_ns as f64 / 1e9 / self.took_s
    }

    pub fn process_share(&self) -> f64 {
        self.process_ns as f64 / 1e9 / self.took_s
    }
}

/// Measurements on a slow terminal.
pub struct Slow {
    pub frames_per_s: f64,
    pub events_per_s: f64,
    pub lost: u64,
}

/// The dashboard while it plays a recording.
pub struct Playing {
    terminal: Terminal,
    busy: Busy,
    dice: u64,
}

impl Playing {
    /// Starts the program and waits until it has read the recording and plays it.
    pub fn start(file: &Path, speed: f32, size: (u16, u16)) -> anyhow::Result<Playing> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_observer"));
        command.args(["replay", "--speed", &speed.to_string()]).arg(file);
        command.envs([("TERM", "xterm-256color"), ("LANG", "C.UTF-8")]);
        for name in ["COLUMNS", "LINES", "LC_ALL", "LC_CTYPE", "NO_COLOR"] {
            command.env_remove(name);
        }
        let terminal = Terminal::start(&mut command, Some(size));
        terminal.wait_for(&format!(" {speed}x"));
        let busy = Busy::of(terminal.child.id());
        Ok(Playing { terminal, busy, dice: 0x9e37_79b9_7f4a_7c15 })
    }

    /// Resizes the terminal and waits until the keys are in the new last line.
    pub fn resize(&self, size: (u16, u16)) {
        self.terminal.resize(size);
        self.terminal.wait("keys in the last line", |screen| {
            screen.rows(0, size.0).last().filter(|line| line.contains("? help"))
        });
    }

    /// Shows every view for a part of the time, without other key presses.
    pub fn each_view(&mut self, seconds: f64) -> anyhow::Result<Vec<Part>> {
        self.rewind();
        let each = Duration::from_secs_f64(seconds / VIEWS as f64);
        (0..VIEWS)
            .map(|n| {
                self.show(n);
                self.part(|playing| playing.watch(each))
            })
            .collect()
    }

    /// Switches between views at random moments. Also returns the time until each view was visible, in milliseconds.
    pub fn keys(&mut self, seconds: f64) -> anyhow::Result<(Part, Vec<f64>)> {
        self.rewind();
        let (mut took_ms, mut shown) = (Vec::new(), 0);
        self.show(shown);
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        let part = self.part(|playing| {
            while Instant::now() < until {
                let pause_ms = KEY_MS.0 + playing.roll(KEY_MS.1 + 1);
                playing.watch(Duration::from_millis(pause_ms))?;
                // Another view than the current one.
                shown = (shown + 1 + playing.roll(VIEWS as u64 - 1) as usize) % VIEWS;
                took_ms.push(playing.show(shown).as_secs_f64() * 1e3);
            }
            Ok(())
        })?;
        Ok((part, took_ms))
    }

    /// Runs on a slow terminal, then on a fast one again.
    pub fn slowly(&mut self) -> anyhow::Result<Slow> {
        self.rewind();
        // This view changes all the time.
        self.show(4);
        let before = self.terminal.frame();
        self.terminal.pace(SLOW_BYTES);
        std::thread::sleep(WARM);
        let frames = self.terminal.frames(0).len();
        let begun = Instant::now();
        self.watch(SLOW - WARM)?;
        let frames = self.terminal.frames(frames).len() as f64 / begun.elapsed().as_secs_f64();
        self.terminal.pace(0);
        // Bytes written before are read first.
        std::thread::sleep(WARM);
        let after = self.terminal.frame();
        let events = total(&after.screen)? - total(&before.screen)?;
        let lost =
            |screen: &Screen| number_after(&screen.contents(), "loss").context("no loss in the header");
        Ok(Slow {
            frames_per_s: frames,
            events_per_s: events as f64 / (after.at - before.at).as_secs_f64(),
            lost: lost(&after.screen)?.saturating_sub(lost(&before.screen)?),
        })
    }

    /// Pauses, and checks that the picture is right and does not change. Returns the number of bytes written nevertheless.
    pub fn idle(&mut self) -> anyhow::Result<usize> {
        self.terminal.press(" ");
        self.terminal.wait_for("PAUSED");
        self.terminal.settle(WARM);
        let bytes = self.terminal.written_bytes();
        std::thread::sleep(IDLE);
        let bytes = self.terminal.written_bytes() - bytes;
        let shown = self.terminal.screen();
        self.terminal.press("\x0c");
        self.terminal.settle(WARM);
        let redrawn = self.terminal.screen();
        let is_right = cells(&shown) == cells(&redrawn);
        let [shown, redrawn] = [shown, redrawn].map(|screen| screen.contents());
        ensure!(is_right, "drawn anew, the picture is another one:\n{shown}\n--- anew:\n{redrawn}");
        Ok(bytes)
    }

    pub fn quit(mut self) -> anyhow::Result<()> {
        self.terminal.press("q");
        let status = self.terminal.ends();
        ensure!(status.success(), "the dashboard ends with {status}:\n{}", self.terminal.screen().contents());
        Ok(())
    }

    /// Seeks to the begin, because the recording is short.
    fn rewind(&self) {
        self.terminal.press("@0%\r");
        std::thread::sleep(WARM);
    }

    /// Shows a view; returns the time until it was visible.
    fn show(&self, n: usize) -> Duration {
        let key = (n + 1).to_string();
        self.terminal.answer(&key, move |screen| view(&screen.contents()) == Some(n))
    }

    /// Measures from one frame to another.
    fn part(&mut self, what: impl FnOnce(&mut Playing) -> anyhow::Result<()>) -> anyhow::Result<Part> {
        let (begin, first) = (self.terminal.frame(), self.terminal.frames(0).len());
        self.busy.look()?;
        let before = (Instant::now(), self.busy.ns());
        what(self)?;
        self.busy.look()?;
        let (process_s, busy) = (before.0.elapsed().as_secs_f64(), self.busy.ns());
        let end = self.terminal.frame();
        let took_s = (end.at - begin.at).as_secs_f64();
        let frames = self.terminal.frames(first).into_iter().take_while(|frame| frame.at <= end.at);
        // The processor time is read a little before and after the frames.
        let share = |ns: u64| (ns as f64 * took_s / process_s) as u64;
        Ok(Part {
            took_s,
            events: total(&end.screen)?.saturating_sub(total(&begin.screen)?),
            frame_bytes: frames.map(|frame| frame.bytes as f64).collect(),
            view_ns: share(busy.0 - before.1.0),
            process_ns: share(busy.1 - before.1.1),
        })
    }

    /// Waits, and reads the times of the threads meanwhile.
    fn watch(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        loop {
            self.busy.look().context("the dashboard is gone")?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    /// Random number below `n`; the same sequence in every run.
    fn roll(&mut self, n: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % n
    }
}

/// Visible content of all cells: a cell that was never written is a space.
fn cells(screen: &Screen) -> Vec<(&str, [Color; 2], [bool; 4])> {
    let (rows, columns) = screen.size();
    let places = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
    let cells = places.filter_map(|(row, column)| screen.cell(row, column));
    cells
        .map(|cell| {
            let text = if cell.has_contents() { cell.contents() } else { " " };
            let attributes = [cell.bold(), cell.dim(), cell.underline(), cell.inverse()];
            (text, [cell.fgcolor(), cell.bgcolor()], attributes)
        })
        .collect()
}

/// Number of processed events, from the header.
fn total(screen: &Screen) -> anyhow::Result<u64> {
    let text = screen.contents();
    number_after(&text, "total").with_context(|| format!("no number of events on the screen:\n{text}"))
}
