//! The terminal multiplexer for guests: Debian's tmux with its loader and the libraries that it needs, since a guest contains
//! only what is put into it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Cache, apt};
use crate::{host, say};

const SUITE: &str = "trixie";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "ld-linux-x86-64.so.2";
/// Locale file: tmux does not start without a UTF-8 locale, and libc does not contain one.
const LOCALE: &str = "usr/lib/locale/C.utf8/LC_CTYPE";
/// Directory of tmux in a guest; the program runs by its own loader, so it needs no fixed path.
const IN_GUEST: &str = "/lib/tmux";

/// Files, each with its path in a guest.
#[derive(Clone, Debug)]
pub struct Tmux(pub Vec<(String, PathBuf)>);

pub(super) fn tmux(cache: &Cache) -> Result<Tmux> {
    let good = |entry: &Path| entry.join("tmux.sh").exists() && entry.join("LC_CTYPE").exists();
    let entry = cache.entry("tmux", good, |into| fetch(cache, into)).context("cannot get tmux")?;
    let mut files = vec![
        ("/bin/tmux".to_owned(), entry.join("tmux.sh")),
        (format!("{IN_GUEST}/locale/C.utf8/LC_CTYPE"), entry.join("LC_CTYPE")),
    ];
    for file in fs::read_dir(entry.join("files")).context("cannot list tmux's files")? {
        let file = file?;
        files.push((format!("{IN_GUEST}/{}", file.file_name().to_string_lossy()), file.path()));
    }
    files.sort();
    Ok(Tmux(files))
}

fn fetch(cache: &Cache, into: &Path) -> Result<()> {
    apt::check()?;
    let suite = apt::Suite::open(&cache.root, SUITE)?;
    let scratch = cache.scratch()?;
    say::step(&format!("tmux: from {SUITE}, with its libraries"), || {
        for package in ["tmux", "libc-bin"] {
            suite.unpack_with_depends(package, &scratch, &scratch)?;
        }
        let files = into.join("files");
        fs::create_dir(&files).context("cannot make a directory for it")?;
        let libraries = scratch.join(LIBRARIES);
        let (loader, program) = (libraries.join(LOADER), scratch.join("usr/bin/tmux"));
        let said = host::capture(
            Command::new(&loader).arg("--library-path").arg(&libraries).arg("--list").arg(&program),
        )?;
        for file in needed(&said, &libraries).into_iter().chain([loader, program]) {
            let name = file.file_name().context("a library without a name")?;
            fs::copy(&file, files.join(name)).with_context(|| format!("cannot keep {}", file.display()))?;
        }
        fs::copy(scratch.join(LOCALE), into.join("LC_CTYPE")).context("cannot keep its locale")?;
        let script = format!(
            "#!/bin/sh\nexport LC_ALL=C.UTF-8 LOCPATH={IN_GUEST}/locale\n\
             exec {IN_GUEST}/{LOADER} --library-path {IN_GUEST} {IN_GUEST}/tmux \"$@\"\n"
        );
        // Written last: with this file the entry is complete.
        write_executable(&into.join("tmux.sh"), &script).context("cannot keep it")
    })?;
    super::clear(&scratch)
}

/// Parses the libraries from the loader's list: "libc.so.6 => /there/libc.so.6 (0x…)".
fn needed(said: &str, libraries: &Path) -> Vec<PathBuf> {
    let path = |line: &str| Some(PathBuf::from(line.split_once("=> ")?.1.split(" (").next()?));
    said.lines().filter_map(path).filter(|path| path.starts_with(libraries)).collect()
}

fn write_executable(path: &Path, content: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_of_the_packages() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibc.so.6 => /x/libc.so.6 (0x00007f)\n\
                    \tlibm.so.6 => /lib/libm.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 => /x/ld-linux-x86-64.so.2 (0x00007f)\n";
        let of = |at: &str| needed(said, Path::new(at));
        assert_eq!(of("/x"), [Path::new("/x/libc.so.6"), Path::new("/x/ld-linux-x86-64.so.2")]);
        assert!(of("/y").is_empty());
    }
}
