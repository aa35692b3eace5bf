//! Operations on huge pages of 2 MiB.

use std::io;

use crate::{
    meter::{Batch, Operation},
    sys::{GIB, HUGE, HugeFile, Mapping, move_page},
};

const GROUP: &str = "hugetlbfs";
/// Addresses of the mappings: multiples of 1 GiB, far from everything else.
const HOME: usize = 0x4000_0000_0000;
const OTHER: usize = 0x4100_0000_0000;
/// Touched pages of a mapping.
const PAGES: usize = 8;
/// Faults in a batch that clears no page.
const FAULTS: usize = 16;
/// New pages in a batch. Each is counted alone, since clearing it takes about as long as the time between two timer ticks.
const NEW: usize = 2;

pub const OPERATIONS: &[Operation] = &[
    operation("fault, page in the page cache", 0, cached_fault),
    operation("fault, new private page", HUGE as u64, private_fault),
    operation("fault, new page of a file", HUGE as u64, file_fault),
    operation("mmap, 8 touches, munmap: one share, one unshare", 0, share),
    operation("munmap of an own table, 512 slots", 0, unmap),
    operation("mprotect of 8 pages", 0, protect),
    operation("migration of one page", HUGE as u64, migrate),
];

const fn operation(name: &'static str, string_bytes: u64, start: fn() -> io::Result<Batch>) -> Operation {
    Operation { name, group: GROUP, string_bytes, start }
}

/// Makes a file of 1 GiB whose first pages are in the page cache.
fn filled(pages: usize) -> io::Result<HugeFile> {
    let file = HugeFile::new(GIB)?;
    let mapping = Mapping::shared(&file, HOME, pages * HUGE)?;
    (0..pages).for_each(|page| mapping.touch(page));
    Ok(file)
}

fn cached_fault() -> io::Result<Batch> {
    let file = filled(1 + FAULTS)?;
    Ok(Box::new(move |meter| {
        let mapping = Mapping::shared(&file, HOME, (1 + FAULTS) * HUGE)?;
        // The first fault allocates the page table.
        mapping.touch(0);
        meter.batch(FAULTS as u64, || (1..=FAULTS).for_each(|page| mapping.touch(page)));
        Ok(())
    }))
}

fn private_fault() -> io::Result<Batch> {
    Ok(Box::new(|meter| {
        let mapping = Mapping::private_huge(HOME, (1 + NEW) * HUGE)?;
        mapping.touch(0);
        (1..=NEW).for_each(|page| meter.batch(1, || mapping.touch(page)));
        Ok(())
    }))
}

fn file_fault() -> io::Result<Batch> {
    let file = HugeFile::new(0)?;
    Ok(Box::new(move |meter| {
        file.set_length(0)?;
        file.set_length(GIB)?;
        let mapping = Mapping::shared(&file, HOME, (1 + NEW) * HUGE)?;
        mapping.touch(0);
        (1..=NEW).for_each(|page| meter.batch(1, || mapping.touch(page)));
        Ok(())
    }))
}

fn share() -> io::Result<Batch> {
    let file = filled(PAGES)?;
    let partner = Mapping::shared(&file, HOME, GIB)?;
    (0..PAGES).for_each(|page| partner.touch(page));
    Ok(Box::new(move |meter| {
        let _ = &partner;
        meter.batch(1, || {
            let mapping = Mapping::shared(&file, OTHER, GIB)?;
            (0..PAGES).for_each(|page| mapping.touch(page));
            Ok(())
        })
    }))
}

fn unmap() -> io::Result<Batch> {
    let file = filled(1)?;
    Ok(Box::new(move |meter| {
        let mapping = Mapping::shared(&file, HOME, GIB)?;
        mapping.touch(0);
        meter.batch(1, move || drop(mapping));
        Ok(())
    }))
}

fn protect() -> io::Result<Batch> {
    let file = filled(PAGES)?;
    let mapping = Mapping::shared(&file, HOME, PAGES * HUGE)?;
    (0..PAGES).for_each(|page| mapping.touch(page));
    Ok(Box::new(move |meter| {
        meter.batch(2, || {
            mapping.protect(libc::PROT_READ)?;
            mapping.protect(libc::PROT_READ | libc::PROT_WRITE)
        })
    }))
}

fn migrate() -> io::Result<Batch> {
    let mapping = Mapping::private_huge(HOME, HUGE)?;
    mapping.touch(0);
    move_page(mapping.huge_page(0), 0)?;
    Ok(Box::new(move |meter| {
        // There and back, each counted alone.
        [1, 0].into_iter().try_for_each(|node| meter.batch(1, || move_page(mapping.huge_page(0), node)))
    }))
}
