//! What user space tells the programs before they are loaded, and what the programs keep per CPU and per task.
//!
//! The values become read-only globals, constants to the verifier, so that roles can be bound to argument numbers and
//! field offsets at load time and code for absent ones is pruned.

/// "No such argument" in [`OpArgs`] and friends.
pub const NONE: u8 = 0xff;

/// Entry and exit programs for watched operations: copies in the object, one per function.
pub const OP_SITES: usize = 48;
/// First site number of each family of programs. A site number is the program's place in the object; which kernel
/// function sits there is the plan's business.
pub mod site {
    use super::OP_SITES;
    /// Lookups (return of a function that returns a pte pointer).
    pub const LOOKUP: usize = OP_SITES;
    pub const LOOKUPS: usize = 4;
    /// Return of the function that shares.
    pub const SHARE: usize = LOOKUP + LOOKUPS;
    /// Return of the function that makes a PMD table.
    pub const TABLE_ALLOC: usize = SHARE + 1;
    /// Return of the body of unshare.
    pub const UNSHARE: usize = TABLE_ALLOC + 1;
    pub const UNSHARES: usize = 2;
    /// Entry of the function that frees a PMD table.
    pub const TABLE_FREE: usize = UNSHARE + UNSHARES;
    /// Lock primitives: blocking asks, their return where they can fail, trylocks, releases, downgrade.
    pub const ASK: usize = TABLE_FREE + 1;
    pub const ASKS: usize = 8;
    pub const TRY: usize = ASK + ASKS;
    pub const TRIES: usize = 4;
    pub const RELEASE: usize = TRY + TRIES;
    pub const RELEASES: usize = 4;
    pub const DOWNGRADE: usize = RELEASE + RELEASES;
    /// Spinlock primitives.
    pub const SPIN_LOCK: usize = DOWNGRADE + 1;
    pub const SPIN_TRY: usize = SPIN_LOCK + 1;
    pub const SPIN_UNLOCK: usize = SPIN_TRY + 1;
    /// Contention tracepoints.
    pub const WAIT_BEGIN: usize = SPIN_UNLOCK + 1;
    pub const WAIT_END: usize = WAIT_BEGIN + 1;
    /// A page-cache lookup that can return the folio locked.
    pub const FOLIO_LOOKUP: usize = WAIT_END + 1;
    pub const FOLIO_LOOKUPS: usize = 2;
    /// Entries of functions whose contract is a locked folio.
    pub const FOLIO_CONTRACT: usize = FOLIO_LOOKUP + FOLIO_LOOKUPS;
    pub const FOLIO_CONTRACTS: usize = 20;
    /// Slow paths of the folio lock.
    pub const FOLIO_SLOW: usize = FOLIO_CONTRACT + FOLIO_CONTRACTS;
    pub const FOLIO_SLOWS: usize = 3;
    /// Release of the folio lock.
    pub const FOLIO_UNLOCK: usize = FOLIO_SLOW + FOLIO_SLOWS;
    /// Task exit and fork.
    pub const TASK_EXIT: usize = FOLIO_UNLOCK + 1;
    pub const TASK_FORK: usize = TASK_EXIT + 1;
    /// End of an object that holds a lock.
    pub const OBJECT_END: usize = TASK_FORK + 1;
    pub const OBJECT_ENDS: usize = 2;
    /// How many site numbers there are.
    pub const COUNT: usize = OBJECT_END + OBJECT_ENDS;
    /// Counters per CPU: hits by site, then (for operations) returns by site.
    pub const COUNTERS: usize = COUNT + OP_SITES;
}
