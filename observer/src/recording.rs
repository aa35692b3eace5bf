//! Recordings: the input of a run, stored so that it can be run again.
//!
//! Decides what is in the container and under which names; [`columns`] decides how a batch is laid out inside a message. The
//! container is MCAP with chunks, checksums and zstd. Bytes are stored as they arrived and passes stay passes, so the
//! pipeline cannot distinguish a recording from a kernel.
//!
//! | channel | one message | encoding |
//! | --- | --- | --- |
//! | `meta` | the first of all: [`crate::meta::Meta`] | JSON |
//! | `loss`, `stacks`, `symbols` | what a pass brought of each, before its mark; left out when empty | JSON |
//! | `cpu/N` | the bytes of one CPU's ring in one pass | [`columns`] |
//! | `pass` | the mark that ends a pass: number, time in nanoseconds, 1 if complete | 8 + 8 + 1 bytes, little endian |
//! | `closing` | the last of all: [`crate::meta::Closing`], if the run has ended, and totals | JSON |
//!
//! Only the in-memory recording of a live run has `meta.since`: its segment begins in the middle of the run. A first pass
//! repeats, as records of a nonexistent CPU, the one-time records that later records depend on (the preamble, see [`keep`]).
//!
//! Chunks end with a pass. A reader takes a chunk whole or not at all: what a kill, a crash or a full disk leaves behind can be
//! read up to the last whole chunk. Behind each chunk is a [`seal`], which proves that everything up to there is as it was written. Format 1 has
//! no seals; its recordings are still read, and their structure is checked.

pub mod columns;
mod frames;
pub mod in_memory;
pub mod index;
pub mod input;
mod parse;
pub mod reader;
mod seal;
pub mod writer;

pub use in_memory::{InMemory, Segments};
pub use index::Index;
pub use input::Input;
pub use reader::Reader;
pub use writer::Writer;

use crate::meta::Closing;

/// First format in which each chunk has a seal.
const SEALED: u32 = 2;

/// Profile in the container's header, which distinguishes a recording from other MCAP files.
const PROFILE: &str = "observer";

/// Bytes before the content of a container record: its opcode, and its length in eight bytes.
const FRAME_HEAD_BYTES: usize = 9;

/// Length of the content that follows a head.
fn frame_bytes(head: &[u8; FRAME_HEAD_BYTES]) -> u64 {
    let [_, length @ ..] = *head;
    u64::from_le_bytes(length)
}

/// Names of the channels.
mod topic {
    pub const META: &str = "meta";
    pub const PASS: &str = "pass";
    pub const LOSS: &str = "loss";
    pub const STACKS: &str = "stacks";
    pub const SYMBOLS: &str = "symbols";
    pub const CLOSING: &str = "closing";
    /// Prefix, followed by the CPU's number.
    pub const CPU: &str = "cpu/";
}

/// Loss totals as they are written.
#[derive(serde::Serialize, serde::Deserialize)]
struct WireLoss {
    cpu: u16,
    /// Number of the reason; names are in `closing`.
    reason: u16,
    /// Absent if not known, as in recordings of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    site: Option<u16>,
    total: u64,
    since_ns: u64,
}

/// The closing as it is written: the last message of every recording that was ended.
#[derive(serde::Serialize, serde::Deserialize)]
struct WireClosing {
    /// Absent if the recording was saved while its run went on.
    #[serde(flatten)]
    closing: Option<Closing>,
    /// Absent in format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    totals: Option<Totals>,
}

/// Totals of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Totals {
    passes: u64,
    /// Bytes of all batches.
    bytes: u64,
}

/// A stack as it is written.
#[derive(serde::Serialize, serde::Deserialize)]
struct WireStack {
    id: u32,
    frames: Vec<u64>,
}

#[cfg(test)]
mod tests;
