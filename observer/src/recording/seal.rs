//! Seals: what proves that a recording is whole.
//!
//! Decides what a seal covers. A seal is a record of the container (opcode [`OPCODE`], which MCAP leaves to applications; other
//! readers skip it) behind each chunk. Its checksum covers every byte since the seal before, those of opcodes and lengths
//! included, and the seal itself. Seals are numbered, count the passes up to them, and name the run. So a chunk that is
//! missing, repeated, exchanged, of another recording or changed in one bit does not fit.
//!
//! | bytes | content, little endian |
//! | --- | --- |
//! | 8 | number of the seal, from 0 |
//! | 8 | number of passes before it |
//! | 8 | start of the run in nanoseconds, as in [`crate::meta::Meta::start_ns`] |
//! | 4 | CRC-32 of the bytes since the seal before, up to here |

use std::{
    cell::RefCell,
    io::{self, Write},
    rc::Rc,
};

use crc32fast::Hasher;

/// Opcode of a seal.
pub(super) const OPCODE: u8 = 0x80;

/// Bytes of a seal's content.
pub(super) const BYTES: usize = 28;
/// Bytes of the content before the checksum.
pub(super) const COVERED: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seal {
    pub number: u64,
    pub passes: u64,
    pub run_ns: u64,
}

impl Seal {
    /// Reads a seal's content, and its checksum.
    pub fn parse(bytes: &[u8; BYTES]) -> (Seal, u32) {
        let word = |at: usize| bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
        let checksum = bytes[COVERED..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
        (Seal { number: word(0), passes: word(8), run_ns: word(16) }, checksum)
    }

    /// Returns the content; `before`: the checksum up to the seal's head.
    fn bytes(self, mut before: Hasher) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        for (at, word) in [(0, self.number), (8, self.passes), (16, self.run_ns)] {
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        before.update(&head());
        before.update(&bytes[..COVERED]);
        bytes[COVERED..].copy_from_slice(&before.finalize().to_le_bytes());
        bytes
    }
}

/// Opcode and length of a seal in the file.
fn head() -> [u8; super::FRAME_HEAD_BYTES] {
    let mut head = [0; super::FRAME_HEAD_BYTES];
    head[0] = OPCODE;
    head[1..].copy_from_slice(&(BYTES as u64).to_le_bytes());
    head
}

/// The checksum of what a writer wrote since the last seal.
#[derive(Clone, Default)]
pub(super) struct Checksum(Rc<RefCell<Hasher>>);

impl Checksum {
    /// Returns the content of a seal that follows.
    pub fn seal(&self, seal: Seal) -> [u8; BYTES] {
        seal.bytes(self.0.borrow().clone())
    }

    /// Forgets what was written: a seal was.
    pub fn restart(&self) {
        self.0.replace(Hasher::new());
    }
}

/// Passes bytes on and adds them to the checksum.
pub(super) struct Summed<W> {
    out: W,
    sum: Checksum,
}

impl<W> Summed<W> {
    pub fn new(out: W, sum: Checksum) -> Summed<W> {
        Summed { out, sum }
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.sum.0.borrow_mut().update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
