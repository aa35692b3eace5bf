//! The folio lock. Its fast path is inlined everywhere, so holds are known only by contract, by a lookup's return or by the
//! slow path. Only the release is always seen.

use observer_ebpf::{
    class,
    config::{NO_FIELD, arg, field, value},
    how, kinds,
};

use crate::{
    emit::Cpu,
    kernel::{argument, column, field_of, load, load8, low_half, offset, value},
    lock_table::class_of,
    tasks,
};

/// Bit 0 of a folio's mapping word: anonymous (`PAGE_MAPPING_ANON`, include/linux/page-flags.h).
const ANON: u64 = 1;

/// Returns true if a mapping belongs to a watched hugetlbfs file.
#[inline(always)]
fn is_watched(mapping: u64) -> bool {
    class_of(field_of(mapping, field::MAPPING_I_MMAP)) == class::I_MMAP
}

/// Size in pages of the smallest hugetlbfs folio whose tables are shared.
const PAGES: u64 = 512;

/// Returns true if a folio is to be recorded: it belongs to a watched file, or it is a hugetlb folio handled inside a watched
/// operation, which may migrate pages of any kind. If the kernel has no mark for hugetlb folios, every folio with the right
/// alignment is accepted: the array of page descriptors is aligned to far more than the descriptors of 2 MiB.
#[inline(always)]
fn concerns(folio: u64, mapping: u64) -> bool {
    if low_half(mapping) & ANON == 0 && is_watched(mapping) {
        return true;
    }
    if low_half(folio) & (PAGES * value(value::PAGE_STRUCT_BYTES) - 1) != 0 {
        return false;
    }
    let unmarked = offset(field::HUGETLB_MARK) != NO_FIELD
        && load8(folio, field::HUGETLB_MARK) != value(value::HUGETLB_MARK);
    !unmarked && tasks::in_operation().is_some()
}

/// Returns the folio argument with its mapping and index.
#[inline(always)]
fn folio<const SITE: usize>(ctx: *const u64) -> (u64, u64, u64) {
    let folio = argument(ctx, column(SITE, arg::START));
    let mapping = match column(SITE, arg::MM) {
        observer_ebpf::config::NO_ARG => load(folio, field::FOLIO_MAPPING),
        // The page cache is about to add it: its mapping word is not set yet.
        n => argument(ctx, n),
    };
    (folio, mapping, load(folio, field::FOLIO_INDEX))
}

/// Records the request for a folio lock at the entry of a page-cache lookup.
#[inline(always)]
pub fn lookup_begin<const SITE: usize>(ctx: *const u64) {
    if argument(ctx, column(SITE, arg::EXTRA)) & value(value::FGP_LOCK) == 0 {
        return;
    }
    let mapping = argument(ctx, column(SITE, arg::MM));
    if !is_watched(mapping) {
        return;
    }
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    cpu.emit(SITE, kinds::FOLIO_ASK, 0, [mapping, argument(ctx, column(SITE, arg::START)), 0]);
}

/// Records a folio that a page-cache lookup returned locked.
#[inline(always)]
pub fn lookup_end<const SITE: usize>(ctx: *const u64) {
    if argument(ctx, column(SITE, arg::EXTRA)) & value(value::FGP_LOCK) == 0 {
        return;
    }
    let mapping = argument(ctx, column(SITE, arg::MM));
    let folio = argument(ctx, column(SITE, arg::RET));
    // Not found: NULL, or an error pointer in the last page of the address space.
    if !is_watched(mapping) || folio == 0 || folio >= -4095i64 as u64 {
        return;
    }
    let Some(cpu) = Cpu::this() else { return };
    cpu.outcome::<SITE>();
    cpu.emit(
        SITE,
        kinds::FOLIO_HELD,
        how::RETURNED,
        [folio, mapping, argument(ctx, column(SITE, arg::START))],
    );
}

/// Records a hold at the entry of a function whose contract requires a locked folio.
#[inline(always)]
pub fn contract<const SITE: usize>(ctx: *const u64) {
    let (folio, mapping, index) = folio::<SITE>(ctx);
    if folio == 0 || !concerns(folio, mapping) {
        return;
    }
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    cpu.emit(SITE, kinds::FOLIO_HELD, how::CONTRACT, [folio, mapping, index]);
}

/// Records a wait at the entry of the slow path.
#[inline(always)]
pub fn slow_begin<const SITE: usize>(ctx: *const u64) {
    let (folio, mapping, index) = folio::<SITE>(ctx);
    if !concerns(folio, mapping) {
        return;
    }
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    cpu.emit(SITE, kinds::FOLIO_WAIT, 0, [folio, mapping, index]);
}

/// Records a hold at the return of the slow path; a variant that can give up returns 0 if it acquired the lock.
#[inline(always)]
pub fn slow_end<const SITE: usize>(ctx: *const u64) {
    let (folio, mapping, index) = folio::<SITE>(ctx);
    if !concerns(folio, mapping) || argument(ctx, column(SITE, arg::RET)) as u32 != 0 {
        return;
    }
    let Some(cpu) = Cpu::this() else { return };
    cpu.emit(SITE, kinds::FOLIO_HELD, how::SLOW_PATH, [folio, mapping, index]);
}

/// Records the release at its entry.
#[inline(always)]
pub fn unlock<const SITE: usize>(ctx: *const u64) {
    let (folio, mapping, index) = folio::<SITE>(ctx);
    if !concerns(folio, mapping) {
        return;
    }
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    cpu.emit(SITE, kinds::FOLIO_RELEASE, 0, [folio, mapping, index]);
}
