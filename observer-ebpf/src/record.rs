//! Reading records: the only place outside the programs that knows the offset of a field.
//!
//! A [`Record`] is always whole. It may be of an unknown kind: a reader skips and counts such a record.

use crate::{HEADER_BYTES, Header, RECORD_BYTES_MAX, kinds};

/// A whole record, as it is in a ring and in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    header: &'a [u8; HEADER_BYTES],
    /// Header and payload.
    bytes: &'a [u8],
}

/// Reason why bytes do not begin with a whole record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incomplete {
    /// The record needs more bytes.
    Torn,
    /// The header is whole, but it announces no payload: these bytes are not a record.
    NotARecord,
}

impl<'a> Record<'a> {
    /// Returns the record at the start of `bytes`.
    ///
    /// # Errors
    /// `bytes` do not begin with a whole record.
    #[inline]
    pub fn first(bytes: &'a [u8]) -> Result<Record<'a>, Incomplete> {
        let header = bytes.first_chunk().ok_or(Incomplete::Torn)?;
        match kinds::from_wire(u16_at(header, 16)).1 {
            0 => Err(Incomplete::NotARecord),
            words => match bytes.get(..HEADER_BYTES + 8 * words) {
                Some(bytes) => Ok(Record { header, bytes }),
                None => Err(Incomplete::Torn),
            },
        }
    }

    /// Returns all bytes of the record.
    #[must_use]
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the decoded header.
    #[must_use]
    #[inline]
    pub fn header(self) -> Header {
        let h = self.header;
        Header {
            time_ns: u64::from(u32_at(h, 0)) | u64::from(u32_at(h, 4)) << 32,
            seq: u32_at(h, 8),
            tid: u32_at(h, 12),
            kind: u16_at(h, 16),
            site: u16_at(h, 18),
            arg: u32_at(h, 20),
        }
    }

    /// Returns the number of the kind, one of [`kinds`] or unknown.
    #[must_use]
    #[inline]
    pub fn kind(self) -> u16 {
        kinds::from_wire(u16_at(self.header, 16)).0
    }

    /// Returns true if the kind is known and has as many words as this record.
    #[must_use]
    #[inline]
    pub fn is_known(self) -> bool {
        let (kind, words) = kinds::from_wire(u16_at(self.header, 16));
        kinds::words(kind) == Some(words)
    }

    /// The decoded header and payload, to be changed and written again.
    #[must_use]
    #[inline]
    pub fn to_buf(self) -> RecordBuf {
        let mut buf = RecordBuf { header: self.header(), words: [0; WORDS_MAX] };
        buf.words.iter_mut().zip(self.words()).for_each(|(to, from)| *to = from);
        buf
    }

    /// Returns the payload words in wire order.
    #[inline]
    pub fn words(self) -> impl Iterator<Item = u64> + 'a {
        self.bytes[HEADER_BYTES..].as_chunks().0.iter().map(|word| u64::from_le_bytes(*word))
    }

    /// Returns payload word `i`.
    ///
    /// # Panics
    /// The record has fewer words: the caller knows its kind.
    #[must_use]
    #[inline]
    pub fn word(self, i: usize) -> u64 {
        let at = HEADER_BYTES + 8 * i;
        let mut word = [0; 8];
        word.copy_from_slice(&self.bytes[at..at + 8]);
        u64::from_le_bytes(word)
    }
}

impl Header {
    /// Returns the header as it is in a record.
    #[must_use]
    #[inline]
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.time_ns.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.seq.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.tid.to_le_bytes());
        bytes[16..18].copy_from_slice(&self.kind.to_le_bytes());
        bytes[18..20].copy_from_slice(&self.site.to_le_bytes());
        bytes[20..].copy_from_slice(&self.arg.to_le_bytes());
        bytes
    }
}

/// Largest number of payload words.
const WORDS_MAX: usize = (RECORD_BYTES_MAX - HEADER_BYTES) / 8;

/// A decoded record. Words that its kind does not have are not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordBuf {
    /// The header; the upper bits of `kind` say how many words the record has.
    pub header: Header,
    /// Payload words; those that the kind does not have are 0.
    pub words: [u64; WORDS_MAX],
}

impl RecordBuf {
    /// Returns the bytes of the record.
    #[inline]
    pub fn bytes(&self) -> impl Iterator<Item = u8> + use<> {
        let (_, words) = kinds::from_wire(self.header.kind);
        self.header
            .to_bytes()
            .into_iter()
            .chain(self.words.into_iter().take(words).flat_map(u64::to_le_bytes))
    }

    /// Writes the record over the bytes of one with as many words.
    ///
    /// # Panics
    /// `over` is shorter than a header.
    #[inline]
    pub fn write(&self, over: &mut [u8]) {
        let (header, words) = over.split_at_mut(HEADER_BYTES);
        header.copy_from_slice(&self.header.to_bytes());
        for (to, word) in words.as_chunks_mut().0.iter_mut().zip(self.words) {
            *to = word.to_le_bytes();
        }
    }
}

/// The records of a batch, up to the first bytes that are not a whole record.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// Reads the records of `batch`.
    #[must_use]
    #[inline]
    pub fn of(batch: &'a [u8]) -> Records<'a> {
        Records { rest: batch }
    }

    /// The bytes that are not read yet; after the last record, those that are not a whole record.
    #[must_use]
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        let record = Record::first(self.rest).ok()?;
        self.rest = &self.rest[record.bytes.len()..];
        Some(record)
    }
}

#[inline]
fn u16_at(header: &[u8; HEADER_BYTES], at: usize) -> u16 {
    u16::from_le_bytes([header[at], header[at + 1]])
}

#[inline]
fn u32_at(header: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::vec::Vec;

    const HEADER: Header = Header {
        time_ns: 0x0102_0304_0506_0708,
        seq: 0x1112_1314,
        tid: 0x2122_2324,
        kind: kinds::on_wire(kinds::LOOKUP),
        site: 0x4142,
        arg: 0x5152_5354,
    };

    fn lookup() -> Vec<u8> {
        let words = [7u64, 8, u64::MAX].into_iter().flat_map(u64::to_le_bytes);
        HEADER.to_bytes().into_iter().chain(words).collect()
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let bytes = lookup();
        let record = Record::first(&bytes).unwrap();
        assert_eq!((record.header(), record.kind(), record.is_known()), (HEADER, kinds::LOOKUP, true));
        assert!(record.words().eq([7, 8, u64::MAX]));
        assert_eq!((record.word(2), record.bytes()), (u64::MAX, &bytes[..]));
    }

    #[test]
    fn bytes_that_are_not_a_whole_record_end_a_batch() {
        let bytes = [lookup(), lookup()].concat();
        let mut records = Records::of(&bytes[..bytes.len() - 1]);
        assert_eq!(records.by_ref().count(), 1);
        assert_eq!(records.rest(), &bytes[bytes.len() / 2..bytes.len() - 1]);
        assert_eq!(Record::first(records.rest()), Err(Incomplete::Torn));
        assert_eq!(Record::first(&[]), Err(Incomplete::Torn));
        let nothing = Header { kind: kinds::LOOKUP, ..HEADER };
        assert_eq!(Record::first(&nothing.to_bytes()), Err(Incomplete::NotARecord));
    }

    #[test]
    fn a_kind_of_a_later_version_has_a_size_but_no_meaning() {
        let later = Header { kind: 0x3fff | 1 << 14, ..HEADER };
        let bytes: Vec<u8> = later.to_bytes().into_iter().chain([0; 8]).collect();
        let record = Record::first(&bytes).unwrap();
        assert_eq!((record.is_known(), record.kind(), record.words().count()), (false, 0x3fff, 1));
    }
}
