//! Values that user space sets before the programs are loaded, and the site numbers.
//!
//! The values become read-only globals, which the verifier treats as constants. Roles are therefore bound to argument numbers
//! and field offsets at load time, and code for absent ones is pruned.

/// Means "no such argument" in [`arg`] tables.
pub const NO_ARG: u16 = 0xff;
/// Means "this kernel has no such field" in the table of [`field`]s.
pub const NO_FIELD: u64 = u64::MAX;

/// Columns of the table `ARGS`, which has one row per site. Each value except flags and mode is an argument number of the
/// site's function, or [`NO_ARG`]. The return value's slot follows the last argument.
pub mod arg {
    /// The mm, if an argument is one; the mapping for folio sites.
    pub const MM: usize = 0;
    /// The VMA; with [`flag::VMA_IN_WALK`], the `mm_walk` that points to it.
    pub const VMA: usize = 1;
    /// First address; the object itself for locks and folios.
    pub const START: usize = 2;
    /// End of the range, exclusive; with [`flag::END_IS_LENGTH`] its length; the mask of a callback's page size.
    pub const END: usize = 3;
    /// Depends on the role: the pte pointer passed to a callback; a lookup's page size; a page-cache lookup's flags; an
    /// operation's file, inode or directory entry.
    pub const EXTRA: usize = 4;
    /// Slot of the return value; [`super::NO_ARG`] for a void function.
    pub const RET: usize = 5;
    /// Bits from [`super::flag`], not an argument number.
    pub const FLAGS: usize = 6;
    /// Lock mode of a lock site.
    pub const MODE: usize = 7;
    /// Number of columns in a row.
    pub const COUNT: usize = 8;
}

/// Bits of column [`arg::FLAGS`].
pub mod flag {
    /// The argument in column `VMA` is a `struct mm_walk`.
    pub const VMA_IN_WALK: u16 = 1 << 0;
    /// Column `END` is a length.
    pub const END_IS_LENGTH: u16 = 1 << 1;
    /// Compare the upper-level entries behind the function's lookups (see `programs/entries.rs`).
    pub const DIFF: u16 = 1 << 2;
    /// The function is a callback that receives a pte pointer.
    pub const CALLBACK: u16 = 1 << 3;
    /// The return value has 32 bits.
    pub const RET_32: u16 = 1 << 4;
    /// The ending object is an inode.
    pub const ENDS_INODE: u16 = 1 << 5;
    /// The ending object is a VMA.
    pub const ENDS_VMA: u16 = 1 << 6;
    /// Operation without a VMA: observe it only if the lock of its mm is already watched.
    pub const KNOWN_MM: u16 = 1 << 7;
    /// Column `EXTRA` of an operation is a file.
    pub const FILE: u16 = 1 << 8;
    /// Column `EXTRA` of an operation is an inode.
    pub const INODE: u16 = 1 << 9;
    /// Column `EXTRA` of an operation is a directory entry.
    pub const DENTRY: u16 = 1 << 10;
    /// Column `EXTRA` of an operation without a VMA is a `vm_area_desc`.
    pub const DESC: u16 = 1 << 11;
    /// The function is called for hugetlbfs only, so its VMA may be not (or not yet) marked as hugetlb.
    pub const OWN: u16 = 1 << 12;
}

macro_rules! fields {
    ($( $(#[doc = $doc:literal])+ $number:literal $konst:ident $name:literal )+) => {
        $( $(#[doc = $doc])+ pub const $konst: usize = $number; )+
        /// Names by number, as `observer/facts/fields.toml` spells them.
        pub const NAMES: &[&str] = &[ $( $name ),+ ];
        /// Number of names in this table.
        pub const COUNT: usize = NAMES.len();
    };
}

/// Indices into the table `FIELDS`: byte offsets and sizes of the running kernel.
pub mod field {
    fields! {
        /// `mm` of a VMA.
        0 VMA_MM "vma-mm"
        /// Flags of a VMA.
        1 VMA_FLAGS "vma-flags"
        /// `vm_file` of a VMA.
        2 VMA_FILE "vma-file"
        /// Private data of a VMA: the hugetlb vma_lock of a shared mapping.
        3 VMA_PRIVATE "vma-private"
        /// VMA of a `struct mm_walk`.
        4 WALK_VMA "walk-vma"
        /// `f_mapping` of a file.
        5 FILE_MAPPING "file-mapping"
        /// Host inode of a mapping.
        6 MAPPING_HOST "mapping-host"
        /// `i_mmap_rwsem` of a mapping, the rmap lock.
        7 MAPPING_I_MMAP "mapping-i-mmap-rwsem"
        /// `i_rwsem` of an inode.
        8 INODE_LOCK "inode-lock"
        /// `i_mapping` of an inode.
        9 INODE_MAPPING "inode-mapping"
        /// The semaphore inside a hugetlb vma_lock; absent if this kernel has no vma_lock.
        10 VMA_LOCK_SEMA "vma-lock-sema"
        /// Page directory of an mm.
        11 MM_PGD "mm-pgd"
        /// mmap_lock of an mm.
        12 MM_MMAP_LOCK "mm-mmap-lock"
        /// Page-table lock in the table's page descriptor.
        13 TABLE_PTL "table-ptl"
        /// Share count in the table's page descriptor.
        14 TABLE_SHARES "table-share-count"
        /// mm of an mmu_gather.
        15 TLB_MM "tlb-mm"
        /// Mapping of a folio or page.
        16 FOLIO_MAPPING "folio-mapping"
        /// Index of a folio or page.
        17 FOLIO_INDEX "folio-index"
        /// mm of a task.
        18 TASK_MM "task-mm"
        /// Thread id of a task.
        19 TASK_PID "task-pid"
        /// Process id of a task.
        20 TASK_TGID "task-tgid"
        /// Inode of a directory entry.
        21 DENTRY_INODE "dentry-inode"
        /// The byte in a folio's page descriptors that marks it as a hugetlb folio.
        22 HUGETLB_MARK "hugetlb-mark"
        /// First address of a VMA.
        23 VMA_START "vma-start"
        /// End of a VMA, exclusive.
        24 VMA_END "vma-end"
        /// VMA of a hugetlb vma_lock; cleared when the lock is detached from its VMA.
        25 VMA_LOCK_VMA "vma-lock-vma"
        /// Reference count of a hugetlb vma_lock.
        26 VMA_LOCK_REFS "vma-lock-refs"
        /// The semaphore inside a reserve map: the vma_lock of a private mapping that owns the map. Absent if this kernel
        /// does not have it.
        27 RESV_MAP_SEMA "resv-map-sema"
        /// Reference count of a reserve map.
        28 RESV_MAP_REFS "resv-map-refs"
        /// File of a `vm_area_desc`.
        29 DESC_FILE "desc-file"
        /// mm of a `vm_area_desc`.
        30 DESC_MM "desc-mm"
        /// Base-2 logarithm of the page size of a hugetlbfs inode.
        31 INODE_PAGE_SHIFT "inode-page-shift"
    }
}

/// Indices into the table `VALUES`: facts with a value, and variables of the running kernel.
pub mod value {
    fields! {
        /// Start of the direct map.
        0 PAGE_OFFSET "page-offset-base"
        /// Start of the array of page descriptors.
        1 VMEMMAP "vmemmap-base"
        /// 1 if the kernel uses five page-table levels.
        2 FIVE_LEVELS "pgtable-l5-enabled"
        /// Address of the first fault mutex.
        3 FAULT_MUTEX_BASE "fault-mutex-table"
        /// End address of the fault mutexes, exclusive.
        4 FAULT_MUTEX_END "fault-mutex-end"
        /// Size of a page descriptor in bytes.
        5 PAGE_STRUCT_BYTES "page-struct-bytes"
        /// Share count of a table with only one user.
        6 SHARES_ALONE "share-count-alone"
        /// VMA flag `VM_HUGETLB` of hugetlb mappings.
        7 VM_HUGETLB "vm-hugetlb"
        /// VMA flag `VM_MAYSHARE` of mappings that may be shared.
        8 VM_MAYSHARE "vm-mayshare"
        /// Flag of a page-cache lookup that returns the folio locked.
        9 FGP_LOCK "fgp-lock"
        /// 1 if the table's page descriptor holds a pointer to the lock.
        10 PTL_IS_POINTER "ptl-is-pointer"
        /// Huge page size, in bytes, whose tables can be shared.
        11 PMD_SIZE "pmd-size"
        /// Process to observe, with the objects that it touches; 0 observes all processes.
        12 ONLY_TGID "only-tgid"
        /// Size of a fault mutex in bytes.
        13 FAULT_MUTEX_BYTES "fault-mutex-bytes"
        /// Value of the byte at [`super::field::HUGETLB_MARK`] in a hugetlb folio.
        14 HUGETLB_MARK "hugetlb-mark"
        /// Bit in a private mapping's `vm_private_data`: the VMA owns the reserve map that the other bits point to.
        15 RESV_OWNER "resv-owner"
        /// Bits of that word that are not part of the address.
        16 RESV_BITS "resv-bits"
    }
}

/// Site numbers. A number is the program's place in the object; the plan binds it to a kernel function.
pub mod site {
    /// Watched operations and callbacks: entry and return.
    pub const OP: usize = 0;
    /// Number of `OP` sites.
    pub const OPS: usize = 52;
    /// Operations that cannot be traced: entry by kprobe, return by kretprobe.
    pub const OP_PROBED: usize = OP + OPS;
    /// Number of `OP_PROBED` sites.
    pub const OPS_PROBED: usize = 8;
    /// VMA walks between two functions, without a lookup function between them. The walk begins at the return of the first,
    /// which has acquired the walk's lock, and ends at the entry of the second.
    pub const WALK: usize = OP_PROBED + OPS_PROBED;
    /// Number of `WALK` sites.
    pub const WALKS: usize = 2;
    /// Return of a function that returns a pte pointer.
    pub const LOOKUP: usize = WALK + WALKS;
    /// Number of `LOOKUP` sites.
    pub const LOOKUPS: usize = 4;
    /// Return of the function that shares a PMD table.
    pub const SHARE: usize = LOOKUP + LOOKUPS;
    /// Number of `SHARE` sites.
    pub const SHARES: usize = 1;
    /// Return of the function that allocates a PMD table.
    pub const TABLE_ALLOC: usize = SHARE + SHARES;
    /// Number of `TABLE_ALLOC` sites.
    pub const TABLE_ALLOCS: usize = 1;
    /// Return of the body of unshare.
    pub const UNSHARE: usize = TABLE_ALLOC + TABLE_ALLOCS;
    /// Number of `UNSHARE` sites.
    pub const UNSHARES: usize = 2;
    /// Entry of the function that frees a PMD table.
    pub const TABLE_FREE: usize = UNSHARE + UNSHARES;
    /// Number of `TABLE_FREE` sites.
    pub const TABLE_FREES: usize = 1;
    /// Entry of a lock function that can block, and its return if it can fail.
    pub const ASK: usize = TABLE_FREE + TABLE_FREES;
    /// Number of `ASK` sites.
    pub const ASKS: usize = 8;
    /// Return of a trylock.
    pub const TRY: usize = ASK + ASKS;
    /// Number of `TRY` sites.
    pub const TRIES: usize = 4;
    /// Entry of a release function.
    pub const RELEASE: usize = TRY + TRIES;
    /// Number of `RELEASE` sites.
    pub const RELEASES: usize = 4;
    /// Entry of the downgrade from write to read.
    pub const DOWNGRADE: usize = RELEASE + RELEASES;
    /// Number of `DOWNGRADE` sites.
    pub const DOWNGRADES: usize = 1;
    /// Entry of a spinlock function that acquires a PTL.
    pub const SPIN_LOCK: usize = DOWNGRADE + DOWNGRADES;
    /// Number of `SPIN_LOCK` sites.
    pub const SPIN_LOCKS: usize = 2;
    /// Entry of a spinlock function that releases a PTL.
    pub const SPIN_UNLOCK: usize = SPIN_LOCK + SPIN_LOCKS;
    /// Number of `SPIN_UNLOCK` sites.
    pub const SPIN_UNLOCKS: usize = 2;
    /// Contention tracepoints: begin, end.
    pub const WAIT: usize = SPIN_UNLOCK + SPIN_UNLOCKS;
    /// Number of `WAIT` sites.
    pub const WAITS: usize = 2;
    /// A page-cache lookup that can return the folio locked: entry and return.
    pub const FOLIO_LOOKUP: usize = WAIT + WAITS;
    /// Number of `FOLIO_LOOKUP` sites.
    pub const FOLIO_LOOKUPS: usize = 2;
    /// Entry of a function whose contract requires a locked folio.
    pub const FOLIO_CONTRACT: usize = FOLIO_LOOKUP + FOLIO_LOOKUPS;
    /// Number of `FOLIO_CONTRACT` sites.
    pub const FOLIO_CONTRACTS: usize = 20;
    /// The folio lock's slow paths: entry and return.
    pub const FOLIO_SLOW: usize = FOLIO_CONTRACT + FOLIO_CONTRACTS;
    /// Number of `FOLIO_SLOW` sites.
    pub const FOLIO_SLOWS: usize = 3;
    /// Release of the folio lock.
    pub const FOLIO_UNLOCK: usize = FOLIO_SLOW + FOLIO_SLOWS;
    /// Number of `FOLIO_UNLOCK` sites.
    pub const FOLIO_UNLOCKS: usize = 1;
    /// Tracepoints of tasks: exit, fork, exec.
    pub const TASK: usize = FOLIO_UNLOCK + FOLIO_UNLOCKS;
    /// Number of `TASK` sites.
    pub const TASKS: usize = 3;
    /// End of an object that contains a lock: inode, VMA, mm.
    pub const OBJECT_END: usize = TASK + TASKS;
    /// Number of `OBJECT_END` sites.
    pub const OBJECT_ENDS: usize = 3;
    /// Total number of sites.
    pub const COUNT: usize = OBJECT_END + OBJECT_ENDS;
    // A task keeps one bit for each operation and walk that it is inside.
    const _: () = assert!(OP == 0 && WALK + WALKS <= 64);
}

/// Counters that the programs keep per CPU. User space reads `lost` at every drain, and everything after a run.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PerCpu {
    /// Next sequence number.
    pub seq: u64,
    /// Lost records, indexed by [`crate::loss`] reason.
    pub lost: [u64; crate::loss::COUNT],
    /// Calls seen, indexed by site (entries only, if a site has entry and return). Sites of hugetlb's own functions count
    /// before any filter. Sites of generic functions (locks, folios) count only calls on a watched object.
    pub hits: [u64; site::COUNT],
    /// Calls with the outcome that the role is about, indexed by site and counted before any filter of records: lookups that
    /// returned a pointer, shares that linked another user's table, unshares that returned 1, unlinks found by the diff,
    /// walks of hugetlb VMAs.
    pub outcomes: [u64; site::COUNT],
}
