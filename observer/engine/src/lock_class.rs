//! Lock classes of the lock-order graph: the classes on the wire, with the folio lock split in three.
//!
//! Page-cache and anonymous folios are two classes. Kernels that fixed the deadlock of fault mutex and page-cache folio
//! still acquire the fault mutex under an anonymous folio; with a single class, that would be a false cycle.

use crate::event::{Class, Mapping};

/// A node of the class graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum LockClass {
    MmapLock,
    VmaLock,
    IMmap,
    FaultMutex,
    Inode,
    Ptl,
    /// Folio in the page cache.
    FolioFile,
    /// Folio that is anonymous.
    FolioAnon,
    /// Folio without a mapping, or whose mapping is not known.
    Folio,
}

impl LockClass {
    pub const ALL: [LockClass; 9] = [
        LockClass::MmapLock,
        LockClass::VmaLock,
        LockClass::IMmap,
        LockClass::FaultMutex,
        LockClass::Inode,
        LockClass::Ptl,
        LockClass::FolioFile,
        LockClass::FolioAnon,
        LockClass::Folio,
    ];

    #[must_use]
    pub fn is_folio(self) -> bool {
        self.wire() == Class::Folio
    }

    /// Returns true for classes with one lock per page or table, and for the few hundred fault mutexes that serve all
    /// pages.
    #[must_use]
    pub fn is_of_page(self) -> bool {
        matches!(self.wire(), Class::FaultMutex | Class::Ptl | Class::Folio)
    }

    /// Returns the wire's class that contains this one.
    #[must_use]
    pub fn wire(self) -> Class {
        match self {
            LockClass::MmapLock => Class::MmapLock,
            LockClass::VmaLock => Class::VmaLock,
            LockClass::IMmap => Class::IMmap,
            LockClass::FaultMutex => Class::FaultMutex,
            LockClass::Inode => Class::Inode,
            LockClass::Ptl => Class::Ptl,
            LockClass::FolioFile | LockClass::FolioAnon | LockClass::Folio => Class::Folio,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LockClass::FolioFile => "folio_lock(file)",
            LockClass::FolioAnon => "folio_lock(anon)",
            other => other.wire().name(),
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<LockClass> {
        LockClass::ALL.into_iter().find(|c| c.name() == name)
    }

    /// Returns the class of a folio lock from the folio's mapping word.
    #[must_use]
    pub fn of_folio(mapping: Mapping) -> LockClass {
        match mapping.0 {
            0 => LockClass::Folio,
            m if m & 1 == 1 => LockClass::FolioAnon,
            _ => LockClass::FolioFile,
        }
    }
}

impl From<Class> for LockClass {
    fn from(class: Class) -> LockClass {
        match class {
            Class::MmapLock => LockClass::MmapLock,
            Class::VmaLock => LockClass::VmaLock,
            Class::IMmap => LockClass::IMmap,
            Class::FaultMutex => LockClass::FaultMutex,
            Class::Inode => LockClass::Inode,
            Class::Ptl => LockClass::Ptl,
            Class::Folio => LockClass::Folio,
        }
    }
}
