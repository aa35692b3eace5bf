//! The page on which a fault of a crowd works: its fault mutex, its folio and its place in the file.

use observer_engine::event::{Body, Class, Folio, How, LockAddr, LockStep, Mapping, Mode};

/// Number of pages of the crowd's file.
pub const PAGES: usize = 12_000;
/// Fault mutexes of a kernel with 64 possible CPUs.
const MUTEXES: u64 = 512;
const MAPPING: Mapping = Mapping(0xc_0000);

#[derive(Clone, Copy, Debug)]
pub struct Page {
    folio: Folio,
    index: u64,
}

impl Page {
    /// Returns the page with this number, at this index of the file.
    pub fn new(number: usize, index: usize) -> Page {
        Page { folio: Folio(0x9000_0000 + 0x40 * number as u64), index: index as u64 }
    }

    /// Returns an event of the fault mutex for the page's index.
    pub fn mutex(self, step: LockStep) -> Body {
        lock(step, Class::FaultMutex, Mode::Exclusive, 0x80_0000 + 0x40 * (self.index % MUTEXES))
    }

    /// Returns the request of a lookup that will return the folio locked.
    pub fn request(self) -> Body {
        Body::FolioRequest { mapping: MAPPING, index: self.index, folio: Folio(0) }
    }

    pub fn held(self) -> Body {
        Body::FolioHeld { folio: self.folio, mapping: MAPPING, index: self.index, how: How::Returned }
    }

    pub fn unlock(self) -> Body {
        Body::FolioRelease { folio: self.folio, mapping: MAPPING, index: self.index }
    }
}

/// Returns an event of a lock.
pub fn lock(step: LockStep, class: Class, mode: Mode, addr: u64) -> Body {
    Body::Lock { step, class, mode: Some(mode), lock: LockAddr(addr), failed: false }
}
