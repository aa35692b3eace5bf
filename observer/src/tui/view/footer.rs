//! The last line: what is being typed, what there is to say, else the keys.

use ratatui::Frame;
use ratatui::layout::Rect;

use super::put;
use crate::sink::words::plural;
use crate::tui::keys;
use crate::tui::prompt::{Prompt, What};
use crate::tui::state::{Body, State};
use crate::tui::text::{Text, fit};
use crate::tui::theme::{Theme, Tone};

pub fn draw(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    let line = match (state.prompt(), state.message()) {
        (Some(prompt), _) => typed(prompt, state, area.width),
        (None, Some(message)) => {
            let tone = if message.bad { Tone::Caution } else { Tone::Label };
            Text::new(tone, fit(&message.text, usize::from(area.width), false))
        }
        (None, None) => hints(state, area.width),
    };
    put(frame, area, [line], theme);
}

fn typed(prompt: &Prompt, state: &State, width: u16) -> Text {
    let label = prompt.label();
    let rows = match prompt.what {
        What::Filter | What::Search if state.body() == Body::List => {
            format!("  {}", plural(state.shown_list().visible.len() as u64, "row"))
        }
        _ => String::new(),
    };
    // What does not match is told while it is typed.
    let told = state.message().map_or(rows, |m| format!("  {}", m.text));
    let after = prompt.error.as_ref().map_or(told, |why| format!("  {why}"));
    let tone = if prompt.error.is_some() { Tone::Caution } else { Tone::Faint };
    // The end of what is typed is what is looked at.
    let room = usize::from(width).saturating_sub(label.len() + 1);
    let skipped = prompt.text.chars().count().saturating_sub(room);
    let text: String = prompt.text.chars().skip(skipped).collect();
    Text::new(Tone::Label, label).and(Tone::Plain, text).and(Tone::Selected, " ").and(tone, after)
}

/// As many of the keys as have room.
fn hints(state: &State, width: u16) -> Text {
    let mut line = Text::default();
    if state.frozen() && state.layout().header.height < 2 {
        line = line.and(Tone::Selected, "FROZEN").and(Tone::Plain, " ");
    }
    let filter = &state.shown_list().filter;
    if !filter.is_empty() && state.body() == Body::List {
        line = line.and(Tone::Caution, format!("&{filter} ")).and(Tone::Plain, " ");
    }
    for b in keys::bindings(state.mode()).filter(|b| !b.hint.is_empty()) {
        let Some(key) = b.keys.first() else { continue };
        let hint = Text::new(Tone::Label, key.name()).and(Tone::Plain, format!(" {}  ", b.hint));
        if line.width() + hint.width() > usize::from(width) + 2 {
            break;
        }
        line.0.extend(hint.0);
    }
    line
}
