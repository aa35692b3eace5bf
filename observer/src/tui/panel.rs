//! The overview's panel: groups of events. For a running kernel, one line each with its rate and a sparkline of recent rates.
//! For a recording, several side by side with totals and averages, which do not depend on how the position was reached.

use super::Mode;
use super::groups;
use super::history::{COLUMN_NS, History};
use super::text::{Text, Tone, fit};
use super::widget::Glyphs;
use super::words::rate;
use crate::snapshot::Snapshot;
use crate::text::number;

/// Number of lines of the panel: a head, and its groups.
#[must_use]
pub fn rows(s: &Snapshot, mode: Mode, width: u16) -> u16 {
    let groups = groups::NAMES.len();
    match mode {
        _ if s.passes == 0 => 0,
        Mode::Live => groups as u16 + 1,
        Mode::Replay => groups.div_ceil(beside(width)) as u16 + 1,
    }
}

/// Lines of the panel. `history`: the totals of a running kernel up to now.
#[must_use]
pub fn lines(s: &Snapshot, mode: Mode, history: &History, width: usize, glyphs: &Glyphs) -> Vec<Text> {
    match mode {
        Mode::Live => live(s, history, width, glyphs),
        Mode::Replay => recorded(s, width),
    }
}

/// Cells before the sparkline: name, rate, total, peak.
const BEFORE: usize = 15 + 8 + 15 + 8 + 1;
/// Cells of a group beside others: name, total, average, and the gap to the next one.
const NAME: usize = 11;
const TOTAL: usize = 9;
const AVERAGE: usize = 6;
const GAP: usize = 1;

/// Number of groups of a recording side by side.
fn beside(width: u16) -> usize {
    ((usize::from(width) + GAP) / (NAME + TOTAL + AVERAGE + GAP)).clamp(1, 4)
}

fn live(s: &Snapshot, history: &History, width: usize, glyphs: &Glyphs) -> Vec<Text> {
    let room = width.saturating_sub(BEFORE);
    let past = format!(" last {} s", room as u64 * COLUMN_NS / 1_000_000_000);
    let head = format!("{:<15}{:>8}{:>15}{:>8}{past}", "EVENTS", "NOW/s", "TOTAL", "PEAK/s");
    let mut lines = vec![Text::new(Tone::Bar, fit(&head, width, false))];
    let totals = groups::totals(s);
    for (i, (name, total)) in groups::NAMES.into_iter().zip(totals).enumerate() {
        let columns = history.columns(i, room);
        let peak = columns.iter().copied().fold(0.0, f64::max);
        let now = history.rate(i).map_or("-".into(), rate);
        let before = format!("{}{now:>8}{:>15}{:>8} ", fit(name, 15, false), number(total), rate(peak));
        let bad = name == groups::LOST && total > 0;
        let (tone, line) = if bad { (Tone::Alarm, Tone::Alarm) } else { (Tone::Plain, Tone::Good) };
        lines.push(Text::new(tone, before).and(line, sparkline(&columns, peak, room, glyphs.bars)));
    }
    lines
}

/// Groups of a recording, ordered by columns as one reads a list.
fn recorded(s: &Snapshot, width: usize) -> Vec<Text> {
    let columns = beside(width as u16);
    let cell = |name: &str, total: &str, average: &str| {
        format!("{}{total:>TOTAL$}{average:>AVERAGE$}", fit(name, NAME, false))
    };
    let gap = " ".repeat(GAP);
    let head = vec![cell("EVENTS", "TOTAL", "AVG/s"); columns].join(&gap);
    let mut lines = vec![Text::new(Tone::Bar, fit(&head, width, false))];
    let totals = groups::totals(s);
    let rows = totals.len().div_ceil(columns);
    for row in 0..rows {
        let mut line = Text::default();
        for i in (row..totals.len()).step_by(rows) {
            let (name, total) = (groups::NAMES[i], totals[i]);
            let digits = number(total);
            let digits = if digits.len() < TOTAL { digits } else { rate(total as f64) };
            let bad = name == groups::LOST && total > 0;
            let before = if i == row { "" } else { &gap };
            line = line.and(Tone::Plain, before);
            line = line.and(
                if bad { Tone::Alarm } else { Tone::Plain },
                cell(name, &digits, &groups::average(total, s)),
            );
        }
        lines.push(line);
    }
    lines
}

/// Bars up to the line's own peak, the newest at the right end. Each rate above zero shows at least the lowest bar.
fn sparkline(columns: &[f64], peak: f64, width: usize, bars: &[char]) -> String {
    let top = bars.len() - 1;
    let bar = |c: &f64| match c / peak {
        part if part > 0.0 => bars[((part * top as f64).round() as usize).clamp(1, top)],
        _ => bars[0],
    };
    let drawn: String = columns.iter().map(bar).collect();
    " ".repeat(width.saturating_sub(columns.len())) + &drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_relative_to_the_peak() {
        assert_eq!(sparkline(&[0.0, 1.0, 500.0, 1000.0], 1000.0, 6, Glyphs::BLOCKS.bars), "   ▁▄█");
        assert_eq!(sparkline(&[0.0, 0.0], 0.0, 2, Glyphs::BLOCKS.bars), "  ");
        assert_eq!(sparkline(&[], 0.0, 0, Glyphs::ASCII.bars), "");
    }
}
