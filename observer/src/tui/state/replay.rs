//! Moves through a recording.

use super::{Body, Effect, State};
use crate::snapshot::{Command, Position, Replay, To};
use crate::tui::keys::Action;
use crate::tui::list::Pin;
use crate::tui::prompt::Purpose;
use crate::tui::tab::Tab;
use crate::tui::target::Page;

/// Slowest and fastest speed that keys reach; the next step up is as fast as possible.
const SPEEDS: (f32, f32) = (1.0 / 1024.0, 1024.0);
/// Divisor of the recording's length that gives one jump.
const JUMP: u64 = 20;

fn faster(speed: Option<f32>) -> Option<f32> {
    speed.map(|n| n * 2.0).filter(|n| *n <= SPEEDS.1)
}

fn slower(speed: Option<f32>) -> Option<f32> {
    Some(speed.map_or(SPEEDS.1, |n| (n / 2.0).max(SPEEDS.0)))
}

impl State {
    /// Position in the recording; `None` if there is nothing to seek in.
    #[must_use]
    pub fn recording(&self) -> Option<&Replay> {
        match &self.latest.position {
            Position::Replay(r) => Some(r),
            Position::Live | Position::Ended => None,
        }
    }

    pub(super) fn replay(&mut self, action: Action) {
        let Some(r) = self.recording().cloned() else {
            self.complain("nothing has been read yet");
            return;
        };
        let length_ns = r.end_ns.saturating_sub(r.start_ns);
        let now_ns = self.latest.now_ns;
        match action {
            Action::Pause => {
                self.pace.paused = !self.pace.paused;
                self.mark = None;
                self.effects.push(Effect::Send(Command::Pause(self.pace.paused)));
            }
            Action::StepOn => self.step(1),
            Action::StepBack => self.step(-1),
            Action::NextFinding => self.go_to_mark(&r, true),
            Action::FormerFinding => self.go_to_mark(&r, false),
            Action::SeekOn => {
                self.seek(To::Time(now_ns.saturating_add(length_ns / JUMP).min(r.end_ns)));
            }
            Action::SeekBack => {
                self.seek(To::Time(now_ns.saturating_sub(length_ns / JUMP).max(r.start_ns)));
            }
            Action::GoTo => self.ask(Purpose::GoTo, String::new()),
            Action::Faster => self.set_speed(faster(self.pace.speed)),
            Action::Slower => self.set_speed(slower(self.pace.speed)),
            // Pressed again: in real time.
            Action::FlatOut => self.set_speed(if self.pace.speed.is_some() { None } else { Some(1.0) }),
            _ => {}
        }
    }

    fn set_speed(&mut self, speed: Option<f32>) {
        self.pace.speed = speed;
        self.effects.push(Effect::Send(Command::Speed(speed)));
    }

    fn pause(&mut self) {
        if !std::mem::replace(&mut self.pace.paused, true) {
            self.effects.push(Effect::Send(Command::Pause(true)));
        }
    }

    fn step(&mut self, events: i64) {
        self.pause();
        self.seek(To::Steps(events));
    }

    pub(super) fn seek(&mut self, to: To) {
        self.mark = None;
        self.wanted = None;
        // The target is somewhere else now: frozen rows would hide it.
        self.frozen = None;
        self.effects.push(Effect::Send(Command::Seek(to)));
    }

    /// Seeks to the next finding of the recording, or the previous one.
    fn go_to_mark(&mut self, r: &Replay, on: bool) {
        let now_ns = self.latest.now_ns;
        let next = match (self.mark, on) {
            (Some(at), true) => at + 1,
            (Some(at), false) => at.wrapping_sub(1),
            (None, true) => r.marks.partition_point(|m| m.reported_ns <= now_ns),
            (None, false) => r.marks.partition_point(|m| m.reported_ns < now_ns).wrapping_sub(1),
        };
        let Some(mark) = r.marks.get(next) else {
            let unread = if r.read_ns < r.end_ns { " in what was read" } else { "" };
            self.say(match (r.marks.is_empty(), on) {
                (true, _) => format!("there is no finding{unread}"),
                (false, true) => format!("no mark after this{unread}"),
                (false, false) => "no mark before this".to_owned(),
            });
            return;
        };
        self.pause();
        self.seek(To::Time(mark.reported_ns));
        self.mark = Some(next);
        // Marks count reports, not the findings of the header: a finding that is reported here may have been superseded
        // later.
        let at = crate::text::moment(mark.reported_ns, r.start_ns);
        self.say(format!(
            "mark {} of {}: {} first reported at {at}",
            next + 1,
            r.marks.len(),
            mark.rank.name()
        ));
        let page = Page::Finding(mark.id.clone());
        if let Some(open) = self.top_mut()
            && matches!(open.page, Page::Finding(_))
        {
            *open = super::Open::new(page);
            self.refresh_lines();
            return;
        }
        self.wanted = Some(mark.id.clone());
        if self.body() != Body::List || !self.tab.view().findings {
            self.pages[Tab::Overview as usize].clear();
            self.go(Tab::Overview);
        }
        self.select_wanted();
    }

    /// Selects the finding that was sought, as soon as it is listed.
    pub(super) fn select_wanted(&mut self) {
        let Some(id) = self.wanted.clone() else { return };
        let page = Page::Finding(id);
        let snapshot = self.snapshot_arc();
        if self.list_mut().find(&page, &snapshot) {
            // Pins the row even at the first place, which would otherwise be pinned as a place.
            self.list_mut().pin = Pin::Row(page);
            self.wanted = None;
            self.scroll();
        }
    }

    /// Seeks to a position as it is typed: `+1.25`, `50%`, `#1200`, `end`.
    pub(super) fn go_to(&mut self, text: &str) -> Result<(), String> {
        let Some(r) = self.recording() else { return Err("nothing has been read yet".into()) };
        let to = place(text, r).ok_or("a time as +1.25, a place as 50%, an event as #1200, or end")?;
        self.seek(to);
        Ok(())
    }
}

fn place(text: &str, r: &Replay) -> Option<To> {
    let length_ns = r.end_ns.saturating_sub(r.start_ns);
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    if matches!(text, "end" | "$") {
        return Some(To::End);
    }
    if let Some(event) = text.strip_prefix('#') {
        return event.replace(',', "").parse().ok().map(To::Event);
    }
    if let Some(percent) = text.strip_suffix('%') {
        let part = number(percent)?.min(100.0) / 100.0;
        return Some(To::Time(r.start_ns.saturating_add((length_ns as f64 * part) as u64)));
    }
    let seconds = number(text.trim_start_matches('+').trim_end_matches('s'))?;
    Some(To::Time(r.start_ns.saturating_add((seconds * 1e9) as u64).min(r.end_ns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_position_reads_as_it_is_shown() {
        let r = Replay { start_ns: 1_000_000_000, end_ns: 11_000_000_000, ..Replay::default() };
        let read = |text| place(text, &r);
        assert_eq!(read("+1.25"), Some(To::Time(2_250_000_000)));
        assert_eq!(read("+1.250000 s"), Some(To::Time(2_250_000_000)));
        assert_eq!(read("99"), Some(To::Time(11_000_000_000)));
        assert_eq!(read("50%"), Some(To::Time(6_000_000_000)));
        assert_eq!(read("#12,000"), Some(To::Event(12_000)));
        assert_eq!(read("end"), Some(To::End));
        assert_eq!(["", "x", "-1", "nan", "#", "%"].map(read), [None; 6]);
    }

    #[test]
    fn speeds_have_a_minimum_and_a_maximum() {
        assert_eq!(faster(Some(1024.0)), None);
        assert_eq!(slower(None), Some(1024.0));
        assert_eq!(slower(Some(SPEEDS.0)), Some(SPEEDS.0));
    }
}
