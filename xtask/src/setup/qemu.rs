//! The emulator and the guest's shell.
//!
//! A QEMU older than 10 panics newer kernels with `-cpu max` and two CPUs. The machine's own QEMU is used if it is new
//! enough. Otherwise Debian's goes into the cache with its loader and every library that it needs, so that it depends on
//! nothing of the machine and installs nothing.

use std::{
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Cache, apt};
use crate::{host, say};

const PROGRAM: &str = "qemu-system-x86_64";
const MAJOR_MIN: u32 = 10;
const SUITE: &str = "trixie";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

#[derive(Clone, Debug)]
pub struct Qemu {
    version: String,
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Qemu {
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_remove("LD_LIBRARY_PATH");
        command
    }
}

impl fmt::Display for Qemu {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "QEMU {}", self.version)
    }
}

pub(super) fn qemu(cache: &Cache) -> Result<Qemu> {
    if let Some(program) = host::in_path(PROGRAM) {
        let version = host::capture(Command::new(&program).arg("--version")).ok();
        if let Some(version) = version.as_deref().and_then(parse_version).filter(|version| is_new(version)) {
            return Ok(Qemu { version: version.to_owned(), program, arguments: Vec::new() });
        }
    }
    let good = |entry: &Path| entry.join("version").exists();
    let entry = cache.entry("qemu", good, |into| fetch(cache, into)).with_context(|| {
        format!("cannot get QEMU {MAJOR_MIN} or newer (install one, and {PROGRAM} in PATH is taken)")
    })?;
    let version = fs::read_to_string(entry.join("version")).context("cannot read QEMU's version")?;
    let (program, arguments) = invocation(&entry);
    Ok(Qemu { version, program, arguments })
}

pub(super) fn busybox(cache: &Cache) -> Result<PathBuf> {
    let good = |entry: &Path| entry.join("busybox").exists();
    let entry = cache
        .entry("busybox", good, |into| {
            apt::check()?;
            let suite = apt::Suite::open(&cache.root, SUITE)?;
            let scratch = cache.scratch()?;
            say::step(&format!("busybox: from {SUITE}"), || {
                suite.unpack_with_depends("busybox-static", &scratch, &scratch)?;
                let program = ["usr/bin/busybox", "bin/busybox"].map(|path| scratch.join(path));
                let program = program.iter().find(|path| path.is_file()).context("the package holds none")?;
                fs::rename(program, into.join("busybox")).context("cannot keep it")
            })
        })
        .context("cannot get a static busybox")?;
    Ok(entry.join("busybox"))
}

fn fetch(cache: &Cache, into: &Path) -> Result<()> {
    apt::check()?;
    let suite = apt::Suite::open(&cache.root, SUITE)?;
    let scratch = cache.scratch()?;
    say::step(&format!("qemu: qemu-system-x86 from {SUITE}, with its libraries"), || {
        suite.unpack_with_depends("qemu-system-x86", &scratch, into)?;
        let (program, arguments) = invocation(into);
        let said = host::capture(Command::new(program).args(arguments).arg("--version"))?;
        let version = parse_version(&said).context("it does not print its version")?;
        fs::write(into.join("version"), version).context("cannot keep its version")
    })?;
    super::clear(&scratch)
}

/// Returns the call of the cached program, which uses its own loader and libraries and finds its firmware below `root`.
fn invocation(root: &Path) -> (PathBuf, Vec<OsString>) {
    let libraries = root.join(LIBRARIES);
    let mut arguments =
        vec!["--library-path".into(), libraries.clone().into(), root.join("usr/bin").join(PROGRAM).into()];
    for firmware in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
        arguments.extend(["-L".into(), root.join(firmware).into()]);
    }
    (libraries.join("ld-linux-x86-64.so.2"), arguments)
}

/// Parses "QEMU emulator version 10.0.2 (Debian 1:10.0.2…)" to "10.0.2".
fn parse_version(said: &str) -> Option<&str> {
    said.split_once("version ")?.1.split_whitespace().next()
}

fn is_new(version: &str) -> bool {
    version
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok())
        .is_some_and(|major| major >= MAJOR_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_emulator_is_distinguished_from_a_new_one() {
        let of = |said: &str| parse_version(said).map(is_new);
        assert_eq!(of("QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0)\nCopyright"), Some(true));
        assert_eq!(of("QEMU emulator version 7.2.22 (Debian 1:7.2)\n"), Some(false));
        assert_eq!(of("QEMU emulator version 11.1.0\n"), Some(true));
        assert_eq!(of("something else"), None);
    }
}
