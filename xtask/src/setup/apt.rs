//! Debian packages without the system's apt: a private list of one suite from the machine's own mirror. apt-get verifies
//! downloads against the archive's keyring, and dpkg-deb unpacks them. It needs no root and changes only the cache.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{host, kernels::Package, say};

/// Maximum age of the lists: suites change a few times a day, so asking more often only costs time.
const LISTS_AGE_MAX: Duration = Duration::from_secs(6 * 3600);
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// One suite of Debian's archive.
pub struct Suite {
    pub name: String,
    directory: PathBuf,
}

impl Suite {
    /// Opens a suite; reads its lists unless those in the cache are recent.
    pub fn open(cache: &Path, name: &str) -> Result<Suite> {
        let suite = Suite { name: name.to_owned(), directory: cache.join("apt").join(name) };
        let stamp = suite.directory.join("updated");
        let age =
            fs::metadata(&stamp).and_then(|file| file.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age < LISTS_AGE_MAX) {
            return Ok(suite);
        }
        say::step(&format!("apt: reading the package lists of {name}"), || suite.update())?;
        fs::write(&stamp, "").with_context(|| format!("cannot write {}", stamp.display()))?;
        Ok(suite)
    }

    fn update(&self) -> Result<()> {
        for sub in ["lists/partial", "archives/partial"] {
            let path = self.directory.join(sub);
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        // An empty state, so that the packages installed on this machine do not influence the choice.
        fs::write(self.directory.join("status"), "")
            .context("cannot write the package state of the cache")?;
        let keyring = KEYRINGS.iter().find(|path| Path::new(path).exists()).context(
            "no keyring of the Debian archive on this machine\ntry: apt-get install debian-archive-keyring",
        )?;
        let mut last = None;
        for mirror in mirrors()? {
            let line = format!("deb [arch=amd64 signed-by={keyring}] {mirror} {} main\n", self.name);
            fs::write(self.directory.join("sources.list"), line).context("cannot write sources.list")?;
            match host::capture(self.apt_get().args(["-o", "APT::Update::Error-Mode=any", "update"])) {
                Ok(_) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        let error = last.with_context(|| {
            "no Debian mirror among this machine's apt sources\ntry: run this on Debian, or in a container of it"
        })?;
        Err(error.context(format!("cannot read the suite {} from this machine's Debian mirror", self.name)))
    }

    /// Lists packages whose names begin with `prefix` and satisfy `keep`, in all versions of the suite.
    pub fn packages(&self, prefix: &str, keep: impl Fn(&str) -> bool) -> Result<Vec<Package>> {
        let names = host::capture(self.apt("apt-cache").args(["pkgnames", prefix]))?;
        let names: Vec<&str> = names.lines().filter(|name| keep(name)).collect();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let table = host::capture(self.apt("apt-cache").arg("madison").args(&names))?;
        Ok(parse_madison(&table))
    }

    /// Downloads one version of one package and returns the file.
    pub fn download(&self, package: &Package, into: &Path) -> Result<PathBuf> {
        let mut command = self.apt_get();
        command.arg("download").arg(format!("{}={}", package.name, package.version)).current_dir(into);
        host::capture(&mut command)?;
        match debs(into)?.as_slice() {
            [deb] => Ok(deb.clone()),
            found => bail!("apt-get download {}: {} packages came", package.name, found.len()),
        }
    }

    /// Downloads a package with everything that it needs to run, libc included.
    fn download_with_depends(&self, package: &str, into: &Path) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(into.join("partial"))?;
        let mut command = self.apt_get();
        command.arg("-o").arg(format!("Dir::Cache::archives={}", into.display()));
        command.args(["install", "--yes", "--download-only", "--no-install-recommends", package]);
        host::capture(&mut command)?;
        debs(into)
    }

    /// Downloads a package with its dependencies to `scratch`, and unpacks all of them below `into`.
    pub fn unpack_with_depends(&self, package: &str, scratch: &Path, into: &Path) -> Result<()> {
        self.download_with_depends(package, scratch)?.iter().try_for_each(|deb| unpack(deb, into))
    }

    fn apt_get(&self) -> Command {
        self.apt("apt-get")
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let at = |name: &str| self.directory.join(name).display().to_string();
        for option in [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".into(),
            "Dir::Etc::preferencesparts=/dev/null".into(),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::Cache={}", at("")),
            // Root's download user could not write into a cache below a home directory.
            "APT::Sandbox::User=root".into(),
            "Acquire::Languages=none".into(),
            "Acquire::Retries=3".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
        ] {
            command.args(["-o", &option]);
        }
        command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

/// Unpacks a package's files below a directory.
pub fn unpack(deb: &Path, into: &Path) -> Result<()> {
    host::capture(Command::new("dpkg-deb").arg("-x").arg(deb).arg(into)).map(drop)
}

/// Checks that packages can be fetched at all; the error says what to do.
pub fn check() -> Result<()> {
    for program in ["apt-get", "apt-cache", "dpkg-deb"] {
        if host::in_path(program).is_none() {
            bail!("no {program} on this machine\ntry: run this on Debian, or in a container of it");
        }
    }
    Ok(())
}

/// Returns the mirrors of Debian's archive in the machine's own sources. `--print-uris` fetches nothing and needs no lists.
fn mirrors() -> Result<Vec<String>> {
    let uris = host::capture(Command::new("apt-get").args([
        "-o",
        "Dir::State::Lists=/nonexistent",
        "update",
        "--print-uris",
    ]))?;
    Ok(parse_mirrors(&uris))
}

fn parse_mirrors(uris: &str) -> Vec<String> {
    let mut mirrors: Vec<String> = Vec::new();
    for line in uris.lines() {
        let Some((base, _)) = line.trim_start_matches('\'').split_once("/dists/") else { continue };
        // The security archive is a different archive; a snapshot's path continues after "debian".
        if base.split('/').any(|part| part == "debian") && !mirrors.iter().any(|known| known == base) {
            mirrors.push(base.to_owned());
        }
    }
    mirrors
}

fn parse_madison(table: &str) -> Vec<Package> {
    let mut packages: Vec<Package> = Vec::new();
    for line in table.lines() {
        let mut columns = line.split('|').map(str::trim);
        let (Some(name), Some(version)) = (columns.next(), columns.next()) else { continue };
        let package = Package { name: name.to_owned(), version: version.to_owned() };
        if !packages.contains(&package) {
            packages.push(package);
        }
    }
    packages
}

fn debs(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_mirror_of_the_machine() {
        let uris = "\
'http://mirror.example/debian/dists/bookworm/InRelease' mirror_dists_bookworm_InRelease 0
'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' mirror_Packages 0
'http://mirror.example/debian-security/dists/bookworm-security/InRelease' security 0
'https://other.example/node/dists/nodistro/InRelease' node 0
'http://snap.example/archive/debian/20260101T000000Z/dists/sid/InRelease' snapshot 0
";
        assert_eq!(
            parse_mirrors(uris),
            ["http://mirror.example/debian", "http://snap.example/archive/debian/20260101T000000Z"]
        );
    }

    #[test]
    fn madison_lists_each_version_once() {
        let table = "\
  rust-src | 1.96.1+dfsg1-2~bpo13+1 | http://mirror.example/debian x/main amd64 Packages
  rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://mirror.example/debian x/main amd64 Packages
  rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://mirror.example/debian x/main Sources
";
        let versions: Vec<String> = parse_madison(table).into_iter().map(|package| package.version).collect();
        assert_eq!(versions, ["1.96.1+dfsg1-2~bpo13+1", "1.95.0+dfsg1-2~bpo13+1"]);
    }
}
