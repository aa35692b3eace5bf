//! The last line: the text being typed, a message, else the keys.

use ratatui::Frame;

use super::put;
use crate::text::plural;
use crate::tui::keys::{self, Action};
use crate::tui::layout::Area;
use crate::tui::page::Shortcut;
use crate::tui::prompt::{Prompt, Purpose};
use crate::tui::state::{Body, State};
use crate::tui::tab::Tab;
use crate::tui::text::{Text, Tone, fit};
use crate::tui::theme::Theme;

pub fn draw(frame: &mut Frame, area: Area, state: &State, theme: &Theme) {
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
    let rows = match prompt.purpose {
        Purpose::Filter | Purpose::Search if state.body() == Body::List => {
            format!("  {}", plural(state.shown_list().visible.len() as u64, "row"))
        }
        _ => String::new(),
    };
    // A search without a match is reported while it is typed.
    let message = state.message().map_or(rows, |m| format!("  {}", m.text));
    let after = prompt.error.as_ref().map_or(message, |why| format!("  {why}"));
    let tone = if prompt.error.is_some() { Tone::Caution } else { Tone::Faint };
    // The person looks at the end of the typed text.
    let room = usize::from(width).saturating_sub(label.len() + 1);
    let skipped = prompt.text.chars().count().saturating_sub(room);
    let text: String = prompt.text.chars().skip(skipped).collect();
    Text::new(Tone::Label, label).and(Tone::Plain, text).and(Tone::Selected, " ").and(tone, after)
}

/// Hints for the keys that have room. They are packed closely if the first ones need it.
fn hints(state: &State, width: u16) -> Text {
    let mut line = Text::default();
    if state.frozen() && state.layout().header.height < 2 {
        line = line.and(Tone::Selected, "FROZEN").and(Tone::Plain, " ");
    }
    let filter = &state.shown_list().filter;
    if !filter.is_empty() && state.body() == Body::List {
        line = line.and(Tone::Caution, format!("&{filter} ")).and(Tone::Plain, " ");
    }
    let hint = |action: Action, words: bool| {
        let binding = keys::bindings(state.mode()).find(|b| b.action == action && !b.hint.is_empty())?;
        let key = binding.keys.first().filter(|_| leads_on(state, action))?;
        let word =
            if words || !CLOSER.contains(&action) { format!(" {}", binding.hint) } else { String::new() };
        Some(Text::new(Tone::Label, key.name()).and(Tone::Plain, word))
    };
    let room = usize::from(width).saturating_sub(line.width());
    let first = |gap: usize, words| -> usize {
        ORDER[..FIRST].iter().filter_map(|a| hint(*a, words)).map(|hint| hint.width() + gap).sum()
    };
    let (gap, words) = match () {
        () if first(2, true) <= room + 2 => ("  ", true),
        () if first(1, true) <= room + 1 => (" ", true),
        () => (" ", false),
    };
    for (i, hint) in ORDER.into_iter().filter_map(|action| hint(action, words)).enumerate() {
        let before = if i == 0 { "" } else { gap };
        if line.width() + before.len() + hint.width() > usize::from(width) {
            break;
        }
        line = line.and(Tone::Plain, before);
        line.0.extend(hint.0);
    }
    line
}

/// Keys in descending order of importance.
const ORDER: [Action; 21] = [
    Action::Help,
    Action::Open,
    Action::Back,
    Action::NextTab,
    Action::Search,
    Action::Pause,
    Action::NextFinding,
    Action::StepOn,
    Action::GoTo,
    Action::Events,
    Action::Table,
    Action::Stacks,
    Action::Filter,
    Action::Freeze,
    Action::Quit,
    Action::Export,
    Action::Copy,
    Action::Save,
    Action::Matrix,
    Action::SortNext,
    Action::Faster,
];
/// Actions also shown at the links that they open: these need no words here.
const CLOSER: [Action; 3] = [Action::Events, Action::Table, Action::Stacks];
/// Number of first keys that any usual screen must show.
const FIRST: usize = 12;

/// Returns false for keys that do nothing here: these are not shown.
fn leads_on(state: &State, action: Action) -> bool {
    match action {
        Action::Table => state.leads(Shortcut::Table),
        Action::Events => state.leads(Shortcut::Events),
        Action::Stacks => state.leads(Shortcut::Stacks),
        Action::Matrix => state.tab() == Tab::Locks,
        Action::Back => state.body() != Body::List || !state.shown_list().filter.is_empty(),
        Action::SortNext | Action::Filter => state.body() == Body::List,
        _ => true,
    }
}
