//! Doubt about one task after records of it may have been lost: which locks it may hold unseen, and which operation it
//! may be in.
//!
//! This module decides how long such a doubt lasts.

use std::collections::VecDeque;

use super::{Missing, Span};

/// Number of given-up locks that are remembered per task.
const GIVEN_UP_KEPT: usize = 16;
/// Longest assumed hold of a lock whose acquisition was lost: waiters of a longer hold would be reported as hung.
pub(crate) const UNSURE_NS: u64 = 10_000_000_000;
/// A lock that was acquired before it was named is released at the end of the same call: within this time.
const NAMED_NS: u64 = 10_000_000;

/// Doubt about one task.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskLoss {
    /// Time since which it may hold a lock whose acquisition was lost; 0: it does not. The release will show it.
    pub unsure_since_ns: u64,
    /// Events of the task before this time are doubtful: too many records were lost.
    doubt_until_ns: u64,
    /// Begin of the last time span in which records of the task were lost.
    pub touched_ns: u64,
    /// The task may be in an operation whose begin was lost; until its next begin or end of an operation, or this time.
    adrift_until_ns: u64,
    /// Time when it last named a lock, which it may have acquired before; 0: such a lock is released.
    pub named_ns: u64,
    /// Locks that are dropped from the holds because their release may be lost. A later release shows that the lock was
    /// held.
    given_up: VecDeque<u64>,
}

impl TaskLoss {
    /// Returns true if every event of the task at this time is doubtful.
    #[inline]
    pub fn is_doubtful(&self, now_ns: u64) -> bool {
        now_ns < self.doubt_until_ns
    }

    /// Returns true if the begin of an operation that the task is in may be lost.
    #[inline]
    pub fn is_adrift(&self, now_ns: u64) -> bool {
        now_ns < self.adrift_until_ns
    }

    /// Returns the earliest time at which such an operation may have begun.
    pub fn adrift_since_ns(&self) -> u64 {
        self.adrift_until_ns.saturating_sub(UNSURE_NS)
    }

    /// Records that the end of an operation was seen without its begin.
    pub fn was_adrift(&mut self) {
        self.adrift_until_ns = 0;
    }

    /// Records a loss in which records of the task may be missing. Later events are certain, except that the task may
    /// hold a lock that it acquired meanwhile. The lock's release will show that, unless it is lost, too; this case
    /// counts only where losses are not `sparse`.
    pub fn touched(&mut self, missing: Missing, span: Span, sparse: bool, in_operation: bool) {
        if missing.acquires() {
            if self.unsure_since_ns.saturating_add(UNSURE_NS) < span.from_ns {
                self.unsure_since_ns = 0;
            }
            if self.unsure_since_ns == 0 {
                self.unsure_since_ns = span.from_ns.max(1);
            } else if !sparse {
                self.doubt_until_ns = span.to_ns.saturating_add(UNSURE_NS);
            }
        }
        self.touched_ns = span.from_ns;
        if missing.deeds() && !in_operation {
            self.adrift_until_ns = span.to_ns.saturating_add(UNSURE_NS);
        }
    }

    /// Returns true if an access that became known at this time may have been made under a lock that was acquired
    /// before it was named.
    pub fn may_hold_unnamed(&self, known_ns: u64) -> bool {
        self.named_ns != 0 && known_ns <= self.named_ns.saturating_add(NAMED_NS)
    }

    /// Records a hold that is dropped because its release may be lost.
    pub fn gave_up(&mut self, lock: u64) {
        if self.given_up.len() == GIVEN_UP_KEPT {
            self.given_up.pop_front();
        }
        self.given_up.push_back(lock);
    }

    pub fn may_hold(&self, lock: u64) -> bool {
        self.given_up.contains(&lock)
    }

    /// Records the release of a lock that was not known to be held. Returns the time since which it may have been held
    /// because its acquisition was lost; 0: it was not lost.
    pub fn released(&mut self, lock: u64) -> u64 {
        self.named_ns = 0;
        self.given_up.retain(|other| *other != lock);
        self.unsure_since_ns
    }
}
