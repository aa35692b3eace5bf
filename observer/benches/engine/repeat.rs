//! A recording, repeated as one long run.
//!
//! Decides the differences between repetitions, so that a kernel could have sent the stream: times and marks continue
//! after the recording's length, each CPU's sequence numbers continue, and totals of loss add up. [`Addresses`]
//! decides if the objects are the same ones each time.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use observer::{
    meta::Meta,
    recording::Reader,
    source::{Mark, Pass},
};
use observer_ebpf::{
    kinds,
    record::{Record, RecordBuf, Records},
};

/// The fixture with the most expensive events: two in three are of locks, and it has the most lookups.
const FIXTURE: &str = "fault-truncate.obs";
/// Time between two repetitions.
const PAUSE_NS: u64 = 1_000_000;
/// Distance between the kernel addresses of two repetitions: more than the memory of a guest.
const FRESH_BYTES: u64 = 1 << 36;

/// Whether a repetition uses the objects of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// The same tasks, mms, tables and locks: a long run of programs that stay. All objects are known and cached.
    Same,
    /// New tasks, mms, tables and locks each time. No kernel does this, since it reuses memory; no run is harder on
    /// the engine's memory.
    Fresh,
}

/// A recording in memory.
pub struct Recording {
    pub meta: Meta,
    pub events: u64,
    pub bytes: u64,
    /// Length of the file.
    pub file_bytes: u64,
    passes: Vec<Pass>,
    /// Of its own time, from one repetition to the next.
    pub length_ns: u64,
    /// Number of sequence numbers of each CPU in one repetition.
    numbers: BTreeMap<u16, u32>,
    tids: u32,
    totals: BTreeMap<(u16, u16), u64>,
}

impl Recording {
    /// Returns the requested recording, or else the fixture, with its name.
    pub fn given(path: Option<PathBuf>) -> anyhow::Result<(String, Recording)> {
        let fixture = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(FIXTURE);
        let path = path.unwrap_or_else(fixture);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((name, Recording::read(&path)?))
    }

    pub fn read(path: &Path) -> anyhow::Result<Recording> {
        let open = || -> anyhow::Result<(u64, Reader)> {
            let file = File::open(path)?;
            Ok((file.metadata()?.len(), Reader::new(Box::new(file))?))
        };
        let (file_bytes, mut reader) = open().with_context(|| format!("open {}", path.display()))?;
        let mut recording = Recording {
            meta: reader.meta().clone(),
            events: 0,
            bytes: 0,
            file_bytes,
            passes: Vec::new(),
            length_ns: 0,
            numbers: BTreeMap::new(),
            tids: 0,
            totals: BTreeMap::new(),
        };
        let mut last_ns = recording.meta.start_ns;
        while let Some(pass) = reader.next_pass()? {
            last_ns = last_ns.max(pass.mark.time_ns);
            for batch in &pass.batches {
                for record in Records::of(&batch.bytes) {
                    let header = record.header();
                    recording.events += 1;
                    last_ns = last_ns.max(header.time_ns);
                    let numbers = recording.numbers.entry(batch.cpu).or_default();
                    *numbers = (*numbers).max(header.seq.wrapping_add(1));
                    recording.tids = recording.tids.max(header.tid + 1);
                }
                recording.bytes += batch.bytes.len() as u64;
            }
            recording.totals.extend(pass.loss.iter().map(|l| ((l.cpu, l.reason), l.total)));
            recording.passes.push(pass);
        }
        if recording.events == 0 {
            bail!("no events in {}\ntry: a recording of a run in which something happened", path.display());
        }
        recording.length_ns = last_ns - recording.meta.start_ns + PAUSE_NS;
        Ok(recording)
    }

    /// Passes of one repetition.
    pub fn passes(&self) -> u64 {
        self.passes.len() as u64
    }

    /// Writes the passes of repetition `n` into the buffers of another one.
    pub fn nth(&self, n: u64, addresses: Addresses, into: &mut Vec<Pass>) {
        into.resize_with(self.passes.len(), Pass::default);
        let later_ns = n * self.length_ns;
        for (to, from) in into.iter_mut().zip(&self.passes) {
            to.clone_from(from);
            to.mark = Mark {
                number: from.mark.number + n * self.passes(),
                time_ns: from.mark.time_ns + later_ns,
                ..from.mark
            };
            for loss in &mut to.loss {
                loss.total += n * self.totals[&(loss.cpu, loss.reason)];
                loss.since_ns += later_ns;
            }
            for batch in &mut to.batches {
                let numbers = self.numbers[&batch.cpu].wrapping_mul(n as u32);
                let mut rest = &mut batch.bytes[..];
                while let Ok(record) = Record::first(rest) {
                    let (bytes, mut record) = (record.bytes().len(), record.to_buf());
                    record.header.time_ns = record.header.time_ns.wrapping_add(later_ns);
                    record.header.seq = record.header.seq.wrapping_add(numbers);
                    if kind(&record) == kinds::UNLINKED {
                        record.words[3] = record.words[3].wrapping_add(later_ns);
                    }
                    if addresses == Addresses::Fresh {
                        refresh(&mut record, n * FRESH_BYTES, self.tids.wrapping_mul(n as u32));
                    }
                    let (over, after) = rest.split_at_mut(bytes);
                    record.write(over);
                    rest = after;
                }
            }
        }
    }
}

/// Moves the names of objects: kernel addresses, and the ids of tasks.
fn refresh(record: &mut RecordBuf, bytes: u64, tids: u32) {
    record.header.tid = record.header.tid.wrapping_add(tids);
    let first = match kind(record) {
        // Return values and command names may look like kernel addresses.
        kinds::OP_END => return,
        kinds::TASK => {
            record.header.arg = record.header.arg.wrapping_add(tids);
            2
        }
        kinds::TASK_EXIT => {
            record.header.arg = record.header.arg.wrapping_add(tids);
            0
        }
        kinds::FORK => {
            record.header.arg = record.header.arg.wrapping_add(tids);
            record.words[0] = record.words[0].wrapping_add(tids.into());
            return;
        }
        _ => 0,
    };
    for word in record.words.iter_mut().skip(first).filter(|word| **word >> 63 == 1) {
        *word = word.wrapping_add(bytes);
    }
}

fn kind(record: &RecordBuf) -> u16 {
    kinds::from_wire(record.header.kind).0
}
