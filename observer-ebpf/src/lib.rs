//! The record format between the eBPF programs and user space, defined only here.
//!
//! This crate defines the bytes of a record, the numbers of kinds, lock classes, modes and loss reasons, and the layout of
//! the values that user space sets before loading. Kernel symbols and fields are deliberately absent: those are rows in
//! `observer/facts/`. The crate is `no_std`, so that the programs and every host build share it.
//!
//! Wire rules: fixed-width integers in the machine's byte order (x86-64, little endian); no padding, enum, bool or `Option`.
//! A retired number is never reused. A reader skips and counts kinds that it does not know.
#![no_std]

pub mod config;
pub mod kinds;
pub mod loss;
pub mod record;

/// Version of everything in this crate. A recording with another version is refused with a clear message.
pub const WIRE_VERSION: u16 = 1;

/// Size of [`Header`] in bytes.
pub const HEADER_BYTES: usize = 24;

/// Largest record in bytes: room for a header and five words.
pub const RECORD_BYTES_MAX: usize = 64;

/// The fixed first part of every record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// Nanoseconds of `CLOCK_MONOTONIC` (`bpf_ktime_get_ns`), taken right after the ring slot was reserved.
    pub time_ns: u64,
    /// Sequence number of the CPU's stream; it wraps. A record dropped because the ring was full consumes a number too, so a
    /// gap shows a loss. Two records may share a number where programs nest on one CPU (fully preemptible kernel); a repeated
    /// number does not show a loss.
    pub seq: u32,
    /// Thread id of the current task (the kernel's `task->pid`), 0 for the idle task.
    pub tid: u32,
    /// One of [`kinds`] plus its size class; see [`kinds::on_wire`].
    pub kind: u16,
    /// Site that emitted the record: index into the plan's site table of this recording.
    pub site: u16,
    /// Small argument; its meaning depends on the kind.
    pub arg: u32,
}

const _: () = assert!(core::mem::size_of::<Header>() == HEADER_BYTES && core::mem::align_of::<Header>() == 8);

/// Lock classes, in `arg` bits 0..8 of the lock kinds and in the low three bits of a lock table entry.
pub mod class {
    /// The lock `mm_struct.mmap_lock`.
    pub const MMAP_LOCK: u32 = 1;
    /// `hugetlb_vma_lock.rw_sema` of a shared mapping; `resv_map.rw_sema` of a private one that owns its reserve map.
    pub const VMA_LOCK: u32 = 2;
    /// `address_space.i_mmap_rwsem` of a hugetlbfs file.
    pub const I_MMAP: u32 = 3;
    /// One slot of `hugetlb_fault_mutex_table`.
    pub const FAULT_MUTEX: u32 = 4;
    /// `inode.i_rwsem` of a hugetlbfs file.
    pub const INODE: u32 = 5;
    /// The page-table lock of a PMD table.
    pub const PTL: u32 = 6;
    /// The folio (page) lock. It is identified by its folio, not by an address of its own.
    pub const FOLIO: u32 = 7;
    /// Never on the wire, only in a lock table entry: the page-table lock of a freed table.
    pub const PTL_OF_FREED: u32 = FOLIO;
    /// Never on the wire, only in a lock table entry: the vma_lock of a private mapping. Its number is free there because
    /// fault mutexes are never in the lock table.
    pub const PRIVATE_VMA_LOCK: u32 = FAULT_MUTEX;

    /// Lock class names by number, index 0 unused.
    pub const NAMES: [&str; 8] =
        ["", "mmap_lock", "vma_lock", "i_mmap_rwsem", "fault_mutex", "inode_lock", "ptl", "folio_lock"];
}

/// Lock modes, in `arg` bits 8..16 of the lock kinds.
pub mod mode {
    /// Shared mode of a lock.
    pub const READ: u32 = 1;
    /// Exclusive mode of a lock that also has readers.
    pub const WRITE: u32 = 2;
    /// Mode of a lock without readers (mutex, spinlock, folio lock).
    pub const EXCLUSIVE: u32 = 3;

    /// Lock mode names by number, index 0 unused.
    pub const NAMES: [&str; 4] = ["", "read", "write", "exclusive"];
}

/// Packs class and mode into the `arg` of a lock record.
#[must_use]
pub const fn lock_arg(class: u32, mode: u32) -> u32 {
    class | mode << 8
}

/// Hold basis of a folio lock, the `arg` of [`kinds::FOLIO_HELD`]: how the hold is known.
pub mod how {
    /// A lookup returned the folio locked.
    pub const RETURNED: u32 = 1;
    /// Entry of a function whose contract requires a locked folio.
    pub const CONTRACT: u32 = 2;
    /// Return of the slow path that waits for the lock.
    pub const SLOW_PATH: u32 = 3;

    /// Hold basis names by number, index 0 unused.
    pub const NAMES: [&str; 4] = ["", "returned-locked", "contract", "slow-path"];
}
