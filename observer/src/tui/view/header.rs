//! The header: what is watched, how much comes in, and always what was lost and what cannot be seen.

use ratatui::Frame;
use ratatui::layout::Rect;

use super::{choose, put};
use crate::sink::words::{number, plural};
use crate::snapshot::{CoverageRow, Position, Snapshot};
use crate::tui::state::{Mode, State};
use crate::tui::text::{Text, fit};
use crate::tui::theme::{Theme, Tone};
use crate::tui::words::{clock, rate};

pub fn draw(frame: &mut Frame, area: Rect, state: &State, theme: &Theme) {
    let width = area.width;
    let s = state.latest();
    let trust = trust(s, width);
    let notice = s.notices.last().map(|n| Text::new(Tone::Alarm, fit(n, usize::from(width), false)));
    let lines = match (area.height, notice) {
        (0..=1, _) => vec![trust],
        (2, _) => vec![run(state, width), trust],
        (3, Some(notice)) => vec![run(state, width), trust, notice],
        (_, notice) => [run(state, width), flow(state, width), trust].into_iter().chain(notice).collect(),
    };
    put(frame, area, lines, theme);
}

/// What is watched, and the clock at the right end.
fn run(state: &State, width: u16) -> Text {
    let s = state.latest();
    let mut right = Text::default();
    if state.frozen() {
        right = right
            .and(Tone::Selected, format!(" FROZEN at {} ", clock(state.snapshot().elapsed_ns)))
            .and(Tone::Plain, " ");
    }
    right = right.and(Tone::Plain, clock(s.elapsed_ns));
    let filter = if s.filter.is_empty() { String::new() } else { format!("  only {}", s.filter) };
    let kernel = format!("{}  {}{filter}", s.kernel_release, s.level);
    let left = Text::new(Tone::Label, "observer ").and(Tone::Plain, format!("{}  {kernel}", position(state)));
    let mut left_width = usize::from(width).saturating_sub(right.width() + 1);
    let mut line = Text::default();
    for (tone, piece) in left.0 {
        let cut = fit(&piece, left_width.min(piece.chars().count()), false);
        left_width = left_width.saturating_sub(cut.chars().count());
        line = line.and(tone, cut);
    }
    let gap = usize::from(width).saturating_sub(line.width() + right.width());
    line = line.and(Tone::Plain, " ".repeat(gap));
    line.0.extend(right.0);
    line
}

fn position(state: &State) -> String {
    let pace = state.pace();
    match &state.latest().position {
        // Before the first picture nothing is known of the recording.
        Position::Live if state.mode() == Mode::Replay => "replay".into(),
        Position::Live => "live".into(),
        Position::Ended => "ended (final)".into(),
        Position::Replay { file, ended: true, .. } => format!("replay {file} at its end (final)"),
        Position::Replay { file, permille, .. } => {
            let speed = match pace.speed {
                None => "max".into(),
                Some(n) if n < 1.0 && n > 0.0 => format!("1/{}x", (1.0 / n).round()),
                Some(n) => format!("{n}x"),
            };
            let pause = if pace.paused { " PAUSED" } else { "" };
            format!("replay {file} {}% {speed}{pause}", permille / 10)
        }
    }
}

/// How much comes in, and what was made of it.
fn flow(state: &State, width: u16) -> Text {
    let s = state.latest();
    let n = s.events.len();
    let total: u64 = s.events.iter().map(|(_, t)| t).sum();
    let rates: Vec<f64> = (0..n).filter_map(|i| state.history().rate(i)).collect();
    let now = if rates.is_empty() { "-".into() } else { rate(rates.iter().sum()) };
    let alarms = s.findings.iter().filter(|f| f.alarm).count();
    // Worst come first: when all rows are alarms, there may be more of them beyond.
    let more =
        if s.findings_total > s.findings.len() && alarms == s.findings.len() { "at least " } else { "" };
    let alive = s.tables.iter().filter(|t| t.alive).count();
    let label =
        |text: Text, name: &str, value: String| text.and(Tone::Label, name).and(Tone::Plain, value + "  ");
    let mut text = label(Text::default(), "events/s ", now);
    text = label(text, "total ", number(total));
    let tone = if alarms > 0 { Tone::Alarm } else { Tone::Plain };
    let findings = text
        .and(Tone::Label, "findings ")
        .and(Tone::Plain, number(s.findings_total as u64))
        .and(tone, format!(" ({more}{})  ", plural(alarms as u64, "alarm")));
    let tables = label(findings.clone(), "tables ", format!("{alive} alive"));
    let full = label(label(tables.clone(), "leases ", number(s.leases)), "tasks ", number(s.tasks));
    choose(width, [full, tables, findings])
}

/// What was lost and what cannot be seen: the one line that is always there.
fn trust(s: &Snapshot, width: u16) -> Text {
    let lost: u64 = s.loss.iter().map(|(_, n)| n).sum();
    let reasons: Vec<String> = s.loss.iter().map(|(name, n)| format!("{name} {}", number(*n))).collect();
    let loss = |reasons: &str| match lost {
        0 => Text::new(Tone::Label, "loss ").and(Tone::Good, "0"),
        n => Text::new(Tone::Label, "loss ").and(Tone::Alarm, number(n) + reasons),
    };
    let odd = |mut text: Text| {
        for (name, n) in [("late", s.late), ("undecodable", s.undecodable)] {
            if n > 0 {
                text = text.and(Tone::Label, format!("  {name} ")).and(Tone::Caution, number(n));
            }
        }
        text
    };
    let (blind, partly) = unseen(s);
    let seen = |text: Text, long: bool| match (blind.len(), partly.len()) {
        _ if s.coverage.is_empty() && s.drains == 0 => text.and(Tone::Label, "  coverage not told yet"),
        _ if s.coverage.is_empty() => text.and(Tone::Alarm, "  coverage unknown"),
        (0, 0) => text.and(Tone::Label, "  blind ").and(Tone::Good, "none"),
        _ if long => text.and(Tone::Label, "  ").and(Tone::Caution, blind_words(s)),
        (b, p) => text.and(Tone::Label, "  blind ").and(Tone::Caution, plural((b + p) as u64, "role")),
    };
    let shortest = Text::new(Tone::Label, "loss ")
        .and(
            if lost > 0 { Tone::Alarm } else { Tone::Good },
            if lost < 10_000 { number(lost) } else { rate(lost as f64) },
        )
        .and(Tone::Label, " blind ")
        .and(
            Tone::Caution,
            if s.coverage.is_empty() { "?".into() } else { (blind.len() + partly.len()).to_string() },
        );
    let named = format!(" ({})", reasons.join(", "));
    choose(
        width,
        [
            seen(odd(loss(&named)), true),
            seen(odd(loss(&named)), false),
            seen(odd(loss("")), false),
            seen(loss(""), false),
            shortest,
        ],
    )
}

/// Roles of which nothing is seen, and roles of which a part is not.
fn unseen(s: &Snapshot) -> (Vec<&'static str>, Vec<&'static str>) {
    let blind = roles(s, |c| c.grade == "blind" && c.part.is_empty());
    let mut partly = roles(s, |c| c.grade == "blind" && !c.part.is_empty());
    partly.retain(|role| !blind.contains(role));
    (blind, partly)
}

/// Roles with a row of some kind, each once.
fn roles(s: &Snapshot, which: impl Fn(&CoverageRow) -> bool) -> Vec<&'static str> {
    let mut roles = Vec::new();
    for c in s.coverage.iter().filter(|c| which(c)) {
        if !roles.contains(&c.role) {
            roles.push(c.role);
        }
    }
    roles
}

/// What is blind, in a few words.
fn blind_words(s: &Snapshot) -> String {
    let (blind, partly) = unseen(s);
    let list =
        |name: &str, roles: &[&str]| (!roles.is_empty()).then(|| format!("{name}: {}", roles.join(", ")));
    let words: Vec<String> =
        [list("blind", &blind), list("partly blind", &partly)].into_iter().flatten().collect();
    if words.is_empty() { "no role blind".into() } else { words.join("; ") }
}

/// The coverage that an empty list is empty within.
pub fn coverage_words(s: &Snapshot) -> String {
    if s.coverage.is_empty() {
        return "unknown".into();
    }
    let weak = roles(s, |c| !matches!(c.grade, "exact" | "blind"));
    let weak = if weak.is_empty() { String::new() } else { format!("; not exact: {}", weak.join(", ")) };
    let lost: u64 = s.loss.iter().map(|(_, n)| n).sum();
    format!("{}{weak}; loss {}", blind_words(s), number(lost))
}
