//! The kernels that are simulated: one that keeps everything apart, and what becomes of it when something is left out.

use super::programs::{Late, Protocol, Told};

/// A kernel to run, by name.
pub struct Row {
    pub name: &'static str,
    pub protocol: Protocol,
    /// Nothing can go wrong in it: there are no alarms, whatever is lost.
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
    told: Told::Both,
    waits: true,
    late_share: false,
    walk_seen: true,
    named_early: true,
    cpus: 4,
    run_max: 6,
};
const WALKERS: Protocol = Protocol { walkers_lock: false, ..PROTECTED };
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
    clean("protected, entries only", Protocol { told: Told::Entries, ..PROTECTED }),
    clean("protected, late share", Protocol { late_share: true, told: Told::Body, ..PROTECTED }),
    clean("split", Protocol { split: true, ..PROTECTED }),
    racy("first look", Protocol { first_look: true, ..PROTECTED }),
    racy("split without i_mmap", Protocol { split: true, split_takes_i_mmap: false, ..PROTECTED }),
    racy("walkers without", WALKERS),
    racy("walkers without, entries only", Protocol { told: Told::Entries, ..WALKERS }),
    racy("walkers without, body only", Protocol { told: Told::Body, waits: false, ..WALKERS }),
    racy("walkers without, late share", Protocol { late_share: true, ..WALKERS }),
    racy("walkers without, unseen lookups", Protocol { walk_seen: false, ..WALKERS }),
    racy("everything", EVERYTHING),
    racy(
        "everything, entries only",
        Protocol { told: Told::Entries, split_takes_i_mmap: true, ..EVERYTHING },
    ),
    racy("no vma lock", OLD),
    racy("no vma lock, entries only", Protocol { told: Told::Entries, ..OLD }),
    racy("late", Protocol { late: Late::Blindly, ..PROTECTED }),
    racy("late, everything", Protocol { late: Late::Blindly, ..EVERYTHING }),
    racy("revalidates", Protocol { late: Late::Revalidates, ..PROTECTED }),
    racy("revalidates, everything", Protocol { late: Late::Revalidates, ..EVERYTHING }),
    racy("revalidates before", Protocol { late: Late::RevalidatesBefore, ..PROTECTED }),
    racy("revalidates after use", Protocol { late: Late::RevalidatesAfterUse, ..PROTECTED }),
    racy("ignores, takes again", Protocol { late: Late::IgnoresTakesAgain, ..PROTECTED }),
    racy("ignores, hands over", Protocol { late: Late::IgnoresHandsOver, ..PROTECTED }),
];
