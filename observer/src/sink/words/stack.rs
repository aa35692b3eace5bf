//! The words for stacks.
//!
//! Decides how much of a stack is worth reading: frames from the function itself outwards, and hardly any of the kernel
//! entry. The stack is from the task's first call, which need not be this one; the words say so.

use observer_engine::finding::Party;

use crate::{report::stacks::Stacks, text::row};

/// Maximum number of frames shown; others are only counted.
const FRAMES_MAX: usize = 10;

/// Adds the call stack of a party's operation.
pub fn rows(out: &mut Vec<String>, side: &Party, stacks: &Stacks) {
    let functions = stacks.functions(side.stack);
    if functions.is_empty() {
        return;
    }
    out.push(row(
        "",
        "call stack of the task's first call of this function (a later call may have another):",
    ));
    let line = |(name, offset): &(&str, u64)| row("", &format!("  {name}+{offset:#x}"));
    out.extend(functions.iter().take(FRAMES_MAX).map(line));
    if functions.len() > FRAMES_MAX {
        out.push(row("", &format!("  and {} more", functions.len() - FRAMES_MAX)));
    }
}
