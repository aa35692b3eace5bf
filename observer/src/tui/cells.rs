//! Columns and cells of lists. Decides how columns share the width of the screen.

use super::text::Tone;
use crate::text::number;

/// A column of a list.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub title: &'static str,
    /// Width in cells; 0 takes the rest of the line.
    pub width: u16,
    /// True if right-aligned, as numbers are.
    pub right: bool,
    /// Width in cells where there is little room.
    narrow: u16,
    /// Screen width from which on the column is shown.
    pub from_width: u16,
}

pub const fn left(title: &'static str, width: u16) -> Column {
    Column { title, width, right: false, narrow: width, from_width: 0 }
}

pub const fn right(title: &'static str, width: u16) -> Column {
    Column { right: true, ..left(title, width) }
}

pub const fn narrow(column: Column, narrow: u16) -> Column {
    Column { narrow, ..column }
}

pub const fn wide(column: Column, from_width: u16) -> Column {
    Column { from_width, ..column }
}

/// Screen width below which there is little room.
const NARROW: u16 = 110;

/// Columns of a list on a screen of this width, with their numbers and their widths there.
#[must_use]
pub fn fitted(all: &[Column], width: u16) -> Vec<(usize, Column)> {
    let mut shown: Vec<(usize, Column)> =
        all.iter().copied().enumerate().filter(|(_, c)| width >= c.from_width).collect();
    if width < NARROW {
        shown.iter_mut().for_each(|(_, c)| c.width = c.narrow);
    }
    let used: u16 = shown.iter().map(|(_, c)| c.width + 1).sum();
    for (_, c) in &mut shown {
        if c.width == 0 {
            c.width = (width + 1).saturating_sub(used);
        }
    }
    shown
}

/// One cell of a list.
#[derive(Clone, Debug)]
pub struct Cell {
    pub tone: Tone,
    pub text: String,
    /// Sort key, if it is not the text.
    pub value: Option<u64>,
}

impl Cell {
    #[must_use]
    pub fn new(tone: Tone, text: impl Into<String>) -> Cell {
        Cell { tone, text: text.into(), value: None }
    }

    #[must_use]
    pub fn plain(text: impl Into<String>) -> Cell {
        Cell::new(Tone::Plain, text)
    }

    #[must_use]
    pub fn count(n: u64) -> Cell {
        Cell::plain(number(n)).by(n)
    }

    #[must_use]
    pub fn by(self, value: u64) -> Cell {
        Cell { value: Some(value), ..self }
    }

    #[must_use]
    pub fn toned(self, tone: Tone) -> Cell {
        Cell { tone, ..self }
    }
}
