//! Lookups of pte pointers; tables allocated, shared, unshared and freed.

use observer_ebpf::{
    class,
    config::{NO_FIELD, arg, field, value},
    kinds, loss,
};

use crate::{
    emit::Cpu,
    entries,
    kernel::{
        Way, argument, argument_number, column, load, offset, other_size_kib, pointee, ptl_of, shares_of,
        value,
    },
    lock_table::{class_of, retire, watch},
    tasks,
};

/// Mask of the physical address in a page-table entry (x86-64: bits 12..52).
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// Returns the table that a pte pointer points into.
#[inline(always)]
const fn table_of(pte: u64) -> u64 {
    pte & !0xfff
}

/// Records a lookup at its return, or counts it as a repeat.
#[inline(always)]
pub fn lookup<const SITE: usize>(ctx: *const u64) {
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    let ret = argument(ctx, column(SITE, arg::RET));
    if ret != 0 {
        cpu.outcome::<SITE>();
    }
    let page_kib = other_size_kib(argument(ctx, column(SITE, arg::EXTRA)));
    if page_kib != 0 {
        // No lease begins, so neither the task's last lookup nor a missing operation matters.
        if value(value::ONLY_TGID) == 0 || tasks::in_operation().is_some() {
            let mm = argument(ctx, column(SITE, arg::MM));
            let addr = argument(ctx, column(SITE, arg::START));
            cpu.emit(SITE, kinds::LOOKUP_OTHER_SIZE, page_kib, [mm, addr, ret]);
        }
        return;
    }
    let Some(task) = tasks::in_operation() else {
        if value(value::ONLY_TGID) == 0 {
            cpu.lose::<{ loss::OUTSIDE_OPERATION }>();
        }
        return;
    };
    let mm = task.number(argument(ctx, column(SITE, arg::MM)));
    let pte = task.number(ret);
    let addr = argument(ctx, column(SITE, arg::START));
    (task.mm, task.addr, task.pte, task.allocs) = (mm, addr, pte, 0);
    let table = table_of(pte);
    if task.unlinks_at != 0 {
        entries::looked_up(cpu, task, mm, addr, table);
    }
    // An mm can have two links to one table.
    let gib = addr >> 30;
    if task.sent_table == table && task.sent_mm == mm && task.sent_gib == gib {
        task.repeats += 1;
        return;
    }
    if table != 0 {
        watch::<{ class::PTL }>(cpu, SITE, ptl_of(table), table, 0);
    }
    cpu.emit(SITE, kinds::LOOKUP, task.repeats as u32, [mm, addr, pte]);
    (task.sent_mm, task.sent_gib, task.sent_table, task.repeats) = (mm, gib, table, 0);
}

/// Records a share at the function's return. Without a sharing partner the function allocates a table; `allocs` shows that, or,
/// if the kernel skipped the program that counts there, the table itself: no other page table has it, and its lock is unknown.
#[inline(always)]
pub fn share<const SITE: usize>(ctx: *const u64) {
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    let ret = argument(ctx, column(SITE, arg::RET));
    if ret == 0 {
        return;
    }
    let Some(task) = tasks::current() else {
        cpu.lose::<{ loss::SLOT_BUSY }>();
        return;
    };
    let is_made = task.allocs != 0;
    task.allocs = 0;
    let pte = task.number(ret);
    let table = table_of(pte);
    let shares = shares_of(table);
    let is_alone = offset(field::TABLE_SHARES) != NO_FIELD && u64::from(shares) <= value(value::SHARES_ALONE);
    if is_made || (is_alone && class_of(ptl_of(table)) != class::PTL) {
        return;
    }
    cpu.outcome::<SITE>();
    let mm = argument(ctx, column(SITE, arg::MM));
    let addr = argument(ctx, column(SITE, arg::START));
    cpu.emit(SITE, kinds::SHARE, shares, [mm, addr, pte]);
}

/// Records an allocated table at the function's return. All memory uses this function, so only watched operations count.
#[inline(always)]
pub fn alloc<const SITE: usize>(ctx: *const u64) {
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    if argument(ctx, column(SITE, arg::RET)) as u32 != 0 {
        return;
    }
    let Some(task) = tasks::in_operation() else { return };
    task.allocs += 1;
    let entry = pointee(argument(ctx, column(SITE, arg::EXTRA)));
    let table = value(value::PAGE_OFFSET).wrapping_add(entry & FRAME);
    cpu.outcome::<SITE>();
    watch::<{ class::PTL }>(cpu, SITE, ptl_of(table), table, 0);
    let mm = argument(ctx, column(SITE, arg::MM));
    let addr = argument(ctx, column(SITE, arg::START));
    cpu.emit(SITE, kinds::TABLE_ALLOC, 0, [mm, addr, table]);
}

/// Records a freed table at the function's entry. All memory uses this function: the table is ours if its lock is watched.
#[inline(always)]
pub fn free<const SITE: usize>(ctx: *const u64) {
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    let table = table_of(argument_number(ctx, column(SITE, arg::START)));
    if class_of(ptl_of(table)) != class::PTL {
        return;
    }
    cpu.outcome::<SITE>();
    let mm = load(argument(ctx, column(SITE, arg::EXTRA)), field::TLB_MM);
    // On 5.10 the count includes the mm that frees.
    let others = u64::from(shares_of(table)).saturating_sub(value(value::SHARES_ALONE)) as u32;
    cpu.emit(SITE, kinds::TABLE_FREE, others, [mm, table, 0]);
    retire(ptl_of(table));
}

/// Records an unshare at the return of its body, which returns 1 for one. The link is the one that this task looked up last.
#[inline(always)]
pub fn unshare<const SITE: usize, W: Way>(ctx: *const u64) {
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    if W::returned(ctx, column(SITE, arg::RET)) as u32 != 1 {
        return;
    }
    cpu.outcome::<SITE>();
    let Some(task) = tasks::current() else {
        cpu.lose::<{ loss::SLOT_BUSY }>();
        return;
    };
    task.forget_sent();
    cpu.emit(SITE, kinds::UNSHARE, 0, [task.mm, task.addr, task.pte]);
}
