//! The dashboard: a sink that shows snapshots on a terminal, of a live kernel or of a recording.
//!
//! Decides when to draw and which part carries out what a key press asks for. It never touches the engine or the drain:
//! snapshots arrive through a `watch` channel that keeps only the newest, and commands leave through a bounded channel.
//! Threads of their own look up and write what the [`Library`] has recorded, and the terminal has threads too, so a slow
//! terminal costs frames and not events.

mod answers;
mod blind;
mod cells;
mod groups;
pub mod help;
mod history;
mod kept;
pub mod keys;
mod layout;
mod list;
mod names;
pub mod page;
mod panel;
pub mod prompt;
pub mod state;
pub mod tab;
mod target;
mod terminal;
pub mod text;
pub mod theme;
pub mod view;
mod views;
pub mod widget;
mod words;
mod work;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use self::state::{Effect, State};
use self::terminal::Screen;
use self::work::{Done, Work};
use crate::library::Library;
use crate::snapshot::{Command, Snapshot};

pub use self::theme::Theme;
pub use self::work::Written;

/// Source of the shown snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Live,
    Replay,
}

/// 30 frames a second, with the timer's millisecond: more is not readable.
const FRAME: Duration = Duration::from_millis(32);
/// Youngest age of a frame that a key press replaces at once. A repeated key does not draw more often than this.
const KEY_FRAME: Duration = Duration::from_millis(8);

/// Longest time until the input thread sees that it must end.
const INPUT_POLL: Duration = Duration::from_millis(100);

const LOST: &str = "the dashboard ended because another part of the program panicked";

/// Longest time that a terminal which accepts no output may delay the end of the program.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shows snapshots until the person quits, SIGINT, SIGTERM or SIGHUP arrives, or the sender is dropped. A return means quit:
/// the function also sends a [`Command::Quit`], which a full channel drops. Await it to its end: a dropped future gives the
/// terminal back a moment later.
///
/// `library`: the recorded part of the run; without it, nothing can be looked up or saved.
///
/// # Errors
/// The terminal cannot be taken over or written to.
pub async fn run(
    snapshots: watch::Receiver<Arc<Snapshot>>,
    commands: mpsc::Sender<Command>,
    library: Option<Library>,
    mode: Mode,
) -> anyhow::Result<()> {
    let mut signals = Signals::watch()?;
    let (stop, stopped) = oneshot::channel();
    let (done, mut ended) = oneshot::channel();
    let (shown, sent) = (snapshots.clone(), commands.clone());
    let thread = std::thread::Builder::new()
        .name("tui".into())
        .spawn(move || {
            let result = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .context("cannot start the dashboard's runtime")
                .and_then(|runtime| runtime.block_on(show(shown, sent, library, mode, stopped)));
            // The receiver is gone if nobody waits any more.
            let _ = done.send(result);
        })
        .context("cannot start the dashboard's thread")?;
    let result = tokio::select! {
        result = &mut ended => result,
        () = end_requested(&mut signals, snapshots) => {
            let _ = stop.send(());
            let _ = commands.try_send(Command::Quit);
            match tokio::time::timeout(PATIENCE, ended).await {
                Ok(result) => result,
                // The thread hangs in a write that the terminal does not take; restoring the terminal would hang as well.
                Err(_) => return Ok(()),
            }
        }
    };
    match result {
        Ok(result) => result,
        Err(_) => match thread.join() {
            Ok(()) => Ok(()),
            Err(panic) => std::panic::resume_unwind(panic),
        },
    }
}

/// Signals that end a program. If they did so at once, the terminal would not be restored.
struct Signals([Signal; 3]);

impl Signals {
    fn watch() -> anyhow::Result<Signals> {
        let watch = |kind, name| signal(kind).with_context(|| format!("cannot watch for {name}"));
        Ok(Signals([
            watch(SignalKind::interrupt(), "SIGINT")?,
            watch(SignalKind::terminate(), "SIGTERM")?,
            watch(SignalKind::hangup(), "SIGHUP")?,
        ]))
    }
}

/// Waits for a reason to end other than a key press.
async fn end_requested(signals: &mut Signals, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let Signals([interrupt, terminate, hangup]) = signals;
    let gone = async { while snapshots.changed().await.is_ok() {} };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
        () = gone => {}
    }
}

/// Receivers of key effects: the command channel, and the threads that do the work.
struct Hands {
    commands: mpsc::Sender<Command>,
    work: Work,
}

async fn show(
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    commands: mpsc::Sender<Command>,
    library: Option<Library>,
    mode: Mode,
    mut stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let mut screen = Screen::take()?;
    let mut input = Input::start()?;
    let (mut hands, mut done) = {
        let (work, done) = Work::new(library);
        (Hands { commands, work }, done)
    };
    let first = snapshots.borrow_and_update().clone();
    let mut state = State::new(mode, screen.glyphs(), first);
    let mut drawn: Option<Instant> = None;
    // Delay of the next frame: shorter after a key, else the normal frame time.
    let mut wanted = Some(FRAME);
    loop {
        if hands.act(&mut state, &mut screen)?.is_break() {
            // If the run has ended already, nobody receives the command.
            let _ = hands.commands.try_send(Command::Quit);
            return Ok(());
        }
        let due = drawn.map_or_else(Instant::now, |at| at + wanted.unwrap_or(FRAME));
        tokio::select! {
            biased;
            _ = &mut stopped => return Ok(()),
            event = input.events.recv() => {
                if on_input(event, &mut state, &mut screen)?.is_break() {
                    let _ = hands.commands.try_send(Command::Quit);
                    return Ok(());
                }
                wanted = Some(KEY_FRAME);
            }
            () = tokio::time::sleep_until(due), if wanted.is_some() => {
                if !terminal::taken() {
                    anyhow::bail!(LOST);
                }
                drawn = Some(Instant::now());
                screen.draw(&mut state).context("cannot draw on the terminal")?;
                wanted = None;
            }
            Some(done) = done.recv() => {
                done.apply(&mut state);
                wanted.get_or_insert(KEY_FRAME);
            }
            changed = snapshots.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                state.show(snapshots.borrow_and_update().clone());
                wanted.get_or_insert(FRAME);
            }
        }
    }
}

impl Hands {
    /// Does what the state asks for; breaks to quit.
    fn act(&mut self, state: &mut State, screen: &mut Screen) -> anyhow::Result<ControlFlow<()>> {
        for effect in state.take_effects() {
            match effect {
                Effect::Quit => return Ok(ControlFlow::Break(())),
                Effect::Redraw => screen.renew().context("cannot draw on the terminal")?,
                // A full channel means that many commands wait for the run already: dropping this one does no harm.
                Effect::Send(command) => drop(self.commands.try_send(command)),
                Effect::Look(look, query) => self.work.look_up(look, query),
                Effect::Export { export, to, force } => self.work.export(export, to, force),
                Effect::Write { text, to, force } => self.work.write(text, to, force),
                Effect::Copy(text) => screen.copy(text).context("cannot write to the terminal")?,
                Effect::Mouse(on) => screen.mouse(on).context("cannot write to the terminal")?,
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Done {
    fn apply(self, state: &mut State) {
        match self {
            Done::Looked(look, answer) => state.found(&look, answer),
            Done::Written(take, path, how) => state.written(take, &path, how),
        }
    }
}

/// Handles input from the terminal; breaks when the terminal cannot be read any more.
fn on_input(event: Option<Event>, state: &mut State, screen: &mut Screen) -> anyhow::Result<ControlFlow<()>> {
    match event {
        None if !terminal::taken() => anyhow::bail!(LOST),
        None => return Ok(ControlFlow::Break(())),
        Some(Event::Resize(..)) => screen.renew().context("cannot draw on the terminal")?,
        Some(Event::Key(key)) if key.is_press() => state.key(key),
        Some(Event::Mouse(mouse)) => state.pointed(mouse),
        Some(_) => {}
    }
    Ok(ControlFlow::Continue(()))
}

/// Thread that reads the terminal.
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
                while !asked.load(Ordering::Relaxed) && terminal::taken() {
                    let sent = match event::poll(INPUT_POLL) {
                        Ok(false) => continue,
                        Ok(true) => event::read().map(|e| sender.blocking_send(e)),
                        Err(e) => Err(e),
                    };
                    // If the terminal cannot be read, the closed channel ends the dashboard.
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
        // Closing the channel wakes a sender that waits for room.
        self.events.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
