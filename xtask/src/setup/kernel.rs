//! Gets a stock kernel from Debian's packages. It is unpacked, not installed, and only the image is kept. `kernels` chooses
//! the package.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{Cache, apt};
use crate::{
    kernels::{self, Choice, Offer, Package, Row, Selection, Wanted},
    say,
};

/// A kernel that a guest can boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The row's name, the user's text, or the version that replaces a row of another series.
    pub name: String,
    /// True if it belongs to a row's series and the matrix is recorded for that row.
    pub is_row: bool,
    /// Version of the Debian package.
    pub version: String,
    pub flavour: String,
    pub vmlinuz: PathBuf,
    /// Notice that it differs from what the row says.
    pub notice: Option<String>,
}

/// No suite has the exact kernel of a row: tests that need it cannot run, which is not a failure.
#[derive(Debug)]
pub struct Absent(String);

impl fmt::Display for Absent {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Absent {}

impl fmt::Display for Kernel {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let Kernel { name, version, flavour, .. } = self;
        let flavour = if flavour == kernels::FLAVOUR { String::new() } else { format!(", {flavour}") };
        write!(out, "kernel {name} ({version}{flavour})")
    }
}

pub(super) fn kernel(cache: &Cache, selection: &Selection) -> Result<Kernel> {
    if let Selection::Row(row) = selection
        && let entry = cache.root.join(row_entry(row))
        && is_whole(&entry)
    {
        return kept(selection, &row.flavour, &entry);
    }
    let context = || format!("cannot get kernel {}", selection.name());
    let (choice, offers) = find(cache, selection).with_context(context)?;
    let name = entry_name(selection, &choice);
    let entry =
        cache.entry(&name, is_whole, |into| fetch(cache, &choice, &offers, into)).with_context(context)?;
    kept(selection, &choice.flavour, &entry)
}

fn is_whole(entry: &Path) -> bool {
    entry.join("vmlinuz").exists() && entry.join("version").exists()
}

fn kept(selection: &Selection, flavour: &str, entry: &Path) -> Result<Kernel> {
    let version = fs::read_to_string(entry.join("version")).context("cannot read the kernel's version")?;
    let version = version.trim().to_owned();
    let notice = selection.row().and_then(|row| row.notice(&version));
    if let Some(notice) = &notice {
        say::note(notice);
    }
    let (name, is_row) = name_of(selection, &version, flavour);
    Ok(Kernel { name, is_row, version, flavour: flavour.to_owned(), vmlinuz: entry.join("vmlinuz"), notice })
}

/// Returns the name, and true if results are recorded for the row. A kernel of another series is not the row: the row's
/// facts, grades and budget do not apply to it.
fn name_of(selection: &Selection, version: &str, flavour: &str) -> (String, bool) {
    match selection.row() {
        Some(row) if !row.has(version) => {
            let wanted = Wanted::parse(version, flavour);
            (wanted.map_or(version.to_owned(), |wanted| wanted.name), false)
        }
        row => (selection.name().to_owned(), row.is_some_and(Row::has_matrix)),
    }
}

/// The name contains the wanted version, so that a changed row is looked up again.
fn row_entry(row: &Row) -> String {
    let wanted = row.known.as_deref().unwrap_or("newest");
    format!("kernels/{}-{}-{wanted}", row.name, row.flavour)
}

/// Returns the cache name. A substitute from another series is named after its own package, so that the row is looked up
/// again next time: a suite that could not be read today may be available tomorrow. Versions and flavours contain no
/// underscore.
fn entry_name(selection: &Selection, choice: &Choice) -> String {
    match selection.row().filter(|row| row.has(&choice.version)) {
        Some(row) => row_entry(row),
        None => format!("kernels/{}_{}", choice.flavour, choice.version),
    }
}

/// The part of the archive that could be read.
struct Archive<'a> {
    cache: &'a Cache,
    unread: Vec<String>,
}

fn find(cache: &Cache, selection: &Selection) -> Result<(Choice, Vec<Offer>)> {
    apt::check()?;
    let _lock = cache.lock()?;
    let mut archive = Archive { cache, unread: Vec::new() };
    match selection {
        Selection::Row(row) => {
            let offers = archive.read(&row.suites);
            if let Some(choice) = kernels::in_series(row, &offers) {
                return Ok((choice, offers));
            }
            if row.exact {
                return Err(archive.has_no_more(row));
            }
            let offers = archive.read(&kernels::suites()?);
            match kernels::nearest(row, &offers) {
                Some(choice) => Ok((choice, offers)),
                None => Err(archive.has_no(&format!("kernel of the flavour {}", row.flavour), "")),
            }
        }
        Selection::Version(wanted) => {
            let offers = archive.read(&kernels::suites()?);
            match kernels::wanted(wanted, &offers) {
                Some(choice) => Ok((choice, offers)),
                None => Err(archive.has_no_such(wanted, &offers)),
            }
        }
    }
}

impl Archive<'_> {
    /// Returns all kernels of these suites. An unreadable suite is noted, but may not matter.
    fn read(&mut self, suites: &[String]) -> Vec<Offer> {
        let mut offers = Vec::new();
        for name in suites {
            match self.suite(name) {
                Ok(found) => offers.extend(found),
                Err(error) if self.unread.contains(name) => drop(error),
                Err(error) => {
                    say::note(&format!("{error:#}"));
                    self.unread.push(name.clone());
                }
            }
        }
        offers
    }

    fn suite(&self, name: &str) -> Result<Vec<Offer>> {
        let suite = apt::Suite::open(&self.cache.root, name)?;
        let mut offers = Vec::new();
        let named = |package: &str| Package { name: package.to_owned(), version: String::new() };
        for kind in ["linux-image-", "linux-binary-"] {
            let packages = suite.packages(kind, |package| kernels::offer(name, &named(package)).is_some())?;
            offers.extend(packages.iter().filter_map(|package| kernels::offer(name, package)));
        }
        Ok(offers)
    }

    fn has_no_more(&self, row: &Row) -> anyhow::Error {
        let unread = match self.unread.as_slice() {
            [] => String::new(),
            unread => format!(" (not read: {})", unread.join(", ")),
        };
        let suites = row.suites.join(", ");
        Absent(format!("kernel {}: no package of it in {suites}{unread}", row.name)).into()
    }

    fn has_no_such(&self, wanted: &Wanted, offers: &[Offer]) -> anyhow::Error {
        let what = format!("{} of the flavour {}", wanted.needle, wanted.flavour);
        self.has_no(&what, &kernels::near(wanted, offers))
    }

    fn has_no(&self, what: &str, near: &str) -> anyhow::Error {
        let suites = kernels::suites().unwrap_or_default();
        let (unread, read): (Vec<&str>, Vec<&str>) =
            suites.iter().map(String::as_str).partition(|suite| self.unread.iter().any(|name| name == suite));
        if read.is_empty() {
            let try_line = "try: run this on Debian with a mirror that answers, or in a container of it";
            return anyhow::anyhow!("no suite of Debian's archive could be read\n{try_line}");
        }
        let unread = match unread.as_slice() {
            [] => String::new(),
            unread => format!(" (not read: {})", unread.join(", ")),
        };
        let near = if near.is_empty() { "another flavour in xtask/kernels.toml" } else { near };
        anyhow::anyhow!("no {what} in {}{unread}\ntry: {near}", read.join(", "))
    }
}

fn fetch(cache: &Cache, choice: &Choice, offers: &[Offer], into: &Path) -> Result<()> {
    let suite = apt::Suite::open(&cache.root, &choice.suite)?;
    for offer in choice.packages(offers) {
        if image_of(cache, &suite, &offer.package, into)? {
            return fs::write(into.join("version"), &choice.version)
                .context("cannot keep the kernel's version");
        }
    }
    bail!("no package of version {} in {} holds an image", choice.version, choice.suite)
}

/// Searches the package for the image, and does not trust the package's name.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kernel_has_its_own_entry() {
        let row = |name: &str, known: &str| Row {
            name: name.into(),
            flavour: "cloud-amd64".into(),
            suites: vec!["sid".into()],
            known: Some(known.into()),
            exact: false,
            test: true,
            tests: kernels::Tests::Matrix,
        };
        let wanted = |text: &str| Selection::Version(Wanted::parse(text, "cloud-amd64").unwrap());
        let choice = |version: &str, flavour: &str| Choice {
            suite: "sid".into(),
            version: version.into(),
            flavour: flavour.into(),
        };
        let six = Selection::Row(row("6.12", "6.12.95"));
        let names = [
            entry_name(&six, &choice("6.12.95-1~bpo12+1", "cloud-amd64")),
            entry_name(&Selection::Row(row("6.12", "6.12.96")), &choice("6.12.107-1", "cloud-amd64")),
            // A substitute from another series is not stored as the row's kernel.
            entry_name(&six, &choice("6.16.3-1~bpo13+1", "cloud-amd64")),
            entry_name(&wanted("6.12.95"), &choice("6.12.95-1~bpo12+1", "cloud-amd64")),
            entry_name(&wanted("6.12.95-amd64"), &choice("6.12.95-1~bpo12+1", "amd64")),
            entry_name(&wanted("6.12.95-rt-amd64"), &choice("6.12.95-1~bpo12+1", "rt-amd64")),
            entry_name(&wanted("6.12"), &choice("6.12.107-1", "cloud-amd64")),
        ];
        for (index, name) in names.iter().enumerate() {
            assert!(!names[..index].contains(name), "{name}");
        }
        assert_eq!(names[0], "kernels/6.12-cloud-amd64-6.12.95");
        // The same kernel under another name has the same entry.
        let again = entry_name(&wanted("6.12.95+deb12"), &choice("6.12.95-1~bpo12+1", "cloud-amd64"));
        assert_eq!(again, names[3]);
    }

    #[test]
    fn a_substitute_has_the_name_of_the_row_only_within_the_series() {
        let six = kernels::row("6.12").unwrap();
        assert_eq!(name_of(&six, "6.12.107-1", "cloud-amd64"), ("6.12".into(), true));
        assert_eq!(name_of(&six, "6.16.3-1~bpo13+1", "cloud-amd64"), ("6.16.3-1~bpo13+1".into(), false));
        assert_eq!(name_of(&six, "6.16.3-1~bpo13+1", "amd64"), ("6.16.3-1~bpo13+1-amd64".into(), false));
        let typed = kernels::select("6.12.95", None).unwrap();
        assert_eq!(name_of(&typed, "6.12.95-1~bpo12+1", "cloud-amd64"), ("6.12.95".into(), false));
    }

    #[test]
    fn only_a_removed_exact_row_is_absent() {
        let cache = Cache { root: PathBuf::new() };
        let archive = Archive { cache: &cache, unread: vec!["sid".into()] };
        let row = kernels::row("6.12.57").unwrap();
        let gone = archive.has_no_more(row.row().unwrap()).context("cannot get kernel 6.12.57");
        let Some(absent) = gone.downcast_ref::<Absent>() else { panic!("{gone:#}") };
        assert_eq!(
            absent.to_string(),
            "kernel 6.12.57: no package of it in bookworm-backports, trixie (not read: sid)"
        );
        assert!(archive.has_no("5.9", "").downcast_ref::<Absent>().is_none());
        let kept = name_of(&row, "6.12.57-1~bpo12+1", "cloud-amd64");
        assert_eq!(kept, ("6.12.57".into(), false), "nothing is recorded of it");
    }

    #[test]
    fn the_error_of_a_missing_kernel_names_unread_suites() {
        let cache = Cache { root: PathBuf::new() };
        let archive = Archive { cache: &cache, unread: vec!["bullseye".into()] };
        let error = archive.has_no("5.9", "one near it: 6.1.0-47").to_string();
        assert!(error.starts_with("no 5.9 in bookworm, "), "{error}");
        assert!(error.ends_with("sid (not read: bullseye)\ntry: one near it: 6.1.0-47"), "{error}");
        let nothing = Archive { cache: &cache, unread: kernels::suites().unwrap() };
        assert!(nothing.has_no("5.9", "").to_string().contains("could be read\ntry: "));
    }
}
