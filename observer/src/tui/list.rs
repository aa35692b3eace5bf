//! The list of a view: which rows pass, in which order, and which one is selected.
//!
//! Decides how a selection behaves while rows appear and disappear: it follows its row, or it stays at the first or last
//! place.

use super::page::Page;
use super::rows;
use super::tab::Tab;
use crate::snapshot::Snapshot;

/// Anchor of a selection.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Pin {
    /// The first place, even if its row moves: the worst finding.
    #[default]
    First,
    /// The last place: the newest event.
    Last,
    Row(Page),
}

/// Sort order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// Column to sort by; `None` keeps the order of the run.
    pub column: Option<usize>,
    pub reversed: bool,
}

/// One list of a view.
#[derive(Debug)]
pub struct List {
    /// Rows of the snapshot that pass, in the order on the screen.
    pub visible: Vec<usize>,
    /// Selected row, as an index into `visible`.
    pub selected: usize,
    /// First row on the screen, as an index into `visible`.
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
            // For events, the newest one is selected at first.
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

    /// Recomputes which rows pass, and the place of the selected row.
    pub fn renew(&mut self, s: &Snapshot, tab: Tab) {
        let needle = self.filter.to_lowercase();
        // The run has filtered the events already.
        let all = tab == Tab::Events || needle.is_empty();
        let passes = |i: &usize| all || rows::text(s, tab, *i).to_lowercase().contains(&needle);
        self.visible.clear();
        self.visible.extend((0..rows::count(s, tab)).filter(passes));
        self.order(s, tab);
        let last = self.visible.len().saturating_sub(1);
        self.selected = match &self.pin {
            Pin::First => 0,
            Pin::Last => last,
            // If the pinned row has disappeared, the selection stays at its place.
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

    /// Moves the selection, which follows its new row from here on.
    pub fn move_by(&mut self, rows: isize, s: &Snapshot, tab: Tab) {
        let last = self.visible.len().saturating_sub(1);
        self.select(self.selected.saturating_add_signed(rows).min(last), s, tab);
    }

    /// Selects a place in the list.
    pub fn select(&mut self, place: usize, s: &Snapshot, tab: Tab) {
        let last = self.visible.len().saturating_sub(1);
        self.selected = place.min(last);
        self.pin = match self.row().and_then(|i| rows::page(s, tab, i)) {
            Some(_) if tab == Tab::Events && self.selected == last => Pin::Last,
            Some(page) => Pin::Row(page),
            None => List::of(tab).pin,
        };
    }

    /// Selects the row of this page; returns `false` if the list does not have it.
    pub fn find(&mut self, page: &Page, s: &Snapshot, tab: Tab) -> bool {
        let at = self.visible.iter().position(|&i| rows::is(s, tab, i, page));
        if let Some(at) = at {
            self.select(at, s, tab);
        }
        at.is_some()
    }

    /// Scrolls so that the selection is visible on a screen of `page` rows.
    pub fn scroll(&mut self, page: usize) {
        let page = page.max(1);
        let lowest = (self.selected + 1).saturating_sub(page);
        self.offset = self.offset.clamp(lowest, self.selected).min(self.visible.len().saturating_sub(page));
    }

    /// Sorts by the next column (or the previous one, if `on` is false); after the last column, by none.
    pub fn sort_by_next(&mut self, columns: usize, on: bool) {
        let n = columns + 1;
        let now = self.sort.column.map_or(0, |c| c + 1);
        let next = (now + if on { 1 } else { n - 1 }) % n;
        self.sort.column = next.checked_sub(1);
    }
}
