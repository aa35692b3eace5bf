//! A hash map whose hasher has no seed: the same events take the same code path on every machine.
//!
//! Keys are kernel addresses and small numbers from a trusted decoder, so no defence against chosen keys is needed. The
//! iteration order still depends on the layout: findings and views never use it without sorting.

use std::hash::{BuildHasherDefault, Hasher};

/// Map with a fixed hash.
#[allow(clippy::disallowed_types, reason = "the hasher is fixed here; iteration is never shown unsorted")]
pub(crate) type FxMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Fx>>;

/// Folds a word into a hash, as the hasher does.
#[inline]
pub(crate) fn mix(all: u64, word: u64) -> u64 {
    (all.rotate_left(5) ^ word).wrapping_mul(SPREAD)
}

/// Hasher that multiplies and rotates, word by word.
#[derive(Clone, Copy, Default)]
pub(crate) struct Fx(u64);

/// 2^64 divided by the golden ratio, odd: spreads low entropy over the high bits.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Fx {
    #[inline]
    fn add(&mut self, word: u64) {
        self.0 = mix(self.0, word);
    }
}

impl Hasher for Fx {
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.add(u64::from(*b));
        }
    }

    #[inline]
    fn write_u16(&mut self, n: u16) {
        self.add(u64::from(n));
    }

    #[inline]
    fn write_u32(&mut self, n: u32) {
        self.add(u64::from(n));
    }

    #[inline]
    fn write_u64(&mut self, n: u64) {
        self.add(n);
    }

    #[inline]
    fn finish(&self) -> u64 {
        // The map uses the low bits as index and the high bits as tag; page addresses vary little in both.
        self.0 ^ self.0 >> 32
    }
}
