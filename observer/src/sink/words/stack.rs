//! The words for stacks.
//!
//! Decides how much of a stack is worth reading: from the function itself outwards, and hardly the kernel's way in. It is
//! the stack of the task's first call, which need not be this one: it is worded so.

use observer_engine::finding::Side;

use super::row;
use crate::report::stacks::Stacks;

/// Frames shown; what is beyond is counted.
const FRAMES_MAX: usize = 10;

/// How the operation of a side was called.
pub fn rows(out: &mut Vec<String>, side: &Side, stacks: &Stacks) {
    let functions = stacks.functions(side.stack);
    if functions.is_empty() {
        return;
    }
    out.push(row("", "the task's first call of this in the run came from"));
    let line = |(name, offset): &(&str, u64)| row("", &format!("  {name}+{offset:#x}"));
    out.extend(functions.iter().take(FRAMES_MAX).map(line));
    if functions.len() > FRAMES_MAX {
        out.push(row("", &format!("  and {} more", functions.len() - FRAMES_MAX)));
    }
}
