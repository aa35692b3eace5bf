//! Counting and sending: the CPU's counters, its ring, and the record built in the reserved slot.

use core::{arch::asm, ffi::c_void, ptr};

use aya_ebpf::{
    btf_maps::{ArrayOfMaps, PerCpuArray, RingBuf},
    helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_get_stackid, bpf_ktime_get_ns},
    macros::{btf_map, map},
    maps::StackTrace,
};
use observer_ebpf::{
    HEADER_BYTES, Header,
    config::{PerCpu, site},
    kinds, loss,
};

/// Ring size of the inner-map template in bytes; user space inserts rings of its own size.
const RING_TEMPLATE_BYTES: usize = 256 * 1024;
/// Maximum number of CPUs in the outer map.
const CPUS: usize = 1024;
/// `BPF_RB_NO_WAKEUP`: the reader polls on a timer.
const NO_WAKEUP: u64 = 1;

#[btf_map]
static RINGS: ArrayOfMaps<RingBuf<[u64; 8], RING_TEMPLATE_BYTES>, CPUS> = ArrayOfMaps::new();

/// Stacks that the kernel keeps by number; equal stacks share a number. A number is never reused, since records that user space has
/// not read yet may mean the old stack: of two stacks that hash to one number, the later is tried once more and then lost.
#[map]
static STACKS: StackTrace = StackTrace::with_max_entries(8192, 0);

/// Answer of the kernel if another stack has the number: `-EEXIST`.
const NUMBER_IS_TAKEN: i64 = -17;

#[btf_map]
static CPU: PerCpuArray<PerCpu, 1> = PerCpuArray::new();

/// 1 while the programs should record. Alone in its section, so that user space can write it separately.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data")]
static mut ENABLED: u64 = 0;

/// Returns true once all programs are attached and until user space asks to stop.
#[inline(always)]
pub fn is_enabled() -> bool {
    // SAFETY: a word that only user space writes.
    unsafe { ptr::read_volatile(&raw const ENABLED) != 0 }
}

/// Counters of the current CPU.
#[derive(Clone, Copy)]
pub struct Cpu(*mut PerCpu);

/// Adds to a counter in one instruction, so that nested programs on one CPU lose no count.
#[inline(always)]
fn add(counter: *mut u64, n: u64) {
    // SAFETY: the caller's pointer is into a map value.
    unsafe { asm!("lock *(u64 *)({c} + 0) += {n}", c = in(reg) counter, n = in(reg) n) };
}

impl Cpu {
    /// Counts a hit of `SITE` and returns this CPU's counters.
    #[inline(always)]
    pub fn hit<const SITE: usize>() -> Option<Cpu> {
        let cpu = Cpu::this()?;
        // SAFETY: a constant index below COUNT into a map value.
        add(unsafe { &raw mut (*cpu.0).hits[SITE] }, 1);
        Some(cpu)
    }

    /// Returns this CPU's counters without counting a hit.
    #[inline(always)]
    pub fn this() -> Option<Cpu> {
        CPU.get_ptr_mut(0).map(Cpu)
    }

    /// Counts an outcome of `SITE`: see [`PerCpu::outcomes`].
    #[inline(always)]
    pub fn outcome<const SITE: usize>(self) {
        // SAFETY: as in `hit`.
        add(unsafe { &raw mut (*self.0).outcomes[SITE] }, 1);
    }

    /// Counts an outcome of a site known only at run time.
    #[inline(always)]
    pub fn outcome_at(self, site: usize) {
        if site < site::COUNT {
            // SAFETY: an index below COUNT into a map value.
            add(unsafe { (&raw mut (*self.0).outcomes).cast::<u64>().add(site) }, 1);
        }
    }

    /// Counts a lost record under `REASON`.
    #[inline(always)]
    pub fn lose<const REASON: usize>(self) {
        // SAFETY: as in `hit`.
        add(unsafe { &raw mut (*self.0).lost[REASON] }, 1);
    }

    /// Returns the next sequence number. Not a single instruction: the oldest supported kernel rejects an atomic add that
    /// returns a value. Nested programs can therefore give two records one number, which readers allow for.
    #[inline(always)]
    fn sequence(self) -> u32 {
        // SAFETY: a field of a map value.
        unsafe {
            let at = &raw mut (*self.0).seq;
            let seq = ptr::read_volatile(at);
            ptr::write_volatile(at, seq + 1);
            seq as u32
        }
    }

    /// Sends a record with `WORDS` words. `site` and `kind` are wire numbers.
    #[inline(always)]
    pub fn emit<const WORDS: usize>(self, site: usize, kind: u16, arg: u32, words: [u64; WORDS]) {
        // SAFETY: no argument.
        let number = unsafe { bpf_get_smp_processor_id() };
        let Some(ring) = RINGS.get(number) else {
            self.sequence();
            self.lose::<{ loss::NO_RING }>();
            return;
        };
        let bytes = HEADER_BYTES + 8 * WORDS;
        let Some(mut slot) = ring.reserve_bytes(bytes, 0) else {
            self.sequence();
            self.lose::<{ loss::RING_FULL }>();
            return;
        };
        let record = slot.as_mut_ptr();
        let header = Header {
            // SAFETY: no argument. Read right after the reservation, so that ring order is time order.
            time_ns: unsafe { bpf_ktime_get_ns() },
            seq: self.sequence(),
            tid: bpf_get_current_pid_tgid() as u32,
            kind: kinds::on_wire(kind),
            site: site as u16,
            arg,
        };
        // SAFETY: the slot has room for the header and the words, and is 8-byte aligned.
        unsafe {
            ptr::write_volatile(record.cast::<Header>(), header);
            let mut i = 0;
            while i < WORDS {
                ptr::write_volatile(record.add(HEADER_BYTES).cast::<u64>().add(i), words[i]);
                i += 1;
            }
        }
        slot.submit(NO_WAKEUP);
    }

    /// Sends the stack of a tracing program's function, by number. It costs about 5,000 instructions: not for every event.
    #[inline(always)]
    pub fn emit_stack(self, site: usize, ctx: *const u64) {
        let stack_without = |innermost: u64| {
            // SAFETY: the context is the program's own; the map is a stack map.
            unsafe { bpf_get_stackid(ctx as *mut c_void, (&raw const STACKS) as *mut c_void, innermost) }
        };
        let mut id = stack_without(0);
        // Without the innermost frame, which is of the program, a stack hashes to another number.
        if id == NUMBER_IS_TAKEN {
            id = stack_without(1);
        }
        if id < 0 {
            self.lose::<{ loss::NO_STACK }>();
            return;
        }
        self.emit(site, kinds::STACK, id as u32, [site as u64]);
    }
}
