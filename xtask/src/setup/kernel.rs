//! A stock kernel out of Debian's packages. The package is unpacked, not installed; only the image is kept.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{Cache, apt};
use crate::{
    kernels::{Package, Row},
    say,
};

/// A kernel that a guest can boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The row's name.
    pub name: String,
    /// The package's version.
    pub version: String,
    pub vmlinuz: PathBuf,
}

impl fmt::Display for Kernel {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "kernel {} ({})", self.name, self.version)
    }
}

pub(super) fn kernel(cache: &Cache, row: &Row) -> Result<Kernel> {
    // The wanted version is part of the name, so that a changed row is looked up anew.
    let wanted = row.known.as_deref().unwrap_or("newest");
    let name = format!("kernels/{}-{}-{wanted}", row.name, row.flavour);
    let good = |entry: &Path| entry.join("vmlinuz").exists() && entry.join("version").exists();
    let entry = cache.entry(&name, good, |into| fetch(cache, row, into)).with_context(|| {
        format!("cannot get kernel {} ({}) from {}", row.name, row.flavour, row.suites.join(", "))
    })?;
    let version = fs::read_to_string(entry.join("version")).context("cannot read the kernel's version")?;
    Ok(Kernel { name: row.name.clone(), version: version.trim().to_owned(), vmlinuz: entry.join("vmlinuz") })
}

fn fetch(cache: &Cache, row: &Row, into: &Path) -> Result<()> {
    apt::check()?;
    for name in &row.suites {
        let suite = apt::Suite::open(&cache.root, name)?;
        let mut packages = Vec::new();
        for kind in ["linux-image", "linux-binary"] {
            let prefix = format!("{kind}-{}", row.name);
            packages.extend(suite.packages(&prefix, |package| row.is_candidate(package))?);
        }
        let Some(version) = row.choose(packages.iter().map(|package| package.version.as_str())) else {
            continue;
        };
        if !row.is_known(version) {
            let known = row.known.as_deref().unwrap_or_default();
            say::note(&format!("kernel {}: {name} has no {known} any more, taking {version}", row.name));
        }
        let mut same: Vec<&Package> = packages.iter().filter(|package| package.version == version).collect();
        // The signed image and the unsigned one hold the same kernel.
        same.sort_by_key(|package| package.name.len());
        for package in same {
            if image_of(cache, &suite, package, into)? {
                fs::write(into.join("version"), version).context("cannot keep the kernel's version")?;
                return Ok(());
            }
        }
        bail!("no package of version {version} in {name} holds an image");
    }
    bail!("no suite has it\ntry: name a suite that has the series in xtask/kernels.toml")
}

/// Looks for the image in the package, whatever the package's name promises.
fn image_of(cache: &Cache, suite: &apt::Suite, package: &Package, into: &Path) -> Result<bool> {
    let scratch = cache.scratch()?;
    let found =
        say::step(&format!("kernel: {} {} from {}", package.name, package.version, suite.name), || {
            let deb = suite.download(package, &scratch)?;
            apt::unpack(&deb, &scratch)?;
            let Some(image) = find_image(&scratch) else { return Ok(false) };
            fs::rename(&image, into.join("vmlinuz")).context("cannot keep the kernel's image")?;
            Ok(true)
        })?;
    super::clear(&scratch)?;
    Ok(found)
}

fn find_image(directory: &Path) -> Option<PathBuf> {
    for entry in fs::read_dir(directory).ok()?.flatten() {
        let kind = entry.file_type().ok()?;
        if kind.is_dir() {
            if let Some(image) = find_image(&entry.path()) {
                return Some(image);
            }
        } else if kind.is_file() && entry.file_name().to_string_lossy().starts_with("vmlinuz") {
            return Some(entry.path());
        }
    }
    None
}
