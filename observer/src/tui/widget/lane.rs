//! One party of a picture: its task, and a row for each lock that it held. Decides which locks are shown where there are
//! many.

use std::collections::BTreeMap;

use observer_engine::{
    event::{Mode, Tid},
    finding::Party,
    lock_class::LockClass,
};

use super::super::text::{Text, Tone};
use super::axis::Axis;
use super::bars::{Bar, End, spins_for};
use super::canvas::{Frame, Row};
use super::glyphs::Glyphs;
use crate::sink::words;

/// Rows of locks in one lane, on a narrow and on a wide screen.
const LOCKS: [usize; 2] = [5, 9];

/// Cells that mark an unknown duration. It is short, or it would cover what others held.
const UNKNOWN: usize = 3;

/// A lock with all that the task did with it.
#[derive(Clone, Debug)]
pub struct Lock {
    pub class: LockClass,
    pub mode: Option<Mode>,
    pub address: u64,
    pub bars: Vec<Bar>,
}

/// Glyphs that a picture has, for its legend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub held: bool,
    pub waits: bool,
    pub unknown: bool,
    pub brief: bool,
    /// A lock that is in both lanes.
    pub same: bool,
}

/// Title of a lane: `HOLDER   ex-vmread (99) on cpu 1 in follow_hugetlb_page`.
#[must_use]
pub fn title(name: &str, side: &Party, also: &str) -> Text {
    let comm = if side.task.comm.is_empty() { "?" } else { &side.task.comm };
    // The watched task chose its name: its control characters must not reach the terminal.
    let comm: String = comm.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let tid = if side.task.tid == Tid(0) { String::new() } else { format!(" ({})", side.task.tid.0) };
    Text::new(Tone::Label, format!("{name:<8} "))
        .and(Tone::Plain, format!("{comm}{tid} on cpu {} in ", side.task.cpu))
        .and(Tone::Label, side.site.to_string())
        .and(Tone::Plain, also)
}

/// Returns the locks of a lane by acquisition time, and the names of those that are not shown. Locks of the evidence come
/// first, the wanted classes before others; then those held at `at_ns`; then others within the picture.
#[must_use]
pub fn locks(
    bars: Vec<Bar>,
    side: &Party,
    at_ns: &[u64],
    wanted: impl Fn(LockClass) -> bool,
    edges: (u64, u64),
    frame: &Frame,
) -> (Vec<Lock>, Vec<String>) {
    let mut by_lock: BTreeMap<(u64, Option<Mode>), Lock> = BTreeMap::new();
    for bar in bars.into_iter().filter(|b| b.meets(edges.0, edges.1)) {
        let Bar { class, mode, lock: address, .. } = bar;
        let lock = by_lock.entry((address, mode)).or_insert(Lock { class, mode, address, bars: Vec::new() });
        lock.bars.push(bar);
    }
    let mut all: Vec<Lock> = by_lock.into_values().collect();
    let first = |l: &Lock| l.bars.iter().map(|b| b.begin_ns.unwrap_or(0)).min();
    let rank = |l: &Lock| {
        let in_evidence = side.holds.iter().any(|h| h.lock == l.address);
        let held = l.bars.iter().any(|b| at_ns.iter().any(|ns| b.is_held_at(*ns)));
        (!in_evidence, !wanted(l.class), !held, first(l))
    };
    all.sort_by_key(rank);
    let most = LOCKS[usize::from(frame.is_wide())];
    // A row that says "1 more" takes as much room as that lock.
    let rest = if all.len() > most + 1 { all.split_off(most) } else { Vec::new() };
    all.sort_by_key(|l| (first(l), l.class));
    let mut more: Vec<String> = rest.iter().map(|l| words::lock(l.class, l.mode)).collect();
    more.sort();
    more.dedup();
    (all, more)
}

/// Names of locks, as ` ptl`. Equal names are numbered, and a lock that is in the other lane too has a star.
#[must_use]
pub fn names(locks: &[Lock], others: &[Lock]) -> Vec<String> {
    let name = |l: &Lock| words::lock(l.class, l.mode);
    let numbered = |(i, l): (usize, &Lock)| {
        let star = if others.iter().any(|o| o.address == l.address) { '*' } else { ' ' };
        let same = |other: &&Lock| name(other) == name(l);
        if locks.iter().filter(same).count() == 1 {
            return format!("{star}{}", name(l));
        }
        format!("{star}{} {}", name(l), locks[..=i].iter().filter(same).count())
    };
    locks.iter().enumerate().map(numbered).collect()
}

/// Draws what a task did with a lock.
pub fn draw(row: &mut Row, lock: &Lock, axis: &Axis, glyphs: &Glyphs, tone: Tone, seen: &mut Seen) {
    for bar in lock.bars.iter().filter(|b| b.meets(axis.edges().0, axis.edges().1)) {
        draw_bar(row, bar, axis, glyphs, tone, seen);
    }
}

fn draw_bar(row: &mut Row, bar: &Bar, axis: &Axis, glyphs: &Glyphs, tone: Tone, seen: &mut Seen) {
    let (from_ns, to_ns) = axis.edges();
    let last = axis.column(to_ns);
    let asked = bar.begin_ns.map_or(0, |ns| axis.column(ns));
    let Some(acquired_ns) = bar.acquired_ns else {
        // It gave up, or still waits.
        let gave_up = if let End::At(ns) = bar.end { Some(axis.column(ns)) } else { None };
        row.fill(asked, gave_up.unwrap_or(last), Tone::Caution, glyphs.waits);
        row.set(asked, Tone::Caution, '?');
        if gave_up.is_none() {
            row.set(last, Tone::Caution, '>');
        }
        seen.waits = true;
        return;
    };
    let acquired = axis.column(acquired_ns);
    match bar.begin_ns {
        Some(ns) if ns < acquired_ns && acquired > asked => {
            row.fill(asked, acquired - 1, Tone::Caution, glyphs.waits);
            row.set(asked, Tone::Caution, '?');
            seen.waits = true;
        }
        // Acquired earlier, at an unknown time.
        None if acquired > 0 => {
            row.fill(acquired.saturating_sub(UNKNOWN), acquired - 1, tone, glyphs.unknown);
            seen.unknown = true;
        }
        _ => {}
    }
    let (end, closed) = match bar.end {
        End::At(ns) => (axis.column(ns), ns <= to_ns),
        End::Later => (last, false),
        End::Unseen { at_ns, by_ns } => {
            let sure = axis.column(at_ns);
            let by = axis.column(by_ns).min(last + 1);
            for column in sure + 1..by.min(sure + 1 + UNKNOWN) {
                row.set(column, tone, glyphs.unknown);
            }
            seen.unknown = true;
            (sure, false)
        }
    };
    let end = end.max(acquired);
    row.fill(acquired, end, tone, glyphs.held);
    seen.held = true;
    let begins = bar.begin_ns.is_some_and(|ns| ns >= from_ns);
    if begins && closed && acquired == end {
        row.set(acquired, tone, glyphs.brief);
        seen.brief = true;
        return;
    }
    // If the lock was acquired at some time up to here, no begin is drawn.
    if begins && !(acquired > asked && spins_for(bar.class)) {
        row.set(acquired, tone, glyphs.begin);
    }
    if closed {
        row.set(end, tone, glyphs.end);
    }
}

/// Line for hidden locks: `+3 more: inode_lock(write), ptl`.
#[must_use]
pub fn more(names: &[String]) -> Option<Text> {
    let list = names.join(", ");
    (!names.is_empty()).then(|| Text::new(Tone::Faint, format!(" +{} more: {list}", names.len())))
}

/// The glyphs of bars, in words.
pub fn legend(parts: &mut Vec<(Tone, String)>, seen: &Seen, glyphs: &Glyphs) {
    let Glyphs { begin, held, end, waits, brief, unknown, .. } = glyphs;
    if seen.held {
        parts.push((Tone::Plain, format!("{begin}{held}{held}{end} held")));
    }
    if seen.brief {
        parts.push((Tone::Plain, format!("{brief} held for a moment")));
    }
    if seen.waits {
        parts.push((Tone::Caution, format!("?{waits}{waits} requested: acquired by its end, or not yet")));
    }
    if seen.same {
        parts.push((Tone::Plain, "* the same lock in both".into()));
    }
    if seen.unknown {
        parts
            .push((Tone::Plain, format!("{held}{unknown}{unknown} until when, or since when, is not known")));
    }
}
