//! The terminal: taken over, measured, and always given back.
//!
//! Decides the size to draw for and how the terminal is restored. Draws nothing.

use std::io::{self, Stdout, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use crossterm::clipboard::CopyToClipboard;
use ratatui::backend::{Backend, ClearType, CrosstermBackend};
use ratatui::crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use ratatui::crossterm::{cursor, execute, terminal};
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};

use super::state::State;
use super::theme::Theme;
use super::view;
use super::widget::Glyphs;

/// Size for a serial console, which reports no window size: its terminals have at least this.
const FALLBACK: (u16, u16) = (80, 24);

/// Set while the terminal is ours, so that it is restored once: by the guard or by a panic, depending on which is first.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Set while the mouse is ours too.
static MOUSE: AtomicBool = AtomicBool::new(false);

/// The terminal while it is ours; dropping it gives it back.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    /// Size that is drawn for.
    area: Rect,
    theme: Theme,
}

impl Screen {
    /// Takes the terminal over: raw mode, alternate screen, and a panic hook that restores before it reports.
    ///
    /// # Errors
    /// Standard input or output is not a terminal, or refuses raw mode.
    pub fn take() -> anyhow::Result<Screen> {
        restore_on_panic();
        terminal::enable_raw_mode().context("cannot put the terminal into raw mode")?;
        TAKEN.store(true, Ordering::SeqCst);
        let area = area();
        let options = TerminalOptions { viewport: Viewport::Fixed(area) };
        let terminal = Terminal::with_options(CrosstermBackend::new(io::stdout()), options);
        let screen = terminal.and_then(|terminal| {
            let mut screen = Screen { terminal, area, theme: Theme::from_environment() };
            execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
            screen.renew().map(|()| screen)
        });
        if screen.is_err() {
            restore();
        }
        screen.context("cannot draw on the terminal")
    }

    /// Draws for the size that the terminal has now, from scratch.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub fn renew(&mut self) -> io::Result<()> {
        // `Terminal::clear` asks the terminal where its cursor is, and a serial line may never answer.
        self.terminal.backend_mut().clear_region(ClearType::All)?;
        self.area = area();
        self.terminal.resize(self.area)
    }
}

impl Screen {
    /// Characters that the terminal can show.
    #[must_use]
    pub fn glyphs(&self) -> &'static Glyphs {
        self.theme.glyphs()
    }

    /// Draws a frame. Terminals with synchronized output show it at once, so half a frame is never visible.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub fn draw(&mut self, state: &mut State) -> io::Result<()> {
        // A resize is not always reported: crossterm drops a signal that arrives together with a key.
        if area() != self.area {
            self.renew()?;
        }
        execute!(self.terminal.backend_mut(), terminal::BeginSynchronizedUpdate)?;
        self.terminal.draw(|frame| {
            state.fit(frame.area().width, frame.area().height);
            let targets = view::draw(frame, state, &self.theme);
            state.drawn(targets);
        })?;
        execute!(self.terminal.backend_mut(), terminal::EndSynchronizedUpdate)
    }

    /// Copies text to the terminal's clipboard, by OSC 52, which works through ssh and tmux where it is allowed.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub fn copy(&mut self, text: String) -> io::Result<()> {
        execute!(self.terminal.backend_mut(), CopyToClipboard::to_clipboard_from(text))
    }

    /// Takes the mouse, or leaves it to the terminal.
    ///
    /// # Errors
    /// The terminal cannot be written to.
    pub fn mouse(&mut self, on: bool) -> io::Result<()> {
        MOUSE.store(on, Ordering::SeqCst);
        if on {
            execute!(self.terminal.backend_mut(), EnableMouseCapture)
        } else {
            execute!(self.terminal.backend_mut(), DisableMouseCapture)
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Returns true while the terminal is ours: from [`Screen::take`] until it is restored. A panic in any thread restores it.
pub fn taken() -> bool {
    TAKEN.load(Ordering::SeqCst)
}

/// Size to draw for: the terminal's own, else `COLUMNS` and `LINES`, else 80×24.
fn area() -> Rect {
    let reported = terminal::window_size().map_or((0, 0), |s| (s.columns, s.rows));
    let env = |name| std::env::var(name).ok().and_then(|v| v.parse().ok());
    let (width, height) = size(reported, (env("COLUMNS"), env("LINES")));
    Rect::new(0, 0, width, height)
}

fn size(reported: (u16, u16), env: (Option<u16>, Option<u16>)) -> (u16, u16) {
    let pick = |reported: u16, env: Option<u16>, fallback| {
        if reported > 0 { reported } else { env.filter(|&n| n > 0).unwrap_or(fallback) }
    };
    (pick(reported.0, env.0, FALLBACK.0), pick(reported.1, env.1, FALLBACK.1))
}

/// Gives the terminal back. Errors are ignored: there is nowhere left to report them.
fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let mut out = io::stdout();
        if MOUSE.swap(false, Ordering::SeqCst) {
            let _ = execute!(out, DisableMouseCapture);
        }
        let _ = execute!(out, terminal::LeaveAlternateScreen, cursor::Show);
        let _ = out.flush();
        let _ = terminal::disable_raw_mode();
    }
}

/// Restores the terminal before a panic prints its message: on the alternate screen nobody could read it.
fn restore_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            former(info);
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_without_a_size_has_a_default_size() {
        assert_eq!(size((132, 50), (Some(9), Some(9))), (132, 50));
        assert_eq!(size((0, 0), (None, None)), (80, 24));
        assert_eq!(size((0, 0), (Some(120), Some(0))), (120, 24));
    }
}
