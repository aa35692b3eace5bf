//! The list of a view: which rows pass, in which order, and which one is selected.
//!
//! Decides how a selection behaves while rows appear and disappear: it follows its row, or it stays at the first or last
//! place.

use super::target::Page;
use super::views::{Anchor, FilteredBy, View};
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

/// The list of one view.
#[derive(Debug)]
pub struct List {
    view: &'static View,
    /// Rows that pass, as places in the snapshot, in the order on the screen.
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
    pub fn of(view: &'static View) -> List {
        List {
            view,
            visible: Vec::new(),
            selected: 0,
            offset: 0,
            pin: first_pin(view),
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
    pub fn renew(&mut self, s: &Snapshot) {
        self.visible = (self.view.rows)(s);
        if !self.filter.is_empty() && self.view.filter == FilteredBy::List {
            let (view, needle) = (self.view, self.filter.to_lowercase());
            self.visible.retain(|&row| view.text(s, row).to_lowercase().contains(&needle));
        }
        self.order(s);
        let last = self.visible.len().saturating_sub(1);
        self.selected = match &self.pin {
            Pin::First => 0,
            Pin::Last => last,
            // If the pinned row has disappeared, the selection stays at its place.
            Pin::Row(page) => self.place_of(page, s).unwrap_or(self.selected).min(last),
        };
    }

    fn order(&mut self, s: &Snapshot) {
        if let Some(column) = self.sort.column {
            let key = |row: &usize| {
                let mut cells = (self.view.cells)(s, *row);
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
    pub fn move_by(&mut self, rows: isize, s: &Snapshot) {
        let last = self.visible.len().saturating_sub(1);
        self.select(self.selected.saturating_add_signed(rows).min(last), s);
    }

    /// Selects a place in the list.
    pub fn select(&mut self, place: usize, s: &Snapshot) {
        let last = self.visible.len().saturating_sub(1);
        self.selected = place.min(last);
        self.pin = match self.row().and_then(|row| (self.view.page)(s, row)) {
            Some(_) if self.view.anchor == Anchor::Last && self.selected == last => Pin::Last,
            Some(page) => Pin::Row(page),
            None => first_pin(self.view),
        };
    }

    /// Selects the row of this page; returns `false` if the list does not have it.
    pub fn find(&mut self, page: &Page, s: &Snapshot) -> bool {
        let at = self.place_of(page, s);
        if let Some(at) = at {
            self.select(at, s);
        }
        at.is_some()
    }

    fn place_of(&self, page: &Page, s: &Snapshot) -> Option<usize> {
        self.visible.iter().position(|&row| (self.view.opens)(s, row, page))
    }

    /// Scrolls so that the selection is visible on a screen of `page` rows.
    pub fn scroll(&mut self, page: usize) {
        let page = page.max(1);
        let lowest = (self.selected + 1).saturating_sub(page);
        self.offset = self.offset.clamp(lowest, self.selected).min(self.visible.len().saturating_sub(page));
    }

    /// Sorts by the next column (or the previous one, if `on` is false); after the last column, by none.
    pub fn sort_by_next(&mut self, on: bool) {
        let n = self.view.columns.len() + 1;
        let now = self.sort.column.map_or(0, |c| c + 1);
        let next = (now + if on { 1 } else { n - 1 }) % n;
        self.sort.column = next.checked_sub(1);
    }
}

fn first_pin(view: &View) -> Pin {
    match view.anchor {
        Anchor::First => Pin::First,
        Anchor::Last => Pin::Last,
    }
}
