//! The bytes of a recording, readable from any place.
//!
//! Readers do not disturb each other: each opens the input again and has an offset of its own. Standard input does not allow
//! this; it can only be read once, from start to end.

use std::{
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
};

/// Input that can be read from any place, on any thread.
pub trait ReadSeek: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadSeek for T {}

/// The bytes of a recording. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Input {
    /// A file by its name.
    File(PathBuf),
    /// Bytes embedded in this program.
    Static(&'static [u8]),
    /// An open file that may be written to at this moment.
    Shared(Arc<File>),
}

impl Input {
    /// Opens a reader at the start, independent of other readers.
    ///
    /// # Errors
    /// There is no such file, or it may not be read.
    pub fn open(&self) -> io::Result<Box<dyn ReadSeek>> {
        Ok(match self {
            Input::File(path) => Box::new(File::open(path)?),
            Input::Static(bytes) => Box::new(Cursor::new(*bytes)),
            Input::Shared(file) => Box::new(Positioned { file: file.clone(), offset: 0 }),
        })
    }

    /// Number of bytes that are there now.
    ///
    /// # Errors
    /// The file's metadata cannot be read.
    pub fn len(&self) -> io::Result<u64> {
        Ok(match self {
            Input::File(path) => std::fs::metadata(path)?.len(),
            Input::Static(bytes) => bytes.len() as u64,
            Input::Shared(file) => file.metadata()?.len(),
        })
    }

    /// Returns true if there are no bytes.
    ///
    /// # Errors
    /// The file's metadata cannot be read.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A reader with an offset of its own, because the file's own offset belongs to its writer.
struct Positioned {
    file: Arc<File>,
    offset: u64,
}

impl Read for Positioned {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(into, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}

impl Seek for Positioned {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let offset = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => self.offset.checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.offset = offset.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.offset)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Reads twice from both ends, so that a shared offset would show.
    fn check(input: &Input) {
        let (mut one, mut other) = (input.open().unwrap(), input.open().unwrap());
        let mut bytes = [0; 3];
        one.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"abc");
        other.seek(SeekFrom::End(-2)).unwrap();
        let mut rest = Vec::new();
        other.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"gh");
        one.seek(SeekFrom::Current(1)).unwrap();
        one.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"efg");
        assert!(one.seek(SeekFrom::Current(-100)).is_err());
        assert_eq!((input.len().unwrap(), input.is_empty().unwrap()), (8, false));
    }

    #[test]
    fn each_reader_has_its_own_position() {
        let path = std::env::temp_dir().join(format!("observer-input-{}", std::process::id()));
        let mut file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.write_all(b"abcdef").unwrap();
        let shared = Arc::new(file);
        let input = Input::Shared(shared.clone());
        let mut begun = input.open().unwrap();
        begun.read_exact(&mut [0; 2]).unwrap();
        // The writer continues at its own position.
        (&*shared).write_all(b"gh").unwrap();
        check(&input);
        check(&Input::File(path.clone()));
        check(&Input::Static(b"abcdefgh"));
        std::fs::remove_file(path).unwrap();
    }
}
