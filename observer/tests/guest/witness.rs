//! An independent witness of page-table sharing: tracefs kprobe and kretprobe events, distinguished by address.
//!
//! It shares no code with observer and uses none of its facts. It finds locks by their birth and by the functions that take
//! them, and the rest by return values and return addresses. The set of probes depends on the kernel's symbols. A measure that
//! cannot be counted on a kernel is `None`.
//!
//! Shares are entries of `huge_pmd_share` minus the tables that were made inside it (`__pmd_alloc` called from there). "Taken"
//! counts calls, also those of a trylock that failed.

mod calibrate;
mod meaning;
mod symbols;
pub mod trace;

use std::{cell::RefCell, collections::BTreeMap};

use anyhow::{Context as _, Result, ensure};

use meaning::{Meaning, PAGE_BYTES, Reading, Tally, Variables};
use symbols::Symbols;
use trace::{Profile, Trace};

/// Counts since the start. Two of them can be subtracted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    measures: Vec<(&'static str, Option<u64>)>,
    /// Hits by function, under the requested name.
    pub functions: BTreeMap<String, Option<u64>>,
}

impl Counts {
    pub fn measures(&self) -> Vec<(&'static str, Option<u64>)> {
        self.measures.clone()
    }

    /// One of the measures; 0 if it cannot be counted on this kernel.
    pub fn get(&self, name: &str) -> u64 {
        self.measures.iter().find(|(n, _)| *n == name).and_then(|(_, count)| *count).unwrap_or(0)
    }

    /// Counts since `before`.
    pub fn since(&self, before: &Counts) -> Counts {
        let less = |a: Option<u64>, b: Option<u64>| Some(a? - b?);
        let measures = self.measures.iter().zip(&before.measures);
        let functions = self.functions.iter().zip(before.functions.values());
        Counts {
            measures: measures.map(|(&(name, a), &(_, b))| (name, less(a, b))).collect(),
            functions: functions.map(|((name, &a), &b)| (name.clone(), less(a, b))).collect(),
        }
    }
}

/// Probes that count until dropped.
pub struct Witness {
    trace: Trace,
    symbols: Symbols,
    /// Meaning of each probe's records, by its number.
    meanings: Vec<Meaning>,
    /// Probes that each count one function.
    functions: BTreeMap<String, Option<usize>>,
    lookups: [usize; 2],
    share: usize,
    /// Hits of each probe before the start.
    before: Vec<u64>,
    reading: RefCell<Reading>,
}

/// A probe: kind, function, fetched arguments, filter of its records, and their meaning.
type Row<'a> = (&'a str, &'a str, &'a str, &'a str, Meaning);

/// Instances of a return probe: the number of tasks that may sleep in the function.
const RETURN: &str = "r64";
const TABLE: &str = " table=$retval:b52@12/64";
const LOCK: &str = " lock=%di:x64";
const LOCK_AND_CALLER: &str = " lock=%di:x64 caller=$stack0:x64";
const VARIABLES: &str = " mutexes=@hugetlb_fault_mutex_table:x64 count=@num_fault_mutexes:u32 \
                         vmemmap=@vmemmap_base:x64 page_offset=@page_offset_base:x64";
/// Bytes of memory whose struct pages are recognised: guests have less.
const MEMORY_BYTES: u64 = 64 << 30;
/// Size of a mutex without debugging, as in all stock kernels.
const MUTEX_BYTES: u64 = 32;

/// Probes that are always needed and exist on all kernels.
const FIRST: &[Row] = &[
    ("p", "hugetlb_fault", VARIABLES, "", Meaning::Variables),
    (RETURN, "hugetlbfs_alloc_inode", " inode=$retval:x64", "", Meaning::InodeBorn),
    ("p", "hugetlbfs_destroy_inode", " inode=%di:x64", "", Meaning::InodeGone),
    ("p", "__init_rwsem", LOCK_AND_CALLER, "", Meaning::SemaphoreBorn),
    ("p", "down_read", LOCK_AND_CALLER, "", Meaning::SemaphoreTaken),
    ("p", "down_read_killable", LOCK, "", Meaning::SemaphoreTaken),
    ("p", "down_read_trylock", LOCK, "", Meaning::SemaphoreTaken),
    ("p", "down_write", LOCK, "", Meaning::SemaphoreTaken),
    ("p", "down_write_killable", LOCK, "", Meaning::SemaphoreTaken),
    ("p", "down_write_trylock", LOCK, "", Meaning::SemaphoreTaken),
    ("p", "up_read", LOCK, "", Meaning::SemaphoreReleased),
    ("p", "up_write", LOCK, "", Meaning::SemaphoreReleased),
    (RETURN, "huge_pte_alloc", TABLE, "", Meaning::LookedUp),
    (RETURN, "huge_pte_offset", TABLE, "", Meaning::LookedUp),
    ("p", "__pmd_alloc", " caller=$stack0:x64", "", Meaning::Made),
    ("p", "___pmd_free_tlb", " table=%si:b52@12/64", "", Meaning::Freed),
];

/// Folio functions; a kernel has those of its version.
const FOLIOS: &[Row] = &[
    (RETURN, "alloc_huge_page", " page=$retval:x64", "", Meaning::FolioBorn),
    (RETURN, "alloc_huge_page_vma", " page=$retval:x64", "", Meaning::FolioBorn),
    (RETURN, "alloc_huge_page_nodemask", " page=$retval:x64", "", Meaning::FolioBorn),
    (RETURN, "alloc_hugetlb_folio", " page=$retval:x64", "", Meaning::FolioBorn),
    (RETURN, "alloc_hugetlb_folio_nodemask", " page=$retval:x64", "", Meaning::FolioBorn),
    (RETURN, "alloc_hugetlb_folio_reserve", " page=$retval:x64", "", Meaning::FolioBorn),
    ("p", "free_huge_page", " page=%di:x64", "", Meaning::FolioGone),
    ("p", "free_huge_folio", " page=%di:x64", "", Meaning::FolioGone),
    ("p", "hugetlb_vma_lock_release", " holder=%di:x64", "", Meaning::VmaLockGone),
];

impl Witness {
    /// Sets up the probes and starts counting; also counts the entries of `functions`.
    ///
    /// Existing files and mappings are unknown: their locks are not counted.
    pub fn start(functions: &[String]) -> Result<Witness> {
        let mut trace = Trace::new()?;
        let symbols = Symbols::read()?;
        let lookups = [trace.count("huge_pte_alloc")?, trace.count("huge_pte_offset")?];
        let share = trace.count("huge_pmd_share")?;
        let asked: BTreeMap<String, Option<usize>> =
            functions.iter().map(|name| (name.clone(), trace.count(name).ok())).collect();
        let mut witness = Witness {
            trace,
            symbols,
            meanings: Vec::new(),
            functions: asked,
            lookups,
            share,
            before: Vec::new(),
            reading: RefCell::default(),
        };
        witness.probe_all()?;
        witness.before = witness.trace.profiles()?.iter().map(|profile| profile.hits).collect();
        Ok(witness)
    }

    fn probe_all(&mut self) -> Result<()> {
        for row in FIRST {
            self.probe(row)?;
        }
        let here: Vec<_> = FOLIOS.iter().filter(|row| self.symbols.has(row.1)).collect();
        for row in here {
            self.probe(row)?;
        }
        calibrate::fault()?;
        self.read()?;
        let variables = self.reading.borrow().variables.context("the kernel's variables did not show")?;
        ensure!(self.reading.borrow().i_mmap_offset.is_some(), "no i_mmap_rwsem was taken where it must be");
        self.probe_filtered(variables)?;
        // Counts before this point are discarded.
        self.reading.borrow_mut().tally = Tally::default();
        Ok(())
    }

    /// Sets up the probes that need the kernel's variables: their functions serve all tasks, and are filtered by address.
    fn probe_filtered(&mut self, variables: Variables) -> Result<()> {
        let between = |from: u64, bytes: u64| format!("lock >= {from:#x} && lock < {:#x}", from + bytes);
        let mutexes = between(variables.mutexes, variables.mutex_count * MUTEX_BYTES);
        let pages = between(variables.vmemmap, MEMORY_BYTES / 4096 * PAGE_BYTES);
        let body = self.symbols.unshare()?.to_owned();
        let unlock = self.symbols.either("folio_unlock", "unlock_page").context("no unlock of folios")?;
        self.probe(&(RETURN, &body, " ret=$retval:u32", "ret == 1", Meaning::Unshared))?;
        self.probe(&("p", "mutex_lock", LOCK, &mutexes, Meaning::MutexTaken))?;
        self.probe(&("p", "mutex_trylock", LOCK, &mutexes, Meaning::MutexTaken))?;
        self.probe(&("p", "mutex_unlock", LOCK, &mutexes, Meaning::MutexReleased))?;
        self.probe(&("p", "_raw_spin_lock", LOCK, &pages, Meaning::SpinTaken))?;
        if self.symbols.has("_raw_spin_unlock") {
            self.probe(&("p", "_raw_spin_unlock", LOCK, &pages, Meaning::SpinReleased))?;
        }
        self.probe(&("p", unlock, " page=%di:x64", "", Meaning::FolioUnlocked))
    }

    fn probe(&mut self, &(kind, symbol, args, filter, meaning): &Row) -> Result<()> {
        let n = self.trace.probe(kind, symbol, args, filter)?;
        self.meanings.resize(n, Meaning::Hits);
        self.meanings.push(meaning);
        Ok(())
    }

    /// Applies the records of the probes.
    fn read(&self) -> Result<()> {
        let mut reading = self.reading.borrow_mut();
        for record in self.trace.drain()? {
            reading.apply(self.meanings[record.probe], &record, &self.symbols);
        }
        Ok(())
    }

    /// Checks the missed hits. Two probes may miss: an interrupt during a probe's handler may take spinlocks, whose probes do
    /// not run then. None of these spinlocks is a PTL, and no task is inside a handler when it takes one.
    fn check_misses(&self, profiles: &[Profile]) -> Result<()> {
        for (n, profile) in profiles.iter().enumerate() {
            let meaning = self.meanings.get(n);
            let by_interrupts = matches!(meaning, Some(Meaning::SpinTaken | Meaning::SpinReleased));
            ensure!(
                by_interrupts || profile.misses == 0,
                "the witness itself missed {} of {n} ({meaning:?})",
                profile.misses
            );
        }
        Ok(())
    }

    /// The counts so far. Call it when no task is active: records and hits are not read at the same moment.
    pub fn counts(&self) -> Result<Counts> {
        self.read()?;
        let profiles = self.trace.profiles()?;
        self.check_misses(&profiles)?;
        let hits = |probe: usize| profiles[probe].hits - self.before[probe];
        let tally = self.reading.borrow().tally;
        let has = |meaning| self.meanings.contains(&meaning);
        let when = |there: bool, count: u64| there.then_some(count);
        let vma_lock = self.symbols.has("hugetlb_vma_lock_read");
        // With PREEMPT_RT a PTL sleeps, lies elsewhere and is taken by functions that are not probed here.
        let sleeps = self.symbols.has("rt_spin_lock");
        let measures = vec![
            ("lookup", Some(self.lookups.into_iter().map(hits).sum())),
            ("share", Some(hits(self.share) - tally.tables_not_shared)),
            ("unshare", Some(tally.unshares)),
            ("table-alloc", Some(tally.tables_made)),
            ("table-free", Some(tally.tables_freed)),
            ("i_mmap_rwsem", Some(tally.i_mmap.taken)),
            ("i_mmap_rwsem released", Some(tally.i_mmap.released)),
            ("vma_lock", when(vma_lock, tally.vma_lock.taken)),
            ("vma_lock released", when(vma_lock, tally.vma_lock.released)),
            ("fault_mutex", Some(tally.mutex.taken)),
            ("fault_mutex released", Some(tally.mutex.released)),
            ("ptl", when(!sleeps, tally.ptl.taken)),
            // The function is inline in kernels without a symbol for it, such as 5.10.
            ("ptl released", when(!sleeps && has(Meaning::SpinReleased), tally.ptl.released)),
            ("folio-release", when(has(Meaning::FolioBorn), tally.folio_unlocks)),
        ];
        let functions = self.functions.iter().map(|(name, probe)| (name.clone(), probe.map(hits))).collect();
        Ok(Counts { measures, functions })
    }
}
