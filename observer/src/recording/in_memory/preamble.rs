//! The preamble: one-time records that a reader needs wherever it begins, namely task names, lock owners and stacks.
//!
//! Decides which of these are still needed: a task until it exits, a lock until it is forgotten, a stack until the kernel
//! reuses its number. The records are unchanged except for their sequence numbers. They are repeated as records of a
//! nonexistent CPU, at the times at which they happened.

use std::collections::BTreeMap;

use observer_ebpf::{
    Header, kinds,
    record::{Record, RecordBuf},
};

use crate::{
    meta::Symbol,
    source::{Batch, Mark, Pass, Stack},
};

/// Maximum number of records kept of one kind. More tasks and locks are not expected at a time; if there are more, the oldest
/// are dropped.
const KEPT_MAX: usize = 1 << 16;

/// State for the preamble: all records that it repeats.
#[derive(Default)]
pub struct Preamble {
    /// Task records, by task.
    tasks: BTreeMap<u32, RecordBuf>,
    /// Stack records, by task and site of the operation.
    stacks: BTreeMap<(u32, u64), RecordBuf>,
    /// Lock records, by lock.
    locks: BTreeMap<u64, RecordBuf>,
    /// Frames, by the stack number in records.
    frames: BTreeMap<u32, Vec<u64>>,
    symbols: BTreeMap<u64, Symbol>,
}

impl Preamble {
    /// Takes the stacks of a pass, before its records.
    pub fn stacks(&mut self, pass: &Pass) {
        for Stack { id, frames } in &pass.stacks {
            let before = self.frames.insert(*id, frames.clone());
            if before.is_some_and(|before| before != *frames) {
                // The kernel reused the number for another stack: earlier records do not mean this one.
                self.stacks.retain(|_, record| record.header.arg != *id);
            }
        }
        for symbol in &pass.symbols {
            self.symbols.entry(symbol.address).or_insert_with(|| symbol.clone());
        }
    }

    /// Takes a record.
    pub fn record(&mut self, record: Record<'_>) {
        if !record.is_known() {
            return;
        }
        let (Header { time_ns, tid, .. }, word) = (record.header(), record.word(0));
        match record.kind() {
            kinds::TASK => keep(&mut self.tasks, tid, record),
            kinds::LOCK_NAME => keep(&mut self.locks, word, record),
            kinds::STACK => keep(&mut self.stacks, (tid, word), record),
            // Batches of CPUs are processed one after the other. An exit may thus follow the record of the next task with the
            // same number, and must not remove it. The same holds for locks.
            kinds::TASK_EXIT if self.tasks.get(&tid).is_none_or(|r| r.header.time_ns < time_ns) => {
                self.tasks.remove(&tid);
                self.stacks.retain(|(of, _), _| *of != tid);
            }
            kinds::LOCK_FORGET if self.locks.get(&word).is_some_and(|r| r.header.time_ns < time_ns) => {
                self.locks.remove(&word);
            }
            _ => {}
        }
    }

    /// Builds the pass with the whole preamble, as of this mark.
    pub fn pass(&self, mark: Mark, cpu: u16) -> Pass {
        let mut records: Vec<RecordBuf> =
            self.tasks.values().chain(self.locks.values()).chain(self.stacks.values()).copied().collect();
        records.sort_by_key(|r| r.header.time_ns);
        for (record, seq) in records.iter_mut().zip(0..) {
            record.header.seq = seq;
        }
        let bytes: Vec<u8> = records.iter().flat_map(RecordBuf::bytes).collect();
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

fn keep<K: Ord + Copy>(kept: &mut BTreeMap<K, RecordBuf>, key: K, record: Record<'_>) {
    if kept.len() >= KEPT_MAX && !kept.contains_key(&key) {
        let mut times: Vec<u64> = kept.values().map(|r| r.header.time_ns).collect();
        let (_, middle, _) = times.select_nth_unstable(KEPT_MAX / 2);
        let middle = *middle;
        kept.retain(|_, r| r.header.time_ns > middle);
    }
    kept.insert(key, record.to_buf());
}
