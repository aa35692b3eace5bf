//! Benchmark of seeks in a long recording, and of the memory that its checkpoints take.
//!
//! Decides what is measured: the first reading, and seeks to random events, forward and back, each with its snapshot. It
//! measures wall-clock time, because that is how long a person waits.

#[allow(dead_code, reason = "this bench prints less about a recording than the other")]
#[path = "engine/repeat.rs"]
mod repeat;
#[allow(dead_code, reason = "the stages of the other bench are not run here")]
#[path = "engine/stages.rs"]
mod stages;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use observer::{
    events::Filter,
    recording::Input,
    run::player::{Next, Player},
    snapshot::{Command, Position, Replay, To},
};
use serde_json::json;

use self::{
    repeat::Recording,
    stages::{Load, resident_bytes},
};

const SLICE: Duration = Duration::from_millis(10);

/// Measures how long it takes to come to a place in a long recording.
#[derive(Parser)]
struct Args {
    /// A recording; without: fixtures/fault-truncate.obs
    #[arg(long, value_name = "FILE")]
    recording: Option<PathBuf>,
    /// The recording is repeated until it has so many events
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    events: u64,
    /// Random seeks
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    seeks: u64,
    /// What cargo says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let (name, recording) = Recording::given(args.recording)?;
    let load = Load { recording: &recording, times: args.events.div_ceil(recording.events) };
    let file = std::env::temp_dir().join(format!("observer-seek-{}.obs", std::process::id()));
    std::fs::write(&file, load.container()?).context("write the long recording")?;
    let measured = measure(&file, args.seeks);
    std::fs::remove_file(&file)?;
    let line = measured?;
    println!("{name}, {} times: {} events", load.times, load.events());
    println!("{line}");
    Ok(())
}

fn measure(file: &std::path::Path, seeks: u64) -> anyhow::Result<serde_json::Value> {
    let before_bytes = resident_bytes();
    let mut player = Player::open("long".into(), Input::File(file.to_owned()), None)?;
    player.command(Command::Tail(Filter::default()));
    let first = settle(&mut player)?;
    let after_bytes = resident_bytes();
    let events = place(&player)?.events;
    let mut took = Vec::new();
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..seeks {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        player.command(Command::Seek(To::Event(dice % events)));
        took.push(settle(&mut player)?);
        anyhow::ensure!(place(&player)?.event == dice % events, "it came to another place");
    }
    took.sort_unstable();
    let mut steps = Vec::new();
    for by in [1, -1, 1, -1, 1, -1, 1] {
        player.command(Command::Seek(To::Steps(by)));
        steps.push(settle(&mut player)?);
    }
    steps.sort_unstable();
    let ms = |d: Duration| (d.as_secs_f64() * 1e4).round() / 10.0;
    Ok(json!({
        "bench": "seek", "events": events, "file_bytes": std::fs::metadata(file)?.len(),
        "first_reading_ms": ms(first), "seeks": seeks,
        "median_ms": ms(took[took.len() / 2]), "worst_ms": ms(took[took.len() - 1]), "step_median_ms": ms(steps[3]),
        "step_worst_ms": ms(steps[6]), "before_bytes": before_bytes, "after_bytes": after_bytes,
        "end_bytes": resident_bytes(),
    }))
}

/// Works until nothing is left to do; returns the time until the snapshot was ready.
fn settle(player: &mut Player) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    while player.work(SLICE)? != Next::Idle {}
    std::hint::black_box(player.snapshot());
    Ok(begun.elapsed())
}

fn place(player: &Player) -> anyhow::Result<Replay> {
    match player.position() {
        Position::Replay(place) => Ok(place),
        _ => anyhow::bail!("a player is no kernel"),
    }
}
