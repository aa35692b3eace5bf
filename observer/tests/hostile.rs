//! Recordings that were made to cost time or memory: their checksums are right, and no kernel sends such events.
//!
//! Each world is many records of one kind, by one task or by many, about one object or about many; or a random mixture. The
//! description is that of a fixture, so that sites and rules are real. A report on each has to end within [`LIMIT`].

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail like the test itself")]

#[path = "common/everything.rs"]
mod everything;
#[path = "common/fixtures.rs"]
mod fixtures;
#[path = "hostile/mutants.rs"]
mod mutants;
#[path = "common/random.rs"]
mod random;
#[path = "common/shared.rs"]
mod shared;
#[allow(dead_code, reason = "the dashboard's tests need more of it")]
#[path = "tui/stage.rs"]
mod stage;
#[path = "common/subject.rs"]
mod subject;
#[path = "common/written.rs"]
mod written;

use std::{collections::BTreeMap, path::Path, time::Duration};

use observer::{
    meta::{Closing, Meta},
    recording::Reader,
    report::Report,
    source::{Batch, Loss, Mark, Pass},
};
use observer_ebpf::{
    Header, kinds,
    record::{Record, Records},
};

use self::{everything::processor_time, random::Random, written::written};

/// Longest processor time of a report on a hostile recording. It takes a tenth of that, unless the work grows with the square of the records.
const LIMIT: Duration = Duration::from_secs(4);
/// Number of records in each world.
const RECORDS: u64 = 5_000;
/// Time between two records in nanoseconds.
const STEP_NS: u64 = 1_000;

/// The fixture's description, and a site and an argument for each kind of record that it has.
struct Base {
    meta: Meta,
    examples: BTreeMap<u16, (u16, u32)>,
}

fn base() -> Base {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/sample.obs");
    let mut reader = Reader::new(Box::new(std::fs::File::open(fixture).unwrap())).unwrap();
    let mut examples = BTreeMap::new();
    for batch in fixtures::passes(&mut reader).iter().flat_map(|pass| &pass.batches) {
        for record in Records::of(&batch.bytes) {
            let Header { site, arg, .. } = record.header();
            examples.entry(record.kind()).or_insert((site, arg));
        }
    }
    for kind in kinds::TABLE {
        examples.entry(kind.number).or_insert((0, 0x11));
    }
    Base { meta: reader.meta().clone(), examples }
}

/// A recording being made.
struct World<'a> {
    base: &'a Base,
    bytes: Vec<u8>,
    records: u64,
}

impl<'a> World<'a> {
    fn new(base: &'a Base) -> World<'a> {
        World { base, bytes: Vec::new(), records: 0 }
    }

    fn add(&mut self, kind: u16, tid: u64, words: [u64; 5]) {
        let (site, arg) = self.base.examples[&kind];
        let count = kinds::words(kind).unwrap_or(1);
        let header = Header {
            time_ns: self.base.meta.start_ns + self.records * STEP_NS,
            seq: self.records as u32,
            tid: tid as u32,
            kind: kinds::on_wire(kind),
            site,
            arg,
        };
        self.bytes.extend_from_slice(&header.to_bytes());
        words[..count].iter().for_each(|word| self.bytes.extend_from_slice(&word.to_le_bytes()));
        self.records += 1;
    }

    /// A task inside an operation, so that its events count.
    fn enters(&mut self, tid: u64) {
        self.add(kinds::TASK, tid, [0x6f_6f66, 0, MM, 0, 0]);
        self.add(kinds::OP_BEGIN, tid, [MM, ADDR, ADDR + (1 << 30), 0, 0]);
    }

    /// One pass for each thousand records.
    fn passes(&self) -> Vec<Pass> {
        let records: Vec<Record<'_>> = Records::of(&self.bytes).collect();
        assert_eq!(records.len() as u64, self.records, "records of another length");
        let mut passes = Vec::new();
        for (number, some) in records.chunks(1_000).enumerate() {
            let bytes: Vec<u8> = some.iter().flat_map(|record| record.bytes().to_vec()).collect();
            let time_ns = some.last().unwrap().header().time_ns + 1;
            let mark = Mark { number: number as u64, time_ns, complete: true };
            passes.push(Pass { mark, batches: vec![Batch { cpu: 0, bytes }], ..Pass::default() });
        }
        passes
    }
}

const MM: u64 = 0xffff_8880_0400_0000;
const ADDR: u64 = 0x7f00_4000_0000;
const OBJECT: u64 = 0xffff_8880_1000_0000;

/// The words of a record about object `n`; addresses of different objects differ by more than a GiB.
fn about(n: u64) -> [u64; 5] {
    let n = n << 31;
    [OBJECT.wrapping_add(n), ADDR + n, OBJECT.wrapping_add(n + 0x4000), ADDR + n, 0]
}

/// Writes a recording, reads it and writes every kind of report on it. Returns the report and the processor time from
/// reading on; `None`: the description is refused.
fn report_of(meta: &Meta, passes: &[Pass], closing: Option<&Closing>) -> Option<(Report, Duration)> {
    let bytes = written(meta, passes, closing);
    let begun = processor_time();
    let report = everything::report(&bytes)?;
    everything::sinks(&report);
    Some((report, processor_time() - begun))
}

/// Reports on a world and returns an error if it takes too long.
fn check(name: &str, world: &World<'_>, slow: &mut Vec<String>) {
    let (_, took) = report_of(&world.base.meta, &world.passes(), None).unwrap();
    if took > Duration::from_secs(1) {
        println!("{name}: {:.1} s", took.as_secs_f64());
    }
    if took > LIMIT {
        slow.push(format!("{name}: {:.1} s", took.as_secs_f64()));
    }
}

#[test]
fn many_records_of_one_kind_are_reported_in_bounded_time() {
    let (base, mut slow) = (base(), Vec::new());
    for kind in kinds::TABLE.iter().map(|kind| kind.number) {
        for (tasks, objects) in [(1, 1), (1, RECORDS), (RECORDS, 1), (RECORDS, RECORDS), (64, 64)] {
            let mut world = World::new(&base);
            (0..tasks.min(64)).for_each(|tid| world.enters(100 + tid));
            for n in 0..RECORDS {
                world.add(kind, 100 + n % tasks, about(n % objects));
            }
            let name = kinds::by_number(kind).unwrap().name;
            check(&format!("{name} by {tasks} tasks about {objects} objects"), &world, &mut slow);
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
}

#[test]
fn mixtures_are_reported_in_bounded_time() {
    let (base, mut slow) = (base(), Vec::new());
    for seed in 1..=24 {
        let mut random = Random::new(seed);
        let (tasks, objects) = [(2, 4), (8, 1_000), (1_000, 8), (RECORDS, RECORDS)][seed as usize % 4];
        let some: Vec<u16> = (0..2 + random.below(6))
            .map(|_| kinds::TABLE[random.below(kinds::TABLE.len() as u64) as usize].number)
            .collect();
        let mut world = World::new(&base);
        for _ in 0..RECORDS {
            let kind = some[random.below(some.len() as u64) as usize];
            world.add(kind, 100 + random.below(tasks), about(random.below(objects)));
        }
        check(&format!("mixture {seed} of {some:?}"), &world, &mut slow);
    }
    assert!(slow.is_empty(), "{slow:#?}");
}

#[test]
fn counters_near_their_end_do_not_wrap() {
    let base = base();
    let mut world = World::new(&base);
    (0..5_000).for_each(|n| world.add(kinds::LOOKUP, 100, about(n % 7)));
    let mut passes = world.passes();
    for (n, pass) in passes.iter_mut().enumerate() {
        for reason in 0..4 {
            let total = u64::MAX - 3 + n as u64 % 4;
            pass.loss.push(Loss { cpu: reason, reason, site: None, total, since_ns: n as u64 });
        }
    }
    let (report, _) = report_of(&base.meta, &passes, None).unwrap();
    assert!(!report.loss.is_empty());
    assert!(report.loss.iter().all(|(_, n)| *n > u64::MAX / 2), "{:?}", report.loss);
}

#[test]
fn holes_by_the_ten_thousand_are_reported_in_bounded_time() {
    let (base, mut slow) = (base(), Vec::new());
    for kind in [kinds::LOCK_RELEASE, kinds::LOOKUP, kinds::TASK] {
        let mut world = World::new(&base);
        for n in 0..RECORDS {
            world.add(kind, 100 + n % 500, about(n));
            // A sequence number is skipped before each record.
            let at = world.bytes.len() - Records::of(&world.bytes).last().unwrap().bytes().len() + 8;
            world.bytes[at..at + 4].copy_from_slice(&(2 * n as u32).to_le_bytes());
        }
        check(&format!("holes between records of kind {kind}"), &world, &mut slow);
    }
    assert!(slow.is_empty(), "{slow:#?}");
}

/// One hole on the last CPU that a number can name, from the start of the run on.
#[test]
fn a_high_number_of_a_cpu_costs_little() {
    let base = base();
    let mut world = World::new(&base);
    world.enters(100);
    (0..5 * RECORDS).for_each(|n| world.add(kinds::LOOKUP, 100 + n % 8, about(n % 7)));
    let mut passes = world.passes();
    for pass in &mut passes {
        pass.loss.push(Loss {
            cpu: u16::MAX - 1,
            reason: 3,
            site: None,
            total: pass.mark.number + 1,
            since_ns: 0,
        });
    }
    let (_, took) = report_of(&base.meta, &passes, None).unwrap();
    assert!(took < LIMIT, "{took:?}");
}

/// Each of 60,000 CPUs has a record in the first pass, and one of them in each later pass.
#[test]
fn a_pass_costs_what_its_records_cost_however_many_processors_there_are() {
    const CPUS: u16 = 60_000;
    const PASSES: u64 = 20_000;
    let base = base();
    let mut seqs = vec![0; usize::from(CPUS)];
    let mut pass = |number: u64, cpus: std::ops::Range<u16>| {
        let time_ns = base.meta.start_ns + number * STEP_NS;
        let batch = |cpu: u16| {
            let mut world = World::new(&base);
            world.add(kinds::LOCK_NAME, 100, about(u64::from(cpu)));
            let seq = &mut seqs[usize::from(cpu)];
            world.bytes[8..12].copy_from_slice(&u32::to_le_bytes(*seq));
            world.bytes[..8].copy_from_slice(&time_ns.to_le_bytes());
            *seq += 1;
            Batch { cpu, bytes: world.bytes }
        };
        let batches = cpus.map(batch).collect();
        let mark = Mark { number, time_ns: time_ns + 1, complete: true };
        Pass { mark, batches, ..Pass::default() }
    };
    let mut passes = vec![pass(0, 0..CPUS)];
    passes.extend((1..=PASSES).map(|number| {
        let cpu = (number % u64::from(CPUS)) as u16;
        pass(number, cpu..cpu + 1)
    }));
    let (report, took) = report_of(&base.meta, &passes, None).unwrap();
    println!("{} events of {CPUS} CPUs in {PASSES} passes: {took:?}", report.counts.events);
    assert_eq!(report.counts.events, u64::from(CPUS) + PASSES);
    assert_eq!(report.counts.lost, 0);
    assert!(took < LIMIT, "{took:?}");
}
