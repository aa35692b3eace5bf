//! Recordings: what a run was made of, kept so that it can be run again.
//!
//! Decides what is in the container and under which names; [`columns`] decides how a batch is laid out inside a
//! message. The container is MCAP with chunks, checksums and zstd. Bytes are kept as they came and passes stay
//! passes, so that the pipeline behind cannot tell a recording from a kernel.
//!
//! | channel | one message | encoding |
//! | --- | --- | --- |
//! | `meta` | the first of all: [`crate::meta::Meta`] | JSON |
//! | `loss`, `stacks`, `symbols` | what a pass brought of each, before its mark; left out when nothing | JSON |
//! | `cpu/N` | the bytes of one CPU's ring in one pass | [`columns`] |
//! | `pass` | the mark that ends a pass: number, time in nanoseconds, 1 if complete | 8 + 8 + 1 bytes, little endian |
//! | `closing` | the last of all: [`crate::meta::Closing`] | JSON |
//!
//! `meta.since` is there in what a live run keeps of itself only: the run had begun before, and a first pass tells again, as
//! records of a CPU that is none, what the records that follow build on ([`keep`]).
//!
//! Chunks end with a pass. A reader takes a chunk whole or not at all: what a kill, a crash or a full disk leaves behind
//! reads up to the last whole chunk.

pub mod columns;
pub mod index;
pub mod input;
pub mod keep;
pub mod reader;
pub mod writer;

pub use index::Index;
pub use input::Input;
pub use keep::{Keep, Kept};
pub use reader::Reader;
pub use writer::Writer;

/// Profile in the container's header, by which a recording is known from other MCAP files.
const PROFILE: &str = "observer";

/// Before the content of a record of the container: what it is, and its length in eight bytes.
const FRAME_HEAD_BYTES: usize = 9;

/// Length of the content behind a head.
fn frame_bytes(head: &[u8; FRAME_HEAD_BYTES]) -> u64 {
    let [_, length @ ..] = *head;
    u64::from_le_bytes(length)
}

/// Channel names.
mod topic {
    pub const META: &str = "meta";
    pub const PASS: &str = "pass";
    pub const LOSS: &str = "loss";
    pub const STACKS: &str = "stacks";
    pub const SYMBOLS: &str = "symbols";
    pub const CLOSING: &str = "closing";
    /// Followed by the CPU's number.
    pub const CPU: &str = "cpu/";
}

/// Loss totals as they are written.
#[derive(serde::Serialize, serde::Deserialize)]
struct WireLoss {
    cpu: u16,
    /// Number of the reason; names are in `closing`.
    reason: u16,
    /// Absent: not known, as in recordings of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    site: Option<u16>,
    total: u64,
    since_ns: u64,
}

/// A stack as it is written.
#[derive(serde::Serialize, serde::Deserialize)]
struct WireStack {
    id: u32,
    frames: Vec<u64>,
}

#[cfg(test)]
mod tests;
