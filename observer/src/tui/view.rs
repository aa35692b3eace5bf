//! Draws a [`State`]. Pure: the same state makes the same picture, nothing is changed, and no size makes it panic.
//!
//! Decides nothing about views: the table of `views` has their columns and words. Returns the places that the mouse can point at.

mod footer;
mod header;

use std::ops::Range;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::widgets::Paragraph;

use super::cells::{Column, fitted};
use super::layout::{Area, Targets};
use super::page::Line;
use super::state::{Body, State};
use super::tab::Tab;
use super::text::{Text, Tone, fit};
use super::theme::Theme;
use super::views::{Empty, FilteredBy};
use super::widget::timebar::{self, Scale};
use super::{blind, help, panel};
use crate::text::{number, plural};

/// Draws the whole screen.
pub fn draw(frame: &mut Frame, state: &State, theme: &Theme) -> Targets {
    let layout = state.layout();
    if let Some(scroll) = state.help() {
        let all = Area::new(frame.area().width, frame.area().height);
        help(frame, Area { height: all.height - layout.footer.height, ..all }, state, scroll, theme);
        footer::draw(frame, layout.footer, state, theme);
        return Targets::default();
    }
    header::draw(frame, layout.header, state, theme);
    let (line, tabs) = tab_line(state, layout.tabs.width);
    put(frame, layout.tabs, [line], theme);
    if state.body() == Body::List {
        if layout.panel.height > 0 {
            let width = usize::from(layout.panel.width);
            let lines = panel::lines(state.latest(), state.mode(), state.history(), width, state.glyphs());
            put(frame, layout.panel, lines, theme);
        }
        head(frame, layout.head, state, theme);
        list(frame, layout.list, state, theme);
        preview(frame, layout.preview, layout.previews_page(), state, theme);
    } else {
        title(frame, layout.head, state, theme);
        page(frame, layout.page, state, theme);
    }
    put(frame, layout.event, last_event(state, layout.event.width), theme);
    let bar = bar(frame, layout.bar, state, theme);
    footer::draw(frame, layout.footer, state, theme);
    Targets { tabs, bar }
}

fn put(frame: &mut Frame, area: Area, lines: impl IntoIterator<Item = Text>, theme: &Theme) {
    let lines: Vec<_> = lines.into_iter().take(usize::from(area.height)).map(|t| theme.line(&t)).collect();
    frame.render_widget(Paragraph::new(lines), Rect::new(area.x, area.y, area.width, area.height));
}

/// Draws the help over everything except the footer.
fn help(frame: &mut Frame, area: Area, state: &State, scroll: usize, theme: &Theme) {
    let title = Area { height: area.height.min(1), ..area };
    let body = Area { y: area.y + title.height, height: area.height - title.height, ..area };
    let lines = help::lines(state.mode(), area.width, state.glyphs());
    let below = lines.len().saturating_sub(scroll + usize::from(body.height));
    let more =
        if below > 0 { format!(", {} below: PgDn", plural(below as u64, "line")) } else { String::new() };
    let words = format!(" keys and words; / finds; ? or Esc: back{more}");
    put(frame, title, [Text::new(Tone::Bar, fit(&words, usize::from(area.width), false))], theme);
    put(frame, body, lines.into_iter().skip(scroll), theme);
}

/// First of several wordings that fits the width, else the last.
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

/// Columns of each view's name.
type Tabs = Vec<(Tab, Range<u16>)>;

/// Views with their numbers; where there is room, with their badges.
fn tab_line(state: &State, width: u16) -> (Text, Tabs) {
    let snapshot = state.snapshot();
    let wording = |name_chars: usize, counts: bool| {
        let (mut line, mut tabs) = (Text::default(), Vec::new());
        for (i, tab) in Tab::ALL.into_iter().enumerate() {
            let name: String = tab.view().name.chars().take(name_chars).collect();
            let badge = if counts { tab.view().badge(snapshot) } else { String::new() };
            let before_badge = if badge.is_empty() { "" } else { " " };
            let tone = if tab == state.tab() { Tone::Selected } else { Tone::Plain };
            let gap = if name.is_empty() { "" } else { " " };
            let from = line.width() as u16;
            line = line.and(tone, format!(" {}{gap}{name}{before_badge}{badge} ", i + 1));
            tabs.push((tab, from..line.width() as u16));
        }
        (line, tabs)
    };
    let mut lines: Vec<(Text, Tabs)> =
        [(9, true), (9, false), (3, false), (0, false)].map(|(chars, counts)| wording(chars, counts)).into();
    let fits = lines.iter().position(|(l, _)| l.width() <= usize::from(width)).unwrap_or(lines.len() - 1);
    let (mut line, tabs) = lines.swap_remove(fits);
    if state.body() == Body::List {
        let list = state.shown_list();
        let all = list.visible.len();
        let place = format!("{}/{}", number((list.selected + 1).min(all) as u64), number(all as u64));
        if let Some(gap) = usize::from(width).checked_sub(line.width() + place.len() + 1) {
            line = line.and(Tone::Plain, " ".repeat(gap + 1)).and(Tone::Faint, place);
        }
    }
    (line, tabs)
}

fn head(frame: &mut Frame, area: Area, state: &State, theme: &Theme) {
    let sort = state.shown_list().sort;
    let title = |(n, c): &(usize, Column)| {
        let mark = match (sort.column == Some(*n), sort.reversed) {
            (false, _) => "",
            (true, false) => "^",
            (true, true) => "v",
        };
        fit(&format!("{}{mark}", c.title), usize::from(c.width), c.right)
    };
    let columns = fitted(state.tab().view().columns, area.width);
    let titles: Vec<String> = columns.iter().map(title).collect();
    put(frame, area, [Text::new(Tone::Bar, fit(&titles.join(" "), usize::from(area.width), false))], theme);
}

fn list(frame: &mut Frame, area: Area, state: &State, theme: &Theme) {
    if state.shown_list().visible.is_empty() {
        let lines = Text::new(Tone::Plain, empty(state)).wrap(usize::from(area.width), 0);
        return put(frame, area, lines, theme);
    }
    let columns = fitted(state.tab().view().columns, area.width);
    let lines = state.rows_on_screen().map(|(place, row)| {
        let selected = place == state.shown_list().selected;
        let mut text = Text::default();
        let cells = (state.tab().view().cells)(state.snapshot(), row);
        for (n, column) in &columns {
            let Some(cell) = cells.get(*n) else { continue };
            let tone = if selected { Tone::Selected } else { cell.tone };
            text = text.and(tone, fit(&cell.text, usize::from(column.width), column.right));
            text = text.and(if selected { Tone::Selected } else { Tone::Plain }, " ");
        }
        text
    });
    put(frame, area, lines, theme);
}

/// Draws the page that the selected row opens, or the full text of its cut cell.
fn preview(frame: &mut Frame, area: Area, page: bool, state: &State, theme: &Theme) {
    if page {
        let title =
            Text::new(Tone::Bar, fit(" the selected row; Enter: open it", usize::from(area.width), false));
        let lines = state.preview(area.width).into_iter().map(|l| margin(l, false, state));
        return put(frame, area, std::iter::once(title).chain(lines), theme);
    }
    let row = state.shown_list().row();
    let words = row.map(|row| state.tab().view().in_full(state.snapshot(), row));
    let Some(words) = words.filter(|words| !words.is_empty()) else { return };
    let text = Text::new(Tone::Label, "> ").and(Tone::Plain, words);
    put(frame, area, text.wrap(usize::from(area.width), 2), theme);
}

/// Says why a list is empty. Never "clean".
fn empty(state: &State) -> String {
    let (s, view) = (state.snapshot(), state.tab().view());
    let all = state.all_rows();
    let filter = &state.shown_list().filter;
    if all > 0 {
        return format!("no row of {} has \"{filter}\" (Esc: show all)", number(all as u64));
    }
    match view.empty {
        Empty::Always(words) => words.to_owned(),
        Empty::Within(_) if s.passes == 0 => "nothing has come yet".to_owned(),
        Empty::Within(_) if view.filter == FilteredBy::Run && !filter.is_empty() => {
            format!("no event has come that passes {filter} (Esc: show all)")
        }
        Empty::Within(words) => format!("{words} within this coverage: {}", blind::coverage(s)),
    }
}

/// Draws the titles of the pages that led here, and how much of this page is below.
fn title(frame: &mut Frame, area: Area, state: &State, theme: &Theme) {
    let width = usize::from(area.width);
    let (lines, below) = match state.body() {
        Body::Matrix => (vec!["lock order: rows are held, columns requested; m: list".to_owned()], 0),
        _ => {
            let shown = usize::from(state.layout().page.height);
            let scroll = state.top().map_or(0, |open| open.scroll);
            (state.trail().collect(), state.lines().len().saturating_sub(scroll + shown))
        }
    };
    let more = if below > 0 { format!(" {} below ", plural(below as u64, "line")) } else { String::new() };
    let room = width.saturating_sub(more.len());
    let name = state.tab().view().name;
    let mut trail = format!(" {name} > {}", lines.join(" > "));
    // The open page matters more than the pages that led to it.
    if trail.chars().count() > room
        && let Some(last) = lines.last()
    {
        trail = format!(" ... > {last}");
    }
    put(frame, area, [Text::new(Tone::Bar, fit(&trail, room, false) + &more)], theme);
}

fn page(frame: &mut Frame, area: Area, state: &State, theme: &Theme) {
    if state.body() == Body::Matrix {
        return put(frame, area, state.matrix_lines(area.width), theme);
    }
    let scroll = state.top().map_or(0, |open| open.scroll);
    let lines = state.lines().iter().enumerate().skip(scroll).take(usize::from(area.height));
    let lines = lines.map(|(i, line)| margin(line.clone(), state.chosen() == Some(i), state));
    put(frame, area, lines, theme);
}

/// A line of a page with its margin: links are marked, the chosen one is in reverse.
fn margin(line: Line, chosen: bool, state: &State) -> Text {
    let mark = match (line.link.is_some(), chosen) {
        (true, true) => "> ",
        (true, false) => "- ",
        (false, _) => "  ",
    };
    let mut text = Text::new(Tone::Faint, mark);
    text.0.extend(found(line.text, state.searched()).0);
    if chosen {
        let plain: String = text.0.into_iter().map(|(_, t)| t).collect();
        text = Text::new(Tone::Selected, plain);
    }
    text
}

/// Marks the matches of the search.
fn found(text: Text, searched: &str) -> Text {
    // The lower case of a letter outside ASCII may be longer, so byte offsets would differ.
    if searched.is_empty() || !searched.is_ascii() {
        return text;
    }
    let mut marked = Text::default();
    for (tone, piece) in text.0 {
        let lower = piece.to_ascii_lowercase();
        let mut from = 0;
        while let Some(at) = lower[from..].find(searched) {
            let (begin, end) = (from + at, from + at + searched.len());
            marked = marked.and(tone, &piece[from..begin]).and(Tone::Found, &piece[begin..end]);
            from = end;
        }
        marked = marked.and(tone, &piece[from..]);
    }
    marked
}

/// Maximum number of findings on the time bar: the worst are kept if there are more, which is more than cells.
const MARKS_MAX: usize = 500;

/// Draws the position of a replay.
fn bar(frame: &mut Frame, area: Area, state: &State, theme: &Theme) -> Option<Scale> {
    let marks = bar_marks(state);
    let (line, scale) = timebar::drawn(&time_bar(state, &marks)?, usize::from(area.width), state.glyphs());
    put(frame, area, [line], theme);
    Some(scale)
}

/// Event that a replay applied last, which shows the effect of a step.
fn last_event(state: &State, width: u16) -> Option<Text> {
    let s = state.latest();
    let row = s.last.as_ref().filter(|_| state.recording().is_some())?;
    let w = crate::events::words(row, &s.setup, s.meta.start_ns);
    let name = format!(" #{} ", number(row.number));
    let short = [&w.time, &w.cpu, &w.task, &w.action, &w.object].map(String::as_str).join(" ");
    let wordings =
        [w.line(), short.clone()].map(|line| Text::new(Tone::Label, name.clone()).and(Tone::Plain, line));
    let fits = choose(width, wordings);
    let cut = fit(&short, usize::from(width).saturating_sub(name.len()), false);
    let too_wide = fits.width() > usize::from(width);
    Some(if too_wide { Text::new(Tone::Label, name).and(Tone::Plain, cut) } else { fits })
}

fn bar_marks(state: &State) -> Vec<(u64, bool)> {
    let Some(r) = state.recording() else { return Vec::new() };
    let mut marks: Vec<_> = r.marks.iter().collect();
    if marks.len() > MARKS_MAX {
        marks.sort_by_key(|m| m.rank);
        marks.truncate(MARKS_MAX);
    }
    marks.iter().map(|m| (m.at_ns, m.rank.is_alarm())).collect()
}

fn time_bar<'a>(state: &State, marks: &'a [(u64, bool)]) -> Option<timebar::Bar<'a>> {
    let r = state.recording()?;
    let pace = state.pace();
    Some(timebar::Bar {
        start_ns: r.start_ns,
        end_ns: r.end_ns,
        read_ns: r.read_ns,
        now_ns: state.latest().now_ns,
        marks,
        selected: state.selected_finding().map(|f| f.first_ns),
        paused: pace.paused,
        speed: pace.speed,
        event: r.event,
        events: r.events,
        reading: r.reading,
    })
}
