//! The simulated kernels: one in which locks exclude every race, and variants in which something is missing.

/// How an unlink is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnlinkReport {
    Body,
    Both,
    Entries,
}

/// What a fault does with its pointer after it released the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// It does not use the pointer any more.
    Never,
    /// Acquires the PTL and uses it.
    Blindly,
    /// Looks up again under the PTL. Backs out, or continues with the new pointer.
    Revalidates,
    /// Looks up again, and acquires the PTL afterwards.
    RevalidatesBefore,
    /// Uses it, and looks up again afterwards.
    RevalidatesAfterUse,
    /// Looks up again under the lock and does not compare: acquires the old table's PTL again.
    IgnoresTakesAgain,
    /// The same, and passes the old pointer to a callback.
    IgnoresHandsOver,
}

/// A kernel.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// Each VMA has a lock, and every unlink holds it for writing.
    pub vma_lock: bool,
    /// Walkers hold it during the lookup.
    pub walkers_lock: bool,
    /// Faults look up without a lock first, and use the result for a migration wait.
    pub first_look: bool,
    pub late: Late,
    /// The split of a VMA unshares without the VMA's lock.
    pub split: bool,
    pub split_takes_i_mmap: bool,
    /// Moving a mapping unshares without the table's lock.
    pub moves: bool,
    pub unlink_report: UnlinkReport,
    pub waits: bool,
    /// A share is recorded at the return of its function, after its lock is released.
    pub late_share: bool,
    /// The walker's lookup is seen, not only its callback.
    pub walk_seen: bool,
    /// Readers hold the VMA's own lock, which no probe sees, instead of the mmap_lock where they can.
    pub per_vma: bool,
    /// Some walks cover whole mms and have no lookup function.
    pub sweeps: bool,
    /// A walk by the file releases the file's lock and continues under the VMA's lock.
    pub drops: bool,
    /// Seconds pass between some steps.
    pub slow: bool,
    /// Every lock was named by an earlier operation.
    pub named_early: bool,
    pub cpus: usize,
    pub run_max: usize,
}

/// A kernel with its name.
pub struct Row {
    pub name: &'static str,
    pub protocol: Protocol,
    /// No race is possible in it: there are no alarms with any loss.
    pub clean: bool,
}

const fn clean(name: &'static str, protocol: Protocol) -> Row {
    Row { name, protocol, clean: true }
}

const fn racy(name: &'static str, protocol: Protocol) -> Row {
    Row { name, protocol, clean: false }
}

pub const PROTECTED: Protocol = Protocol {
    vma_lock: true,
    walkers_lock: true,
    first_look: false,
    late: Late::Never,
    split: false,
    split_takes_i_mmap: true,
    moves: true,
    unlink_report: UnlinkReport::Both,
    waits: true,
    late_share: false,
    walk_seen: true,
    per_vma: false,
    sweeps: false,
    drops: false,
    slow: false,
    named_early: true,
    cpus: 4,
    run_max: 6,
};
pub const WALKERS: Protocol = Protocol { walkers_lock: false, ..PROTECTED };
const OLD: Protocol = Protocol { vma_lock: false, first_look: true, ..PROTECTED };
const EVERYTHING: Protocol = Protocol {
    walkers_lock: false,
    first_look: true,
    split: true,
    split_takes_i_mmap: false,
    late_share: true,
    ..PROTECTED
};

pub const KERNELS: &[Row] = &[
    clean("protected", PROTECTED),
    clean("protected, entries only", Protocol { unlink_report: UnlinkReport::Entries, ..PROTECTED }),
    clean(
        "protected, late share",
        Protocol { late_share: true, unlink_report: UnlinkReport::Body, ..PROTECTED },
    ),
    clean("split", Protocol { split: true, ..PROTECTED }),
    clean("protected, VMA's own lock", Protocol { per_vma: true, ..PROTECTED }),
    clean("protected, slow", Protocol { slow: true, ..PROTECTED }),
    racy("first look", Protocol { first_look: true, ..PROTECTED }),
    racy("split without i_mmap", Protocol { split: true, split_takes_i_mmap: false, ..PROTECTED }),
    racy("walkers without", WALKERS),
    racy("walkers without, entries only", Protocol { unlink_report: UnlinkReport::Entries, ..WALKERS }),
    racy(
        "walkers without, body only",
        Protocol { unlink_report: UnlinkReport::Body, waits: false, ..WALKERS },
    ),
    racy("walkers without, late share", Protocol { late_share: true, ..WALKERS }),
    racy("walkers without, unseen lookups", Protocol { walk_seen: false, ..WALKERS }),
    racy("everything", EVERYTHING),
    racy(
        "everything, entries only",
        Protocol { unlink_report: UnlinkReport::Entries, split_takes_i_mmap: true, ..EVERYTHING },
    ),
    racy("no vma lock", OLD),
    racy("no vma lock, entries only", Protocol { unlink_report: UnlinkReport::Entries, ..OLD }),
    racy("everything, VMA's own lock", Protocol { per_vma: true, split_takes_i_mmap: true, ..EVERYTHING }),
    racy("everything, slow", Protocol { slow: true, ..EVERYTHING }),
    racy("everything, sweeps", Protocol { sweeps: true, ..EVERYTHING }),
    racy("sweeps", Protocol { sweeps: true, walkers_lock: false, ..PROTECTED }),
    racy("sweeps, slow", Protocol { sweeps: true, slow: true, walkers_lock: false, ..PROTECTED }),
    racy("revalidates, slow", Protocol { slow: true, late: Late::Revalidates, ..EVERYTHING }),
    racy("drops the file's lock", Protocol { drops: true, split: true, ..PROTECTED }),
    racy("late", Protocol { late: Late::Blindly, ..PROTECTED }),
    racy("late, everything", Protocol { late: Late::Blindly, ..EVERYTHING }),
    racy("revalidates", Protocol { late: Late::Revalidates, ..PROTECTED }),
    racy("revalidates, everything", Protocol { late: Late::Revalidates, ..EVERYTHING }),
    racy("revalidates before", Protocol { late: Late::RevalidatesBefore, ..PROTECTED }),
    racy("revalidates after use", Protocol { late: Late::RevalidatesAfterUse, ..PROTECTED }),
    racy("ignores, takes again", Protocol { late: Late::IgnoresTakesAgain, ..PROTECTED }),
    racy("ignores, hands over", Protocol { late: Late::IgnoresHandsOver, ..PROTECTED }),
];
