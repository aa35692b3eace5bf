//! The task's slot: who is inside a watched operation, what it looked up last, what it was told already.

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

/// Slots; a thread id takes the one of its low bits. Two tasks that share a slot are a counted loss.
const SLOTS: usize = 65_536;

/// State of a task that was inside a watched operation.
#[repr(C)]
pub struct Task {
    /// Its thread and process id.
    owner: u64,
    /// Watched operations it is inside, a bit each by site.
    pub open: u64,
    /// Last lookup: mm, address, pte pointer.
    pub mm: u64,
    pub addr: u64,
    pub pte: u64,
    /// mm, GiB and table of the last lookup that was sent; `UNSENT` when the next one must be.
    pub sent_mm: u64,
    pub sent_gib: u64,
    pub sent_table: u64,
    /// Lookups since then that were not sent.
    pub repeats: u64,
    /// Tables made since the last share began.
    pub allocs: u64,
    /// The open operation that may unlink, its site plus one; 0: none.
    pub unlinks_at: u64,
    /// The link that its last lookup went through: mm, GiB, table (0: none), when; `link_seen_ns` 0: of nobody else.
    pub link_mm: u64,
    pub link_gib: u64,
    pub link_table: u64,
    pub link_seen_ns: u64,
    /// Operations whose stack was sent, a bit each by site.
    pub stacks: u64,
    /// A typed pointer stored here and read back is a number.
    number: u64,
}

/// No table has this address.
pub const UNSENT: u64 = 1;

#[btf_map]
static TASKS: Array<Task, SLOTS> = Array::new();

impl Task {
    /// The value of a typed pointer as a number that arithmetic is allowed on.
    #[inline(always)]
    pub fn number(&mut self, pointer: u64) -> u64 {
        // SAFETY: a field of a map value; volatile, so that the value really goes through memory.
        unsafe {
            ptr::write_volatile(&raw mut self.number, pointer);
            ptr::read_volatile(&raw const self.number)
        }
    }

    /// The next lookup is to be sent whatever it returns.
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

/// The current task's slot if it has one already.
#[inline(always)]
pub fn current() -> Option<&'static mut Task> {
    let id = bpf_get_current_pid_tgid();
    let task = slot(id)?;
    (task.owner == id).then_some(task)
}

/// The current task's slot if it is inside a watched operation.
#[inline(always)]
pub fn in_operation() -> Option<&'static mut Task> {
    let task = current()?;
    (task.open != 0).then_some(task)
}

/// The current task's slot; taken over, with a record of who it is, if it was free.
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
        task.owner = id;
        begin(task);
        introduce(cpu, site, id);
    }
    Some(task)
}

/// A slot that is somebody else's from now on.
#[inline(always)]
fn begin(task: &mut Task) {
    task.open = 0;
    task.pte = 0;
    task.repeats = 0;
    task.unlinks_at = 0;
    task.stacks = 0;
    task.forget_sent();
}

/// Sends who the current task is.
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

/// A task exits: its slot is free again.
#[inline(always)]
pub fn exit<const SITE: usize>(ctx: *const u64) {
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    let Some(task) = current() else { return };
    let mm = kernel::load(argument(ctx, 0), field::TASK_MM);
    cpu.emit(SITE, kinds::TASK_EXIT, (bpf_get_current_pid_tgid() >> 32) as u32, [mm]);
    task.owner = 0;
    task.open = 0;
}

/// A watched task makes a child.
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

/// A watched task executes another program: it has another mm and another name from now on, and no stack that was sent is one
/// of this program.
#[inline(always)]
pub fn exec<const SITE: usize>(_: *const u64) {
    let Some(cpu) = Cpu::hit::<SITE>() else { return };
    let Some(task) = current() else { return };
    begin(task);
    introduce(cpu, SITE, bpf_get_current_pid_tgid());
}

const _: () = assert!(site::TASKS == 3);
