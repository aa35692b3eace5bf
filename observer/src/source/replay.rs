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
    snapshot::{self, Command, Position},
};

/// Seconds that a gap between two passes is waited for at most.
const GAP_MAX_S: f64 = 5.0;

/// A recording.
pub struct Replay {
    name: String,
    reader: Reader,
    /// Times real time; `None`: as fast as it goes.
    speed: Option<f32>,
    paused: bool,
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
            return Replay::new("standard input".into(), Box::new(std::io::stdin()), speed);
        }
        let file = File::open(path).with_context(|| format!("open recording {name}"))?;
        Replay::new(name, Box::new(file), speed)
    }

    /// Reads a recording from anything.
    ///
    /// # Errors
    /// It is no recording that this version can show.
    pub fn new(name: String, input: Box<dyn Read>, speed: Option<f32>) -> anyhow::Result<Replay> {
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
            speed,
            paused: false,
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
        if self.paused {
            std::future::pending::<()>().await;
        }
        if self.waiting.is_none() {
            self.waiting = self.reader.next_pass().with_context(|| format!("read {}", self.name))?;
        }
        let Some(pass) = &self.waiting else {
            self.ended = true;
            return Ok(None);
        };
        if let Some(due) = self.due(pass.mark.time_ns) {
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
        Position::Replay(snapshot::Replay {
            file: self.name.clone(),
            start_ns: self.reader.meta().start_ns,
            paused: self.paused,
            speed: self.speed,
            ended: self.ended,
            ..snapshot::Replay::default()
        })
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Pause(paused) => {
                self.paused = paused;
                self.given = None;
            }
            Command::Speed(speed) => {
                self.speed = speed;
                self.given = None;
            }
            Command::Quit | Command::Tail(_) | Command::Seek(_) => {}
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
