//! Search: moves to the next row or line that has a text.

use super::{Body, State};
use crate::tui::help;

impl State {
    /// Moves to the next match, or the previous one. `here`: the current place counts too, as while the person types.
    pub(super) fn find(&mut self, on: bool, here: bool) {
        if self.search.is_empty() {
            self.complain("nothing was searched for yet: / and a text");
            return;
        }
        let texts = self.texts();
        let n = texts.len();
        let from = self.place().min(n.saturating_sub(1));
        let first = usize::from(!here);
        let step = |i: usize| if on { (from + i) % n } else { (from + n - i % n) % n };
        let found = (first..n + first).map(step).find(|&i| texts[i].to_lowercase().contains(&self.search));
        match found {
            None => self.complain(format!("no \"{}\" here", self.search)),
            Some(at) => {
                let wrapped = if on { at < from } else { at > from };
                self.go_to_place(at);
                if wrapped && !here {
                    self.say(if on { "from the top again" } else { "from the bottom again" });
                }
            }
        }
        self.scroll();
    }

    /// Texts of all rows or lines that can be searched.
    fn texts(&self) -> Vec<String> {
        match self.body() {
            Body::Help => {
                help::lines(self.mode, self.area.width, self.glyphs).iter().map(|l| l.plain()).collect()
            }
            Body::Page => self.lines.iter().map(|l| l.text.plain()).collect(),
            Body::Matrix => Vec::new(),
            Body::List => {
                let text = |&row: &usize| self.tab.view().text(self.snapshot(), row);
                self.list().visible.iter().map(text).collect()
            }
        }
    }

    fn place(&self) -> usize {
        match self.body() {
            Body::Help => self.help.unwrap_or(0),
            Body::Page => self.top().map_or(0, |open| open.found.or(open.link).unwrap_or(open.scroll)),
            Body::Matrix => 0,
            Body::List => self.list().selected,
        }
    }

    fn go_to_place(&mut self, at: usize) {
        let rows = self.page_rows();
        match self.body() {
            Body::Help => self.help = Some(at),
            Body::Page => {
                let link = self.lines.get(at).is_some_and(|l| l.link.is_some());
                if let Some(open) = self.top_mut() {
                    open.found = Some(at);
                    if !(open.scroll..open.scroll + rows).contains(&at) {
                        // Some lines above the match are shown as its context.
                        open.scroll = at.saturating_sub(rows / 3);
                    }
                    if link {
                        open.link = Some(at);
                    }
                }
                self.settle_link();
            }
            Body::Matrix => {}
            Body::List => {
                let snapshot = self.snapshot_arc();
                self.list_mut().select(at, &snapshot);
            }
        }
    }
}
