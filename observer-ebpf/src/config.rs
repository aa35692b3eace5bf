//! What user space tells the programs before they are loaded, and which site numbers there are.
//!
//! The values become read-only globals, constants to the verifier, so that roles can be bound to argument numbers and
//! field offsets at load time and code for absent ones is pruned.

/// "No such argument": in [`arg`] tables.
pub const NO_ARG: u8 = 0xff;
/// "This kernel has no such field": in the table of [`field`]s.
pub const NO_FIELD: u64 = u64::MAX;

/// Columns of a row of the table `ARGS`: one row a site, each an argument number of the site's function, or
/// [`NO_ARG`]. The return value of a function is the slot after its last argument.
pub mod arg {
    /// The mm, if an argument is one; for folio sites the mapping.
    pub const MM: usize = 0;
    /// The VMA; with [`flag::VMA_IN_WALK`] the `mm_walk` that has it.
    pub const VMA: usize = 1;
    /// First address; for locks and folios the object itself.
    pub const START: usize = 2;
    /// End of the range, exclusive; with [`flag::END_IS_LENGTH`] its length.
    pub const END: usize = 3;
    /// The pte pointer that a callback is handed; the size that a lookup is for; a lookup's flags; an operation's file, inode
    /// or directory entry.
    pub const EXTRA: usize = 4;
    /// Slot of the return value, [`super::NO_ARG`] for a void function.
    pub const RET: usize = 5;
    /// Bits of [`super::flag`].
    pub const FLAGS: usize = 6;
    /// Lock mode of a lock site.
    pub const MODE: usize = 7;
    /// Columns.
    pub const COUNT: usize = 8;
}

/// Bits of column [`arg::FLAGS`].
pub mod flag {
    /// The argument in column `VMA` is a `struct mm_walk`.
    pub const VMA_IN_WALK: u8 = 1;
    /// Of an operation without a VMA: only where the lock of its mm is watched already.
    pub const KNOWN_MM: u8 = 1;
    /// Column `END` is a length.
    pub const END_IS_LENGTH: u8 = 2;
    /// Compare the upper-level entries of the range at entry and exit.
    pub const DIFF: u8 = 4;
    /// A callback that is handed a pte pointer.
    pub const CALLBACK: u8 = 8;
    /// The return value has 32 bits.
    pub const RET_32: u8 = 16;
    /// The object that ends is an inode; of an operation, column `EXTRA` is one.
    pub const INODE: u8 = 32;
    /// The object that ends is a VMA.
    pub const VMA: u8 = 64;
    /// Of an operation, column `EXTRA` is a file; with [`INODE`] a directory entry.
    pub const FILE: u8 = 64;
    /// The function is called for hugetlbfs only: its VMA need not be marked as such, or not yet.
    pub const OWN: u8 = 128;
    /// Of an operation without a VMA: column `EXTRA` is a `vm_area_desc`.
    pub const DESC: u8 = 128;
}

macro_rules! fields {
    ($( $(#[doc = $doc:literal])+ $number:literal $konst:ident $name:literal )+) => {
        $( $(#[doc = $doc])+ pub const $konst: usize = $number; )+
        /// Names by number, as `observer/facts/fields.toml` spells them.
        pub const NAMES: &[&str] = &[ $( $name ),+ ];
        /// How many.
        pub const COUNT: usize = NAMES.len();
    };
}

/// Numbers in the table `FIELDS`: byte offsets and sizes of the running kernel.
pub mod field {
    fields! {
        /// `mm` of a VMA.
        0 VMA_MM "vma-mm"
        /// Flags of a VMA.
        1 VMA_FLAGS "vma-flags"
        /// File of a VMA.
        2 VMA_FILE "vma-file"
        /// Private data of a VMA: the hugetlb vma_lock of a shared mapping.
        3 VMA_PRIVATE "vma-private"
        /// VMA of a page walk.
        4 WALK_VMA "walk-vma"
        /// Mapping of a file.
        5 FILE_MAPPING "file-mapping"
        /// Inode of a mapping.
        6 MAPPING_HOST "mapping-host"
        /// rmap lock of a mapping.
        7 MAPPING_I_MMAP "mapping-i-mmap-rwsem"
        /// Lock of an inode.
        8 INODE_LOCK "inode-lock"
        /// Mapping of an inode.
        9 INODE_MAPPING "inode-mapping"
        /// The semaphore inside a hugetlb vma_lock; absent: this kernel has no vma_lock.
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
        /// The byte of a folio's page descriptors that tells that it is hugetlb's.
        22 HUGETLB_MARK "hugetlb-mark"
        /// First address of a VMA.
        23 VMA_START "vma-start"
        /// End of a VMA, exclusive.
        24 VMA_END "vma-end"
        /// VMA of a hugetlb vma_lock; cleared when the lock is no longer that of a VMA.
        25 VMA_LOCK_VMA "vma-lock-vma"
        /// References to a hugetlb vma_lock.
        26 VMA_LOCK_REFS "vma-lock-refs"
        /// The semaphore inside a reserve map, which is the vma_lock of a private mapping that owns the map; absent: this kernel
        /// has none.
        27 RESV_MAP_SEMA "resv-map-sema"
        /// References to a reserve map.
        28 RESV_MAP_REFS "resv-map-refs"
        /// File of a `vm_area_desc`.
        29 DESC_FILE "desc-file"
        /// mm of a `vm_area_desc`.
        30 DESC_MM "desc-mm"
    }
}

/// Numbers in the table `VALUES`: facts with a value, and variables of the running kernel.
pub mod value {
    fields! {
        /// Start of the direct map.
        0 PAGE_OFFSET "page-offset-base"
        /// Start of the array of page descriptors.
        1 VMEMMAP "vmemmap-base"
        /// 1 with five page-table levels.
        2 FIVE_LEVELS "pgtable-l5-enabled"
        /// First fault mutex.
        3 FAULT_MUTEX_BASE "fault-mutex-table"
        /// End of the fault mutexes.
        4 FAULT_MUTEX_END "fault-mutex-end"
        /// Bytes of a page descriptor.
        5 PAGE_STRUCT_BYTES "page-struct-bytes"
        /// Share count of a table with a single user.
        6 SHARES_ALONE "share-count-alone"
        /// VMA flag of hugetlb mappings.
        7 VM_HUGETLB "vm-hugetlb"
        /// VMA flag of mappings that may be shared.
        8 VM_MAYSHARE "vm-mayshare"
        /// Flag of a page-cache lookup that returns the folio locked.
        9 FGP_LOCK "fgp-lock"
        /// 1: the table's page descriptor holds a pointer to the lock.
        10 PTL_IS_POINTER "ptl-is-pointer"
        /// Huge page size that can share tables, bytes.
        11 PMD_SIZE "pmd-size"
        /// Only tasks of this process and the objects they touch; 0: all.
        12 ONLY_TGID "only-tgid"
        /// Bytes of a fault mutex.
        13 FAULT_MUTEX_BYTES "fault-mutex-bytes"
        /// What that byte is then.
        14 HUGETLB_MARK "hugetlb-mark"
        /// Bit of a private mapping's private data: the VMA owns the reserve map that the rest of the word points to.
        15 RESV_OWNER "resv-owner"
        /// Bits of that word that are no address.
        16 RESV_BITS "resv-bits"
    }
}

/// Site numbers: the program's place in the object. Which kernel function sits there is the plan's business.
pub mod site {
    /// Watched operations and callbacks: entry and return.
    pub const OP: usize = 0;
    /// How many of them.
    pub const OPS: usize = 52;
    /// The same for functions that cannot be traced: kprobe and kretprobe.
    pub const OP_PROBED: usize = OP + OPS;
    /// How many of them.
    pub const OPS_PROBED: usize = 8;
    /// Walks of a VMA by a pair of functions, with no lookup function between them: return of the first, which has taken the
    /// walk's lock, and entry of the second.
    pub const WALK: usize = OP_PROBED + OPS_PROBED;
    /// How many of them.
    pub const WALKS: usize = 2;
    /// Return of a function that returns a pte pointer.
    pub const LOOKUP: usize = WALK + WALKS;
    /// How many of them.
    pub const LOOKUPS: usize = 4;
    /// Return of the function that shares.
    pub const SHARE: usize = LOOKUP + LOOKUPS;
    /// How many of them.
    pub const SHARES: usize = 1;
    /// Return of the function that makes a PMD table.
    pub const TABLE_ALLOC: usize = SHARE + SHARES;
    /// How many of them.
    pub const TABLE_ALLOCS: usize = 1;
    /// Return of the body of unshare.
    pub const UNSHARE: usize = TABLE_ALLOC + TABLE_ALLOCS;
    /// How many of them.
    pub const UNSHARES: usize = 2;
    /// Entry of the function that frees a PMD table.
    pub const TABLE_FREE: usize = UNSHARE + UNSHARES;
    /// How many of them.
    pub const TABLE_FREES: usize = 1;
    /// Entry of a lock function that can block, and its return where it can fail.
    pub const ASK: usize = TABLE_FREE + TABLE_FREES;
    /// How many of them.
    pub const ASKS: usize = 8;
    /// Return of a trylock.
    pub const TRY: usize = ASK + ASKS;
    /// How many of them.
    pub const TRIES: usize = 4;
    /// Entry of a release.
    pub const RELEASE: usize = TRY + TRIES;
    /// How many of them.
    pub const RELEASES: usize = 4;
    /// Entry of the downgrade from write to read.
    pub const DOWNGRADE: usize = RELEASE + RELEASES;
    /// How many of them.
    pub const DOWNGRADES: usize = 1;
    /// Entry of a spinlock function that takes a PTL.
    pub const SPIN_LOCK: usize = DOWNGRADE + DOWNGRADES;
    /// How many of them.
    pub const SPIN_LOCKS: usize = 2;
    /// Entry of a spinlock function that releases a PTL.
    pub const SPIN_UNLOCK: usize = SPIN_LOCK + SPIN_LOCKS;
    /// How many of them.
    pub const SPIN_UNLOCKS: usize = 2;
    /// Contention tracepoints: begin, end.
    pub const WAIT: usize = SPIN_UNLOCK + SPIN_UNLOCKS;
    /// How many of them.
    pub const WAITS: usize = 2;
    /// A page-cache lookup that can return the folio locked: entry and return.
    pub const FOLIO_LOOKUP: usize = WAIT + WAITS;
    /// How many of them.
    pub const FOLIO_LOOKUPS: usize = 2;
    /// Entry of a function whose contract is a locked folio.
    pub const FOLIO_CONTRACT: usize = FOLIO_LOOKUP + FOLIO_LOOKUPS;
    /// How many of them.
    pub const FOLIO_CONTRACTS: usize = 20;
    /// The folio lock's slow paths: entry and return.
    pub const FOLIO_SLOW: usize = FOLIO_CONTRACT + FOLIO_CONTRACTS;
    /// How many of them.
    pub const FOLIO_SLOWS: usize = 3;
    /// Release of the folio lock.
    pub const FOLIO_UNLOCK: usize = FOLIO_SLOW + FOLIO_SLOWS;
    /// How many of them.
    pub const FOLIO_UNLOCKS: usize = 1;
    /// Tracepoints of tasks: exit, fork, exec.
    pub const TASK: usize = FOLIO_UNLOCK + FOLIO_UNLOCKS;
    /// How many of them.
    pub const TASKS: usize = 3;
    /// End of an object that holds a lock: inode, VMA, mm.
    pub const OBJECT_END: usize = TASK + TASKS;
    /// How many of them.
    pub const OBJECT_ENDS: usize = 3;
    /// How many site numbers there are.
    pub const COUNT: usize = OBJECT_END + OBJECT_ENDS;
    // A task keeps a bit for each operation and walk that it is inside.
    const _: () = assert!(OP == 0 && WALK + WALKS <= 64);
}

/// What the programs keep per CPU. User space reads it after a run, and at every drain for `lost`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PerCpu {
    /// Next sequence number.
    pub seq: u64,
    /// By [`crate::loss`] reason.
    pub lost: [u64; crate::loss::COUNT],
    /// By site: calls seen (where a site has entry and return, its entries). Sites of hugetlb's own functions count
    /// before any filter; those of generic functions (locks, folios) count what concerns a watched object.
    pub hits: [u64; site::COUNT],
    /// By site, what the role is about, before any filter of what is sent: lookups that returned a pointer, shares
    /// that linked a table of others, unshares that returned 1, links that went away by the diff, walks of hugetlb VMAs.
    pub outcomes: [u64; site::COUNT],
}
