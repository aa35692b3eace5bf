//! Events: decoded records. Live runs, replay and text traces share one type.
//!
//! This module decides how bytes on the wire become an [`Event`]; it decides nothing about meaning. Addresses are
//! newtypes so that a table cannot be passed for an mm.

use observer_ebpf::{
    Header, kinds,
    record::{Record, RecordBuf},
};

macro_rules! address {
    ($($(#[doc = $doc:literal])+ $name:ident)+) => { $(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);
        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    )+ };
}

address! {
    /// Kernel address of an `mm_struct`.
    Mm
    /// User virtual address.
    Addr
    /// Kernel address of a pte entry; for a PMD-sized huge page, of the PMD entry.
    Pte
    /// Kernel address of a page-table page.
    Table
    /// Kernel address of a lock.
    LockAddr
    /// Kernel address of a struct page or folio.
    Folio
    /// Mapping word of a folio, or the `address_space` itself. Bit 0 is set for an anonymous folio.
    Mapping
}

impl Pte {
    /// Returns the page-table page that contains the entry. Tables are 4 KiB pages on x86-64.
    #[must_use]
    pub fn table(self) -> Table {
        Table(self.0 & !0xfff)
    }
}

impl Addr {
    /// Returns the start of the GiB (one PUD entry, one PMD table) that contains the address.
    #[must_use]
    pub fn gib(self) -> Addr {
        Addr(self.0 & !((1 << 30) - 1))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(pub u32);

/// Wire number of a site, see [`crate::setup::Site::id`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteId(pub u16);

/// Lock classes as on the wire (`observer_ebpf::class`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    MmapLock = 1,
    VmaLock = 2,
    IMmap = 3,
    FaultMutex = 4,
    Inode = 5,
    Ptl = 6,
    Folio = 7,
}

impl Class {
    pub const ALL: [Class; 7] = [
        Class::MmapLock,
        Class::VmaLock,
        Class::IMmap,
        Class::FaultMutex,
        Class::Inode,
        Class::Ptl,
        Class::Folio,
    ];

    /// Decodes a wire number; `None` for a number of a later version.
    #[must_use]
    pub fn from_wire(n: u32) -> Option<Class> {
        Class::ALL.get((n as usize).checked_sub(1)?).copied()
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        observer_ebpf::class::NAMES[self as usize]
    }
}

/// Lock modes as on the wire (`observer_ebpf::mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Mode {
    Read = 1,
    Write = 2,
    Exclusive = 3,
}

impl Mode {
    #[must_use]
    pub fn from_wire(n: u32) -> Option<Mode> {
        [Mode::Read, Mode::Write, Mode::Exclusive].get((n as usize).checked_sub(1)?).copied()
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        observer_ebpf::mode::NAMES[self as usize]
    }
}

/// A task's operation on a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockStep {
    /// Requested in a way that can block; certainly held from the task's next event on.
    Request,
    /// A trylock succeeded.
    Try,
    /// A trylock failed.
    Busy,
    /// A killable request returned without the lock.
    GaveUp,
    Release,
    Downgrade,
    WaitBegin,
    WaitEnd,
}

/// Evidence that a folio lock is held (`observer_ebpf::how`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum How {
    Returned = 1,
    Contract = 2,
    SlowPath = 3,
}

/// Content of an event. Field meanings are those of `observer_ebpf::kinds::TABLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Task {
        tgid: u32,
        comm: [u8; 16],
        mm: Mm,
    },
    TaskExit {
        tgid: u32,
        mm: Mm,
    },
    Fork {
        child: Tid,
        child_tgid: u32,
    },
    OpBegin {
        mm: Mm,
        start: Addr,
        end: Addr,
        page_kib: u32,
    },
    CallbackBegin {
        mm: Mm,
        addr: Addr,
        pte: Pte,
    },
    OpEnd {
        ret: u64,
    },
    Lookup {
        mm: Mm,
        addr: Addr,
        pte: Pte,
        repeats: u32,
    },
    LookupOtherSize {
        mm: Mm,
        addr: Addr,
        pte: Pte,
        page_kib: u32,
    },
    Share {
        mm: Mm,
        addr: Addr,
        pte: Pte,
        count: u32,
    },
    TableAlloc {
        mm: Mm,
        addr: Addr,
        table: Table,
    },
    Unshare {
        mm: Mm,
        addr: Addr,
        pte: Pte,
    },
    Unlinked {
        mm: Mm,
        gib: Addr,
        table: Table,
        lo_ns: u64,
        now: u64,
        count: u32,
    },
    TableFree {
        mm: Mm,
        table: Table,
        count: u32,
    },
    /// `mode` is `None` if the kernel does not report it. `failed`: the wait ended without the lock.
    Lock {
        step: LockStep,
        class: Class,
        mode: Option<Mode>,
        lock: LockAddr,
        failed: bool,
    },
    LockName {
        class: Class,
        lock: LockAddr,
        owner: u64,
        vma: u64,
    },
    LockForget {
        class: Class,
        lock: LockAddr,
    },
    FolioRequest {
        mapping: Mapping,
        index: u64,
        folio: Folio,
    },
    FolioHeld {
        folio: Folio,
        mapping: Mapping,
        index: u64,
        how: How,
    },
    FolioRelease {
        folio: Folio,
        mapping: Mapping,
        index: u64,
    },
    FolioWait {
        folio: Folio,
        mapping: Mapping,
        index: u64,
    },
    Stack {
        stack: u32,
        op: SiteId,
    },
}

impl Body {
    /// Number of the kind on the wire.
    #[must_use]
    pub fn kind(&self) -> u16 {
        match self {
            Body::Task { .. } => kinds::TASK,
            Body::TaskExit { .. } => kinds::TASK_EXIT,
            Body::Fork { .. } => kinds::FORK,
            Body::OpBegin { .. } => kinds::OP_BEGIN,
            Body::CallbackBegin { .. } => kinds::CALLBACK_BEGIN,
            Body::OpEnd { .. } => kinds::OP_END,
            Body::Lookup { .. } => kinds::LOOKUP,
            Body::LookupOtherSize { .. } => kinds::LOOKUP_OTHER_SIZE,
            Body::Share { .. } => kinds::SHARE,
            Body::TableAlloc { .. } => kinds::TABLE_ALLOC,
            Body::Unshare { .. } => kinds::UNSHARE,
            Body::Unlinked { .. } => kinds::UNLINKED,
            Body::TableFree { .. } => kinds::TABLE_FREE,
            Body::Lock { step, .. } => match step {
                LockStep::Request => kinds::LOCK_ASK,
                LockStep::Try => kinds::LOCK_TRY,
                LockStep::Busy => kinds::LOCK_BUSY,
                LockStep::GaveUp => kinds::LOCK_GAVE_UP,
                LockStep::Release => kinds::LOCK_RELEASE,
                LockStep::Downgrade => kinds::LOCK_DOWNGRADE,
                LockStep::WaitBegin => kinds::WAIT_BEGIN,
                LockStep::WaitEnd => kinds::WAIT_END,
            },
            Body::LockName { .. } => kinds::LOCK_NAME,
            Body::LockForget { .. } => kinds::LOCK_FORGET,
            Body::FolioRequest { .. } => kinds::FOLIO_ASK,
            Body::FolioHeld { .. } => kinds::FOLIO_HELD,
            Body::FolioRelease { .. } => kinds::FOLIO_RELEASE,
            Body::FolioWait { .. } => kinds::FOLIO_WAIT,
            Body::Stack { .. } => kinds::STACK,
        }
    }
}

impl Body {
    /// Returns `arg` and the payload words as on the wire; words that the kind does not use are 0.
    #[must_use]
    pub fn wire(&self) -> (u32, [u64; 5]) {
        match *self {
            Body::Task { tgid, comm, mm } => {
                let half = |at: usize| comm[at..at + 8].iter().rev().fold(0, |w, b| w << 8 | u64::from(*b));
                (tgid, [half(0), half(8), mm.0, 0, 0])
            }
            Body::TaskExit { tgid, mm } => (tgid, [mm.0, 0, 0, 0, 0]),
            Body::Fork { child, child_tgid } => (child.0, [child_tgid.into(), 0, 0, 0, 0]),
            Body::OpBegin { mm, start, end, page_kib } => (page_kib, [mm.0, start.0, end.0, 0, 0]),
            Body::CallbackBegin { mm, addr, pte } | Body::Unshare { mm, addr, pte } => {
                (0, [mm.0, addr.0, pte.0, 0, 0])
            }
            Body::OpEnd { ret } => (0, [ret, 0, 0, 0, 0]),
            Body::Lookup { mm, addr, pte, repeats } => (repeats, [mm.0, addr.0, pte.0, 0, 0]),
            Body::LookupOtherSize { mm, addr, pte, page_kib } => (page_kib, [mm.0, addr.0, pte.0, 0, 0]),
            Body::Share { mm, addr, pte, count } => (count, [mm.0, addr.0, pte.0, 0, 0]),
            Body::TableAlloc { mm, addr, table } => (0, [mm.0, addr.0, table.0, 0, 0]),
            Body::Unlinked { mm, gib, table, lo_ns, now, count } => {
                (count, [mm.0, gib.0, table.0, lo_ns, now])
            }
            Body::TableFree { mm, table, count } => (count, [mm.0, table.0, 0, 0, 0]),
            Body::Lock { class, mode, lock, failed, .. } => {
                let arg = class as u32 | mode.map_or(0, |m| m as u32) << 8 | u32::from(failed) << 31;
                (arg, [lock.0, 0, 0, 0, 0])
            }
            Body::LockName { class, lock, owner, vma } => (class as u32, [lock.0, owner, vma, 0, 0]),
            Body::LockForget { class, lock } => (class as u32, [lock.0, 0, 0, 0, 0]),
            Body::FolioRequest { mapping, index, folio } => (0, [mapping.0, index, folio.0, 0, 0]),
            Body::FolioHeld { folio, mapping, index, how } => (how as u32, [folio.0, mapping.0, index, 0, 0]),
            Body::FolioRelease { folio, mapping, index } | Body::FolioWait { folio, mapping, index } => {
                (0, [folio.0, mapping.0, index, 0, 0])
            }
            Body::Stack { stack, op } => (stack, [op.0.into(), 0, 0, 0, 0]),
        }
    }

    /// Decodes a record's content; `None` for a kind, class, mode or `how` that this version does not know.
    #[must_use]
    pub fn from_wire(kind: u16, arg: u32, words: &[u64; 5]) -> Option<Body> {
        body(kind, arg, |i| words[i])
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub time_ns: u64,
    pub seq: u32,
    pub tid: Tid,
    pub cpu: u16,
    pub site: SiteId,
    pub body: Body,
}

/// Reason why a record cannot be decoded into an event. It is skipped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecodable {
    /// The kind is of a later version.
    UnknownKind(u16),
    /// The class, mode or `how` is of a later version.
    UnknownValue(u16),
}

/// Appends the record of an event in the form that [`decode`] reads. The record does not contain the CPU: each CPU has
/// its own ring.
pub fn encode(event: &Event, bytes: &mut Vec<u8>) {
    let (arg, words) = event.body.wire();
    let header = Header {
        time_ns: event.time_ns,
        seq: event.seq,
        tid: event.tid.0,
        kind: kinds::on_wire(event.body.kind()),
        site: event.site.0,
        arg,
    };
    bytes.extend(RecordBuf { header, words }.bytes());
}

/// Decodes a record of the stream of `cpu`.
///
/// # Errors
/// The record is of a later version.
pub fn decode(cpu: u16, record: Record<'_>) -> Result<Event, Undecodable> {
    let (header, kind) = (record.header(), record.kind());
    if !record.is_known() {
        return Err(Undecodable::UnknownKind(kind));
    }
    let body = body(kind, header.arg, |i| record.word(i)).ok_or(Undecodable::UnknownValue(kind))?;
    Ok(Event {
        time_ns: header.time_ns,
        seq: header.seq,
        tid: Tid(header.tid),
        cpu,
        site: SiteId(header.site),
        body,
    })
}

fn body(kind: u16, arg: u32, w: impl Fn(usize) -> u64) -> Option<Body> {
    let lock = |step| {
        Some(Body::Lock {
            step,
            class: Class::from_wire(arg & 0xff)?,
            mode: Mode::from_wire(arg >> 8 & 0xff),
            lock: LockAddr(w(0)),
            failed: arg >> 31 == 1,
        })
    };
    Some(match kind {
        kinds::TASK => {
            let mut comm = [0; 16];
            comm[..8].copy_from_slice(&w(0).to_le_bytes());
            comm[8..].copy_from_slice(&w(1).to_le_bytes());
            Body::Task { tgid: arg, comm, mm: Mm(w(2)) }
        }
        kinds::TASK_EXIT => Body::TaskExit { tgid: arg, mm: Mm(w(0)) },
        kinds::FORK => Body::Fork { child: Tid(arg), child_tgid: w(0) as u32 },
        kinds::OP_BEGIN => Body::OpBegin { mm: Mm(w(0)), start: Addr(w(1)), end: Addr(w(2)), page_kib: arg },
        kinds::CALLBACK_BEGIN => Body::CallbackBegin { mm: Mm(w(0)), addr: Addr(w(1)), pte: Pte(w(2)) },
        kinds::OP_END => Body::OpEnd { ret: w(0) },
        kinds::LOOKUP => Body::Lookup { mm: Mm(w(0)), addr: Addr(w(1)), pte: Pte(w(2)), repeats: arg },
        kinds::LOOKUP_OTHER_SIZE => {
            Body::LookupOtherSize { mm: Mm(w(0)), addr: Addr(w(1)), pte: Pte(w(2)), page_kib: arg }
        }
        kinds::SHARE => Body::Share { mm: Mm(w(0)), addr: Addr(w(1)), pte: Pte(w(2)), count: arg },
        kinds::TABLE_ALLOC => Body::TableAlloc { mm: Mm(w(0)), addr: Addr(w(1)), table: Table(w(2)) },
        kinds::UNSHARE => Body::Unshare { mm: Mm(w(0)), addr: Addr(w(1)), pte: Pte(w(2)) },
        kinds::UNLINKED => Body::Unlinked {
            mm: Mm(w(0)),
            gib: Addr(w(1)),
            table: Table(w(2)),
            lo_ns: w(3),
            now: w(4),
            count: arg,
        },
        kinds::TABLE_FREE => Body::TableFree { mm: Mm(w(0)), table: Table(w(1)), count: arg },
        kinds::LOCK_ASK => lock(LockStep::Request)?,
        kinds::LOCK_TRY => lock(LockStep::Try)?,
        kinds::LOCK_BUSY => lock(LockStep::Busy)?,
        kinds::LOCK_GAVE_UP => lock(LockStep::GaveUp)?,
        kinds::LOCK_RELEASE => lock(LockStep::Release)?,
        kinds::LOCK_DOWNGRADE => lock(LockStep::Downgrade)?,
        kinds::WAIT_BEGIN => lock(LockStep::WaitBegin)?,
        kinds::WAIT_END => lock(LockStep::WaitEnd)?,
        kinds::LOCK_NAME => Body::LockName {
            class: Class::from_wire(arg & 0xff)?,
            lock: LockAddr(w(0)),
            owner: w(1),
            vma: w(2),
        },
        kinds::LOCK_FORGET => Body::LockForget { class: Class::from_wire(arg & 0xff)?, lock: LockAddr(w(0)) },
        kinds::FOLIO_ASK => Body::FolioRequest { mapping: Mapping(w(0)), index: w(1), folio: Folio(w(2)) },
        kinds::FOLIO_HELD => Body::FolioHeld {
            folio: Folio(w(0)),
            mapping: Mapping(w(1)),
            index: w(2),
            how: [How::Returned, How::Contract, How::SlowPath]
                .get((arg as usize).checked_sub(1)?)
                .copied()?,
        },
        kinds::FOLIO_RELEASE => {
            Body::FolioRelease { folio: Folio(w(0)), mapping: Mapping(w(1)), index: w(2) }
        }
        kinds::FOLIO_WAIT => Body::FolioWait { folio: Folio(w(0)), mapping: Mapping(w(1)), index: w(2) },
        kinds::STACK => Body::Stack { stack: arg, op: SiteId(w(0) as u16) },
        _ => return None,
    })
}
