//! Moves through lists, along the links of pages, and back.

use super::{Body, State};
use crate::tui::help;
use crate::tui::layout::Layout;
use crate::tui::page::{Line, Shortcut};
use crate::tui::target::{Go, Page};

/// A page that is open.
#[derive(Debug)]
pub struct Open {
    pub page: Page,
    /// First line on the screen.
    pub scroll: usize,
    /// Line whose link is chosen.
    pub link: Option<usize>,
    /// Line that a search found last.
    pub found: Option<usize>,
}

impl Open {
    #[must_use]
    pub fn new(page: Page) -> Open {
        Open { page, scroll: 0, link: None, found: None }
    }
}

fn links(lines: &[Line]) -> impl DoubleEndedIterator<Item = usize> + '_ {
    lines.iter().enumerate().filter(|(_, l)| l.link.is_some()).map(|(i, _)| i)
}

impl State {
    pub(super) fn move_by(&mut self, by: isize) {
        match self.body() {
            Body::Help => self.scroll_help(by),
            Body::Page => self.move_on_page(by),
            Body::Matrix => self.move_in_matrix((by, 0)),
            Body::List => self.move_in_list(by),
        }
    }

    pub(super) fn page_by(&mut self, by: isize) {
        match self.body() {
            Body::Help => self.scroll_help(by),
            Body::Page => {
                let rows = self.page_rows();
                let last = self.lines.len().saturating_sub(rows);
                if let Some(open) = self.top_mut() {
                    let before = open.scroll;
                    open.scroll = open.scroll.saturating_add_signed(by).min(last);
                    // If the page cannot scroll further, the key chooses the outermost link.
                    if open.scroll == before {
                        self.link_at_edge(by > 0);
                    }
                }
                self.settle_link();
            }
            Body::Matrix => self.move_in_matrix((by, 0)),
            Body::List => self.move_in_list(by),
        }
    }

    pub(super) fn go_first(&mut self) {
        if self.body() == Body::List {
            let list = self.list_mut();
            (list.selected, list.pin) = (0, crate::tui::list::Pin::First);
        } else {
            self.page_by(isize::MIN / 2);
            self.link_at_edge(false);
        }
    }

    pub(super) fn go_last(&mut self) {
        self.page_by(isize::MAX / 2);
        if self.body() == Body::Page {
            self.link_at_edge(true);
        }
    }

    fn move_in_list(&mut self, by: isize) {
        let snapshot = self.snapshot_arc();
        self.list_mut().move_by(by, &snapshot);
    }

    fn scroll_help(&mut self, by: isize) {
        let Some(scroll) = self.help else { return };
        let lines = help::lines(self.mode, self.area.width, self.glyphs).len();
        let last = lines.saturating_sub(usize::from(Layout::help_rows(self.area.height)));
        self.help = Some(scroll.saturating_add_signed(by).min(last));
    }

    pub(super) fn move_in_matrix(&mut self, (down, right): (isize, isize)) {
        let classes = self.lock_matrix().size();
        if let Some((row, column)) = &mut self.matrix {
            *row = row.saturating_add_signed(down).min(classes.saturating_sub(1));
            *column = column.saturating_add_signed(right).min(classes.saturating_sub(1));
        }
    }

    /// Moves to the next link if it is on the screen, else by one line.
    fn move_on_page(&mut self, by: isize) {
        let rows = self.page_rows();
        let last = self.lines.len().saturating_sub(rows);
        let Some(open) = self.pages[self.tab as usize].last_mut() else { return };
        let seen = open.scroll..open.scroll + rows;
        let at = open.link;
        let next = if by > 0 {
            links(&self.lines).find(|i| at.is_none_or(|at| *i > at))
        } else {
            links(&self.lines).rev().find(|i| at.is_some_and(|at| *i < at))
        };
        match next {
            Some(next) if seen.contains(&next) => open.link = Some(next),
            // In a long list of links, all lines follow each other.
            Some(next) if next + 1 == seen.start || next == seen.end => {
                open.link = Some(next);
                open.scroll = open.scroll.saturating_add_signed(by).min(last);
            }
            _ => open.scroll = open.scroll.saturating_add_signed(by).min(last),
        }
    }

    fn link_at_edge(&mut self, last: bool) {
        let edge = if last { links(&self.lines).next_back() } else { links(&self.lines).next() };
        if let Some(open) = self.top_mut() {
            open.link = edge.or(open.link);
        }
        self.settle_link();
    }

    /// Chooses a link that is on the screen, if there is one.
    pub(super) fn settle_link(&mut self) {
        let rows = self.page_rows();
        let Some(open) = self.pages[self.tab as usize].last_mut() else { return };
        let seen = open.scroll..open.scroll + rows;
        if open.link.is_some_and(|at| seen.contains(&at)) {
            return;
        }
        let down = open.link.is_none_or(|at| at < seen.start);
        let mut inside = links(&self.lines).filter(|i| seen.contains(i));
        let chosen = if down { inside.next() } else { inside.next_back() };
        open.link = chosen.or(open.link).or_else(|| links(&self.lines).next());
    }

    pub(super) fn open(&mut self) {
        match self.body() {
            Body::Help => {}
            Body::Page => {
                let link = self.chosen().and_then(|at| self.lines.get(at)).and_then(|l| l.link.clone());
                match link {
                    Some(go) => self.follow(go),
                    None => self.say("nothing leads on from here; Esc: back"),
                }
            }
            Body::Matrix => {
                let matrix = self.lock_matrix();
                let classes =
                    self.matrix.and_then(|(row, column)| matrix.class(row).zip(matrix.class(column)));
                if let Some((from, to)) = classes {
                    self.show_page(Page::Classes(from, to));
                }
            }
            Body::List => {
                if let Some(page) = self.selected_page() {
                    self.show_page(page);
                }
            }
        }
    }

    pub(super) fn back(&mut self) {
        if self.help.take().is_some() {
            return;
        }
        if self.pages[self.tab as usize].pop().is_none() && !self.list().filter.is_empty() {
            self.give_filter(String::new());
        }
        self.refresh_lines();
    }

    /// Page that the keys without a line are about.
    fn about(&self) -> Option<Page> {
        match self.body() {
            Body::Help | Body::Matrix => None,
            Body::Page => match self.chosen().and_then(|at| self.lines.get(at)?.link.clone()) {
                // On a list of events, the keys are about the chosen event.
                Some(Go::Page(page @ Page::Event(_))) => Some(page),
                _ => self.top().map(|open| open.page.clone()),
            },
            Body::List => self.selected_page(),
        }
    }

    /// Returns true if such a key opens a page from here.
    #[must_use]
    pub fn leads(&self, to: Shortcut) -> bool {
        self.about().is_some_and(|page| page.shortcut(&self.context(self.area.width), to).is_ok())
    }

    pub(super) fn shortcut(&mut self, to: Shortcut) {
        match self.about().map(|page| page.shortcut(&self.context(self.area.width), to)) {
            Some(Ok(page)) => self.show_page(page),
            Some(Err(why)) => self.complain(why),
            None => self.complain("no row is selected"),
        }
    }

    /// Page that the selected row opens.
    pub(super) fn selected_page(&self) -> Option<Page> {
        self.list().row().and_then(|row| (self.tab.view().page)(self.snapshot(), row))
    }

    /// Keeps selection and scroll within the screen.
    pub(super) fn scroll(&mut self) {
        let rows = self.page_rows();
        let height = usize::from(self.layout().list.height);
        self.list_mut().scroll(height);
        let last = self.lines.len().saturating_sub(rows);
        if let Some(open) = self.top_mut() {
            open.scroll = open.scroll.min(last);
        }
        self.scroll_help(0);
    }

    pub(super) fn top_mut(&mut self) -> Option<&mut Open> {
        self.pages[self.tab as usize].last_mut()
    }
}
