//! The bench of the dashboard, and its summary line, which names the goals that were missed. A dashboard that does not work
//! fails in the bench itself.

use std::{path::PathBuf, process::Command};

use anyhow::Result;
use clap::Args;
use serde::Deserialize;

use super::{command, last_line};

#[derive(Args, Default)]
pub struct Dashboard {
    /// A recording to repeat; without, a fixture
    #[arg(long, value_name = "FILE")]
    recording: Option<PathBuf>,
    /// Seconds measured at each size of the terminal
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

/// The fields of the bench's last line that are judged here.
#[derive(Debug, Deserialize)]
struct Line {
    recording: String,
    /// Events per second at which the recording was played.
    rate: f64,
    frames_goal: f64,
    key_goal_ms: f64,
    /// Goal for the share of one core.
    view_goal: f64,
    sizes: Vec<Size>,
    slow: Slow,
}

/// Results for one terminal size.
#[derive(Debug, Deserialize)]
struct Size {
    events_per_s: f64,
    frames_per_s: f64,
    key_median_ms: f64,
    key_worst_ms: f64,
    view_share: f64,
}

#[derive(Debug, Deserialize)]
struct Slow {
    events_per_s: f64,
}

/// Share of the events that counts as all of them: a 33 ms clock is read at both ends.
const ALL_EVENTS: f64 = 0.98;

impl Dashboard {
    /// Runs the bench, shows its output, and returns the line for the summary.
    pub fn summary(&self) -> Result<String> {
        Ok(last_line::<Line>(self.command()?)?.summary())
    }

    pub(super) fn command(&self) -> Result<Command> {
        let mut command = command("dashboard", self.recording.as_deref())?;
        if let Some(seconds) = self.seconds {
            command.args(["--seconds", &seconds.to_string()]);
        }
        Ok(command)
    }
}

impl Line {
    /// Summarizes the worst size, and the goals that were missed.
    fn summary(&self) -> String {
        let least = |of: fn(&Size) -> f64| self.sizes.iter().map(of).fold(f64::INFINITY, f64::min);
        let most = |of: fn(&Size) -> f64| self.sizes.iter().map(of).fold(0.0, f64::max);
        let (events, slow) = (least(|s| s.events_per_s), self.slow.events_per_s);
        let (frames, key_ms) = (least(|s| s.frames_per_s), most(|s| s.key_median_ms));
        let view = most(|s| s.view_share);
        let missed: Vec<&str> = [
            (events >= self.rate * ALL_EVENTS, "events"),
            // Rounded, because a tenth of a frame does not count.
            (frames.round() >= self.frames_goal, "frames"),
            (key_ms < self.key_goal_ms, "key to frame"),
            (view < self.view_goal, "processor time"),
            (slow >= self.rate * ALL_EVENTS, "events on a slow terminal"),
        ]
        .into_iter()
        .filter_map(|(is_reached, what)| (!is_reached).then_some(what))
        .collect();
        let verdict = match missed.as_slice() {
            [] => "all goals are reached".to_owned(),
            missed => format!("not reached: {}", missed.join(", ")),
        };
        format!(
            "dashboard: {frames:.1} frames a second at {:.0} events a second ({}), key to frame {key_ms:.0} ms at the median \
             and {:.0} at worst, {:.1} % of a core: {verdict}",
            events,
            self.recording,
            most(|s| s.key_worst_ms),
            100.0 * view,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{super::line_of, *};

    fn summary(frames: f64, key_ms: f64, view: f64, slow: f64) -> String {
        let said = format!(
            "a table\n{{\"bench\":\"dashboard\",\"recording\":\"a.obs\",\"rate\":500000.0,\"frames_goal\":30.0,\"key_goal_ms\":50.0,\
             \"view_goal\":0.25,\"sizes\":[{{\"events_per_s\":499000,\"frames_per_s\":{frames},\"key_median_ms\":{key_ms},\
             \"key_worst_ms\":90.4,\"view_share\":{view}}},{{\"events_per_s\":500000,\"frames_per_s\":30.3,\"key_median_ms\":1,\
             \"key_worst_ms\":2,\"view_share\":0.01}}],\"slow\":{{\"events_per_s\":{slow}}},\"idle_bytes\":0}}\n"
        );
        line_of::<Line>(&said).unwrap().summary()
    }

    #[test]
    fn the_summary_shows_the_worst_size() {
        assert_eq!(
            summary(29.6, 12.3, 0.101, 495e3),
            "dashboard: 29.6 frames a second at 499000 events a second (a.obs), key to frame 12 ms at the median and 90 at \
             worst, 10.1 % of a core: all goals are reached"
        );
    }

    #[test]
    fn the_summary_names_missed_goals() {
        assert!(summary(29.4, 49.0, 0.24, 5e5).ends_with("not reached: frames"));
        assert!(
            summary(30.0, 50.0, 0.25, 4e5)
                .ends_with("not reached: key to frame, processor time, events on a slow terminal")
        );
    }
}
