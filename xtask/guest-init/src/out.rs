//! Sends the files below the out directory. While the command runs, files are assumed to grow by appending, so only new bytes
//! are sent. At the end every file is compared with what was sent, and a rewritten one is sent again.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
};

use guest_init::frame::{Frame, crc32};

const CHUNK_BYTES: usize = 32 << 10;

#[derive(Clone, Copy, Default)]
struct Sent {
    bytes: u64,
    crc: u32,
}

pub struct Out {
    root: PathBuf,
    sent: HashMap<PathBuf, Sent>,
}

impl Out {
    pub fn new(root: &str) -> Self {
        Out { root: root.into(), sent: HashMap::new() }
    }

    /// Sends the bytes that were appended to each file since the last call.
    pub fn send_new(&mut self, line: &mut impl Write) -> io::Result<()> {
        for path in files(&self.root) {
            match self.sent.get(&path).copied() {
                Some(sent) if fs::metadata(&path).is_ok_and(|file| file.len() == sent.bytes) => {}
                Some(sent) if fs::metadata(&path).is_ok_and(|file| file.len() > sent.bytes) => {
                    self.send_from(&path, sent, line)?;
                }
                _ => self.send_from(&path, Sent::default(), line)?,
            }
        }
        Ok(())
    }

    /// Sends everything that is missing or was rewritten. Call it at the end, when no file changes any more.
    pub fn send_rest(&mut self, line: &mut impl Write) -> io::Result<()> {
        self.send_new(line)?;
        for path in files(&self.root) {
            let Ok(content) = fs::read(&path) else { continue };
            if self.sent.get(&path).is_none_or(|sent| sent.crc != crc32(0, &content)) {
                self.send_from(&path, Sent::default(), line)?;
            }
        }
        Ok(())
    }

    fn send_from(&mut self, path: &Path, mut sent: Sent, line: &mut impl Write) -> io::Result<()> {
        // A file may be removed between listing and opening; that is up to the command.
        let Ok(mut file) = File::open(path) else { return Ok(()) };
        file.seek(SeekFrom::Start(sent.bytes))?;
        // The length at this moment: a writer faster than the line must not keep this call busy for ever.
        let length = file.metadata()?.len();
        let mut rest = file.take(length.saturating_sub(sent.bytes));
        let name = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned();
        let mut first = sent.bytes == 0;
        loop {
            let mut chunk = Vec::new();
            rest.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
            if chunk.is_empty() && !first {
                break;
            }
            first = false;
            let offset = sent.bytes;
            sent.bytes += chunk.len() as u64;
            sent.crc = crc32(sent.crc, &chunk);
            line.write_all(&Frame::File { path: name.clone(), offset, bytes: chunk }.to_bytes())?;
        }
        self.sent.insert(path.to_owned(), sent);
        Ok(())
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_init::frame::Decoder;

    /// The files that the host has after these frames.
    fn received(line: &[u8]) -> HashMap<String, Vec<u8>> {
        let mut decoder = Decoder::default();
        decoder.push(line);
        let mut files = HashMap::<String, Vec<u8>>::new();
        while let Some(frame) = decoder.next_frame() {
            let Frame::File { path, offset, bytes } = frame else { panic!("{frame:?}") };
            let file = files.entry(path).or_default();
            file.truncate(offset as usize);
            assert_eq!(file.len() as u64, offset, "no holes");
            file.extend(bytes);
        }
        files
    }

    #[test]
    fn appended_rewritten_and_empty_files_arrive() {
        let root = std::env::temp_dir().join(format!("guest-init-out-{}", std::process::id()));
        fs::create_dir_all(root.join("sub")).unwrap();
        let (mut out, mut line) = (Out::new(root.to_str().unwrap()), Vec::new());
        fs::write(root.join("empty"), "").unwrap();
        fs::write(root.join("sub/grows"), "one ").unwrap();
        fs::write(root.join("patched"), "head body").unwrap();
        fs::write(root.join("shrinks"), "a long text").unwrap();
        out.send_new(&mut line).unwrap();
        let before = line.len();
        out.send_new(&mut line).unwrap();
        assert_eq!(line.len(), before, "nothing new, nothing sent");
        fs::write(root.join("sub/grows"), "one two").unwrap();
        fs::write(root.join("patched"), "HEAD body").unwrap();
        fs::write(root.join("shrinks"), "short").unwrap();
        out.send_rest(&mut line).unwrap();
        fs::remove_dir_all(&root).unwrap();
        let files = received(&line);
        let of = |name: &str| String::from_utf8(files[name].clone()).unwrap();
        assert_eq!(
            [of("empty"), of("sub/grows"), of("patched"), of("shrinks")],
            ["", "one two", "HEAD body", "short"]
        );
    }
}
