//! Fixtures that were changed at random and have right checksums: nothing panics, nothing takes long, whatever is in them.
//!
//! Debug builds check for overflows, so that a sum that wraps is a panic here. A failure names its seed; `OBSERVER_MUTANT=SEED` runs
//! that one again.

use observer::{
    diff::Diff,
    meta::{Closing, Meta},
    recording::Reader,
    report::several::{Named, Several},
    sink::{json, text},
    source::{Loss, Pass},
};
use observer_ebpf::{HEADER_BYTES, kinds, record::Records};
use serde_json::Value;

use super::{LIMIT, fixtures, random::Random, report_of};

/// Mutants of a run of the tests.
const MUTANTS: u64 = 300;
/// Fixtures up to this size are mutated: the others take seconds each.
const BYTES_MAX: usize = 30_000;

#[derive(Clone)]
struct Subject {
    meta: Meta,
    passes: Vec<Pass>,
    closing: Option<Closing>,
}

fn subjects() -> Vec<Subject> {
    let of = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).ok().filter(|bytes| bytes.len() <= BYTES_MAX)?;
        let mut reader = Reader::new(Box::new(std::io::Cursor::new(bytes))).ok()?;
        let passes = fixtures::passes(&mut reader);
        Some(Subject { meta: reader.meta().clone(), passes, closing: reader.closing().cloned() })
    };
    let all: Vec<Subject> = fixtures::paths().iter().filter_map(of).collect();
    assert!(all.len() >= 4);
    all
}

/// Numbers at which arithmetic goes wrong.
fn number(random: &mut Random) -> u64 {
    const SPECIAL: [u64; 10] = [0, 1, 2, 0xfff, 1 << 30, 1 << 32, 1 << 47, 1 << 63, u64::MAX - 1, u64::MAX];
    match random.below(3) {
        0 => SPECIAL[random.below(SPECIAL.len() as u64) as usize],
        1 => random.below(u64::MAX),
        _ => random.below(1 << 16),
    }
}

/// Changes some bytes of one record, or the order of records.
fn mutate_records(bytes: &mut Vec<u8>, random: &mut Random) {
    let starts: Vec<usize> = Records::of(bytes)
        .scan(0, |at, record| {
            let start = *at;
            *at += record.bytes().len();
            Some(start)
        })
        .collect();
    let Some(&start) = starts.get(random.below(starts.len().max(1) as u64) as usize) else { return };
    let end = starts.iter().copied().find(|at| *at > start).unwrap_or(bytes.len());
    let words = (end - start - HEADER_BYTES) / 8;
    match random.below(8) {
        // Time, sequence number, thread id, site, argument.
        0 => bytes[start..start + 8].copy_from_slice(&number(random).to_le_bytes()),
        1 => bytes[start + 8..start + 12].copy_from_slice(&(number(random) as u32).to_le_bytes()),
        2 => bytes[start + 12..start + 16].copy_from_slice(&(random.below(600) as u32).to_le_bytes()),
        3 => bytes[start + 18..start + 20].copy_from_slice(&(random.below(160) as u16).to_le_bytes()),
        4 => bytes[start + 20..start + 24].copy_from_slice(&(number(random) as u32).to_le_bytes()),
        // A word, by a number or by that of another record.
        5 if words > 0 => {
            let at = start + HEADER_BYTES + 8 * random.below(words as u64) as usize;
            let other = random.below((bytes.len() / 8) as u64) as usize * 8;
            let word = if random.below(2) == 0 {
                number(random).to_le_bytes()
            } else {
                bytes[other..other + 8].try_into().unwrap()
            };
            bytes[at..at + 8].copy_from_slice(&word);
        }
        // Another kind of the same size, or any.
        6 => {
            let kind = kinds::TABLE[random.below(kinds::TABLE.len() as u64) as usize].number;
            bytes[start + 16..start + 18].copy_from_slice(&kinds::on_wire(kind).to_le_bytes());
        }
        // A record that is there again, or not at all.
        7 if random.below(2) == 0 => {
            let record = bytes[start..end].to_vec();
            bytes.extend_from_slice(&record);
        }
        _ => drop(bytes.drain(start..end)),
    }
}

/// Replaces one value somewhere in a JSON value.
fn mutate_json(value: &mut Value, random: &mut Random) {
    match value {
        Value::Array(all) if !all.is_empty() && random.below(6) > 0 => {
            let at = random.below(all.len() as u64) as usize;
            mutate_json(&mut all[at], random);
        }
        Value::Object(all) if !all.is_empty() && random.below(20) > 0 => {
            let at = random.below(all.len() as u64) as usize;
            all.values_mut().nth(at).into_iter().for_each(|value| mutate_json(value, random));
        }
        Value::Array(all) => all.clear(),
        Value::Number(_) => *value = number(random).into(),
        Value::String(_) => {
            *value = ["", "\u{1b}[2J\n", "read", "ä\u{202e}", "x.y.z"][random.below(5) as usize].into()
        }
        Value::Bool(is) => *is = !*is,
        _ => {}
    }
}

fn mutate(subject: &mut Subject, random: &mut Random) {
    for _ in 0..=random.below(12) {
        let at = random.below(subject.passes.len() as u64) as usize;
        let pass = &mut subject.passes[at];
        match random.below(16) {
            0 => {
                let mut value = serde_json::to_value(&subject.meta).unwrap();
                mutate_json(&mut value, random);
                // What is not a description is refused, which is another test.
                if let Ok(meta) = serde_json::from_value::<Meta>(value) {
                    subject.meta = Meta {
                        format_version: subject.meta.format_version,
                        wire_version: subject.meta.wire_version,
                        ..meta
                    };
                }
            }
            1 => {
                let (cpu, reason) = (number(random) as u16, random.below(12) as u16);
                let site = (random.below(2) == 0).then(|| random.below(160) as u16);
                pass.loss.push(Loss { cpu, reason, site, total: number(random), since_ns: number(random) });
            }
            2 => pass.mark.complete = !pass.mark.complete,
            3 => pass.batches.iter_mut().for_each(|batch| batch.cpu = random.below(300) as u16),
            4 => pass.stacks.iter_mut().for_each(|stack| stack.id = number(random) as u32),
            _ => {
                let count = pass.batches.len().max(1) as u64;
                if let Some(batch) = pass.batches.get_mut(random.below(count) as usize) {
                    mutate_records(&mut batch.bytes, random);
                }
            }
        }
    }
}

fn check(subjects: &[Subject], seed: u64) {
    let mut random = Random::new(seed);
    let whole = &subjects[random.below(subjects.len() as u64) as usize];
    let mut mutant = whole.clone();
    mutate(&mut mutant, &mut random);
    let result = std::panic::catch_unwind(|| {
        // A description with unknown names is refused, as one of a later version.
        let Some((report, took)) = report_of(&mutant.meta, &mutant.passes, mutant.closing.as_ref()) else {
            return;
        };
        assert!(took < LIMIT, "{took:?}");
        let same = report_of(&whole.meta, &whole.passes, whole.closing.as_ref()).unwrap().0;
        let diff = Diff::of(&same, &report);
        text::diff::write(&mut Vec::new(), &diff, ["a", "b"]).unwrap();
        json::diff::write(&mut Vec::new(), &diff, ["a", "b"]).unwrap();
        let named = |report| Named { name: "x".into(), report };
        let several = Several::of(vec![named(same), named(report)]);
        text::several::write(&mut Vec::new(), &several).unwrap();
        json::several::write(&mut Vec::new(), &several).unwrap();
    });
    assert!(result.is_ok(), "OBSERVER_MUTANT={seed}");
}

#[test]
fn mutants_with_right_checksums_are_reported_or_refused() {
    let subjects = subjects();
    match std::env::var("OBSERVER_MUTANT") {
        Ok(seed) => check(&subjects, seed.parse().unwrap()),
        Err(_) => (0..MUTANTS).for_each(|seed| check(&subjects, seed)),
    }
}

/// `OBSERVER_MUTANTS=1000000 cargo test -p observer --test hostile -- --ignored soak`
#[test]
#[ignore = "takes hours"]
fn soak() {
    let subjects = subjects();
    let count: u64 = std::env::var("OBSERVER_MUTANTS").map_or(10_000, |n| n.parse().unwrap());
    for seed in 0..count {
        check(&subjects, 1_000_000 + seed);
        if seed % 1_000 == 0 {
            println!("{seed} mutants");
        }
    }
}
