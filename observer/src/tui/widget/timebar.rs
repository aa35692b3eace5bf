//! The position of a replay: one line of time, with the findings on it.
//!
//! Decides which parts have room. The bar is drawn together with its scale, so a click seeks to where it points.

use std::ops::Range;

use super::super::text::{Text, Tone};
use super::super::words::clock;
use super::canvas::{Row, clip};
use super::glyphs::Glyphs;
use crate::text::{moment, number};

/// Smallest number of cells of a bar.
const CELLS_MIN: usize = 10;

/// A replay at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Bar<'a> {
    /// Start and end of the recording as far as known.
    pub start_ns: u64,
    pub end_ns: u64,
    /// Event time up to which it has been read.
    pub read_ns: u64,
    /// The place that is shown.
    pub now_ns: u64,
    /// Times of findings, and whether they are alarms.
    pub marks: &'a [(u64, bool)],
    pub selected: Option<u64>,
    pub paused: bool,
    /// Multiple of real time; `None`: as fast as possible.
    pub speed: Option<f32>,
    /// Number of events applied here, and number read in total.
    pub event: u64,
    pub events: u64,
    /// True while the first reading is under way.
    pub reading: bool,
}

impl Bar<'_> {
    fn share(&self, ns: u64, of: u64) -> u64 {
        let span = u128::from(self.end_ns.saturating_sub(self.start_ns));
        let done = u128::from(ns.clamp(self.start_ns, self.end_ns.max(self.start_ns)) - self.start_ns);
        (done * u128::from(of)).checked_div(span).unwrap_or(0) as u64
    }

    /// Time of the position; exact to the event during a pause. Its width is constant, else the bar would move under the
    /// mouse.
    fn at(&self) -> String {
        let since_ns = self.now_ns.saturating_sub(self.start_ns);
        let exact = self.paused && !self.reading;
        let at = if exact { moment(since_ns, 0) } else { clock(since_ns) };
        let longest = moment(self.end_ns, self.start_ns).len();
        format!("{at:<longest$} ")
    }

    fn percent(&self) -> u64 {
        self.share(self.now_ns, 100)
    }

    /// Cell of a time; the first is the start, the last the end.
    fn cell(&self, ns: u64, cells: usize) -> usize {
        self.share(ns, cells.saturating_sub(1) as u64) as usize
    }

    fn state(&self) -> (Tone, String) {
        match (self.reading, self.paused, self.speed) {
            (true, ..) => (Tone::Caution, format!("READING {}%", self.share(self.read_ns, 100))),
            (false, true, _) => (Tone::Caution, "PAUSED".into()),
            (false, false, None) => (Tone::Plain, "flat out".into()),
            (false, false, Some(speed)) => (Tone::Plain, format!("{speed}x")),
        }
    }

    /// Speed after the pause.
    fn then(&self) -> String {
        match self.speed {
            Some(speed) if self.paused && !self.reading => format!("{speed}x"),
            None if self.paused && !self.reading => "flat out".into(),
            _ => String::new(),
        }
    }
}

/// Cells of a bar on its line, and the time that they cover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    cells: Range<usize>,
    start_ns: u64,
    end_ns: u64,
}

impl Scale {
    /// Event time at a column of the line; `None` if the column is not on the bar.
    #[must_use]
    pub fn time_at(&self, column: usize) -> Option<u64> {
        if !self.cells.contains(&column) {
            return None;
        }
        let last = self.cells.len().saturating_sub(1).max(1) as u128;
        let span = u128::from(self.end_ns.saturating_sub(self.start_ns));
        // Rounded up, so that the time maps back to this cell.
        let since = (span * (column - self.cells.start) as u128).div_ceil(last);
        Some(self.start_ns.saturating_add(since as u64))
    }
}

/// Draws the bar.
#[must_use]
pub fn drawn(bar: &Bar, width: usize, glyphs: &Glyphs) -> (Text, Scale) {
    let layout = Layout::of(bar, width);
    let mut text = layout.before;
    if !layout.cells.is_empty() {
        text = text.and(Tone::Faint, glyphs.left.to_string());
        text.0.extend(cells(bar, layout.cells.len(), glyphs).text().0);
        text = text.and(Tone::Faint, glyphs.right.to_string());
    }
    text.0.extend(layout.after.0);
    (clip(text, width), Scale { cells: layout.cells, start_ns: bar.start_ns, end_ns: bar.end_ns })
}

fn cells(bar: &Bar, width: usize, glyphs: &Glyphs) -> Row {
    let mut row = Row::new(width);
    let (now, read) = (bar.cell(bar.now_ns, width), bar.cell(bar.read_ns, width));
    let last = width.saturating_sub(1);
    row.fill(0, last, Tone::Faint, glyphs.none);
    row.fill(0, read, Tone::Plain, glyphs.read);
    row.fill(0, now, Tone::Label, glyphs.played);
    let mut marks: Vec<(usize, u32, bool)> = Vec::new();
    for (ns, alarm) in bar.marks {
        let cell = bar.cell(*ns, width);
        match marks.iter_mut().find(|(at, ..)| *at == cell) {
            Some((_, n, any)) => (*n, *any) = (*n + 1, *any | alarm),
            None => marks.push((cell, 1, *alarm)),
        }
    }
    let selected = bar.selected.map(|ns| bar.cell(ns, width));
    let mut head = (Tone::Selected, glyphs.head);
    for (cell, n, alarm) in marks {
        let (tone, c) = match (alarm, n) {
            (true, 1) => (Tone::Alarm, '!'),
            (true, _) => (Tone::Alarm, '*'),
            (false, 1) => (Tone::Caution, '\''),
            (false, _) => (Tone::Caution, '"'),
        };
        row.set(cell, if selected == Some(cell) { Tone::Selected } else { tone }, c);
        if cell == now {
            head.1 = c;
        }
    }
    row.set(now, head.0, head.1);
    row
}

/// Parts of the line.
struct Layout {
    before: Text,
    /// Columns of the bar without its ends; empty: no bar.
    cells: Range<usize>,
    after: Text,
}

impl Layout {
    /// Takes the first wording that leaves enough room for a bar; a percentage if none does.
    fn of(bar: &Bar, width: usize) -> Layout {
        let at = bar.at();
        let (tone, state) = bar.state();
        let state = Text::new(tone, state);
        let then = bar.then();
        let long_state =
            if then.is_empty() { state.clone() } else { state.clone().and(Tone::Plain, format!(" {then}")) };
        let events = format!("{} of {} events", number(bar.event), number(bar.events));
        let percent = format!("{}%", bar.percent());
        // Pads to the longest state, else the bar would grow and shrink under the mouse.
        let padded = |text: &Text| {
            Text(text.0.clone()).and(Tone::Plain, " ".repeat(16usize.saturating_sub(text.width())))
        };
        let wordings = [
            (120, at.clone(), format!(" {events}  "), padded(&long_state)),
            (70, at.clone(), format!(" {}  ", number(bar.event)), padded(&long_state)),
            (44, at, " ".into(), state.clone()),
            (24, String::new(), " ".into(), state.clone()),
        ];
        for (from, before, after, state) in wordings {
            let words = before.len() + after.len() + state.width() + 2;
            if width >= from && width >= words + CELLS_MIN {
                let first = before.len() + 1;
                let after = Text(vec![(Tone::Plain, after)].into_iter().chain(state.0).collect());
                let cells = first..first + width - words;
                return Layout { before: Text::new(Tone::Label, before), cells, after };
            }
        }
        // The state of reading contains a percentage.
        let long = state.width() + if bar.reading { 0 } else { percent.len() + 1 };
        let (before, after) = match (long <= width, bar.reading) {
            (true, true) => (Text::default(), state),
            (true, false) => (Text::new(Tone::Label, percent + " "), state),
            (false, _) => (Text::new(Tone::Label, percent), Text::default()),
        };
        Layout { before, cells: 0..0, after }
    }
}
