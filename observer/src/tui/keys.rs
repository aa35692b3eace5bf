//! The one table of keys: what a key does, in which mode, and its words in the help and the footer.
//!
//! Decides which [`Action`] a key press means; keys are those of less, htop and tig where these have one. `state` decides
//! what an action does. Text typed into a prompt does not pass through here.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::Mode;
use super::tab::Tab;
use super::views::VIEWS;

/// An action that the person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Quit,
    Help,
    Back,
    Open,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    NextTab,
    FormerTab,
    Show(Tab),
    Freeze,
    Search,
    NextMatch,
    FormerMatch,
    Filter,
    SortNext,
    SortFormer,
    Reverse,
    Matrix,
    Table,
    Events,
    Stacks,
    Copy,
    Save,
    Export,
    Mouse,
    Redraw,
    Pause,
    StepOn,
    StepBack,
    NextFinding,
    FormerFinding,
    SeekOn,
    SeekBack,
    GoTo,
    Faster,
    Slower,
    FlatOut,
}

/// Modes in which a binding exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    /// Only while watching a running kernel.
    Live,
    /// Only on a recording: nobody can pause a kernel.
    Replay,
}

impl When {
    fn is(self, mode: Mode) -> bool {
        match self {
            When::Always => true,
            When::Live => mode == Mode::Live,
            When::Replay => mode == Mode::Replay,
        }
    }
}

/// Keys that belong together in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Views,
    Move,
    Deeper,
    Find,
    Keep,
    Replay,
    Program,
}

impl Group {
    pub const ALL: [Group; 7] =
        [Group::Views, Group::Move, Group::Deeper, Group::Find, Group::Replay, Group::Keep, Group::Program];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Group::Views => "views",
            Group::Move => "move",
            Group::Deeper => "look closer",
            Group::Find => "find",
            Group::Keep => "take away",
            Group::Replay => "replay",
            Group::Program => "program",
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    pub keys: &'static [Key],
    pub action: Action,
    pub when: When,
    pub group: Group,
    /// One line of the help.
    pub help: &'static str,
    /// Shortest word for the footer; empty if the footer does not show it.
    pub hint: &'static str,
}

/// A key as the table spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Char(char),
    Ctrl(char),
    Code(KeyCode),
}

impl Key {
    fn matches(self, event: KeyEvent) -> bool {
        let plain = !event.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
        match self {
            Key::Char(c) => plain && event.code == KeyCode::Char(c),
            Key::Ctrl(c) => event.modifiers == KeyModifiers::CONTROL && event.code == KeyCode::Char(c),
            // Esc pressed twice quickly arrives as Alt+Esc.
            Key::Code(KeyCode::Esc) => event.code == KeyCode::Esc,
            Key::Code(code) => plain && event.code == code,
        }
    }

    /// Key name as people write it.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Key::Char(' ') => "Space".into(),
            Key::Char(c) => c.into(),
            Key::Ctrl(c) => format!("^{}", c.to_ascii_uppercase()),
            Key::Code(KeyCode::PageUp) => "PgUp".into(),
            Key::Code(KeyCode::PageDown) => "PgDn".into(),
            Key::Code(KeyCode::BackTab) => "S-Tab".into(),
            Key::Code(KeyCode::F(n)) => format!("F{n}"),
            Key::Code(code) => format!("{code:?}"),
        }
    }
}

use Group::{Deeper, Find, Keep, Move, Program, Views};
use Key::{Char, Code, Ctrl};
use When::{Always, Live};

const fn row(
    keys: &'static [Key],
    action: Action,
    when: When,
    group: Group,
    help: &'static str,
    hint: &'static str,
) -> Binding {
    Binding { keys, action, when, group, help, hint }
}

/// A binding for recordings only.
const fn play(keys: &'static [Key], action: Action, help: &'static str, hint: &'static str) -> Binding {
    row(keys, action, When::Replay, Group::Replay, help, hint)
}

/// Every key that is not the number of a view, in the order of the help.
#[rustfmt::skip]
const KEYS: &[Binding] = &[
    row(&[Char('?'), Code(KeyCode::F(1))], Action::Help, Always, Program, "this help; again or Esc: back", "help"),
    row(&[Char('q'), Ctrl('c')], Action::Quit, Always, Program, "quit", "quit"),
    row(&[Code(KeyCode::Enter), Code(KeyCode::Right), Char('l')], Action::Open, Always, Deeper, "open the row, follow the link", "open"),
    row(&[Code(KeyCode::Esc), Code(KeyCode::Left), Code(KeyCode::Backspace), Char('h')], Action::Back, Always, Deeper, "back; in a list: show all rows again", "back"),
    play(&[Char(' ')], Action::Pause, "play and pause; at the end: from the begin", "play"),
    play(&[Char(']')], Action::NextFinding, "to the next mark: where a finding is first reported", "next"),
    play(&[Char('[')], Action::FormerFinding, "to the mark before", ""),
    play(&[Char('.')], Action::StepOn, "one event on", "step"),
    play(&[Char(',')], Action::StepBack, "one event back", ""),
    play(&[Char('}')], Action::SeekOn, "on by a twentieth of the recording", ""),
    play(&[Char('{')], Action::SeekBack, "back by a twentieth of the recording", ""),
    play(&[Char('@')], Action::GoTo, "go to a time (+1.25), a place (50%), an event (#1200), or end", "go"),
    play(&[Char('+'), Char('=')], Action::Faster, "twice the speed", "faster"),
    play(&[Char('-')], Action::Slower, "half the speed", ""),
    play(&[Char('*')], Action::FlatOut, "as fast as it goes; again: as it happened", ""),
    row(&[Char('/')], Action::Search, Always, Find, "search: to the next row or line with a text", "find"),
    row(&[Char('&')], Action::Filter, Always, Find, "only rows with a text; events: by words, see below", "filter"),
    row(&[Char('n')], Action::NextMatch, Always, Find, "next match", ""),
    row(&[Char('N')], Action::FormerMatch, Always, Find, "match before", ""),
    row(&[Char('>')], Action::SortNext, Always, Find, "sort by the next column", "sort"),
    row(&[Char('<')], Action::SortFormer, Always, Find, "sort by the column before", ""),
    row(&[Char('R')], Action::Reverse, Always, Find, "reverse the order", ""),
    row(&[Char('f')], Action::Freeze, Always, Move, "freeze what is shown; the header goes on", "freeze"),
    row(&[Char(' ')], Action::Freeze, Live, Move, "the same", ""),
    row(&[Char('t')], Action::Table, Always, Deeper, "its page table", "table"),
    row(&[Char('e')], Action::Events, Always, Deeper, "its events, out of the recording", "events"),
    row(&[Char('s')], Action::Stacks, Always, Deeper, "its stacks", "stacks"),
    row(&[Char('m')], Action::Matrix, Always, Deeper, "lock order as a matrix, and as a list", "matrix"),
    row(&[Code(KeyCode::Tab)], Action::NextTab, Always, Views, "next view", "view"),
    row(&[Code(KeyCode::BackTab)], Action::FormerTab, Always, Views, "view before", ""),
    row(&[Char('j'), Code(KeyCode::Down)], Action::Down, Always, Move, "down", ""),
    row(&[Char('k'), Code(KeyCode::Up)], Action::Up, Always, Move, "up", ""),
    row(&[Code(KeyCode::PageDown), Ctrl('d'), Ctrl('f')], Action::PageDown, Always, Move, "a page down", ""),
    row(&[Code(KeyCode::PageUp), Ctrl('u'), Ctrl('b')], Action::PageUp, Always, Move, "a page up", ""),
    row(&[Code(KeyCode::Home), Char('g')], Action::First, Always, Move, "first row, and stay on the first", ""),
    row(&[Code(KeyCode::End), Char('G')], Action::Last, Always, Move, "last row; of events: stay on the newest", ""),
    row(&[Char('y')], Action::Copy, Always, Keep, "copy the row, finding or page as text (OSC 52)", "copy"),
    row(&[Char('w')], Action::Save, Always, Keep, "save the recording", "save"),
    row(&[Char('x')], Action::Export, Always, Keep, "export: report, JSON, lock graph, this page", "export"),
    row(&[Char('M')], Action::Mouse, Always, Program, "mouse on and off (off: the terminal selects text)", ""),
    row(&[Ctrl('l')], Action::Redraw, Always, Program, "redraw the screen", ""),
];

/// Keys of the views, by place.
static NUMBERS: [[Key; 1]; 9] = [
    [Char('1')],
    [Char('2')],
    [Char('3')],
    [Char('4')],
    [Char('5')],
    [Char('6')],
    [Char('7')],
    [Char('8')],
    [Char('9')],
];

/// Every key, in the order of the help.
pub static BINDINGS: [Binding; KEYS.len() + VIEWS.len()] = {
    let mut all = [KEYS[0]; KEYS.len() + VIEWS.len()];
    let mut i = 0;
    while i < all.len() {
        all[i] = if i < KEYS.len() { KEYS[i] } else { show(i - KEYS.len()) };
        i += 1;
    }
    all
};

/// The key of a view.
const fn show(place: usize) -> Binding {
    row(&NUMBERS[place], Action::Show(Tab::ALL[place]), Always, Views, VIEWS[place].help, "")
}

/// Bindings of a mode, in the table's order.
pub fn bindings(mode: Mode) -> impl Iterator<Item = &'static Binding> {
    BINDINGS.iter().filter(move |b| b.when.is(mode))
}

/// Action of a key press; `None` if the key has none.
#[must_use]
pub fn action(event: KeyEvent, mode: Mode) -> Option<Action> {
    bindings(mode).find(|b| b.keys.iter().any(|k| k.matches(event))).map(|b| b.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_one_meaning() {
        for mode in [Mode::Live, Mode::Replay] {
            let mut seen = std::collections::HashMap::new();
            for b in bindings(mode) {
                assert!(!b.keys.is_empty() && !b.help.is_empty());
                for k in b.keys {
                    let former = seen.insert(k.name(), b.action);
                    assert_eq!(former, None, "{} is bound twice", k.name());
                }
            }
        }
    }

    #[test]
    fn a_control_key_is_not_a_letter() {
        let press = |c, m| action(KeyEvent::new(KeyCode::Char(c), m), Mode::Replay);
        assert_eq!(press('l', KeyModifiers::NONE), Some(Action::Open));
        assert_eq!(press('l', KeyModifiers::CONTROL), Some(Action::Redraw));
        assert_eq!(press('q', KeyModifiers::CONTROL), None);
        assert_eq!(press('G', KeyModifiers::SHIFT), Some(Action::Last));
        let escape = KeyEvent::new(KeyCode::Esc, KeyModifiers::ALT);
        assert_eq!(action(escape, Mode::Replay), Some(Action::Back));
    }

    #[test]
    fn a_live_run_cannot_be_paused() {
        let press = |mode| action(KeyEvent::new(KeyCode::Char(' '), KeyModifiers::NONE), mode);
        assert_eq!(press(Mode::Replay), Some(Action::Pause));
        assert_eq!(press(Mode::Live), Some(Action::Freeze));
    }
}
