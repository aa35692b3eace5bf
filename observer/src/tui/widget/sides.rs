//! How tasks block each other: a lane for each party with the locks it held and the lock it requested.
//!
//! Times are not drawn: bars are in the order in which the locks were acquired. Words at the bars replace the arrows that
//! close a cycle; the report's table has the scenario in turns.

use observer_engine::{
    event::Mode,
    finding::{AcquireKind, AgainstOrder, Cycle, Hold, Party, Rank, Relock, Step},
    lock_class::LockClass,
};

use super::super::text::{Text, Tone};
use super::super::words::short_span;
use super::canvas::{Frame, Row, clip, words};
use super::glyphs::Glyphs;
use super::lane;
use crate::sink::words::lock;
use crate::text::moment;

/// Cells of the words at the bars, on a narrow and on a wide screen.
const NOTES: [usize; 2] = [30, 60];
/// Cells of the question mark at the end of the bars.
const ASK: usize = 8;
/// Maximum number of locks of a party that are not part of the cycle.
const OTHERS: usize = 4;

/// One lane for each party of a cycle, and for each writer that queues between two readers.
#[must_use]
pub fn of_cycle(c: &Cycle, rank: Rank, start_ns: u64, width: usize, glyphs: &Glyphs) -> Vec<Text> {
    let n = c.steps.len();
    let merged = !c.recordings.is_empty();
    let mut out = Vec::new();
    let mut closing = Text::default();
    for (i, step) in c.steps.iter().enumerate() {
        let (next, before) = ((i + 1) % n, (i + n - 1) % n);
        let same = !merged && step.to_lock == c.steps[next].from_lock;
        let reads = (step.to_mode, c.steps[next].from_mode) == (Some(Mode::Read), Some(Mode::Read));
        let has = match (same, reads) {
            (true, false) => "holds it".to_owned(),
            (true, true) => "reads it, behind a writer".to_owned(),
            (false, _) => "holds such a lock".to_owned(),
        };
        let asked = if !merged && c.steps[before].to_lock == step.from_lock { "it" } else { "such a lock" };
        let wanted = format!("<- side {} requests {asked}", before + 1);
        let name = format!("SIDE {}", i + 1);
        let mut side = Lane::new(&name, step, start_ns, width, glyphs);
        side.notes.push((step.from_lock, wanted));
        side.notes.extend(c.gate.map(|(_, gate)| (gate, "the gate".to_owned())));
        side.ask.1 = format!("-> side {} {has}", next + 1);
        side.draw(&mut out);
        let verb = if step.waiting { "waits" } else { "would wait" };
        let which = if same { "which" } else { "such as" };
        let comma = if i == 0 { "" } else { "; " };
        closing = closing
            .and(Tone::Plain, format!("{comma}side {} {verb} for ", i + 1))
            .and(Tone::Label, step.to.name());
        closing = closing.and(Tone::Plain, format!(", {which} side {} holds", next + 1));
    }
    for q in &c.queued {
        writer(&mut out, c, q, start_ns, width, glyphs);
    }
    words(&mut out, closing, width);
    if let Some((class, _)) = c.gate {
        let text = format!("excluded by {}, which two sides hold and only one can", class.name());
        words(&mut out, Text::new(Tone::Good, text), width);
    }
    if rank == Rank::Confirmed {
        words(&mut out, Text::new(Tone::Alarm, "seen to hang: all of them were waiting at once"), width);
    }
    out
}

fn writer(
    out: &mut Vec<Text>,
    c: &Cycle,
    q: &observer_engine::finding::Queued,
    start_ns: u64,
    width: usize,
    glyphs: &Glyphs,
) {
    let Some(behind) = c.steps.get(q.step) else { return };
    Lane {
        name: "WRITER",
        side: &q.party,
        from: None,
        notes: Vec::new(),
        ask: (
            (behind.to, Some(Mode::Write), behind.to_lock),
            format!("side {} would wait behind this", q.step + 1),
        ),
        waiting: q.waiting,
        acquire: AcquireKind::Blocking,
        start_ns,
        width,
        glyphs,
    }
    .draw(out);
}

/// One lane: the held lock, and the requested one that the documents put before it.
#[must_use]
pub fn of_against(a: &AgainstOrder, start_ns: u64, width: usize, glyphs: &Glyphs) -> Vec<Text> {
    let mut out = Vec::new();
    let mut lane = Lane::new("SIDE", &a.step, start_ns, width, glyphs);
    lane.notes.push((a.step.from_lock, "held already".to_owned()));
    lane.ask.1 = "comes before what is held".to_owned();
    lane.draw(&mut out);
    let (outer, inner) = (a.step.to.name(), a.step.from.name());
    let text = format!("{outer} comes before {inner}, as documented in {}", a.source);
    words(&mut out, Text::new(Tone::Caution, text), width);
    out
}

/// One lane: a task requests a lock that it holds.
#[must_use]
pub fn of_relock(r: &Relock, start_ns: u64, width: usize, glyphs: &Glyphs) -> Vec<Text> {
    let mut out = Vec::new();
    Lane {
        name: "SIDE",
        side: &r.party,
        from: Some(r.held),
        notes: vec![(r.held.lock, "held already".to_owned())],
        ask: ((r.held.class, r.requested_mode, r.held.lock), "which it holds itself".to_owned()),
        waiting: false,
        acquire: AcquireKind::Blocking,
        start_ns,
        width,
        glyphs,
    }
    .draw(&mut out);
    if (r.held.mode, r.requested_mode) == (Some(Mode::Read), Some(Mode::Read)) {
        let text = "it hangs where a writer queues between the two";
        words(&mut out, Text::new(Tone::Plain, text), width);
    }
    out
}

struct Lane<'a> {
    name: &'a str,
    side: &'a Party,
    /// Lock that the finding is about, if it is not among the holds of the party.
    from: Option<Hold>,
    /// Words at held locks, by lock.
    notes: Vec<(u64, String)>,
    ask: ((LockClass, Option<Mode>, u64), String),
    waiting: bool,
    acquire: AcquireKind,
    start_ns: u64,
    width: usize,
    glyphs: &'a Glyphs,
}

impl<'a> Lane<'a> {
    fn new(name: &'a str, step: &'a Step, start_ns: u64, width: usize, glyphs: &'a Glyphs) -> Lane<'a> {
        let from = Hold {
            class: step.from,
            lock: step.from_lock,
            mode: step.from_mode,
            basis: step.from_basis,
            since_ns: step.party.time_ns,
            lossy: false,
        };
        Lane {
            name,
            side: &step.party,
            from: Some(from),
            notes: Vec::new(),
            ask: ((step.to, step.to_mode, step.to_lock), String::new()),
            waiting: step.waiting,
            acquire: step.acquire,
            start_ns,
            width,
            glyphs,
        }
    }

    /// Held locks in the order of acquisition, and the number of those left out.
    fn holds(&self) -> (Vec<Hold>, usize) {
        let relock = self.from.is_some_and(|h| h.lock == self.ask.0.2);
        let asked = |h: &&Hold| relock || h.lock != self.ask.0.2;
        let mut holds: Vec<Hold> = self.side.holds.iter().filter(asked).copied().collect();
        holds.extend(self.from.filter(|f| !holds.iter().any(|h| h.lock == f.lock)));
        let has_note = |h: &Hold| self.notes.iter().any(|(lock, _)| *lock == h.lock);
        holds.sort_by_key(|h| (!has_note(h), h.since_ns));
        let noted = holds.iter().filter(|h| has_note(h)).count();
        let cut = holds.len().saturating_sub(noted + OTHERS);
        holds.truncate(noted + OTHERS);
        holds.sort_by_key(|h| (h.since_ns, h.class));
        (holds, cut)
    }

    fn draw(&self, out: &mut Vec<Text>) {
        let at = format!(", at {}", moment(self.side.time_ns, self.start_ns));
        out.push(clip(lane::title(self.name, self.side, &at), self.width));
        let (holds, cut) = self.holds();
        let ((class, mode, address), note) = &self.ask;
        let Some(frame) = Frame::of(self.width) else {
            for h in &holds {
                let text = format!(" holds {}{}", lock(h.class, h.mode), self.note(h, false));
                out.push(clip(Text::new(Tone::Plain, text), self.width));
            }
            let text = format!(" requests {} {note}", lock(*class, *mode));
            return out.push(clip(Text::new(Tone::Plain, text), self.width));
        };
        let notes = NOTES[usize::from(frame.is_wide())].min(frame.cells / 2);
        let ask = frame.cells.saturating_sub(notes + ASK);
        for (i, h) in holds.iter().enumerate() {
            let has_note = self.notes.iter().any(|(lock, _)| *lock == h.lock);
            let tone = if has_note { Tone::Label } else { Tone::Plain };
            let mut row = Row::new(frame.cells);
            self.bar(&mut row, h, (2 * i).min(ask / 2), ask + ASK - 2, tone);
            row.put(ask + ASK, tone, self.note(h, frame.is_wide()).trim_start());
            let name = format!(" {}", lock(h.class, h.mode));
            out.push(clip(frame.line((tone, &name), &row, &format!("{:#x}", h.lock)), self.width));
        }
        if cut > 0 {
            out.push(clip(Text::new(Tone::Faint, format!(" +{cut} more held")), self.width));
        }
        let mut row = Row::new(frame.cells);
        row.fill(ask, ask + ASK - 2, Tone::Alarm, self.glyphs.waits);
        row.set(ask, Tone::Alarm, '?');
        let request = self.request();
        let tail = row_words(request, ask);
        row.put(ask.saturating_sub(tail.len() + 1), Tone::Plain, tail);
        row.put(ask + ASK, Tone::Label, note);
        let name = format!(" {}", lock(*class, *mode));
        out.push(clip(frame.line((Tone::Label, &name), &row, &format!("{address:#x}")), self.width));
    }

    fn request(&self) -> &'static str {
        match (self.waiting, self.acquire) {
            (true, _) => "waits for this",
            (false, AcquireKind::Blocking) => "requested this",
            (false, AcquireKind::TryThenBlock) => "tried, else waits",
            (false, AcquireKind::Try) => "tried only",
        }
    }

    /// Draws a held lock. The acquisition time of an inferred hold is not known: it has no begin.
    fn bar(&self, row: &mut Row, h: &Hold, from: usize, to: usize, tone: Tone) {
        let g = self.glyphs;
        if h.basis.is_inferred() {
            for column in (0..from).step_by(2) {
                row.set(column, tone, g.held);
            }
            row.fill(from, to, tone, g.held);
        } else {
            row.fill(from, to, tone, g.held);
            row.set(from, tone, g.begin);
        }
    }

    fn note(&self, h: &Hold, wide: bool) -> String {
        let note = self.notes.iter().find(|(lock, _)| *lock == h.lock).map_or("", |(_, note)| note);
        let held_ns = self.side.time_ns.saturating_sub(h.since_ns);
        match (wide && held_ns > 0 && !h.basis.is_inferred(), note) {
            (true, "") => format!(" held for {}", short_span(held_ns)),
            (true, note) => format!(" {note}; held for {}", short_span(held_ns)),
            (false, "") => String::new(),
            (false, note) => format!(" {note}"),
        }
    }
}

/// Words that end before a column; empty if they do not fit.
fn row_words(text: &str, column: usize) -> &str {
    if text.len() < column { text } else { "" }
}
