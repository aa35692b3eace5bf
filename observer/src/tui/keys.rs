//! The one table of keys: what a key does, in which mode, and its words in the help and the footer.
//!
//! Decides which [`Action`] a key press means. What an action does is `state`'s business; the text being typed into a
//! filter never comes here.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::state::Tab;

/// What the person wants.
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
    PreviousTab,
    Show(Tab),
    Freeze,
    Filter,
    Redraw,
    Pause,
    Step,
    Faster,
    Slower,
}

/// When a binding is there at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    /// Only over a recording: nobody can pause a kernel.
    Replay,
}

/// One row of the table.
#[derive(Debug)]
pub struct Binding {
    pub keys: &'static [Key],
    pub action: Action,
    pub when: When,
    /// One line of the help.
    pub help: &'static str,
    /// Word in the footer; empty: not shown there.
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
            Key::Code(code) => plain && event.code == code,
        }
    }

    /// As people write it.
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

use Key::{Char, Code, Ctrl};

const fn row(
    keys: &'static [Key],
    action: Action,
    when: When,
    help: &'static str,
    hint: &'static str,
) -> Binding {
    Binding { keys, action, when, help, hint }
}

/// Every key. The footer shows the hints in this order, as far as the width allows.
#[rustfmt::skip]
pub static BINDINGS: &[Binding] = &[
    row(&[Char('?'), Char('h'), Code(KeyCode::F(1))], Action::Help, When::Always, "help; again: back", "help"),
    row(&[Char('q'), Ctrl('c')], Action::Quit, When::Always, "quit", "quit"),
    row(&[Char(' ')], Action::Pause, When::Replay, "pause and go on", "pause"),
    row(&[Char('.')], Action::Step, When::Replay, "one drain pass, then pause", "step"),
    row(&[Char('+'), Char('=')], Action::Faster, When::Replay, "twice the speed", "faster"),
    row(&[Char('-')], Action::Slower, When::Replay, "half the speed", "slower"),
    row(&[Code(KeyCode::Enter), Code(KeyCode::Right), Char('l')], Action::Open, When::Always, "detail of the row", "detail"),
    row(&[Code(KeyCode::Esc), Code(KeyCode::Left), Code(KeyCode::Backspace)], Action::Back, When::Always, "back: detail, help, then the filter", "back"),
    row(&[Char('f')], Action::Freeze, When::Always, "freeze the rows; the header goes on", "freeze"),
    row(&[Char('/')], Action::Filter, When::Always, "only rows with this text; empty: all", "filter"),
    row(&[Code(KeyCode::Tab)], Action::NextTab, When::Always, "next view", "view"),
    row(&[Code(KeyCode::BackTab)], Action::PreviousTab, When::Always, "previous view", ""),
    row(&[Char('1')], Action::Show(Tab::Overview), When::Always, "overview: rates, and every finding, worst first", ""),
    row(&[Char('2')], Action::Show(Tab::Windows), When::Always, "windows: seen and predicted", ""),
    row(&[Char('3')], Action::Show(Tab::Locks), When::Always, "lock-order edges", ""),
    row(&[Char('4')], Action::Show(Tab::Tables), When::Always, "files, page tables and their sharers", ""),
    row(&[Char('5')], Action::Show(Tab::Coverage), When::Always, "coverage and loss", ""),
    row(&[Char('6')], Action::Show(Tab::Protection), When::Always, "which locks keep lookups and removals apart", ""),
    row(&[Char('j'), Code(KeyCode::Down)], Action::Down, When::Always, "down", ""),
    row(&[Char('k'), Code(KeyCode::Up)], Action::Up, When::Always, "up", ""),
    row(&[Code(KeyCode::PageDown), Ctrl('d')], Action::PageDown, When::Always, "a page down", ""),
    row(&[Code(KeyCode::PageUp), Ctrl('u')], Action::PageUp, When::Always, "a page up", ""),
    row(&[Code(KeyCode::Home), Char('g')], Action::First, When::Always, "first row, and stay on the worst", ""),
    row(&[Code(KeyCode::End), Char('G')], Action::Last, When::Always, "last row", ""),
    row(&[Ctrl('l')], Action::Redraw, When::Always, "draw the screen anew", ""),
];

/// The bindings of a mode, in the table's order.
pub fn bindings(replay: bool) -> impl Iterator<Item = &'static Binding> {
    BINDINGS.iter().filter(move |b| replay || b.when == When::Always)
}

/// What a key press means; `None`: nothing.
#[must_use]
pub fn action(event: KeyEvent, replay: bool) -> Option<Action> {
    bindings(replay).find(|b| b.keys.iter().any(|k| k.matches(event))).map(|b| b.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_means_two_things() {
        let mut seen = std::collections::HashMap::new();
        for b in BINDINGS {
            assert!(!b.keys.is_empty() && !b.help.is_empty());
            for k in b.keys {
                let former = seen.insert(k.name(), b.action);
                assert_eq!(former, None, "{} is bound twice", k.name());
            }
        }
    }

    #[test]
    fn control_is_no_letter() {
        let press = |c, m| action(KeyEvent::new(KeyCode::Char(c), m), true);
        assert_eq!(press('l', KeyModifiers::NONE), Some(Action::Open));
        assert_eq!(press('l', KeyModifiers::CONTROL), Some(Action::Redraw));
        assert_eq!(press('q', KeyModifiers::CONTROL), None);
        assert_eq!(press('G', KeyModifiers::SHIFT), Some(Action::Last));
    }

    #[test]
    fn a_kernel_cannot_be_paused() {
        let press = |replay| action(KeyEvent::new(KeyCode::Char(' '), KeyModifiers::NONE), replay);
        assert_eq!(press(true), Some(Action::Pause));
        assert_eq!(press(false), None);
    }
}
