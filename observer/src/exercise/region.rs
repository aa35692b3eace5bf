//! A hugetlbfs file of whole GiB and mappings of it, laid out so that the kernel shares the page tables. This file knows when
//! a table *can* be shared; only the observer can see whether it was.

use std::os::fd::{AsRawFd, OwnedFd};

use libc::{c_int, c_long, c_void, off_t};

use super::sys::{self, Result, check};
use super::touch::{self, SigBus};

/// Bytes that one PMD table maps. A mapping shares its table only if it covers the whole aligned GiB.
pub const GIB: usize = 1 << 30;
/// Size of a base page in bytes.
pub const BASE_PAGE: usize = 4096;
/// Size of a huge page in bytes.
pub const HUGE: usize = 2 << 20;
/// Number of pages that the scenarios touch: sharing needs one, races want a few.
pub const PAGES: usize = 8;
/// Bytes in the touched part of a mapping.
pub const TOUCHED: usize = PAGES * HUGE;
/// Address at which every task maps the file: a multiple of 1 GiB, far from the C library and the stack.
pub const HOME: usize = 0x4000_0000_0000;
/// Address that `mremap` moves it to.
pub const AWAY: usize = 0x4100_0000_0000;

const READ_WRITE: c_int = libc::PROT_READ | libc::PROT_WRITE;

/// A file on the kernel's internal hugetlbfs mount: no other mount is needed, and the file ends with its last user.
pub struct HugeFile {
    fd: OwnedFd,
}

impl HugeFile {
    /// Creates a file of one GiB, which is one page table.
    pub fn new() -> Result<HugeFile> {
        HugeFile::with_len(GIB)
    }

    /// Creates a sparse file: only touched pages use the pool.
    pub fn with_len(bytes: usize) -> Result<HugeFile> {
        HugeFile::of_pages(libc::MFD_HUGE_2MB, "2 MiB", bytes)
    }

    /// Creates a sparse file of 1 GiB pages. The kernel shares no page table of such a file.
    pub fn gigantic(bytes: usize) -> Result<HugeFile> {
        HugeFile::of_pages(libc::MFD_HUGE_1GB, "1 GiB", bytes)
    }

    fn of_pages(size: libc::c_uint, name: &str, bytes: usize) -> Result<HugeFile> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_HUGETLB | size;
        // SAFETY: the name is a valid C string.
        let fd = unsafe { libc::memfd_create(c"observer-exercise".as_ptr(), flags) };
        let fd = sys::owned_fd(fd.into(), || format!("memfd_create of a file of {name} huge pages"))?;
        let file = HugeFile { fd };
        file.set_len(bytes)?;
        Ok(file)
    }

    /// Sets the length by `ftruncate`: shrinking drops pages and unmaps them everywhere, growing only moves the end.
    pub fn set_len(&self, bytes: usize) -> Result<()> {
        // SAFETY: the descriptor is open.
        let returned = unsafe { libc::ftruncate(self.fd.as_raw_fd(), bytes as off_t) };
        check(returned.into(), || format!("ftruncate of the hugetlbfs file to {bytes} bytes")).map(drop)
    }

    /// Drops whole pages; zeroes parts of a page in place, under that folio's lock.
    pub fn punch(&self, offset: usize, bytes: usize) -> Result<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: the descriptor is open.
        let returned = unsafe { libc::fallocate(self.fd.as_raw_fd(), mode, offset as off_t, bytes as off_t) };
        check(returned.into(), || format!("fallocate(PUNCH_HOLE) of {bytes} bytes at offset {offset}"))
            .map(drop)
    }
}

/// One mapping of the file, unmapped on drop.
pub struct Region {
    address: usize,
    bytes: usize,
    touched: Touched,
}

/// The touched huge pages of a mapping: their number, and their distance in huge pages.
#[derive(Clone, Copy)]
struct Touched {
    pages: usize,
    stride: usize,
}

/// The first `PAGES` huge pages of a mapping.
const FIRST: Touched = Touched { pages: PAGES, stride: 1 };

impl Region {
    /// Maps the whole file, shared, at [`HOME`], so that the kernel can share its page table.
    pub fn shared(file: &HugeFile) -> Result<Region> {
        Region::map(file, HOME, 0, GIB, libc::MAP_SHARED | libc::MAP_NORESERVE, FIRST)
    }

    /// Maps several GiB of the file at once, each with a shareable page table; one page of each is touched.
    pub fn wide(file: &HugeFile, gibs: usize) -> Result<Region> {
        Region::wide_at(file, HOME, gibs)
    }

    /// Like [`Region::wide`], at another address.
    pub fn wide_at(file: &HugeFile, address: usize, gibs: usize) -> Result<Region> {
        let touched = Touched { pages: gibs, stride: GIB / HUGE };
        Region::map(file, address, 0, gibs * GIB, libc::MAP_SHARED | libc::MAP_NORESERVE, touched)
    }

    /// Maps only the n-th GiB of the file, n GiB above [`HOME`]; its first page is touched. Each stays its own VMA, because
    /// the kernel does not merge hugetlbfs mappings.
    pub fn nth_gib(file: &HugeFile, n: usize) -> Result<Region> {
        let touched = Touched { pages: 1, stride: 1 };
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        Region::map(file, HOME + n * GIB, n * GIB, GIB, flags, touched)
    }

    /// Maps the first `bytes` of the file, shared, at [`HOME`]: too short for a shared page table.
    pub fn shared_short(file: &HugeFile, bytes: usize) -> Result<Region> {
        Region::map(file, HOME, 0, bytes, libc::MAP_SHARED | libc::MAP_NORESERVE, FIRST)
    }

    /// Makes a private mapping that owns a reservation for its pages.
    pub fn private_reserved(file: &HugeFile, bytes: usize) -> Result<Region> {
        Region::map(file, HOME, 0, bytes, libc::MAP_PRIVATE, FIRST)
    }

    fn map(
        file: &HugeFile,
        address: usize,
        offset: usize,
        bytes: usize,
        flags: c_int,
        touched: Touched,
    ) -> Result<Region> {
        let (at, fd) = (address as *mut c_void, file.fd.as_raw_fd());
        let flags = flags | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: MAP_FIXED_NOREPLACE never replaces a range that is in use; the length is not zero.
        let mapped = unsafe { libc::mmap(at, bytes, READ_WRITE, flags, fd, offset as off_t) };
        check(mapped as c_long, || format!("mmap of {bytes} bytes of the hugetlbfs file at {address:#x}"))?;
        Ok(Region { address, bytes, touched })
    }

    /// Returns the address of the n-th huge page.
    pub fn page(&self, n: usize) -> usize {
        self.address + n % (self.bytes / HUGE) * HUGE
    }

    pub fn pages(&self) -> [usize; PAGES] {
        std::array::from_fn(|n| self.page(n))
    }

    /// Stores into one page.
    pub fn write(&self, n: usize) -> std::result::Result<(), SigBus> {
        // SAFETY: inside our mapping, which holds file pages and no Rust object.
        unsafe { touch::write(self.page(n)) }
    }

    /// Loads from one page.
    pub fn read(&self, n: usize) -> std::result::Result<(), SigBus> {
        // SAFETY: inside our mapping.
        unsafe { touch::read(self.page(n)) }
    }

    /// Stores into the touched pages and returns how many stores succeeded: a race may remove pages meanwhile.
    pub fn touch(&self) -> usize {
        self.touched().filter(|&n| self.write(n).is_ok()).count()
    }

    /// Returns the numbers of the touched pages.
    fn touched(&self) -> impl Iterator<Item = usize> {
        let Touched { pages, stride } = self.touched;
        (0..pages).map(move |n| n * stride)
    }

    /// Stores into the touched pages; every store must succeed.
    pub fn fill(&self) -> Result<()> {
        self.all_of(self.touch(), "touch")
    }

    /// Loads from the touched pages, if a store is forbidden or would wait for ever; every load must succeed.
    pub fn load(&self) -> Result<()> {
        self.all_of(self.touched().filter(|&n| self.read(n).is_ok()).count(), "load")
    }

    fn all_of(&self, there: usize, tried: &str) -> Result<()> {
        let pages = self.touched.pages;
        if there == pages {
            return Ok(());
        }
        Err(sys::Error::new(
            format!("{tried} of {pages} huge pages at {:#x}, of which {there} could be had", self.address),
            std::io::Error::other("SIGBUS: the pool of huge pages is empty, or a page is poisoned"),
        ))
    }

    /// Changes the protection of the first `bytes` by `mprotect`.
    pub fn protect(&self, bytes: usize, protection: c_int) -> Result<()> {
        // SAFETY: inside our mapping; accesses that the new protection forbids are not made.
        let returned = unsafe { libc::mprotect(self.address as *mut c_void, bytes, protection) };
        check(returned.into(), || format!("mprotect of {bytes} bytes at {:#x}", self.address)).map(drop)
    }

    /// Unmaps the first `bytes`; the rest is unmapped on drop.
    pub fn unmap_head(&self, bytes: usize) -> Result<()> {
        // SAFETY: inside our mapping, which holds no Rust object.
        let returned = unsafe { libc::munmap(self.address as *mut c_void, bytes) };
        check(returned.into(), || format!("munmap of {bytes} bytes at {:#x}", self.address)).map(drop)
    }

    pub fn remap_to(&mut self, address: usize) -> Result<()> {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: the old range is ours; the new one is far from anything that is in use.
        let mapped = unsafe {
            libc::mremap(self.address as *mut c_void, self.bytes, self.bytes, flags, address as *mut c_void)
        };
        let tried = || format!("mremap of {} bytes from {:#x} to {address:#x}", self.bytes, self.address);
        check(mapped as c_long, tried)?;
        self.address = address;
        Ok(())
    }

    /// Calls `madvise` on part of the mapping; `name` is the advice as spelled in C.
    pub fn advise(&self, offset: usize, bytes: usize, advice: c_int, name: &str) -> Result<()> {
        let address = self.address + offset;
        // SAFETY: inside our mapping, which holds no Rust object.
        let returned = unsafe { libc::madvise(address as *mut c_void, bytes, advice) };
        check(returned.into(), || format!("madvise({name}) of {bytes} bytes at {address:#x}")).map(drop)
    }

    pub fn address(&self) -> usize {
        self.address
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Touches ordinary memory so that it uses this number of new page tables, until the task exits.
pub fn take_tables(tables: usize) -> Result<()> {
    let bytes = tables * HUGE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, READ_WRITE, flags, -1, 0) };
    check(at as c_long, || format!("mmap of {bytes} bytes of ordinary memory"))?;
    // A huge page would not need a table. A kernel without transparent huge pages rejects the advice and does not need it.
    // SAFETY: our mapping.
    unsafe { libc::madvise(at, bytes, libc::MADV_NOHUGEPAGE) };
    for table in 0..tables {
        // SAFETY: inside our mapping, which holds no Rust object.
        unsafe { at.cast::<u8>().add(table * HUGE).write_volatile(1) };
    }
    Ok(())
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: our own range. The only possible failure is a range that is not page aligned, but ours is.
        unsafe { libc::munmap(self.address as *mut c_void, self.bytes) };
    }
}
