//! Code that looks up pte pointers and changes nothing. Each entry is a reader of the races, or a scenario that makes one
//! pass over a shared mapping, so that every lookup site is reached at least once. Most are both.

use std::borrow::Cow;
use std::fs::File;
use std::os::fd::AsRawFd;

use libc::{c_int, c_ulong, c_void, pid_t};

use super::outcome::{OrSkip, Result};
use super::paths::Pair;
use super::pool;
use super::region::{BASE_PAGE, PAGES, Region, TOUCHED};
use super::sys::{self, check};
use super::{Kind, Need, Run, Scenario};

pub struct Reader {
    pub name: &'static str,
    pub summary: &'static str,
    pub needs: &'static [Need],
    pub pass: fn(&mut Reading) -> Result<()>,
}

/// Readers of the races. Reading another task needs more rights than the other scenarios do, if ptrace is restricted.
pub const READERS: &[Reader] = &[
    Reader { name: "smaps", summary: "/proc/self/smaps", needs: &[], pass: smaps },
    Reader { name: "pagemap", summary: "/proc/self/pagemap", needs: &[], pass: pagemap },
    Reader { name: "numa_maps", summary: "/proc/self/numa_maps", needs: &[], pass: numa_maps },
    Reader { name: "mincore", summary: "mincore", needs: &[], pass: mincore },
    Reader { name: "vmread", summary: "process_vm_readv", needs: &[Need::Root], pass: vmread },
    Reader { name: "movestat", summary: "move_pages query", needs: &[Need::Root], pass: movestat },
];

const PAGEMAP_SCAN: Need = Need::Kernel("PAGEMAP_SCAN, 6.7");
const NUMA: Need = Need::Kernel("CONFIG_NUMA");

/// Readers that are scenarios only: no race with them is known to show more than the races above.
const ALONE: &[Reader] = &[
    Reader { name: "mbind", summary: "mbind(MPOL_MF_STRICT)", needs: &[NUMA], pass: mbind },
    Reader {
        name: "pagemap-scan",
        summary: "ioctl(PAGEMAP_SCAN)",
        needs: &[PAGEMAP_SCAN],
        pass: pagemap_scan,
    },
];

/// Returns a scenario of one pass for each reader.
pub fn scenarios() -> impl Iterator<Item = Scenario> {
    READERS.iter().chain(ALONE).map(|reader| Scenario {
        name: Cow::Borrowed(reader.name),
        summary: Cow::Owned(format!("{}: one pass over a shared mapping", reader.summary)),
        kind: Kind::Path,
        needs: Cow::Borrowed(reader.needs),
        // One unshare, at A's unmap.
        unshares: Some(1),
        pool: super::POOL,
        run: Run::Pass(reader),
    })
}

/// Runs one pass. A and P share a table; A reads its own page tables, and P's if the reader allows a choice.
pub fn run(reader: &Reader) -> Result<String> {
    let pair = Pair::new()?;
    (reader.pass)(&mut Reading::new(&pair.region, pair.partner.pid()))?;
    pair.end()?;
    Ok(format!("1 pass over {PAGES} pages"))
}

pub struct Reading<'a> {
    pub region: &'a Region,
    /// Tasks whose page tables are read, if the reader allows a choice: this task and its peer.
    targets: [pid_t; 2],
    pagemap: Option<File>,
}

impl<'a> Reading<'a> {
    pub fn new(region: &'a Region, peer: pid_t) -> Reading<'a> {
        // SAFETY: getpid cannot fail.
        Reading { region, targets: [unsafe { libc::getpid() }, peer], pagemap: None }
    }
}

const PAGEMAP: &str = "/proc/self/pagemap";

fn smaps(_: &mut Reading) -> Result<()> {
    sys::read_bytes("/proc/self/smaps")?;
    Ok(())
}

fn numa_maps(_: &mut Reading) -> Result<()> {
    sys::read_bytes("/proc/self/numa_maps").map(drop).or_skip(&[libc::ENOENT], "this kernel has no NUMA")
}

fn pagemap(reading: &mut Reading) -> Result<()> {
    const ENTRY: usize = 8; // one u64 per 4 KiB page
    let pagemap = match &mut reading.pagemap {
        Some(open) => open,
        closed => closed.insert(open_pagemap()?),
    };
    let mut entries = vec![0; TOUCHED / BASE_PAGE * ENTRY];
    sys::pread(pagemap, &mut entries, (reading.region.address() / BASE_PAGE * ENTRY) as u64, PAGEMAP)?;
    Ok(())
}

fn open_pagemap() -> sys::Result<File> {
    File::open(PAGEMAP).map_err(|source| sys::Error::new(format!("open {PAGEMAP}"), source))
}

fn mincore(reading: &mut Reading) -> Result<()> {
    let mut resident = [0u8; TOUCHED / BASE_PAGE];
    let address = reading.region.address() as *mut c_void;
    // SAFETY: one byte for each page of the range.
    let returned = unsafe { libc::mincore(address, TOUCHED, resident.as_mut_ptr()) };
    check(returned.into(), || format!("mincore of {TOUCHED} bytes at {address:p}"))?;
    Ok(())
}

fn vmread(reading: &mut Reading) -> Result<()> {
    for target in reading.targets {
        tolerate(sys::vm_read(target, &reading.region.pages()).map(drop))?;
    }
    Ok(())
}

fn movestat(reading: &mut Reading) -> Result<()> {
    for target in reading.targets {
        tolerate(sys::move_pages(target, &reading.region.pages(), None).map(drop))?;
    }
    Ok(())
}

/// Ignores errors that a race can cause: the page may be gone (EFAULT), or the peer, which ends at the same time (ESRCH;
/// EPERM while it exits, EINVAL when its mm is gone).
fn tolerate(result: sys::Result<()>) -> Result<()> {
    match result {
        Err(error)
            if !matches!(error.errno(), Some(libc::EFAULT | libc::ESRCH | libc::EPERM | libc::EINVAL)) =>
        {
            Err(error.into())
        }
        _ => Ok(()),
    }
}

/// Applies a policy that every page already satisfies to the whole mapping: nothing moves and no VMA is split.
fn mbind(reading: &mut Reading) -> Result<()> {
    sys::mbind(reading.region.address(), reading.region.bytes(), &pool::memory_nodes())
        .or_skip(&[libc::ENOSYS], "this kernel has no NUMA")
}

fn pagemap_scan(reading: &mut Reading) -> Result<()> {
    // _IOWR('f', 16, struct pm_scan_arg), linux/fs.h, not in libc.
    const PAGEMAP_SCAN: c_ulong = 0xc060_6610;
    const PAGE_IS_PRESENT: u64 = 1 << 3;
    let pagemap = open_pagemap()?;
    let (start, end) = (reading.region.address() as u64, (reading.region.address() + TOUCHED) as u64);
    // struct page_region: start, end, categories
    let mut regions = [[0u64; 3]; PAGES];
    // size, flags, start, end, walk_end, vec, vec_len, max_pages, then masks: inverted, all of, any of, to return
    const SIZE: u64 = 12 * size_of::<u64>() as u64;
    let vector = regions.as_mut_ptr() as u64;
    let mut arg =
        [SIZE, 0, start, end, 0, vector, regions.len() as u64, 0, 0, PAGE_IS_PRESENT, 0, PAGE_IS_PRESENT];
    // SAFETY: the structure that belongs to this number, with its size; `regions` has the given length.
    let returned: c_int = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, arg.as_mut_ptr()) };
    check(returned.into(), || format!("PAGEMAP_SCAN of {TOUCHED} bytes at {start:#x}"))
        .map(drop)
        .or_skip(&[libc::ENOTTY], "this kernel has no PAGEMAP_SCAN")
}
