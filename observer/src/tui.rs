//! The dashboard: a sink that shows snapshots on a terminal, of a live kernel or of a recording.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::{
    library::Library,
    snapshot::{Command, Snapshot},
};

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Live,
    Replay,
}

/// Shows snapshots until the person quits.
///
/// # Errors
/// The terminal cannot be taken over or written to.
pub async fn run(
    _snapshots: watch::Receiver<Arc<Snapshot>>,
    _commands: mpsc::Sender<Command>,
    _library: Option<Library>,
    _mode: Mode,
) -> anyhow::Result<()> {
    anyhow::bail!("there is no dashboard in this build")
}
