//! Files that observer writes.
//!
//! Decides how a file comes about: it is written under a temporary name beside its own, readable by its owner only since recordings
//! have kernel addresses, and gets its name when it is [`Output::commit`]ted. So a failed run leaves nothing behind, an existing file is
//! whole until the new one replaces it, and no symbolic link is followed. A pipe or a device is written in place.
//!
//! A committed file stays locked while it is open: a second recorder to the same name is refused.

use std::{
    ffi::{CString, OsString},
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::hint::Hint as _;

/// A file that is being written.
#[derive(Debug)]
pub struct Output {
    file: File,
    path: PathBuf,
    /// Temporary name; `None` once it has its own, and for a file that is written in place.
    temporary: Option<PathBuf>,
    force: bool,
}

impl Output {
    /// Begins a file. Its name is taken only by [`Output::commit`].
    ///
    /// # Errors
    /// The file exists and `force` is not set, another observer is writing it, it is a symbolic link, or its folder cannot be
    /// written.
    pub fn create(path: &Path, force: bool) -> anyhow::Result<Output> {
        match path.symlink_metadata() {
            Ok(found) if found.is_symlink() => {
                let error = io::Error::other("it is a symbolic link, which is not followed");
                return Err(error).hint("the name of the file itself");
            }
            Ok(found) if found.is_file() => {
                if !force {
                    return Err(io::Error::from(io::ErrorKind::AlreadyExists))
                        .hint("another name, or --force to overwrite it");
                }
                let old = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
                if old.is_ok_and(|old| !lock(&old)) {
                    return Err(io::Error::from(io::ErrorKind::ResourceBusy))
                        .hint("another name; an observer is recording to this one");
                }
            }
            // A pipe, a serial line.
            Ok(found) if !found.is_dir() => {
                let file = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
                return Ok(Output { file, path: path.to_owned(), temporary: None, force });
            }
            _ => {}
        }
        let name = path.file_name().context("the name of a file is missing")?;
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(temporary);
        // One that an observer with this process id left behind when it was killed.
        let _ = std::fs::remove_file(&temporary);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&temporary)?;
        lock(&file);
        Ok(Output { file, path: path.to_owned(), temporary: Some(temporary), force })
    }

    /// Gives the file its name. Later writes go to it.
    ///
    /// # Errors
    /// A file of that name was made meanwhile and `force` is not set, or the name cannot be written.
    pub fn commit(&mut self) -> anyhow::Result<()> {
        if let Some(temporary) = &self.temporary {
            rename(temporary, &self.path, self.force)?;
            self.temporary = None;
        }
        Ok(())
    }

    /// The file, to write to.
    ///
    /// # Errors
    /// There are too many open files.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// Locks a file; returns false if another process holds the lock.
fn lock(file: &File) -> bool {
    // SAFETY: an open descriptor.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

fn rename(from: &Path, to: &Path, force: bool) -> anyhow::Result<()> {
    if force {
        return Ok(std::fs::rename(from, to)?);
    }
    let [c_from, c_to] = [from, to].map(|path| CString::new(path.as_os_str().as_bytes()));
    let (c_from, c_to) = (c_from?, c_to?);
    // SAFETY: two strings that end with a null byte.
    let done = unsafe {
        libc::renameat2(
            libc::AT_FDCWD,
            c_from.as_ptr(),
            libc::AT_FDCWD,
            c_to.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::AlreadyExists => Err(error).hint("another name, or --force to overwrite it"),
        // A file system without it.
        io::ErrorKind::InvalidInput if !to.exists() => Ok(std::fs::rename(from, to)?),
        _ => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::hint::explain;

    /// A folder that is removed with its content.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("observer-output-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn nothing_is_left_of_a_file_that_is_not_committed() {
        let folder = Folder::new("drop");
        let path = folder.0.join("a");
        let mut output = Output::create(&path, false).unwrap();
        output.write_all(b"half").unwrap();
        assert_eq!(folder.names().len(), 1);
        drop(output);
        assert_eq!(folder.names(), Vec::<String>::new());
        std::fs::write(&path, "old").unwrap();
        let mut output = Output::create(&path, true).unwrap();
        output.write_all(b"half").unwrap();
        drop(output);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn a_committed_file_is_private_whole_and_not_overwritten() {
        let folder = Folder::new("commit");
        let path = folder.0.join("a");
        std::fs::write(&path, "a longer old content").unwrap();
        let error = Output::create(&path, false).unwrap_err();
        assert!(explain(&error).contains("try: another name, or --force to overwrite it"), "{error:?}");
        let mut output = Output::create(&path, true).unwrap();
        output.commit().unwrap();
        output.write_all(b"new").unwrap();
        // A second recorder, while this one writes.
        let error = Output::create(&path, true).unwrap_err();
        assert!(explain(&error).contains("an observer is recording to this one"), "{error:?}");
        drop(output);
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        Output::create(&path, true).unwrap();
        assert_eq!(folder.names(), ["a"]);
    }

    #[test]
    fn a_name_that_is_taken_meanwhile_is_not_replaced() {
        let folder = Folder::new("race");
        let path = folder.0.join("a");
        let mut output = Output::create(&path, false).unwrap();
        std::fs::write(&path, "another's").unwrap();
        assert!(output.commit().is_err());
        drop(output);
        assert_eq!(std::fs::read(&path).unwrap(), b"another's");
        assert_eq!(folder.names(), ["a"]);
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let folder = Folder::new("link");
        let (target, link) = (folder.0.join("target"), folder.0.join("link"));
        std::fs::write(&target, "old").unwrap();
        symlink(&target, &link).unwrap();
        for force in [false, true] {
            assert!(Output::create(&link, force).is_err());
        }
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        assert_eq!(folder.names(), ["link", "target"]);
    }
}
