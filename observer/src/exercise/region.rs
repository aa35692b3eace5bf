//! A hugetlbfs file of whole GiB and mappings of it, laid out so that the kernel shares the page tables.
//! Says when a table *can* be shared; whether it was is for the observer to see, not for the exerciser.

use std::os::fd::{AsRawFd, OwnedFd};

use libc::{c_int, c_long, c_void, off_t};

use super::sys::{self, Result, check};
use super::touch::{self, SigBus};

/// What one PMD table maps. A mapping shares its table only if it covers a whole aligned one.
pub const GIB: usize = 1 << 30;
/// One page of the page tables below.
pub const BASE_PAGE: usize = 4096;
/// One huge page.
pub const HUGE: usize = 2 << 20;
/// How many pages the scenarios touch: sharing needs one, races want a few.
pub const PAGES: usize = 8;
/// The touched part of a mapping.
pub const TOUCHED: usize = PAGES * HUGE;
/// Where every task maps the file: a multiple of 1 GiB far from what a C library or a stack uses.
pub const HOME: usize = 0x4000_0000_0000;
/// Where `mremap` moves it to.
pub const AWAY: usize = 0x4100_0000_0000;

const READ_WRITE: c_int = libc::PROT_READ | libc::PROT_WRITE;

/// A file on the kernel's own hugetlbfs mount: no mount of ours is needed, and it goes with its last user.
pub struct HugeFile {
    fd: OwnedFd,
}

impl HugeFile {
    /// One GiB, which is one page table.
    pub fn new() -> Result<HugeFile> {
        HugeFile::with_len(GIB)
    }

    /// Sparse: it takes of the pool what is touched.
    pub fn with_len(bytes: usize) -> Result<HugeFile> {
        let flags = libc::MFD_CLOEXEC | libc::MFD_HUGETLB | libc::MFD_HUGE_2MB;
        // SAFETY: the name is a valid C string.
        let fd = unsafe { libc::memfd_create(c"observer-exercise".as_ptr(), flags) };
        let fd = sys::owned_fd(fd.into(), || "memfd_create of a file of 2 MiB huge pages".into())?;
        let file = HugeFile { fd };
        file.set_len(bytes)?;
        Ok(file)
    }

    /// `ftruncate`: down drops pages and unmaps them everywhere, up only moves the end.
    pub fn set_len(&self, bytes: usize) -> Result<()> {
        // SAFETY: the descriptor is open.
        let returned = unsafe { libc::ftruncate(self.fd.as_raw_fd(), bytes as off_t) };
        check(returned.into(), || format!("ftruncate of the hugetlbfs file to {bytes} bytes")).map(drop)
    }

    /// Whole pages are dropped, parts of one are zeroed in place, under that folio's lock.
    pub fn punch(&self, offset: usize, bytes: usize) -> Result<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: the descriptor is open.
        let returned = unsafe { libc::fallocate(self.fd.as_raw_fd(), mode, offset as off_t, bytes as off_t) };
        check(returned.into(), || format!("fallocate(PUNCH_HOLE) of {bytes} bytes at offset {offset}"))
            .map(drop)
    }
}

/// One mapping of the file, gone when dropped.
pub struct Region {
    address: usize,
    bytes: usize,
    touched: Touched,
}

/// Which huge pages of a mapping are the touched ones: so many, so far apart.
#[derive(Clone, Copy)]
struct Touched {
    pages: usize,
    stride: usize,
}

/// The first few of the file.
const FIRST: Touched = Touched { pages: PAGES, stride: 1 };

impl Region {
    /// The whole file, shared, at [`HOME`]: what the kernel shares a page table for.
    pub fn shared(file: &HugeFile) -> Result<Region> {
        Region::map(file, HOME, 0, GIB, libc::MAP_SHARED | libc::MAP_NORESERVE, FIRST)
    }

    /// Several GiB of the file by one mapping, which shares a page table for each; one page of each is touched.
    pub fn wide(file: &HugeFile, gibs: usize) -> Result<Region> {
        let touched = Touched { pages: gibs, stride: GIB / HUGE };
        Region::map(file, HOME, 0, gibs * GIB, libc::MAP_SHARED | libc::MAP_NORESERVE, touched)
    }

    /// The n-th GiB of the file by itself, n GiB above [`HOME`]; its first page is touched. The kernel merges no
    /// hugetlbfs mappings, so that each stays a VMA of its own.
    pub fn nth_gib(file: &HugeFile, n: usize) -> Result<Region> {
        let touched = Touched { pages: 1, stride: 1 };
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        Region::map(file, HOME + n * GIB, n * GIB, GIB, flags, touched)
    }

    /// Only the touched pages, shared, at [`HOME`]: too short for a shared page table.
    pub fn shared_short(file: &HugeFile, bytes: usize) -> Result<Region> {
        Region::map(file, HOME, 0, bytes, libc::MAP_SHARED | libc::MAP_NORESERVE, FIRST)
    }

    /// A private mapping that owns a reservation for its pages.
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
        // SAFETY: MAP_FIXED_NOREPLACE never takes a range that is in use; the length is not zero.
        let got = unsafe { libc::mmap(at, bytes, READ_WRITE, flags, fd, offset as off_t) };
        check(got as c_long, || format!("mmap of {bytes} bytes of the hugetlbfs file at {address:#x}"))?;
        Ok(Region { address, bytes, touched })
    }

    /// Address of the n-th huge page.
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

    /// Stores into the touched pages. How many were there: a race may take some away meanwhile.
    pub fn touch(&self) -> usize {
        self.touched().filter(|&n| self.write(n).is_ok()).count()
    }

    /// Numbers of the touched pages.
    fn touched(&self) -> impl Iterator<Item = usize> {
        let Touched { pages, stride } = self.touched;
        (0..pages).map(move |n| n * stride)
    }

    /// Stores into the touched pages; all of them must be there.
    pub fn fill(&self) -> Result<()> {
        self.all_of(self.touch(), "touch")
    }

    /// Loads from the touched pages, where a store is not permitted or would wait for ever; all must be there.
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

    /// `mprotect` from the front.
    pub fn protect(&self, bytes: usize, protection: c_int) -> Result<()> {
        // SAFETY: inside our mapping; accesses that are no longer permitted are not made.
        let returned = unsafe { libc::mprotect(self.address as *mut c_void, bytes, protection) };
        check(returned.into(), || format!("mprotect of {bytes} bytes at {:#x}", self.address)).map(drop)
    }

    /// Unmaps from the front; the rest stays, and is unmapped on drop.
    pub fn unmap_head(&self, bytes: usize) -> Result<()> {
        // SAFETY: inside our mapping, where nothing of Rust's lives.
        let returned = unsafe { libc::munmap(self.address as *mut c_void, bytes) };
        check(returned.into(), || format!("munmap of {bytes} bytes at {:#x}", self.address)).map(drop)
    }

    pub fn remap_to(&mut self, address: usize) -> Result<()> {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: the old range is ours; the new one is far from anything that is in use.
        let got = unsafe {
            libc::mremap(self.address as *mut c_void, self.bytes, self.bytes, flags, address as *mut c_void)
        };
        let tried = || format!("mremap of {} bytes from {:#x} to {address:#x}", self.bytes, self.address);
        check(got as c_long, tried)?;
        self.address = address;
        Ok(())
    }

    /// `madvise` on part of the mapping; `name` is the advice as a C programmer would write it.
    pub fn advise(&self, offset: usize, bytes: usize, advice: c_int, name: &str) -> Result<()> {
        let address = self.address + offset;
        // SAFETY: inside our mapping, where nothing of Rust's lives.
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

/// Ordinary memory in so many page tables of its own, there until the task exits.
pub fn take_tables(tables: usize) -> Result<()> {
    let bytes = tables * HUGE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping wherever there is room.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, READ_WRITE, flags, -1, 0) };
    check(at as c_long, || format!("mmap of {bytes} bytes of ordinary memory"))?;
    // A huge page would need no table. A kernel without transparent huge pages refuses, and has none.
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
        // SAFETY: our own range. The only failure is a range that is not page aligned, which ours are.
        unsafe { libc::munmap(self.address as *mut c_void, self.bytes) };
    }
}
