//! Converts a batch of records to columns, and back to the same bytes.
//!
//! Decides how records are laid out so that the compressor finds repetitions: one stream for each field, times and sequence
//! numbers as differences, addresses as indices into a dictionary of the batch. The layout depends only on the size of a
//! record, not on its meaning, so records of later kinds pass through unharmed. Bytes that are not records are stored as they
//! are. Deliberately not a compressor, and deliberately without state between batches: each can be read alone.
//!
//! Layout: number of records, then the streams in the order of [`Streams`], each with its length before it, then the bytes
//! that are not records. Numbers are LEB128, signed ones zigzag.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use observer_ebpf::{Header, kinds, record::Records};

/// Word tokens below this are not dictionary indices.
const TOKENS: u64 = 2;
/// The word is the next one in the stream of literals, and is added to the dictionary.
const TOKEN_LITERAL: u64 = 0;
/// The word continues the arithmetic sequence of the last two words of the same kind, site and place.
const TOKEN_STEP: u64 = 1;

/// Reason why bytes are not the columns of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("columns of a batch are damaged: {0}")]
pub struct Damaged(&'static str);

#[derive(Default)]
struct Streams {
    /// Distinct kind and site pairs, by first use: four bytes each.
    shapes: Vec<u8>,
    /// Index of each record's kind and site in `shapes`.
    shape: Vec<u8>,
    /// Time, as a difference to the record before.
    time: Vec<u8>,
    /// Sequence number, as a difference to the successor of the record before.
    seq: Vec<u8>,
    /// Thread id, as a difference to the record before.
    tid: Vec<u8>,
    /// Argument, as a difference to the record before of the same shape.
    arg: Vec<u8>,
    /// Tokens of the payload words, by place in the payload.
    words: [Vec<u8>; 5],
    /// Words that were seen for the first time: eight bytes each.
    literals: Vec<u8>,
}

const STREAMS: usize = 12;

impl Streams {
    fn all(&self) -> [&Vec<u8>; STREAMS] {
        let [a, b, c, d, e] = &self.words;
        [
            &self.shapes,
            &self.shape,
            &self.time,
            &self.seq,
            &self.tid,
            &self.arg,
            a,
            b,
            c,
            d,
            e,
            &self.literals,
        ]
    }
}

/// State of both directions about the records of one shape.
#[derive(Clone, Copy, Default)]
struct Shape {
    kind: u16,
    site: u16,
    arg: u32,
    /// The last two values of each word.
    words: [[u64; 2]; 5],
}

impl Shape {
    fn step(&self, i: usize) -> u64 {
        let [last, before] = self.words[i];
        last.wrapping_add(last.wrapping_sub(before))
    }

    fn saw(&mut self, i: usize, word: u64) {
        self.words[i] = [word, self.words[i][0]];
    }
}

/// Header fields of a record.
#[derive(Clone, Copy, Default)]
struct Fields {
    time: u64,
    seq: u32,
    tid: u32,
}

/// Multiplicative hashing: the keys are addresses, and no attacker chooses them.
#[derive(Default)]
struct WordHasher(u64);

impl Hasher for WordHasher {
    fn finish(&self) -> u64 {
        self.0.rotate_left(20)
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u64(u64::from(b));
        }
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }
}

type Places<K> = HashMap<K, usize, BuildHasherDefault<WordHasher>>;

/// Turns a batch into columns.
#[must_use]
pub fn fold(bytes: &[u8]) -> Vec<u8> {
    let mut streams = Streams::default();
    let mut shapes: Vec<Shape> = Vec::new();
    let mut shape_places: Places<u32> = Places::default();
    let mut dictionary: Places<u64> = Places::default();
    let mut last = Fields { seq: u32::MAX, ..Fields::default() };
    let mut records = 0u64;
    let mut batch = Records::of(bytes);
    for record in batch.by_ref() {
        records += 1;
        let Header { time_ns, seq, tid, kind, site, arg } = record.header();
        let next = shapes.len();
        let place = *shape_places.entry(u32::from(kind) << 16 | u32::from(site)).or_insert(next);
        if place == next {
            shapes.push(Shape { kind, site, ..Shape::default() });
            streams.shapes.extend(kind.to_le_bytes().into_iter().chain(site.to_le_bytes()));
        }
        put(&mut streams.shape, place as u64);
        let shape = &mut shapes[place];
        let now = Fields { time: time_ns, seq, tid };
        put_signed(&mut streams.time, now.time.wrapping_sub(last.time) as i64);
        put_signed(&mut streams.seq, difference(now.seq, last.seq.wrapping_add(1)));
        put_signed(&mut streams.tid, difference(now.tid, last.tid));
        put_signed(&mut streams.arg, difference(arg, shape.arg));
        (last, shape.arg) = (now, arg);
        for (i, word) in record.words().enumerate() {
            if word == shape.step(i) {
                put(&mut streams.words[i], TOKEN_STEP);
            } else if let Some(place) = dictionary.get(&word) {
                put(&mut streams.words[i], *place as u64 + TOKENS);
            } else {
                dictionary.insert(word, dictionary.len());
                put(&mut streams.words[i], TOKEN_LITERAL);
                streams.literals.extend_from_slice(&word.to_le_bytes());
            }
            shape.saw(i, word);
        }
    }
    let mut out = Vec::with_capacity(bytes.len() / 4 + 32);
    put(&mut out, records);
    for stream in streams.all() {
        put(&mut out, stream.len() as u64);
        out.extend_from_slice(stream);
    }
    out.extend_from_slice(batch.rest());
    out
}

/// Turns columns back into the batch.
///
/// # Errors
/// [`Damaged`] if these are not the columns of a batch, or if the batch is longer than `max` bytes.
pub fn unfold(mut bytes: &[u8], max: u64) -> Result<Vec<u8>, Damaged> {
    let records = get(&mut bytes)?;
    let mut streams = [&[][..]; STREAMS];
    for stream in &mut streams {
        let len = usize::try_from(get(&mut bytes)?).map_err(|_| Damaged("length of a stream"))?;
        (*stream, bytes) = bytes.split_at_checked(len).ok_or(Damaged("length of a stream"))?;
    }
    let [shape_rows, shape, time, seq, tid, arg, words @ .., literals] = &mut streams;
    let mut shapes: Vec<Shape> = shape_rows
        .as_chunks()
        .0
        .iter()
        .map(|[k, ind, s, ite]| Shape {
            kind: u16::from_le_bytes([*k, *ind]),
            site: u16::from_le_bytes([*s, *ite]),
            ..Shape::default()
        })
        .collect();
    let mut dictionary: Vec<u64> = Vec::new();
    let mut last = Fields { seq: u32::MAX, ..Fields::default() };
    let mut out = Vec::new();
    for _ in 0..records {
        if out.len() as u64 > max {
            return Err(Damaged("more records than a file of this size has"));
        }
        let place = usize::try_from(get(shape)?).map_err(|_| Damaged("place of a shape"))?;
        let shape = shapes.get_mut(place).ok_or(Damaged("place of a shape"))?;
        last.time = last.time.wrapping_add(get_signed(time)? as u64);
        last.seq = sum(last.seq.wrapping_add(1), get_signed(seq)?);
        last.tid = sum(last.tid, get_signed(tid)?);
        shape.arg = sum(shape.arg, get_signed(arg)?);
        let header = Header {
            time_ns: last.time,
            seq: last.seq,
            tid: last.tid,
            kind: shape.kind,
            site: shape.site,
            arg: shape.arg,
        };
        out.extend_from_slice(&header.to_bytes());
        let (_, count) = kinds::from_wire(shape.kind);
        for (i, tokens) in words.iter_mut().enumerate().take(count) {
            let word = match get(tokens)? {
                TOKEN_STEP => shape.step(i),
                TOKEN_LITERAL => {
                    let (word, after) = literals.split_first_chunk().ok_or(Damaged("literals"))?;
                    *literals = after;
                    let word = u64::from_le_bytes(*word);
                    dictionary.push(word);
                    word
                }
                place => *usize::try_from(place - TOKENS)
                    .ok()
                    .and_then(|place| dictionary.get(place))
                    .ok_or(Damaged("place in the dictionary"))?,
            };
            shape.saw(i, word);
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    out.extend_from_slice(bytes);
    Ok(out)
}

fn difference(now: u32, before: u32) -> i64 {
    i64::from(now.wrapping_sub(before) as i32)
}

fn sum(before: u32, difference: i64) -> u32 {
    before.wrapping_add(difference as u32)
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn put_signed(out: &mut Vec<u8>, n: i64) {
    put(out, (n << 1 ^ n >> 63) as u64);
}

fn get(bytes: &mut &[u8]) -> Result<u64, Damaged> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (&b, after) = bytes.split_first().ok_or(Damaged("a number breaks off"))?;
        *bytes = after;
        n |= u64::from(b & 0x7f) << shift;
        if b < 0x80 {
            return Ok(n);
        }
    }
    Err(Damaged("a number is too long"))
}

fn get_signed(bytes: &mut &[u8]) -> Result<i64, Damaged> {
    let n = get(bytes)?;
    Ok((n >> 1) as i64 ^ -((n & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: &mut u64, below: u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed % below
    }

    /// Records of every size class, known and unknown kinds, with runs and jumps in every field.
    fn batch(seed: &mut u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut time = random(seed, u64::MAX);
        for _ in 0..random(seed, 200) {
            time = if random(seed, 20) == 0 {
                random(seed, u64::MAX)
            } else {
                time.wrapping_add(random(seed, 2000))
            };
            bytes.extend(time.to_le_bytes());
            bytes.extend((random(seed, 1 << 32) as u32).to_le_bytes());
            bytes.extend((random(seed, 5) as u32).to_le_bytes());
            let class = 1 + random(seed, 3) as u16;
            bytes.extend((random(seed, 50) as u16 | class << 14).to_le_bytes());
            bytes.extend((random(seed, 9) as u16).to_le_bytes());
            bytes.extend((random(seed, 1 << 32) as u32).to_le_bytes());
            for _ in 0..[0, 1, 3, 5][usize::from(class)] {
                let word = if random(seed, 2) == 0 { random(seed, 9) << 12 } else { random(seed, u64::MAX) };
                bytes.extend(word.to_le_bytes());
            }
        }
        bytes
    }

    #[test]
    fn every_batch_is_restored_byte_for_byte() {
        let mut seed = 0x2545_f491_4f6c_dd1d;
        for _ in 0..500 {
            let mut bytes = batch(&mut seed);
            assert_eq!(unfold(&fold(&bytes), u64::MAX), Ok(bytes.clone()));
            // Cut at a random place, with damaged bytes at the end.
            bytes.truncate(random(&mut seed, bytes.len() as u64 + 1) as usize);
            assert_eq!(unfold(&fold(&bytes), u64::MAX), Ok(bytes.clone()));
            let strange: Vec<u8> = (0..random(&mut seed, 90)).map(|_| random(&mut seed, 256) as u8).collect();
            bytes.extend(&strange);
            assert_eq!(unfold(&fold(&bytes), u64::MAX), Ok(bytes));
            assert_eq!(unfold(&fold(&strange), u64::MAX), Ok(strange));
        }
    }

    #[test]
    fn damaged_columns_do_not_panic() {
        let mut seed = 0x1234_5678_9abc_def1;
        for _ in 0..300 {
            let mut columns = fold(&batch(&mut seed));
            for _ in 0..20 {
                let at = random(&mut seed, columns.len() as u64) as usize;
                columns[at] = random(&mut seed, 256) as u8;
                let _ = unfold(&columns, u64::MAX);
            }
            let cut = random(&mut seed, columns.len() as u64) as usize;
            let _ = unfold(&columns[..cut], u64::MAX);
        }
        assert_eq!(unfold(&[], u64::MAX), Err(Damaged("a number breaks off")));
        assert_eq!(unfold(&[0, 200, 1], u64::MAX), Err(Damaged("length of a stream")));
    }
}
