//! The line at the bottom while the person types: search, filter, a position to seek, a file name.
//!
//! Decides how keys edit the text. `state` uses the text.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::text::is_shown;
use crate::library::Export;

/// Purpose of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Purpose {
    Search,
    Filter,
    GoTo,
    /// File name for an export.
    File(Take),
    /// Question whether to overwrite an existing file.
    Overwrite(Take, String),
    /// Choice of an export.
    Export,
}

/// Content of an exported file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    Of(Export),
    /// The shown page or row, as text.
    Shown,
}

/// Exports, each with its key, name and file name extension.
pub const EXPORTS: &[(char, Take, &str, &str)] = &[
    ('r', Take::Of(Export::Recording), "recording", "obs"),
    ('t', Take::Of(Export::Text), "text report", "txt"),
    ('j', Take::Of(Export::Json), "JSON report", "json"),
    ('l', Take::Of(Export::Jsonl), "JSON lines", "jsonl"),
    ('d', Take::Of(Export::Dot), "dot graph", "dot"),
    ('p', Take::Shown, "this page", "txt"),
];

impl Take {
    #[must_use]
    pub fn name(self) -> &'static str {
        EXPORTS.iter().find(|(_, take, _, _)| *take == self).map_or("", |(_, _, name, _)| name)
    }

    /// File name used if the person types none.
    #[must_use]
    pub fn file(self) -> String {
        let ending = EXPORTS.iter().find(|(_, take, _, _)| *take == self).map_or("txt", |(_, _, _, e)| e);
        let stem = if self == Take::Shown { "page" } else { "observer" };
        format!("{stem}.{ending}")
    }
}

/// A prompt that is open.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    pub purpose: Purpose,
    pub text: String,
    /// Text that the prompt began with.
    pub former: String,
    /// Reason why the text was rejected.
    pub error: Option<String>,
}

/// Result of a key press.
#[derive(Clone, Debug, PartialEq)]
pub enum Typed {
    /// The prompt stays open; the text may have changed.
    On,
    Done,
    Given,
    /// The key is not a key of prompts.
    Other,
}

impl Prompt {
    #[must_use]
    pub fn new(purpose: Purpose, text: impl Into<String>) -> Prompt {
        let text = text.into();
        Prompt { purpose, former: text.clone(), text, error: None }
    }

    /// Handles a key press.
    pub fn key(&mut self, key: KeyEvent) -> Typed {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => return Typed::Done,
            KeyCode::Esc => return Typed::Given,
            KeyCode::Char('c' | 'g') if control => return Typed::Given,
            // Ctrl+U and Ctrl+W, as in a shell.
            KeyCode::Char('u') if control => self.text.clear(),
            KeyCode::Char('w') if control => {
                let kept = self.text.trim_end().rfind(' ').map_or(0, |at| at + 1);
                self.text.truncate(kept);
            }
            KeyCode::Char(_) if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => {
                return Typed::Other;
            }
            KeyCode::Backspace => drop(self.text.pop()),
            KeyCode::Char(c) if is_shown(c) => self.text.push(c),
            _ => return Typed::Other,
        }
        self.error = None;
        Typed::On
    }

    /// Label in front of the text.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.purpose {
            Purpose::Search => "/".into(),
            Purpose::Filter => "&".into(),
            Purpose::GoTo => "go to (+1.25, 50%, #1200, end): ".into(),
            Purpose::File(take) => format!("write {} to (Enter: {}): ", take.name(), take.file()),
            Purpose::Overwrite(_, path) => format!("{path} exists: overwrite? (y/n) "),
            Purpose::Export => {
                let choices: Vec<String> =
                    EXPORTS.iter().map(|(key, _, name, _)| format!("{key} {name}")).collect();
                format!("export: {} ", choices.join("  "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_edit_text_as_in_a_shell() {
        let mut p = Prompt::new(Purpose::Search, "one two");
        let control = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
        assert_eq!((p.key(control('w')), p.text.as_str()), (Typed::On, "one "));
        assert_eq!(p.key(KeyEvent::from(KeyCode::Char('x'))), Typed::On);
        assert_eq!((p.key(KeyEvent::from(KeyCode::Backspace)), p.text.as_str()), (Typed::On, "one "));
        assert_eq!((p.key(control('u')), p.text.as_str()), (Typed::On, ""));
        assert_eq!(p.key(KeyEvent::from(KeyCode::Enter)), Typed::Done);
        assert_eq!(p.key(KeyEvent::from(KeyCode::Esc)), Typed::Given);
        assert_eq!(p.key(KeyEvent::from(KeyCode::PageUp)), Typed::Other);
    }
}
