//! Lock classes as the lock-order graph tells them apart: those of the wire, with the folio lock split in three.
//!
//! Page-cache and anonymous folios are two classes: kernels that fixed the deadlock of fault mutex and page-cache folio
//! still take the fault mutex under an anonymous one, and with one class that would be a false cycle.

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
    /// Anonymous folio.
    FolioAnon,
    /// Folio whose mapping was not told, or that has none.
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

    /// There is one for each page, or for each table, or a few hundred for all pages.
    #[must_use]
    pub fn is_of_page(self) -> bool {
        matches!(self.wire(), Class::FaultMutex | Class::Ptl | Class::Folio)
    }

    /// The class of the wire that it is part of.
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

    /// By the mapping word of the folio.
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
