//! A window in two lanes: the task with the pointer, and the task that unlinked the table.
//!
//! Decides which parts of a window are drawn, and the one sentence that says what it shows. The lease, the unlink and what
//! followed are from the evidence. Held locks and their durations are from the events where there are any.

use observer_engine::{
    event::{Body, Mode, SiteId, Tid},
    finding::{Hold, Party, Rank, Use, WindowCase},
    lock_class::LockClass,
    setup::{Exclusion, Role, Setup},
};

use super::super::text::{Text, Tone};
use super::super::words::short_span;
use super::axis::Axis;
use super::bars::{self, Bar};
use super::canvas::{Frame, Row, clip, legend, words};
use super::glyphs::Glyphs;
use super::lane::{self, Lock, Seen};
use crate::events::EventRow;
use crate::sink::words::lock;
use crate::text::{moment, span};

/// Draws one window. `events`: known events of its two tasks around it, oldest first; `start_ns`: start of the run.
#[must_use]
pub fn lines(
    case: &WindowCase,
    rank: Rank,
    events: &[EventRow],
    setup: &Setup,
    start_ns: u64,
    width: usize,
    glyphs: &Glyphs,
) -> Vec<Text> {
    let times = Times::of(case);
    let mut out = Vec::new();
    if let Some(frame) = Frame::of(width) {
        Picture { case, rank, times, setup, start_ns, frame, glyphs, seen: Seen::default() }
            .draw(&mut out, events);
    }
    said(&mut out, case, rank, &times, width);
    out.into_iter().map(|line| clip(line, width)).collect()
}

/// Moments of the window.
#[derive(Clone, Copy)]
struct Times {
    lookup_ns: u64,
    lo_ns: u64,
    hi_ns: u64,
    /// Last moment of certain use; `hi_ns` if there is none after the unlink.
    certain_ns: u64,
    /// Last moment of possible use.
    end_ns: u64,
    used_ns: Option<u64>,
    freed_ns: Option<u64>,
}

impl Times {
    fn of(c: &WindowCase) -> Times {
        let certain_ns = c.unlink_hi_ns.saturating_add(c.certain_ns);
        Times {
            lookup_ns: c.holder.time_ns,
            lo_ns: c.unlink_lo_ns,
            hi_ns: c.unlink_hi_ns,
            certain_ns,
            end_ns: c.unlink_lo_ns.saturating_add(c.possible_ns).max(certain_ns),
            used_ns: if let Use::Seen(ns) = c.used { Some(ns) } else { None },
            freed_ns: c.freed_ns,
        }
    }

    /// Moments, the most important first: those that do not fit are left out.
    fn all(&self) -> Vec<u64> {
        let certain = (self.certain_ns > self.hi_ns).then_some(self.certain_ns);
        let fixed = [Some(self.lookup_ns), Some(self.hi_ns), Some(self.end_ns), self.used_ns, self.freed_ns];
        let mut all: Vec<u64> = Vec::new();
        for ns in fixed.into_iter().chain([Some(self.lo_ns), certain]).flatten() {
            if !all.contains(&ns) {
                all.push(ns);
            }
        }
        all
    }
}

struct Picture<'a> {
    case: &'a WindowCase,
    rank: Rank,
    times: Times,
    setup: &'a Setup,
    start_ns: u64,
    frame: Frame,
    glyphs: &'a Glyphs,
    seen: Seen,
}

impl Picture<'_> {
    fn draw(mut self, out: &mut Vec<Text>, events: &[EventRow]) {
        let (c, t) = (self.case, self.times);
        let mut holder = bars::of_task(events, c.holder.task.tid);
        let mut unlinker = bars::of_task(events, c.unlinker.task.tid);
        bars::add_holds(&mut holder, &c.holder);
        if let Some(side) = &c.at_use {
            bars::add_holds(&mut holder, side);
        }
        bars::add_holds(&mut unlinker, &c.unlinker);
        bars::wait_for_each_other(&mut holder, &mut unlinker);
        let edges = Axis::new(&t.all(), &[], self.frame.cells).edges();
        let at = [t.lookup_ns, t.hi_ns, t.used_ns.unwrap_or(t.hi_ns)];
        let first = |class: LockClass| self.keeps_away(class);
        let (holder, more_of_holder) = lane::locks(holder, &c.holder, &at, first, edges, &self.frame);
        let (unlinker, more_of_unlinker) =
            lane::locks(unlinker, &c.unlinker, &at[1..], first, edges, &self.frame);
        let bars = || holder.iter().chain(&unlinker).flat_map(|l| &l.bars);
        let others: Vec<u64> = bars().flat_map(Bar::moments).collect();
        let axis = Axis::new(&t.all(), &others, self.frame.cells);

        self.head(out, &axis);
        out.push(lane::title("HOLDER", &c.holder, ""));
        self.operation(out, &axis, events, &c.holder, t.lookup_ns);
        self.pointer(out, &axis);
        self.locks(out, &axis, &holder, &unlinker);
        out.extend(lane::more(&more_of_holder));
        let same = if c.holder.site == c.unlinker.site { ", as the holder" } else { "" };
        out.push(lane::title("UNLINKER", &c.unlinker, same));
        self.operation(out, &axis, events, &c.unlinker, t.hi_ns);
        self.link(out, &axis);
        self.locks(out, &axis, &unlinker, &holder);
        out.extend(lane::more(&more_of_unlinker));
        self.legend(out);
    }

    fn head(&self, out: &mut Vec<Text>, axis: &Axis) {
        let lookup_ns = self.times.lookup_ns;
        let hi_ns = self.times.hi_ns;
        let since = |ns: u64, zero_ns: u64| match ns.checked_sub(zero_ns) {
            Some(0) => "0".to_owned(),
            Some(after) => format!("+{}", short_span(after)),
            None => format!("-{}", short_span(zero_ns - ns)),
        };
        // Long after the lookup three digits are not enough: the time is then given since the unlink.
        let word = |ns: u64| match since(ns, lookup_ns) {
            same if ns != hi_ns && same == since(hi_ns, lookup_ns) => format!("X{}", since(ns, hi_ns)),
            text => text,
        };
        let times: Vec<(u64, String)> = self.times.all().into_iter().map(|ns| (ns, word(ns))).collect();
        let rows = axis.head(&times, self.frame.cells, self.glyphs);
        let scale = if axis.is_to_scale() { "to scale" } else { "not to scale" };
        let last = rows.len() - 1;
        for (i, row) in rows.iter().enumerate() {
            let (name, address) = match last - i {
                0 => (scale, format!("0 is {}", moment(lookup_ns, self.start_ns))),
                1 => ("since lookup", String::new()),
                _ => ("", String::new()),
            };
            out.push(self.frame.line((Tone::Faint, name), row, &address));
        }
    }

    /// Draws the operation that contains the moment, if the events have it.
    fn operation(&self, out: &mut Vec<Text>, axis: &Axis, events: &[EventRow], side: &Party, at_ns: u64) {
        let Some((begin_ns, end_ns)) = operation(events, self.setup, side, at_ns) else { return };
        let mut row = Row::new(self.frame.cells);
        let (from_ns, to_ns) = axis.edges();
        let Glyphs { begin, held, end, .. } = *self.glyphs;
        let ends = end_ns.unwrap_or(u64::MAX);
        row.fill(axis.column(begin_ns), axis.column(ends), Tone::Faint, held);
        if begin_ns >= from_ns {
            row.set(axis.column(begin_ns), Tone::Faint, begin);
        }
        if ends <= to_ns {
            row.set(axis.column(ends), Tone::Faint, end);
        }
        self.push(out, axis, (Tone::Faint, " operation"), row, "");
    }

    /// Draws the lease: first while its link existed, then after the unlink.
    fn pointer(&self, out: &mut Vec<Text>, axis: &Axis) {
        let (t, g) = (self.times, self.glyphs);
        let [lookup, lo, hi, certain, end] =
            [t.lookup_ns, t.lo_ns, t.hi_ns, t.certain_ns, t.end_ns].map(|ns| axis.column(ns));
        let mut row = Row::new(self.frame.cells);
        row.fill(lookup, lo, Tone::Good, g.lease);
        row.fill(lo, end, Tone::Caution, g.possible);
        if t.certain_ns > t.hi_ns {
            row.fill(hi, certain, Tone::Alarm, g.certain);
        }
        row.set(lookup, Tone::Label, 'L');
        if let Some(ns) = t.used_ns {
            row.set(axis.column(ns), Tone::Label, 'U');
        }
        if self.rank == Rank::Revalidated {
            row.set(certain, Tone::Label, 'R');
        }
        self.push(out, axis, (Tone::Label, " pointer"), row, &format!("pte {}", self.case.pte));
    }

    /// Draws the unlink and what happened to the table.
    fn link(&self, out: &mut Vec<Text>, axis: &Axis) {
        let t = self.times;
        let (lo, hi) = (axis.column(t.lo_ns), axis.column(t.hi_ns));
        let mut row = Row::new(self.frame.cells);
        row.fill(lo, hi, Tone::Alarm, self.glyphs.possible);
        row.set(lo, Tone::Alarm, 'X');
        row.set(hi, Tone::Alarm, 'X');
        if let Some(ns) = t.freed_ns {
            row.set(axis.column(ns), Tone::Alarm, 'F');
        }
        let name = if t.freed_ns.is_some() { " link, table" } else { " link" };
        self.push(out, axis, (Tone::Label, name), row, &format!("table {}", self.case.table));
    }

    fn locks(&mut self, out: &mut Vec<Text>, axis: &Axis, locks: &[Lock], others: &[Lock]) {
        for (lock, name) in locks.iter().zip(lane::names(locks, others)) {
            self.seen.same |= name.starts_with('*');
            let mut row = Row::new(self.frame.cells);
            let tone = if self.keeps_away(lock.class) { Tone::Label } else { Tone::Plain };
            lane::draw(&mut row, lock, axis, self.glyphs, tone, &mut self.seen);
            self.push(out, axis, (tone, &name), row, &format!("{:#x}", lock.address));
        }
    }

    /// Returns true if locks of this class exclude the unlink.
    fn keeps_away(&self, class: LockClass) -> bool {
        keeps_away(self.setup, self.case).any(|e| e.class == class.wire())
    }

    /// Adds a row. The unlink is marked in all rows, so that it shows what was held then.
    fn push(&self, out: &mut Vec<Text>, axis: &Axis, name: (Tone, &str), mut row: Row, address: &str) {
        for ns in [self.times.lo_ns, self.times.hi_ns] {
            row.under(axis.column(ns), Tone::Faint, self.glyphs.guide);
        }
        out.push(self.frame.line(name, &row, address));
    }

    fn legend(&self, out: &mut Vec<Text>) {
        let (t, g) = (self.times, self.glyphs);
        let mut parts = vec![(Tone::Plain, "L looked up".to_owned())];
        let mut add = |is: bool, tone, text: String| {
            if is {
                parts.push((tone, text));
            }
        };
        let one = t.lo_ns == t.hi_ns;
        add(one, Tone::Alarm, "X unlinked".into());
        add(!one, Tone::Alarm, format!("X{0}{0}X unlinked in between", g.possible));
        add(t.certain_ns > t.hi_ns, Tone::Alarm, format!("{0}{0} stale for certain", g.certain));
        let perhaps = t.end_ns > t.certain_ns || !one;
        add(perhaps, Tone::Caution, format!("{0}{0} perhaps stale", g.possible));
        add(t.used_ns.is_some(), Tone::Plain, "U requested the table's PTL, and acquired it".into());
        add(self.rank == Rank::Revalidated, Tone::Plain, "R looked up again".into());
        add(t.freed_ns.is_some(), Tone::Alarm, "F page given back".into());
        lane::legend(&mut parts, &self.seen, g);
        let width = self.frame.names + 1 + self.frame.cells + self.frame.addresses;
        legend(out, &parts, width);
    }
}

/// Begin and end of the innermost operation of this party's site around a moment.
fn operation(events: &[EventRow], setup: &Setup, side: &Party, at_ns: u64) -> Option<(u64, Option<u64>)> {
    let is_it = |site: SiteId| {
        let it = setup.sites.iter().find(|s| s.id == site);
        it.is_some_and(|s| {
            s.function == *side.site && matches!(s.role, Role::Operation | Role::Callback | Role::Walk)
        })
    };
    let of = |tid: Tid, site| tid == side.task.tid && is_it(site);
    let mut open: Vec<u64> = Vec::new();
    for row in events.iter().filter(|r| of(r.event.tid, r.event.site)) {
        let now_ns = row.event.time_ns;
        match row.event.body {
            Body::OpBegin { .. } | Body::CallbackBegin { .. } if now_ns <= at_ns => open.push(now_ns),
            Body::OpEnd { .. } if now_ns >= at_ns => return open.pop().map(|begin| (begin, Some(now_ns))),
            Body::OpEnd { .. } => drop(open.pop()),
            _ => {}
        }
    }
    open.pop().map(|begin| (begin, None))
}

/// Exclusions that apply to the unlink of this window.
fn keeps_away<'a>(setup: &'a Setup, c: &'a WindowCase) -> impl Iterator<Item = &'a Exclusion> {
    let site = &c.unlinker.site;
    setup.exclusions.iter().filter(|e| !e.except_unlink_sites.iter().any(|s| **s == **site))
}

/// Says in words what the picture shows; these words are all there is where a picture has no room.
fn said(out: &mut Vec<Text>, c: &WindowCase, rank: Rank, t: &Times, width: usize) {
    let tone = if rank.is_alarm() { Tone::Alarm } else { Tone::Caution };
    let text = match (rank, c.certain_ns) {
        (Rank::Revalidated, ns) => Text::new(
            Tone::Good,
            format!(
                "stale for {}, and looked up again under the table's lock before it was used: correct",
                span(ns)
            ),
        ),
        (_, 0) if c.used != Use::No => {
            Text::new(tone, format!("used while stale; stale for up to {}", span(c.possible_ns)))
                .and(Tone::Plain, ", the length is not certain")
        }
        (_, 0) => Text::new(tone, format!("perhaps stale for up to {}", span(c.possible_ns)))
            .and(Tone::Plain, ": no moment of use after the unlink is certain"),
        (_, ns) => {
            let perhaps = if t.end_ns > t.certain_ns {
                format!(", perhaps for {}", span(t.end_ns.saturating_sub(t.lo_ns)))
            } else {
                String::new()
            };
            Text::new(tone, format!("stale for {}", span(ns)))
                .and(Tone::Plain, format!("{perhaps}: from the unlink to the last certain use"))
        }
    };
    let used = match c.used {
        Use::Seen(ns) if rank != Rank::Revalidated => match ns.saturating_sub(t.hi_ns) {
            0 => "; it acquired the PTL as soon as the unlinker released it".to_owned(),
            after => format!("; it requested the PTL {} after the unlink, and acquired it", span(after)),
        },
        Use::Contract => "; in use by contract: a callback was handed the pointer".to_owned(),
        Use::No if rank != Rank::Revalidated => "; no use was seen after it".to_owned(),
        _ => String::new(),
    };
    words(out, text.and(Tone::Plain, used), width);
    if rank == Rank::Incomplete {
        words(out, Text::new(Tone::Caution, "records were lost around it: it may have been less"), width);
    }
    if t.lo_ns != t.hi_ns {
        let text =
            format!("when the link went is known to within {} only", span(t.hi_ns.saturating_sub(t.lo_ns)));
        words(out, Text::new(Tone::Caution, text), width);
    }
    if let Some(ns) = t.freed_ns {
        let after = span(ns.saturating_sub(t.hi_ns));
        let text = format!("the table's page was freed {after} after the unlink, while the pointer was held");
        words(out, Text::new(Tone::Alarm, text), width);
    }
}

/// Lock that the holder lacks.
#[must_use]
pub fn missing(c: &WindowCase, setup: &Setup) -> Text {
    let site = &c.unlinker.site;
    let keeps = |class, mode: Option<Mode>| {
        keeps_away(setup, c).any(|e| e.class == class && mode.is_none_or(|m| e.modes.contains(&m)))
    };
    let held: Vec<&Hold> = c.holder.holds.iter().filter(|h| keeps(h.class.wire(), h.mode)).collect();
    if !held.is_empty() {
        let taken = |h: &&Hold| c.unlinker.holds.iter().any(|u| u.lock == h.lock);
        let then = if held.iter().all(taken) {
            "released before the unlink acquired it"
        } else {
            "released before the unlink, or not the same as those of the unlink"
        };
        let list: Vec<String> = held.iter().map(|h| lock(h.class, h.mode)).collect();
        let text =
            format!("of the locks that exclude {site} it held {} at the lookup: {then}", list.join(", "));
        return Text::new(Tone::Plain, text);
    }
    let keeps = |h: &&Hold| keeps_away(setup, c).any(|e| e.class == h.class.wire());
    let would = c.unlinker.holds.iter().filter(keeps);
    // A table's own lock cannot be acquired before the lookup that finds the table; it protects a second look at the entry.
    let (ptls, locks): (Vec<&Hold>, Vec<&Hold>) = would.partition(|h| h.class == LockClass::Ptl);
    let locks: Vec<&str> = locks.iter().map(|h| h.class.name()).collect();
    const AGAIN: &str = "a look again under the table's lock, before the use";
    let text = Text::new(Tone::Plain, "missing: ");
    match (locks.is_empty(), ptls.is_empty()) {
        (true, true) => Text::new(
            Tone::Plain,
            format!("no lock excluded one from the other: {site} held none that could"),
        ),
        (true, false) => text.and(Tone::Label, AGAIN),
        (false, alone) => {
            let or = if alone { String::new() } else { format!("; or {AGAIN}") };
            text.and(Tone::Label, locks.join(" or ")).and(
                Tone::Plain,
                format!(", from the lookup to the last use: it would have kept {site} away{or}"),
            )
        }
    }
}
