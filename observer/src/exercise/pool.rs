//! The machine's huge pages and memory nodes. Raises the pool of 2 MiB pages if a scenario needs it, and restores it
//! afterwards. Decides whether there are enough pages; never takes a page that is in use.

use super::outcome::{Result, Stop};
use super::sys;

const FOLDER: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
const GIGANTIC: &str = "/sys/kernel/mm/hugepages/hugepages-1048576kB";

/// Requirement of a scenario on the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// At least this number of free pages.
    Free(u64),
    /// Exactly this number of free pages, without reservations or overcommit: an allocation must be able to fail.
    Only(u64),
    /// At least `small` free pages, and `gigantic` free pages of 1 GiB. The latter are never taken from other memory: that can
    /// cost the machine a minute.
    Both { small: u64, gigantic: u64 },
}

/// The pool's original settings, restored on drop.
pub struct Guard {
    found: Option<Settings>,
    now: Option<Pool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Settings {
    pages: u64,
    overcommit: u64,
}

impl Settings {
    fn read() -> Result<Settings> {
        Ok(Settings { pages: read("nr_hugepages")?, overcommit: read("nr_overcommit_hugepages")? })
    }
}

impl Guard {
    pub fn new() -> Guard {
        Guard { found: None, now: None }
    }

    pub fn provide(&mut self, need: Pool) -> Result<()> {
        let current = Settings::read()?;
        let found = *self.found.get_or_insert(current);
        if self.now.is_some_and(|now| now != need) {
            apply(current, found)?;
        }
        self.now = Some(need);
        if let Pool::Both { gigantic, .. } = need {
            verify_gigantic(gigantic)?;
        }
        let (pages, free) = (read("nr_hugepages")?, read("free_hugepages")?);
        match need {
            Pool::Free(wanted) | Pool::Both { small: wanted, .. } if free >= wanted => Ok(()),
            Pool::Free(wanted) | Pool::Both { small: wanted, .. } => {
                write("nr_hugepages", pages + wanted - free)?;
                verify(read("free_hugepages")? >= wanted, wanted)
            }
            Pool::Only(wanted) => {
                write("nr_overcommit_hugepages", 0)?;
                write("nr_hugepages", pages.saturating_sub(free) + wanted)?;
                verify(read("free_hugepages")? == wanted && read("resv_hugepages")? == 0, wanted)
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(found) = self.found {
            // A failure cannot be reported here; a pool that could be raised can be lowered.
            let _ = Settings::read().and_then(|now| apply(now, found));
        }
    }
}

fn apply(now: Settings, wanted: Settings) -> Result<()> {
    if now.pages != wanted.pages {
        write("nr_hugepages", wanted.pages)?;
    }
    if now.overcommit != wanted.overcommit {
        write("nr_overcommit_hugepages", wanted.overcommit)?;
    }
    Ok(())
}

fn verify(enough: bool, wanted: u64) -> Result<()> {
    if enough {
        return Ok(());
    }
    let (free, reserved) = (read("free_hugepages")?, read("resv_hugepages")?);
    Err(Stop::Skip(format!(
        "needs {wanted} free huge pages of 2 MiB, the kernel gives {free} free, {reserved} reserved; \
         try: boot with hugepages={wanted}, or stop who uses them"
    )))
}

fn verify_gigantic(wanted: u64) -> Result<()> {
    let free = sys::read_text(format!("{GIGANTIC}/free_hugepages"));
    match free.ok().and_then(|free| free.trim().parse::<u64>().ok()) {
        Some(free) if free >= wanted => Ok(()),
        Some(free) => Err(Stop::Skip(format!(
            "needs {wanted} free huge pages of 1 GiB, the kernel has {free}; \
             try: boot with hugepagesz=1G hugepages={wanted}"
        ))),
        None => Err(Stop::Skip("this machine has no huge pages of 1 GiB".into())),
    }
}

fn read(name: &str) -> Result<u64> {
    let path = format!("{FOLDER}/{name}");
    let Ok(text) = sys::read_text(&path) else {
        return Err(Stop::Skip("this kernel has no huge pages of 2 MiB".into()));
    };
    text.trim().parse().map_err(|_| Stop::Fail(format!("read {path}: not a number: {}", text.trim())))
}

fn write(name: &str, pages: u64) -> Result<()> {
    let result = sys::write_text(format!("{FOLDER}/{name}"), &pages.to_string());
    result.map_err(|error| match error.errno() {
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => Stop::Skip(format!("{error}; try: as root")),
        _ => error.into(),
    })
}

/// Returns the nodes that have memory; empty if the kernel has no NUMA nodes.
pub fn memory_nodes() -> Vec<i32> {
    sys::read_text("/sys/devices/system/node/has_memory").map_or(Vec::new(), |listed| parse_nodes(&listed))
}

/// Returns the first two nodes that have memory, if there are two.
pub fn two_nodes() -> Option<(i32, i32)> {
    match memory_nodes().as_slice() {
        [first, second, ..] => Some((*first, *second)),
        _ => None,
    }
}

/// Parses the kernel's list format, such as `0-1,4`.
fn parse_nodes(listed: &str) -> Vec<i32> {
    let ranges = listed.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<i32>().ok()?..=last.parse::<i32>().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_lists_are_read() {
        assert_eq!(parse_nodes("0\n"), [0]);
        assert_eq!(parse_nodes("0-1\n"), [0, 1]);
        assert_eq!(parse_nodes("0,2-3,7\n"), [0, 2, 3, 7]);
        assert_eq!(parse_nodes("\n"), [] as [i32; 0]);
    }
}
