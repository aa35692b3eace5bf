//! The user's terminal while a guest uses it. It is raw, so that every key (Ctrl-C too) goes to the guest. It is restored
//! however this program ends.

use std::{
    io::{self, IsTerminal as _, Write as _},
    mem::MaybeUninit,
    sync::OnceLock,
};

use anyhow::{Context as _, Result};

/// The original settings. The signal handler reads them, so they are not behind a lock.
static BEFORE: OnceLock<libc::termios> = OnceLock::new();

pub fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Returns rows and columns; 24 and 80 if the terminal does not know its size.
pub fn size() -> (u16, u16) {
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: TIOCGWINSZ fills in a winsize; all zeroes are valid if it fails.
    let size = unsafe {
        libc::ioctl(1, libc::TIOCGWINSZ, size.as_mut_ptr());
        size.assume_init()
    };
    if size.ws_row == 0 || size.ws_col == 0 { (24, 80) } else { (size.ws_row, size.ws_col) }
}

/// Guard that keeps the terminal raw.
pub struct Raw(());

impl Raw {
    pub fn enter() -> Result<Raw> {
        let mut now = MaybeUninit::<libc::termios>::zeroed();
        // SAFETY: tcgetattr fills in the termios, which is used only if the call succeeds.
        let before = unsafe {
            if libc::tcgetattr(0, now.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error()).context("cannot read the terminal's settings");
            }
            now.assume_init()
        };
        let mut raw = *BEFORE.get_or_init(|| before);
        // SAFETY: `raw` is a valid termios; the handler makes only async-signal-safe calls.
        unsafe {
            for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT] {
                libc::signal(signal, on_signal as *const () as libc::sighandler_t);
            }
            libc::cfmakeraw(&mut raw);
            if libc::tcsetattr(0, libc::TCSADRAIN, &raw) != 0 {
                return Err(io::Error::last_os_error()).context("cannot make the terminal raw");
            }
        }
        Ok(Raw(()))
    }

    /// Undoes what a program that died in the guest may have left: alternate screen, hidden cursor, mouse, colours.
    pub fn reset_screen(&self) {
        print!("\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1006l\x1b[?2004l\x1b[?25h\x1b[0m");
        io::stdout().flush().ok();
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    if let Some(before) = BEFORE.get() {
        // SAFETY: `before` comes from tcgetattr; the call is async-signal-safe.
        unsafe { libc::tcsetattr(0, libc::TCSADRAIN, before) };
    }
}

extern "C" fn on_signal(signal: libc::c_int) {
    restore();
    // SAFETY: both are async-signal-safe; the default action ends this process, and the kernel ends QEMU with it.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}
