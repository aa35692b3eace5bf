//! What the engine has to know about the kernel that the events come from: the plan's sites and the facts' rules.
//!
//! Plain data, made from `observer/facts/` by the daemon, stored in every recording, written by hand in text traces.
//! The engine branches on these rows only, never on a kernel version or a function's name.

use crate::{
    event::{Class, Mode, SiteId},
    lock_class::LockClass,
};

/// What a site means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A watched operation: `op_begin`, `op_end`.
    Operation,
    /// A page walk's callback, handed a pte pointer: `callback_begin`, `op_end`.
    Callback,
    /// A walk with no lookup function: from `op_begin` to `op_end` the task may have a pointer to any entry of the range.
    Walk,
    Lookup,
    Share,
    TableAlloc,
    Unshare,
    /// The upper-level entries compared over an enclosing function: `unlinked`, sent by that operation's site.
    Unlink,
    TableFree,
    /// Sleeping locks: asks, trylocks, releases.
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

/// When an operation locks a folio whose lock is not seen at the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolioTaken {
    /// Right after locks of these classes, taken in this order since the operation began or released a folio; empty: first
    /// of all.
    pub after: Vec<Class>,
    /// After the first such locks; else after the last one of the last class.
    pub first: bool,
    /// In a way that can block.
    pub blocks: bool,
}

/// One attached site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    pub id: SiteId,
    /// Kernel function (or tracepoint), as in facts; what people read.
    pub function: String,
    pub role: Role,
    /// For [`Role::Operation`]: its lookups are looks at a partner's mm, whose pointer is given up with the release of a
    /// lock of this class inside the operation (`huge_pmd_share` and `i_mmap_rwsem`); they replace no other lease.
    pub foreign_lookup_until: Option<Class>,
    /// The function is entered with the mmap_lock of the mm that it looks up in, or with the VMA's own lock, by the kernel's
    /// contract. The VMA's own lock has no function of its own and cannot be seen.
    pub vma_locked: bool,
    /// For operations: they run when the mm has no user left, so that nobody finds it but by the file.
    pub last_user: bool,
    /// For operations: when they lock a folio whose lock is seen by its release, or late, only.
    pub folio_taken: Option<FolioTaken>,
    /// For contracts of a locked folio: it may have been locked long before.
    pub late: bool,
    /// For lock sites: classes of which a successful trylock here stands for a wait that would have blocked (*try, then
    /// block*).
    pub try_then_block: Vec<Class>,
}

impl Site {
    /// One of which there is nothing special to know.
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

/// Holding `class` (in any of `modes`) on the same mapping, mm or table excludes an unlink at `unlink_site`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusion {
    pub class: Class,
    pub modes: Vec<Mode>,
    /// Functions at which it does *not* exclude; all others are excluded.
    pub except_unlink_sites: Vec<String>,
}

/// A documented lock order: a lock earlier in the list is taken before (outside) a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentedOrder {
    /// Where the text stands, for people (file and line of a release).
    pub source: String,
    pub outer_to_inner: Vec<Class>,
    /// Where the code does otherwise, for a reason that is known.
    pub exceptions: Vec<OrderException>,
}

/// A lock that is asked for against a documented order, and why that is no deadlock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderException {
    /// What is held; page-cache and anonymous folios are two classes here.
    pub from: LockClass,
    /// What is asked for.
    pub to: LockClass,
    /// Functions of the operations in which it is asked for; empty: wherever.
    pub at: Vec<String>,
    /// Why, for people.
    pub reason: String,
    /// Where that stands.
    pub source: String,
}

impl OrderException {
    /// Whether it is about an edge that was seen at this site.
    #[must_use]
    pub fn covers(&self, (from, to): (LockClass, LockClass), site: &str) -> bool {
        (self.from, self.to) == (from, to) && (self.at.is_empty() || self.at.iter().any(|f| f == site))
    }
}

/// How well a role is covered on this kernel by this plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grade {
    /// Every occurrence is seen at its moment.
    Exact,
    /// Every occurrence is seen, its moment only within an interval.
    Bounded,
    /// Known from other evidence only.
    Inferred,
    /// Not seen.
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

/// Coverage of one role (or of one lookup site within a role), with the reason when it is not exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    pub role: Role,
    /// What of the role; empty: all of it.
    pub part: String,
    pub grade: Grade,
    /// Why, naming the symbol, the attempt and its error; empty for exact.
    pub reason: String,
}

impl Coverage {
    /// Whether this is a role as a whole, and something of it is seen.
    #[must_use]
    pub fn shows(&self, role: Role) -> bool {
        self.role == role && self.part.is_empty() && self.grade != Grade::Blind
    }
}

/// Everything the engine is told before the first event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    pub sites: Vec<Site>,
    pub exclusions: Vec<Exclusion>,
    pub orders: Vec<DocumentedOrder>,
    pub coverage: Vec<Coverage>,
}
