//! A pseudo terminal for a program, and the screen as a person would see it.
//!
//! Decides what a frame is: the output up to the end of a synchronized update, with the time at which that end was read. Does
//! not judge the content. Tests and benches share it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not `#[test]` functions for clippy")]

use std::{
    fs::File,
    io::{Read, Write},
    num::NonZeroU16,
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    process::{ioctl_tiocsctty, setsid},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    stdio::stdin,
    termios::{Termios, Winsize, tcgetattr, tcsetwinsize},
};
use vt100::{Parser, Screen};

/// End of each frame.
const FRAME_END: &[u8] = b"\x1b[?2026l";
/// Time limit for an effect that should be immediate.
const PATIENCE: Duration = Duration::from_secs(30);
/// Interval at which a slow terminal reads.
const SIP: Duration = Duration::from_millis(50);

/// A program on its terminal; dropping it ends the program.
pub struct Terminal {
    pub child: Child,
    /// Modes of the terminal before the program started.
    pub before: Termios,
    master: File,
    /// The program's end of the terminal. It stays open, so that its modes can be read after the program's exit.
    line: OwnedFd,
    reader: Arc<Reader>,
}

/// A finished frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Time at which its end was read.
    pub at: Instant,
    /// Number of bytes since the end of the previous frame.
    pub bytes: usize,
}

/// The screen at the end of a frame.
#[derive(Clone)]
pub struct Shown {
    pub at: Instant,
    pub screen: Screen,
}

/// Orders to the thread that reads, and its results.
#[derive(Default)]
struct Reader {
    /// Maximum number of bytes read per second; 0: no limit.
    pace: AtomicUsize,
    seen: Mutex<Seen>,
    news: Condvar,
}

type Wanted = Box<dyn Fn(&Screen) -> bool + Send>;

#[derive(Default)]
struct Seen {
    /// All output so far.
    written: Vec<u8>,
    parser: Parser,
    frames: Vec<Frame>,
    /// Offset in `written` of the end of the last frame.
    frame_end: usize,
    /// Condition on the content of a frame that the test waits for.
    wanted: Option<Wanted>,
    /// The first frame that meets it.
    met: Option<Shown>,
}

impl Terminal {
    /// Starts a program on a terminal of this number of columns and rows, which is its controlling terminal. `None`: the
    /// terminal reports no size, as a serial line does.
    pub fn start(command: &mut Command, size: Option<(u16, u16)>) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let line = ioctl_tiocgptpeer(&master, flags).unwrap();
        let before = tcgetattr(&line).unwrap();
        let reader = Arc::new(Reader::default());
        if let Some(size) = size {
            set_size(&master, size);
            reader.seen().resize(size);
        }
        let end = || Stdio::from(line.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: two system calls, which may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                setsid()?;
                Ok(ioctl_tiocsctty(stdin())?)
            })
        };
        let child = command.spawn().unwrap();
        let master = File::from(master);
        let (source, to) = (master.try_clone().unwrap(), reader.clone());
        std::thread::spawn(move || to.run(source));
        Terminal { child, before, master, line, reader }
    }

    /// Types keys.
    pub fn press(&self, keys: &str) {
        (&self.master).write_all(keys.as_bytes()).unwrap();
    }

    /// Resizes the terminal; the program receives SIGWINCH.
    pub fn resize(&self, size: (u16, u16)) {
        self.reader.seen().resize(size);
        set_size(&self.master, size);
    }

    /// Limits the number of bytes read per second; 0: no limit.
    pub fn pace(&self, bytes: usize) {
        self.reader.pace.store(bytes, Ordering::Relaxed);
    }

    /// All output of the program, unchanged.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.reader.seen().written).into_owned()
    }

    pub fn written_bytes(&self) -> usize {
        self.reader.seen().written.len()
    }

    /// The screen as it is now.
    pub fn screen(&self) -> Screen {
        self.reader.seen().parser.screen().clone()
    }

    /// The frames after the first `skip`.
    pub fn frames(&self, skip: usize) -> Vec<Frame> {
        self.reader.seen().frames.iter().skip(skip).copied().collect()
    }

    /// Waits until the function finds something on the screen, and returns it.
    pub fn wait<T>(&self, what: &str, has: impl Fn(&Screen) -> Option<T>) -> T {
        self.reader.wait(what, |seen| has(seen.parser.screen()))
    }

    /// Waits for a text on the screen.
    pub fn wait_for(&self, text: &str) {
        self.wait(text, |screen| screen.contents().contains(text).then_some(()));
    }

    /// Types keys, and returns the time to the end of the first frame that shows their effect.
    pub fn answer(&self, keys: &str, shows: impl Fn(&Screen) -> bool + Send + 'static) -> Duration {
        self.reader.want(shows);
        let begun = Instant::now();
        self.press(keys);
        self.reader.wait(&format!("the answer to {keys:?}"), |seen| seen.met.clone()).at - begun
    }

    /// The next frame.
    pub fn frame(&self) -> Shown {
        self.reader.want(|_| true);
        self.reader.wait("a frame", |seen| seen.met.clone())
    }

    /// Waits until there is no output for this time.
    pub fn settle(&self, quiet: Duration) {
        let begun = Instant::now();
        let mut before = self.written_bytes();
        loop {
            std::thread::sleep(quiet);
            let now = self.written_bytes();
            if std::mem::replace(&mut before, now) == now {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not come to rest: {}", self.screen().contents());
        }
    }

    /// Modes of the terminal.
    pub fn modes(&self) -> Termios {
        tcgetattr(&self.line).unwrap()
    }

    /// Waits for the program to end.
    pub fn ends(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end: {}", self.screen().contents());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The program may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Reader {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// Reads until the program's end is closed.
    fn run(&self, mut source: File) {
        let mut bytes = [0; 1 << 16];
        loop {
            let pace = self.pace.load(Ordering::Relaxed);
            let mut room = bytes.len();
            if pace > 0 {
                std::thread::sleep(SIP);
                room = (pace * SIP.as_millis() as usize / 1000).clamp(1, room);
            }
            let Ok(n @ 1..) = source.read(&mut bytes[..room]) else { return };
            let at = Instant::now();
            self.seen().take(&bytes[..n], at);
            self.news.notify_all();
        }
    }

    fn want(&self, shows: impl Fn(&Screen) -> bool + Send + 'static) {
        let mut seen = self.seen();
        seen.wanted = Some(Box::new(shows));
        seen.met = None;
    }

    fn wait<T>(&self, what: &str, has: impl Fn(&Seen) -> Option<T>) -> T {
        let begun = Instant::now();
        let mut seen = self.seen();
        loop {
            if let Some(found) = has(&seen) {
                return found;
            }
            let left = PATIENCE.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let shown = seen.parser.screen().contents();
                // Not while the lock is held: a panic would poison it.
                drop(seen);
                panic!("no {what:?} on the screen:\n{shown}");
            }
            seen = self.news.wait_timeout(seen, left).unwrap().0;
        }
    }
}

impl Seen {
    fn take(&mut self, bytes: &[u8], at: Instant) {
        let mut shown = self.written.len();
        self.written.extend_from_slice(bytes);
        // The end of a frame may arrive in pieces.
        let from = shown.saturating_sub(FRAME_END.len() - 1);
        let ends = self.written[from..].windows(FRAME_END.len()).enumerate();
        let ends: Vec<usize> =
            ends.filter(|(_, w)| *w == FRAME_END).map(|(i, _)| from + i + FRAME_END.len()).collect();
        for end in ends {
            self.parser.process(&self.written[shown..end]);
            shown = end;
            let bytes = end - std::mem::replace(&mut self.frame_end, end);
            self.frames.push(Frame { at, bytes });
            if self.wanted.as_ref().is_some_and(|shows| shows(self.parser.screen())) {
                self.wanted = None;
                self.met = Some(Shown { at, screen: self.parser.screen().clone() });
            }
        }
        self.parser.process(&self.written[shown..]);
    }

    fn resize(&mut self, (columns, rows): (u16, u16)) {
        let cells = |n| NonZeroU16::new(n).unwrap();
        self.parser.set_size(cells(rows), cells(columns));
    }
}

fn set_size(master: impl AsFd, (columns, rows): (u16, u16)) {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).unwrap();
}

#[test]
fn a_frame_may_arrive_in_pieces() {
    let mut seen = Seen { wanted: Some(Box::new(|s| s.contents().contains("two"))), ..Seen::default() };
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    for (ms, piece) in
        [&b"one\x1b[?20"[..], b"26l\x1b[?2026htwo", b"\x1b[?2026lthree\x1b[?2026l"].iter().enumerate()
    {
        seen.take(piece, at(ms as u64));
    }
    assert_eq!(
        seen.frames.iter().map(|f| (f.at, f.bytes)).collect::<Vec<_>>(),
        [(at(1), 11), (at(2), 19), (at(2), 13)]
    );
    assert_eq!(seen.met.map(|shown| (shown.at, shown.screen.contents())), Some((at(2), "onetwo".into())));
    assert_eq!(seen.parser.screen().contents(), "onetwothree");
}
