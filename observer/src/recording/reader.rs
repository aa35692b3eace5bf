//! Reads a recording, pass by pass.
//!
//! Decides what is still trusted of a file that is cut off or damaged: everything before the first fault. [`frames`] checks
//! chunks; here are checked the messages in them: known channels, passes numbered without a gap, the totals of the closing,
//! nothing after it. The reader says where the fault is, and its notice makes the report partial.
//!
//! Another reader can continue from a [`Place`] where this one was.
//!
//! [`frames`]: super::frames

use std::{
    io::{self, Read, SeekFrom},
    sync::Arc,
};

use anyhow::Context;
use mcap::records::Record;
use observer_ebpf::WIRE_VERSION;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    FRAME_HEAD_BYTES, PROFILE, SEALED, Totals, WireClosing, WireLoss, WireStack, columns, frame_bytes,
    frames::{Chunk, Fault, Frame, Frames, damaged},
    input::ReadSeek,
    parse::parse_record,
    seal::Seal,
    topic,
};
use crate::{
    hint::Hint,
    meta::{Closing, FORMAT_VERSION, Meta, Notice},
    printable,
    source::{Batch, Loss, Mark, Pass, Stack},
};

/// Reason why a file is not shown at all.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the file is empty")]
    Empty,
    #[error("not a recording: it does not begin like an MCAP file")]
    Foreign,
    #[error("not a recording of observer, but an MCAP file with profile {profile:?} made by {library:?}")]
    OtherMcap { profile: String, library: String },
    #[error(
        "recorded by observer {observer} in format {format} with records of version {wire}; this one reads format \
         {FORMAT_VERSION} with records of version {WIRE_VERSION}"
    )]
    OtherVersion { observer: String, format: u32, wire: u16 },
    #[error("the recording breaks off before it says what it is of")]
    NoMeta,
    #[error("the recording is damaged {0}, where it says what it is of")]
    Damaged(String),
    #[error("the recording's description of itself is not understood")]
    BadMeta(#[source] serde_json::Error),
    #[error("read")]
    Io(#[from] std::io::Error),
}

impl Refused {
    /// Advice about how to fix it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Refused::Damaged(_) => "another copy of the file; nothing of this one can be shown".into(),
            Refused::Empty | Refused::NoMeta => {
                "record again; observer needs a moment to write a recording's beginning".into()
            }
            Refused::Foreign | Refused::OtherMcap { .. } => {
                "a file made by observer record -o FILE, or observer replay without a file for the sample"
                    .into()
            }
            Refused::OtherVersion { observer, .. } => format!("observer {observer}"),
            Refused::BadMeta(_) => "the version of observer that recorded it".into(),
            Refused::Io(_) => "whether the file can be read at all".into(),
        }
    }
}

/// Only the versions, which every format has in the same place.
#[derive(Deserialize)]
struct Versions {
    format_version: u32,
    wire_version: u16,
    observer_version: String,
}

/// Start of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Offset of its frame from the start of the file.
    pub offset: u64,
    /// Passes before it in that frame.
    pub passes: u64,
}

/// A recording being read.
pub struct Reader {
    frames: Frames,
    /// Messages of the current chunk, from the next one on.
    chunk: Messages,
    /// Topics by channel number: only the first chunk that uses a channel describes it.
    topics: Vec<Option<Arc<str>>>,
    meta: Arc<Meta>,
    closing: Option<Closing>,
    /// The last message was read.
    is_closed: bool,
    /// Start of the next pass.
    place: Place,
    /// Offset of the first chunk.
    first_chunk: u64,
    passes: Passes,
    /// Reason why reading ended early, as the end of a sentence.
    broken: Option<String>,
    ended: bool,
}

/// The records of one chunk that were not taken yet.
#[derive(Default)]
struct Messages {
    bytes: Vec<u8>,
    at: usize,
    seal: Option<Seal>,
}

/// Topic and content.
type Message = (Arc<str>, Vec<u8>);

/// Passes so far, by their marks.
#[derive(Clone, Copy, Debug, Default)]
struct Passes {
    /// Number of the last pass; `None` before the first one that this reader has seen.
    last: Option<u64>,
    last_ns: u64,
    /// Number of passes, and of bytes of their batches; not known to a reader that begins in the middle.
    counted: Option<Totals>,
}

impl Reader {
    /// Reads up to the description of the run.
    ///
    /// # Errors
    /// [`Refused`]: this is not a recording that this version can show.
    pub fn new(input: Box<dyn Read + Send>) -> Result<Reader, Refused> {
        let mut frames = Frames::new(input);
        match frames.header() {
            Ok(header) if header.profile == PROFILE => {}
            Ok(header) => {
                return Err(Refused::OtherMcap { profile: header.profile, library: header.library });
            }
            Err(Fault::Io(why)) => return Err(why.into()),
            Err(Fault::Cut) if frames.offset() == 0 => return Err(Refused::Empty),
            Err(Fault::Cut) if frames.offset() > mcap::MAGIC.len() as u64 => return Err(Refused::NoMeta),
            Err(_) => return Err(Refused::Foreign),
        }
        let first_chunk = frames.offset();
        let passes = Passes { counted: Some(Totals::default()), ..Passes::default() };
        let mut reader = Reader::over(frames, first_chunk, passes);
        let meta = match reader.next_message() {
            Ok(Some((topic, bytes))) if &*topic == topic::META => parse_meta(&bytes)?,
            Err(Fault::Io(why)) => return Err(why.into()),
            Err(Fault::Damaged(why)) => return Err(Refused::Damaged(why)),
            _ => return Err(Refused::NoMeta),
        };
        if meta.format_version >= SEALED && !reader.frames.is_sealed() {
            return Err(Refused::Damaged("in its first chunk (no seal)".into()));
        }
        // The chunk was read before the run was known.
        if !is_of_run(reader.chunk.seal, &meta) {
            return Err(Refused::Damaged("in its first chunk (a seal of another recording)".into()));
        }
        reader.passes.last_ns = meta.start_ns;
        reader.meta = Arc::new(meta);
        Ok(reader)
    }

    /// Makes a reader of the same recording that begins at a place where this one was. `input`: the recording, opened again.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn at(&self, mut input: Box<dyn ReadSeek>, place: Place) -> io::Result<Reader> {
        let from_start = place.offset <= self.first_chunk;
        input.seek(SeekFrom::Start(if from_start { 0 } else { place.offset }))?;
        let mut frames = if from_start { Frames::new(input) } else { self.frames.at(input, place.offset) };
        let is_readable = !from_start || frames.header().is_ok();
        let passes = Passes {
            last_ns: self.meta.start_ns,
            counted: from_start.then(Totals::default),
            ..Passes::default()
        };
        let mut reader = Reader {
            topics: self.topics.clone(),
            meta: self.meta.clone(),
            place: Place { offset: place.offset, passes: 0 },
            ended: !is_readable,
            ..Reader::over(frames, self.first_chunk, passes)
        };
        if from_start && is_readable {
            // The description of the run, which is known.
            match reader.next_message() {
                Err(Fault::Io(why)) => return Err(why),
                other => reader.ended = !matches!(other, Ok(Some(_))),
            }
        }
        for _ in 0..place.passes {
            reader.pass(false)?;
        }
        Ok(reader)
    }

    fn over(frames: Frames, first_chunk: u64, passes: Passes) -> Reader {
        Reader {
            frames,
            chunk: Messages::default(),
            topics: Vec::new(),
            meta: Arc::default(),
            closing: None,
            is_closed: false,
            place: Place::default(),
            first_chunk,
            passes,
            broken: None,
            ended: false,
        }
    }

    /// Start of the next pass, for [`Reader::at`].
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// [`Reader::new`] of a recording with this name. Errors contain the name and advice.
    ///
    /// # Errors
    /// The same as those of [`Reader::new`].
    pub fn named(name: &str, input: Box<dyn Read + Send>) -> anyhow::Result<Reader> {
        Reader::new(input).or_else(|why| {
            let hint = why.hint();
            Err(why).with_context(|| format!("read {name}")).hint(hint)
        })
    }

    #[must_use]
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Closing of the run, after the last pass; `None` if the recording breaks off.
    #[must_use]
    pub fn closing(&self) -> Option<&Closing> {
        self.closing.as_ref()
    }

    /// Notices about the recording, after the last pass.
    #[must_use]
    pub fn notices(&self) -> Vec<Notice> {
        let begin = self.meta.since.as_ref().map(|since| since.notice(self.meta.start_ns));
        begin.into_iter().chain(self.end_notice()).collect()
    }

    /// Notice about the end of the recording, if it is not complete.
    pub(crate) fn end_notice(&self) -> Option<Notice> {
        let seconds = self.passes.last_ns.saturating_sub(self.meta.start_ns) as f64 / 1e9;
        if self.is_closed && self.broken.is_none() {
            let saved =
                || Notice::remark(format!("recording was saved before its run ended, after {seconds:.1} s"));
            return self.closing.is_none().then(saved);
        }
        let why = self.broken.as_deref().unwrap_or("has no end");
        let text = format!("recording {why} after {seconds:.1} s: what came later is not in this output");
        Some(Notice::partial(text))
    }

    /// Returns the next pass; `None` at any kind of end.
    ///
    /// # Errors
    /// The file cannot be read. Its content is never an error.
    pub fn next_pass(&mut self) -> io::Result<Option<Pass>> {
        self.pass(true)
    }

    /// Returns the next pass; without its batches if it is only to be skipped.
    fn pass(&mut self, wanted: bool) -> io::Result<Option<Pass>> {
        let mut pass = Pass::default();
        while !self.ended {
            let step = self.next_message().and_then(|message| match message {
                Some((topic, bytes)) => self.add(&mut pass, &topic, &bytes, wanted),
                None => {
                    self.ended = true;
                    Ok(false)
                }
            });
            match step {
                Ok(true) => {
                    self.place.passes += 1;
                    return Ok(Some(pass));
                }
                Ok(false) => {}
                Err(Fault::Io(why)) => return Err(why),
                Err(fault) => {
                    self.broken = Some(fault.to_string());
                    self.ended = true;
                }
            }
        }
        Ok(None)
    }

    /// Adds a message to the pass; returns true if it was the mark that ends it.
    fn add(&mut self, pass: &mut Pass, topic: &str, bytes: &[u8], wanted: bool) -> Result<bool, Fault> {
        let at = self.place.offset;
        let fault = |why: &dyn std::fmt::Display| damaged(at, format_args!("{topic}: {why}"));
        if self.is_closed {
            return Err(fault(&"a message after the closing"));
        }
        match topic {
            topic::PASS => {
                let mark = parse_mark(bytes).ok_or_else(|| fault(&"not a mark"))?;
                self.passes.add(mark, self.meta.since.is_some()).map_err(|why| fault(&why))?;
                pass.mark = mark;
                return Ok(true);
            }
            topic::LOSS => {
                let loss = |l: WireLoss| Loss {
                    cpu: l.cpu,
                    reason: l.reason,
                    site: l.site,
                    total: l.total,
                    since_ns: l.since_ns,
                };
                let all: Vec<WireLoss> = serde_json::from_slice(bytes).map_err(|why| fault(&why))?;
                pass.loss = all.into_iter().map(loss).collect();
            }
            topic::STACKS => {
                let stack = |s: WireStack| Stack { id: s.id, frames: s.frames };
                let all: Vec<WireStack> = serde_json::from_slice(bytes).map_err(|why| fault(&why))?;
                pass.stacks = all.into_iter().map(stack).collect();
            }
            topic::SYMBOLS => pass.symbols = parse(bytes).map_err(|why| fault(&why))?,
            topic::CLOSING => {
                let wire: WireClosing = parse(bytes).map_err(|why| fault(&why))?;
                if let (Some(counted), Some(totals)) = (self.passes.counted, wire.totals)
                    && counted != totals
                {
                    return Err(fault(&"other totals than the passes have"));
                }
                self.closing = wire.closing;
                self.is_closed = true;
            }
            _ => {
                let cpu = topic.strip_prefix(topic::CPU).and_then(|n| n.parse().ok());
                let cpu = cpu.ok_or_else(|| fault(&"an unknown topic"))?;
                // A pass that is skipped counts as little as one of another reader.
                if wanted || self.passes.counted.is_some() {
                    let bytes = columns::unfold(bytes, self.frames.room()).map_err(|why| fault(&why))?;
                    self.frames.unpacked(bytes.len() as u64);
                    self.passes.counted.iter_mut().for_each(|totals| totals.bytes += bytes.len() as u64);
                    pass.batches.push(Batch { cpu, bytes });
                }
            }
        }
        Ok(false)
    }

    /// Returns topic and content of the next message; `None` at the end of the container.
    fn next_message(&mut self) -> Result<Option<Message>, Fault> {
        loop {
            let Some((opcode, body)) = self.chunk.next(self.place.offset)? else {
                if !self.next_chunk()? {
                    return Ok(None);
                }
                continue;
            };
            let at = self.place.offset;
            match parse_record(opcode, body) {
                Some(Record::Channel(channel)) => {
                    let number = usize::from(channel.id);
                    if self.topics.len() <= number {
                        self.topics.resize(number + 1, None);
                    }
                    let known = &mut self.topics[number];
                    if known.as_deref().is_some_and(|topic| topic != channel.topic) {
                        return Err(damaged(at, "two channels with one number"));
                    }
                    *known = Some(channel.topic.into());
                }
                Some(Record::Message { header, data }) => {
                    let topic = self.topics.get(usize::from(header.channel_id)).cloned().flatten();
                    let topic = topic.ok_or_else(|| damaged(at, "a message of an unknown channel"))?;
                    return Ok(Some((topic, data.into_owned())));
                }
                _ => return Err(damaged(at, format_args!("a record of kind {opcode:#04x} in a chunk"))),
            }
        }
    }

    /// Reads the next chunk, after checking the one before against its seal. Returns false at the end.
    fn next_chunk(&mut self) -> Result<bool, Fault> {
        if let (Some(seal), Some(counted)) = (self.chunk.seal, self.passes.counted)
            && seal.passes != counted.passes
        {
            return Err(damaged(self.place.offset, "another number of passes than the seal says"));
        }
        self.chunk = Messages::default();
        let next = self.frames.next();
        // The frame after everything that was read: where another reader continues, when there is more.
        self.place = Place { offset: self.frames.offset(), passes: 0 };
        let Frame::Chunk(Chunk { at, records, seal }) = next? else { return Ok(false) };
        self.place.offset = at;
        if !is_of_run(seal, &self.meta) {
            return Err(damaged(at, "a chunk of another recording"));
        }
        self.chunk = Messages { bytes: records, at: 0, seal };
        Ok(true)
    }
}

impl Messages {
    /// Returns opcode and content of the next record; `None` at the end of the chunk.
    fn next(&mut self, chunk: u64) -> Result<Option<(u8, &[u8])>, Fault> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        let (head, rest) = rest.split_first_chunk().ok_or_else(|| damaged(chunk, "half a record"))?;
        let length = usize::try_from(frame_bytes(head)).unwrap_or(usize::MAX);
        let body = rest.get(..length).ok_or_else(|| damaged(chunk, "half a record"))?;
        self.at += FRAME_HEAD_BYTES + length;
        Ok(Some((head[0], body)))
    }
}

impl Passes {
    /// Takes a mark. Passes are numbered without a gap, from 0 unless the recording begins in the middle of its run, and
    /// their times do not decrease.
    fn add(&mut self, mark: Mark, since: bool) -> Result<(), String> {
        let is_first = self.last.is_none();
        let expected = match self.last {
            Some(last) => last.checked_add(1),
            None if self.counted.is_some() && !since => Some(0),
            None => Some(mark.number),
        };
        if expected != Some(mark.number) {
            let expected = expected.unwrap_or_default();
            return Err(format!("pass {} in place of pass {expected}", mark.number));
        }
        if !is_first && mark.time_ns < self.last_ns {
            return Err(format!("pass {} is older than the one before", mark.number));
        }
        (self.last, self.last_ns) = (Some(mark.number), mark.time_ns);
        self.counted.iter_mut().for_each(|totals| totals.passes += 1);
        Ok(())
    }
}

/// Returns false for the seal of another run. A recording of format 1 has records that only look like seals.
fn is_of_run(seal: Option<Seal>, meta: &Meta) -> bool {
    meta.format_version < SEALED || seal.is_none_or(|seal| seal.run_ns == meta.start_ns)
}

/// Reads JSON that has texts, and makes them printable.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_value(printable::value(serde_json::from_slice(bytes)?))
}

fn parse_meta(bytes: &[u8]) -> Result<Meta, Refused> {
    let meta: Value = parse(bytes).map_err(Refused::BadMeta)?;
    let versions = Versions::deserialize(&meta).map_err(Refused::BadMeta)?;
    if !(1..=FORMAT_VERSION).contains(&versions.format_version) || versions.wire_version != WIRE_VERSION {
        return Err(Refused::OtherVersion {
            observer: versions.observer_version,
            format: versions.format_version,
            wire: versions.wire_version,
        });
    }
    serde_json::from_value(meta).map_err(Refused::BadMeta)
}

fn parse_mark(bytes: &[u8]) -> Option<Mark> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    let (time, rest) = rest.split_first_chunk::<8>()?;
    let [complete] = rest else { return None };
    Some(Mark {
        number: u64::from_le_bytes(*number),
        time_ns: u64::from_le_bytes(*time),
        complete: *complete != 0,
    })
}
