//! Writes a recording during the run.
//!
//! Decides when a chunk ends: with the pass in which it is [`FLUSH_NS`] of event time old or [`FLUSH_BYTES`] long. Chunks are built
//! in memory and written at once, with their seal. So the file never contains a chunk whose length is filled in later, and a pipe or a
//! serial line works as well as a file.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write},
};

use anyhow::Context;
use mcap::{records::MessageHeader, write::NoSeek};
use serde::Serialize;

use super::{
    PROFILE, Totals, WireClosing, WireLoss, WireStack, columns,
    seal::{self, Checksum, Seal, Summed},
    topic,
};
use crate::{
    meta::{Closing, Meta},
    output::Output,
    source::Pass,
};

/// Event time after which a chunk ends, below the second that a crash may cost.
const FLUSH_NS: u64 = 900_000_000;

/// Bytes of batches after which a chunk ends.
const FLUSH_BYTES: usize = 2 << 20;

type Out = NoSeek<BufWriter<Summed<Box<dyn Write>>>>;

/// A recording being written.
pub struct Writer {
    out: mcap::Writer<Out>,
    /// Checksum of what was written since the last seal.
    sum: Checksum,
    seals: u64,
    run_ns: u64,
    totals: Totals,
    /// Keeps the file locked.
    _output: Option<Output>,
    channels: BTreeMap<String, u16>,
    /// Event time of the last flush.
    flushed_ns: u64,
    unflushed_bytes: usize,
    last_ns: u64,
    sequence: u32,
}

impl Writer {
    /// Begins a recording in a file, which gets its name with the description of the run; without a file on standard output.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(output: Option<Output>, meta: &Meta) -> anyhow::Result<Writer> {
        let Some(mut output) = output else {
            return Writer::new(Box::new(io::stdout()), meta).context("write recording to standard output");
        };
        let file = output.file()?;
        let writer = Writer::new(Box::new(file), meta).context("write recording")?;
        output.commit().context("create recording")?;
        Ok(Writer { _output: Some(output), ..writer })
    }

    /// Writes to anything that takes bytes in order.
    ///
    /// # Errors
    /// `out` cannot be written.
    pub fn new(out: Box<dyn Write>, meta: &Meta) -> anyhow::Result<Writer> {
        let options = mcap::WriteOptions::new()
            .profile(PROFILE)
            .library(concat!("observer ", env!("CARGO_PKG_VERSION")))
            .compression(Some(mcap::Compression::Zstd))
            .compression_threads(0)
            .chunk_size(None)
            .disable_seeking(true)
            .emit_message_indexes(false)
            .calculate_data_section_crc(false);
        let sum = Checksum::default();
        let out = options.create(NoSeek::new(BufWriter::new(Summed::new(out, sum.clone()))))?;
        let mut writer = Writer {
            out,
            sum,
            seals: 0,
            run_ns: meta.start_ns,
            totals: Totals::default(),
            _output: None,
            channels: BTreeMap::new(),
            flushed_ns: meta.start_ns,
            unflushed_bytes: 0,
            last_ns: meta.start_ns,
            sequence: 0,
        };
        writer.json(topic::META, meta)?;
        writer.flush()?;
        Ok(writer)
    }

    /// Adds a pass.
    ///
    /// # Errors
    /// The file cannot be written; nothing more can be added then.
    pub fn pass(&mut self, pass: &Pass) -> anyhow::Result<()> {
        self.last_ns = pass.mark.time_ns;
        self.sequence = pass.mark.number as u32;
        if !pass.loss.is_empty() {
            let loss = |l: &crate::source::Loss| WireLoss {
                cpu: l.cpu,
                reason: l.reason,
                site: l.site,
                total: l.total,
                since_ns: l.since_ns,
            };
            self.json(topic::LOSS, &pass.loss.iter().map(loss).collect::<Vec<_>>())?;
        }
        if !pass.stacks.is_empty() {
            let stack = |s: &crate::source::Stack| WireStack { id: s.id, frames: s.frames.clone() };
            self.json(topic::STACKS, &pass.stacks.iter().map(stack).collect::<Vec<_>>())?;
        }
        if !pass.symbols.is_empty() {
            self.json(topic::SYMBOLS, &pass.symbols)?;
        }
        for batch in &pass.batches {
            self.message(&format!("{}{}", topic::CPU, batch.cpu), "columns", &columns::fold(&batch.bytes))?;
            self.totals.bytes += batch.bytes.len() as u64;
        }
        let mut mark = [0; 17];
        mark[..8].copy_from_slice(&pass.mark.number.to_le_bytes());
        mark[8..16].copy_from_slice(&pass.mark.time_ns.to_le_bytes());
        mark[16] = u8::from(pass.mark.complete);
        self.message(topic::PASS, "mark", &mark)?;
        self.totals.passes += 1;
        if self.unflushed_bytes >= FLUSH_BYTES || self.last_ns >= self.flushed_ns.saturating_add(FLUSH_NS) {
            self.flush()?;
        }
        Ok(())
    }

    /// Ends the chunk: everything added up to now can be read from here on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        if self.unflushed_bytes == 0 {
            return Ok(());
        }
        // The chunk reaches the checksum here, and the file with its seal.
        self.out.flush()?;
        let seal = Seal { number: self.seals, passes: self.totals.passes, run_ns: self.run_ns };
        self.out.write_private_record(seal::OPCODE, &self.sum.seal(seal), Default::default())?;
        self.out.flush()?;
        self.sum.restart();
        self.seals += 1;
        self.flushed_ns = self.last_ns;
        self.unflushed_bytes = 0;
        Ok(())
    }

    /// Bytes that were added but not written, before compression.
    #[must_use]
    pub fn unflushed_bytes(&self) -> u64 {
        self.unflushed_bytes as u64
    }

    /// Ends the recording; without a closing, one that is saved while its run goes on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self, closing: Option<&Closing>) -> anyhow::Result<()> {
        self.json(topic::CLOSING, &WireClosing { closing: closing.cloned(), totals: Some(self.totals) })?;
        self.break_off()
    }

    /// Ends the file without an end of the recording: it reads as one that breaks off.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn break_off(mut self) -> anyhow::Result<()> {
        self.flush()?;
        let mut out = self.out.into_inner().into_inner();
        out.write_all(END)?;
        out.flush()?;
        Ok(())
    }

    fn json(&mut self, topic: &str, value: &impl Serialize) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec(value)?;
        self.message(topic, "json", &bytes)
    }

    fn message(&mut self, topic: &str, encoding: &str, data: &[u8]) -> anyhow::Result<()> {
        let channel_id = match self.channels.get(topic) {
            Some(id) => *id,
            None => {
                let id = self.out.add_channel(0, topic, encoding, &BTreeMap::new())?;
                self.channels.insert(topic.to_owned(), id);
                id
            }
        };
        let (log_time, sequence) = (self.last_ns, self.sequence);
        let header = MessageHeader { channel_id, sequence, log_time, publish_time: log_time };
        self.out.write_to_known_channel(&header, data)?;
        self.unflushed_bytes += data.len();
        Ok(())
    }
}

/// The end of the container: the end of the data, a footer without a summary, the magic.
pub(super) const END: &[u8; 50] = b"\x0f\x04\0\0\0\0\0\0\0\0\0\0\0\
\x02\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\
\x89MCAP0\r\n";
