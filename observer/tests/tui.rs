//! The dashboard: keys in, pictures out, without a terminal; and on one, that it gives it back.
//!
//! Pictures are compared with the ones under `tests/snapshots`.
//! `INSTA_UPDATE=always cargo test -p observer --test tui` writes them anew; the difference is there to be read.

#[path = "tui/sample.rs"]
mod sample;
#[path = "tui/terminal.rs"]
mod terminal;

use std::sync::Arc;

use observer::snapshot::{Command, Position, Snapshot};
use observer::tui::keys::{self, Action};
use observer::tui::state::{Effect, Mode, State, Tab};
use observer::tui::{Theme, view};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::style::Modifier;

const SIZES: [(u16, u16); 3] = [(80, 24), (200, 50), (20, 5)];

fn dashboard(snapshot: Snapshot, size: (u16, u16)) -> State {
    let mode = if matches!(snapshot.position, Position::Replay { .. }) { Mode::Replay } else { Mode::Live };
    let mut state = State::new(mode, Arc::new(snapshot));
    state.fit(Rect::new(0, 0, size.0, size.1));
    state
}

/// Presses keys: single characters, and `<Name>` for the others.
fn press(state: &mut State, keys: &str) -> Vec<Command> {
    let mut sent = Vec::new();
    let mut rest = keys;
    while let Some(c) = rest.chars().next() {
        let (code, used) = match rest.strip_prefix('<').and_then(|r| r.split_once('>')) {
            Some((name, _)) => (named(name), name.len() + 2),
            None => (KeyCode::Char(c), c.len_utf8()),
        };
        if let Effect::Send(command) = state.key(KeyEvent::new(code, KeyModifiers::NONE)) {
            sent.push(command);
        }
        rest = &rest[used..];
    }
    sent
}

fn named(name: &str) -> KeyCode {
    match name {
        "Enter" => KeyCode::Enter,
        "Esc" => KeyCode::Esc,
        "Tab" => KeyCode::Tab,
        "End" => KeyCode::End,
        "Home" => KeyCode::Home,
        "PgDn" => KeyCode::PageDown,
        "PgUp" => KeyCode::PageUp,
        "Backspace" => KeyCode::Backspace,
        _ => panic!("no key {name}"),
    }
}

/// The screen as text; lines that are drawn in reverse from their start have a `>` before them.
fn picture(state: &State, size: (u16, u16), theme: &Theme) -> String {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| view::draw(frame, state, theme)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..size.1 {
        let reversed = buffer[(0, y)].modifier.contains(Modifier::REVERSED);
        text.push(if reversed { '>' } else { ' ' });
        let line: String = (0..size.0).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Every size of one scene in one file.
fn scene(name: &str, snapshot: impl Fn() -> Snapshot, keys: &str) {
    let mut text = String::new();
    for size in SIZES {
        let mut state = dashboard(snapshot(), size);
        press(&mut state, keys);
        text.push_str(&format!("--- {}x{}\n{}", size.0, size.1, picture(&state, size, &Theme::PLAIN)));
    }
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(format!("tui-{name}"), text);
    });
}

#[test]
fn scenes() {
    scene("empty-overview", sample::empty, "");
    scene("empty-windows", sample::empty, "2");
    scene("empty-tables", sample::empty, "4");
    scene("one-overview", sample::one_row, "");
    scene("one-window-detail", sample::one_row, "2<Enter>");
    scene("one-locks-detail", sample::one_row, "3<Enter>");
    scene("one-tables-detail", sample::one_row, "4<Enter>");
    scene("predicted-windows", sample::predicted, "2");
    scene("predicted-tables-detail", sample::predicted, "4<Enter>");
    scene("predicted-protection", sample::predicted, "6j");
    scene("empty-protection", sample::empty, "6");
    scene("thousands-overview", sample::thousands, "<End>");
    scene("thousands-windows", sample::thousands, "2<PgDn>jj");
    scene("thousands-locks", sample::thousands, "3j");
    scene("thousands-tables", sample::thousands, "4jjj<Enter>");
    scene("thousands-filtered", sample::thousands, "1/cycle<Enter>");
    scene("lossy-replay", sample::lossy, "");
    scene("blind-overview", sample::blind, "");
    scene("blind-coverage", sample::blind, "5jjj<Enter>");
    scene("help", sample::lossy, "?");
}

#[test]
fn no_size_and_no_key_panics() {
    let every: String =
        "?jk/x<Backspace><Enter>2<Enter><PgDn><PgUp><End><Home><Esc><Tab><End><Enter>fj<Esc>56<Enter>j4<Enter>".into();
    for snapshot in [
        sample::empty(),
        sample::one_row(),
        sample::predicted(),
        sample::thousands(),
        sample::lossy(),
        sample::blind(),
    ] {
        for width in [1, 2, 3, 7, 20, 40, 79, 119, 120, 300] {
            for height in [1, 2, 3, 4, 5, 6, 7, 8, 13, 15, 16, 17, 60] {
                let mut state = dashboard(snapshot.clone(), (width, height));
                let mut rest = every.as_str();
                while !rest.is_empty() {
                    let end = if rest.starts_with('<') { rest.find('>').map_or(1, |i| i + 1) } else { 1 };
                    press(&mut state, &rest[..end]);
                    rest = &rest[end..];
                    picture(&state, (width, height), &Theme::FULL);
                }
            }
        }
    }
}

#[test]
fn loss_and_blindness_are_on_every_screen() {
    for size in SIZES {
        for tab in 1..=Tab::ALL.len() {
            for open in ["", "<Enter>"] {
                let mut state = dashboard(sample::lossy(), size);
                press(&mut state, &format!("{tab}{open}"));
                let shown = picture(&state, size, &Theme::PLAIN);
                assert!(
                    shown.contains("loss 120,352") || shown.contains("loss 120k"),
                    "tab {tab} at {size:?}:\n{shown}"
                );
                let mut state = dashboard(sample::blind(), size);
                press(&mut state, &format!("{tab}{open}"));
                let shown = picture(&state, size, &Theme::PLAIN);
                assert!(shown.contains("blind"), "tab {tab} at {size:?}:\n{shown}");
            }
        }
    }
}

#[test]
fn the_help_has_every_key_and_only_keys_that_are_there() {
    for mode in [Mode::Live, Mode::Replay] {
        let help: Vec<String> = view::help::lines(mode, 300)
            .iter()
            .map(|l| l.0.iter().map(|(_, t)| t.as_str()).collect())
            .collect();
        for b in keys::BINDINGS {
            let names: Vec<String> = b.keys.iter().map(|k| k.name()).collect();
            let there = help.iter().any(|l| l.contains(&names.join(" ")) && l.contains(b.help));
            let meant = mode == Mode::Replay || b.when == keys::When::Always;
            assert_eq!(there, meant, "{names:?} in {mode:?}");
        }
    }
}

#[test]
fn a_selection_follows_its_row() {
    let mut state = dashboard(sample::thousands(), (80, 24));
    press(&mut state, "2jjj");
    let before = state.selected_row();
    let mut next = sample::thousands();
    next.findings.insert(0, sample::window(0));
    next.findings[0].id = "new".into();
    state.show(Arc::new(next.clone()));
    assert_eq!(state.selected_row(), before.map(|i| i + 1));

    press(&mut state, "<Home>");
    next.findings.insert(0, sample::window(1));
    next.findings[0].id = "newer".into();
    state.show(Arc::new(next));
    assert_eq!(state.selected_row(), Some(0), "the first place is where the worst is");
}

#[test]
fn rows_that_go_away_take_the_detail_with_them() {
    let mut state = dashboard(sample::one_row(), (80, 24));
    press(&mut state, "2<Enter>");
    assert!(state.detail().is_some());
    state.show(Arc::new(sample::empty()));
    assert_eq!((state.detail(), state.selected_row()), (None, None));
}

#[test]
fn frozen_rows_stay_and_the_header_goes_on() {
    let size = (80, 24);
    let mut state = dashboard(sample::one_row(), size);
    press(&mut state, "f");
    let lossy = Snapshot { loss: vec![("ring-full", 999)], elapsed_ns: 9_000_000_000, ..sample::thousands() };
    state.show(Arc::new(lossy));
    let shown = picture(&state, size, &Theme::PLAIN);
    assert!(shown.contains("FROZEN at 00:00:01.2"), "{shown}");
    assert!(shown.contains("00:00:09.0") && shown.contains("loss 999"), "{shown}");
    assert_eq!(state.row_count(), 1);
    press(&mut state, "f");
    assert_eq!(state.row_count(), 1000);
}

#[test]
fn a_filter_is_typed_kept_and_given_up() {
    let mut state = dashboard(sample::thousands(), (80, 24));
    press(&mut state, "/cyXX<Backspace><Backspace>cle");
    assert_eq!((state.filter(), state.row_count()), (("cycle", true), 250));
    press(&mut state, "q<Backspace><Enter>");
    assert_eq!((state.filter(), state.row_count()), (("cycle", false), 250));
    press(&mut state, "/zzz<Esc>");
    assert_eq!((state.filter(), state.row_count()), (("cycle", false), 250));
    press(&mut state, "/zzz<Enter>");
    assert!(picture(&state, (80, 24), &Theme::PLAIN).contains("none of 1,000 rows has \"cyclezzz\""));
    press(&mut state, "<Esc>");
    assert_eq!((state.filter(), state.row_count()), (("", false), 1000));
}

#[test]
fn a_recording_is_paused_stepped_and_sped_up() {
    let running = |paused, speed| {
        let position = Position::Replay { file: "a.obs".into(), permille: 0, paused, speed, ended: false };
        Snapshot { position, ..sample::one_row() }
    };
    let mut state = dashboard(running(false, Some(1.0)), (80, 24));
    assert_eq!(press(&mut state, " "), [Command::Pause(true)]);
    // A picture from before the key press does not undo it.
    state.show(Arc::new(running(false, Some(1.0))));
    assert_eq!(press(&mut state, " "), [Command::Pause(false)]);
    assert_eq!(press(&mut state, "."), [Command::Step]);
    state.show(Arc::new(running(true, Some(1.0))));
    assert!(picture(&state, (80, 24), &Theme::PLAIN).contains("PAUSED"));
    assert_eq!(press(&mut state, "+-"), [Command::Speed(Some(2.0)), Command::Speed(Some(1.0))]);
    assert_eq!(press(&mut state, "+++++++").last(), Some(&Command::Speed(None)));
    assert_eq!(press(&mut state, "-"), [Command::Speed(Some(64.0))]);
    assert_eq!(press(&mut state, "q"), [Command::Quit]);

    let mut live = dashboard(sample::one_row(), (80, 24));
    assert_eq!(press(&mut live, " .+-"), []);
}

#[test]
fn rates_come_from_totals_and_event_time() {
    let at = |s: u64, lookups: u64| Snapshot {
        now_ns: sample::START_NS + s * 1_000_000_000,
        elapsed_ns: s * 1_000_000_000,
        events: vec![("lookup", lookups), ("share", 0)],
        ..sample::one_row()
    };
    let size = (100, 30);
    let mut state = dashboard(at(0, 0), size);
    for s in 1..20 {
        state.show(Arc::new(at(s, s * 12_300)));
    }
    let shown = picture(&state, size, &Theme::FULL);
    let line = shown.lines().find(|l| l.trim_start().starts_with("lookup")).unwrap();
    assert!(line.contains("12.3k") && line.contains('█'), "{shown}");
    assert!(shown.contains("events/s 12.3k"), "{shown}");
}

#[test]
fn every_view_has_a_key_of_its_own() {
    for tab in Tab::ALL {
        assert!(keys::BINDINGS.iter().any(|b| b.action == Action::Show(tab)), "{tab:?}");
    }
}

#[test]
fn a_task_cannot_name_itself_into_the_terminal() {
    let mut snapshot = sample::one_row();
    snapshot.findings[0].summary = "\x1b[2J\x07evil\ntask".into();
    snapshot.findings[0].detail = vec!["\x1b]0;title\x07".into()];
    let mut state = dashboard(snapshot, (80, 24));
    for keys in ["", "2<Enter>"] {
        press(&mut state, keys);
        let shown = picture(&state, (80, 24), &Theme::FULL);
        assert!(shown.contains("evil") && !shown.contains(['\x1b', '\x07']), "{shown}");
    }
}

#[test]
fn an_open_detail_scrolls_by_pages_and_follows_the_rows() {
    let mut snapshot = sample::thousands();
    for (i, finding) in snapshot.findings.iter_mut().enumerate() {
        finding.detail = (0..100).map(|line| format!("evidence {line} of finding {i}")).collect();
    }
    let size = (80, 24);
    let mut state = dashboard(snapshot, size);
    press(&mut state, "1<Enter>");
    assert!(picture(&state, size, &Theme::PLAIN).contains("evidence 0 of finding 0\n"));
    press(&mut state, "<PgDn>");
    let shown = picture(&state, size, &Theme::PLAIN);
    assert!(!shown.contains("evidence 0 of") && shown.contains("evidence 10 of finding 0\n"), "{shown}");
    press(&mut state, "<End>");
    assert!(picture(&state, size, &Theme::PLAIN).contains("evidence 99 of finding 0\n"));
    press(&mut state, "j");
    assert!(picture(&state, size, &Theme::PLAIN).contains("evidence 0 of finding 1\n"));
    press(&mut state, "<Esc>");
    assert_eq!((state.detail(), state.selected_row()), (None, Some(1)));
}

#[test]
fn the_help_scrolls_to_its_end_and_no_further() {
    let size = (80, 24);
    let mut state = dashboard(sample::one_row(), size);
    press(&mut state, "?<End><PgDn>");
    let end = state.help();
    assert!(picture(&state, size, &Theme::PLAIN).contains("revalidated"));
    press(&mut state, "k");
    assert_eq!(state.help().map(|n| n + 1), end);
    press(&mut state, "?");
    assert_eq!(state.help(), None);
}
