//! Stacks from passes: frames by number, and the names of addresses.
//!
//! Decides which frames a number in a record means. The kernel reuses a number for another stack when it needs the place, and
//! the source sends the frames again then. So records get numbers of this run, one for each different stack. Their number is
//! bounded; a stack beyond the bound has no frames.

use std::collections::BTreeMap;

use crate::{meta::Symbol, source::Pass};

/// Maximum number of different stacks kept: the number of places in the kernel's map, which was never seen to fill.
const STACKS_MAX: usize = 4096;
/// Longest function, in bytes. An address further beyond a symbol is in a program or trampoline, which have no symbols.
const FUNCTION_BYTES_MAX: u64 = 1 << 20;
/// Number of a stack that is not kept.
const UNKNOWN: u32 = u32::MAX;

/// Meaning of a number from a time on.
#[derive(Clone, Copy, Debug)]
struct Meaning {
    from_ns: u64,
    stack: u32,
}

/// Stacks of the run up to now.
#[derive(Clone, Debug, Default)]
pub struct Stacks {
    /// Frames by number of this run.
    frames: Vec<Vec<u64>>,
    by_frames: BTreeMap<Vec<u64>, u32>,
    /// Meanings by number in records, oldest first.
    meanings: BTreeMap<u32, Vec<Meaning>>,
    names: BTreeMap<u64, (String, u64)>,
}

impl Stacks {
    /// Takes the stacks of a pass. They apply to its own records, which are later than the start of the pass before.
    pub fn pass(&mut self, pass: &Pass, before_ns: u64) {
        for stack in &pass.stacks {
            let kept = self.keep(&stack.frames);
            let meanings = self.meanings.entry(stack.id).or_default();
            if meanings.last().is_none_or(|m| m.stack != kept) {
                meanings.push(Meaning { from_ns: before_ns, stack: kept });
            }
        }
        for Symbol { address, name, offset } in &pass.symbols {
            self.names.entry(*address).or_insert_with(|| (name.clone(), *offset));
        }
    }

    fn keep(&mut self, frames: &[u64]) -> u32 {
        if let Some(known) = self.by_frames.get(frames) {
            return *known;
        }
        if self.frames.len() == STACKS_MAX {
            return UNKNOWN;
        }
        let number = self.frames.len() as u32;
        self.frames.push(frames.to_vec());
        self.by_frames.insert(frames.to_vec(), number);
        number
    }

    /// Number in this run of the stack that a record of this time refers to.
    #[must_use]
    pub fn number(&self, id: u32, time_ns: u64) -> u32 {
        let Some(meanings) = self.meanings.get(&id) else { return UNKNOWN };
        let then = meanings.iter().rev().find(|m| m.from_ns <= time_ns).or(meanings.first());
        then.map_or(UNKNOWN, |m| m.stack)
    }

    /// Frames of a stack by its number in this run, `function+0xoff`, innermost first; empty if not known.
    #[must_use]
    pub fn symbolised(&self, stack: Option<u32>) -> Vec<String> {
        let text = |address: &u64| match self.name(*address) {
            Some((name, offset)) => format!("{name}+{offset:#x}"),
            None => format!("{address:#x}"),
        };
        self.frames(stack).map(text).collect()
    }

    /// Kernel functions of a stack with their offsets, innermost first. A traced function is on the stack once more for each
    /// trampoline: it is listed once.
    #[must_use]
    pub fn functions(&self, stack: Option<u32>) -> Vec<(&str, u64)> {
        let mut functions: Vec<(&str, u64)> =
            self.frames(stack).filter_map(|address| self.name(*address)).collect();
        functions.dedup_by_key(|(name, _)| *name);
        functions
    }

    fn frames(&self, stack: Option<u32>) -> impl Iterator<Item = &u64> {
        stack.and_then(|number| self.frames.get(number as usize)).into_iter().flatten()
    }

    fn name(&self, address: u64) -> Option<(&str, u64)> {
        let (name, offset) = self.names.get(&address)?;
        (*offset < FUNCTION_BYTES_MAX).then_some((name.as_str(), *offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Mark, Stack};

    fn pass(time_ns: u64, id: u32, frames: &[u64]) -> Pass {
        let symbols = vec![Symbol { address: 0x10, name: "walk".into(), offset: 0x20 }];
        let stacks = vec![Stack { id, frames: frames.to_vec() }];
        Pass { mark: Mark { number: 1, time_ns, complete: true }, stacks, symbols, ..Pass::default() }
    }

    #[test]
    fn a_stack_number_is_resolved_at_the_time_of_the_record() {
        let mut stacks = Stacks::default();
        stacks.pass(&pass(100, 7, &[0x10, 0x30]), 0);
        stacks.pass(&pass(200, 7, &[0x40]), 100);
        let at = |time_ns| stacks.symbolised(Some(stacks.number(7, time_ns)));
        assert_eq!(at(90), ["walk+0x20", "0x30"]);
        assert_eq!(at(150), ["0x40"]);
        assert_eq!(stacks.number(8, 90), UNKNOWN);
        assert!(stacks.symbolised(Some(UNKNOWN)).is_empty());
    }

    #[test]
    fn trampolines_are_left_out_and_a_traced_function_is_listed_once() {
        let mut stacks = Stacks::default();
        let name = |address, name: &str, offset| Symbol { address, name: name.into(), offset };
        let mut pass = pass(100, 7, &[1, 2, 3, 4]);
        pass.symbols = vec![
            name(1, "walk", 0x20),
            name(2, "last_symbol", 0x32f5_7ccf),
            name(3, "walk", 0x9),
            name(4, "read", 0x30),
        ];
        stacks.pass(&pass, 0);
        assert_eq!(stacks.symbolised(Some(0)), ["walk+0x20", "0x2", "walk+0x9", "read+0x30"]);
        assert_eq!(stacks.functions(Some(0)), [("walk", 0x20), ("read", 0x30)]);
    }

    #[test]
    fn stored_stacks_are_bounded() {
        let mut stacks = Stacks::default();
        for n in 0..=STACKS_MAX as u64 {
            stacks.pass(&pass(n, n as u32, &[n]), n);
        }
        assert_eq!(stacks.number(STACKS_MAX as u32, u64::MAX), UNKNOWN);
        assert_eq!(stacks.number(STACKS_MAX as u32 - 1, u64::MAX), STACKS_MAX as u32 - 1);
    }
}
