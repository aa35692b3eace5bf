//! The views, one row of a table for each: its list, its columns, and the page that a row leads to.
//!
//! Decides which views there are and the order of their keys. A file below `views` decides the rows of one view and their
//! words. To add a view: a name in [`Tab`], a file below `views`, and a row here.

mod coverage;
pub mod events;
mod locks;
mod overview;
pub mod protect;
mod tables;
mod windows;

use observer_engine::finding::Finding;
use observer_engine::view::{EdgeView, TableView};

use super::cells::{Cell, Column};
use super::tab::Tab;
use super::target::Page;
use crate::sink::words;
use crate::snapshot::Snapshot;
use crate::text::number;

pub use self::coverage::fired;

/// A view. Its rows are places in a list of the snapshot, which only the view's functions interpret.
#[derive(Debug)]
pub struct View {
    pub name: &'static str,
    /// One line of the help.
    pub help: &'static str,
    pub columns: &'static [Column],
    /// Number of rows.
    pub count: fn(&Snapshot) -> usize,
    /// Every row, in the order of the view.
    pub rows: fn(&Snapshot) -> Vec<usize>,
    /// Number of rows that the run has beyond those in the snapshot.
    pub left_out: fn(&Snapshot) -> usize,
    /// Cells of a row, one for each column.
    pub cells: fn(&Snapshot, usize) -> Vec<Cell>,
    /// Detail of a row, which search and filter look at beside the cells.
    pub detail: fn(&Snapshot, usize) -> Option<Detail<'_>>,
    /// A row in one sentence, for a screen without room for its page; `None`: its last cell.
    pub in_full: Option<fn(&Snapshot, usize) -> String>,
    /// Page that a row opens. It is also the identity that a selection follows while rows appear and disappear.
    pub page: fn(&Snapshot, usize) -> Option<Page>,
    /// Returns true if a row opens this page: `page` without constructing one.
    pub opens: fn(&Snapshot, usize, &Page) -> bool,
    pub badge: Badge,
    pub filter: FilteredBy,
    pub anchor: Anchor,
    pub empty: Empty,
    /// True if the rates of events are shown above the list.
    pub rates: bool,
    /// True if the rows are findings, so that a mark of a recording can be selected here.
    pub findings: bool,
}

/// Evidence or history of a row, as the engine has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Detail<'a> {
    Finding(&'a Finding),
    Edge(&'a EdgeView),
    Table(&'a TableView),
}

impl Detail<'_> {
    #[must_use]
    pub fn lines(&self, s: &Snapshot) -> Vec<String> {
        match self {
            Detail::Finding(f) => words::detail(f, &s.stacks, s.meta.start_ns),
            Detail::Edge(e) => words::edge_detail(e, s.meta.start_ns),
            Detail::Table(t) => words::table_history(t, s.meta.start_ns),
        }
    }
}

/// Text beside a view's name.
#[derive(Clone, Copy, Debug)]
pub enum Badge {
    None,
    /// The number of rows.
    Rows,
    Words(fn(&Snapshot) -> String),
}

/// Part of the program that applies the filter of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilteredBy {
    /// The list: rows that contain the text.
    List,
    /// The run: events that pass the words of `events::filter`. The snapshot has no others.
    Run,
}

/// Place at which the selection stays until another row is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    First,
    /// The newest event. A selection that reaches the last place stays there too.
    Last,
}

/// Words for a list without rows.
#[derive(Clone, Copy, Debug)]
pub enum Empty {
    /// Words that hold within the coverage, which is named after them.
    Within(&'static str),
    Always(&'static str),
}

/// Every view, in the order of [`Tab::ALL`]. The key of a view is the number of its place.
pub static VIEWS: [View; Tab::ALL.len()] =
    [overview::VIEW, windows::VIEW, tables::VIEW, locks::VIEW, events::VIEW, coverage::VIEW, protect::VIEW];

impl Tab {
    #[must_use]
    pub fn view(self) -> &'static View {
        &VIEWS[self as usize]
    }
}

impl View {
    /// Text beside the view's name; may be empty.
    #[must_use]
    pub fn badge(&self, s: &Snapshot) -> String {
        match self.badge {
            Badge::None => String::new(),
            Badge::Rows => number((self.count)(s) as u64) + if (self.left_out)(s) > 0 { "+" } else { "" },
            Badge::Words(words) => words(s),
        }
    }

    /// Text below a list about the selected row, where there is no room for its page.
    #[must_use]
    pub fn in_full(&self, s: &Snapshot, row: usize) -> String {
        match self.in_full {
            Some(words) => words(s, row),
            None => (self.cells)(s, row).pop().map_or(String::new(), |cell| cell.text),
        }
    }

    /// Text that a search looks at: the cells of a row, and its detail.
    #[must_use]
    pub fn text(&self, s: &Snapshot, row: usize) -> String {
        let detail = (self.detail)(s, row).map_or(Vec::new(), |detail| detail.lines(s));
        std::iter::once(self.line(s, row)).chain(detail).collect::<Vec<_>>().join("\n")
    }

    /// Text of a row's cells.
    #[must_use]
    pub fn line(&self, s: &Snapshot, row: usize) -> String {
        let cells: Vec<String> = (self.cells)(s, row).into_iter().map(|c| c.text).collect();
        cells.join(" ")
    }
}

/// Returns 0: the snapshot has every row of the view.
fn none_left_out(_: &Snapshot) -> usize {
    0
}

/// Returns nothing: the cells are the whole text of the row.
fn no_detail(_: &Snapshot, _: usize) -> Option<Detail<'_>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tab_has_its_view() {
        for tab in Tab::ALL {
            assert!(format!("{tab:?}").starts_with(tab.view().name), "{tab:?}");
        }
    }
}
