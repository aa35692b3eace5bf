//! The eBPF programs. They read arguments, take timestamps and emit records; they judge nothing.
//!
//! Programs come in families ([`observer_ebpf::config::site`]). The copies of a family differ only in their site number.
//! Constant tables, filled by user space before loading, define which arguments a copy reads. The copies exist because the
//! kernel attaches a tracing program to one function only.
//!
//! Nothing is counted or sent before the last program is attached, or after user space asks to stop. So a lock that is seen
//! being acquired is also seen being released.
//!
//! Order in every program: count the hit, filter, look at the task, emit. Dropping a record counts a reason
//! ([`observer_ebpf::loss`]).
#![no_std]
#![no_main]
// Inline assembly for BPF is not stable; the build sets RUSTC_BOOTSTRAP for build-std anyway.
#![feature(asm_experimental_arch)]

#[path = "programs/emit.rs"]
mod emit;
#[path = "programs/entries.rs"]
mod entries;
#[path = "programs/folios.rs"]
mod folios;
#[path = "programs/kernel.rs"]
mod kernel;
#[path = "programs/lock_table.rs"]
mod lock_table;
#[path = "programs/locks.rs"]
mod locks;
#[path = "programs/operations.rs"]
mod operations;
#[path = "programs/tables.rs"]
mod tables;
#[path = "programs/tasks.rs"]
mod tasks;

use aya_ebpf::{
    EbpfContext as _,
    macros::{btf_tracepoint, fentry, fexit, kprobe, kretprobe, raw_tracepoint},
    programs::{
        BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, RawTracePointContext,
        RetProbeContext,
    },
};
use observer_ebpf::config::site;

/// Generates the copies of a family: copy `index` calls the body with the family's first site number plus `index`.
macro_rules! programs {
    ($kind:ident $context:ident $module:ident::$body:ident $(<$way:ident>)?, $first:ident;
     $($index:literal $name:ident)+) => { programs! { @each $kind $context ($module::$body) [$($way)?] $first; $($index $name)+ } };
    (@each $kind:ident $context:ident ($module:ident::$body:ident) [] $first:ident; $($index:literal $name:ident)+) => { $(
        #[$kind]
        fn $name(ctx: $context) -> i32 {
            if emit::is_enabled() {
                $module::$body::<{ site::$first + $index }>(ctx.as_ptr().cast());
            }
            0
        }
    )+ };
    (@each $kind:ident $context:ident ($module:ident::$body:ident) [$way:ident] $first:ident;
     $($index:literal $name:ident)+) => { $(
        #[$kind]
        fn $name(ctx: $context) -> u32 {
            if emit::is_enabled() {
                $module::$body::<{ site::$first + $index }, kernel::$way>(ctx.as_ptr().cast());
            }
            0
        }
    )+ };
}

programs! { fentry FEntryContext operations::begin<Traced>, OP;
0 op_begin_0 1 op_begin_1 2 op_begin_2 3 op_begin_3 4 op_begin_4 5 op_begin_5 6 op_begin_6 7 op_begin_7
8 op_begin_8 9 op_begin_9 10 op_begin_10 11 op_begin_11 12 op_begin_12 13 op_begin_13 14 op_begin_14
15 op_begin_15 16 op_begin_16 17 op_begin_17 18 op_begin_18 19 op_begin_19 20 op_begin_20 21 op_begin_21
22 op_begin_22 23 op_begin_23 24 op_begin_24 25 op_begin_25 26 op_begin_26 27 op_begin_27 28 op_begin_28
29 op_begin_29 30 op_begin_30 31 op_begin_31 32 op_begin_32 33 op_begin_33 34 op_begin_34 35 op_begin_35
36 op_begin_36 37 op_begin_37 38 op_begin_38 39 op_begin_39 40 op_begin_40 41 op_begin_41 42 op_begin_42
43 op_begin_43 44 op_begin_44 45 op_begin_45 46 op_begin_46 47 op_begin_47 48 op_begin_48 49 op_begin_49
50 op_begin_50 51 op_begin_51 }
programs! { fexit FExitContext operations::end<Traced>, OP;
0 op_end_0 1 op_end_1 2 op_end_2 3 op_end_3 4 op_end_4 5 op_end_5 6 op_end_6 7 op_end_7 8 op_end_8 9 op_end_9
10 op_end_10 11 op_end_11 12 op_end_12 13 op_end_13 14 op_end_14 15 op_end_15 16 op_end_16 17 op_end_17
18 op_end_18 19 op_end_19 20 op_end_20 21 op_end_21 22 op_end_22 23 op_end_23 24 op_end_24 25 op_end_25
26 op_end_26 27 op_end_27 28 op_end_28 29 op_end_29 30 op_end_30 31 op_end_31 32 op_end_32 33 op_end_33
34 op_end_34 35 op_end_35 36 op_end_36 37 op_end_37 38 op_end_38 39 op_end_39 40 op_end_40 41 op_end_41
42 op_end_42 43 op_end_43 44 op_end_44 45 op_end_45 46 op_end_46 47 op_end_47 48 op_end_48 49 op_end_49
50 op_end_50 51 op_end_51 }
programs! { kprobe ProbeContext operations::begin<Probed>, OP_PROBED;
0 op_enter_0 1 op_enter_1 2 op_enter_2 3 op_enter_3 4 op_enter_4 5 op_enter_5 6 op_enter_6 7 op_enter_7 }
programs! { kretprobe RetProbeContext operations::end<Probed>, OP_PROBED;
0 op_leave_0 1 op_leave_1 2 op_leave_2 3 op_leave_3 4 op_leave_4 5 op_leave_5 6 op_leave_6 7 op_leave_7 }

programs! { fexit FExitContext operations::begin<Traced>, WALK; 0 walk_begin_0 1 walk_begin_1 }
programs! { fentry FEntryContext operations::end<Traced>, WALK; 0 walk_end_0 1 walk_end_1 }

programs! { fexit FExitContext tables::lookup, LOOKUP; 0 lookup_0 1 lookup_1 2 lookup_2 3 lookup_3 }
programs! { fexit FExitContext tables::share, SHARE; 0 share_0 }
programs! { fexit FExitContext tables::alloc, TABLE_ALLOC; 0 table_alloc_0 }
programs! { fentry FEntryContext tables::free, TABLE_FREE; 0 table_free_0 }

programs! { fexit FExitContext tables::unshare<Traced>, UNSHARE; 0 unshare_0 1 unshare_1 }
programs! { kretprobe RetProbeContext tables::unshare<Probed>, UNSHARE; 0 unshare_leave_0 1 unshare_leave_1 }

programs! { fentry FEntryContext locks::ask, ASK;
0 ask_0 1 ask_1 2 ask_2 3 ask_3 4 ask_4 5 ask_5 6 ask_6 7 ask_7 }
programs! { fexit FExitContext locks::ask_end, ASK;
0 ask_end_0 1 ask_end_1 2 ask_end_2 3 ask_end_3 4 ask_end_4 5 ask_end_5 6 ask_end_6 7 ask_end_7 }
programs! { fexit FExitContext locks::trylock, TRY; 0 try_0 1 try_1 2 try_2 3 try_3 }
programs! { fentry FEntryContext locks::release, RELEASE; 0 release_0 1 release_1 2 release_2 3 release_3 }
programs! { fentry FEntryContext locks::downgrade, DOWNGRADE; 0 downgrade_0 }
programs! { fentry FEntryContext locks::spin_lock, SPIN_LOCK; 0 spin_lock_0 1 spin_lock_1 }
programs! { fentry FEntryContext locks::spin_unlock, SPIN_UNLOCK; 0 spin_unlock_0 1 spin_unlock_1 }
programs! { btf_tracepoint BtfTracePointContext locks::wait, WAIT; 0 wait_0 1 wait_1 }
programs! { fentry FEntryContext locks::object_end, OBJECT_END; 0 object_end_0 1 object_end_1 2 object_end_2 }

programs! { fentry FEntryContext folios::lookup_begin, FOLIO_LOOKUP;
0 folio_ask_0 1 folio_ask_1 }
programs! { fexit FExitContext folios::lookup_end, FOLIO_LOOKUP;
0 folio_got_0 1 folio_got_1 }
programs! { fentry FEntryContext folios::contract, FOLIO_CONTRACT;
0 contract_0 1 contract_1 2 contract_2 3 contract_3 4 contract_4 5 contract_5 6 contract_6 7 contract_7
8 contract_8 9 contract_9 10 contract_10 11 contract_11 12 contract_12 13 contract_13 14 contract_14
15 contract_15 16 contract_16 17 contract_17 18 contract_18 19 contract_19 }
programs! { fentry FEntryContext folios::slow_begin, FOLIO_SLOW;
0 folio_wait_0 1 folio_wait_1 2 folio_wait_2 }
programs! { fexit FExitContext folios::slow_end, FOLIO_SLOW;
0 folio_woken_0 1 folio_woken_1 2 folio_woken_2 }
programs! { fentry FEntryContext folios::unlock, FOLIO_UNLOCK; 0 folio_unlock_0 }

programs! { btf_tracepoint BtfTracePointContext tasks::exit, TASK; 0 task_exit }
programs! { btf_tracepoint BtfTracePointContext tasks::fork, TASK; 1 task_fork }
programs! { btf_tracepoint BtfTracePointContext tasks::exec, TASK; 2 task_exec }

/// Reads kernel variables that the other programs need as constants; attached briefly before them.
#[raw_tracepoint]
fn peek(_ctx: RawTracePointContext) -> i32 {
    kernel::peek();
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// SAFETY: a plain section with the licence string that the helpers require.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
