//! Accessors of the state for the view.

use super::{Body, Message, Mode, Pace, State};
use crate::snapshot::Snapshot;
use crate::tui::history::History;
use crate::tui::layout::{Layout, Wants};
use crate::tui::list::List;
use crate::tui::page::Line;
use crate::tui::panel;
use crate::tui::prompt::Prompt;
use crate::tui::tab::Tab;
use crate::tui::text::Text;
use crate::tui::widget::Glyphs;
use crate::tui::widget::matrix::{self, Matrix};
use observer_engine::finding::Finding;

use super::open::Open;

impl State {
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    #[must_use]
    pub fn glyphs(&self) -> &'static Glyphs {
        self.glyphs
    }

    #[must_use]
    pub fn tab(&self) -> Tab {
        self.tab
    }

    #[must_use]
    pub fn body(&self) -> Body {
        match (self.help, self.top(), self.matrix) {
            (Some(_), _, _) => Body::Help,
            (None, Some(_), _) => Body::Page,
            (None, None, Some(_)) if self.tab == Tab::Locks => Body::Matrix,
            _ => Body::List,
        }
    }

    /// Snapshot that the header shows.
    #[must_use]
    pub fn latest(&self) -> &Snapshot {
        &self.latest
    }

    /// Snapshot that the rows are from.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        self.frozen.as_ref().unwrap_or(&self.latest)
    }

    #[must_use]
    pub fn frozen(&self) -> bool {
        self.frozen.is_some()
    }

    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace
    }

    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    #[must_use]
    pub fn shown_list(&self) -> &List {
        self.list()
    }

    /// Page that is open.
    #[must_use]
    pub fn top(&self) -> Option<&Open> {
        self.pages[self.tab as usize].last()
    }

    /// Titles of the pages that lead to the open one, which is last.
    pub fn trail(&self) -> impl Iterator<Item = String> {
        self.pages[self.tab as usize].iter().map(|open| open.page.title())
    }

    /// Lines of the open page.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Line whose link is chosen.
    #[must_use]
    pub fn chosen(&self) -> Option<usize> {
        self.top().and_then(|open| open.link)
    }

    #[must_use]
    pub fn searched(&self) -> &str {
        &self.search
    }

    #[must_use]
    pub fn cell(&self) -> Option<(usize, usize)> {
        self.matrix
    }

    #[must_use]
    pub fn prompt(&self) -> Option<&Prompt> {
        self.prompt.as_ref()
    }

    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        self.message.as_ref()
    }

    /// Scroll of the open help.
    #[must_use]
    pub fn help(&self) -> Option<usize> {
        self.help
    }

    #[must_use]
    pub fn layout(&self) -> Layout {
        let list = self.body() == Body::List;
        Layout::new(
            self.area,
            Wants {
                notice: !self.latest.notices.is_empty(),
                panel: if list && self.tab.view().rates {
                    panel::rows(self.snapshot(), self.mode, self.area.width)
                } else {
                    0
                },
                bar: self.recording().is_some(),
                list,
                rows: self.list().visible.len(),
            },
        )
    }

    /// Rows on the screen: place in the list, and place in the snapshot.
    pub fn rows_on_screen(&self) -> impl Iterator<Item = (usize, usize)> {
        let list = self.list();
        let page = usize::from(self.layout().list.height);
        list.visible.iter().copied().enumerate().skip(list.offset).take(page)
    }

    /// Height in rows of what is shown.
    pub(super) fn page_rows(&self) -> usize {
        let layout = self.layout();
        usize::from(match self.body() {
            Body::Help => Layout::help_rows(self.area.height),
            Body::Page | Body::Matrix => layout.page.height,
            Body::List => layout.list.height,
        })
    }

    pub(super) fn lock_matrix(&self) -> Matrix {
        let s = self.snapshot();
        matrix::of(&s.edges, &s.findings, &s.setup.orders)
    }

    /// Lock order as a matrix.
    #[must_use]
    pub fn matrix_lines(&self, width: u16) -> Vec<Text> {
        self.lock_matrix().lines(self.matrix, usize::from(width), self.glyphs)
    }

    /// Selected finding: that of the page, else that of the row.
    #[must_use]
    pub fn selected_finding(&self) -> Option<&Finding> {
        let page = self.top().map(|open| open.page.clone()).or_else(|| self.selected_page())?;
        let id = page.finding()?;
        let now = self.snapshot().findings.iter().find(|f| f.id == id);
        now.or_else(|| self.kept.get(id).map(|kept| &kept.finding))
    }

    /// Lines below the list on a tall screen: the page of the selected row.
    #[must_use]
    pub fn preview(&self, width: u16) -> Vec<Line> {
        let Some(page) = self.selected_page() else { return Vec::new() };
        page.lines(&self.context(width))
    }

    /// Number of rows of the view, filtered or not.
    #[must_use]
    pub fn all_rows(&self) -> usize {
        (self.tab.view().count)(self.snapshot())
    }

    /// Clock of a snapshot; in a paused replay to the microsecond, like the times of events.
    #[must_use]
    pub fn at(&self, s: &Snapshot) -> String {
        let still = self.recording().is_some_and(|r| !r.reading) && self.pace.paused;
        if still {
            crate::text::moment(s.now_ns, s.meta.start_ns)
        } else {
            crate::tui::words::clock(s.elapsed_ns())
        }
    }

    /// Source and time of what is shown, in a few words.
    #[must_use]
    pub fn where_it_is(&self) -> String {
        let at = self.at(self.snapshot());
        match self.recording() {
            Some(r) => format!("{} at {at}", r.file),
            None => format!("live, at {at}"),
        }
    }
}
