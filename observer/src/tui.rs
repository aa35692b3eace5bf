//! The dashboard: a sink that shows snapshots on a terminal, of a live kernel or of a recording.
//!
//! Decides when to draw and what a key press leads to. It never touches the engine or the drain: snapshots come in by a
//! `watch` channel that keeps the newest only, commands go out by a bounded one, and terminal reads and writes have
//! threads of their own, so that a slow terminal costs frames and not events.

mod history;
pub mod keys;
mod layout;
mod rows;
pub mod state;
mod terminal;
mod text;
mod theme;
pub mod view;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use self::state::{Effect, State};
use self::terminal::Screen;
use crate::snapshot::{Command, Snapshot};

pub use self::state::Mode;
pub use self::theme::Theme;

/// At most 20 frames a second: more is not readable, and a serial line could not carry it.
const FRAME: Duration = Duration::from_millis(50);

/// How long the input thread may take to see that it has to end.
const INPUT_POLL: Duration = Duration::from_millis(100);

/// Shows snapshots until the person quits, a signal ends the process, or (live) the sender is gone. Over a recording the
/// last picture stays until the person quits.
///
/// # Errors
/// The terminal cannot be taken over or written to.
pub async fn run(
    snapshots: watch::Receiver<Arc<Snapshot>>,
    commands: mpsc::Sender<Command>,
    mode: Mode,
) -> anyhow::Result<()> {
    let (done, ended) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("tui".into())
        .spawn(move || {
            let result = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .context("cannot start the dashboard's runtime")
                .and_then(|runtime| runtime.block_on(show(snapshots, commands, mode)));
            // Nobody waits any more when the receiver is gone.
            let _ = done.send(result);
        })
        .context("cannot start the dashboard's thread")?;
    match ended.await {
        Ok(result) => result,
        Err(_) => match thread.join() {
            Ok(()) => Ok(()),
            Err(panic) => std::panic::resume_unwind(panic),
        },
    }
}

async fn show(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    commands: mpsc::Sender<Command>,
    mode: Mode,
) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut hung_up = signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?;
    let mut screen = Screen::take()?;
    let mut input = Input::start()?;
    let theme = Theme::from_environment();
    let first = snapshots.borrow_and_update().clone();
    let mut state = State::new(mode, first);
    let mut sender_there = true;
    let mut drawn: Option<Instant> = None;
    let mut dirty = true;
    loop {
        let due = drawn.map_or_else(Instant::now, |at| at + FRAME);
        tokio::select! {
            biased;
            _ = terminated.recv() => return quit(&commands),
            _ = hung_up.recv() => return quit(&commands),
            event = input.events.recv() => match event {
                Some(Event::Key(key)) if key.is_press() => {
                    match state.key(key) {
                        Effect::Nothing => {}
                        Effect::Redraw => screen.renew().context("cannot draw on the terminal")?,
                        Effect::Send(Command::Quit) => return quit(&commands),
                        // A full channel means that the pipeline has many of them before it: one less is no loss.
                        Effect::Send(command) => drop(commands.try_send(command)),
                    }
                    dirty = true;
                }
                Some(Event::Resize(..)) => {
                    screen.renew().context("cannot draw on the terminal")?;
                    dirty = true;
                }
                Some(_) => {}
                None => return quit(&commands),
            },
            () = tokio::time::sleep_until(due), if dirty => {
                if screen.lost() {
                    anyhow::bail!("the dashboard ended because another part of the program panicked");
                }
                screen.terminal.draw(|frame| {
                    state.fit(frame.area());
                    view::draw(frame, &state, &theme);
                }).context("cannot draw on the terminal")?;
                drawn = Some(Instant::now());
                dirty = false;
            }
            changed = snapshots.changed(), if sender_there => {
                match changed {
                    Ok(()) => state.show(snapshots.borrow_and_update().clone()),
                    Err(_) if mode == Mode::Live => return Ok(()),
                    Err(_) => sender_there = false,
                }
                dirty = true;
            }
        }
    }
}

/// The pipeline may be gone already: then there is nothing left to tell it.
fn quit(commands: &mpsc::Sender<Command>) -> anyhow::Result<()> {
    let _ = commands.try_send(Command::Quit);
    Ok(())
}

/// The thread that reads the terminal.
struct Input {
    events: mpsc::Receiver<Event>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Input {
    fn start() -> anyhow::Result<Input> {
        let (sender, events) = mpsc::channel(64);
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let thread = std::thread::Builder::new()
            .name("tui-input".into())
            .spawn(move || {
                while !asked.load(Ordering::Relaxed) {
                    let sent = match event::poll(INPUT_POLL) {
                        Ok(false) => continue,
                        Ok(true) => event::read().map(|e| sender.blocking_send(e)),
                        Err(e) => Err(e),
                    };
                    // A terminal that cannot be read ends the dashboard by the closed channel.
                    if !matches!(sent, Ok(Ok(()))) {
                        return;
                    }
                }
            })
            .context("cannot start the dashboard's input thread")?;
        Ok(Input { events, stop, thread: Some(thread) })
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A sender that waits for room wakes up when the channel closes.
        self.events.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
