//! Draws a [`State`]. Pure: the same state makes the same picture, nothing is changed, and no size makes it panic.

mod header;
pub mod help;
mod panel;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::widgets::Paragraph;

use super::rows;
use super::state::{State, Tab};
use super::text::{Text, fit};
use super::theme::{Theme, Tone};
use super::{keys, state::Mode};
use crate::sink::words::{number, plural};

pub use panel::rows as panel_rows;

/// Draws everything.
pub fn draw(frame: &mut Frame, state: &State, theme: &Theme) {
    let layout = state.layout();
    if let Some(scroll) = state.help() {
        let area = frame.area();
        help::draw(frame, Rect { height: area.height - layout.footer.height, ..area }, state, scroll, theme);
    } else {
        header::draw(frame, layout.header, state, theme);
        tabs(frame, layout.tabs, state, theme);
        panel::draw(frame, layout.panel, state, theme);
        head(frame, layout.head, state, theme);
        list(frame, layout.list, state, theme);
        preview(frame, layout.preview, state, theme);
        detail(frame, layout.detail, state, theme);
    }
    footer(frame, layout.footer, state, theme);
}

fn put(frame: &mut Frame, area: Rect, lines: impl IntoIterator<Item = Text>, theme: &Theme) {
    let lines: Vec<_> = lines.into_iter().take(usize::from(area.height)).map(|t| t.line(theme)).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

/// The first of some wordings that fits the width, else the last.
fn choose(width: u16, wordings: impl IntoIterator<Item = Text>) -> Text {
    let mut last = Text::default();
    for wording in wordings {
        if wording.width() <= usize::from(width) {
            return wording;
        }
        last = wording;
    }
    last
}

fn tabs(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    let snapshot = state.snapshot();
    let wording = |name_chars: usize, counts: bool| {
        let mut text = Text::default();
        for (i, tab) in Tab::ALL.into_iter().enumerate() {
            let name: String = tab.name().chars().take(name_chars).collect();
            let rows = rows::count(snapshot, tab);
            let more = if rows::beyond(snapshot, tab) > 0 { "+" } else { "" };
            let rows = if counts { format!(" {}{more}", number(rows as u64)) } else { String::new() };
            let tone = if tab == state.tab() { Tone::Selected } else { Tone::Plain };
            let gap = if name.is_empty() { "" } else { " " };
            text = text.and(tone, format!(" {}{gap}{name}{rows} ", i + 1));
        }
        text
    };
    let names = [(9, true), (9, false), (3, false), (0, false)].map(|(chars, counts)| wording(chars, counts));
    let mut line = choose(area.width, names);
    let all = state.row_count();
    let place = format!("{}/{}", number((state.selected() + 1).min(all) as u64), number(all as u64));
    if let Some(gap) = usize::from(area.width).checked_sub(line.width() + place.len() + 1) {
        line = line.and(Tone::Plain, " ".repeat(gap + 1)).and(Tone::Faint, place);
    }
    put(frame, area, [line], theme);
}

fn head(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    let columns = rows::columns(state.tab(), area.width);
    let titles: Vec<String> =
        columns.iter().map(|(_, c)| fit(c.title, usize::from(c.width), c.right)).collect();
    put(frame, area, [Text::new(Tone::Bar, fit(&titles.join(" "), usize::from(area.width), false))], theme);
}

fn list(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    if state.row_count() == 0 {
        let lines = Text::new(Tone::Faint, empty(state)).wrap(usize::from(area.width), 0);
        return put(frame, area, lines, theme);
    }
    let columns = rows::columns(state.tab(), area.width);
    let lines = state.rows_on_screen().map(|(place, i)| {
        let selected = place == state.selected();
        let mut text = Text::default();
        let cells = rows::cells(state.snapshot(), state.tab(), i);
        for (n, column) in &columns {
            let Some((tone, cell)) = cells.get(*n) else { continue };
            let tone = if selected { Tone::Selected } else { *tone };
            text = text.and(tone, fit(cell, usize::from(column.width), column.right));
            text = text.and(if selected { Tone::Selected } else { Tone::Plain }, " ");
        }
        text
    });
    put(frame, area, lines, theme);
}

/// The selected row's last cell: in a narrow list it is the one that is cut, and it says what happened.
fn preview(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    let cells = state.selected_row().map(|i| rows::cells(state.snapshot(), state.tab(), i));
    let Some((_, cell)) = cells.and_then(|mut c| c.pop()).filter(|(_, cell)| !cell.is_empty()) else {
        return;
    };
    put(
        frame,
        area,
        Text::new(Tone::Label, "> ").and(Tone::Plain, cell).wrap(usize::from(area.width), 2),
        theme,
    );
}

/// Why a list is empty. Never "clean".
fn empty(state: &State) -> String {
    let s = state.snapshot();
    let all = rows::count(s, state.tab());
    if all > 0 {
        return format!("none of {} rows has \"{}\" (Esc: show all)", number(all as u64), state.filter().0);
    }
    if s.drains == 0 && state.tab() != Tab::Coverage {
        return "nothing drained yet".into();
    }
    let coverage = header::coverage_words(s);
    match state.tab() {
        Tab::Overview => format!("no finding within this coverage: {coverage}"),
        Tab::Windows => format!("no window seen or predicted within this coverage: {coverage}"),
        Tab::Locks => {
            format!("no lock was asked for while another was held, within this coverage: {coverage}")
        }
        Tab::Tables => {
            format!(
                "no page table of a shared hugetlbfs mapping was touched, within this coverage: {coverage}"
            )
        }
        Tab::Protection => {
            format!("no lookup and no removal that could be judged, within this coverage: {coverage}")
        }
        Tab::Coverage => "the run tells no coverage: nothing here can be relied on".into(),
    }
}

fn detail(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    let (Some(scroll), Some(i)) = (state.detail(), state.selected_row()) else { return };
    let width = usize::from(area.width);
    let lines = rows::detail(state.snapshot(), state.tab(), i, area.width);
    let shown = usize::from(area.height.saturating_sub(1));
    let scroll = usize::from(scroll);
    let below = lines.len().saturating_sub(scroll + shown);
    let more =
        if below > 0 { format!(", {} below: PgDn", plural(below as u64, "line")) } else { String::new() };
    let title = format!(" row {} of {}{more}", state.selected() + 1, number(state.row_count() as u64));
    let title = Text::new(Tone::Bar, fit(&title, width, false));
    put(frame, area, std::iter::once(title).chain(lines.into_iter().skip(scroll)), theme);
}

fn footer(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    let (filter, typing) = state.filter();
    if typing {
        let found = format!("  {}; Enter: keep, Esc: as before", plural(state.row_count() as u64, "row"));
        let line =
            Text::new(Tone::Label, format!("/{filter}")).and(Tone::Selected, " ").and(Tone::Faint, found);
        return put(frame, area, [line], theme);
    }
    let mut line = Text::default();
    if state.frozen() && state.layout().header.height < 2 {
        line = line.and(Tone::Selected, "FROZEN").and(Tone::Plain, " ");
    }
    if !filter.is_empty() {
        line = line.and(Tone::Caution, format!("/{filter} ")).and(Tone::Plain, " ");
    }
    for b in keys::bindings(state.mode() == Mode::Replay).filter(|b| !b.hint.is_empty()) {
        let Some(key) = b.keys.first() else { continue };
        let hint = Text::new(Tone::Label, key.name()).and(Tone::Plain, format!(" {}  ", b.hint));
        if line.width() + hint.width() > usize::from(area.width) + 2 {
            break;
        }
        line.0.extend(hint.0);
    }
    put(frame, area, [line], theme);
}
