//! Reads a recording, pass by pass.
//!
//! Decides what is still trusted of a file that is cut off or damaged: every chunk before the first one that is not whole or
//! whose checksum is wrong. Nothing after it is trusted, and the reader says so in words.
//!
//! The container is read frame by frame, so that the frame of each pass is known (a frame is a record at the top level,
//! usually a chunk). Another reader can continue from a [`Place`] where this one was.

use std::{
    io::{self, Read, SeekFrom},
    sync::Arc,
};

use anyhow::Context;
use mcap::{
    McapError,
    records::Record,
    sans_io::{LinearReadEvent, LinearReader, LinearReaderOptions},
};
use observer_ebpf::WIRE_VERSION;
use serde::Deserialize;

use super::{FRAME_HEAD_BYTES, PROFILE, WireLoss, WireStack, columns, frame_bytes, input::ReadSeek, topic};
use crate::{
    hint::Hint,
    meta::{Closing, FORMAT_VERSION, Meta, Notice},
    source::{Batch, Loss, Mark, Pass, Stack},
};

/// Length limit of a record. Our records and chunks are far shorter; a damaged length is not.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// Minimum number of bytes requested from the file at once.
const READ_BYTES: usize = 64 << 10;

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

/// Result of [`Reader::next_message`].
enum Message {
    /// Topic and bytes of the message.
    Data(Arc<str>, Vec<u8>),
    End,
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
    input: Box<dyn Read + Send>,
    mcap: LinearReader,
    /// Topics by channel number: only the first chunk that uses a channel describes it.
    topics: Vec<Option<Arc<str>>>,
    meta: Arc<Meta>,
    closing: Option<Closing>,
    /// Bytes that were read, including those before the start of this reader.
    read_bytes: u64,
    /// Bytes left of the frame that is being read.
    frame_left: u64,
    /// Start of the next pass.
    place: Place,
    last_ns: u64,
    /// Reason why reading ended early.
    broken: Option<String>,
    ended: bool,
}

impl Reader {
    /// Reads up to the description of the run.
    ///
    /// # Errors
    /// [`Refused`]: this is not a recording that this version can show.
    pub fn new(input: Box<dyn Read + Send>) -> Result<Reader, Refused> {
        let mut reader = Reader {
            input,
            mcap: container(false),
            topics: Vec::new(),
            meta: Arc::default(),
            closing: None,
            read_bytes: 0,
            frame_left: mcap::MAGIC.len() as u64,
            place: Place::default(),
            last_ns: 0,
            broken: None,
            ended: false,
        };
        reader.header()?;
        match reader.next_message()? {
            Message::Data(topic, bytes) if &*topic == topic::META => {
                reader.meta = Arc::new(parse_meta(&bytes)?);
            }
            _ => return Err(Refused::NoMeta),
        }
        reader.last_ns = reader.meta.start_ns;
        Ok(reader)
    }

    /// Makes a reader of the same recording that begins at a place where this one was. `input`: the recording, opened again.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn at(&self, mut input: Box<dyn ReadSeek>, place: Place) -> io::Result<Reader> {
        if place == Place::default() {
            // The start also skips the magic, which is not a frame.
            return self.at(input, Place { offset: mcap::MAGIC.len() as u64, passes: 0 });
        }
        input.seek(SeekFrom::Start(place.offset))?;
        let mut reader = Reader {
            input,
            mcap: container(true),
            topics: self.topics.clone(),
            meta: self.meta.clone(),
            closing: None,
            read_bytes: place.offset,
            frame_left: 0,
            place: Place { offset: place.offset, passes: 0 },
            last_ns: self.meta.start_ns,
            broken: None,
            ended: false,
        };
        for _ in 0..place.passes {
            reader.pass(false)?;
        }
        Ok(reader)
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
        // The closing is the last message: if it is there, only the container's index can be missing.
        if self.closing.is_some() {
            return None;
        }
        let seconds = self.last_ns.saturating_sub(self.meta.start_ns) as f64 / 1e9;
        let why = self.broken.as_deref().unwrap_or("has no end");
        Some(Notice(format!("recording {why} after {seconds:.1} s: what came later is not in this output")))
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
            let (topic, bytes) = match self.next_message() {
                Ok(Message::Data(topic, bytes)) => (topic, bytes),
                Ok(Message::End) => break,
                Err(Refused::Io(e)) => return Err(e),
                Err(other) => {
                    self.give_up(&format!("is damaged ({other})"));
                    break;
                }
            };
            if !wanted && &*topic != topic::PASS {
                continue;
            }
            match self.add(&mut pass, &topic, &bytes) {
                Ok(true) => {
                    self.last_ns = pass.mark.time_ns;
                    self.place.passes += 1;
                    return Ok(Some(pass));
                }
                Ok(false) => {}
                Err(why) => self.give_up(&format!("is damaged ({topic}: {why})")),
            }
        }
        Ok(None)
    }

    fn give_up(&mut self, why: &str) {
        self.broken.get_or_insert_with(|| why.to_owned());
        self.ended = true;
    }

    /// Adds a message to the pass; returns true if it was the mark that ends it.
    fn add(&mut self, pass: &mut Pass, topic: &str, bytes: &[u8]) -> anyhow::Result<bool> {
        match topic {
            topic::PASS => {
                pass.mark = parse_mark(bytes).ok_or_else(|| anyhow::anyhow!("not a mark"))?;
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
                pass.loss = serde_json::from_slice::<Vec<_>>(bytes)?.into_iter().map(loss).collect();
            }
            topic::STACKS => {
                let stack = |s: WireStack| Stack { id: s.id, frames: s.frames };
                pass.stacks = serde_json::from_slice::<Vec<_>>(bytes)?.into_iter().map(stack).collect();
            }
            topic::SYMBOLS => pass.symbols = serde_json::from_slice(bytes)?,
            topic::CLOSING => self.closing = Some(serde_json::from_slice(bytes)?),
            _ => {
                // A channel of a later version of the same format adds something that this version need not know.
                if let Some(cpu) = topic.strip_prefix(topic::CPU).and_then(|n| n.parse().ok()) {
                    pass.batches.push(Batch { cpu, bytes: columns::unfold(bytes)? });
                }
            }
        }
        Ok(false)
    }

    /// Reads the magic and the header record.
    fn header(&mut self) -> Result<(), Refused> {
        match self.next_record()? {
            Ok(Some(Record::Header(header))) if header.profile == PROFILE => Ok(()),
            Ok(Some(Record::Header(header))) => {
                Err(Refused::OtherMcap { profile: header.profile, library: header.library })
            }
            Err(McapError::UnexpectedEof) if self.read_bytes == 0 => Err(Refused::Empty),
            Err(McapError::UnexpectedEof) if self.read_bytes > mcap::MAGIC.len() as u64 => {
                Err(Refused::NoMeta)
            }
            _ => Err(Refused::Foreign),
        }
    }

    fn next_message(&mut self) -> Result<Message, Refused> {
        loop {
            match self.next_record()? {
                Ok(Some(Record::Channel(channel))) => {
                    let at = usize::from(channel.id);
                    if self.topics.len() <= at {
                        self.topics.resize(at + 1, None);
                    }
                    self.topics[at] = Some(channel.topic.into());
                }
                Ok(Some(Record::Message { header, data })) => {
                    if let Some(Some(topic)) = self.topics.get(usize::from(header.channel_id)) {
                        return Ok(Message::Data(topic.clone(), data.into_owned()));
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.ended = true;
                    return Ok(Message::End);
                }
                Err(why) => {
                    self.give_up(&match why {
                        McapError::UnexpectedEof => "is truncated".to_owned(),
                        other => format!("is damaged ({})", lower(&other.to_string())),
                    });
                    return Ok(Message::End);
                }
            }
        }
    }

    /// Reads a record. The outer error is the file's, the inner one the container's.
    fn next_record(&mut self) -> io::Result<Result<Option<Record<'static>>, McapError>> {
        loop {
            match self.mcap.next_event() {
                None => return Ok(Ok(None)),
                Some(Err(e)) => return Ok(Err(e)),
                Some(Ok(LinearReadEvent::Record { data, opcode })) => {
                    return Ok(mcap::parse_record(opcode, data).map(|r| Some(r.into_owned())));
                }
                Some(Ok(LinearReadEvent::ReadRequest(need))) => self.feed(need)?,
            }
        }
    }

    /// Feeds bytes to the container, never of two frames at once: if it asks for more, it has used up the frame before.
    fn feed(&mut self, need: usize) -> io::Result<()> {
        if self.frame_left == 0 {
            self.place = Place { offset: self.read_bytes, passes: 0 };
            let into = self.mcap.insert(FRAME_HEAD_BYTES);
            let n = fill(&mut self.input, into)?;
            // The magic at the end is shorter than a head, and not a frame.
            self.frame_left = into.first_chunk().filter(|_| n == FRAME_HEAD_BYTES).map_or(0, frame_bytes);
            self.mcap.notify_read(n);
            self.read_bytes += n as u64;
            return Ok(());
        }
        // A damaged length must not make us allocate that much memory.
        let piece = need.clamp(READ_BYTES, RECORD_BYTES_MAX) as u64;
        let n = fill(&mut self.input, self.mcap.insert(self.frame_left.min(piece) as usize))?;
        self.mcap.notify_read(n);
        self.read_bytes += n as u64;
        self.frame_left -= n as u64;
        Ok(())
    }
}

/// Parser of the container; in the middle of a file it expects no magic.
fn container(from_the_middle: bool) -> LinearReader {
    LinearReader::new_with_options(
        LinearReaderOptions::default()
            .with_skip_start_magic(from_the_middle)
            .with_prevalidate_chunk_crcs(true)
            .with_record_length_limit(RECORD_BYTES_MAX),
    )
}

/// Reads until there is no more room or no more input.
fn fill(input: &mut impl Read, mut into: &mut [u8]) -> io::Result<usize> {
    let room = into.len();
    while !into.is_empty() {
        match input.read(into) {
            Ok(0) => break,
            Ok(n) => into = &mut into[n..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(room - into.len())
}

fn parse_meta(bytes: &[u8]) -> Result<Meta, Refused> {
    let versions: Versions = serde_json::from_slice(bytes).map_err(Refused::BadMeta)?;
    if versions.format_version != FORMAT_VERSION || versions.wire_version != WIRE_VERSION {
        return Err(Refused::OtherVersion {
            observer: versions.observer_version,
            format: versions.format_version,
            wire: versions.wire_version,
        });
    }
    serde_json::from_slice(bytes).map_err(Refused::BadMeta)
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

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
}
