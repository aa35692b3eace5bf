//! A meter reads a counter before and after a batch and keeps the least difference. Reading the counter itself costs; that
//! is measured with empty batches and subtracted.

use std::{hint::black_box, io};

use crate::runs::Counters;

/// A prepared operation: each call does a batch and gives it to the meter. Its set-up is outside of what is counted.
pub type Batch = Box<dyn FnMut(&mut Meter) -> io::Result<()>>;

#[derive(Clone, Copy)]
pub struct Operation {
    pub name: &'static str,
    pub group: &'static str,
    /// Bytes that one operation clears or copies by string instructions, which the emulator counts as one instruction each.
    pub string_bytes: u64,
    pub start: fn() -> io::Result<Batch>,
}

/// Batches without content, of which the least is the cost of the meter.
const EMPTY: u32 = 16;

pub struct Meter<'a> {
    counter: Counter<'a>,
    empty: u64,
    least: Option<(u64, u64)>,
}

enum Counter<'a> {
    Instructions,
    Runs(&'a Counters),
}

impl Counter<'_> {
    fn read(&self) -> u64 {
        match self {
            // SAFETY: every x86-64 processor has this instruction, and Linux allows it.
            Counter::Instructions => unsafe { core::arch::x86_64::_rdtsc() },
            Counter::Runs(counters) => counters.sum(),
        }
    }
}

impl<'a> Meter<'a> {
    pub fn instructions() -> Meter<'a> {
        Meter::new(Counter::Instructions)
    }

    pub fn runs(counters: &'a Counters) -> Meter<'a> {
        Meter::new(Counter::Runs(counters))
    }

    fn new(counter: Counter<'a>) -> Meter<'a> {
        let mut meter = Meter { counter, empty: 0, least: None };
        for _ in 0..EMPTY {
            meter.batch(1, || ());
        }
        let empty = meter.least.take().map_or(0, |(count, _)| count);
        Meter { empty, ..meter }
    }

    /// Counts a batch of `of` operations.
    #[inline(always)]
    pub fn batch<T>(&mut self, of: u64, work: impl FnOnce() -> T) -> T {
        let before = self.counter.read();
        let result = black_box(work());
        let count = self.counter.read().wrapping_sub(before).saturating_sub(self.empty);
        if self.least.is_none_or(|(least, _)| count < least) {
            self.least = Some((count, of));
        }
        result
    }

    /// Returns the least count of a batch, and the number of operations in it.
    pub fn least(&self) -> Option<(u64, u64)> {
        self.least
    }
}
