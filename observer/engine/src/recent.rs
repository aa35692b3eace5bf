//! Times of recent events, each with a number as key.
//!
//! This module decides only the bound: the oldest make room, by number or by age, as the owner chooses.

use std::collections::VecDeque;

use crate::fx::FxMap;

/// Events in the order of their times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent {
    at_ns: FxMap<u64, u64>,
    order: VecDeque<(u64, u64)>,
    /// Time of the latest event that was forgotten.
    forgotten_ns: u64,
}

impl Recent {
    pub fn add(&mut self, key: u64, at_ns: u64) {
        self.at_ns.insert(key, at_ns);
        self.order.push_back((key, at_ns));
    }

    /// Returns the time after which every event is remembered; 0: nothing was forgotten.
    pub fn forgotten_ns(&self) -> u64 {
        self.forgotten_ns
    }

    pub fn get(&self, key: u64) -> Option<u64> {
        self.at_ns.get(&key).copied()
    }

    pub fn take(&mut self, key: u64) -> Option<u64> {
        if self.at_ns.is_empty() { None } else { self.at_ns.remove(&key) }
    }

    /// Forgets the oldest until at most `most` are left.
    pub fn keep(&mut self, most: usize) {
        while self.order.len() > most {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest until at most `most` are left, and then those before `since_ns` while more than `least` are
    /// left.
    pub fn keep_recent(&mut self, (least, most): (usize, usize), since_ns: u64) {
        self.keep(most);
        while self.order.len() > least && self.order.front().is_some_and(|(_, at_ns)| *at_ns < since_ns) {
            self.forget_oldest();
        }
    }

    /// Forgets the oldest as long as `is_old` returns true for their time.
    pub fn forget(&mut self, is_old: impl Fn(u64) -> bool) {
        while self.order.front().is_some_and(|(_, at_ns)| is_old(*at_ns)) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((key, at_ns)) = self.order.pop_front() else { return };
        // If not, the entry was taken, or the event occurred again later.
        if self.get(key) == Some(at_ns) {
            self.at_ns.remove(&key);
            self.forgotten_ns = self.forgotten_ns.max(at_ns);
        }
    }
}
