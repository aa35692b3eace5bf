//! Benchmark of the dashboard: the real program on a pseudo terminal plays a long recording at the pace of a busy machine.
//!
//! Decides what is measured and how it is printed: a table for people, and one line of JSON for machines at the end. `cargo
//! xtask bench dashboard` runs it. Figures are not judged here; a dashboard that does not work is a failure.

#[path = "dashboard/figures.rs"]
mod figures;
#[path = "dashboard/play.rs"]
mod play;
#[allow(dead_code, reason = "tests need more of a terminal than this")]
#[path = "../tests/tui/pty.rs"]
mod pty;
#[allow(dead_code, reason = "this bench prints less about a recording than the other")]
#[path = "engine/repeat.rs"]
mod repeat;
#[allow(dead_code, reason = "the stages of the other bench are not run here")]
#[path = "engine/stages.rs"]
mod stages;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use observer::tui::tab::Tab;
use serde_json::{Value, json};

use self::{
    figures::percentile,
    play::{Part, Playing, Slow},
    repeat::Recording,
    stages::Load,
};

/// Events per second for which the goals are set.
const RATE: f64 = 500_000.0;
/// Goal in frames per second.
const FRAMES_GOAL: f64 = 30.0;
/// Time from a key to the end of the frame that shows its effect, at the median.
const KEY_GOAL_MS: f64 = 50.0;
/// Share of one core that the threads of the view use.
const VIEW_GOAL: f64 = 0.25;

const SIZES: [(u16, u16); 2] = [(80, 24), (200, 50)];
/// Seconds by which the recording is longer than the measurement without a pause.
const SPARE_S: f64 = 6.0;

/// Measures how the dashboard keeps up with a recording that is played.
#[derive(Parser)]
struct Args {
    /// A recording; without: fixtures/fault-truncate.obs
    #[arg(long, value_name = "FILE")]
    recording: Option<PathBuf>,
    /// Measured at each size of the terminal
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// What cargo says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// Measurements at one size of the terminal.
struct Measured {
    size: (u16, u16),
    /// Measurements of each view, without a key press.
    views: Vec<Part>,
    /// Measurements while keys switch the view.
    keys: Part,
    keys_ms: Vec<f64>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let given = args.recording.is_some();
    let (name, recording) = Recording::given(args.recording)?;
    let half_s = args.seconds as f64 / 2.0;
    let events = RATE * (half_s.max(play::SLOW.as_secs_f64()) + SPARE_S);
    let load = Load { recording: &recording, times: (events / recording.events as f64).ceil() as u64 };
    let speed = RATE * recording.length_ns as f64 / 1e9 / recording.events as f64;
    // Rounded as the program shows it, so that it can be found on the screen.
    let speed = (speed * 1e3).round() as f32 / 1e3;
    let file = Scratch::new(&load.container()?)?;
    println!(
        "{name}, {} times: {} events, played at {speed} times their pace; load {}",
        load.times,
        load.events(),
        machine_load()
    );
    let mut line = measure(&file.0, speed, half_s)?;
    line["recording"] = name.into();
    println!("\n{line}");
    let figure = |name: &str| line.pointer(name).and_then(Value::as_u64);
    anyhow::ensure!(figure("/idle_bytes") == Some(0), "a paused dashboard writes");
    // A given recording may contain losses.
    anyhow::ensure!(given || figure("/slow/lost") == Some(0), "events are lost on a slow terminal");
    Ok(())
}

/// File of the long recording; removed when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(bytes: &[u8]) -> anyhow::Result<Scratch> {
        let path = std::env::temp_dir().join(format!("observer-dashboard-{}.obs", std::process::id()));
        std::fs::write(&path, bytes).context("write the long recording")?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A file that cannot be removed stays in the temporary directory.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn measure(file: &Path, speed: f32, half_s: f64) -> anyhow::Result<Value> {
    let mut playing = Playing::start(file, speed, SIZES[0])?;
    let mut all = Vec::new();
    for size in SIZES {
        playing.resize(size);
        let views = playing.each_view(half_s)?;
        let (keys, keys_ms) = playing.keys(half_s)?;
        all.push(Measured { size, views, keys, keys_ms });
    }
    print_views(&all);
    print_keys(&all);
    let slow = playing.slowly()?;
    let idle_bytes = playing.idle()?;
    playing.quit()?;
    println!(
        "\nslow terminal, {} bytes a second: {:.1} frames a second, {:.0} events a second, {} lost; paused: {idle_bytes} bytes",
        play::SLOW_BYTES,
        slow.frames_per_s,
        slow.events_per_s,
        slow.lost,
    );
    Ok(json!({
        "bench": "dashboard", "rate": RATE, "load": machine_load(),
        "frames_goal": FRAMES_GOAL, "key_goal_ms": KEY_GOAL_MS, "view_goal": VIEW_GOAL,
        "sizes": all.iter().map(Measured::json).collect::<Vec<_>>(),
        "slow": slow.json(), "idle_bytes": idle_bytes,
    }))
}

impl Measured {
    /// Measurements of all views together.
    fn views(&self) -> Part {
        self.views.iter().fold(Part::default(), |sum, part| sum.and(part))
    }

    /// Share of a core, with or without keys: the larger one.
    fn view_share(&self) -> f64 {
        self.views().view_share().max(self.keys.view_share())
    }

    fn json(&self) -> Value {
        let views = self.views();
        let part = |part: &Part| {
            json!({
                "events_per_s": part.events_per_s().round(), "frames_per_s": tenths(part.frames_per_s()),
                "frame_bytes_median": percentile(&part.frame_bytes, 50),
                "frame_bytes_p99": percentile(&part.frame_bytes, 99),
                "view_share": thousandths(part.view_share()), "process_share": thousandths(part.process_share()),
            })
        };
        json!({
            "columns": self.size.0, "rows": self.size.1,
            "events_per_s": views.events_per_s().round(), "frames_per_s": tenths(views.frames_per_s()),
            "view_share": thousandths(self.view_share()), "keys": self.keys_ms.len(),
            "key_median_ms": tenths(percentile(&self.keys_ms, 50)),
            "key_p95_ms": tenths(percentile(&self.keys_ms, 95)),
            "key_worst_ms": tenths(percentile(&self.keys_ms, 100)),
            "untouched": part(&views), "with_keys": part(&self.keys),
            "views": Tab::ALL.iter().zip(&self.views).map(|(tab, p)| (tab.view().name.to_owned(), part(p))).collect::<serde_json::Map<_, _>>(),
        })
    }
}

impl Slow {
    fn json(&self) -> Value {
        json!({
            "bytes_per_s": play::SLOW_BYTES, "frames_per_s": tenths(self.frames_per_s),
            "events_per_s": self.events_per_s.round(), "lost": self.lost,
        })
    }
}

fn print_views(all: &[Measured]) {
    println!();
    println!(
        "{:<8} {:<11} {:>10} {:>9} {:>8} {:>8} {:>8} {:>9}",
        "size", "view", "events/s", "frames/s", "bytes", "99th", "% view", "% process"
    );
    for measured in all {
        let row = |name: &str, part: &Part| {
            println!(
                "{:<8} {name:<11} {:>10.0} {:>9.1} {:>8.0} {:>8.0} {:>8.1} {:>9.1}",
                words(measured.size),
                part.events_per_s(),
                part.frames_per_s(),
                percentile(&part.frame_bytes, 50),
                percentile(&part.frame_bytes, 99),
                100.0 * part.view_share(),
                100.0 * part.process_share()
            );
        };
        Tab::ALL.iter().zip(&measured.views).for_each(|(tab, part)| row(tab.view().name, part));
        row("all", &measured.views());
        row("with keys", &measured.keys);
    }
    println!("bytes: of a frame; % view: of one core, the threads of the dashboard; % process: all of it");
}

fn print_keys(all: &[Measured]) {
    println!();
    println!("{:<8} {:>6} {:>14} {:>8} {:>8}", "size", "keys", "key->frame ms", "95th", "worst");
    for m in all {
        let [median, p95, worst] = [50, 95, 100].map(|p| percentile(&m.keys_ms, p));
        println!("{:<8} {:>6} {median:>14.1} {p95:>8.1} {worst:>8.1}", words(m.size), m.keys_ms.len());
    }
}

fn words(size: (u16, u16)) -> String {
    format!("{}x{}", size.0, size.1)
}

/// Load of the machine: the first number of its load average.
fn machine_load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

fn tenths(n: f64) -> f64 {
    (n * 10.0).round() / 10.0
}

fn thousandths(n: f64) -> f64 {
    (n * 1000.0).round() / 1000.0
}
