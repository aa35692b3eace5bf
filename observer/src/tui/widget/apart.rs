//! Picture of a prediction, a window that did not happen: its two parties, each in its own time. A missing excluder is drawn
//! as a row in the lane that lacks it, next to the rows of held locks.

use observer_engine::{
    finding::{Party, Prediction, Rank},
    lock_class::LockClass,
};

use super::super::text::{Text, Tone};
use super::canvas::{Frame, Row, clip, legend, words};
use super::glyphs::Glyphs;
use super::{bars, lane};
use crate::sink::finding::prediction;
use crate::text::moment;

/// Draws both parties. `start_ns`: start of the run.
#[must_use]
pub fn lines(p: &Prediction, rank: Rank, start_ns: u64, width: usize, glyphs: &Glyphs) -> Vec<Text> {
    let mut out = Vec::new();
    if let Some(frame) = Frame::of(width) {
        let holder = Lane { side: &p.holder, looks_up: true, start_ns, frame, glyphs };
        holder.draw(&mut out, "HOLDER", &p.would_exclude);
        let unlinker = Lane { side: &p.unlinker, looks_up: false, start_ns, frame, glyphs };
        unlinker.draw(&mut out, "UNLINKER", &p.unlinker_lacks);
        let Glyphs { held, .. } = glyphs;
        let parts = [
            (Tone::Plain, "L looked up".to_owned()),
            (Tone::Alarm, "X unlinked".to_owned()),
            (Tone::Plain, format!("{held}{held}{held} held")),
            (Tone::Plain, format!("{held} {held} unknown duration")),
        ];
        legend(&mut out, &parts, width);
    }
    let tone = if rank.is_alarm() { Tone::Alarm } else { Tone::Caution };
    let why = format!(", and {}: ", prediction::apart(p));
    let text = Text::new(tone, "they did not meet").and(Tone::Plain, why);
    words(&mut out, text.and(Tone::Plain, help(p)), width);
    out.into_iter().map(|line| clip(line, width)).collect()
}

fn help(p: &Prediction) -> String {
    let list = p.would_exclude.iter().map(|c| c.name()).collect::<Vec<_>>().join(" or ");
    let (holder, unlinker) = (&p.holder.site, &p.unlinker.site);
    if list.is_empty() {
        return format!("no lock that {unlinker} held would have kept it away");
    }
    format!("missing in {holder}: {list}, from the lookup to the last use")
}

/// Lane of one party. Both lanes put the party's own moment in the same column; their times have nothing else in common.
struct Lane<'a> {
    side: &'a Party,
    /// True for the holder.
    looks_up: bool,
    start_ns: u64,
    frame: Frame,
    glyphs: &'a Glyphs,
}

impl Lane<'_> {
    fn at(&self) -> usize {
        self.frame.cells / 3
    }

    fn draw(&self, out: &mut Vec<Text>, name: &str, lacks: &[LockClass]) {
        let at = format!(", at {}", moment(self.side.time_ns, self.start_ns));
        out.push(lane::title(name, self.side, &at));
        self.access(out);
        let mut held = Vec::new();
        bars::add_holds(&mut held, self.side);
        let (locks, more) = lane::locks(held, self.side, &[], |_| false, (0, u64::MAX), &self.frame);
        for (lock, name) in locks.iter().zip(lane::names(&locks, &[])) {
            let mut row = Row::new(self.frame.cells);
            self.held(&mut row);
            self.push(out, (Tone::Plain, &name), row, &format!("{:#x}", lock.address));
        }
        if locks.is_empty() {
            let mut row = Row::new(self.frame.cells);
            row.put(0, Tone::Caution, "none");
            self.push(out, (Tone::Plain, " locks"), row, "");
        }
        out.extend(lane::more(&more));
        for class in lacks {
            self.lack(out, *class);
        }
    }

    fn access(&self, out: &mut Vec<Text>) {
        let (at, last) = (self.at(), self.frame.cells - 1);
        let mut row = Row::new(self.frame.cells);
        if self.looks_up {
            row.fill(at, last, Tone::Good, self.glyphs.lease);
            row.set(last, Tone::Good, '>');
            row.set(at, Tone::Label, 'L');
            self.push(out, (Tone::Label, " pointer"), row, "");
        } else {
            row.set(at, Tone::Alarm, 'X');
            self.push(out, (Tone::Label, " link"), row, "");
        }
    }

    /// Draws locks as held: by the holder for the whole lease, by the unlinker only around its moment, because no more is
    /// known.
    fn held(&self, row: &mut Row) {
        let (at, last) = (self.at(), self.frame.cells - 1);
        let sure = if self.looks_up { (at, last) } else { (at.saturating_sub(3), at + 3) };
        for column in 0..=last {
            if column % 2 == 0 || (sure.0..=sure.1).contains(&column) {
                row.set(column, Tone::Plain, self.glyphs.held);
            }
        }
    }

    /// Draws a lock class that would have excluded the two.
    fn lack(&self, out: &mut Vec<Text>, class: LockClass) {
        let another = self.side.holds.iter().any(|h| h.class == class);
        let text = if another { " NOT THE SAME ONE " } else { " NOT HELD " };
        let mut row = Row::new(self.frame.cells);
        let from = if self.looks_up { self.at() } else { 0 };
        for column in (from..self.frame.cells).step_by(2) {
            row.set(column, Tone::Caution, self.glyphs.none);
        }
        let at = from + (self.frame.cells - from).saturating_sub(text.len()) / 2;
        row.put(at, Tone::Caution, text);
        self.push(out, (Tone::Caution, &format!(" {}", class.name())), row, "");
    }

    fn push(&self, out: &mut Vec<Text>, name: (Tone, &str), mut row: Row, address: &str) {
        row.under(self.at(), Tone::Faint, self.glyphs.guide);
        out.push(self.frame.line(name, &row, address));
    }
}
