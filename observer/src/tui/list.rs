//! The list of a view: which rows pass, in which order, and which one is selected.
//!
//! Decides what a selection does while rows come and go: it stays with its row, or with the first or the last place.

use super::page::Page;
use super::rows;
use super::state::Tab;
use crate::snapshot::Snapshot;

/// What a selection holds on to.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Pin {
    /// The first place, wherever its row goes: of findings the worst.
    #[default]
    First,
    /// The last place: of events the newest.
    Last,
    Row(Page),
}

/// A column that rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// `None`: as the run gives them.
    pub column: Option<usize>,
    pub reversed: bool,
}

/// One list.
#[derive(Debug)]
pub struct List {
    /// Rows of the snapshot that pass, in the order on the screen.
    pub visible: Vec<usize>,
    /// Index into `visible`.
    pub selected: usize,
    /// First row on the screen, index into `visible`.
    pub offset: usize,
    pub pin: Pin,
    pub filter: String,
    pub sort: Sort,
}

impl List {
    #[must_use]
    pub fn of(tab: Tab) -> List {
        List {
            visible: Vec::new(),
            selected: 0,
            offset: 0,
            // Whoever looks at events wants the newest.
            pin: if tab == Tab::Events { Pin::Last } else { Pin::First },
            filter: String::new(),
            sort: Sort { column: None, reversed: false },
        }
    }

    /// Index of the selected row in the snapshot.
    #[must_use]
    pub fn row(&self) -> Option<usize> {
        self.visible.get(self.selected).copied()
    }

    /// Finds out anew which rows pass and where the selected one is.
    pub fn renew(&mut self, s: &Snapshot, tab: Tab) {
        let needle = self.filter.to_lowercase();
        // Events were filtered by whoever gave them.
        let all = tab == Tab::Events || needle.is_empty();
        let passes = |i: &usize| all || rows::text(s, tab, *i).to_lowercase().contains(&needle);
        self.visible.clear();
        self.visible.extend((0..rows::count(s, tab)).filter(passes));
        self.order(s, tab);
        let last = self.visible.len().saturating_sub(1);
        self.selected = match &self.pin {
            Pin::First => 0,
            Pin::Last => last,
            // A row that is gone leaves the selection where it was.
            Pin::Row(page) => {
                let at = self.visible.iter().position(|&i| rows::is(s, tab, i, page));
                at.unwrap_or(self.selected).min(last)
            }
        };
    }

    fn order(&mut self, s: &Snapshot, tab: Tab) {
        if let Some(column) = self.sort.column {
            let key = |i: &usize| {
                let mut cells = rows::cells(s, tab, *i);
                let cell = (column < cells.len()).then(|| cells.swap_remove(column));
                cell.map(|c| (c.value.unwrap_or(0), c.text))
            };
            self.visible.sort_by_cached_key(key);
        }
        if self.sort.reversed {
            self.visible.reverse();
        }
    }

    /// Moves the selection, and lets it follow its row from here on.
    pub fn move_by(&mut self, rows: isize, s: &Snapshot, tab: Tab) {
        let last = self.visible.len().saturating_sub(1);
        self.select(self.selected.saturating_add_signed(rows).min(last), s, tab);
    }

    /// Selects a place.
    pub fn select(&mut self, place: usize, s: &Snapshot, tab: Tab) {
        let last = self.visible.len().saturating_sub(1);
        self.selected = place.min(last);
        self.pin = match self.row().and_then(|i| rows::page(s, tab, i)) {
            Some(_) if tab == Tab::Events && self.selected == last => Pin::Last,
            Some(page) => Pin::Row(page),
            None => List::of(tab).pin,
        };
    }

    /// Selects a row wherever it is; `false`: it is not there.
    pub fn find(&mut self, page: &Page, s: &Snapshot, tab: Tab) -> bool {
        let at = self.visible.iter().position(|&i| rows::is(s, tab, i, page));
        if let Some(at) = at {
            self.select(at, s, tab);
        }
        at.is_some()
    }

    /// Keeps the selection on a screen of so many rows.
    pub fn scroll(&mut self, page: usize) {
        let page = page.max(1);
        let lowest = (self.selected + 1).saturating_sub(page);
        self.offset = self.offset.clamp(lowest, self.selected).min(self.visible.len().saturating_sub(page));
    }

    /// Sorts by the next column, or the one before; after the last by none.
    pub fn sort_by_next(&mut self, columns: usize, on: bool) {
        let n = columns + 1;
        let now = self.sort.column.map_or(0, |c| c + 1);
        let next = (now + if on { 1 } else { n - 1 }) % n;
        self.sort.column = next.checked_sub(1);
    }
}
