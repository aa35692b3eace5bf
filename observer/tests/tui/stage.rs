//! Helpers of the dashboard's tests: runs from real recordings, keys, and the screen as text.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use observer::events::Filter;
use observer::library::Library;
use observer::recording::Input;
use observer::report::Report;
use observer::run::pipeline::{Pipeline, last_snapshot};
use observer::run::player::{Next, Player};
use observer::run::{Options, run};
use observer::snapshot::{Command, FindingMark, Position, Replay, Snapshot};
use observer::source::replay;
use observer::tui::state::{Effect, State};
use observer::tui::{Mode, Theme, view};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Modifier;

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(format!("{name}.obs"))
}

fn report(name: &str) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut source = replay::Replay::open(&fixture(name)).unwrap();
    runtime.block_on(run(&mut source, Options::default())).unwrap().report
}

/// The end of a recording, as in its replay.
pub fn recorded(name: &str) -> Snapshot {
    let report = report(name);
    let mark = |f: &observer_engine::finding::Finding| FindingMark {
        id: f.id.clone(),
        rank: f.rank,
        at_ns: f.first_ns,
        reported_ns: f.last_ns,
    };
    let mut marks: Vec<FindingMark> = report.findings.iter().map(mark).collect();
    marks.sort_by_key(|m| m.reported_ns);
    let place = Replay {
        file: format!("{name}.obs"),
        start_ns: report.meta.start_ns,
        end_ns: report.end_ns,
        read_ns: report.end_ns,
        event: report.stats.events,
        events: report.stats.events,
        paused: true,
        speed: Some(1.0),
        ended: true,
        marks: Arc::new(marks),
        ..Replay::default()
    };
    last_snapshot(&report, Position::Replay(place))
}

/// A live run after this part of its passes.
pub fn live(name: &str, part: f64) -> Snapshot {
    let file = std::fs::File::open(fixture(name)).unwrap();
    let mut reader = observer::recording::Reader::new(Box::new(file)).unwrap();
    let meta = Arc::new(reader.meta().clone());
    let mut passes = Vec::new();
    while let Some(pass) = reader.next_pass().unwrap() {
        passes.push(pass);
    }
    let mut pipeline = Pipeline::new(&meta).unwrap();
    pipeline.keep_tail(Filter::default());
    for pass in &passes[..(passes.len() as f64 * part) as usize] {
        pipeline.pass(pass);
    }
    pipeline.snapshot(&meta, Position::Live)
}

/// A dashboard without a terminal.
pub struct Stage {
    pub state: State,
    theme: Theme,
    size: (u16, u16),
    library: Option<Library>,
    /// The player that carries out seeks; `None` for a fixed snapshot.
    player: Option<Player>,
    /// All commands that it sent to the run.
    pub sent: Vec<Command>,
    pub copied: Vec<String>,
    pub quit: bool,
}

impl Stage {
    pub fn new(snapshot: Snapshot, size: (u16, u16)) -> Stage {
        Stage::with(snapshot, size, Theme::PLAIN)
    }

    pub fn with(snapshot: Snapshot, size: (u16, u16), theme: Theme) -> Stage {
        let mode = if matches!(snapshot.position, Position::Replay(_)) { Mode::Replay } else { Mode::Live };
        let mut state = State::new(mode, theme.glyphs(), Arc::new(snapshot));
        state.fit(size.0, size.1);
        let mut stage = Stage {
            state,
            theme,
            size,
            library: None,
            player: None,
            sent: Vec::new(),
            copied: Vec::new(),
            quit: false,
        };
        stage.act();
        stage.sent.clear();
        stage
    }

    /// A dashboard over a fixture, with its library.
    pub fn over(name: &str, size: (u16, u16)) -> Stage {
        Stage { library: Some(Library::file(fixture(name))), ..Stage::new(recorded(name), size) }
    }

    /// A dashboard over a fixture that is played: it seeks as the keys command.
    pub fn played(name: &str, size: (u16, u16)) -> Stage {
        let player = Player::open(format!("{name}.obs"), Input::File(fixture(name)), None).unwrap();
        Stage::playing(player, Library::file(fixture(name)), size)
    }

    /// A dashboard over any recording that is played.
    pub fn playing(mut player: Player, library: Library, size: (u16, u16)) -> Stage {
        player.command(Command::Tail(Filter::default()));
        settle(&mut player);
        let stage = Stage::new(player.snapshot(), size);
        Stage { library: Some(library), player: Some(player), ..stage }
    }

    pub fn show(&mut self, snapshot: Snapshot) {
        self.state.show(Arc::new(snapshot));
        self.act();
    }

    /// Presses keys: single characters, and `<Name>` for the others.
    pub fn press(&mut self, keys: &str) -> &mut Stage {
        let mut rest = keys;
        while let Some(c) = rest.chars().next() {
            let name = rest.strip_prefix('<').and_then(|r| r.split_once('>')).map(|(name, _)| name);
            let (code, used) = match name.and_then(named) {
                Some(code) => (code, name.map_or(0, str::len) + 2),
                None => (KeyCode::Char(c), c.len_utf8()),
            };
            self.state.key(KeyEvent::new(code, KeyModifiers::NONE));
            self.act();
            rest = &rest[used..];
        }
        self
    }

    /// Carries out at once what the state requests.
    fn act(&mut self) {
        loop {
            let effects = self.state.take_effects();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Send(command) => {
                        self.sent.push(command.clone());
                        if let Some(player) = &mut self.player {
                            player.command(command);
                            settle(player);
                            self.state.show(Arc::new(player.snapshot()));
                        }
                    }
                    Effect::Quit => self.quit = true,
                    Effect::Copy(text) => self.copied.push(text),
                    Effect::Look(look, query) => {
                        if let Some(library) = &self.library {
                            let found = library.events(query, &AtomicBool::new(false));
                            self.state.found(&look, found.map_err(|e| e.to_string()));
                        }
                    }
                    Effect::Redraw | Effect::Mouse(_) | Effect::Export { .. } | Effect::Write { .. } => {}
                }
            }
        }
    }

    /// The screen as text; lines that are drawn in reverse from their start begin with `>`.
    pub fn picture(&self) -> String {
        let mut terminal = Terminal::new(TestBackend::new(self.size.0, self.size.1)).unwrap();
        terminal.draw(|frame| drop(view::draw(frame, &self.state, &self.theme))).unwrap();
        let buffer = terminal.backend().buffer();
        let mut text = String::new();
        for y in 0..self.size.1 {
            let reversed = buffer[(0, y)].modifier.contains(Modifier::REVERSED);
            text.push(if reversed { '>' } else { ' ' });
            let line: String = (0..self.size.0).map(|x| buffer[(x, y)].symbol()).collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Works until nothing is left to do.
fn settle(player: &mut Player) {
    while player.work(Duration::from_millis(10)).unwrap() != Next::Idle {}
}

fn named(name: &str) -> Option<KeyCode> {
    Some(match name {
        "Enter" => KeyCode::Enter,
        "Esc" => KeyCode::Esc,
        "Tab" => KeyCode::Tab,
        "End" => KeyCode::End,
        "Home" => KeyCode::Home,
        "PgDn" => KeyCode::PageDown,
        "PgUp" => KeyCode::PageUp,
        "Left" => KeyCode::Left,
        "Right" => KeyCode::Right,
        "Down" => KeyCode::Down,
        "Backspace" => KeyCode::Backspace,
        _ => return None,
    })
}
