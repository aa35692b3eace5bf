//! The help: every key from the table of keys, then the words that the views use.

use ratatui::Frame;
use ratatui::layout::Rect;

use super::put;
use crate::tui::keys;
use crate::tui::state::{Mode, State};
use crate::tui::text::{Text, fit};
use crate::tui::theme::{Theme, Tone};
use crate::tui::words::some;

/// Words that a column or a header line uses without room to explain them.
const WORDS: &[(&str, &str)] = &[
    ("window", "a task held a pte pointer while another task took the table away that it points into"),
    ("certain", "the part of a window in which the pointer must have been in use"),
    ("possible", "the part in which it may have been in use"),
    ("lookup", "the kernel function on whose behalf the pointer was looked up"),
    ("unlink", "the kernel function on whose behalf the table was taken away"),
    ("edge", "a lock asked for, in a way that can block, by a task that held another"),
    ("try", "the second lock was only tried: such an edge cannot block"),
    ("sharers", "links to a table: upper-level entries of the mms that share it"),
    ("loss", "records that did not arrive, by reason; late: in order too late, not lost"),
    ("blind", "what this kernel and this level do not let us see: findings there cannot appear"),
    ("coverage", "exact: each at its moment; bounded: within an interval; inferred: from other evidence"),
];

/// Rows of text that the help has on a screen of this height: all but its title and the footer.
#[must_use]
pub fn rows(height: u16) -> u16 {
    height.saturating_sub(2)
}

/// The help's text.
#[must_use]
pub fn lines(mode: Mode, width: u16) -> Vec<Text> {
    let width = usize::from(width);
    let mut entries: Vec<(String, &str)> = Vec::new();
    for b in keys::bindings(mode == Mode::Replay) {
        let names: Vec<String> = b.keys.iter().map(|k| k.name()).collect();
        entries.push((names.join(" "), b.help));
    }
    let key_width = entries.iter().map(|(k, _)| k.len()).max().unwrap_or(0) + 2;
    let mut lines: Vec<Text> = Vec::new();
    let entry = |(k, help): &(String, &str)| {
        Text::new(Tone::Label, fit(k, key_width, false)).and(Tone::Plain, (*help).to_owned())
    };
    if width >= 116 {
        let half = entries.len().div_ceil(2);
        for (i, left) in entries[..half].iter().enumerate() {
            let mut line = entry(left);
            if let Some(right) = entries.get(half + i) {
                let gap = (width / 2).saturating_sub(line.width());
                line = line.and(Tone::Plain, " ".repeat(gap));
                line.0.extend(entry(right).0);
            }
            lines.push(line);
        }
    } else {
        lines.extend(entries.iter().flat_map(|e| entry(e).wrap(width, key_width.min(width / 2))));
    }
    lines.push(Text::default());
    for (word, meaning) in WORDS {
        let text = Text::new(Tone::Label, fit(word, 10, false)).and(Tone::Plain, *meaning);
        lines.extend(text.wrap(width, 10.min(width / 2)));
    }
    lines
}

/// Draws over all but the footer.
pub fn draw(frame: &mut Frame, area: Rect, state: &State, scroll: u16, theme: &Theme) {
    let title = Rect { height: area.height.min(1), ..area };
    let body = Rect { y: area.y + title.height, height: area.height - title.height, ..area };
    let lines = lines(state.mode(), area.width);
    let below = lines.len().saturating_sub(usize::from(scroll) + usize::from(body.height));
    let more =
        if below > 0 { format!(", {} below: PgDn", some(below as u64, "line")) } else { String::new() };
    let words = format!(" keys and words; ? or Esc: back{more}");
    put(frame, title, [Text::new(Tone::Bar, fit(&words, usize::from(area.width), false))], theme);
    put(frame, body, lines.into_iter().skip(usize::from(scroll)), theme);
}
