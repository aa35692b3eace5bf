//! Reads the kernel: constants set before loading, arguments by number, fields by offset.
//!
//! To the verifier, arguments of tracing programs are typed pointers. Plain loads read fields through them (a fault reads 0),
//! but it allows no arithmetic beyond a constant offset. This shapes the code here.

use core::{arch::asm, ptr::read_volatile};

use aya_ebpf::{btf_maps::Array, helpers::bpf_probe_read_kernel, macros::btf_map};
use observer_ebpf::config::{NO_ARG, NO_FIELD, arg, field, site, value};

/// Argument numbers, indexed by site and column.
#[unsafe(no_mangle)]
static ARGS: [[u16; arg::COUNT]; site::COUNT] = [[NO_ARG; arg::COUNT]; site::COUNT];
/// Field offsets, indexed by `config::field`.
#[unsafe(no_mangle)]
static FIELDS: [u64; field::COUNT] = [NO_FIELD; field::COUNT];
/// Values, indexed by `config::value`.
#[unsafe(no_mangle)]
static VALUES: [u64; value::COUNT] = [0; value::COUNT];
/// Addresses of kernel variables for [`peek`], 0 for unused slots.
#[unsafe(no_mangle)]
static PEEK_AT: [u64; PEEKS] = [0; PEEKS];

/// Maximum number of variables that [`peek`] reads.
const PEEKS: usize = 8;

/// Results of [`peek`]; the last element becomes 1 when they are complete.
#[btf_map]
static PEEKED: Array<u64, { PEEKS + 1 }> = Array::new();

/// Returns the argument number in a site's column, a constant to the verifier.
#[inline(always)]
pub fn column(site: usize, column: usize) -> u16 {
    // SAFETY: a read of an initialised static; volatile, since user space sets it after compilation.
    unsafe { read_volatile(&ARGS[site][column]) }
}

/// Returns true if a site has a flag.
#[inline(always)]
pub fn has_flag(site: usize, flag: u16) -> bool {
    let flags = column(site, arg::FLAGS);
    flags != NO_ARG && flags & flag != 0
}

/// Returns a value from the table of `config::value`.
#[inline(always)]
pub fn value(number: usize) -> u64 {
    // SAFETY: as in `column`.
    unsafe { read_volatile(&VALUES[number]) }
}

/// Returns the offset of a field, or [`NO_FIELD`] if the kernel does not have it.
#[inline(always)]
pub fn offset(number: usize) -> u64 {
    // SAFETY: as in `column`.
    unsafe { read_volatile(&FIELDS[number]) }
}

/// Returns argument `n` of a tracing program, 0 for [`NO_ARG`]. The verifier must see `n` as a constant. Each arm is a load
/// at a constant offset, in assembly: the compiler would merge the arms into one load at a computed offset.
#[inline(always)]
pub fn argument(ctx: *const u64, n: u16) -> u64 {
    macro_rules! slot {
        ($at:literal) => {{
            let v: u64;
            // SAFETY: the context of a tracing program holds its arguments in 8-byte slots; the verifier checks `n`.
            unsafe { asm!(concat!("{v} = *(u64 *)({c} + ", $at, ")"), c = in(reg) ctx, v = out(reg) v) };
            v
        }};
    }
    match n {
        0 => slot!("0"),
        1 => slot!("8"),
        2 => slot!("16"),
        3 => slot!("24"),
        4 => slot!("32"),
        5 => slot!("40"),
        6 => slot!("48"),
        7 => slot!("56"),
        _ => 0,
    }
}

/// A way to attach a program to a function: the layout of its context, and how the verifier treats its pointers.
pub trait Way {
    /// Returns argument `n`, 0 for [`NO_ARG`].
    fn argument(ctx: *const u64, n: u16) -> u64;
    /// Returns the function's return value; `n` is its slot in a tracing program.
    fn returned(ctx: *const u64, n: u16) -> u64;
    /// Returns the 8 bytes at field `number` of a pointer argument or loaded pointer; 0 if the pointer is bad.
    fn load(pointer: u64, number: usize) -> u64;
}

/// Attached by fentry and fexit: typed pointers, read by plain loads.
pub struct Traced;

impl Way for Traced {
    #[inline(always)]
    fn argument(ctx: *const u64, n: u16) -> u64 {
        argument(ctx, n)
    }
    #[inline(always)]
    fn returned(ctx: *const u64, n: u16) -> u64 {
        argument(ctx, n)
    }
    #[inline(always)]
    fn load(pointer: u64, number: usize) -> u64 {
        load(pointer, number)
    }
}

/// Attached by kprobe and kretprobe, if a function cannot be traced: registers, and numbers that only the helper can read.
pub struct Probed;

impl Way for Probed {
    /// Arguments beyond the sixth are on the stack and read as 0; the plan uses none.
    #[inline(always)]
    fn argument(ctx: *const u64, n: u16) -> u64 {
        macro_rules! register {
            ($at:literal) => {{
                let v: u64;
                // SAFETY: the context is a `struct pt_regs` (x86-64: arch/x86/include/asm/ptrace.h).
                unsafe { asm!(concat!("{v} = *(u64 *)({c} + ", $at, ")"), c = in(reg) ctx, v = out(reg) v) };
                v
            }};
        }
        match n {
            0 => register!("112"),
            1 => register!("104"),
            2 => register!("96"),
            3 => register!("88"),
            4 => register!("72"),
            5 => register!("64"),
            _ => 0,
        }
    }
    #[inline(always)]
    fn returned(ctx: *const u64, n: u16) -> u64 {
        if n == NO_ARG {
            return 0;
        }
        let v: u64;
        // SAFETY: as above; offset 80 is ax.
        unsafe { asm!("{v} = *(u64 *)({c} + 80)", c = in(reg) ctx, v = out(reg) v) };
        v
    }
    #[inline(always)]
    fn load(pointer: u64, number: usize) -> u64 {
        let offset = offset(number);
        if offset == NO_FIELD { 0 } else { read(pointer.wrapping_add(offset)).unwrap_or(0) }
    }
}

/// Returns argument `n` as a number that allows arithmetic: read through the helper, as memory.
#[inline(always)]
pub fn argument_number(ctx: *const u64, n: u16) -> u64 {
    if n == NO_ARG { 0 } else { read(ctx as u64 + 8 * u64::from(n)).unwrap_or(0) }
}

/// Returns the 8 bytes behind a typed pointer; 0 if it is bad.
#[inline(always)]
pub fn pointee(pointer: u64) -> u64 {
    let v: u64;
    // SAFETY: as in `load`.
    unsafe { asm!("{v} = *(u64 *)({p} + 0)", p = in(reg) pointer, v = out(reg) v) };
    v
}

/// Returns the 8 bytes at field `number` of a typed pointer; 0 if the pointer is bad or the field absent.
#[inline(always)]
pub fn load(pointer: u64, number: usize) -> u64 {
    let offset = offset(number);
    if offset == NO_FIELD {
        return 0;
    }
    let v: u64;
    // SAFETY: the verifier turns loads through typed pointers into loads that read 0 on a fault.
    unsafe {
        asm!("{p} += {o}", "{v} = *(u64 *)({p} + 0)", p = inout(reg) pointer => _, o = in(reg) offset, v = lateout(reg) v)
    };
    v
}

/// Returns the 32 bits at field `number` of a typed pointer; 0 as in [`load`].
#[inline(always)]
pub fn load32(pointer: u64, number: usize) -> u32 {
    let offset = offset(number);
    if offset == NO_FIELD {
        return 0;
    }
    let v: u64;
    // SAFETY: as in `load`.
    unsafe {
        asm!("{p} += {o}", "{v} = *(u32 *)({p} + 0)", p = inout(reg) pointer => _, o = in(reg) offset, v = lateout(reg) v)
    };
    v as u32
}

/// Returns the byte at field `number` of a typed pointer, through the helper because it may lie beyond the type.
#[inline(always)]
pub fn load8(pointer: u64, number: usize) -> u64 {
    let offset = offset(number);
    if offset == NO_FIELD {
        return 0;
    }
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel((opaque(pointer) + offset) as *const u8) }.map_or(0, u64::from)
}

/// Returns a page size in KiB, or 0 for the size whose tables can be shared, or if it is not known (0).
#[inline(always)]
pub fn other_size_kib(page_bytes: u64) -> u32 {
    if page_bytes == value(value::PMD_SIZE) { 0 } else { (page_bytes >> 10) as u32 }
}

/// Returns the address of a field of a typed pointer; 0 if the pointer is 0 or the field absent.
#[inline(always)]
pub fn field_of(pointer: u64, number: usize) -> u64 {
    let offset = offset(number);
    if pointer == 0 || offset == NO_FIELD {
        return 0;
    }
    opaque(pointer) + offset
}

/// Returns the reserve map that a private mapping owns, given the VMA's private data.
#[inline(always)]
pub fn resv_map(private: u64) -> Option<u64> {
    let private = opaque(private);
    let map = private & !value(value::RESV_BITS);
    (private & value(value::RESV_OWNER) != 0 && map != 0).then_some(map)
}

/// Hides a value from the optimiser, which would turn a comparison into arithmetic that the verifier forbids on pointers.
#[inline(always)]
pub fn opaque(v: u64) -> u64 {
    let mut v = v;
    // SAFETY: a register move. An empty text would leave two line records at one instruction, which the kernel rejects.
    unsafe { asm!("{0} = {0}", inout(reg) v) };
    v
}

/// Returns the low half of a value, which may be a typed pointer, as a number.
#[inline(always)]
pub fn low_half(v: u64) -> u64 {
    let low: u64;
    // SAFETY: register moves only.
    unsafe { asm!("w3 = w2", in("r2") v, out("r3") low) };
    low
}

/// Reads 8 bytes of kernel memory through the helper, for addresses that are plain numbers.
#[inline(always)]
pub fn read(address: u64) -> Option<u64> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const u64) }.ok()
}

/// Reads 4 bytes of kernel memory, like [`read`].
#[inline(always)]
pub fn read32(address: u64) -> Option<u32> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const u32) }.ok()
}

/// Returns the address of a table's page descriptor.
#[inline(always)]
pub fn page_of(table: u64) -> u64 {
    let frame = table.wrapping_sub(value(value::PAGE_OFFSET)) >> 12;
    value(value::VMEMMAP).wrapping_add(frame.wrapping_mul(value(value::PAGE_STRUCT_BYTES)))
}

/// Returns the address of a PMD table's page-table lock, 0 if it cannot be computed.
#[inline(always)]
pub fn ptl_of(table: u64) -> u64 {
    if offset(field::TABLE_PTL) == NO_FIELD || value(value::VMEMMAP) == 0 {
        return 0;
    }
    let at = page_of(table).wrapping_add(offset(field::TABLE_PTL));
    if value(value::PTL_IS_POINTER) != 0 { read(at).unwrap_or(0) } else { at }
}

/// Returns a table's raw share count as the kernel keeps it.
#[inline(always)]
pub fn shares_of(table: u64) -> u32 {
    if offset(field::TABLE_SHARES) == NO_FIELD || value(value::VMEMMAP) == 0 {
        return 0;
    }
    read32(page_of(table).wrapping_add(offset(field::TABLE_SHARES))).unwrap_or(0)
}

/// Reads the variables at [`PEEK_AT`], once.
#[inline(always)]
pub fn peek() {
    let Some(done) = PEEKED.get_ptr_mut(PEEKS as u32) else { return };
    // SAFETY: a pointer into the array, checked above.
    if unsafe { read_volatile(done) } == 1 {
        return;
    }
    let mut i = 0;
    while i < PEEKS {
        // SAFETY: as in `column`.
        let at = unsafe { read_volatile(&PEEK_AT[i]) };
        if at != 0
            && let (Some(v), Some(slot)) = (read(at), PEEKED.get_ptr_mut(i as u32))
        {
            // SAFETY: a pointer into the array.
            unsafe { *slot = v };
        }
        i += 1;
    }
    // SAFETY: as above.
    unsafe { *done = 1 };
}
