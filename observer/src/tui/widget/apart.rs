//! A window that did not happen: its two sides, each in its own time. Decides how it is shown what is missing: as a row of the
//! lane that lacks it, beside those of what was held.

use observer_engine::{
    finding::{Prediction, Rank, Side},
    lock_class::LockClass,
};

use super::super::text::Text;
use super::super::theme::Tone;
use super::super::words::short_span;
use super::axis::Axis;
use super::bars;
use super::canvas::{Frame, Row, clip, words};
use super::glyphs::Glyphs;
use super::lane::{self, Seen};
use super::timeline::legend;
use crate::sink::words::moment;

/// Draws both sides; `start_ns`: of the run.
#[must_use]
pub fn lines(p: &Prediction, rank: Rank, start_ns: u64, width: usize, glyphs: &Glyphs) -> Vec<Text> {
    let mut out = Vec::new();
    if let Some(frame) = Frame::of(width) {
        let mut seen = Seen::default();
        let mut lane = |name, side, mark, lacks: &[LockClass]| {
            Lane { name, side, mark, lacks, start_ns, frame, glyphs }.draw(&mut out, &mut seen);
        };
        lane("HOLDER", &p.holder, 'L', &p.would_exclude);
        lane("UNLINKER", &p.unlinker, 'X', &p.unlinker_lacks);
        let mut parts =
            vec![(Tone::Plain, "L looked up".to_owned()), (Tone::Alarm, "X link removed".to_owned())];
        lane::legend(&mut parts, &seen, glyphs);
        legend(&mut out, &parts, width);
    }
    let tone = if rank.is_alarm() { Tone::Alarm } else { Tone::Caution };
    let text = Text::new(tone, "they did not meet").and(Tone::Plain, ", and nothing keeps them apart: ");
    words(&mut out, text.and(Tone::Plain, help(p)), width);
    out.into_iter().map(|line| clip(line, width)).collect()
}

fn help(p: &Prediction) -> String {
    let list = |classes: &[LockClass]| classes.iter().map(|c| c.name()).collect::<Vec<_>>().join(" or ");
    let (holder, unlinker) = (&p.holder.site, &p.unlinker.site);
    match &p.would_exclude[..] {
        [] => format!("no lock that {unlinker} held would have kept it away"),
        missing => format!("{holder} lacks {}, from the lookup to the last use", list(missing)),
    }
}

struct Lane<'a> {
    name: &'a str,
    side: &'a Side,
    mark: char,
    lacks: &'a [LockClass],
    start_ns: u64,
    frame: Frame,
    glyphs: &'a Glyphs,
}

impl Lane<'_> {
    fn draw(&self, out: &mut Vec<Text>, seen: &mut Seen) {
        let at_ns = self.side.time_ns;
        let mut bars = Vec::new();
        bars::add_holds(&mut bars, self.side);
        let taken: Vec<u64> = bars.iter().filter_map(|b| b.begin_ns).collect();
        let begin_ns = taken.iter().copied().min().unwrap_or(at_ns).min(at_ns);
        // What comes after is not known, and has half as much room.
        let after_ns = at_ns.saturating_add((at_ns - begin_ns) / 2).saturating_add(1);
        let axis = Axis::new(&[begin_ns, at_ns, after_ns], &taken, self.frame.cells);
        let edges = axis.edges();
        let (locks, more) = lane::locks(bars, self.side, &[at_ns], edges, &self.frame);

        out.push(lane::title(self.name, self.side, ""));
        self.head(out, &axis, begin_ns);
        for (lock, name) in locks.iter().zip(lane::names(&locks)) {
            let mut row = Row::new(self.frame.cells);
            lane::draw(&mut row, lock, &axis, self.glyphs, Tone::Plain, seen);
            self.push(out, &axis, (Tone::Plain, &name), row, &format!("{:#x}", lock.address));
        }
        if locks.is_empty() {
            let mut row = Row::new(self.frame.cells);
            row.put(0, Tone::Caution, "none");
            self.push(out, &axis, (Tone::Plain, " locks"), row, "");
        }
        out.extend(lane::more(&more));
        for class in self.lacks {
            self.lack(out, &axis, *class);
        }
    }

    fn head(&self, out: &mut Vec<Text>, axis: &Axis, begin_ns: u64) {
        let at_ns = self.side.time_ns;
        let mut times = vec![(at_ns, format!("{} +{}", self.mark, short_span(at_ns - begin_ns)))];
        if begin_ns < at_ns {
            times.push((begin_ns, "0".into()));
        } else {
            times = vec![(at_ns, format!("{} 0", self.mark))];
        }
        let rows = axis.head(&times, self.frame.cells, self.glyphs);
        let scale = if axis.is_to_scale() { "to scale" } else { "not to scale" };
        for (i, row) in rows.iter().enumerate() {
            let ticks = i + 1 == rows.len();
            let name = if ticks { scale } else { "from its first lock" };
            let zero =
                if ticks { format!("0 is {}", moment(begin_ns, self.start_ns)) } else { String::new() };
            out.push(self.frame.line((Tone::Faint, name), row, &zero));
        }
    }

    /// A lock of this class would have kept the two apart.
    fn lack(&self, out: &mut Vec<Text>, axis: &Axis, class: LockClass) {
        let another = self.side.holds.iter().any(|h| h.class == class);
        let text = if another { " not the other's " } else { " not held " };
        let mut row = Row::new(self.frame.cells);
        for column in (0..self.frame.cells).step_by(2) {
            row.set(column, Tone::Caution, self.glyphs.none);
        }
        let at = self.frame.cells.saturating_sub(text.len()) / 2;
        row.put(at, Tone::Caution, text);
        self.push(out, axis, (Tone::Caution, &format!(" {}", class.name())), row, "");
    }

    fn push(&self, out: &mut Vec<Text>, axis: &Axis, name: (Tone, &str), mut row: Row, address: &str) {
        row.under(axis.column(self.side.time_ns), Tone::Faint, self.glyphs.guide);
        out.push(self.frame.line(name, &row, address));
    }
}
