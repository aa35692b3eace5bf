//! The tools that build the BPF programs with a stable toolchain: the sources of `core` that match the rustc in use, and
//! bpf-linker, which links with this rustc's LLVM.
//!
//! Sources, in order of preference: the toolchain's own rust-src; rustup, which adds it to the toolchain; Debian's package of
//! the same version. The last one goes into a separate sysroot in the cache, made of links to the toolchain.

use std::{
    fmt, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{Cache, apt};
use crate::{host, kernels::Package, say};

const LINKER_VERSION: &str = "0.10.3";
/// LLVM version that this bpf-linker reads; rustc's must be the same.
const LINKER_LLVM: u32 = 22;
const LINKER_LLVM_RUSTC: &str = "1.95.0";
/// Suites that contain rust-src, the most likely first.
const SUITES: [&str; 3] = ["trixie-backports", "trixie", "sid"];
const LIBRARY: &str = "lib/rustlib/src/rust/library";

#[derive(Clone, Debug)]
pub struct BpfTools {
    /// A rustc whose sysroot has the sources of `core`.
    pub rustc: PathBuf,
    pub linker: PathBuf,
    /// Directory of rustc's LLVM; the linker finds it through `LD_LIBRARY_PATH`.
    pub llvm: PathBuf,
    release: String,
}

impl fmt::Display for BpfTools {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "rust-src {}, bpf-linker {LINKER_VERSION}", self.release)
    }
}

/// Output of `rustc -vV` and `--print sysroot`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rustc {
    release: String,
    commit: String,
    llvm_major: u32,
    sysroot: PathBuf,
}

pub(super) fn tools(cache: &Cache) -> Result<BpfTools> {
    let rustc = Rustc::probe()?;
    if rustc.llvm_major != LINKER_LLVM {
        bail!(
            "rustc {} has LLVM {}, bpf-linker {LINKER_VERSION} reads LLVM {LINKER_LLVM}\n\
             try: rustup toolchain install {LINKER_LLVM_RUSTC} && cargo +{LINKER_LLVM_RUSTC} xtask setup",
            rustc.release,
            rustc.llvm_major
        );
    }
    let program = rustc_with_sources(cache, &rustc)
        .with_context(|| format!("cannot get the sources of core for rustc {}", rustc.release))?;
    let linker = linker(cache, &rustc).context("cannot build bpf-linker")?;
    Ok(BpfTools { rustc: program, linker, llvm: rustc.sysroot.join("lib"), release: rustc.release })
}

impl Rustc {
    fn probe() -> Result<Rustc> {
        // Run in the workspace, so that the directory's toolchain override applies.
        let rustc = |arguments: &[&str]| {
            host::capture(Command::new("rustc").args(arguments).current_dir(host::workspace()))
        };
        let sysroot = rustc(&["--print", "sysroot"])?;
        Rustc::parse(&rustc(&["-vV"])?, sysroot.trim()).context("rustc -vV does not print its version")
    }

    fn parse(said: &str, sysroot: &str) -> Option<Rustc> {
        let field = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        Some(Rustc {
            release: field("release")?.to_owned(),
            commit: field("commit-hash")?.get(..9).unwrap_or("unknown").to_owned(),
            llvm_major: field("LLVM version")?.split('.').next()?.parse().ok()?,
            sysroot: sysroot.into(),
        })
    }
}

fn rustc_with_sources(cache: &Cache, rustc: &Rustc) -> Result<PathBuf> {
    let own = rustc.sysroot.join("bin/rustc");
    if has_core(&rustc.sysroot) {
        return Ok(own);
    }
    let name = format!("sysroot/{}-{}", rustc.release, rustc.commit);
    let good = |entry: &Path| has_core(entry) && links_to(entry, &rustc.sysroot);
    if !good(&cache.root.join(&name)) && add_by_rustup(rustc) && has_core(&rustc.sysroot) {
        return Ok(own);
    }
    let entry = cache.entry(&name, good, |into| {
        apt::check().with_context(|| {
            format!(
                "rustup could not add rust-src to {}, and Debian's package is out of reach",
                rustc.release
            )
        })?;
        fetch_library(cache, rustc, into)?;
        link_toolchain(rustc, into, &cache.root.join(&name))
    })?;
    Ok(entry.join("bin/rustc"))
}

fn has_core(sysroot: &Path) -> bool {
    sysroot.join(LIBRARY).join("core/src/lib.rs").is_file()
}

/// Returns true if the private sysroot still belongs to the toolchain: a removed toolchain leaves dangling links.
fn links_to(entry: &Path, sysroot: &Path) -> bool {
    fs::read_to_string(entry.join("toolchain")).is_ok_and(|path| Path::new(&path) == sysroot)
        && entry.join("bin/rustc").exists()
}

fn add_by_rustup(rustc: &Rustc) -> bool {
    let in_rustup = rustc.sysroot.parent().is_some_and(|parent| parent.ends_with("toolchains"));
    let Some(toolchain) = rustc.sysroot.file_name().filter(|_| in_rustup) else { return false };
    let Some(rustup) = host::in_path("rustup") else { return false };
    let mut command = Command::new(rustup);
    command.args(["component", "add", "rust-src", "--toolchain"]).arg(toolchain);
    let added = say::step("rust-src: asking rustup", || host::capture(&mut command));
    if let Err(error) = &added {
        say::note(&format!("rustup has no rust-src for us, taking Debian's package ({error:#})"));
    }
    added.is_ok()
}

fn fetch_library(cache: &Cache, rustc: &Rustc, into: &Path) -> Result<()> {
    let (suite, package) = find_package(cache, &rustc.release)?;
    let scratch = cache.scratch()?;
    say::step(&format!("rust-src: {} from {}", package.version, suite.name), || {
        let deb = suite.download(&package, &scratch)?;
        apt::unpack(&deb, &scratch)?;
        let library = scratch.join(format!("usr/src/rustc-{}/library", rustc.release));
        let target = into.join(LIBRARY);
        fs::create_dir_all(target.parent().context("the library has a parent")?)?;
        fs::rename(&library, &target).with_context(|| format!("the package has no {}", library.display()))
    })?;
    super::clear(&scratch)
}

/// Finds the package whose upstream version is the compiler's: `core` is written for exactly one compiler.
fn find_package(cache: &Cache, release: &str) -> Result<(apt::Suite, Package)> {
    let mut seen = Vec::new();
    for name in SUITES {
        let suite = apt::Suite::open(&cache.root, name)?;
        let packages = suite.packages("rust-src", |package| package == "rust-src")?;
        let matches = |version: &str| version.split(['+', '-']).next() == Some(release);
        match packages.iter().find(|package| matches(&package.version)) {
            Some(package) => return Ok((suite, package.clone())),
            None => seen.extend(packages.into_iter().map(|package| format!("{} ({name})", package.version))),
        }
    }
    bail!(
        "no rust-src {release} in Debian, which has {}\n\
         try: rustup component add rust-src, or use a toolchain that Debian has the sources of",
        seen.join(", ")
    )
}

/// Makes a sysroot of links: the toolchain's libraries, our sources, and a rustc that uses this sysroot.
fn link_toolchain(rustc: &Rustc, into: &Path, entry: &Path) -> Result<()> {
    let link = |from: PathBuf, to: PathBuf| {
        symlink(&from, &to).with_context(|| format!("cannot link {} to {}", to.display(), from.display()))
    };
    for (directory, keep) in [
        ("lib", (|name: &str| name.contains(".so")) as fn(&str) -> bool),
        ("lib/rustlib", |name: &str| name != "src"),
    ] {
        let from = rustc.sysroot.join(directory);
        for item in fs::read_dir(&from).with_context(|| format!("cannot list {}", from.display()))? {
            let item = item?;
            if keep(&item.file_name().to_string_lossy()) {
                link(item.path(), into.join(directory).join(item.file_name()))?;
            }
        }
    }
    fs::create_dir_all(into.join("bin"))?;
    let wrapper = into.join("bin/rustc");
    let program = rustc.sysroot.join("bin/rustc");
    let script = format!("#!/bin/sh\nexec '{}' --sysroot '{}' \"$@\"\n", program.display(), entry.display());
    fs::write(&wrapper, script)
        .and_then(|()| fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)))?;
    fs::write(into.join("toolchain"), rustc.sysroot.to_string_lossy().as_bytes())?;
    Ok(())
}

fn linker(cache: &Cache, rustc: &Rustc) -> Result<PathBuf> {
    // The linker looks for the LLVM of the compiler that built it, so each compiler has its own entry.
    let name = format!("bpf-linker/{LINKER_VERSION}-rustc-{}-{}", rustc.release, rustc.commit);
    let good = |entry: &Path| entry.join("bin/bpf-linker").is_file();
    let entry = cache.entry(&name, good, |into| {
        let mut command = host::cargo();
        command.args(["install", "--locked", "--quiet", "bpf-linker", "--version", LINKER_VERSION]);
        // A separate directory: a target directory from the environment would keep files that are needed only once.
        command.arg("--root").arg(into).env_remove("CARGO_TARGET_DIR");
        say::step(&format!("bpf-linker: building {LINKER_VERSION}, a minute or two"), || {
            host::capture(&mut command).map(drop)
        })
    })?;
    Ok(entry.join("bin/bpf-linker"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_rustc_is_parsed() {
        let said = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\n\
            commit-hash: 59807616e1ee8c6f5ccc09c5a0fd7f3a3a9ccf30\nhost: x86_64-unknown-linux-gnu\n\
            release: 1.95.0\nLLVM version: 22.1.2\n";
        let rustc = Rustc::parse(said, "/toolchain").unwrap();
        assert_eq!(
            (rustc.release.as_str(), rustc.commit.as_str(), rustc.llvm_major),
            ("1.95.0", "59807616e", 22)
        );
        assert_eq!(Rustc::parse("rustc 1.95.0", "/toolchain"), None);
    }
}
