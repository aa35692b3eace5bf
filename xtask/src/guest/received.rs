//! Decodes the guest's second port. Files are written to the host's directory at once, so that everything that was sent
//! survives the guest.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result};
use guest_init::frame::{Decoder, Frame};

pub struct Received {
    line: File,
    decoder: Decoder,
    out: PathBuf,
    pub release: Option<String>,
    pub exit: Option<i32>,
}

impl Received {
    /// Opens `line`, the file to which the emulator writes the port's bytes.
    pub fn new(line: &Path, out: &Path) -> Result<Self> {
        let line = File::open(line).with_context(|| format!("cannot read {}", line.display()))?;
        Ok(Received { line, decoder: Decoder::default(), out: out.to_owned(), release: None, exit: None })
    }

    /// Handles the bytes that arrived since the last call.
    pub fn poll(&mut self) -> Result<()> {
        let mut bytes = Vec::new();
        self.line.read_to_end(&mut bytes).context("cannot read the guest's files")?;
        self.decoder.push(&bytes);
        while let Some(frame) = self.decoder.next_frame() {
            match frame {
                Frame::Hello { release } => self.release = Some(release),
                Frame::Exit { code } => self.exit = Some(code),
                Frame::File { path, offset, bytes } => self.write(&path, offset, &bytes)?,
            }
        }
        Ok(())
    }

    pub fn skipped_bytes(&self) -> u64 {
        self.decoder.skipped_bytes
    }

    fn write(&self, path: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let path = self.out.join(below(path));
        let context = || format!("cannot write {}", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(context)?;
        }
        let mut options = File::options();
        let mut file =
            options.write(true).create(true).truncate(offset == 0).open(&path).with_context(context)?;
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(bytes)).with_context(context)
    }
}

/// Removes every part of the path that would leave the directory: the guest is not trusted with the host's files.
fn below(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_files_stay_in_the_directory() {
        assert_eq!(below("/etc/passwd"), Path::new("etc/passwd"));
        assert_eq!(below("../../a/./b"), Path::new("a/b"));
    }

    #[test]
    fn received_files_exist_as_soon_as_their_bytes_arrive() {
        let root = std::env::temp_dir().join(format!("xtask-received-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let line = root.join("line");
        let file = |offset, text: &str| Frame::File {
            path: "a.obs".into(),
            offset,
            bytes: text.as_bytes().to_vec(),
        };
        let mut bytes = file(0, "one ").to_bytes();
        bytes.extend(file(4, "two").to_bytes());
        fs::write(&line, &bytes).unwrap();
        let mut received = Received::new(&line, &root.join("out")).unwrap();
        received.poll().unwrap();
        let now = || fs::read_to_string(root.join("out/a.obs")).unwrap();
        assert_eq!((now().as_str(), received.exit), ("one two", None));
        let mut end = File::options().append(true).open(&line).unwrap();
        end.write_all(&file(0, "next").to_bytes()).unwrap();
        end.write_all(&Frame::Exit { code: 7 }.to_bytes()).unwrap();
        received.poll().unwrap();
        assert_eq!((now().as_str(), received.exit), ("next", Some(7)));
        fs::remove_dir_all(root).unwrap();
    }
}
