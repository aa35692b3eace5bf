//! Records of the container, parsed once their lengths are checked.
//!
//! Decides what is handed to the container's parser: it allocates what the length of a string claims, up to 4 GiB, before it finds that
//! the record is shorter.

use mcap::records::{Record, op};

/// Parses a record of a kind that recordings have. `None` if it is malformed or has another kind.
pub fn parse_record(opcode: u8, body: &[u8]) -> Option<Record<'_>> {
    let fits = match opcode {
        op::HEADER => after_strings(body, 0, 2).is_some(),
        // Two times, a size and a checksum, then the name of the compression.
        op::CHUNK => after_strings(body, 28, 1).is_some(),
        // Two numbers, topic and encoding; recordings write no metadata: the map at the end is empty.
        op::CHANNEL => after_strings(body, 4, 2) == Some(&[0; 4]),
        op::MESSAGE => true,
        _ => false,
    };
    if fits { mcap::parse_record(opcode, body).ok() } else { None }
}

/// Returns what follows this number of strings, each behind its length. `None` if the body is shorter.
fn after_strings(body: &[u8], from: usize, strings: usize) -> Option<&[u8]> {
    (0..strings).try_fold(body.get(from..)?, |rest, _| {
        let (length, rest) = rest.split_first_chunk::<4>()?;
        rest.get(u32::from_le_bytes(*length) as usize..)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length and as many bytes, or fewer.
    fn string(length: u32, bytes: &str) -> Vec<u8> {
        [&length.to_le_bytes()[..], bytes.as_bytes()].concat()
    }

    #[test]
    fn a_length_beyond_the_record_is_not_allocated() {
        let good = [string(1, "a"), string(2, "bc")].concat();
        assert!(matches!(parse_record(op::HEADER, &good), Some(Record::Header(h)) if h.library == "bc"));
        for bad in
            [string(u32::MAX, "a"), [string(1, "a"), string(3, "bc")].concat(), string(1, "a"), vec![0; 3]]
        {
            assert!(parse_record(op::HEADER, &bad).is_none(), "{bad:?}");
        }
        let channel = |map: &[u8]| [vec![1, 0, 0, 0], good.clone(), map.to_vec()].concat();
        assert!(
            matches!(parse_record(op::CHANNEL, &channel(&[0; 4])), Some(Record::Channel(c)) if c.topic == "a")
        );
        assert!(parse_record(op::CHANNEL, &channel(&[0xff; 4])).is_none());
        let inner = [&12_u32.to_le_bytes()[..], &string(u32::MAX, ""), &[0; 8]].concat();
        assert!(parse_record(op::CHANNEL, &channel(&inner)).is_none());
        // A map that ends like an empty one is not parsed either, even if its lengths are right.
        let pair = string(13, "\u{1}\0\0\0k\u{4}\0\0\0\0\0\0\0");
        assert!(parse_record(op::CHANNEL, &channel(&pair)).is_none());
        let chunk = |name: &[u8]| [&[0; 28], name, &[0; 8]].concat();
        assert!(matches!(parse_record(op::CHUNK, &chunk(&string(0, ""))), Some(Record::Chunk { .. })));
        assert!(parse_record(op::CHUNK, &chunk(&string(u32::MAX - 7, "zstd"))).is_none());
        assert!(parse_record(op::SCHEMA, &good).is_none());
    }
}
