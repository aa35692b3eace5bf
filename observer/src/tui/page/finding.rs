//! Pages of findings: the event as a picture and in words, the lease, and the stacks of all parties.

use observer_engine::finding::{Evidence, Finding, Party, Subject, Use, WindowCase};

use super::{Case, Context, Go, Line, Page, Shortcut, evidence, link, named, plain, wrapped};
use crate::sink::{finding as worded, words};
use crate::snapshot::Snapshot;
use crate::text::{moment, span};
use crate::tui::answers::Look;
use crate::tui::names::{rank_tone, since_start, task};
use crate::tui::text::{Text, Tone};
use crate::tui::widget;

/// Time shown around a window, ns, so that the picture has the locks acquired before the lookup.
const AROUND_NS: u64 = 2_000_000;
/// Longest time that a picture covers, ns; a longer one needs the recording.
const RANGE_MAX_NS: u64 = 20_000_000_000;

pub fn lines(c: &Context<'_>, f: &Finding) -> Vec<Line> {
    let s = c.snapshot;
    let name = Text::new(rank_tone(f.rank), f.rank.name())
        .and(Tone::Plain, format!(" {}: {}", f.kind().name(), worded::summary(f)));
    let seen = Text::new(Tone::Label, "seen ").and(Tone::Plain, worded::seen(f, s.meta.start_ns));
    let missing = widget::missing(f, &s.setup);
    let alone = f.evidence.subject().alone().map(|evidence| Finding { evidence, ..f.clone() });
    let mut lines = wrapped(c, [name].into_iter().chain(missing).chain([seen]).chain(shown(s, f)));
    lines.push(Line::default());
    lines.extend(links(c, f));
    lines.push(Line::default());
    lines.extend(picture(c, f).into_iter().map(Line::from));
    lines.push(Line::default());
    lines
        .extend(wrapped(c, evidence(worded::detail(alone.as_ref().unwrap_or(f), c.stacks, s.meta.start_ns))));
    lines
}

/// Says which of several cases the page is about.
fn shown(s: &Snapshot, f: &Finding) -> Option<Text> {
    let at = since_start(s, when(f, Case::Longest));
    let text = format!("the longest certain case, whose pointer was looked up at {at}");
    (f.evidence.subject().cases().len() > 1).then(|| Text::new(Tone::Label, "here ").and(Tone::Plain, text))
}

/// Returns true if the page would show another window.
pub fn is_of_another_case(a: &Finding, b: &Finding) -> bool {
    let looked_up = |f| case_of(f, Case::Longest).map(|case| case.holder.time_ns);
    matches!((looked_up(a), looked_up(b)), (Some(a), Some(b)) if a != b)
}

/// Links of a finding's page.
fn links(c: &Context<'_>, f: &Finding) -> Vec<Line> {
    let s = c.snapshot;
    let mut lines = Vec::new();
    for (case, which) in f.evidence.subject().cases().into_iter().zip([Case::Longest, Case::First]) {
        let holder = task(&case.holder.task.comm, case.holder.task.tid);
        let text = match which {
            Case::Longest => format!("pte {} at {} of mm {}, {holder}", case.pte, case.addr, case.mm),
            Case::First => {
                format!("the case that was seen first, at {}, {holder}", since_start(s, f.first_ns))
            }
        };
        lines.push(link("lease", text, "", Go::Page(Page::Lease(f.id.clone(), which))));
    }
    if let Some(page @ Page::Table(table, generation)) = table_of(f, Case::Longest) {
        let text = format!("{table}, generation {generation} at this address");
        lines.push(link("table", text, "t", Go::Page(page)));
    }
    if let Some(look) = look(s, f, Case::Longest) {
        let text = format!("{} to {}", since_start(s, look.from_ns), since_start(s, look.to_ns));
        let text = format!("of {}, {text}", plural_tasks(&look.filter));
        lines.push(link("events", text, "e", Go::Page(Page::Events(look))));
    }
    if subject(f, Case::Longest).parties().iter().any(|(_, side)| side.stack.is_some()) {
        lines.push(link("stacks", "of all sides, whole", "s", Go::Page(Page::Stacks(f.id.clone()))));
    }
    for step in f.evidence.subject().cycle() {
        let text = format!("{} -> {}", step.from.name(), step.to.name());
        lines.push(link("edge", text, "", Go::Page(Page::Classes(step.from, step.to))));
    }
    if c.replay {
        let at_ns = when(f, Case::Longest);
        let text = format!("{}: where this begins", since_start(s, at_ns));
        lines.push(link("go to", text, "", Go::Seek(at_ns)));
    }
    if let Some(mark) = c.mark(&f.id).filter(|_| c.replay) {
        let at = since_start(s, mark.reported_ns);
        let end = if c.is_end(mark.reported_ns) { ", which is the end of the run" } else { "" };
        let text = format!("{at}: first reported{end}, with the evidence of that time");
        lines.push(link("go to", text, "", Go::Seek(mark.reported_ns)));
    }
    lines
}

fn plural_tasks(filter: &str) -> &'static str {
    if filter.contains(',') { "its tasks" } else { "its task" }
}

/// Returns one case of a finding that has cases.
fn case_of(f: &Finding, which: Case) -> Option<&WindowCase> {
    let cases = f.evidence.subject().cases();
    match which {
        Case::First => cases.last().copied(),
        Case::Longest => cases.first().copied(),
    }
}

/// Returns what the page is about: a case, or all of a finding without cases.
fn subject(f: &Finding, which: Case) -> &dyn Subject {
    case_of(f, which).map_or(f.evidence.subject(), |case| case)
}

/// Picture of the finding.
fn picture(c: &Context<'_>, f: &Finding) -> Vec<Text> {
    let s = c.snapshot;
    let events = needs(s, f).map_or(&[][..], |look| c.answers.events(&look));
    let width = usize::from(c.width.saturating_sub(2));
    let mut lines = widget::of_finding(f, events, &s.setup, s.meta.start_ns, width, c.glyphs);
    // Nothing is looked up for a row that is only selected.
    if needs(s, f).is_some_and(|look| c.answers.get(&look).is_none()) {
        lines.push(Text::new(
            Tone::Faint,
            "locks that the finding itself shows; on its page, with the events",
        ));
    }
    lines
}

/// The lease of a window.
pub fn lease(c: &Context<'_>, f: &Finding, which: Case) -> Vec<Line> {
    let Some(case) = case_of(f, which) else { return vec![plain("this finding is about no lease")] };
    let s = c.snapshot;
    let at = |ns| moment(ns, s.meta.start_ns);
    let (start, hi) = (case.holder.time_ns, case.unlink_hi_ns);
    let mut lines = wrapped(
        c,
        [
            named(
                "holder",
                format!("{} in {}", task(&case.holder.task.comm, case.holder.task.tid), case.holder.site),
            ),
            named("pointer", format!("pte {}, for address {} of mm {}", case.pte, case.addr, case.mm)),
            named("into", format!("table {}, generation {} at this address", case.table, case.generation)),
            named("looked up", format!("{} on cpu {}", at(start), case.holder.task.cpu)),
        ],
    );
    lines.push(Line::default());
    if let Some(page @ Page::Table(..)) = table_of(f, which) {
        lines.push(link("table", case.table.to_string(), "t", Go::Page(page)));
    }
    lines.push(link(
        "history",
        "of this pte: everything that named it",
        "",
        Go::Page(super::table::history_of(s, case.pte)),
    ));
    if let Some(look) = look(s, f, which) {
        lines.push(link("events", "of both tasks around it", "e", Go::Page(Page::Events(look))));
    }
    lines.push(Line::default());
    let gone = match case.unlink_lo_ns {
        lo if lo == hi => at(hi),
        lo => format!("between {} and {}", at(lo), at(hi)),
    };
    let used = match case.used {
        Use::No => "no use was seen after that".to_owned(),
        Use::Contract => "it was inside a callback that received the pointer: in use by contract".to_owned(),
        Use::Seen(ns) => {
            format!("used at {}: it requested the table's PTL through the pointer, and acquired it", at(ns))
        }
    };
    let end = |ns: u64, from: u64| if ns == 0 { "not after that".to_owned() } else { at(from + ns) };
    let mut rows = vec![
        named(
            "unlinked",
            format!(
                "{gone}, by {} in {}",
                task(&case.unlinker.task.comm, case.unlinker.task.tid),
                case.unlinker.site
            ),
        ),
        named("after", used),
        named(
            "certain",
            format!(
                "in use for certain until {}: stale for {}",
                end(case.certain_ns, hi),
                span(case.certain_ns)
            ),
        ),
        named(
            "possible",
            format!(
                "perhaps until {}: stale for up to {}",
                end(case.possible_ns, case.unlink_lo_ns),
                span(case.possible_ns)
            ),
        ),
    ];
    if let Some(ns) = case.freed_ns {
        rows.push(named("freed", format!("the table's page was freed at {}", at(ns))));
    }
    lines.extend(wrapped(c, rows));
    lines.push(Line::default());
    lines.extend(holds(c, &case.holder, "under"));
    lines
}

/// Locks that a party held.
fn holds(c: &Context<'_>, side: &Party, name: &str) -> Vec<Line> {
    let text = |h: &observer_engine::finding::Hold| {
        let since = since_start(c.snapshot, h.since_ns);
        format!("{} {:#x} since {since} ({})", words::lock(h.class, h.mode), h.lock, h.basis.name())
    };
    let mut held: Vec<String> = side.holds.iter().map(text).collect();
    if held.is_empty() {
        held.push("no watched lock".to_owned());
    }
    let row = |(i, text): (usize, &String)| named(if i == 0 { name } else { "" }, text.as_str());
    wrapped(c, held.iter().enumerate().map(row).collect::<Vec<_>>())
}

/// Stacks of all parties, side by side where there is room.
pub fn stacks(c: &Context<'_>, f: &Finding) -> Vec<Line> {
    let mut blocks = Vec::new();
    for (name, side) in subject(f, Case::Longest).parties() {
        let place = format!("{} in {}", task(&side.task.comm, side.task.tid), side.site);
        let mut block = vec![Text::new(Tone::Label, format!("{name}: ")).and(Tone::Plain, place)];
        let frames = c.stacks.symbolised(side.stack);
        if frames.is_empty() {
            block.push(Text::new(Tone::Faint, "  no stack was recorded"));
        }
        block.extend(frames.into_iter().map(|frame| Text::new(Tone::Plain, format!("  {frame}"))));
        blocks.push(block);
    }
    let note =
        "Stacks are those of a task's first call of the function: one is taken for each task and operation.";
    let mut lines = wrapped(c, [Text::new(Tone::Faint, note)]);
    lines.push(Line::default());
    lines.extend(beside(c, blocks));
    lines
}

/// Puts blocks of lines side by side, two in a row where the width allows.
fn beside(c: &Context<'_>, blocks: Vec<Vec<Text>>) -> Vec<Line> {
    let half = usize::from(c.width.saturating_sub(4) / 2);
    let fits = |block: &Vec<Text>| block.iter().all(|line| line.width() <= half);
    if blocks.len() < 2 || !blocks.iter().all(fits) {
        let mut lines: Vec<Line> = Vec::new();
        for block in blocks {
            lines.extend(wrapped(c, block));
            lines.push(Line::default());
        }
        return lines;
    }
    let mut lines = Vec::new();
    for pair in blocks.chunks(2) {
        let height = pair.iter().map(Vec::len).max().unwrap_or(0);
        for i in 0..height {
            let mut line = pair[0].get(i).cloned().unwrap_or_default();
            if let Some(right) = pair.get(1).and_then(|block| block.get(i)) {
                line = line.clone().and(Tone::Plain, " ".repeat(half + 2 - line.width()));
                line.0.extend(right.0.clone());
            }
            lines.push(line.into());
        }
        lines.push(Line::default());
    }
    lines
}

/// Returns the parties of all cases of a finding, the first case first.
pub fn sides(evidence: &Evidence) -> Vec<&Party> {
    let subject = evidence.subject();
    let of_cases = subject.cases().into_iter().rev().flat_map(|case| case.parties());
    of_cases.chain(subject.parties()).map(|(_, side)| side).collect()
}

fn table_of(f: &Finding, which: Case) -> Option<Page> {
    let (table, generation) = subject(f, which).tables().into_iter().next()?;
    Some(Page::Table(table, generation))
}

/// Event time at which a case began.
pub fn when(f: &Finding, which: Case) -> u64 {
    subject(f, which).span_ns().map_or(f.first_ns, |(begin_ns, _)| begin_ns)
}

/// Returns a look at the events of the finding's tasks around it.
fn look(s: &Snapshot, f: &Finding, which: Case) -> Option<Look> {
    let subject = subject(f, which);
    let (lo, hi) = subject.span_ns()?;
    let parties = subject.parties();
    let mut tids: Vec<String> = parties.iter().map(|(_, side)| side.task.tid.0.to_string()).collect();
    tids.sort();
    tids.dedup();
    let from_ns = lo.saturating_sub(AROUND_NS).max(s.meta.start_ns);
    let to_ns = hi.saturating_add(AROUND_NS).min(from_ns.saturating_add(RANGE_MAX_NS));
    let title = "around it".to_owned();
    let filter = format!("task={}", tids.join(","));
    Some(Look { title, from_ns, to_ns, filter, around_ns: Some(lo) })
}

/// Events that the picture needs in addition to the evidence.
pub fn needs(s: &Snapshot, f: &Finding) -> Option<Look> {
    look(s, f, Case::Longest).filter(|_| widget::needs_events(f))
}

pub fn shortcut(s: &Snapshot, f: &Finding, which: Case, to: Shortcut) -> Option<Page> {
    match to {
        Shortcut::Table => table_of(f, which),
        Shortcut::Events => look(s, f, which).map(Page::Events),
        Shortcut::Stacks => {
            let any = subject(f, which).parties().iter().any(|(_, side)| side.stack.is_some());
            any.then(|| Page::Stacks(f.id.clone()))
        }
    }
}
