//! The list of a view: which rows pass, in which order, and which one is selected.
//!
//! Decides how a selection behaves while rows appear and disappear: it follows its row, or it stays at the first or last
//! place. Decides also that a filter does not word a row again whose detail is the same as before.

use std::sync::Arc;

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
    /// Details of the rows, while there is a filter.
    worded: Option<Worded>,
}

/// Details of rows in words and in lower case, as a filter looks at them.
#[derive(Debug)]
struct Worded {
    of: Arc<Snapshot>,
    /// Rows of that snapshot; a row whose cells passed has no words.
    rows: Vec<(usize, Option<String>)>,
}

/// Number of places on both sides of the expected one at which the words of a row are looked for. A row that moved further is
/// worded again.
const NEAR: usize = 8;

impl Worded {
    /// Takes the words of a row that has the same detail as before, and is expected at or near this place.
    fn take(&mut self, view: &View, s: &Snapshot, row: usize, place: &mut usize) -> Option<String> {
        let detail = (view.detail)(s, row)?;
        let near = place.saturating_sub(NEAR)..(*place + NEAR).min(self.rows.len());
        let is_same = |at: &usize| (view.detail)(&self.of, self.rows[*at].0) == Some(detail);
        let here = std::iter::once(*place).filter(|at| near.contains(at));
        let at = here.chain(near.clone()).find(is_same);
        // A row that changed is usually where it was.
        *place = at.unwrap_or(*place) + 1;
        self.rows[at?].1.take()
    }
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
            worded: None,
        }
    }

    /// Index of the selected row in the snapshot.
    #[must_use]
    pub fn row(&self) -> Option<usize> {
        self.visible.get(self.selected).copied()
    }

    /// Recomputes which rows pass, and the place of the selected row.
    pub fn renew(&mut self, s: &Arc<Snapshot>) {
        let rows = (self.view.rows)(s);
        if self.filter.is_empty() || self.view.filter == FilteredBy::Run {
            self.worded = None;
            self.visible = rows;
        } else {
            self.visible = self.passing(s, rows);
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

    /// Rows whose cells or detail have the filter's text. Only a detail that changed is worded.
    fn passing(&mut self, s: &Arc<Snapshot>, mut rows: Vec<usize>) -> Vec<usize> {
        let (view, needle) = (self.view, self.filter.to_lowercase());
        let is_same_run =
            |w: &Worded| Arc::ptr_eq(&w.of.stacks, &s.stacks) && w.of.meta.start_ns == s.meta.start_ns;
        let mut former = self.worded.take().filter(is_same_run);
        let (mut worded, mut place) = (Vec::with_capacity(rows.len()), 0);
        rows.retain(|&row| {
            let passes = view.line(s, row).to_lowercase().contains(&needle);
            let known = former.as_mut().and_then(|w| w.take(view, s, row, &mut place));
            let words = known.or_else(|| {
                let detail = (view.detail)(s, row).filter(|_| !passes)?;
                Some(detail.lines(s).join("\n").to_lowercase())
            });
            let passes = passes || words.as_ref().is_some_and(|words| words.contains(&needle));
            worded.push((row, words));
            passes
        });
        self.worded = Some(Worded { of: s.clone(), rows: worded });
        rows
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::tab::Tab;
    use observer_engine::event::{Addr, Mapping, Mm, Table, Tid};
    use observer_engine::view::{TableEvent, TableStep, TableView};

    fn table(number: u64) -> TableView {
        let event = TableEvent {
            time_ns: 1_000_000 * number,
            generation: 1,
            what: TableStep::Shared,
            mm: Mm(1),
            gib: Addr(0),
            tid: Tid(4242),
        };
        TableView {
            table: Table(number << 12),
            generation: 1,
            birth_ns: 0,
            birth_seen: true,
            last_ns: 0,
            links: Vec::new(),
            lookups: 0,
            shares: 0,
            unshares: 0,
            sharers_max: 0,
            mapping: Mapping(0),
            alive: true,
            history: vec![event],
        }
    }

    fn tables(numbers: impl Iterator<Item = u64>) -> Snapshot {
        Snapshot { tables: numbers.map(table).collect(), ..Snapshot::default() }
    }

    /// Addresses of the rows' texts: a text that is formatted again has another address.
    fn words(list: &List) -> Vec<*const u8> {
        let rows = &list.worded.as_ref().unwrap().rows;
        rows.iter().map(|(_, words)| words.as_ref().unwrap().as_ptr()).collect()
    }

    #[test]
    fn only_changed_rows_are_formatted_again() {
        let mut list = List::of(Tab::Tables.view());
        list.filter = "by task 4242".into();
        let first = tables(1..100);
        list.renew(&Arc::new(first.clone()));
        assert_eq!(list.visible.len(), 99);
        let before = words(&list);

        list.filter = "by task 42".into();
        list.renew(&Arc::new(Snapshot { now_ns: 7, ..first.clone() }));
        assert_eq!(words(&list), before, "another filter, and a later snapshot of the same tables");

        // A new first table, a changed one, and a removed one.
        let mut next = Snapshot { tables: vec![table(200)], ..first.clone() };
        next.tables.extend(first.tables);
        next.tables[50].history[0].tid = Tid(17);
        next.tables.remove(60);
        list.renew(&Arc::new(next));
        let after = words(&list);
        assert_eq!(
            (&after[1..50], &after[51..60], &after[60..]),
            (&before[..49], &before[50..59], &before[60..])
        );
        assert!(!before.contains(&after[0]) && !list.visible.contains(&50));

        list.filter.clear();
        list.renew(&Arc::new(tables(1..3)));
        assert!(list.worded.is_none(), "no words are kept without a filter");
    }
}
