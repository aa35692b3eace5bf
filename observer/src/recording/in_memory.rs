//! In-memory recording: the last moments of a live run that was not asked to record.
//!
//! Decides its size, and what is dropped. There are two segments, each a complete recording in memory: when the second is
//! full, the first is dropped and a new one begins. A segment that begins in the middle of a run starts with a preamble
//! ([`preamble`]), so that it can be read alone. A dropped segment is emptied as soon as no [`Look`] is open, even if its file
//! is still open.

mod preamble;

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::fd::{FromRawFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use observer_ebpf::record::Records;

use self::preamble::Preamble;
use super::{Input, Writer};
use crate::{
    meta::{Closing, Lost, Meta, Since},
    source::{Batch, Loss, Mark, Pass},
};

/// Bytes after which a segment is full.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Number of segments that are kept.
const SEGMENTS: usize = 2;

/// Adds passes to the in-memory recording, as a recorder does to a file.
pub struct InMemory {
    meta: Meta,
    kept: Segments,
    writer: Option<Writer>,
    file: Arc<File>,
    segment_bytes: u64,
    /// Number of the next segment.
    number: u64,
    so_far: SoFar,
}

/// State of the run that a new segment needs at its start.
#[derive(Default)]
struct SoFar {
    mark: Mark,
    records: u64,
    next_seq: BTreeMap<u16, u32>,
    lost: BTreeMap<(u16, u16, Option<u16>), Lost>,
    preamble: Preamble,
}

/// Handle to the kept segments, oldest first, for lookups.
#[derive(Clone, Debug, Default)]
pub struct Segments(Arc<Mutex<Shelf>>);

#[derive(Debug, Default)]
struct Shelf {
    segments: Vec<Segment>,
    /// Number of looks that are open.
    looking: usize,
    /// Files dropped while a look was open.
    dropped: Vec<Arc<File>>,
}

/// A part of a run, and a complete recording by itself.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Sequence number of the segment in the run.
    pub number: u64,
    pub input: Input,
    /// Event time from which on it contains the run.
    pub from_ns: u64,
}

/// Segments of a moment. They are not emptied until this is dropped.
#[derive(Debug)]
pub struct Look {
    pub segments: Vec<Segment>,
    kept: Option<Segments>,
}

impl Look {
    /// Makes a look at segments that are never dropped.
    #[must_use]
    pub fn at(segments: Vec<Segment>) -> Look {
        Look { segments, kept: None }
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        let Some(kept) = &self.kept else { return };
        let mut shelf = kept.lock();
        shelf.looking -= 1;
        shelf.empty_dropped();
    }
}

impl Segments {
    #[must_use]
    pub fn look(&self) -> Look {
        let mut shelf = self.lock();
        shelf.looking += 1;
        Look { segments: shelf.segments.clone(), kept: Some(self.clone()) }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        // The shelf is consistent at any moment, so a poisoned lock does no harm.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    fn add(&mut self, segment: Segment) {
        self.segments.push(segment);
        while self.segments.len() > SEGMENTS {
            if let Input::Shared(file) = self.segments.remove(0).input {
                self.dropped.push(file);
            }
        }
        self.empty_dropped();
    }

    /// Frees the memory of dropped segments, even if their files are still open.
    fn empty_dropped(&mut self) {
        if self.looking == 0 {
            // Our own file in memory can always be truncated.
            self.dropped.drain(..).for_each(|file| drop(file.set_len(0)));
        }
    }
}

impl InMemory {
    /// # Errors
    /// The kernel refuses to create a file in memory.
    pub fn new(meta: &Meta) -> anyhow::Result<InMemory> {
        InMemory::in_segments(meta, SEGMENT_BYTES)
    }

    /// Makes an in-memory recording with this segment size.
    ///
    /// # Errors
    /// The same as those of [`InMemory::new`].
    pub fn in_segments(meta: &Meta, segment_bytes: u64) -> anyhow::Result<InMemory> {
        let file = Arc::new(memory().context("make a file in memory")?);
        let mut keep = InMemory {
            meta: meta.clone(),
            kept: Segments::default(),
            writer: None,
            file,
            segment_bytes,
            number: 0,
            so_far: SoFar::default(),
        };
        keep.begin(meta.start_ns, meta)?;
        Ok(keep)
    }

    /// Handle for lookups.
    #[must_use]
    pub fn handle(&self) -> Segments {
        self.kept.clone()
    }

    /// Adds a pass.
    ///
    /// # Errors
    /// There is no memory; nothing more can be added then.
    pub fn pass(&mut self, pass: &Pass) -> anyhow::Result<()> {
        let waiting = self.writer.as_ref().map_or(0, Writer::unflushed_bytes);
        if self.file.metadata()?.len() + waiting >= self.segment_bytes {
            self.rotate()?;
        }
        if let Some(writer) = &mut self.writer {
            writer.pass(pass)?;
        }
        self.so_far.pass(pass);
        Ok(())
    }

    /// Ends the recording when the run is over.
    ///
    /// # Errors
    /// There is no memory.
    pub fn finish(mut self, closing: Option<&Closing>) -> anyhow::Result<()> {
        self.writer.take().map_or(Ok(()), |writer| writer.finish(closing))
    }

    fn rotate(&mut self) -> anyhow::Result<()> {
        if let Some(writer) = self.writer.take() {
            writer.finish(None)?;
        }
        let preamble_cpu =
            self.so_far.next_seq.keys().chain(&self.meta.cpus_online).max().map_or(0, |cpu| cpu + 1);
        let since = self.so_far.since(preamble_cpu);
        self.file = Arc::new(memory().context("make a file in memory")?);
        let meta = Meta { since: Some(since), ..self.meta.clone() };
        self.begin(self.so_far.mark.time_ns, &meta)?;
        let preamble = self.so_far.preamble.pass(self.so_far.mark, preamble_cpu);
        self.writer.as_mut().map_or(Ok(()), |writer| writer.pass(&preamble))
    }

    /// Begins a segment, and drops the oldest one if there are too many.
    fn begin(&mut self, from_ns: u64, meta: &Meta) -> anyhow::Result<()> {
        self.writer = Some(Writer::new(Box::new(self.file.try_clone()?), meta)?);
        let input = Input::Shared(self.file.clone());
        self.kept.lock().add(Segment { number: self.number, input, from_ns });
        self.number += 1;
        Ok(())
    }
}

impl SoFar {
    fn pass(&mut self, pass: &Pass) {
        self.mark = pass.mark;
        for loss in &pass.loss {
            let Loss { cpu, reason, site, total, since_ns } = *loss;
            self.lost.insert((cpu, reason, site), Lost { cpu, reason, site, total, since_ns });
        }
        self.preamble.stacks(pass);
        for Batch { cpu, bytes } in &pass.batches {
            let next_seq = self.next_seq.entry(*cpu).or_default();
            for record in Records::of(bytes) {
                self.records += 1;
                // If programs nest, a smaller number may arrive later.
                let seq = record.header().seq.wrapping_add(1);
                if (seq.wrapping_sub(*next_seq) as i32) > 0 {
                    *next_seq = seq;
                }
                self.preamble.record(record);
            }
        }
    }

    fn since(&self, preamble_cpu: u16) -> Since {
        Since {
            mark_ns: self.mark.time_ns,
            records: self.records,
            preamble_cpu,
            next_seq: self.next_seq.clone(),
            lost: self.lost.values().copied().collect(),
        }
    }
}

/// Creates a file that has no name and disappears when it is closed everywhere.
fn memory() -> io::Result<File> {
    // SAFETY: the name is a terminated string, and no other memory is passed.
    let fd = unsafe { libc::memfd_create(c"observer".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}
