//! A recording's container as a tree: chunks with their messages, and seals. Written again, every length and checksum is right.
//!
//! Decides nothing about the content: a tree may have chunks in any order, and messages of any content.

use crc32fast::Hasher;

const CHUNK: u8 = 0x06;
const SEAL: u8 = 0x80;
const MAGIC_BYTES: usize = 8;
const HEAD_BYTES: usize = 9;
/// Bytes of a chunk's content before its compression: two times, the unpacked size, the checksum.
const CHUNK_BYTES: usize = 28;
/// Largest unpacked chunk that is made into a tree.
const UNPACKED_MAX: usize = 4 << 20;

/// Opcode and content.
pub type Record = (u8, Vec<u8>);

/// A record at the top level.
#[derive(Clone)]
pub enum Part {
    Chunk {
        times: [u8; 16],
        records: Vec<Record>,
    },
    /// The 24 bytes before its checksum.
    Seal(Vec<u8>),
    Other(Record),
}

/// Returns the parts of a file; what does not parse at its end is left out.
pub fn parts(bytes: &[u8]) -> Vec<Part> {
    let top = records(bytes.get(MAGIC_BYTES..).unwrap_or_default());
    let part = |(opcode, body): Record| match opcode {
        CHUNK => match unpacked(&body) {
            Some(content) => {
                Part::Chunk { times: *body.first_chunk().unwrap_or(&[0; 16]), records: records(&content) }
            }
            None => Part::Other((opcode, body)),
        },
        SEAL if body.len() >= 24 => Part::Seal(body[..24].to_vec()),
        _ => Part::Other((opcode, body)),
    };
    top.into_iter().map(part).collect()
}

/// Writes a file. `renumber`: seals get the numbers that their order needs.
pub fn written(parts: &[Part], renumber: bool) -> Vec<u8> {
    let mut out = mcap::MAGIC.to_vec();
    let (mut sealed, mut seals) = (0, 0_u64);
    for part in parts {
        match part {
            Part::Chunk { times, records } => put(&mut out, CHUNK, &packed(times, records)),
            Part::Seal(body) => {
                let mut body = body.clone();
                if renumber {
                    body[..8].copy_from_slice(&seals.to_le_bytes());
                }
                seals += 1;
                let mut sum = Hasher::new();
                sum.update(&out[sealed..]);
                sum.update(&head(SEAL, body.len() + 4));
                sum.update(&body);
                body.extend_from_slice(&sum.finalize().to_le_bytes());
                put(&mut out, SEAL, &body);
                sealed = out.len();
            }
            Part::Other((opcode, body)) => put(&mut out, *opcode, body),
        }
    }
    out.extend_from_slice(mcap::MAGIC);
    out
}

fn head(opcode: u8, length: usize) -> [u8; HEAD_BYTES] {
    let mut head = [opcode; HEAD_BYTES];
    head[1..].copy_from_slice(&(length as u64).to_le_bytes());
    head
}

fn put(out: &mut Vec<u8>, opcode: u8, body: &[u8]) {
    out.extend_from_slice(&head(opcode, body.len()));
    out.extend_from_slice(body);
}

fn records(mut bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() {
        let [opcode, length @ ..] = *head;
        let length = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX);
        let Some((body, rest)) = rest.split_at_checked(length) else { break };
        records.push((opcode, body.to_vec()));
        bytes = rest;
    }
    records
}

fn unpacked(body: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = body.get(CHUNK_BYTES..)?.split_first_chunk::<4>()?;
    let (compression, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let (_, data) = rest.split_first_chunk::<8>()?;
    match compression {
        b"" => Some(data.to_vec()),
        b"zstd" => zstd::bulk::decompress(data, UNPACKED_MAX).ok(),
        _ => None,
    }
}

fn packed(times: &[u8; 16], records: &[Record]) -> Vec<u8> {
    let mut content = Vec::new();
    records.iter().for_each(|(opcode, body)| put(&mut content, *opcode, body));
    let data = zstd::bulk::compress(&content, 1).unwrap();
    let mut body = times.to_vec();
    body.extend_from_slice(&(content.len() as u64).to_le_bytes());
    body.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
    body.extend_from_slice(&4_u32.to_le_bytes());
    body.extend_from_slice(b"zstd");
    body.extend_from_slice(&(data.len() as u64).to_le_bytes());
    body.extend_from_slice(&data);
    body
}
