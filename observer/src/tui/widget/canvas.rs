//! Cells of one line, and the frame of a picture: names at the left, cells, addresses at the right. Decides what is cut where
//! the width does not suffice.

use unicode_width::UnicodeWidthChar;

use super::super::text::{Text, Tone, fit};

/// Columns of names on a screen that is wide enough: the longest name of a lock and its mode.
const NAMES: usize = 20;
/// Columns of an address and the gap before it.
const ADDRESS: usize = 25;
/// Width from which on there is room for addresses.
const WIDE: usize = 120;
/// Smallest number of cells that shows anything useful.
const CELLS_MIN: usize = 16;

/// Cells of one line.
#[derive(Clone, Debug)]
pub struct Row(Vec<(Tone, char)>);

impl Row {
    #[must_use]
    pub fn new(width: usize) -> Row {
        Row(vec![(Tone::Plain, ' '); width])
    }

    /// Sets a cell; a column beyond the width is ignored.
    pub fn set(&mut self, column: usize, tone: Tone, c: char) {
        if let Some(cell) = self.0.get_mut(column) {
            // A terminal would obey a control character; a wide one would shift all that follows.
            let c = if c.width() == Some(1) { c } else { '?' };
            *cell = (tone, c);
        }
    }

    pub fn put(&mut self, column: usize, tone: Tone, text: &str) {
        for (i, c) in text.chars().enumerate() {
            self.set(column + i, tone, c);
        }
    }

    /// Fills the columns from `from` to `to`, inclusive.
    pub fn fill(&mut self, from: usize, to: usize, tone: Tone, c: char) {
        for column in from..=to.min(self.0.len().saturating_sub(1)) {
            self.set(column, tone, c);
        }
    }

    /// Sets a cell only if it is empty.
    pub fn under(&mut self, column: usize, tone: Tone, c: char) {
        if self.is_free(column, column) {
            self.set(column, tone, c);
        }
    }

    /// True if these columns exist and are all empty.
    #[must_use]
    pub fn is_free(&self, from: usize, to: usize) -> bool {
        self.0.get(from..=to).is_some_and(|cells| cells.iter().all(|(_, c)| *c == ' '))
    }

    #[must_use]
    pub fn text(&self) -> Text {
        let mut text = Text::default();
        for (tone, c) in &self.0 {
            match text.0.last_mut() {
                Some((last, piece)) if last == tone => piece.push(*c),
                _ => text = text.and(*tone, c.to_string()),
            }
        }
        text
    }
}

/// Widths of the parts of a picture.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub names: usize,
    pub cells: usize,
    /// Width of addresses; 0 shows none.
    pub addresses: usize,
}

impl Frame {
    /// Frame for a width; `None` if it is too narrow to draw in.
    #[must_use]
    pub fn of(width: usize) -> Option<Frame> {
        let names = NAMES.min(width / 3);
        let addresses = if width >= WIDE { ADDRESS } else { 0 };
        let cells = width.checked_sub(names + 1 + addresses)?;
        (cells >= CELLS_MIN).then_some(Frame { names, cells, addresses })
    }

    #[must_use]
    pub fn is_wide(&self) -> bool {
        self.addresses > 0
    }

    /// One line of the picture; `address` is left out where there is no room for addresses.
    #[must_use]
    pub fn line(&self, name: (Tone, &str), row: &Row, address: &str) -> Text {
        let mut text = Text::new(name.0, fit(name.1, self.names, false)).and(Tone::Plain, " ");
        text.0.extend(row.text().0);
        if self.is_wide() && !address.is_empty() {
            text = text.and(Tone::Faint, fit(&format!(" {address}"), self.addresses, false));
        }
        trim(text)
    }
}

/// Removes spaces at the end.
fn trim(mut text: Text) -> Text {
    while let Some((tone, last)) = text.0.last_mut() {
        if *tone != Tone::Selected {
            last.truncate(last.trim_end().len());
        }
        if !last.is_empty() {
            break;
        }
        text.0.pop();
    }
    text
}

/// Cuts the text to a width, with `~` where something is missing.
#[must_use]
pub fn clip(text: Text, width: usize) -> Text {
    if text.width() <= width {
        return text;
    }
    let mut room = width;
    let mut clipped = Text::default();
    for (tone, piece) in text.0 {
        let has = piece.chars().map(|c| c.width().unwrap_or(0)).sum::<usize>();
        // A piece that fits exactly is cut as well, because another piece follows it.
        if has < room {
            room -= has;
            clipped = clipped.and(tone, piece);
        } else {
            let more = if has == room { piece + "  " } else { piece };
            return clipped.and(tone, fit(&more, room, false));
        }
    }
    clipped
}

/// Adds a sentence, wrapped to the width.
pub fn words(out: &mut Vec<Text>, text: Text, width: usize) {
    out.extend(text.wrap(width, 2.min(width / 8)).into_iter().map(|line| clip(trim(line), width)));
}

/// Adds the parts of a legend; lines break only between parts.
pub fn legend(out: &mut Vec<Text>, parts: &[(Tone, String)], width: usize) {
    let mut line = Text::default();
    for (tone, part) in parts {
        let gap = if line.0.is_empty() { 0 } else { 3 };
        if gap > 0 && line.width() + gap + part.chars().count() > width {
            out.push(std::mem::take(&mut line));
        } else {
            line = if gap > 0 { line.and(Tone::Plain, "   ") } else { line };
        }
        line = line.and(*tone, part.as_str());
    }
    out.push(line);
}
