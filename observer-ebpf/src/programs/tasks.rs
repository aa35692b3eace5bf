//! The task's slot: its open operations, its last lookup, and the records already sent for it.

use core::ptr;

use aya_ebpf::{
    btf_maps::Array,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task},
    macros::btf_map,
};
use aya_log_ebpf::debug;
use observer_ebpf::{
    config::{NO_FIELD, field, site},
    kinds, loss,
};

use crate::{
    emit::Cpu,
    kernel::{self, argument},
};

/// Number of slots; a thread id's low bits select one. Two tasks that need the same slot are a counted loss.
const SLOTS: usize = 65_536;

/// State of a task that was inside a watched operation.
#[repr(C)]
pub struct Task {
    /// Thread and process id of the task.
    owner: u64,
    /// Watched operations that the task is inside, one bit per site.
    pub open: u64,
    /// The task's last lookup: mm, address, pte pointer.
    pub mm: u64,
    pub addr: u64,
    pub pte: u64,
    /// The last lookup that was sent: mm, GiB, table. `UNSENT` forces the next one to be sent.
    pub sent_mm: u64,
    pub sent_gib: u64,
    pub sent_table: u64,
    /// Lookups since then that were not sent.
    pub repeats: u64,
    /// Tables allocated since the operation began, the last lookup or the last attempt to share.
    pub allocs: u64,
    /// Site plus one of the open operation that may unlink; 0 if there is not one.
    pub unlinks_at: u64,
    /// Link of the last lookup: mm, GiB, table (0: no table) and time; `link_seen_ns` 0: the table has no other user.
    pub link_mm: u64,
    pub link_gib: u64,
    pub link_table: u64,
    pub link_seen_ns: u64,
    /// Operations whose stack was sent, one bit per site.
    pub stacks: u64,
    /// 1 once the slot passed from one living task to another. Nothing resets it.
    displaced: u64,
    /// Scratch: a typed pointer stored here and read back is a number.
    number: u64,
}

/// Marker in `sent_table`; no table has this address.
pub const UNSENT: u64 = 1;

#[btf_map]
static TASKS: Array<Task, SLOTS> = Array::new();

impl Task {
    /// Returns the value of a typed pointer as a number that allows arithmetic.
    #[inline(always)]
    pub fn number(&mut self, pointer: u64) -> u64 {
        // SAFETY: a field of a map value; volatile, so that the value really goes through memory.
        unsafe {
            ptr::write_volatile(&raw mut self.number, pointer);
            ptr::read_volatile(&raw const self.number)
        }
    }

    /// Forces the next lookup to be sent, even if it repeats the last one.
    #[inline(always)]
    pub fn forget_sent(&mut self) {
        self.sent_table = UNSENT;
    }
}

#[inline(always)]
fn slot(id: u64) -> Option<&'static mut Task> {
    let slot = TASKS.get_ptr_mut(id as u32 & (SLOTS as u32 - 1))?;
    // SAFETY: a map value of this task; programs that nest on it touch other fields.
    Some(unsafe { &mut *slot })
}

/// Returns the current task's slot, if it owns one.
#[inline(always)]
pub fn current() -> Option<&'static mut Task> {
    let id = bpf_get_current_pid_tgid();
    let task = slot(id)?;
    (task.owner == id).then_some(task)
}

/// Returns the current task's slot, if it is inside a watched operation.
#[inline(always)]
pub fn in_operation() -> Option<&'static mut Task> {
    let task = current()?;
    (task.open != 0).then_some(task)
}

/// Returns the current task's slot. Takes over a free slot or an idle task's, and sends a record that introduces the task.
#[inline(always)]
pub fn claim(cpu: Cpu, site: usize) -> Option<&'static mut Task> {
    let id = bpf_get_current_pid_tgid();
    let task = slot(id)?;
    if task.owner != id {
        if task.owner != 0 && task.open != 0 {
            cpu.lose::<{ loss::SLOT_BUSY }>();
            debug!((), "site {}: the slot of task {} is another's", site, id as u32);
            return None;
        }
        if task.owner != 0 {
            task.displaced = 1;
        }
        task.owner = id;
        begin(task);
        introduce(cpu, site, id);
    }
    Some(task)
}

/// Resets a slot for its new owner.
#[inline(always)]
fn begin(task: &mut Task) {
    task.open = 0;
    task.pte = 0;
    task.repeats = 0;
    task.unlinks_at = 0;
    task.stacks = 0;
    task.forget_sent();
}

/// Sends a record that identifies the current task.
#[inline(always)]
fn introduce(cpu: Cpu, site: usize, id: u64) {
    let comm = bpf_get_current_comm().unwrap_or([0; 16]);
    let half = |at: usize| {
        u64::from_le_bytes([
            comm[at],
            comm[at + 1],
            comm[at + 2],
            comm[at + 3],
            comm[at + 4],
            comm[at + 5],
            comm[at + 6],
            comm[at + 7],
        ])
    };
    let at = kernel::offset(field::TASK_MM);
    let mm = if at == NO_FIELD {
        0
    } else {
        // SAFETY: no argument.
        kernel::read(unsafe { bpf_get_current_task() } + at).unwrap_or(0)
    };
    cpu.emit(site, kinds::TASK, (id >> 32) as u32, [half(0), half(8), mm]);
}

/// Records a task's exit and frees its slot. A task without a slot may be one whose slot another task took: its exit is recorded
/// too, else it would exist for ever.
#[inline(always)]
pub fn exit<const SITE: usize>(ctx: *const u64) {
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    let id = bpf_get_current_pid_tgid();
    let Some(task) = slot(id) else { return };
    if task.owner != id && task.displaced == 0 {
        return;
    }
    let mm = kernel::load(argument(ctx, 0), field::TASK_MM);
    cpu.emit(SITE, kinds::TASK_EXIT, (id >> 32) as u32, [mm]);
    if task.owner == id {
        task.owner = 0;
        task.open = 0;
    }
}

/// Records the child that a watched task creates.
#[inline(always)]
pub fn fork<const SITE: usize>(ctx: *const u64) {
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    if current().is_none() {
        return;
    }
    let child = argument(ctx, 1);
    cpu.emit(
        SITE,
        kinds::FORK,
        kernel::load32(child, field::TASK_PID),
        [u64::from(kernel::load32(child, field::TASK_TGID))],
    );
}

/// Handles a watched task that executes another program: it has a new mm and name, and the stacks sent so far belong to the
/// old program.
#[inline(always)]
pub fn exec<const SITE: usize>(_: *const u64) {
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    let Some(task) = current() else { return };
    begin(task);
    introduce(cpu, SITE, bpf_get_current_pid_tgid());
}

const _: () = assert!(site::TASKS == 3);
