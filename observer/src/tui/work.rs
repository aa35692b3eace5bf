//! Slow work: looking events up, and writing files. Each job has a thread of its own.
//!
//! Decides that only the newest lookup continues: nobody waits for a page that was left.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::answers::Look;
use super::prompt::Take;
use crate::hint;
use crate::library::{self, Export, Library, Query};
use crate::output::Output;

/// Result of writing a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    Done {
        bytes: u64,
    },
    /// The file exists already.
    Exists,
    Failed(String),
}

/// Result of a job.
pub enum Done {
    Looked(Look, Result<library::Page, String>),
    Written(Take, PathBuf, Written),
}

/// Starts the threads.
pub struct Work {
    library: Option<Library>,
    done: mpsc::UnboundedSender<Done>,
    /// Stops the lookup that runs.
    stop: Arc<AtomicBool>,
}

const NOTHING_KEPT: &str = "nothing is recorded of this run";

impl Work {
    #[must_use]
    pub fn new(library: Option<Library>) -> (Work, mpsc::UnboundedReceiver<Done>) {
        let (done, results) = mpsc::unbounded_channel();
        (Work { library, done, stop: Arc::default() }, results)
    }

    pub fn look_up(&mut self, look: Look, query: Query) {
        self.stop.store(true, Ordering::Relaxed);
        self.stop = Arc::default();
        let stop = self.stop.clone();
        self.start(move |library| {
            let found = match library {
                Some(library) => library.events(query, &stop).map_err(|e| hint::one_line(&e)),
                None => Err(NOTHING_KEPT.to_owned()),
            };
            Done::Looked(look, found)
        });
    }

    pub fn export(&mut self, export: Export, to: PathBuf, force: bool) {
        self.start(move |library| {
            let how = match library {
                Some(library) => match library.export(export, &to, force) {
                    Ok(bytes) => Written::Done { bytes },
                    Err(e) => failed(&e),
                },
                None => Written::Failed(NOTHING_KEPT.to_owned()),
            };
            Done::Written(Take::Of(export), to, how)
        });
    }

    pub fn write(&mut self, text: String, to: PathBuf, force: bool) {
        self.start(move |_| {
            let how = match write(&text, &to, force) {
                Ok(()) => Written::Done { bytes: text.len() as u64 },
                Err(e) => failed(&e),
            };
            Done::Written(Take::Shown, to, how)
        });
    }

    fn start(&self, run: impl FnOnce(Option<Library>) -> Done + Send + 'static) {
        let (library, done) = (self.library.clone(), self.done.clone());
        // The receiver is gone when the dashboard has ended.
        let job = move || drop(done.send(run(library)));
        // Without a thread there is no answer, and the person presses the key again.
        let _ = std::thread::Builder::new().name("tui-work".into()).spawn(job);
    }
}

fn write(text: &str, to: &Path, force: bool) -> anyhow::Result<()> {
    let mut output = Output::create(to, force)?;
    output.write_all(text.as_bytes())?;
    output.commit()
}

fn failed(e: &anyhow::Error) -> Written {
    let exists = |e: &(dyn std::error::Error + 'static)| {
        e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::AlreadyExists)
    };
    if e.chain().any(exists) { Written::Exists } else { Written::Failed(hint::one_line(e)) }
}
