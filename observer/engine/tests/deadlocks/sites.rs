//! Probed sites of the simulated kernel, as the head of a text trace.

use std::fmt::Write as _;

use observer_engine::{
    event::{Class, Mode},
    setup::Setup,
    trace::Trace,
};

use super::{case::Visibility, program::Kind};

pub const NONE: u16 = 0xffff;
/// Operations that may lock folios at any time.
pub const OPERATIONS: [u16; 3] = [1, 2, 3];
/// Locks a folio first, or no folio.
pub const FOLIO_FIRST: u16 = 4;
/// Locks a folio right after the fault mutex.
pub const FOLIO_AFTER_MUTEX: u16 = 5;
pub const DOWN_READ: u16 = 10;
pub const DOWN_WRITE: u16 = 11;
pub const DOWN_READ_TRYLOCK: u16 = 12;
pub const DOWN_WRITE_TRYLOCK: u16 = 13;
pub const MUTEX_LOCK: u16 = 14;
pub const MUTEX_TRYLOCK: u16 = 15;
pub const READ_TRY_THEN_BLOCK: u16 = 16;
pub const WRITE_TRY_THEN_BLOCK: u16 = 17;
pub const RELEASE: u16 = 18;
pub const DOWNGRADE: u16 = 19;
pub const LOOKUP_FOLIO: u16 = 20;
/// Entered right after the folio was locked.
pub const CONTRACT: u16 = 21;
/// Entered some time after the folio was locked.
pub const LATE_CONTRACT: u16 = 22;
pub const FOLIO_SLOW: u16 = 23;
pub const FOLIO_RELEASE: u16 = 24;
pub const CONTENTION: u16 = 25;
pub const SPIN_LOCK: u16 = 26;
pub const MUTEX_UNLOCK: u16 = 27;
pub const SPIN_UNLOCK: u16 = 28;
pub const FORK: u16 = 30;
pub const EXIT: u16 = 31;

const SITES: &[(u16, &str)] = &[
    (1, "operation hugetlb_fault"),
    (2, "operation migrate_pages"),
    (3, "operation hugetlbfs_fallocate"),
    (FOLIO_FIRST, "operation remove_migration_ptes folio-after=begin"),
    (FOLIO_AFTER_MUTEX, "operation remove_inode_hugepages folio-after=fault_mutex,blocks"),
    (DOWN_READ, "lock down_read"),
    (DOWN_WRITE, "lock down_write"),
    (DOWN_READ_TRYLOCK, "lock down_read_trylock"),
    (DOWN_WRITE_TRYLOCK, "lock down_write_trylock"),
    (MUTEX_LOCK, "lock mutex_lock"),
    (MUTEX_TRYLOCK, "lock mutex_trylock"),
    (READ_TRY_THEN_BLOCK, "lock i_mmap_lock_read try-then-block=mmap_lock,vma_lock,i_mmap_rwsem"),
    (WRITE_TRY_THEN_BLOCK, "lock i_mmap_lock_write try-then-block=mmap_lock,vma_lock,i_mmap_rwsem"),
    (RELEASE, "lock up_read"),
    (DOWNGRADE, "lock downgrade_write"),
    (LOOKUP_FOLIO, "folio-held __filemap_get_folio"),
    (CONTRACT, "folio-held try_to_migrate"),
    (LATE_CONTRACT, "folio-held filemap_remove_folio late"),
    (FOLIO_SLOW, "wait __folio_lock"),
    (FOLIO_RELEASE, "folio-release folio_unlock"),
    (CONTENTION, "wait contention_begin"),
    (SPIN_LOCK, "ptl _raw_spin_lock"),
    (MUTEX_UNLOCK, "lock mutex_unlock"),
    (SPIN_UNLOCK, "ptl _raw_spin_unlock"),
    (FORK, "task sched_process_fork"),
    (EXIT, "task sched_process_exit"),
];

/// Returns the head of a text trace with the sites that are used.
pub fn text(visibility: &Visibility, used: impl Fn(u16) -> bool) -> String {
    let mut out = String::new();
    for (id, words) in SITES.iter().filter(|(id, _)| used(*id)) {
        let _ = writeln!(out, "site {id} {words}");
    }
    if !visibility.ptl_release {
        out.push_str("coverage ptl/release bounded inline\n");
    }
    if !visibility.waits {
        out.push_str("coverage wait inferred no tracepoint\n");
    }
    out
}

pub fn setup(visibility: &Visibility) -> Setup {
    text(visibility, |_| true).parse::<Trace>().unwrap().setup
}

/// Returns the class of locks that have records of their own.
pub fn class(kind: Kind) -> Option<Class> {
    match kind {
        Kind::MmapLock => Some(Class::MmapLock),
        Kind::VmaLock => Some(Class::VmaLock),
        Kind::IMmap => Some(Class::IMmap),
        Kind::FaultMutex => Some(Class::FaultMutex),
        Kind::Ptl => Some(Class::Ptl),
        Kind::FileFolio | Kind::AnonFolio => None,
    }
}

/// Returns the site of a blocking request.
pub fn of_request(kind: Kind, mode: Mode) -> u16 {
    match (kind, mode) {
        (Kind::Ptl, _) => SPIN_LOCK,
        (_, Mode::Read) => DOWN_READ,
        (_, Mode::Write) => DOWN_WRITE,
        (_, Mode::Exclusive) => MUTEX_LOCK,
    }
}

/// Returns the site of a trylock.
pub fn of_try(kind: Kind, mode: Mode) -> u16 {
    match (kind, mode) {
        (Kind::Ptl, _) => SPIN_LOCK,
        (_, Mode::Read) => DOWN_READ_TRYLOCK,
        (_, Mode::Write) => DOWN_WRITE_TRYLOCK,
        (_, Mode::Exclusive) => MUTEX_TRYLOCK,
    }
}

/// Returns the site that tries first and blocks if that fails.
pub fn of_try_then_block(mode: Mode) -> u16 {
    if mode == Mode::Read { READ_TRY_THEN_BLOCK } else { WRITE_TRY_THEN_BLOCK }
}

/// Returns the site of a release.
pub fn of_release(kind: Kind) -> u16 {
    match kind {
        Kind::FaultMutex => MUTEX_UNLOCK,
        Kind::Ptl => SPIN_UNLOCK,
        _ => RELEASE,
    }
}
