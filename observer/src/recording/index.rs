//! Index of the chunks of a recording: their places and times.
//!
//! Reads only the heads of the file's records for it, some tens of bytes for each chunk. Chunk contents are not read, so a
//! damaged chunk is in the index too; a reader reports the damage when it gets there.

use std::io::{self, Read, Seek, SeekFrom};

use super::{FRAME_HEAD_BYTES, frame_bytes, reader::Place};

/// Opcodes of a chunk, and of the record that ends the data.
const CHUNK: u8 = 0x06;
const DATA_END: u8 = 0x0f;

/// A chunk that is whole, as far as its length shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Offset of its record from the start of the file.
    pub offset: u64,
    /// Times of the first and the last mark in it.
    pub start_ns: u64,
    pub end_ns: u64,
}

impl Chunk {
    /// Place of its first pass, for [`super::Reader::at`].
    #[must_use]
    pub fn place(&self) -> Place {
        Place { offset: self.offset, passes: 0 }
    }
}

/// The chunks of a recording, in file order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    chunks: Vec<Chunk>,
}

impl Index {
    /// Scans a recording, up to its end or to where it breaks off.
    ///
    /// # Errors
    /// The file cannot be read. Its content is never an error.
    pub fn read(input: &mut (impl Read + Seek + ?Sized)) -> io::Result<Index> {
        let bytes = input.seek(SeekFrom::End(0))?;
        let mut index = Index::default();
        let mut offset = mcap::MAGIC.len() as u64;
        loop {
            let mut head = [0; FRAME_HEAD_BYTES + 16];
            let (frame, times) = head.split_at_mut(FRAME_HEAD_BYTES);
            input.seek(SeekFrom::Start(offset))?;
            if !whole(input.read_exact(frame))? {
                return Ok(index);
            }
            let length = frame.first_chunk().map_or(0, frame_bytes);
            let next = offset.saturating_add(FRAME_HEAD_BYTES as u64).saturating_add(length);
            if frame[0] == DATA_END || next > bytes {
                return Ok(index);
            }
            if frame[0] == CHUNK {
                if !whole(input.read_exact(times))? {
                    return Ok(index);
                }
                let [start_ns, end_ns] =
                    [0, 8].map(|at| times[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight)));
                index.chunks.push(Chunk { offset, start_ns, end_ns });
            }
            offset = next;
        }
    }

    /// Chunks in file order. The first one contains at least the description of the run.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Time of the last mark.
    #[must_use]
    pub fn end_ns(&self) -> Option<u64> {
        self.chunks.iter().map(|c| c.end_ns).max()
    }
}

/// Returns false at the end of the file, which is not an error.
fn whole(read: io::Result<()>) -> io::Result<bool> {
    match read {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}
