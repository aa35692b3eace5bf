//! The frames of a recording: the container's records at the top level, usually chunks.
//!
//! Decides which chunks are trusted, and bounds what a file can cost. A chunk is handed out only if the seal behind it fits (see
//! [`seal`]); recordings of format 1 have none, and their chunks have a checksum of their content alone. Nothing is
//! trusted after the first fault.
//!
//! Memory: a frame is read as it comes, never allocated by the length that it claims. Unpacked chunks and batches
//! have together at most [`UNPACKED_FREE`] bytes plus [`UNPACKED_FACTOR`] times those that were read. Recorded events take a few bytes
//! each and 24 to 64 unpacked, so that no run comes near.

use std::io::{self, Read};

use crc32fast::Hasher;
use mcap::records::{Record, op};

use super::{
    FRAME_HEAD_BYTES,
    parse::parse_record,
    seal::{self, Seal},
    writer::END,
};

/// Unpacked bytes that any file may have.
const UNPACKED_FREE: u64 = 16 << 20;
/// Unpacked bytes for each byte of the file.
const UNPACKED_FACTOR: u64 = 256;
/// Maximum length of a frame. The writer ends a chunk with the pass in which it is some megabytes long.
const FRAME_BYTES_MAX: u64 = 256 << 20;
/// Maximum window of the decompressor as a power of two: 16 MiB. The writer's level uses 2 MiB.
const WINDOW_LOG_MAX: u32 = 24;

/// Reason why a recording is not read any further.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// It breaks off.
    #[error("is truncated")]
    Cut,
    /// Text with the place, for people.
    #[error("is damaged {0}")]
    Damaged(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Returns the fault of something that is at this offset.
pub(super) fn damaged(at: u64, what: impl std::fmt::Display) -> Fault {
    Fault::Damaged(format!("at byte {at} ({what})"))
}

/// The next thing in a file.
pub(super) enum Frame {
    Chunk(Chunk),
    /// The end of the container, after the last chunk.
    End,
}

pub(super) struct Chunk {
    /// Offset of its frame from the start of the file.
    pub at: u64,
    /// The records in it, unpacked.
    pub records: Vec<u8>,
    /// Its seal; `None` if the file has none, or ends with this chunk.
    pub seal: Option<Seal>,
}

/// Opcode and length of a frame.
#[derive(Clone, Copy)]
struct Head {
    at: u64,
    opcode: u8,
    length: u64,
}

/// Knowledge about the seals of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seals {
    /// No chunk was read yet.
    Unknown,
    /// Reading began at a chunk in the middle of a file: the next seal has any number.
    FromTheMiddle,
    /// The file is of format 1, which has none.
    Absent,
    /// The next seal has this number.
    Next(u64),
}

pub(super) struct Frames {
    input: Box<dyn Read + Send>,
    /// Bytes that were read, including those before the start of this reader.
    offset: u64,
    /// A head that was read ahead.
    ahead: Option<Head>,
    /// Checksum of the bytes since the last seal.
    sum: Hasher,
    seals: Seals,
    unpacked: u64,
}

impl Frames {
    /// Returns a reader of frames that begins at the start of a file.
    pub fn new(input: Box<dyn Read + Send>) -> Frames {
        Frames { input, offset: 0, ahead: None, sum: Hasher::new(), seals: Seals::Unknown, unpacked: 0 }
    }

    /// Returns another one that begins at a frame of the same recording. `offset`: where it is in the file; the input is there.
    pub fn at(&self, input: Box<dyn Read + Send>, offset: u64) -> Frames {
        let seals = if self.is_sealed() { Seals::FromTheMiddle } else { Seals::Absent };
        Frames { offset, seals, ..Frames::new(input) }
    }

    /// Offset of the next frame.
    pub fn offset(&self) -> u64 {
        self.ahead.map_or(self.offset, |head| head.at)
    }

    /// Returns true if the chunks that were read have seals; false if there was no chunk yet.
    pub fn is_sealed(&self) -> bool {
        matches!(self.seals, Seals::Next(_) | Seals::FromTheMiddle)
    }

    /// Reads the magic and the header, the beginning of every file.
    ///
    /// # Errors
    /// [`Fault::Cut`] also if the file is empty; see [`Frames::offset`].
    pub fn header(&mut self) -> Result<mcap::records::Header, Fault> {
        let mut magic = [0; mcap::MAGIC.len()];
        let n = self.fill(&mut magic)?;
        if magic[..n] != mcap::MAGIC[..n] {
            return Err(damaged(0, "no magic"));
        }
        let head = self.head()?.ok_or(Fault::Cut)?;
        let body = self.body(head)?;
        match parse_record(head.opcode, &body) {
            Some(Record::Header(header)) => Ok(header),
            _ => Err(damaged(head.at, "no header")),
        }
    }

    /// Returns the next frame.
    pub fn next(&mut self) -> Result<Frame, Fault> {
        loop {
            let head = self.head()?.ok_or(Fault::Cut)?;
            match head.opcode {
                op::CHUNK => {
                    let body = self.body(head)?;
                    let seal = self.seal(head.at)?;
                    let records = self.unpack(head.at, &body)?;
                    return Ok(Frame::Chunk(Chunk { at: head.at, records, seal }));
                }
                // Reading began behind a chunk whose seal was not written yet.
                seal::OPCODE if self.seals == Seals::FromTheMiddle => {
                    self.body(head)?;
                    self.sum = Hasher::new();
                }
                op::DATA_END => {
                    self.end(head)?;
                    return Ok(Frame::End);
                }
                other => {
                    return Err(damaged(
                        head.at,
                        format_args!("a record of kind {other:#04x} in place of a chunk"),
                    ));
                }
            }
        }
    }

    /// Counts bytes that were unpacked.
    pub fn unpacked(&mut self, bytes: u64) {
        self.unpacked = self.unpacked.saturating_add(bytes);
    }

    /// Bytes that may still be unpacked.
    pub fn room(&self) -> u64 {
        let max = UNPACKED_FREE.saturating_add(self.offset.saturating_mul(UNPACKED_FACTOR));
        max.saturating_sub(self.unpacked)
    }

    /// Reads the head of the next frame; `None` at the end of the file.
    fn head(&mut self) -> Result<Option<Head>, Fault> {
        if let Some(head) = self.ahead.take() {
            return Ok(Some(head));
        }
        let at = self.offset;
        let mut bytes = [0; FRAME_HEAD_BYTES];
        match self.fill(&mut bytes)? {
            FRAME_HEAD_BYTES => Ok(Some(Head { at, opcode: bytes[0], length: super::frame_bytes(&bytes) })),
            0 => Ok(None),
            _ => Err(Fault::Cut),
        }
    }

    /// Reads the content of a frame.
    fn body(&mut self, head: Head) -> Result<Vec<u8>, Fault> {
        if head.length > FRAME_BYTES_MAX {
            return Err(damaged(head.at, format_args!("a record of {} bytes", head.length)));
        }
        let mut body = Vec::new();
        let n = (&mut self.input).take(head.length).read_to_end(&mut body)?;
        self.offset += n as u64;
        self.sum.update(&body);
        if n as u64 == head.length { Ok(body) } else { Err(Fault::Cut) }
    }

    /// Reads and checks the seal behind the chunk at this offset. A file that ends with the chunk is truncated, and the chunk
    /// may be whole: its own checksum decides.
    fn seal(&mut self, chunk: u64) -> Result<Option<Seal>, Fault> {
        if self.seals == Seals::Absent {
            return Ok(None);
        }
        let head = match self.head() {
            Ok(Some(head)) => head,
            Ok(None) | Err(Fault::Cut) => return Ok(None),
            Err(other) => return Err(other),
        };
        if head.opcode != seal::OPCODE || head.length != seal::BYTES as u64 {
            if self.seals != Seals::Unknown {
                return Err(damaged(chunk, "a chunk without a seal"));
            }
            self.seals = Seals::Absent;
            self.ahead = Some(head);
            return Ok(None);
        }
        let mut bytes = [0; seal::BYTES];
        let mut sum = self.sum.clone();
        if self.fill(&mut bytes)? < seal::BYTES {
            return Ok(None);
        }
        sum.update(&bytes[..seal::COVERED]);
        let (seal, checksum) = Seal::parse(&bytes);
        if sum.finalize() != checksum {
            return Err(damaged(chunk, "the chunk does not match its checksum"));
        }
        let expected = match self.seals {
            Seals::Next(number) => number,
            Seals::FromTheMiddle => seal.number,
            Seals::Unknown | Seals::Absent => 0,
        };
        if seal.number != expected {
            let (found, expected) = (seal.number.saturating_add(1), expected.saturating_add(1));
            return Err(damaged(chunk, format_args!("chunk {found} in place of chunk {expected}")));
        }
        // A hostile file may begin with the last number; no seal fits after it.
        self.seals = Seals::Next(expected.saturating_add(1));
        self.sum = Hasher::new();
        Ok(Some(seal))
    }

    /// Unpacks the content of a chunk.
    fn unpack(&mut self, at: u64, body: &[u8]) -> Result<Vec<u8>, Fault> {
        let Some(Record::Chunk { header, data }) = parse_record(op::CHUNK, body) else {
            return Err(damaged(at, "not a chunk"));
        };
        if header.uncompressed_size > self.room() {
            return Err(damaged(
                at,
                format_args!("{} bytes unpack to {}", body.len(), header.uncompressed_size),
            ));
        }
        let mut records = Vec::new();
        let limit = header.uncompressed_size.saturating_add(1);
        let unpacked = match header.compression.as_str() {
            "" => data.take(limit).read_to_end(&mut records),
            "zstd" => zstd::Decoder::with_buffer(&*data).and_then(|mut from| {
                from.window_log_max(WINDOW_LOG_MAX)?;
                from.take(limit).read_to_end(&mut records)
            }),
            _ => return Err(damaged(at, "unknown compression")),
        };
        if unpacked.is_err() || records.len() as u64 != header.uncompressed_size {
            return Err(damaged(at, "a chunk that does not unpack"));
        }
        if header.uncompressed_crc != 0 && crc32fast::hash(&records) != header.uncompressed_crc {
            return Err(damaged(at, "the chunk does not match its checksum"));
        }
        self.unpacked(header.uncompressed_size);
        Ok(records)
    }

    /// Reads the end of the container up to the end of the file.
    fn end(&mut self, head: Head) -> Result<(), Fault> {
        if !self.is_sealed() {
            return self.unsealed_end();
        }
        let rest = &END[FRAME_HEAD_BYTES..];
        let mut bytes = [0; END.len()];
        let n = self.fill(&mut bytes)?;
        if head.length != 4 || bytes[..n.min(rest.len())] != rest[..n.min(rest.len())] || n > rest.len() {
            return Err(damaged(head.at, "the end of the file"));
        }
        if n < rest.len() { Err(Fault::Cut) } else { Ok(()) }
    }

    /// Format 1 has a summary there, which is not used; the magic at its end shows that it was written.
    fn unsealed_end(&mut self) -> Result<(), Fault> {
        let mut last = [0; mcap::MAGIC.len()];
        let mut bytes = [0; 4096];
        loop {
            let n = self.input.read(&mut bytes)?;
            if n == 0 {
                return if last == *mcap::MAGIC { Ok(()) } else { Err(Fault::Cut) };
            }
            self.offset += n as u64;
            for byte in &bytes[..n] {
                last.rotate_left(1);
                last[last.len() - 1] = *byte;
            }
        }
    }

    /// Reads until the room is full or the input ends.
    fn fill(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut n = 0;
        while n < into.len() {
            match self.input.read(&mut into[n..]) {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.offset += n as u64;
        self.sum.update(&into[..n]);
        Ok(n)
    }
}
