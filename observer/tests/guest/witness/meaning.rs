//! Interpretation of the witness's records: the lock at an address at each moment, and the counts. Pure; the same records give
//! the same counts.
//!
//! An address means a lock from the birth of the object that contains it until its death, so that reused memory is not mistaken
//! for the old object. An object that was born before the first record is unknown.

use std::collections::BTreeSet;

use super::{symbols::Symbols, trace::Record};

/// Meaning of a probe's record, with its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The number of hits is the count.
    Hits,
    /// table number (address >> 12): a lookup returned a pointer into it.
    LookedUp,
    /// caller: a PMD table is made.
    Made,
    /// table number: it is freed.
    Freed,
    /// The function returned 1.
    Unshared,
    /// inode of hugetlbfs.
    InodeBorn,
    InodeGone,
    /// semaphore, caller: it is initialised.
    SemaphoreBorn,
    /// Death of the object that contains a vma_lock.
    VmaLockGone,
    /// semaphore, caller.
    SemaphoreTaken,
    SemaphoreReleased,
    /// A fault mutex: the probe's filter passes no other mutex.
    MutexTaken,
    MutexReleased,
    /// spinlock in a struct page.
    SpinTaken,
    SpinReleased,
    /// struct page of a huge page.
    FolioBorn,
    FolioGone,
    FolioUnlocked,
    /// fault mutexes and their number, base of the struct pages, base of the direct map.
    Variables,
}

/// Variables of the kernel, as a probe read them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Variables {
    pub mutexes: u64,
    pub mutex_count: u64,
    pub vmemmap: u64,
    pub page_offset: u64,
}

/// Size of `struct page`, and the offset of the PTL in it, measured on 5.10 to 7.3.
pub const PAGE_BYTES: u64 = 64;
const PTL_OFFSET: u64 = 0x28;
/// Upper limit of an inode's size, below the distance of the semaphores of two inodes.
const INODE_BYTES: u64 = 1024;
/// Size of `refs`, `rw_sema` and `vma`.
const VMA_LOCK_BYTES: u64 = 64;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub unshares: u64,
    pub tables_made: u64,
    /// Tables among them that were made inside `huge_pmd_share`.
    pub tables_not_shared: u64,
    pub tables_freed: u64,
    pub i_mmap: Pairs,
    pub vma_lock: Pairs,
    pub mutex: Pairs,
    pub ptl: Pairs,
    pub folio_unlocks: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    pub taken: u64,
    pub released: u64,
}

/// Objects that are alive, and the counts.
#[derive(Default)]
pub struct Reading {
    pub tally: Tally,
    pub variables: Option<Variables>,
    /// Offset of `i_mmap_rwsem` in an inode of hugetlbfs, found from the lock that the sharing code takes.
    pub i_mmap_offset: Option<u64>,
    inodes: BTreeSet<u64>,
    vma_locks: BTreeSet<u64>,
    ptls: BTreeSet<u64>,
    folios: BTreeSet<u64>,
}

impl Reading {
    pub fn apply(&mut self, meaning: Meaning, record: &Record, symbols: &Symbols) {
        let [first, second, ..] = record.args;
        match meaning {
            Meaning::Hits => {}
            Meaning::LookedUp => self.ptls.extend(self.ptl(first)),
            Meaning::Made => self.made(first, symbols),
            Meaning::Freed => {
                self.tally.tables_freed += 1;
                if let Some(ptl) = self.ptl(first) {
                    self.ptls.remove(&ptl);
                }
            }
            Meaning::Unshared => self.tally.unshares += 1,
            Meaning::InodeBorn => drop(self.inodes.insert(first)),
            Meaning::InodeGone => drop(self.inodes.remove(&first)),
            Meaning::SemaphoreBorn => {
                // A private mapping has its lock in its reserve map; the lock of a file's reserve map is never taken.
                let is_vma_lock = symbols.inside(second, "hugetlb_vma_lock_alloc")
                    || symbols.inside(second, "resv_map_alloc");
                if is_vma_lock {
                    self.vma_locks.insert(first)
                } else {
                    self.vma_locks.remove(&first)
                };
            }
            Meaning::VmaLockGone => self.vma_locks.retain(|at| !(first..first + VMA_LOCK_BYTES).contains(at)),
            Meaning::SemaphoreTaken => {
                self.learn_offset(first, second, symbols);
                if let Some(pairs) = self.semaphore(first) {
                    pairs.taken += 1;
                }
            }
            Meaning::SemaphoreReleased => {
                if let Some(pairs) = self.semaphore(first) {
                    pairs.released += 1;
                }
            }
            Meaning::MutexTaken => self.tally.mutex.taken += 1,
            Meaning::MutexReleased => self.tally.mutex.released += 1,
            Meaning::SpinTaken => self.tally.ptl.taken += u64::from(self.ptls.contains(&first)),
            Meaning::SpinReleased => self.tally.ptl.released += u64::from(self.ptls.contains(&first)),
            Meaning::FolioBorn => drop(self.is_page(first) && self.folios.insert(first)),
            Meaning::FolioGone => drop(self.folios.remove(&first)),
            Meaning::FolioUnlocked => self.tally.folio_unlocks += u64::from(self.folios.contains(&first)),
            Meaning::Variables => {
                let [mutexes, mutex_count, vmemmap, page_offset] = record.args;
                self.variables = Some(Variables { mutexes, mutex_count, vmemmap, page_offset });
            }
        }
    }

    fn made(&mut self, caller: u64, symbols: &Symbols) {
        let not_shared = symbols.inside(caller, "huge_pmd_share");
        self.tally.tables_not_shared += u64::from(not_shared);
        self.tally.tables_made += u64::from(not_shared || symbols.inside(caller, "huge_pte_alloc"));
    }

    /// The PTL of a page table that is given by its number: address >> 12.
    fn ptl(&self, table: u64) -> Option<u64> {
        let variables = self.variables?;
        // Null, or an error instead of a pointer.
        let page = table.checked_sub(variables.page_offset >> 12)?;
        (table < variables.vmemmap >> 12).then(|| variables.vmemmap + page * PAGE_BYTES + PTL_OFFSET)
    }

    /// True for a struct page, false for an error that an allocation returned.
    fn is_page(&self, address: u64) -> bool {
        self.variables.is_some_and(|v| (v.vmemmap..u64::MAX - 4096).contains(&address))
    }

    /// Learns the offset from a lock: the sharing code takes no other lock that lies in an inode.
    fn learn_offset(&mut self, lock: u64, caller: u64, symbols: &Symbols) {
        if self.i_mmap_offset.is_some() {
            return;
        }
        let inode = self.inodes.range(..=lock).next_back().copied();
        let offset = inode.map(|inode| lock - inode).filter(|&offset| offset < INODE_BYTES);
        let sharing = || symbols.inside(caller, "huge_pmd_share") || symbols.inside(caller, "hugetlb_fault");
        self.i_mmap_offset = offset.filter(|_| sharing());
    }

    fn semaphore(&mut self, lock: u64) -> Option<&mut Pairs> {
        let inode = self.i_mmap_offset.and_then(|offset| lock.checked_sub(offset));
        if inode.is_some_and(|inode| self.inodes.contains(&inode)) {
            return Some(&mut self.tally.i_mmap);
        }
        self.vma_locks.contains(&lock).then_some(&mut self.tally.vma_lock)
    }
}
