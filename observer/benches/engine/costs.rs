//! Cost of an event, by kind.
//!
//! Decode is timed in batches of one kind. The engine cannot be timed like this, because the cost of an event depends
//! on the events before it. So the clock is read around one of eight events, chosen at random in a whole run. The
//! cost of reading the clock, measured in the same run between two events, is subtracted. Reading the clock makes the
//! processor finish earlier instructions; in a run without clocks, events overlap and wait for memory. So the mean
//! differs slightly from that of the table, and the shares are shares of the sum.

use std::{
    collections::BTreeMap,
    hint::black_box,
    time::{Duration, Instant},
};

use observer_ebpf::kinds;
use observer_ebpf::record::Records;
use observer_engine::event::decode;

use super::{
    repeat::{Addresses, Recording},
    stages::{Load, Step, busy},
};

/// Longer than any event takes: the machine was interrupted.
const OUTLIER: Duration = Duration::from_micros(50);
/// Minimum number of records decoded in batches of one kind.
const DECODED: usize = 2_000_000;

/// One kind of event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// In the recording.
    pub events: u64,
    pub decode_ns: f64,
    pub engine_ns: f64,
}

/// All kinds in the recording, by name.
pub struct Costs {
    pub by_kind: BTreeMap<&'static str, Cost>,
    /// Cost of reading the clock twice.
    pub clock_ns: f64,
    pub samples: u64,
    /// Samples that were discarded.
    pub outliers: u64,
}

impl Costs {
    pub fn measure(load: &Load) -> anyhow::Result<Costs> {
        let mut engine = sampled(load)?;
        let mut by_kind = BTreeMap::new();
        for (kind, bytes) in batches(load.recording) {
            let Some(row) = kinds::by_number(kind) else { continue };
            let (events, decode_ns) = decode_batch(&bytes);
            let engine_ns =
                engine.by_kind.remove(&kind).map_or(0.0, |s| s.mean_ns() - engine.empty.mean_ns());
            by_kind.insert(row.name, Cost { events, decode_ns, engine_ns });
        }
        let (samples, clock_ns) = (engine.samples, engine.empty.mean_ns());
        Ok(Costs { by_kind, clock_ns, samples, outliers: engine.outliers })
    }

    /// The mean of all events.
    pub fn mean_ns(&self, of: impl Fn(&Cost) -> f64) -> f64 {
        let events: u64 = self.by_kind.values().map(|c| c.events).sum();
        self.by_kind.values().map(|c| of(c) * c.events as f64).sum::<f64>() / events as f64
    }
}

#[derive(Clone, Copy, Default)]
struct Sum {
    took: Duration,
    n: u32,
}

impl Sum {
    fn mean_ns(self) -> f64 {
        self.took.as_nanos() as f64 / f64::from(self.n.max(1))
    }
}

#[derive(Default)]
struct Sampled {
    by_kind: BTreeMap<u16, Sum>,
    empty: Sum,
    samples: u64,
    outliers: u64,
}

/// Runs the engine with a clock around some events, and around nothing equally often.
fn sampled(load: &Load) -> anyhow::Result<Sampled> {
    let mut engine = load.new_engine()?;
    let mut sampled = Sampled::default();
    let mut sums = [Sum::default(); 64];
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    load.steps(Addresses::Same, |steps| {
        for step in steps {
            let event = match step {
                Step::Event(event) => event,
                Step::Hole(hole) => {
                    engine.hole(*hole);
                    continue;
                }
                Step::Tick(until_ns) => {
                    engine.tick(*until_ns);
                    continue;
                }
            };
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let (into, took) = match random % 8 {
                0 => {
                    let begun = Instant::now();
                    engine.push(event);
                    let took = begun.elapsed();
                    (&mut sums[usize::from(event.body.kind()) % 64], took)
                }
                1 => {
                    let begun = Instant::now();
                    black_box(event);
                    let took = begun.elapsed();
                    engine.push(event);
                    (&mut sampled.empty, took)
                }
                _ => {
                    engine.push(event);
                    continue;
                }
            };
            sampled.samples += 1;
            if took > OUTLIER {
                sampled.outliers += 1;
            } else {
                into.took += took;
                into.n += 1;
            }
        }
    });
    sampled.by_kind = (0..).zip(sums).collect();
    Ok(sampled)
}

/// The records of each kind, one after the other.
fn batches(recording: &Recording) -> BTreeMap<u16, Vec<u8>> {
    let mut passes = Vec::new();
    recording.nth(0, Addresses::Same, &mut passes);
    let mut batches: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
    for batch in passes.iter().flat_map(|pass| &pass.batches) {
        for record in Records::of(&batch.bytes) {
            batches.entry(record.kind()).or_default().extend_from_slice(record.bytes());
        }
    }
    batches
}

/// Records of a batch, and nanoseconds for each.
fn decode_batch(bytes: &[u8]) -> (u64, f64) {
    let once = || {
        Records::of(bytes).fold(0, |records, record| {
            let _ = black_box(decode(0, record));
            records + 1
        })
    };
    let records: usize = once();
    let times = DECODED.div_ceil(records);
    let begun = busy();
    for _ in 0..times {
        black_box(once());
    }
    (records as u64, busy().saturating_sub(begun).as_nanos() as f64 / (times * records) as f64)
}
