//! Where things stand on a screen of a given size. `state` needs it to know how long a page is, `view` to draw.
//!
//! Decides heights and what is left out when there is little room: loss and blindness last of all.

use ratatui::layout::Rect;

/// Parts of the screen; a part that found no room has height 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Loss and coverage always, the rest as lines allow.
    pub header: Rect,
    pub tabs: Rect,
    /// What stands above the list: on the overview the rates.
    pub panel: Rect,
    /// Column heads of the list.
    pub head: Rect,
    pub list: Rect,
    /// The selected row's last cell in full, where the list cuts it.
    pub preview: Rect,
    /// The title line and the text of the selected row's detail.
    pub detail: Rect,
    pub footer: Rect,
}

/// Screens of this size and more have room for a preview, narrower ones than the limit need one.
const PREVIEW_HEIGHT: u16 = 20;
const PREVIEW_BELOW_WIDTH: u16 = 120;
const PREVIEW_ROWS: u16 = 2;

/// Below this the detail takes the list's place instead of standing beneath it.
const SPLIT_ROWS: u16 = 14;

impl Layout {
    /// `notice`: there is one to show in the header; `panel_rows`: what the view would like above the list; `detail`:
    /// one is open.
    #[must_use]
    pub fn new(area: Rect, notice: bool, panel_rows: u16, detail: bool) -> Layout {
        let header = match area.height {
            0..8 => 1,
            8..16 => 2 + u16::from(notice),
            _ => 3 + u16::from(notice),
        };
        let mut rest = area;
        let mut take = |rows: u16| {
            let part = Rect { height: rows.min(rest.height), ..rest };
            rest.y += part.height;
            rest.height -= part.height;
            part
        };
        let header = take(header);
        let tabs = take(u16::from(area.height >= 4));
        let footer_rows = u16::from(area.height >= 3);
        let body = area.height.saturating_sub(header.height + tabs.height + footer_rows);
        let preview = area.height >= PREVIEW_HEIGHT && area.width < PREVIEW_BELOW_WIDTH && !detail;
        let preview_rows = if preview { PREVIEW_ROWS } else { 0 };
        let (panel_rows, list_rows, detail_rows) = match (detail, body) {
            (false, _) => {
                let panel = if body >= panel_rows + preview_rows + 6 { panel_rows } else { 0 };
                (panel, body - panel - preview_rows, 0)
            }
            (true, 0..SPLIT_ROWS) => (0, 0, body),
            (true, _) => (0, body / 3, body - body / 3),
        };
        let panel = take(panel_rows);
        let head = take(u16::from(list_rows >= 3));
        let list = take(list_rows - head.height);
        let preview = take(preview_rows);
        let detail = take(detail_rows);
        Layout { header, tabs, panel, head, list, preview, detail, footer: take(footer_rows) }
    }

    /// Lines of a detail's text: its part without the title line.
    #[must_use]
    pub fn detail_rows(&self) -> u16 {
        self.detail.height.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fill_any_screen_without_overlap() {
        for (width, height) in (0..90).map(|h| (80, h)).chain([(20, 5), (0, 0), (1, 1)]) {
            for (notice, detail) in [(false, false), (false, true), (true, false), (true, true)] {
                let area = Rect::new(0, 0, width, height);
                let l = Layout::new(area, notice, 7, detail);
                let mut y = 0;
                for part in [l.header, l.tabs, l.panel, l.head, l.list, l.preview, l.detail, l.footer] {
                    assert_eq!(part.y, y, "{width}x{height} {l:?}");
                    y += part.height;
                }
                assert_eq!(y, height, "{width}x{height} {l:?}");
                assert_eq!(l.header.height > 0, height > 0, "loss is always there");
            }
        }
    }
}
