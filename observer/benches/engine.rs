//! Events per second of the engine on one core, and the cost of each kind of event.
//!
//! Prints a table for people, and one line of JSON for machines at the end. `cargo xtask bench engine` runs it. It
//! judges nothing. The machine is noisy, so it shows both the best run and the median.

#[path = "engine/costs.rs"]
mod costs;
#[path = "engine/repeat.rs"]
mod repeat;
#[path = "engine/stages.rs"]
mod stages;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Parser;
use serde_json::json;

use self::{
    costs::{Cost, Costs},
    repeat::{Addresses, Recording},
    stages::{Load, resident_bytes},
};

/// Decode, order and engine together, events a second.
const GOAL: u64 = 10_000_000;

/// Measures the throughput of the engine on one core.
#[derive(Parser)]
struct Args {
    /// A recording; without: fixtures/fault-truncate.obs
    #[arg(long, value_name = "FILE")]
    recording: Option<PathBuf>,
    /// The recording is repeated until it has this many events
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    events: u64,
    /// Times that each stage is run
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Runs one stage alone, by its name in the last line, to examine it
    #[arg(long, value_name = "STAGE", value_parser = STAGES.iter().map(|s| s.name).collect::<Vec<_>>())]
    only: Option<String>,
    /// What cargo says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// A stage that is timed.
struct Stage {
    /// For machines.
    name: &'static str,
    words: &'static str,
    run: fn(&Load, &mut Scratch) -> anyhow::Result<Duration>,
}

/// Bytes to findings, in memory. The performance goal is for this stage.
const WHOLE: &str = "decode_order_engine";
const ENGINE: &str = "engine";

/// In the order of the table.
const STAGES: &[Stage] = &[
    Stage { name: "decode", words: "decode", run: |load, _| Ok(load.decode()) },
    Stage { name: "decode_order", words: "decode + order", run: |load, _| load.order() },
    Stage { name: ENGINE, words: "engine", run: |load, _| load.engine(Addresses::Same) },
    Stage {
        name: "engine_fresh",
        words: "engine, fresh addresses",
        run: |load, _| load.engine(Addresses::Fresh),
    },
    Stage { name: WHOLE, words: "decode + order + engine", run: |load, _| load.all(Addresses::Same, |_| {}) },
    Stage {
        name: "decode_order_engine_fresh",
        words: "decode + order + engine, fresh",
        run: |load, scratch| {
            load.all(Addresses::Fresh, |n| {
                if n == load.times.div_ceil(10) {
                    scratch.tenth_bytes = resident_bytes();
                } else if n == load.times {
                    scratch.end_bytes = resident_bytes();
                }
            })
        },
    },
    Stage {
        name: "read",
        words: "read: container, zstd, columns",
        run: |load, scratch| load.read(scratch.container(load)?, false),
    },
    Stage {
        name: "read_decode_order_engine",
        words: "read + decode + order + engine",
        run: |load, scratch| load.read(scratch.container(load)?, true),
    },
];

/// Results that stages leave for each other and for the table.
#[derive(Default)]
struct Scratch {
    container: Vec<u8>,
    /// Resident memory after a tenth and at the end of a run whose objects are all new.
    tenth_bytes: Option<u64>,
    end_bytes: Option<u64>,
}

impl Scratch {
    fn container(&mut self, load: &Load) -> anyhow::Result<&[u8]> {
        if self.container.is_empty() {
            self.container = load.container()?;
        }
        Ok(&self.container)
    }
}

/// A stage that was run: how long each run took.
struct Row {
    stage: &'static Stage,
    took: Vec<Duration>,
}

impl Row {
    /// Events a second of the best run and of the median one.
    fn rates(&self, events: u64) -> [f64; 2] {
        let mut took = self.took.clone();
        took.sort_unstable();
        [took[0], took[took.len() / 2]].map(|t| events as f64 / t.as_secs_f64())
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let (name, recording) = Recording::given(args.recording)?;
    let load = Load { recording: &recording, times: args.events.div_ceil(recording.events) };
    print_load(&name, &load, args.runs);
    let wanted = |stage: &&Stage| args.only.as_ref().is_none_or(|only| only == stage.name);
    let mut rows: Vec<Row> =
        STAGES.iter().filter(wanted).map(|stage| Row { stage, took: Vec::new() }).collect();
    let mut scratch = Scratch::default();
    // The stages alternate, so that a disturbance of the machine affects all of them.
    for _ in 0..args.runs {
        for row in &mut rows {
            row.took.push((row.stage.run)(&load, &mut scratch)?);
        }
    }
    print_rows(&rows, load.events());
    if args.only.is_some() {
        return Ok(());
    }
    let costs = Costs::measure(&load)?;
    print_costs(&costs);
    print_memory(&scratch);
    print_line(&name, load.events(), &rows, &costs, &scratch)
}

fn print_load(name: &str, load: &Load, runs: u64) {
    let r = load.recording;
    println!(
        "{name}: {} events of {:.1} bytes ({:.2} in the file) in {} passes; {} times: {} events; {runs} runs of each stage, \
         one thread, processor time",
        r.events,
        r.bytes as f64 / r.events as f64,
        r.file_bytes as f64 / r.events as f64,
        r.passes(),
        load.times,
        load.events(),
    );
    println!(
        "fresh: no repetition meets a task, mm, table or lock of another; else each meets the same ones"
    );
}

fn print_rows(rows: &[Row], events: u64) {
    println!();
    println!("{:<32} {:>12} {:>12} {:>10}", "million events a second", "best", "median", "ns/event");
    for row in rows {
        let [best, median] = row.rates(events);
        println!(
            "{:<32} {:>12.2} {:>12.2} {:>10.1}",
            row.stage.words,
            best / 1e6,
            median / 1e6,
            1e9 / median
        );
    }
}

fn print_costs(costs: &Costs) {
    let all: u64 = costs.by_kind.values().map(|c| c.events).sum();
    let sum_ns = costs.mean_ns(|c| c.engine_ns);
    let share = |n: f64, of: f64| 100.0 * n / of;
    println!();
    println!("{:<18} {:>9} {:>10} {:>10} {:>10}", "kind", "events", "decode ns", "engine ns", "of engine");
    let mut kinds: Vec<_> = costs.by_kind.iter().collect();
    kinds.sort_by_key(|(_, c)| std::cmp::Reverse(c.events));
    for (name, c) in kinds {
        println!(
            "{name:<18} {:>8.2}% {:>10.1} {:>10.1} {:>9.2}%",
            share(c.events as f64, all as f64),
            c.decode_ns,
            c.engine_ns,
            share(c.engine_ns * c.events as f64, sum_ns * all as f64)
        );
    }
    println!("{:<18} {:>9} {:>10.1} {:>10.1}", "mean", "", costs.mean_ns(|c| c.decode_ns), sum_ns);
    println!(
        "decode: in batches of one kind; engine: {} samples, less {:.1} ns for the clock, {} outliers left out",
        costs.samples, costs.clock_ns, costs.outliers
    );
}

fn print_memory(scratch: &Scratch) {
    if let (Some(tenth), Some(end)) = (scratch.tenth_bytes, scratch.end_bytes) {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        println!();
        println!(
            "resident with fresh addresses: {:.1} MiB after a tenth, {:.1} MiB at the end",
            mib(tenth),
            mib(end)
        );
    }
}

/// Prints the last line: all figures, in events per second, nanoseconds and bytes.
fn print_line(name: &str, events: u64, rows: &[Row], costs: &Costs, scratch: &Scratch) -> anyhow::Result<()> {
    let rates = |pick: usize| -> BTreeMap<&str, f64> {
        rows.iter().map(|row| (row.stage.name, row.rates(events)[pick].round())).collect()
    };
    let tenths = |ns: f64| (ns * 10.0).round() / 10.0;
    let cost = |c: &Cost| json!({"events": c.events, "decode_ns": tenths(c.decode_ns), "engine_ns": tenths(c.engine_ns)});
    let kinds: BTreeMap<&str, serde_json::Value> =
        costs.by_kind.iter().map(|(name, c)| (*name, cost(c))).collect();
    let whole = rows.iter().find(|row| row.stage.name == WHOLE).context("the whole was not run")?;
    let line = json!({
        "bench": "engine", "recording": name, "events": events, "runs": whole.took.len(),
        "goal": GOAL, "best": rates(0), "median": rates(1), "kinds": kinds,
        "whole_best": whole.rates(events)[0].round(), "whole_median": whole.rates(events)[1].round(),
        "tenth_bytes": scratch.tenth_bytes, "end_bytes": scratch.end_bytes,
    });
    println!();
    println!("{line}");
    Ok(())
}
