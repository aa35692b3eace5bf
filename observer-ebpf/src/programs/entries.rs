//! Detects unshares without a probe on the unshare function, from the upper-level entries behind lookups.
//!
//! A function that unlinks looks up each address first, under the lock that keeps others from linking and unlinking there.
//! The GiB's table is remembered at the lookup. Its upper-level entry is compared when the task looks up elsewhere or
//! returns; the lock is held from the lookup on.
//!
//! A snapshot of the whole range at entry would not work: several of these functions acquire the lock inside, so unlinks that
//! others do before that would be counted here too. And a range has no size limit.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use observer_ebpf::{
    config::{field, value},
    kinds, loss,
};

use crate::{
    emit::Cpu,
    kernel::{offset, read, shares_of, value},
    tasks::Task,
};

const GIB: u64 = 1 << 30;
/// Mask of the physical address in a page-table entry (x86-64: bits 12..52).
const FRAME: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = 1;
const LEAF: u64 = 1 << 7;

/// Starts watching links of a function that may unlink. These functions do not nest (checked in the sources of 5.10 to 7.3).
#[inline(always)]
pub fn begin(task: &mut Task, site: usize) {
    task.unlinks_at = site as u64 + 1;
    task.link_table = 0;
}

/// Ends the function, after comparing its last link.
#[inline(always)]
pub fn end(cpu: Cpu, task: &mut Task) {
    compare(cpu, task);
    task.unlinks_at = 0;
}

/// Remembers a lookup that returned a pointer into `table` (0: no table), after comparing the previous link.
#[inline(always)]
pub fn looked_up(cpu: Cpu, task: &mut Task, mm: u64, addr: u64, table: u64) {
    let gib = addr & !(GIB - 1);
    if task.link_table == table && task.link_gib == gib && task.link_mm == mm {
        return;
    }
    compare(cpu, task);
    (task.link_mm, task.link_gib, task.link_table) = (mm, gib, table);
    let shared = table != 0 && u64::from(shares_of(table)) > value(value::SHARES_ALONE);
    // SAFETY: no argument.
    task.link_seen_ns = if shared { unsafe { bpf_ktime_get_ns() } } else { 0 };
}

/// Records an unlink if the link of the last lookup is gone. A table without other users is not unshared and is skipped.
#[inline(always)]
fn compare(cpu: Cpu, task: &mut Task) {
    let table = task.link_table;
    task.link_table = 0;
    if table == 0 || task.link_seen_ns == 0 {
        return;
    }
    let Some(now) = table_at(task.link_mm, task.link_gib) else {
        cpu.lose::<{ loss::READ_FAULT }>();
        return;
    };
    if now == table {
        return;
    }
    let site = (task.unlinks_at - 1) as usize;
    cpu.outcome_at(site);
    let words = [task.link_mm, task.link_gib, table, task.link_seen_ns, now];
    cpu.emit(site, kinds::UNLINKED, shares_of(table), words);
}

/// Returns the table that the upper-level entry of `address` points to: 0 for no table or a huge page, `None` if unreadable.
#[inline(always)]
fn table_at(mm: u64, address: u64) -> Option<u64> {
    let base = value(value::PAGE_OFFSET);
    let step = |table: u64, shift: u64| {
        let entry = read(table.wrapping_add((address >> shift & 511) * 8))?;
        let is_table = entry & PRESENT != 0 && entry & LEAF == 0;
        Some(if is_table { base.wrapping_add(entry & FRAME) } else { 0 })
    };
    let mut table = read(mm.wrapping_add(offset(field::MM_PGD)))?;
    if value(value::FIVE_LEVELS) != 0 {
        table = step(table, 48)?;
        if table == 0 {
            return Some(0);
        }
    }
    table = step(table, 39)?;
    if table == 0 { Some(0) } else { step(table, 30) }
}
