//! Reading the kernel: constants set before loading, arguments by number, fields by offset.
//!
//! Arguments of tracing programs are typed pointers to the verifier: fields are read from them by plain loads (a fault
//! reads 0), but no arithmetic beyond a constant offset is allowed, which shapes the code here.

use core::{arch::asm, ptr::read_volatile};

use aya_ebpf::{btf_maps::Array, helpers::bpf_probe_read_kernel, macros::btf_map};
use observer_ebpf::config::{NO_ARG, NO_FIELD, arg, field, site, value};

/// Argument numbers by site and column.
#[unsafe(no_mangle)]
static ARGS: [[u8; arg::COUNT]; site::COUNT] = [[NO_ARG; arg::COUNT]; site::COUNT];
/// Field offsets by `config::field`.
#[unsafe(no_mangle)]
static FIELDS: [u64; field::COUNT] = [NO_FIELD; field::COUNT];
/// Values by `config::value`.
#[unsafe(no_mangle)]
static VALUES: [u64; value::COUNT] = [0; value::COUNT];
/// Addresses of kernel variables for [`peek`], 0 for none.
#[unsafe(no_mangle)]
static PEEK_AT: [u64; PEEKS] = [0; PEEKS];

/// Variables that [`peek`] can read.
const PEEKS: usize = 8;

/// What [`peek`] read; the last element becomes 1 when it is complete.
#[btf_map]
static PEEKED: Array<u64, { PEEKS + 1 }> = Array::new();

/// Argument number of a site's column, a constant to the verifier.
#[inline(always)]
pub fn column(site: usize, column: usize) -> u8 {
    // SAFETY: a read of an initialised static; volatile, since user space sets it after compilation.
    unsafe { read_volatile(&ARGS[site][column]) }
}

/// Whether a site has a flag.
#[inline(always)]
pub fn has_flag(site: usize, flag: u8) -> bool {
    let flags = column(site, arg::FLAGS);
    flags != NO_ARG && flags & flag != 0
}

/// A value fact.
#[inline(always)]
pub fn value(number: usize) -> u64 {
    // SAFETY: as in `column`.
    unsafe { read_volatile(&VALUES[number]) }
}

/// Offset of a field; [`NO_FIELD`] where the kernel has none.
#[inline(always)]
pub fn offset(number: usize) -> u64 {
    // SAFETY: as in `column`.
    unsafe { read_volatile(&FIELDS[number]) }
}

/// Argument `n` of a tracing program, 0 for [`NO_ARG`]. `n` must be a constant to the verifier: each arm is a load at a
/// constant offset, written in assembly because the compiler would make one load at a computed offset of them.
#[inline(always)]
pub fn argument(ctx: *const u64, n: u8) -> u64 {
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

/// How a program hangs on a function: what its context is, and what the verifier makes of the pointers in it.
pub trait Way {
    /// Argument `n`, 0 for [`NO_ARG`].
    fn argument(ctx: *const u64, n: u8) -> u64;
    /// What the function returned; `n` is the slot of it that a tracing program has.
    fn returned(ctx: *const u64, n: u8) -> u64;
    /// The 8 bytes at `number`'s offset from a pointer argument, or from one that was loaded; 0 if it is bad.
    fn load(pointer: u64, number: usize) -> u64;
}

/// fentry and fexit: typed pointers, read by plain loads.
pub struct Traced;

impl Way for Traced {
    #[inline(always)]
    fn argument(ctx: *const u64, n: u8) -> u64 {
        argument(ctx, n)
    }
    #[inline(always)]
    fn returned(ctx: *const u64, n: u8) -> u64 {
        argument(ctx, n)
    }
    #[inline(always)]
    fn load(pointer: u64, number: usize) -> u64 {
        load(pointer, number)
    }
}

/// kprobe and kretprobe, where a function cannot be traced: registers, and numbers that only the helper may follow.
pub struct Probed;

impl Way for Probed {
    /// Arguments beyond the sixth are on the stack and read as 0; the plan asks for none of them.
    #[inline(always)]
    fn argument(ctx: *const u64, n: u8) -> u64 {
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
    fn returned(ctx: *const u64, n: u8) -> u64 {
        if n == NO_ARG {
            return 0;
        }
        let v: u64;
        // SAFETY: as above: ax.
        unsafe { asm!("{v} = *(u64 *)({c} + 80)", c = in(reg) ctx, v = out(reg) v) };
        v
    }
    #[inline(always)]
    fn load(pointer: u64, number: usize) -> u64 {
        let offset = offset(number);
        if offset == NO_FIELD { 0 } else { read(pointer.wrapping_add(offset)).unwrap_or(0) }
    }
}

/// Argument `n` as a number that arithmetic is allowed on: read through the helper, as memory.
#[inline(always)]
pub fn argument_number(ctx: *const u64, n: u8) -> u64 {
    if n == NO_ARG { 0 } else { read(ctx as u64 + 8 * u64::from(n)).unwrap_or(0) }
}

/// The 8 bytes that a typed pointer points to; 0 if it is bad.
#[inline(always)]
pub fn pointee(pointer: u64) -> u64 {
    let v: u64;
    // SAFETY: as in `load`.
    unsafe { asm!("{v} = *(u64 *)({p} + 0)", p = in(reg) pointer, v = out(reg) v) };
    v
}

/// The 8 bytes at `number`'s offset from a typed pointer; 0 if the pointer is bad or the field absent.
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

/// The low 32 bits at `number`'s offset from a typed pointer.
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

/// The byte at `number`'s offset from a typed pointer, through the helper: it may lie beyond the type.
#[inline(always)]
pub fn load8(pointer: u64, number: usize) -> u64 {
    let offset = offset(number);
    if offset == NO_FIELD {
        return 0;
    }
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel((opaque(pointer) + offset) as *const u8) }.map_or(0, u64::from)
}

/// Address of a field of a typed pointer; 0 if the pointer is 0 or the field absent.
#[inline(always)]
pub fn field_of(pointer: u64, number: usize) -> u64 {
    let offset = offset(number);
    if pointer == 0 || offset == NO_FIELD {
        return 0;
    }
    opaque(pointer) + offset
}

/// The reserve map that a private mapping owns, by the VMA's private data.
#[inline(always)]
pub fn resv_map(private: u64) -> Option<u64> {
    let private = opaque(private);
    let map = private & !value(value::RESV_BITS);
    (private & value(value::RESV_OWNER) != 0 && map != 0).then_some(map)
}

/// Keeps the compiler from looking through a value: it would turn a comparison into arithmetic that the verifier
/// forbids on pointers.
#[inline(always)]
pub fn opaque(v: u64) -> u64 {
    let mut v = v;
    // SAFETY: a register move. Not an empty text: it would leave two line records at one instruction, which the kernel
    // refuses.
    unsafe { asm!("{0} = {0}", inout(reg) v) };
    v
}

/// Low half of a value as a number, also of a typed pointer.
#[inline(always)]
pub fn low_half(v: u64) -> u64 {
    let low: u64;
    // SAFETY: register moves only.
    unsafe { asm!("w3 = w2", in("r2") v, out("r3") low) };
    low
}

/// Reads 8 bytes of kernel memory through the helper, for addresses that are numbers.
#[inline(always)]
pub fn read(address: u64) -> Option<u64> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const u64) }.ok()
}

/// Reads 4 bytes, as [`read`].
#[inline(always)]
pub fn read32(address: u64) -> Option<u32> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const u32) }.ok()
}

/// Address of a table's page descriptor.
#[inline(always)]
pub fn page_of(table: u64) -> u64 {
    let frame = table.wrapping_sub(value(value::PAGE_OFFSET)) >> 12;
    value(value::VMEMMAP).wrapping_add(frame.wrapping_mul(value(value::PAGE_STRUCT_BYTES)))
}

/// Address of the page-table lock of a PMD table, 0 if it cannot be told.
#[inline(always)]
pub fn ptl_of(table: u64) -> u64 {
    if offset(field::TABLE_PTL) == NO_FIELD || value(value::VMEMMAP) == 0 {
        return 0;
    }
    let at = page_of(table).wrapping_add(offset(field::TABLE_PTL));
    if value(value::PTL_IS_POINTER) != 0 { read(at).unwrap_or(0) } else { at }
}

/// Share count of a table as the kernel keeps it.
#[inline(always)]
pub fn shares_of(table: u64) -> u32 {
    if offset(field::TABLE_SHARES) == NO_FIELD || value(value::VMEMMAP) == 0 {
        return 0;
    }
    read32(page_of(table).wrapping_add(offset(field::TABLE_SHARES))).unwrap_or(0)
}

/// Reads the variables at [`PEEK_AT`] once.
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
