//! Locks: asks, trylocks, releases, contention. Instances are known by address ([`crate::lock_table`]).
//!
//! These functions serve the whole kernel: the address is looked at first, all else only for watched locks.

use observer_ebpf::{
    class,
    config::{NO_FIELD, arg, field, flag, site, value},
    kinds, lock_arg, mode,
};

use crate::{
    emit::Cpu,
    kernel::{
        argument, column, field_of, has_flag, load, offset, opaque, ptl_of, read, read32, resv_map, value,
    },
    lock_table::{class_of, entry_of, forget, mutex_class_of},
    tasks,
};

/// `flags` of `lock:contention_begin` (include/trace/events/lock.h).
const CONTENTION_READ: u64 = 2;
const CONTENTION_WRITE: u64 = 4;

/// The lock argument, its class and packed class and mode; `None` if it is not watched.
#[inline(always)]
fn watched<const SITE: usize>(ctx: *const u64) -> Option<(u64, u32, u32)> {
    let lock = argument(ctx, column(SITE, arg::START));
    let mode = u32::from(column(SITE, arg::MODE));
    let class = if mode == mode::EXCLUSIVE { mutex_class_of(lock) } else { class_of(lock) };
    if class == 0 || class >= class::PTL {
        return None;
    }
    Some((lock, class, lock_arg(class, mode)))
}

/// A lock that keeps tables linked was taken or released: what is looked up under it, and what is looked up without it, are
/// two things, though it be the same pointer. A fault looks once under no lock, and then again (5.10, 6.1).
#[inline(always)]
fn look_anew(class: u32, task: Option<&mut tasks::Task>) {
    if (class == class::VMA_LOCK || class == class::I_MMAP)
        && let Some(task) = task
    {
        task.forget_sent();
    }
}

/// Entry of a lock function that can block.
#[inline(always)]
pub fn ask<const SITE: usize>(ctx: *const u64) {
    let Some((lock, class, arg)) = watched::<SITE>(ctx) else { return };
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    if class != class::FAULT_MUTEX {
        // Tasks that are in no watched operation come by here too: say who they are.
        let task = tasks::claim(cpu, SITE);
        look_anew(class, task);
    }
    cpu.emit(SITE, kinds::LOCK_ASK, arg, [lock]);
}

/// Return of a lock function that can give up.
#[inline(always)]
pub fn ask_end<const SITE: usize>(ctx: *const u64) {
    let Some((lock, _, arg)) = watched::<SITE>(ctx) else { return };
    if argument(ctx, column(SITE, arg::RET)) as u32 == 0 {
        return;
    }
    let Some(cpu) = Cpu::this() else { return };
    cpu.emit(SITE, kinds::LOCK_GAVE_UP, arg, [lock]);
}

/// Return of a trylock.
#[inline(always)]
pub fn trylock<const SITE: usize>(ctx: *const u64) {
    let Some((lock, class, arg)) = watched::<SITE>(ctx) else { return };
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    let taken = argument(ctx, column(SITE, arg::RET)) as u32 != 0;
    if taken {
        look_anew(class, tasks::current());
    }
    cpu.emit(SITE, if taken { kinds::LOCK_TRY } else { kinds::LOCK_BUSY }, arg, [lock]);
}

/// Entry of a release.
#[inline(always)]
pub fn release<const SITE: usize>(ctx: *const u64) {
    let Some((lock, class, arg)) = watched::<SITE>(ctx) else { return };
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    look_anew(class, tasks::current());
    cpu.emit(SITE, kinds::LOCK_RELEASE, arg, [lock]);
    if class == class::VMA_LOCK && entry_of(lock) == class::VMA_LOCK && is_last_release(lock) {
        forget(cpu, SITE, lock);
    }
}

/// Whether a vma_lock is released for the last time. An unmap of the whole VMA takes it out of the VMA, which has none when it
/// ends; a truncate may wait for it then, and finds that it is of no VMA any more.
#[inline(always)]
fn is_last_release(lock: u64) -> bool {
    let [sema, vma, refs] = [field::VMA_LOCK_SEMA, field::VMA_LOCK_VMA, field::VMA_LOCK_REFS].map(offset);
    if vma == NO_FIELD || refs == NO_FIELD {
        return false;
    }
    let member = |at: u64| opaque(lock).wrapping_add(at.wrapping_sub(sema));
    read(member(vma)) == Some(0) && read32(member(refs)) == Some(1)
}

/// Entry of the downgrade.
#[inline(always)]
pub fn downgrade<const SITE: usize>(ctx: *const u64) {
    let Some((lock, class, _)) = watched::<SITE>(ctx) else { return };
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    cpu.emit(SITE, kinds::LOCK_DOWNGRADE, lock_arg(class, mode::READ), [lock]);
}

/// Whether a lock is a page-table lock that concerns us: of a watched table, whatever task has it, since some walks have no
/// function of their own; of one that was given back, a walker's that looked it up in the operation that it is in, and not that of
/// whoever got the page, who may be the same task.
#[inline(always)]
fn is_ptl(class: u32, lock: u64) -> bool {
    if class != class::PTL_OF_FREED {
        return class == class::PTL;
    }
    tasks::in_operation().is_some_and(|task| task.pte != 0 && opaque(ptl_of(task.pte & !0xfff)) == lock)
}

/// A page-table lock, taken or released.
#[inline(always)]
fn ptl<const SITE: usize>(ctx: *const u64, kind: u16) {
    let lock = argument(ctx, column(SITE, arg::START));
    if !is_ptl(class_of(lock), lock) {
        return;
    }
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    if let Some(task) = tasks::claim(cpu, SITE) {
        // The pointer is used under it: the next lookup is for another use.
        task.forget_sent();
    }
    cpu.emit(SITE, kind, lock_arg(class::PTL, mode::EXCLUSIVE), [lock]);
}

/// Entry of a spinlock function that takes.
#[inline(always)]
pub fn spin_lock<const SITE: usize>(ctx: *const u64) {
    ptl::<SITE>(ctx, kinds::LOCK_ASK);
}

/// Entry of a spinlock function that releases.
#[inline(always)]
pub fn spin_unlock<const SITE: usize>(ctx: *const u64) {
    ptl::<SITE>(ctx, kinds::LOCK_RELEASE);
}

/// Contention begins (first site) or ends (second).
#[inline(always)]
pub fn wait<const SITE: usize>(ctx: *const u64) {
    let lock = argument(ctx, 0);
    let second = argument(ctx, 1);
    let class = match mutex_class_of(lock) {
        0 => class_of(lock),
        mutex => mutex,
    };
    let class = match class {
        class::PTL | class::PTL_OF_FREED if is_ptl(class, lock) => class::PTL,
        class::PTL_OF_FREED => 0,
        class => class,
    };
    if class == 0 {
        return;
    }
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    if SITE == site::WAIT {
        let mode = if class == class::FAULT_MUTEX || class == class::PTL {
            mode::EXCLUSIVE
        } else if second & CONTENTION_READ != 0 {
            mode::READ
        } else if second & CONTENTION_WRITE != 0 {
            mode::WRITE
        } else {
            0
        };
        cpu.emit(SITE, kinds::WAIT_BEGIN, lock_arg(class, mode), [lock]);
    } else {
        let failed = u32::from(second as u32 != 0) << 31;
        cpu.emit(SITE, kinds::WAIT_END, lock_arg(class, 0) | failed, [lock]);
    }
}

/// An inode, a VMA or an mm goes away: its locks are forgotten.
#[inline(always)]
pub fn object_end<const SITE: usize>(ctx: *const u64) {
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    let object = argument(ctx, column(SITE, arg::START));
    if has_flag(SITE, flag::INODE) {
        forget(cpu, SITE, field_of(object, field::INODE_LOCK));
        forget(cpu, SITE, field_of(load(object, field::INODE_MAPPING), field::MAPPING_I_MMAP));
    } else if has_flag(SITE, flag::VMA) {
        let private = load(object, field::VMA_PRIVATE);
        if load(object, field::VMA_FLAGS) & value(value::VM_MAYSHARE) != 0 {
            forget(cpu, SITE, field_of(private, field::VMA_LOCK_SEMA));
        } else if let Some(map) = resv_map(private)
            // Parts of a mapping that was split have it together.
            && read32(field_of(map, field::RESV_MAP_REFS)) == Some(1)
        {
            forget(cpu, SITE, field_of(map, field::RESV_MAP_SEMA));
        }
    } else {
        forget(cpu, SITE, field_of(object, field::MM_MMAP_LOCK));
    }
}
