//! The engine's description of the kernel that the events come from: the plan's sites and the facts' rules.
//!
//! Plain data: the daemon makes it from `observer/facts/`, every recording stores it, and text traces contain it
//! written by hand. The engine branches on these rows only, never on a kernel version or a function's name.

use crate::{
    event::{Class, Mode, SiteId},
    lock_class::LockClass,
};

/// Meaning of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A watched operation: `op_begin`, `op_end`.
    Operation,
    /// A page walk's callback that receives a pte pointer: `callback_begin`, `op_end`.
    Callback,
    /// A walk without a lookup function: between `op_begin` and `op_end` the task may use a pointer to any entry of the
    /// range.
    Walk,
    Lookup,
    Share,
    TableAlloc,
    Unshare,
    /// Upper-level entries compared before and after an enclosing function: `unlinked`, sent by that operation's site.
    Unlink,
    TableFree,
    /// Sleeping locks: requests, trylocks, releases.
    Lock,
    Ptl,
    /// Contention of any lock.
    Wait,
    FolioHeld,
    FolioRelease,
    Task,
}

impl Role {
    pub const ALL: [Role; 15] = [
        Role::Operation,
        Role::Callback,
        Role::Walk,
        Role::Lookup,
        Role::Share,
        Role::TableAlloc,
        Role::Unshare,
        Role::Unlink,
        Role::TableFree,
        Role::Lock,
        Role::Ptl,
        Role::Wait,
        Role::FolioHeld,
        Role::FolioRelease,
        Role::Task,
    ];

    /// Name in facts, recordings, text traces and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Operation => "operation",
            Role::Callback => "callback",
            Role::Walk => "walk",
            Role::Lookup => "lookup",
            Role::Share => "share",
            Role::TableAlloc => "table-alloc",
            Role::Unshare => "unshare",
            Role::Unlink => "unlink",
            Role::TableFree => "table-free",
            Role::Lock => "lock",
            Role::Ptl => "ptl",
            Role::Wait => "wait",
            Role::FolioHeld => "folio-held",
            Role::FolioRelease => "folio-release",
            Role::Task => "task",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|r| r.name() == name)
    }
}

/// The point at which an operation locks a folio, for folio locks that are not seen when they are acquired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolioTaken {
    /// Right after locks of these classes, acquired in this order since the operation began or released a folio. Empty:
    /// before every other lock.
    pub after: Vec<Class>,
    /// After the first such locks; if false, after the last lock of the last class.
    pub first: bool,
    /// The folio lock is requested in a way that can block.
    pub blocks: bool,
}

/// One attached site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub id: SiteId,
    /// Kernel function (or tracepoint) as in the facts; reports print it.
    pub function: String,
    pub role: Role,
    /// For [`Role::Operation`]: its lookups read a partner's mm, and their lease ends with the release of a lock of
    /// this class inside the operation (`huge_pmd_share` and `i_mmap_rwsem`). They replace no other lease.
    pub foreign_lookup_until: Option<Class>,
    /// By the kernel's contract, the caller holds the mmap_lock of the mm that the function looks up in, or the VMA's
    /// own lock. The VMA's own lock has no function of its own and cannot be seen.
    pub vma_locked: bool,
    /// Only for operations: it runs when the mm has no user left, so that others can find the mm only through the file.
    pub last_user: bool,
    /// Only for operations: the point at which they lock a folio whose lock is seen only late or by its release.
    pub folio_taken: Option<FolioTaken>,
    /// Only for contracts of a locked folio: the folio may have been locked long before.
    pub late: bool,
    /// For lock sites: classes whose successful trylock here counts as a request that can block, because the site
    /// blocks if the trylock fails (*try, then block*).
    pub try_then_block: Vec<Class>,
}

impl Site {
    /// Returns a site without any special property.
    #[must_use]
    pub fn new(id: SiteId, function: &str, role: Role) -> Site {
        Site {
            id,
            function: function.to_owned(),
            role,
            foreign_lookup_until: None,
            vma_locked: false,
            last_user: false,
            folio_taken: None,
            late: false,
            try_then_block: Vec::new(),
        }
    }
}

/// A hold of `class` in any of `modes`, on the same mapping, mm or table, excludes unlinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusion {
    pub class: Class,
    pub modes: Vec<Mode>,
    /// Unlink sites that the hold does *not* exclude; it excludes all others.
    pub except_unlink_sites: Vec<String>,
}

/// A documented lock order: a lock earlier in the list is acquired before (outside) a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentedOrder {
    /// File and line in a kernel release that state the order, for reports.
    pub source: String,
    pub outer_to_inner: Vec<Class>,
    /// Places where the code deviates for a known reason.
    pub exceptions: Vec<OrderException>,
}

/// A lock that is requested against a documented order, and the reason why that cannot deadlock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderException {
    /// The lock that is held; page-cache and anonymous folios are two classes here.
    pub from: LockClass,
    /// The lock that is requested.
    pub to: LockClass,
    /// Functions of the operations in which it is requested; empty: in any operation.
    pub at: Vec<String>,
    /// Explanation for reports.
    pub reason: String,
    /// Document that gives the reason.
    pub source: String,
}

impl OrderException {
    /// Returns true if the exception applies to an edge that was seen at this site.
    #[must_use]
    pub fn covers(&self, (from, to): (LockClass, LockClass), site: &str) -> bool {
        (self.from, self.to) == (from, to) && (self.at.is_empty() || self.at.iter().any(|f| f == site))
    }
}

/// Visibility of a role on this kernel with this plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grade {
    /// Every occurrence is seen at its moment.
    Exact,
    /// Every occurrence is seen, but its moment is known only as an interval.
    Bounded,
    /// Occurrences are known only from other evidence.
    Inferred,
    /// Occurrences are not seen.
    Blind,
}

impl Grade {
    pub const ALL: [Grade; 4] = [Grade::Exact, Grade::Bounded, Grade::Inferred, Grade::Blind];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Grade::Exact => "exact",
            Grade::Bounded => "bounded",
            Grade::Inferred => "inferred",
            Grade::Blind => "blind",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Grade> {
        Grade::ALL.into_iter().find(|g| g.name() == name)
    }
}

/// Coverage of one role, or of one lookup site within a role, with the reason if it is not exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    pub role: Role,
    /// Part of the role that this row is about; empty: the whole role.
    pub part: String,
    pub grade: Grade,
    /// The reason, with the symbol, the attempt and its error; empty for exact.
    pub reason: String,
}

impl Coverage {
    /// Returns true if the row is about this role as a whole and something of it is seen.
    #[must_use]
    pub fn shows(&self, role: Role) -> bool {
        self.role == role && self.part.is_empty() && self.grade != Grade::Blind
    }
}

/// Everything that the engine receives before the first event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    pub sites: Vec<Site>,
    pub exclusions: Vec<Exclusion>,
    pub orders: Vec<DocumentedOrder>,
    pub coverage: Vec<Coverage>,
}
