//! Huge pages of 1 GiB beside those of 2 MiB. The entry of a 1 GiB page is in the mm's own upper-level table, which is never
//! shared: an observer that takes the page of each entry for a shared table is wrong here.

use super::outcome::{Result, Stop};
use super::paths::path;
use super::pool::Pool;
use super::process::Partner;
use super::reader;
use super::region::{AWAY, GIB, HugeFile, Region};
use super::{Context, Scenario};

/// Number of 1 GiB pages: two, so that one upper-level table has entries of two of them.
const PAGES: usize = 2;
const BYTES: usize = PAGES * GIB;
const POOL: Pool = Pool::Both { small: 32, gigantic: PAGES as u64 };

pub const SCENARIOS: &[Scenario] =
    &[path("gigantic", "pages of 1 GiB, unshared, beside a shared table of 2 MiB pages", &[], gigantic)
        .with_pool(POOL)
        .unshares(1)];

/// 1 unshare, at A's unmap of the 2 MiB pages. A and P map both files; what A does with the 1 GiB pages unlinks no table.
fn gigantic(_: &Context) -> Result<String> {
    let (large, small) = (HugeFile::gigantic(BYTES)?, HugeFile::new()?);
    let map = || Ok::<_, super::sys::Error>((Region::wide_at(&large, AWAY, PAGES)?, Region::shared(&small)?));
    let mut mapped = None;
    let mut partner = Partner::fork("partner", |_| {
        let (large, small) = match &mapped {
            Some(regions) => regions,
            None => mapped.insert(map()?),
        };
        large.fill()?;
        Ok(small.fill()?)
    })?;
    partner.touch()?;
    let (on_large, on_small) = map()?;
    on_large.fill()?;
    on_small.fill()?;
    // Readers that the machine or the kernel lacks change nothing here.
    let pid = partner.pid();
    for pass in reader::READERS.iter().map(|reader| reader.pass) {
        match pass(&mut reader::Reading::new(&on_large, pid)) {
            Ok(()) | Err(Stop::Skip(_)) => {}
            Err(stop) => return Err(stop),
        }
    }
    on_large.protect(BYTES, libc::PROT_READ)?;
    on_large.protect(BYTES, libc::PROT_READ | libc::PROT_WRITE)?;
    // Clearing a page takes a second in an emulator: one page is dropped twice, and comes back once.
    large.punch(GIB, GIB)?;
    partner.touch()?;
    large.set_len(GIB)?;
    on_large.unmap_head(GIB)?;
    drop(on_large);
    drop(on_small);
    partner.exit()?;
    Ok(format!("{PAGES} pages of 1 GiB, dropped by a punch and a truncation"))
}
