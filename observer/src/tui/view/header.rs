//! The header: what is watched, the event rates, and always the loss and the blind roles.

use ratatui::Frame;

use super::{choose, put};
use crate::sink::text;
use crate::snapshot::{Position, Snapshot};
use crate::text::{number, plural};
use crate::tui::Mode;
use crate::tui::blind::Blind;
use crate::tui::groups;
use crate::tui::layout::Area;
use crate::tui::state::State;
use crate::tui::text::{Text, Tone, fit};
use crate::tui::theme::Theme;
use crate::tui::words::rate;

/// Width from which on the header explains what the end of a run means.
const OVER_WIDTH: u16 = 100;

pub fn draw(frame: &mut Frame, area: Area, state: &State, theme: &Theme) {
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

/// Line about what is watched, with the clock at the right end.
fn run(state: &State, width: u16) -> Text {
    let s = state.latest();
    let mut right = Text::default();
    if state.frozen() {
        right = right
            .and(Tone::Selected, format!(" FROZEN at {} ", state.at(state.snapshot())))
            .and(Tone::Plain, " ");
    }
    right = right.and(Tone::Plain, state.at(s));
    let anybody = s.meta.filter == crate::meta::Filter::default();
    let filter = if anybody { String::new() } else { format!("  only {}", text::filter(&s.meta.filter)) };
    let kernel = format!("level {}  {}{filter}", s.meta.level.name(), s.meta.kernel.release);
    let over = if width >= OVER_WIDTH { ": the run is over" } else { "" };
    let left =
        Text::new(Tone::Label, "observer ").and(Tone::Plain, format!("{}  {kernel}", position(state, over)));
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

/// State of the run in words. `over`: words for a run that has ended.
fn position(state: &State, over: &str) -> String {
    match &state.latest().position {
        // Before the first snapshot nothing is known of the recording.
        Position::Live if state.mode() == Mode::Replay => "replay".into(),
        Position::Live => "live".into(),
        Position::Ended => format!("ended{over}"),
        Position::Replay(r) if r.ended => format!("replay {} at its end{over}", r.file),
        Position::Replay(r) => format!("replay {}", r.file),
    }
}

/// Line about event rates and findings.
fn flow(state: &State, width: u16) -> Text {
    let s = state.latest();
    let total = s.stats.events;
    // Lost events are the last group, and they did not arrive.
    let rates: Vec<f64> = (0..groups::NAMES.len() - 1).filter_map(|i| state.history().rate(i)).collect();
    let (name, now) = match state.mode() {
        // Playback speed says nothing about the recording.
        Mode::Replay => ("avg/s ", groups::average(total, s)),
        Mode::Live if rates.is_empty() => ("events/s ", "-".into()),
        Mode::Live => ("events/s ", rate(rates.iter().sum())),
    };
    let alarms = s.findings.iter().filter(|f| f.rank.is_alarm()).count();
    // Worst findings come first: if all rows are alarms, there may be more alarms beyond them.
    let more =
        if s.findings_total > s.findings.len() && alarms == s.findings.len() { "at least " } else { "" };
    let label =
        |text: Text, name: &str, value: String| text.and(Tone::Label, name).and(Tone::Plain, value + "  ");
    let mut text = label(Text::default(), name, now);
    text = label(text, "total ", number(total));
    let tone = if alarms > 0 { Tone::Alarm } else { Tone::Plain };
    let findings = text
        .and(Tone::Label, "findings ")
        .and(Tone::Plain, number(s.findings_total as u64))
        .and(tone, format!(" ({more}{})  ", plural(alarms as u64, "alarm")));
    let live = |n: usize| number(n as u64);
    let tables = |alive: &str| label(findings.clone(), "tables ", live(s.stats.live_tables) + alive);
    let full = |alive: &str| {
        let leases = label(tables(alive), "leases ", live(s.stats.live_leases));
        leases.and(Tone::Label, "tasks ").and(Tone::Plain, live(s.stats.live_tasks))
    };
    choose(width, [full(" alive"), full(""), tables(""), findings.clone()])
}

/// Line about loss and blind roles, which is always shown.
fn trust(s: &Snapshot, width: u16) -> Text {
    let lost = s.lost();
    let reasons: Vec<String> = s.loss.iter().map(|(name, n)| format!("{name} {}", number(*n))).collect();
    let loss = |reasons: &str| match lost {
        0 => Text::new(Tone::Label, "loss ").and(Tone::Good, "0"),
        n => Text::new(Tone::Label, "loss ").and(Tone::Alarm, number(n) + reasons),
    };
    let odd = |mut text: Text| {
        for (name, n) in [("late", s.counts.late), ("undecodable", s.counts.undecodable())] {
            if n > 0 {
                text = text.and(Tone::Label, format!("  {name} ")).and(Tone::Caution, number(n));
            }
        }
        text
    };
    let blind = Blind::of(s);
    let seen = |text: Text, long: bool| match () {
        () if s.coverage.is_empty() && s.passes == 0 => text.and(Tone::Label, "  coverage not known yet"),
        () if s.coverage.is_empty() => text.and(Tone::Alarm, "  coverage unknown"),
        () if blind.is_none() => text.and(Tone::Label, "  blind ").and(Tone::Good, "none"),
        () if long => text.and(Tone::Label, "  ").and(Tone::Caution, blind.names()),
        () => text.and(Tone::Label, "  ").and(Tone::Caution, blind.counts()),
    };
    let few = match (blind.wholly.len(), blind.partly.len()) {
        _ if s.coverage.is_empty() => "?".to_owned(),
        (b, 0) => b.to_string(),
        (0, p) => format!("{p} part"),
        (b, p) => format!("{b}, {p} part"),
    };
    let shortest = Text::new(Tone::Label, "loss ")
        .and(
            if lost > 0 { Tone::Alarm } else { Tone::Good },
            if lost < 10_000 { number(lost) } else { rate(lost as f64) },
        )
        .and(Tone::Label, " blind ")
        .and(Tone::Caution, few);
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
