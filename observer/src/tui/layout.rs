//! Places of the parts of a screen of a given size. `state` uses it for the length of a page, `view` for drawing.
//!
//! Decides heights and which parts are left out when there is little room. Loss and blind roles are left out last. Draws
//! nothing: keys that arrive between two frames need the length of a page that nobody has seen.

use std::ops::Range;

use super::tab::Tab;
use super::widget::timebar::Scale;

/// A part of the screen, in cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Area {
    pub x: u16,
    pub y: u16,
    pub width: u16,
    pub height: u16,
}

impl Area {
    #[must_use]
    pub fn new(width: u16, height: u16) -> Area {
        Area { x: 0, y: 0, width, height }
    }

    /// Row of a cell below the area's first one; `None` if the cell is outside.
    #[must_use]
    pub fn row_of(self, (x, y): (u16, u16)) -> Option<usize> {
        let (right, below) = (x.checked_sub(self.x)?, y.checked_sub(self.y)?);
        (right < self.width && below < self.height).then_some(below.into())
    }
}

/// Places of the last frame that the mouse can point at, and that depend on its words.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Columns of each view's name.
    pub tabs: Vec<(Tab, Range<u16>)>,
    pub bar: Option<Scale>,
}

/// Parts of the screen; a part that found no room has height 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Header: loss and coverage always, the rest as lines allow.
    pub header: Area,
    pub tabs: Area,
    /// Panel above the list: on the overview, the rates.
    pub panel: Area,
    /// Column heads of the list, or the title of the page.
    pub head: Area,
    /// Rows of the list; empty where a page is open.
    pub list: Area,
    /// Area below the list: the page of the selected row on a tall screen, else the row's last cell in full.
    pub preview: Area,
    /// Page that replaces the list.
    pub page: Area,
    /// Event that a replay applied last.
    pub event: Area,
    /// Time bar with the position of a replay.
    pub bar: Area,
    pub footer: Area,
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
    pub fn new(area: Area, wants: Wants) -> Layout {
        let notice = u16::from(wants.notice);
        let header = match area.height {
            0..8 => 1,
            8..16 => 2 + notice,
            _ => 3 + notice,
        };
        let mut rest = area;
        let mut take = |rows: u16| {
            let part = Area { height: rows.min(rest.height), ..rest };
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

    /// Rows of help text on a screen of this height: all except its title and the footer.
    #[must_use]
    pub fn help_rows(height: u16) -> u16 {
        height.saturating_sub(2)
    }

    /// True if the preview is a page, with a title.
    #[must_use]
    pub fn previews_page(&self) -> bool {
        self.preview.height > PREVIEW_ROWS
    }
}

/// Heights of the panel, of the list with its head, and of the preview.
fn parts(area: Area, body: u16, wants: Wants) -> (u16, u16, u16) {
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
                let area = Area::new(width, height);
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
