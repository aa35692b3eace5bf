//! Which lock addresses are watched, and of which class: a set-associative table with plain loads and stores.
//!
//! Why no BPF hash map: a lookup costs a fifth here, and the paths of spinlock probes may not update a map at all. An
//! entry is `address | class`: lock addresses are 8-byte aligned.

use core::ptr::{read_volatile, write_volatile};

use aya_log_ebpf::debug;
use observer_ebpf::{class, config::value, kinds, lock_arg, loss};

use crate::{
    emit::Cpu,
    kernel::{low_half, opaque, value},
};

const SETS: usize = 16_384;
const WAYS: usize = 2;

/// The table. Zero: free.
#[unsafe(no_mangle)]
static mut LOCKS: [[u64; WAYS]; SETS] = [[0; WAYS]; SETS];

#[inline(always)]
fn ways(lock: u64) -> *mut [u64; WAYS] {
    let set = ((low_half(lock) >> 3).wrapping_mul(0x9e37_79b1) & 0xffff_ffff) >> 18;
    // SAFETY: `set` has 14 bits, and SETS is 2^14.
    unsafe { (&raw mut LOCKS).cast::<[u64; WAYS]>().add(set as usize & (SETS - 1)) }
}

/// Class of a lock address, 0 if it is not watched.
#[inline(always)]
pub fn class_of(lock: u64) -> u32 {
    match entry_of(lock) {
        class::PRIVATE_VMA_LOCK => class::VMA_LOCK,
        class => class,
    }
}

/// Class of a lock address as the table has it.
#[inline(always)]
pub fn entry_of(lock: u64) -> u32 {
    let ways = ways(lock);
    // SAFETY: a pointer into the static; entries change in one store.
    let (a, b) = unsafe { (read_volatile(&raw const (*ways)[0]), read_volatile(&raw const (*ways)[1])) };
    if opaque(a & !7) == lock {
        return (a & 7) as u32;
    }
    if opaque(b & !7) == lock {
        return (b & 7) as u32;
    }
    0
}

/// Class of a mutex address: the fault mutexes lie in one array.
#[inline(always)]
pub fn mutex_class_of(lock: u64) -> u32 {
    let inside = lock >= value(value::FAULT_MUTEX_BASE) && lock < value(value::FAULT_MUTEX_END);
    if inside { class::FAULT_MUTEX } else { 0 }
}

/// Watches a lock from now on; a new one is announced by a record. `lock` 0: nothing.
#[inline(always)]
pub fn watch<const CLASS: u32>(cpu: Cpu, site: usize, lock: u64, owner: u64, vma: u64) {
    watch_as::<CLASS>(cpu, site, lock, CLASS, owner, vma);
}

/// The same, where the table's entry is of another class than the record.
#[inline(always)]
pub fn watch_as<const CLASS: u32>(cpu: Cpu, site: usize, lock: u64, entry: u32, owner: u64, vma: u64) {
    if lock == 0 || entry_of(lock) == entry {
        return;
    }
    let ways = ways(lock);
    // SAFETY: as in `class_of`.
    unsafe {
        let first = read_volatile(&raw const (*ways)[0]);
        let second = read_volatile(&raw const (*ways)[1]);
        // The same address under another class is an object that went away unseen. A page-table lock is found again by
        // the next lookup, and announced again: it may give way.
        let at = if opaque(first & !7) == lock || first == 0 {
            0
        } else if opaque(second & !7) == lock || second == 0 {
            1
        } else if first & 7 >= u64::from(class::PTL) {
            0
        } else if second & 7 >= u64::from(class::PTL) {
            1
        } else {
            cpu.lose::<{ loss::LOCK_TABLE_FULL }>();
            debug!((), "site {}: no room for a lock of class {}", site, CLASS);
            return;
        };
        write_volatile(&raw mut (*ways)[at], opaque(lock) + u64::from(entry));
    }
    cpu.emit(site, kinds::LOCK_NAME, lock_arg(CLASS, 0), [lock, owner, vma]);
}

/// A page-table lock's table was given back: a stale walker may still take the lock, and so may whoever gets the page.
#[inline(always)]
pub fn retire(lock: u64) {
    if lock == 0 {
        return;
    }
    let ways = ways(lock);
    let mut way = 0;
    while way < WAYS {
        // SAFETY: as in `class_of`.
        unsafe {
            if opaque(read_volatile(&raw const (*ways)[way]) & !7) == lock {
                write_volatile(&raw mut (*ways)[way], opaque(lock) + u64::from(class::PTL_OF_FREED));
            }
        }
        way += 1;
    }
}

/// Forgets a lock whose object goes away.
#[inline(always)]
pub fn forget(cpu: Cpu, site: usize, lock: u64) {
    let class = class_of(lock);
    if lock == 0 || class == 0 {
        return;
    }
    let ways = ways(lock);
    // SAFETY: as in `class_of`.
    unsafe {
        if opaque(read_volatile(&raw const (*ways)[0]) & !7) == lock {
            write_volatile(&raw mut (*ways)[0], 0);
        }
        if opaque(read_volatile(&raw const (*ways)[1]) & !7) == lock {
            write_volatile(&raw mut (*ways)[1], 0);
        }
    }
    cpu.emit(site, kinds::LOCK_FORGET, lock_arg(class, 0), [lock]);
}
