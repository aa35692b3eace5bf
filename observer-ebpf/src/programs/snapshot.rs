//! The upper-level entries of a range, compared between entry and return of a function that may unshare: unshare seen
//! without the function that does it.

use aya_ebpf::{
    btf_maps::Array,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::btf_map,
};
use aya_log_ebpf::debug;
use observer_ebpf::{
    config::{SNAPSHOT_GIB, field, value},
    kinds, loss,
};

use crate::{
    emit::Cpu,
    kernel::{offset, read, shares_of, value},
};

const SLOTS: usize = 1024;
const GIB: u64 = 1 << 30;
/// Physical address in a page-table entry (x86-64: bits 12..52).
const FRAME: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = 1;
const LEAF: u64 = 1 << 7;

/// Entries of a range at the entry of a function.
#[repr(C)]
struct Snapshot {
    owner: u64,
    lo_ns: u64,
    mm: u64,
    first_gib: u64,
    count: u64,
    /// Tables with other users, 0 for entries that do not matter.
    tables: [u64; SNAPSHOT_GIB],
}

#[btf_map]
static SNAPSHOTS: Array<Snapshot, SLOTS> = Array::new();

/// The table that the upper-level entry of `address` points to; 0 if none or a huge page.
#[inline(always)]
fn table_at(mm: u64, address: u64) -> u64 {
    let base = value(value::PAGE_OFFSET);
    let index = |shift: u64| (address >> shift & 511) * 8;
    let step = |table: u64, shift: u64| match read(table.wrapping_add(index(shift))) {
        Some(entry) if entry & PRESENT != 0 && entry & LEAF == 0 => base.wrapping_add(entry & FRAME),
        _ => 0,
    };
    let Some(mut table) = read(mm.wrapping_add(offset(field::MM_PGD))) else { return 0 };
    if value(value::FIVE_LEVELS) != 0 {
        table = step(table, 48);
        if table == 0 {
            return 0;
        }
    }
    table = step(table, 39);
    if table == 0 { 0 } else { step(table, 30) }
}

#[inline(always)]
fn slot(id: u64) -> Option<&'static mut Snapshot> {
    let slot = SNAPSHOTS.get_ptr_mut(id as u32 & (SLOTS as u32 - 1))?;
    // SAFETY: a map value; its owner alone uses it.
    Some(unsafe { &mut *slot })
}

/// Takes the snapshot of [start, end); `end` 0: the one GiB of `start`.
#[inline(always)]
pub fn take(cpu: Cpu, mm: u64, start: u64, end: u64) {
    let id = bpf_get_current_pid_tgid();
    let Some(snapshot) = slot(id) else { return };
    if snapshot.owner != 0 && snapshot.owner != id {
        cpu.lose::<{ loss::SNAPSHOT_BUSY }>();
        return;
    }
    snapshot.owner = id;
    // SAFETY: no argument.
    snapshot.lo_ns = unsafe { bpf_ktime_get_ns() };
    snapshot.mm = mm;
    snapshot.first_gib = start & !(GIB - 1);
    let mut gib = snapshot.first_gib;
    let mut i = 0;
    while i < SNAPSHOT_GIB {
        let table = table_at(mm, gib);
        let shared = table != 0 && u64::from(shares_of(table)) > value(value::SHARES_ALONE);
        snapshot.tables[i] = if shared { table } else { 0 };
        i += 1;
        gib = gib.wrapping_add(GIB);
        if gib >= end {
            break;
        }
    }
    snapshot.count = i as u64;
    if gib < end {
        cpu.lose::<{ loss::RANGE_CUT }>();
        debug!((), "range cut at {:x} of {:x}", gib, end);
    }
}

/// Compares, and sends what went away.
#[inline(always)]
pub fn compare<const SITE: usize>(cpu: Cpu) {
    let id = bpf_get_current_pid_tgid();
    let Some(snapshot) = slot(id) else { return };
    if snapshot.owner != id {
        return;
    }
    let mut i = 0;
    while i < SNAPSHOT_GIB {
        if i as u64 >= snapshot.count {
            break;
        }
        let table = snapshot.tables[i];
        let gib = snapshot.first_gib.wrapping_add(i as u64 * GIB);
        i += 1;
        if table == 0 {
            continue;
        }
        let now = table_at(snapshot.mm, gib);
        if now != table {
            cpu.outcome::<SITE>();
            cpu.emit(SITE, kinds::UNLINKED, shares_of(table), [snapshot.mm, gib, table, snapshot.lo_ns, now]);
        }
    }
    snapshot.owner = 0;
}
