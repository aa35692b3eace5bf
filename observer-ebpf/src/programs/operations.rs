//! Watched operations: entry and return of the functions that look up, use or unlink page tables. A walk between two
//! functions is also an operation: it begins when the first returns with the walk's lock, and ends at entry of the second.
//!
//! The begin of an operation also announces the locks of its objects, so that they are known by address from then on.

use observer_ebpf::{
    class,
    config::{NO_ARG, arg, field, flag, site, value},
    kinds, lock_arg, mode,
};

use aya_ebpf::helpers::bpf_get_current_pid_tgid;

use crate::{
    emit::Cpu,
    entries,
    kernel::{Way, column, field_of, has_flag, load8, low_half, other_size_kib, ptl_of, resv_map, value},
    lock_table::{class_of, watch, watch_as},
    tasks,
};

/// Returns the VMA that a site's function works on, 0 if it has none.
#[inline(always)]
fn vma<const SITE: usize, W: Way>(ctx: *const u64) -> u64 {
    let vma = W::argument(ctx, column(SITE, arg::VMA));
    if has_flag(SITE, flag::VMA_IN_WALK) { W::load(vma, field::WALK_VMA) } else { vma }
}

/// Returns the mapping of a file, inode or directory entry.
#[inline(always)]
fn mapping_of<const SITE: usize, W: Way>(object: u64) -> u64 {
    if has_flag(SITE, flag::DENTRY) {
        W::load(W::load(object, field::DENTRY_INODE), field::INODE_MAPPING)
    } else if has_flag(SITE, flag::INODE) {
        W::load(object, field::INODE_MAPPING)
    } else {
        W::load(object, field::FILE_MAPPING)
    }
}

/// Returns true if the site is a walk between two functions.
const fn is_walk(site: usize) -> bool {
    site >= site::WALK && site < site::WALK + site::WALKS
}

/// Object of an operation; a field is 0 if the function does not have it or does not pass it.
#[derive(Clone, Copy)]
struct Object {
    mm: u64,
    vma: u64,
    /// The VMA's lock and its class in the lock table: of a shared mapping, or of a private one that owns its reserve map.
    vma_lock: u64,
    vma_lock_entry: u32,
    mapping: u64,
}

/// Returns the operation's object; `None` if it is not of hugetlbfs or its mm is not watched.
#[inline(always)]
fn object<const SITE: usize, W: Way>(ctx: *const u64) -> Option<Object> {
    let mm = W::argument(ctx, column(SITE, arg::MM));
    let mut object = Object { mm, vma: 0, vma_lock: 0, vma_lock_entry: class::VMA_LOCK, mapping: 0 };
    if column(SITE, arg::VMA) != NO_ARG {
        object.vma = vma::<SITE, W>(ctx);
        let flags = W::load(object.vma, field::VMA_FLAGS);
        if flags & value(value::VM_HUGETLB) == 0 && !has_flag(SITE, flag::OWN) {
            return None;
        }
        object.mm = W::load(object.vma, field::VMA_MM);
        object.mapping = W::load(W::load(object.vma, field::VMA_FILE), field::FILE_MAPPING);
        let private = W::load(object.vma, field::VMA_PRIVATE);
        if flags & value(value::VM_MAYSHARE) != 0 {
            object.vma_lock = field_of(private, field::VMA_LOCK_SEMA);
        } else if let Some(map) = resv_map(private) {
            object.vma_lock = field_of(map, field::RESV_MAP_SEMA);
            object.vma_lock_entry = class::PRIVATE_VMA_LOCK;
        }
    } else if has_flag(SITE, flag::KNOWN_MM) && class_of(field_of(object.mm, field::MM_MMAP_LOCK)) == 0 {
        return None;
    }
    if !has_flag(SITE, flag::CALLBACK) && has_flag(SITE, flag::FILE | flag::INODE | flag::DENTRY) {
        object.mapping = mapping_of::<SITE, W>(W::argument(ctx, column(SITE, arg::EXTRA)));
    }
    if has_flag(SITE, flag::DESC) {
        let desc = W::argument(ctx, column(SITE, arg::EXTRA));
        object.mm = W::load(desc, field::DESC_MM);
        object.mapping = W::load(W::load(desc, field::DESC_FILE), field::FILE_MAPPING);
    }
    Some(object)
}

/// Records an operation's begin: at entry, or for a walk at the return of the function that begins it.
#[inline(always)]
pub fn begin<const SITE: usize, W: Way>(ctx: *const u64) {
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    let Some(object) = object::<SITE, W>(ctx) else { return };
    let Object { mm, mapping, .. } = object;
    let i_mmap = field_of(mapping, field::MAPPING_I_MMAP);
    let only = value(value::ONLY_TGID);
    if only != 0 && bpf_get_current_pid_tgid() >> 32 != only && class_of(i_mmap) == 0 {
        return;
    }
    let Some(task) = tasks::claim(cpu, SITE) else { return };
    task.open |= 1 << SITE;
    if task.stacks & 1 << SITE == 0 {
        task.stacks |= 1 << SITE;
        cpu.emit_stack(SITE, ctx);
    }
    task.allocs = 0;
    task.forget_sent();
    watch::<{ class::MMAP_LOCK }>(cpu, SITE, field_of(mm, field::MM_MMAP_LOCK), mm, 0);
    // A walk already holds its lock. If the lock was not watched yet, its acquisition was not recorded.
    let unseen = is_walk(SITE) && object.vma_lock != 0 && class_of(object.vma_lock) != class::VMA_LOCK;
    watch_as::<{ class::VMA_LOCK }>(cpu, SITE, object.vma_lock, object.vma_lock_entry, mapping, object.vma);
    if unseen {
        cpu.emit(SITE, kinds::LOCK_TRY, lock_arg(class::VMA_LOCK, mode::READ), [object.vma_lock]);
    }
    if mapping != 0 {
        watch::<{ class::I_MMAP }>(cpu, SITE, i_mmap, mapping, 0);
        let inode = W::load(mapping, field::MAPPING_HOST);
        watch::<{ class::INODE }>(cpu, SITE, field_of(inode, field::INODE_LOCK), inode, 0);
    }
    if is_walk(SITE) {
        cpu.outcome::<SITE>();
        let (start, end) = (W::load(object.vma, field::VMA_START), W::load(object.vma, field::VMA_END));
        // A walk has no lookup that shows the page size.
        let shift = load8(W::load(mapping, field::MAPPING_HOST), field::INODE_PAGE_SHIFT);
        cpu.emit(SITE, kinds::OP_BEGIN, other_size_kib(1 << (shift & 63)), [mm, start, end]);
        return;
    }

    let start = W::argument(ctx, column(SITE, arg::START));
    if has_flag(SITE, flag::CALLBACK) {
        let pte = W::argument(ctx, column(SITE, arg::EXTRA));
        let page_bytes = W::argument(ctx, column(SITE, arg::END)).wrapping_neg();
        let page_kib = other_size_kib(page_bytes);
        if page_kib != 0 {
            // The entry is in a table that is never shared.
            cpu.emit(SITE, kinds::OP_BEGIN, page_kib, [mm, start, start.wrapping_add(page_bytes)]);
            return;
        }
        let table = task.number(pte) & !0xfff;
        watch::<{ class::PTL }>(cpu, SITE, ptl_of(table), table, 0);
        cpu.emit(SITE, kinds::CALLBACK_BEGIN, 0, [mm, start, pte]);
        return;
    }
    let mut end = W::argument(ctx, column(SITE, arg::END));
    if has_flag(SITE, flag::END_IS_LENGTH) {
        end = end.wrapping_add(start);
    }
    cpu.emit(SITE, kinds::OP_BEGIN, 0, [mm, start, end]);
    if has_flag(SITE, flag::DIFF) {
        entries::begin(task, SITE);
    }
}

/// Records an operation's end, if its begin was sent. It does not look at the VMA, which may be freed by now.
#[inline(always)]
pub fn end<const SITE: usize, W: Way>(ctx: *const u64) {
    let Some(task) = tasks::current() else { return };
    if task.open & 1 << SITE == 0 {
        return;
    }
    let Some(cpu) = Cpu::this() else { return };
    if has_flag(SITE, flag::DIFF) {
        entries::end(cpu, task);
    }
    task.open &= !(1 << SITE);
    task.forget_sent();
    // The pointer ends with the operation: the table may be freed, and this task may reuse its page.
    task.pte = 0;
    let ret = W::returned(ctx, column(SITE, arg::RET));
    let ret = if has_flag(SITE, flag::RET_32) { low_half(ret) } else { ret };
    cpu.emit(SITE, kinds::OP_END, 0, [ret]);
}
