//! Places of the parts of a screen of a given size. `state` uses it for the length of a page, `view` for drawing.
//!
//! Decides heights and which parts are left out when there is little room. Loss and blind roles are left out last.

use ratatui::layout::Rect;

/// Parts of the screen; a part that found no room has height 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Header: loss and coverage always, the rest as lines allow.
    pub header: Rect,
    pub tabs: Rect,
    /// Panel above the list: on the overview, the rates.
    pub panel: Rect,
    /// Column heads of the list, or the title of the page.
    pub head: Rect,
    /// Rows of the list; empty where a page is open.
    pub list: Rect,
    /// Area below the list: the page of the selected row on a tall screen, else the row's last cell in full.
    pub preview: Rect,
    /// Page that replaces the list.
    pub page: Rect,
    /// Event that a replay applied last.
    pub event: Rect,
    /// Time bar with the position of a replay.
    pub bar: Rect,
    pub footer: Rect,
}

/// Parts that want room on the screen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wants {
    /// A notice line in the header.
    pub notice: bool,
    /// Lines above the list.
    pub panel: u16,
    /// The time bar, and the event that was applied last.
    pub bar: bool,
    /// A list if true, else a page.
    pub list: bool,
    /// Rows of the list.
    pub rows: usize,
}

/// Screens of this height have room for a preview. Those narrower than `PREVIEW_BELOW_WIDTH` need at least the row's last
/// cell.
const PREVIEW_HEIGHT: u16 = 20;
/// Screens of this height have a line for the event that a replay applied last.
const EVENT_HEIGHT: u16 = 24;
const PREVIEW_BELOW_WIDTH: u16 = 120;
const PREVIEW_ROWS: u16 = 2;
/// Height from which on the preview is the selected row's page.
const TALL: u16 = 36;
/// Rows of the list when a page is below it.
const ROWS_BESIDE: u16 = 12;

impl Layout {
    #[must_use]
    pub fn new(area: Rect, wants: Wants) -> Layout {
        let notice = u16::from(wants.notice);
        let header = match area.height {
            0..8 => 1,
            8..16 => 2 + notice,
            _ => 3 + notice,
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
        let bar_rows = u16::from(wants.bar && area.height >= 6);
        let event_rows = u16::from(wants.bar && area.height >= EVENT_HEIGHT);
        let around = header.height + tabs.height + footer_rows + bar_rows + event_rows;
        let body = area.height.saturating_sub(around);
        let (panel, list, preview) = if wants.list { parts(area, body, wants) } else { (0, 0, 0) };
        let panel = take(panel);
        let head = take(u16::from(if wants.list { list >= 3 } else { body >= 3 }));
        let list = take(list.saturating_sub(if wants.list { head.height } else { 0 }));
        let preview = take(preview);
        let page = take(if wants.list { 0 } else { body - head.height });
        let event = take(event_rows);
        let bar = take(bar_rows);
        Layout { header, tabs, panel, head, list, preview, page, event, bar, footer: take(footer_rows) }
    }

    /// True if the preview is a page, with a title.
    #[must_use]
    pub fn previews_page(&self) -> bool {
        self.preview.height > PREVIEW_ROWS
    }
}

/// Heights of the panel, of the list with its head, and of the preview.
fn parts(area: Rect, body: u16, wants: Wants) -> (u16, u16, u16) {
    let cell = area.height >= PREVIEW_HEIGHT && area.width < PREVIEW_BELOW_WIDTH;
    let least = if cell { PREVIEW_ROWS } else { 0 };
    let panel = if body >= wants.panel + least + 6 { wants.panel } else { 0 };
    let rest = body - panel;
    if area.height < TALL {
        return (panel, rest - least.min(rest), least.min(rest));
    }
    let rows = u16::try_from(wants.rows).unwrap_or(u16::MAX).saturating_add(2);
    let list = rows.clamp(4, ROWS_BESIDE.max(rest / 3)).min(rest);
    (panel, list, rest - list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fill_any_screen_without_overlap() {
        for (width, height) in (0..90).map(|h| (80, h)).chain([(20, 5), (0, 0), (1, 1), (200, 50)]) {
            for bits in 0..16 {
                let (notice, bar, list) = (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0);
                let rows = if bits & 8 > 0 { 5000 } else { 1 };
                let area = Rect::new(0, 0, width, height);
                let l = Layout::new(area, Wants { notice, panel: 9, bar, list, rows });
                let mut y = 0;
                let middle = [l.panel, l.head, l.list, l.preview, l.page];
                let below = [l.event, l.bar, l.footer];
                for part in [l.header, l.tabs].into_iter().chain(middle).chain(below) {
                    assert_eq!(part.y, y, "{width}x{height} {l:?}");
                    y += part.height;
                }
                assert_eq!(y, height, "{width}x{height} {l:?}");
                assert_eq!(l.header.height > 0, height > 0, "loss is always there");
            }
        }
    }
}
