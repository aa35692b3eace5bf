//! `cargo xtask bench`: measures observer's speed. `observer/benches` measures; this file builds it like the released binary,
//! runs it, shows its output, and makes one line for a test run's summary. A slow machine is not a failure. `cost` measures
//! the watched kernel instead, in a guest.

mod cost;
mod dashboard;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde::{Deserialize, de::DeserializeOwned};

use self::cost::Cost;
pub use self::dashboard::Dashboard;
use crate::{build, host};

#[derive(Args)]
pub struct Bench {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Subcommand)]
enum Subject {
    /// Events a second, from bytes to findings, on one core; and what each kind of event costs
    Engine(Engine),
    /// How the dashboard keeps up with a recording that is played: frames a second, key to frame, processor time
    Dashboard(Dashboard),
    /// Instructions that observer adds to operations of a guest, compared with the kept figures
    Cost(Cost),
}

#[derive(Args, Default)]
pub struct Engine {
    /// A recording to repeat; without, a fixture
    #[arg(long, value_name = "FILE")]
    recording: Option<PathBuf>,
    /// How many events to make of it, at least
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Times that each stage is run
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
    /// Runs one stage alone, for whoever looks closer
    #[arg(long, value_name = "STAGE")]
    only: Option<String>,
}

/// The fields of the bench's last line that are judged here.
#[derive(Debug, Deserialize, PartialEq)]
struct Line {
    recording: String,
    events: u64,
    runs: u64,
    /// Goal in events per second.
    goal: u64,
    whole_best: f64,
    whole_median: f64,
}

impl Bench {
    pub fn run(self) -> Result<()> {
        match self.subject {
            Subject::Engine(engine) => host::run(&mut engine.command()?),
            Subject::Dashboard(dashboard) => host::run(&mut dashboard.command()?),
            Subject::Cost(cost) => cost.run(),
        }
    }
}

/// Builds the command of an observer bench, compiled like the released binary.
fn command(bench: &str, recording: Option<&Path>) -> Result<Command> {
    let mut command = build::static_cargo("bench");
    command.args(["--package", "observer", "--bench", bench]);
    // With the object of the last build inside, nothing has to be built twice.
    let object = host::target_dir()?.join(build::BPF_OBJECT);
    if object.is_file() {
        command.env("OBSERVER_BPF_OBJECT", object);
    }
    command.arg("--");
    if let Some(recording) = recording {
        // The bench runs in another directory.
        let recording =
            std::path::absolute(recording).with_context(|| format!("cannot use {}", recording.display()))?;
        command.arg("--recording").arg(recording);
    }
    Ok(command)
}

/// Runs a bench, shows its output, and parses its last line.
fn last_line<Line: DeserializeOwned>(mut command: Command) -> Result<Line> {
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo bench")?;
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    if !output.status.success() {
        bail!("the bench failed: {}", output.status);
    }
    line_of(&said)
}

fn line_of<Line: DeserializeOwned>(said: &str) -> Result<Line> {
    let line = said.lines().last().context("the bench said nothing")?;
    serde_json::from_str(line).context("the last line of the bench is not understood")
}

impl Engine {
    /// Runs the bench, shows its output, and returns the line for the summary.
    pub fn summary(&self) -> Result<String> {
        Ok(last_line::<Line>(self.command()?)?.summary())
    }

    fn command(&self) -> Result<Command> {
        let mut command = command("engine", self.recording.as_deref())?;
        for (name, n) in [("--events", self.events), ("--runs", self.runs)] {
            if let Some(n) = n {
                command.args([name, &n.to_string()]);
            }
        }
        if let Some(only) = &self.only {
            command.args(["--only", only]);
        }
        Ok(command)
    }
}

impl Line {
    fn summary(&self) -> String {
        let million = |n: f64| n / 1e6;
        let verdict = match self.goal as f64 {
            goal if self.whole_median >= goal => "reached",
            goal if self.whole_best >= goal => "reached in the best run only",
            _ => "not reached",
        };
        format!(
            "engine: {:.1} million events a second, {:.1} in the best of {} runs ({} of {}): the goal of {:.0} is {verdict}",
            million(self.whole_median),
            million(self.whole_best),
            self.runs,
            self.events,
            self.recording,
            million(self.goal as f64),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(best: f64, median: f64) -> String {
        let said = format!(
            "a table\n\n{{\"bench\":\"engine\",\"recording\":\"a.obs\",\"events\":7,\"runs\":5,\"goal\":10000000,\
             \"whole_best\":{best},\"whole_median\":{median},\"kinds\":{{}}}}\n"
        );
        line_of::<Line>(&said).unwrap().summary()
    }

    #[test]
    fn the_summary_compares_the_result_with_the_goal() {
        assert_eq!(
            verdict(12.34e6, 10.0e6),
            "engine: 10.0 million events a second, 12.3 in the best of 5 runs (7 of a.obs): the goal of 10 is reached"
        );
        assert!(verdict(12.3e6, 9.9e6).ends_with("is reached in the best run only"));
        assert!(verdict(9.9e6, 9.0e6).ends_with("is not reached"));
    }

    #[test]
    fn a_bench_without_its_last_line_is_a_failure() {
        assert!(line_of::<Line>("").is_err());
        assert!(line_of::<Line>("a table\n").is_err());
    }
}
