//! The preamble: one-time records that a reader needs wherever it begins, namely task names, lock owners and stacks.
//!
//! Decides which of these are still needed: a task until it exits, a lock until it is forgotten, a stack until the kernel
//! reuses its number. The records are unchanged except for their sequence numbers. They are repeated as records of a
//! nonexistent CPU, at the times at which they happened.

use std::collections::BTreeMap;

use observer_ebpf::{HEADER_BYTES, RECORD_BYTES_MAX, kinds};

use crate::{
    meta::Symbol,
    source::{Batch, Mark, Pass, Stack},
};

/// Maximum number of records kept of one kind. More tasks and locks are not expected at a time; if there are more, the oldest
/// are dropped.
const KEPT_MAX: usize = 1 << 16;

/// A record as it arrived.
#[derive(Clone, Copy)]
struct Record {
    bytes: [u8; RECORD_BYTES_MAX],
    length: usize,
}

impl Record {
    fn new(record: &[u8]) -> Record {
        let mut bytes = [0; RECORD_BYTES_MAX];
        bytes[..record.len()].copy_from_slice(record);
        Record { bytes, length: record.len() }
    }

    fn time_ns(&self) -> u64 {
        u64_at(&self.bytes, 0)
    }

    fn numbered(mut self, seq: u32) -> impl Iterator<Item = u8> {
        self.bytes[8..12].copy_from_slice(&seq.to_le_bytes());
        self.bytes.into_iter().take(self.length)
    }
}

/// State for the preamble: all records that it repeats.
#[derive(Default)]
pub struct Again {
    /// Task records, by task.
    tasks: BTreeMap<u32, Record>,
    /// Stack records, by task and site of the operation.
    stacks: BTreeMap<(u32, u64), Record>,
    /// Lock records, by lock.
    locks: BTreeMap<u64, Record>,
    /// Frames, by the stack number in records.
    frames: BTreeMap<u32, Vec<u64>>,
    symbols: BTreeMap<u64, Symbol>,
}

impl Again {
    /// Takes the stacks of a pass, before its records.
    pub fn stacks(&mut self, pass: &Pass) {
        for Stack { id, frames } in &pass.stacks {
            let before = self.frames.insert(*id, frames.clone());
            if before.is_some_and(|before| before != *frames) {
                // The kernel reused the number for another stack: earlier records do not mean this one.
                self.stacks.retain(|_, record| u32_at(&record.bytes, 20) != *id);
            }
        }
        for symbol in &pass.symbols {
            self.symbols.entry(symbol.address).or_insert_with(|| symbol.clone());
        }
    }

    /// Takes a whole record.
    pub fn record(&mut self, record: &[u8]) {
        let (kind, words) = kinds::from_wire(u16_at(record, 16));
        if words == 0 || Some(words) != kinds::words(kind) {
            return;
        }
        let (time_ns, tid, word) = (u64_at(record, 0), u32_at(record, 12), u64_at(record, HEADER_BYTES));
        match kind {
            kinds::TASK => keep(&mut self.tasks, tid, record),
            kinds::LOCK_NAME => keep(&mut self.locks, word, record),
            kinds::STACK => keep(&mut self.stacks, (tid, word), record),
            // Batches of CPUs are processed one after the other. An exit may thus follow the record of the next task with the
            // same number, and must not remove it. The same holds for locks.
            kinds::TASK_EXIT if self.tasks.get(&tid).is_none_or(|r| r.time_ns() < time_ns) => {
                self.tasks.remove(&tid);
                self.stacks.retain(|(of, _), _| *of != tid);
            }
            kinds::LOCK_FORGET if self.locks.get(&word).is_some_and(|r| r.time_ns() < time_ns) => {
                self.locks.remove(&word);
            }
            _ => {}
        }
    }

    /// Builds the pass with the whole preamble, as of this mark.
    pub fn pass(&self, mark: Mark, cpu: u16) -> Pass {
        let mut records: Vec<&Record> =
            self.tasks.values().chain(self.locks.values()).chain(self.stacks.values()).collect();
        records.sort_by_key(|r| r.time_ns());
        let bytes: Vec<u8> = records.iter().zip(0..).flat_map(|(record, seq)| record.numbered(seq)).collect();
        Pass {
            mark: Mark { complete: true, ..mark },
            batches: if bytes.is_empty() { Vec::new() } else { vec![Batch { cpu, bytes }] },
            loss: Vec::new(),
            stacks: self
                .frames
                .iter()
                .map(|(id, frames)| Stack { id: *id, frames: frames.clone() })
                .collect(),
            symbols: self.symbols.values().cloned().collect(),
        }
    }
}

fn keep<K: Ord + Copy>(kept: &mut BTreeMap<K, Record>, key: K, record: &[u8]) {
    if kept.len() >= KEPT_MAX && !kept.contains_key(&key) {
        let mut times: Vec<u64> = kept.values().map(Record::time_ns).collect();
        let (_, middle, _) = times.select_nth_unstable(KEPT_MAX / 2);
        let middle = *middle;
        kept.retain(|_, r| r.time_ns() > middle);
    }
    kept.insert(key, Record::new(record));
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut n = [0; 4];
    n.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(n)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut n = [0; 8];
    n.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(n)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}
