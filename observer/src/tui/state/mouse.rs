//! The mouse, if it is turned on: the meaning of clicks and the wheel.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};

use super::{Body, Effect, State};
use crate::snapshot::To;

/// Rows of a turn of the wheel.
const WHEEL: isize = 3;

impl State {
    pub(super) fn toggle_mouse(&mut self) {
        self.mouse = !self.mouse;
        self.effects.push(Effect::Mouse(self.mouse));
        self.say(if self.mouse { "mouse on: M gives it back to the terminal" } else { "mouse off" });
    }

    /// Handles a mouse event.
    pub fn pointed(&mut self, event: MouseEvent) {
        let at = (event.column, event.row);
        match event.kind {
            MouseEventKind::ScrollDown => self.move_by(WHEEL),
            MouseEventKind::ScrollUp => self.move_by(-WHEEL),
            MouseEventKind::Down(MouseButton::Left) => self.clicked(at),
            MouseEventKind::Down(MouseButton::Right) => self.back(),
            _ => return,
        }
        self.scroll();
    }

    fn clicked(&mut self, at: (u16, u16)) {
        let layout = self.layout();
        if layout.tabs.row_of(at).is_some() {
            let tab = self.targets.tabs.iter().find(|(_, cells)| cells.contains(&at.0));
            if let Some((tab, _)) = tab {
                self.go(*tab);
            }
        } else if layout.bar.row_of(at).is_some() {
            let time_ns = self.targets.bar.as_ref().and_then(|bar| bar.time_at(at.0.into()));
            if let Some(time_ns) = time_ns {
                self.seek(To::Time(time_ns));
            }
        } else if let Some(row) = layout.list.row_of(at)
            && self.body() == Body::List
        {
            let place = self.list().offset + row;
            if place == self.list().selected {
                self.open();
            } else if place < self.list().visible.len() {
                let snapshot = self.snapshot_arc();
                self.list_mut().select(place, &snapshot);
            }
        } else if let Some(row) = layout.page.row_of(at)
            && self.body() == Body::Page
        {
            self.clicked_line(row);
        }
    }

    fn clicked_line(&mut self, row: usize) {
        let Some(open) = self.top() else { return };
        let (line, chosen) = (open.scroll + row, open.link);
        if self.lines.get(line).is_some_and(|l| l.link.is_some()) {
            if chosen == Some(line) {
                self.open();
            } else if let Some(open) = self.top_mut() {
                open.link = Some(line);
            }
        }
    }
}
