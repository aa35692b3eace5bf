//! Locks: requests, trylocks, releases, contention. A lock is identified by its address ([`crate::lock_table`]).
//!
//! The whole kernel calls these functions. So the address is checked first, and everything else runs only for watched locks.

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

/// Returns the lock argument, its class, and the packed class and mode; `None` if it is not watched.
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

/// Ensures that the next lookup is sent, because a lock that keeps tables linked is being acquired or released. A lookup
/// under that lock and one without it are two events even if both return the same pointer. A fault looks up first without a
/// lock, then again (5.10, 6.1).
#[inline(always)]
fn forget_lookup(class: u32, task: Option<&mut tasks::Task>) {
    if (class == class::VMA_LOCK || class == class::I_MMAP)
        && let Some(task) = task
    {
        task.forget_sent();
    }
}

/// Records a lock request at the entry of a function that can block.
#[inline(always)]
pub fn ask<const SITE: usize>(ctx: *const u64) {
    let Some((lock, class, arg)) = watched::<SITE>(ctx) else { return };
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    if class != class::FAULT_MUTEX {
        // Tasks outside any watched operation reach this too: introduce them.
        let task = tasks::claim(cpu, SITE);
        forget_lookup(class, task);
    }
    cpu.emit(SITE, kinds::LOCK_ASK, arg, [lock]);
}

/// Records a failed request at the return of a function that can give up.
#[inline(always)]
pub fn ask_end<const SITE: usize>(ctx: *const u64) {
    let Some((lock, _, arg)) = watched::<SITE>(ctx) else { return };
    if argument(ctx, column(SITE, arg::RET)) as u32 == 0 {
        return;
    }
    let Some(cpu) = Cpu::this() else { return };
    cpu.emit(SITE, kinds::LOCK_GAVE_UP, arg, [lock]);
}

/// Records the result of a trylock at its return.
#[inline(always)]
pub fn trylock<const SITE: usize>(ctx: *const u64) {
    let Some((lock, class, arg)) = watched::<SITE>(ctx) else { return };
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    let taken = argument(ctx, column(SITE, arg::RET)) as u32 != 0;
    if taken {
        forget_lookup(class, tasks::current());
    }
    cpu.emit(SITE, if taken { kinds::LOCK_TRY } else { kinds::LOCK_BUSY }, arg, [lock]);
}

/// Records a release at its entry.
#[inline(always)]
pub fn release<const SITE: usize>(ctx: *const u64) {
    let Some((lock, class, arg)) = watched::<SITE>(ctx) else { return };
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    forget_lookup(class, tasks::current());
    cpu.emit(SITE, kinds::LOCK_RELEASE, arg, [lock]);
    if class == class::VMA_LOCK && entry_of(lock) == class::VMA_LOCK && is_last_release(lock) {
        forget(cpu, SITE, lock);
    }
}

/// Returns true if this is the last release of a vma_lock. An unmap of the whole VMA detaches the lock, so the VMA has none
/// when it ends. A truncate may be waiting for the lock then, and finds that it has no VMA.
#[inline(always)]
fn is_last_release(lock: u64) -> bool {
    let [sema, vma, refs] = [field::VMA_LOCK_SEMA, field::VMA_LOCK_VMA, field::VMA_LOCK_REFS].map(offset);
    if vma == NO_FIELD || refs == NO_FIELD {
        return false;
    }
    let member = |at: u64| opaque(lock).wrapping_add(at.wrapping_sub(sema));
    read(member(vma)) == Some(0) && read32(member(refs)) == Some(1)
}

/// Records the downgrade from write to read at its entry.
#[inline(always)]
pub fn downgrade<const SITE: usize>(ctx: *const u64) {
    let Some((lock, class, _)) = watched::<SITE>(ctx) else { return };
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    cpu.emit(SITE, kinds::LOCK_DOWNGRADE, lock_arg(class, mode::READ), [lock]);
}

/// Returns true if a lock is a page-table lock to record. The PTL of a watched table is recorded for every task, because some
/// walks have no function of their own. The PTL of a freed table is recorded only for a walker that looked the table up in
/// its current operation. The page's next user is left out, although it may be the same task.
#[inline(always)]
fn is_ptl(class: u32, lock: u64) -> bool {
    if class != class::PTL_OF_FREED {
        return class == class::PTL;
    }
    tasks::in_operation().is_some_and(|task| task.pte != 0 && opaque(ptl_of(task.pte & !0xfff)) == lock)
}

/// Records a PTL request or release.
#[inline(always)]
fn ptl<const SITE: usize>(ctx: *const u64, kind: u16) {
    let lock = argument(ctx, column(SITE, arg::START));
    if !is_ptl(class_of(lock), lock) {
        return;
    }
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    if let Some(task) = tasks::claim(cpu, SITE) {
        // The pointer is used under this lock: the next lookup starts another use.
        task.forget_sent();
    }
    cpu.emit(SITE, kind, lock_arg(class::PTL, mode::EXCLUSIVE), [lock]);
}

/// Records a PTL request at the entry of a spinlock function.
#[inline(always)]
pub fn spin_lock<const SITE: usize>(ctx: *const u64) {
    ptl::<SITE>(ctx, kinds::LOCK_ASK);
}

/// Records a PTL release at the entry of a spinlock function.
#[inline(always)]
pub fn spin_unlock<const SITE: usize>(ctx: *const u64) {
    ptl::<SITE>(ctx, kinds::LOCK_RELEASE);
}

/// Records the begin (first site) or end (second site) of a wait for a contended lock.
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

/// Forgets the locks of an inode, VMA or mm that is being freed.
#[inline(always)]
pub fn object_end<const SITE: usize>(ctx: *const u64) {
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    let object = argument(ctx, column(SITE, arg::START));
    if has_flag(SITE, flag::ENDS_INODE) {
        forget(cpu, SITE, field_of(object, field::INODE_LOCK));
        forget(cpu, SITE, field_of(load(object, field::INODE_MAPPING), field::MAPPING_I_MMAP));
    } else if has_flag(SITE, flag::ENDS_VMA) {
        let private = load(object, field::VMA_PRIVATE);
        if load(object, field::VMA_FLAGS) & value(value::VM_MAYSHARE) != 0 {
            forget(cpu, SITE, field_of(private, field::VMA_LOCK_SEMA));
        } else if let Some(map) = resv_map(private)
            // The parts of a split mapping share the reserve map.
            && read32(field_of(map, field::RESV_MAP_REFS)) == Some(1)
        {
            forget(cpu, SITE, field_of(map, field::RESV_MAP_SEMA));
        }
    } else {
        forget(cpu, SITE, field_of(object, field::MM_MMAP_LOCK));
    }
}
