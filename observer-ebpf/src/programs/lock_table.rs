//! The watched lock addresses and their classes: a set-associative table with plain loads and stores.
//!
//! A lookup costs a fifth of a lookup in a BPF hash map, and programs on spinlock paths may not update a map at all. An entry
//! is `address | class`: lock addresses are 8-byte aligned.

use core::ptr::{read_volatile, write_volatile};

use aya_log_ebpf::debug;
use observer_ebpf::{class, config::value, kinds, lock_arg, loss};

use crate::{
    emit::Cpu,
    kernel::{self, low_half, opaque, value},
};

const SETS: usize = 16_384;
const WAYS: usize = 2;

/// The lock table itself; an entry of 0 is free.
#[unsafe(no_mangle)]
static mut LOCKS: [[u64; WAYS]; SETS] = [[0; WAYS]; SETS];

#[inline(always)]
fn ways(lock: u64) -> *mut [u64; WAYS] {
    let set = ((low_half(lock) >> 3).wrapping_mul(0x9e37_79b1) & 0xffff_ffff) >> 18;
    // SAFETY: `set` has 14 bits, and SETS is 2^14.
    unsafe { (&raw mut LOCKS).cast::<[u64; WAYS]>().add(set as usize & (SETS - 1)) }
}

/// Returns the class of a lock address, 0 if it is not watched.
#[inline(always)]
pub fn class_of(lock: u64) -> u32 {
    match entry_of(lock) {
        class::PRIVATE_VMA_LOCK => class::VMA_LOCK,
        class => class,
    }
}

/// Returns the class in the table's entry for a lock address, which [`class_of`] may translate.
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

/// Returns the class of a mutex address. All fault mutexes lie in one array.
#[inline(always)]
pub fn mutex_class_of(lock: u64) -> u32 {
    let inside = lock >= value(value::FAULT_MUTEX_BASE) && lock < value(value::FAULT_MUTEX_END);
    if inside { class::FAULT_MUTEX } else { 0 }
}

/// Watches a lock from now on, and sends a record if it is new. A `lock` of 0 is ignored.
#[inline(always)]
pub fn watch<const CLASS: u32>(cpu: Cpu, site: usize, lock: u64, owner: u64, vma: u64) {
    watch_as::<CLASS>(cpu, site, lock, CLASS, owner, vma);
}

/// Like [`watch`], with a class in the table entry that differs from the record's.
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
        // The same address under another class belonged to an object whose end was not seen. A page-table lock may be
        // evicted unless it is held, since its release would not be seen: the next lookup finds and announces it again.
        let at = if opaque(first & !7) == lock || first == 0 {
            0
        } else if opaque(second & !7) == lock || second == 0 {
            1
        } else if is_idle_ptl(first) {
            0
        } else if is_idle_ptl(second) {
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

/// Returns true if a table entry is a page-table lock that nobody holds: the first word of a spinlock is 0 then
/// (include/asm-generic/qspinlock_types.h).
#[inline(always)]
fn is_idle_ptl(entry: u64) -> bool {
    entry & 7 >= u64::from(class::PTL) && kernel::read32(opaque(entry & !7)).is_none_or(|word| word == 0)
}

/// Marks the page-table lock of a freed table. A stale walker may still acquire it, and so may the page's next user.
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

/// Forgets a lock whose object is being freed.
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
