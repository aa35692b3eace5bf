//! The words for stacks.
//!
//! Decides how much of a stack is worth reading: from the function itself outwards, not the kernel's way in.

use observer_engine::finding::Side;

use super::row;
use crate::report::stacks::Stacks;

/// Frames shown; what is beyond is counted.
const FRAMES_MAX: usize = 10;

/// How the operation of a side was called.
pub fn rows(out: &mut Vec<String>, side: &Side, stacks: &Stacks) {
    let frames = stacks.symbolised(side.stack);
    if frames.is_empty() {
        return;
    }
    out.push(row("", "called first from"));
    out.extend(frames.iter().take(FRAMES_MAX).map(|frame| row("", &format!("  {frame}"))));
    if frames.len() > FRAMES_MAX {
        out.push(row("", &format!("  and {} more", frames.len() - FRAMES_MAX)));
    }
}
