//! Watched operations: entry and return of the functions that look up, use or take away page tables.
//!
//! An operation's begin also names the locks of what it works on, so that they are known by address from then on.

use observer_ebpf::{
    class,
    config::{NO_ARG, arg, field, flag, value},
    kinds,
};

use aya_ebpf::helpers::bpf_get_current_pid_tgid;

use crate::{
    emit::Cpu,
    entries,
    kernel::{Way, column, field_of, has_flag, low_half, ptl_of, value},
    lock_table::{class_of, watch},
    tasks,
};

/// The VMA that a site's function works on, 0 if it has none.
#[inline(always)]
fn vma<const SITE: usize, W: Way>(ctx: *const u64) -> u64 {
    let vma = W::argument(ctx, column(SITE, arg::VMA));
    if has_flag(SITE, flag::VMA_IN_WALK) { W::load(vma, field::WALK_VMA) } else { vma }
}

/// The mapping of a file, an inode or a directory entry.
#[inline(always)]
fn mapping_of<const SITE: usize, W: Way>(object: u64) -> u64 {
    match (has_flag(SITE, flag::INODE), has_flag(SITE, flag::FILE)) {
        (true, true) => W::load(W::load(object, field::DENTRY_INODE), field::INODE_MAPPING),
        (true, false) => W::load(object, field::INODE_MAPPING),
        _ => W::load(object, field::FILE_MAPPING),
    }
}

/// Entry.
#[inline(always)]
pub fn begin<const SITE: usize, W: Way>(ctx: *const u64) {
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    let mut mm = W::argument(ctx, column(SITE, arg::MM));
    let (mut mapping, mut vma_private, mut the_vma) = (0, 0, 0);
    if column(SITE, arg::VMA) != NO_ARG {
        the_vma = vma::<SITE, W>(ctx);
        let flags = W::load(the_vma, field::VMA_FLAGS);
        if flags & value(value::VM_HUGETLB) == 0 && !has_flag(SITE, flag::OWN) {
            return;
        }
        mm = W::load(the_vma, field::VMA_MM);
        mapping = W::load(W::load(the_vma, field::VMA_FILE), field::FILE_MAPPING);
        if flags & value(value::VM_MAYSHARE) != 0 {
            vma_private = W::load(the_vma, field::VMA_PRIVATE);
        }
    }
    if !has_flag(SITE, flag::CALLBACK) && has_flag(SITE, flag::INODE | flag::FILE) {
        mapping = mapping_of::<SITE, W>(W::argument(ctx, column(SITE, arg::EXTRA)));
    }
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
    watch::<{ class::VMA_LOCK }>(cpu, SITE, field_of(vma_private, field::VMA_LOCK_SEMA), mapping, the_vma);
    if mapping != 0 {
        watch::<{ class::I_MMAP }>(cpu, SITE, i_mmap, mapping, 0);
        let inode = W::load(mapping, field::MAPPING_HOST);
        watch::<{ class::INODE }>(cpu, SITE, field_of(inode, field::INODE_LOCK), inode, 0);
    }

    let start = W::argument(ctx, column(SITE, arg::START));
    if has_flag(SITE, flag::CALLBACK) {
        let pte = W::argument(ctx, column(SITE, arg::EXTRA));
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

/// Return. Only operations whose begin was sent end: the VMA may be gone by now.
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
    let ret = W::returned(ctx, column(SITE, arg::RET));
    let ret = if has_flag(SITE, flag::RET_32) { low_half(ret) } else { ret };
    cpu.emit(SITE, kinds::OP_END, 0, [ret]);
}
