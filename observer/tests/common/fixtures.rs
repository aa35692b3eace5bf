//! The recordings of `fixtures/`.

use std::path::{Path, PathBuf};

use observer::{recording::Reader, source::Pass};

/// Paths of all of them, by name.
pub fn paths() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "obs")).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no fixtures");
    paths
}

/// Passes of a recording, up to its end or its first fault.
pub fn passes(reader: &mut Reader) -> Vec<Pass> {
    std::iter::from_fn(|| reader.next_pass().unwrap()).collect()
}
