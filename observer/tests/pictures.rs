//! Pictures of the dashboard for the documents: the real program on a terminal, over recordings of `fixtures/`.
//!
//! Decides the content of each picture. The test compares them with those in `docs/pictures/`; `cargo xtask pictures` writes
//! them. Nothing on them may depend on time or on the machine.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not `#[test]` functions for clippy")]

#[allow(dead_code, reason = "other tests and benches need more of a terminal than this")]
#[path = "tui/pty.rs"]
mod pty;
#[path = "pictures/svg.rs"]
mod svg;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use pty::Terminal;

/// A picture, and the keys that lead to it.
struct Picture {
    name: &'static str,
    /// File name in `fixtures/`.
    recording: &'static str,
    size: (u16, u16),
    /// Typed keys, each with a text that shows that they have taken effect.
    steps: &'static [(&'static str, &'static str)],
    title: &'static str,
    /// Description for people who cannot see it.
    description: &'static str,
}

const PICTURES: &[Picture] = &[
    Picture {
        name: "overview",
        recording: "sample.obs",
        size: (112, 25),
        steps: &[("1", "WHAT")],
        title: "The overview of a run on 5.10",
        description: "What was lost and what cannot be seen, how many events of each kind, and ten findings, worst first: a window in \
                      which a stale pointer was used, a deadlock that can happen, predicted windows, orders of locks. At the \
                      bottom the recording as a line of time with the findings on it.",
    },
    Picture {
        name: "window",
        recording: "sample.obs",
        size: (112, 41),
        steps: &[("2", "CERTAIN"), ("\r", "missing:")],
        title: "A stale pointer, as a timeline",
        description: "Two lanes over one axis of time. The holder, in follow_hugetlb_page, looked a pointer up; then the unlinker, in \
                      try_to_unmap_one, removed the link of its page table; the holder got the table's lock after that, through \
                      the stale pointer. Under each lane are the locks that the task held: none is in both but the page-table lock.",
    },
    Picture {
        name: "cycle",
        recording: "fault-mutex-folio.obs",
        size: (112, 26),
        steps: &[("1", "WHAT"), ("\r", "SIDE 1")],
        title: "A deadlock that can happen",
        description: "Two lanes. Side 1, a fault, holds the fault mutex and asks for the lock of a page-cache folio; side 2, a \
                      copy-on-write, holds that folio lock and asks for the fault mutex.",
    },
    Picture {
        name: "order",
        recording: "fault-mutex-folio.obs",
        size: (112, 20),
        steps: &[("4", "REQUESTED"), ("m", "row held")],
        title: "Lock order as a matrix",
        description: "A row for each class of lock that was held and a column for each that was asked for, outer locks first, with \
                      how often. Marked are the pairs that close a cycle and those against a documented order.",
    },
];

/// Time without output after which a picture counts as complete.
const QUIET: Duration = Duration::from_millis(300);
/// Time limit until a picture is as expected.
const PATIENCE: Duration = Duration::from_secs(20);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn start(recording: &str, size: (u16, u16)) -> Terminal {
    let mut command = Command::new(env!("CARGO_BIN_EXE_observer"));
    // The name without a path, because it is on the screen.
    command.args(["replay", recording]).current_dir(root().join("fixtures"));
    command.envs([("TERM", "xterm-256color"), ("LANG", "C.UTF-8"), ("TZ", "UTC")]);
    for name in ["COLORTERM", "NO_COLOR", "COLUMNS", "LINES", "LC_ALL", "LC_CTYPE"] {
        command.env_remove(name);
    }
    Terminal::start(&mut command, Some(size))
}

impl Picture {
    /// Starts the dashboard and presses the keys; the last frame may still be on its way.
    fn show(&self) -> Terminal {
        let terminal = start(self.recording, self.size);
        terminal.wait_for("the run is over");
        for (keys, text) in self.steps {
            terminal.press(keys);
            terminal.wait_for(text);
        }
        terminal
    }

    fn path(&self) -> PathBuf {
        root().join("docs/pictures").join(self.name).with_extension("svg")
    }

    fn draw(&self, terminal: &Terminal) -> String {
        svg::draw(&terminal.screen(), self.title, self.description)
    }
}

#[test]
fn the_pictures_match_the_program() {
    let bless = std::env::var_os("OBSERVER_BLESS").is_some();
    for picture in PICTURES {
        let terminal = picture.show();
        if bless {
            terminal.settle(QUIET);
            fs::create_dir_all(root().join("docs/pictures")).unwrap();
            fs::write(picture.path(), picture.draw(&terminal)).unwrap();
        }
        let kept = fs::read_to_string(picture.path()).unwrap_or_default();
        let begun = Instant::now();
        while picture.draw(&terminal) != kept {
            assert!(
                begun.elapsed() < PATIENCE,
                "docs/pictures/{}.svg is out of date; try: cargo xtask pictures\nwhat is shown now:\n{}",
                picture.name,
                terminal.screen().contents()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn pictures_are_small_and_self_contained() {
    let mut names: Vec<String> = Vec::new();
    for file in fs::read_dir(root().join("docs/pictures")).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        names.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
        assert!(text.len() < 60_000, "{}: {} bytes", path.display(), text.len());
        assert!(text.contains("<title") && text.contains("<desc"), "{}", path.display());
        for foreign in ["<script", "href", "url(", "@import"] {
            assert!(!text.contains(foreign), "{}: {foreign}", path.display());
        }
    }
    names.sort();
    let mut meant: Vec<&str> = PICTURES.iter().map(|picture| picture.name).collect();
    meant.sort_unstable();
    assert_eq!(names, meant);
}
