//! Locks as in the kernel: readers, a writer, and readers that wait behind a queued writer.
//!
//! Decides which task holds a lock. `kernel` decides which events show it.

use std::collections::BTreeMap;

use observer_engine::event::{Class, Mode};

use super::kernel::TaskNo;

/// A lock by what it belongs to. A VMA is named by its mm and slot, a page-table lock by the address of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lock {
    Mmap(usize),
    Vma(usize, usize),
    /// The VMA's own lock, by mm and slot. No probe sees it.
    PerVma(usize, usize),
    IMmap,
    Fault,
    Ptl(u64),
}

impl Lock {
    pub fn class(self) -> Class {
        match self {
            // It has no class of its own: it is a part of the mm's lock.
            Lock::Mmap(_) | Lock::PerVma(..) => Class::MmapLock,
            Lock::Vma(..) => Class::VmaLock,
            Lock::IMmap => Class::IMmap,
            Lock::Fault => Class::FaultMutex,
            Lock::Ptl(_) => Class::Ptl,
        }
    }

    pub fn addr(self) -> u64 {
        match self {
            Lock::Mmap(mm) => 0x1_0000 + 0x40 * mm as u64,
            Lock::Vma(mm, vma) => 0x2_0000 + 0x400 * mm as u64 + 0x40 * vma as u64,
            Lock::PerVma(mm, vma) => 0x6_0000 + 0x400 * mm as u64 + 0x40 * vma as u64,
            Lock::IMmap => 0x3_0000,
            Lock::Fault => 0x3_1000,
            Lock::Ptl(table) => 0x4_0000_0000 + (table >> 6),
        }
    }
}

/// Holders of a lock, and the task that waits to write.
#[derive(Clone, Debug, Default)]
struct State {
    readers: Vec<TaskNo>,
    writer: Option<TaskNo>,
    queued_writers: Vec<TaskNo>,
}

/// All locks.
#[derive(Clone, Debug, Default)]
pub struct Locks(BTreeMap<Lock, State>);

impl Locks {
    /// The task queues: from now on readers wait behind it if it wants to write.
    pub fn queue(&mut self, task: TaskNo, lock: Lock, mode: Mode) {
        if mode != Mode::Read {
            self.0.entry(lock).or_default().queued_writers.push(task);
        }
    }

    pub fn is_free(&self, lock: Lock, mode: Mode, task: TaskNo) -> bool {
        let Some(state) = self.0.get(&lock) else { return true };
        let others_queue = state.queued_writers.iter().any(|t| *t != task);
        let is_next = state.queued_writers.first().is_none_or(|first| *first == task);
        // A spinlock is granted in the order of the requests.
        if matches!(lock, Lock::Ptl(_)) && !is_next {
            return false;
        }
        match mode {
            Mode::Read => state.writer.is_none() && !others_queue,
            Mode::Write | Mode::Exclusive => state.writer.is_none() && state.readers.is_empty(),
        }
    }

    pub fn take(&mut self, task: TaskNo, lock: Lock, mode: Mode) {
        assert!(self.is_free(lock, mode, task), "{lock:?} is taken");
        let state = self.0.entry(lock).or_default();
        state.queued_writers.retain(|t| *t != task);
        match mode {
            Mode::Read => state.readers.push(task),
            Mode::Write | Mode::Exclusive => state.writer = Some(task),
        }
    }

    pub fn release(&mut self, task: TaskNo, lock: Lock) {
        let state = self.0.get_mut(&lock).expect("it was taken");
        if state.writer == Some(task) {
            state.writer = None;
        } else {
            let at = state.readers.iter().position(|t| *t == task).expect("it was taken");
            state.readers.remove(at);
        }
    }

    pub fn downgrade(&mut self, task: TaskNo, lock: Lock) {
        let state = self.0.get_mut(&lock).expect("it was taken");
        assert_eq!(state.writer.take(), Some(task));
        state.readers.push(task);
    }
}
