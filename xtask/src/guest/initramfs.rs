//! Writes the initramfs: a `newc` cpio archive, the one format that every kernel unpacks without help. It supports only what
//! a guest needs: directories, files and symbolic links, all owned by root.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::{Context as _, Result};

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_777;

pub struct Initramfs<W: Write> {
    out: W,
    inode: u32,
    written: u64,
    directories: BTreeSet<String>,
}

impl Initramfs<BufWriter<File>> {
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Initramfs::new(BufWriter::new(file)))
    }

    /// Copies a file of the host to an absolute path of the guest, with the given mode.
    pub fn copy(&mut self, path: &str, mode: u32, host: &Path) -> Result<()> {
        let content = std::fs::read(host).with_context(|| format!("cannot read {}", host.display()))?;
        self.file(path, mode, &content).context("cannot write the initramfs")
    }
}

impl<W: Write> Initramfs<W> {
    pub fn new(out: W) -> Self {
        Initramfs { out, inode: 0, written: 0, directories: BTreeSet::new() }
    }

    /// Adds a directory and its parents, each once.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        let path = path.trim_matches('/');
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for end in ends.filter(|&end| end > 0) {
            if self.directories.insert(path[..end].to_owned()) {
                self.entry(&path[..end], DIRECTORY, 2, b"")?;
            }
        }
        Ok(())
    }

    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.parent(path)?;
        self.entry(path, REGULAR | mode, 1, content)
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.parent(path)?;
        self.entry(path, SYMLINK, 1, target.as_bytes())
    }

    pub fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, 1, b"")?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn parent(&mut self, path: &str) -> io::Result<()> {
        match path.trim_matches('/').rsplit_once('/') {
            Some((parent, _)) => self.directory(parent),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, links: u32, content: &[u8]) -> io::Result<()> {
        let name = path.trim_matches('/');
        let size =
            u32::try_from(content.len()).map_err(|_| io::Error::other(format!("{path} is too large")))?;
        self.inode += 1;
        let name_size = name.len() as u32 + 1;
        let mut header = String::from("070701");
        // Inode, mode, owner, group, links, time, size, device (2), special device (2), length of the name, checksum.
        for field in [self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0] {
            header.push_str(&format!("{field:08x}"));
        }
        self.write(header.as_bytes())?;
        self.write(name.as_bytes())?;
        self.write(b"\0")?;
        self.pad()?;
        self.write(content)?;
        self.pad()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = self.written.next_multiple_of(4) - self.written;
        self.write(&[0; 3][..missing as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the archive as the kernel does: name, mode and content of each entry.
    fn read(mut archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let all = archive.len();
        let mut entries = Vec::new();
        loop {
            let header = std::str::from_utf8(&archive[..110]).unwrap();
            assert!(header.starts_with("070701"));
            let field = |index: usize| u32::from_str_radix(&header[6 + 8 * index..][..8], 16).unwrap();
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = std::str::from_utf8(&archive[110..110 + name_size - 1]).unwrap().to_owned();
            let begin = (110 + name_size).next_multiple_of(4);
            let content = archive[begin..begin + size].to_vec();
            archive = &archive[(begin + size).next_multiple_of(4)..];
            assert_eq!((all - archive.len()) % 4, 0);
            if name == "TRAILER!!!" {
                assert!(archive.is_empty());
                return entries;
            }
            entries.push((name, mode, content));
        }
    }

    #[test]
    fn files_are_unpacked_as_packed() {
        let mut archive = Initramfs::new(Vec::new());
        archive.file("/init", 0o755, b"12345").unwrap();
        archive.file("/usr/lib/a", 0o644, b"").unwrap();
        archive.symlink("/usr/lib/b", "a").unwrap();
        archive.directory("/usr/lib").unwrap();
        let entries = read(&archive.finish().unwrap());
        let expected: [(&str, u32, &[u8]); 5] = [
            ("init", 0o100_755, b"12345"),
            ("usr", DIRECTORY, b""),
            ("usr/lib", DIRECTORY, b""),
            ("usr/lib/a", 0o100_644, b""),
            ("usr/lib/b", SYMLINK, b"a"),
        ];
        assert_eq!(entries, expected.map(|(name, mode, content)| (name.to_owned(), mode, content.to_vec())));
    }
}
