//! Puts everything that building and booting need into the cache, once: a source of `core` for the BPF target, the BPF
//! linker, QEMU, a static busybox, tmux and the kernels. Nothing outside the cache changes, except that rustup, if present,
//! may add rust-src to its toolchain. Parts that exist are not checked again, so a second call is quick.
//!
//! Every part is made under a temporary name and renamed when it is complete, so a broken download never counts as done.

mod apt;
mod bpf;
mod kernel;
mod qemu;
mod tmux;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use self::kernel::Absent;
pub use self::{bpf::BpfTools, kernel::Kernel, qemu::Qemu, tmux::Tmux};
use crate::{host, kernels, say};

/// Tools that a guest needs in addition to its kernel.
#[derive(Clone)]
pub struct GuestTools {
    pub qemu: Qemu,
    pub busybox: PathBuf,
}

/// Runs `cargo xtask setup`: sets up everything, and reports everything that is missing at once.
pub fn all() -> Result<()> {
    let begun = Instant::now();
    let cache = Cache::open()?;
    let mut problems = Vec::new();
    let mut have = Vec::new();
    let mut part = |result: Result<String>| match result {
        Ok(what) => have.push(what),
        Err(error) => problems.push(format!("{error:#}")),
    };
    part(bpf::tools(&cache).map(|tools| tools.to_string()));
    part(qemu::qemu(&cache).map(|qemu| qemu.to_string()));
    part(qemu::busybox(&cache).map(|_| "busybox".into()));
    part(tmux::tmux(&cache).map(|_| "tmux".into()));
    for selection in kernels::select_all(&[], None)? {
        let kernel = kernel::kernel(&cache, &selection).map(|kernel| kernel.to_string());
        part(kernel.or_else(|error| Ok(format!("not {}", error.downcast::<Absent>()?))));
    }
    if !problems.is_empty() {
        bail!("set-up is not complete\n{}", problems.join("\n"));
    }
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("set-up complete in {} ({seconds:.1} s): {}", cache.root.display(), have.join(", "));
    Ok(())
}

pub fn bpf_tools() -> Result<BpfTools> {
    bpf::tools(&Cache::open()?)
}

pub fn guest_tools() -> Result<GuestTools> {
    let cache = Cache::open()?;
    Ok(GuestTools { qemu: qemu::qemu(&cache)?, busybox: qemu::busybox(&cache)? })
}

/// Returns the terminal in which the dashboard is driven.
pub fn tmux() -> Result<Tmux> {
    tmux::tmux(&Cache::open()?)
}

pub fn kernel(selection: &kernels::Selection) -> Result<Kernel> {
    kernel::kernel(&Cache::open()?, selection)
}

/// Kernels that were found, each with its selection.
#[derive(Default)]
pub struct Found {
    pub kernels: Vec<(kernels::Selection, Kernel)>,
    /// Reasons why other kernels, which may be absent, were not found.
    pub absent: Vec<String>,
}

/// Finds all selected kernels except those that may be absent; an error lists every kernel that is missing.
pub fn kernels(selections: &[kernels::Selection]) -> Result<Found> {
    let (mut found, mut problems) = (Found::default(), Vec::new());
    for selection in selections {
        match kernel(selection).map_err(anyhow::Error::downcast::<Absent>) {
            Ok(kernel) => found.kernels.push((selection.clone(), kernel)),
            Err(Ok(absent)) => found.absent.push(format!("not testable here: {absent}")),
            Err(Err(error)) => problems.push(format!("{error:#}")),
        }
    }
    if problems.is_empty() { Ok(found) } else { bail!("{}", problems.join("\n")) }
}

/// The cache directory, which outlives checkouts.
struct Cache {
    root: PathBuf,
}

impl Cache {
    fn open() -> Result<Cache> {
        Ok(Cache { root: host::cache_dir()? })
    }

    /// Returns the entry of this name, and makes it if it is missing. `make` fills an empty directory. `good` returns true if
    /// an entry is valid; an invalid one is made again.
    fn entry(
        &self,
        name: &str,
        good: impl Fn(&Path) -> bool,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let entry = self.root.join(name);
        if good(&entry) {
            return Ok(entry);
        }
        let temporary = self.root.join("tmp").join(name.replace('/', "-"));
        let _lock = self.lock()?;
        if good(&entry) {
            return Ok(entry);
        }
        clear(&temporary)?;
        fs::create_dir_all(&temporary).with_context(|| format!("cannot make {}", temporary.display()))?;
        make(&temporary)?;
        if let Some(parent) = entry.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        clear(&entry)?;
        fs::rename(&temporary, &entry).with_context(|| format!("cannot put {} in place", entry.display()))?;
        if !good(&entry) {
            bail!("{} was made and is not what it should be", entry.display());
        }
        Ok(entry)
    }

    /// Locks the cache. Two processes that fill the same entry would do the work twice and rename over each other, and
    /// apt-get refuses to read lists that another process reads. The lock is held while the file lives; do not lock twice.
    fn lock(&self) -> Result<fs::File> {
        fs::create_dir_all(self.root.join("tmp"))
            .with_context(|| format!("cannot make the cache {}", self.root.display()))?;
        let lock = fs::File::create(self.root.join("tmp/lock")).context("cannot make the cache's lock")?;
        if lock.try_lock().is_err() {
            say::step("waiting for another set-up on this cache", || Ok(lock.lock()?))?;
        }
        Ok(lock)
    }

    /// Returns an empty scratch directory for downloads.
    fn scratch(&self) -> Result<PathBuf> {
        let scratch = self.root.join("tmp/downloads");
        clear(&scratch)?;
        fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        Ok(scratch)
    }
}

fn clear(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_whole_or_absent() {
        let root = std::env::temp_dir().join(format!("xtask-cache-{}", std::process::id()));
        let cache = Cache { root: root.clone() };
        let good = |path: &Path| path.join("whole").exists();
        let broken = cache.entry("a/b", good, |into| {
            fs::write(into.join("half"), "")?;
            bail!("the line is cut")
        });
        assert!(broken.is_err() && !root.join("a/b").exists());
        let made = cache.entry("a/b", good, |into| {
            assert!(!into.join("half").exists(), "begins empty");
            Ok(fs::write(into.join("whole"), "")?)
        });
        assert_eq!(made.unwrap(), root.join("a/b"));
        cache.entry("a/b", good, |_| panic!("made twice")).unwrap();
        fs::remove_dir_all(root).unwrap();
    }
}
