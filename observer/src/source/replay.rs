//! The recorded source: passes out of a file, at the speed that is asked for.
//!
//! Decides when a recorded pass is due. What the file is worth, the recording's reader decides.

use std::{fs::File, io::Read, path::Path, time::Duration};

use anyhow::Context;
use tokio::time::{Instant, sleep_until};

use super::{Pass, Source};
use crate::{
    hint::Hint,
    meta::{Closing, End, Meta, Notice},
    recording::Reader,
    snapshot::{Command, Position},
};

/// Seconds that a gap between two passes is waited for at most.
const GAP_MAX_S: f64 = 5.0;

/// A recording.
pub struct Replay {
    name: String,
    reader: Reader,
    /// 0: not known (a pipe).
    file_bytes: u64,
    /// Times real time; `None`: as fast as it goes.
    speed: Option<f32>,
    paused: bool,
    /// Passes to give in spite of a pause.
    steps: u32,
    /// Read, but not due yet.
    waiting: Option<Pass>,
    /// When the last pass was given, and its time.
    given: Option<(Instant, u64)>,
    stopped: bool,
    ended: bool,
}

impl Replay {
    /// Opens a recording; `-` is standard input.
    ///
    /// # Errors
    /// There is no such file, or it is no recording that this version can show.
    pub fn open(path: &Path, speed: Option<f32>) -> anyhow::Result<Replay> {
        let name = path.display().to_string();
        if path.as_os_str() == "-" {
            return Replay::new("standard input".into(), Box::new(std::io::stdin()), 0, speed);
        }
        let file = File::open(path).with_context(|| format!("open recording {name}"))?;
        let bytes = file.metadata().map_or(0, |m| m.len());
        Replay::new(name, Box::new(file), bytes, speed)
    }

    /// Reads a recording from anything; `bytes` is its length, 0 if that is not known.
    ///
    /// # Errors
    /// It is no recording that this version can show.
    pub fn new(name: String, input: Box<dyn Read>, bytes: u64, speed: Option<f32>) -> anyhow::Result<Replay> {
        let reader = match Reader::new(input) {
            Ok(reader) => reader,
            Err(why) => {
                let hint = why.hint();
                return Err(why).with_context(|| format!("read {name}")).hint(hint);
            }
        };
        Ok(Replay {
            name,
            reader,
            file_bytes: bytes,
            speed,
            paused: false,
            steps: 0,
            waiting: None,
            given: None,
            stopped: false,
            ended: false,
        })
    }

    /// When a pass of this time is due; `None`: at once.
    fn due(&self, time_ns: u64) -> Option<Instant> {
        let (at, last_ns) = self.given?;
        let speed = f64::from(self.speed?).max(1e-6);
        let seconds = time_ns.saturating_sub(last_ns) as f64 / 1e9 / speed;
        Some(at + Duration::from_secs_f64(seconds.min(GAP_MAX_S)))
    }

    fn give(&mut self) -> Option<Pass> {
        let pass = self.waiting.take()?;
        self.given = Some((Instant::now(), pass.mark.time_ns));
        self.steps = self.steps.saturating_sub(1);
        Some(pass)
    }
}

impl Source for Replay {
    fn meta(&self) -> &Meta {
        self.reader.meta()
    }

    async fn next(&mut self) -> anyhow::Result<Option<Pass>> {
        if self.stopped {
            return Ok(None);
        }
        // Pauses before it reads, so that a step shows exactly one pass more; dropped while waiting, nothing is lost.
        if self.paused && self.steps == 0 {
            std::future::pending::<()>().await;
        }
        if self.waiting.is_none() {
            self.waiting = self.reader.next_pass().with_context(|| format!("read {}", self.name))?;
        }
        let Some(pass) = &self.waiting else {
            self.ended = true;
            return Ok(None);
        };
        if self.steps == 0
            && let Some(due) = self.due(pass.mark.time_ns)
        {
            sleep_until(due).await;
        }
        Ok(self.give())
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn closing(&mut self, _end: End) -> anyhow::Result<Option<Closing>> {
        Ok(self.reader.closing().cloned())
    }

    fn position(&self) -> Position {
        let permille = match self.file_bytes {
            0 => 0,
            bytes => (self.reader.read_bytes() * 1000 / bytes).min(1000) as u16,
        };
        Position::Replay {
            file: self.name.clone(),
            permille,
            paused: self.paused,
            speed: self.speed,
            ended: self.ended,
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Quit => {}
            Command::Pause(paused) => {
                self.paused = paused;
                self.steps = 0;
                self.given = None;
            }
            Command::Step => {
                self.paused = true;
                self.steps += 1;
            }
            Command::Speed(speed) => {
                self.speed = speed;
                self.given = None;
            }
        }
    }

    fn notices(&self) -> Vec<Notice> {
        if self.stopped && !self.ended {
            return vec![Notice("replay was stopped before the recording's end".into())];
        }
        self.reader.notices()
    }
}

#[cfg(test)]
mod tests;
