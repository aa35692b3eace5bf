//! A recording in its parts, random changes of these, and the changed recording with right checksums.

use observer::{
    meta::{Closing, Lost, Meta, Since},
    recording::Reader,
    source::{Loss, Pass, Stack},
};
use observer_ebpf::{HEADER_BYTES, kinds, record::Records};
use serde_json::Value;

use super::{fixtures, random::Random, written::written};

/// The parts of a recording.
#[derive(Clone)]
pub struct Subject {
    pub meta: Meta,
    pub passes: Vec<Pass>,
    pub closing: Option<Closing>,
}

impl Subject {
    /// Reads a recording up to its end or its first fault; `None` if it is refused or has no pass.
    pub fn read(bytes: &[u8]) -> Option<Subject> {
        let mut reader = Reader::new(Box::new(std::io::Cursor::new(bytes.to_vec()))).ok()?;
        let passes = fixtures::passes(&mut reader);
        let subject = Subject { meta: reader.meta().clone(), passes, closing: reader.closing().cloned() };
        Some(subject).filter(|subject| !subject.passes.is_empty())
    }

    /// Takes these passes out. The others are numbered without a gap, as those of a recording are.
    pub fn without(&mut self, passes: std::ops::Range<usize>) {
        let first = self.passes[0].mark.number;
        self.passes.drain(passes);
        for (n, pass) in self.passes.iter_mut().enumerate() {
            pass.mark.number = first.wrapping_add(n as u64);
        }
    }

    /// Returns passes from a random one on, with at least this many bytes of records if there are so many.
    pub fn part(&self, bytes: usize, random: &mut Random) -> Subject {
        let from = random.below(self.passes.len() as u64) as usize;
        let mut left = bytes;
        let is_in = |pass: &&Pass| {
            let is_in = left > 0;
            left = left.saturating_sub(pass.batches.iter().map(|batch| batch.bytes.len()).sum());
            is_in
        };
        let passes = self.passes[from..].iter().take_while(is_in).cloned().collect();
        let mut part = Subject { meta: self.meta.clone(), passes, closing: self.closing.clone() };
        part.passes[0].mark.number = self.passes[0].mark.number;
        part.without(0..0);
        part
    }

    /// Returns the recording as a file.
    pub fn written(&self) -> Vec<u8> {
        written(&self.meta, &self.passes, self.closing.as_ref())
    }
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

/// The beginning of a recording in the middle of its run.
fn since(random: &mut Random) -> Since {
    let lost = |random: &mut Random| Lost {
        cpu: random.below(4) as u16,
        reason: random.below(4) as u16,
        site: None,
        total: number(random),
        since_ns: number(random),
    };
    Since {
        mark_ns: number(random),
        records: number(random),
        preamble_cpu: [4, 0, u16::MAX][random.below(3) as usize],
        next_seq: (0..4).map(|cpu| (cpu, number(random) as u32)).collect(),
        lost: (0..3).map(|_| lost(random)).collect(),
    }
}

/// Changes some parts of a recording.
pub fn mutate(subject: &mut Subject, random: &mut Random) {
    for _ in 0..=random.below(12) {
        let at = random.below(subject.passes.len() as u64) as usize;
        let pass = &mut subject.passes[at];
        match random.below(20) {
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
            5 => pass.stacks.push(Stack { id: random.below(64) as u32, frames: vec![number(random); 3] }),
            6 => pass.mark.time_ns = number(random),
            7 => subject.meta.since = Some(since(random)),
            8 => {
                let mut value = serde_json::to_value(&subject.closing).unwrap();
                mutate_json(&mut value, random);
                subject.closing = serde_json::from_value(value).unwrap_or_default();
            }
            _ => {
                let count = pass.batches.len().max(1) as u64;
                if let Some(batch) = pass.batches.get_mut(random.below(count) as usize) {
                    mutate_records(&mut batch.bytes, random);
                }
            }
        }
    }
}
