//! What the fuzz targets share: the helpers of the tests of hostile input, and recordings as a tree that can be written again.
//!
//! Random bytes would end at the first checksum. Both targets change the content and write it with right checksums:
//! [`container`] at the level of chunks and messages, [`subject`] at the level of passes and records.

#![allow(clippy::unwrap_used, reason = "a target fails like a test")]

pub mod container;
#[path = "../../tests/common/everything.rs"]
pub mod everything;
#[path = "../../tests/common/fixtures.rs"]
pub mod fixtures;
#[path = "../../tests/common/random.rs"]
pub mod random;
#[path = "../../tests/common/shared.rs"]
pub mod shared;
#[path = "../../tests/tui/stage.rs"]
pub mod stage;
#[path = "../../tests/common/subject.rs"]
pub mod subject;
#[path = "../../tests/common/written.rs"]
pub mod written;

/// Copies bytes into a fuzzer's buffer and returns their number; `None` if there is not enough room.
pub fn put(bytes: &[u8], data: &mut [u8], max_size: usize) -> Option<usize> {
    let room = data.len().min(max_size);
    data.get_mut(..bytes.len()).filter(|_| bytes.len() <= room)?.copy_from_slice(bytes);
    Some(bytes.len())
}
