//! Pages of findings: the event as a picture and in words, the lease, and the stacks of all parties.

use observer_engine::finding::{Evidence, Finding, Side, Use, Window, WindowCase};

use super::{Case, Context, Go, Line, Page, Shortcut, evidence, link, named, plain, wrapped};
use crate::sink::words::{self, moment, span};
use crate::snapshot::Snapshot;
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
        .and(Tone::Plain, format!(" {}: {}", f.kind().name(), words::summary(f)));
    let seen = Text::new(Tone::Label, "seen ").and(Tone::Plain, words::seen(f, s.meta.start_ns));
    let missing = match &f.evidence {
        Evidence::Window(w) => Some(widget::timeline::missing(&w.longest, &s.setup)),
        _ => None,
    };
    let mut lines = wrapped(c, [name].into_iter().chain(missing).chain([seen]).chain(shown(s, f)));
    lines.push(Line::default());
    lines.extend(links(c, f));
    lines.push(Line::default());
    lines.extend(picture(c, f).into_iter().map(Line::from));
    lines.push(Line::default());
    lines.extend(wrapped(c, evidence(words::detail(&alone(f), c.stacks, s.meta.start_ns))));
    lines
}

/// Says which of several cases the page is about.
fn shown(s: &Snapshot, f: &Finding) -> Option<Text> {
    let Evidence::Window(w) = &f.evidence else { return None };
    let at = since_start(s, when(f, Case::Longest));
    let text = format!("the longest certain case, whose pointer was looked up at {at}");
    (w.first != w.longest).then(|| Text::new(Tone::Label, "here ").and(Tone::Plain, text))
}

/// Returns true if the page would show another window.
pub fn is_of_another_case(a: &Finding, b: &Finding) -> bool {
    match (&a.evidence, &b.evidence) {
        (Evidence::Window(a), Evidence::Window(b)) => a.longest.holder.time_ns != b.longest.holder.time_ns,
        _ => false,
    }
}

/// Returns the finding with only its longest case: the text must not mix two cases.
fn alone(f: &Finding) -> Finding {
    let mut f = f.clone();
    if let Evidence::Window(w) = &mut f.evidence {
        w.first = w.longest.clone();
    }
    f
}

/// Links of a finding's page.
fn links(c: &Context<'_>, f: &Finding) -> Vec<Line> {
    let s = c.snapshot;
    let mut lines = Vec::new();
    if let Evidence::Window(w) = &f.evidence {
        for (case, which) in cases(w) {
            let holder = task(&case.holder.task.comm, case.holder.task.tid);
            let text = match which {
                Case::Longest => format!("pte {} at {} of mm {}, {holder}", case.pte, case.addr, case.mm),
                Case::First => {
                    format!("the case that was seen first, at {}, {holder}", since_start(s, f.first_ns))
                }
            };
            lines.push(link("lease", text, "", Go::Page(Page::Lease(f.id.clone(), which))));
        }
    }
    if let Some(page @ Page::Table(table, generation)) = table_of(f, Case::Longest) {
        let text = format!("{table}, life {generation} of this address");
        lines.push(link("table", text, "t", Go::Page(page)));
    }
    if let Some(look) = look(s, f, Case::Longest) {
        let text = format!("{} to {}", since_start(s, look.from_ns), since_start(s, look.to_ns));
        let text = format!("of {}, {text}", plural_tasks(&look.filter));
        lines.push(link("events", text, "e", Go::Page(Page::Events(look))));
    }
    if sides_of(f, Case::Longest).iter().any(|(_, side)| side.stack.is_some()) {
        lines.push(link("stacks", "of all sides, whole", "s", Go::Page(Page::Stacks(f.id.clone()))));
    }
    if let Evidence::Cycle(cycle) = &f.evidence {
        for step in &cycle.steps {
            let text = format!("{} -> {}", step.from.name(), step.to.name());
            lines.push(link("edge", text, "", Go::Page(Page::Classes(step.from, step.to))));
        }
    }
    if c.replay {
        let at_ns = when(f, Case::Longest);
        let text = format!("{}: where this begins", since_start(s, at_ns));
        lines.push(link("go to", text, "", Go::Seek(at_ns)));
    }
    if let Some(mark) = c.mark(&f.id).filter(|_| c.replay) {
        let at = since_start(s, mark.told_ns);
        let end = if c.is_end(mark.told_ns) { ", which is the end of the run" } else { "" };
        let text = format!("{at}: first reported{end}, with the evidence of that time");
        lines.push(link("go to", text, "", Go::Seek(mark.told_ns)));
    }
    lines
}

fn plural_tasks(filter: &str) -> &'static str {
    if filter.contains(',') { "its tasks" } else { "its task" }
}

fn cases(w: &Window) -> Vec<(&WindowCase, Case)> {
    let mut cases = vec![(&w.longest, Case::Longest)];
    if w.first != w.longest {
        cases.push((&w.first, Case::First));
    }
    cases
}

fn case_of(w: &Window, which: Case) -> &WindowCase {
    match which {
        Case::First => &w.first,
        Case::Longest => &w.longest,
    }
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
    let Evidence::Window(w) = &f.evidence else { return vec![plain("this finding is about no lease")] };
    let case = case_of(w, which);
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
            named("into", format!("table {}, life {} of this address", case.table, case.generation)),
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
            format!("used at {}: it requested the table's lock through the pointer, and acquired it", at(ns))
        }
    };
    let end = |ns: u64, from: u64| if ns == 0 { "not after that".to_owned() } else { at(from + ns) };
    let mut rows = vec![
        named(
            "removed",
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
        rows.push(named("freed", format!("the table's page was given back at {}", at(ns))));
    }
    lines.extend(wrapped(c, rows));
    lines.push(Line::default());
    lines.extend(holds(c, &case.holder, "under"));
    lines
}

/// Locks that a party held.
fn holds(c: &Context<'_>, side: &Side, name: &str) -> Vec<Line> {
    let text = |h: &observer_engine::finding::Hold| {
        let since = since_start(c.snapshot, h.since_ns);
        format!("{} {:#x} since {since} ({})", words::lock(h.class, h.mode), h.lock, h.known.name())
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
    for (name, side) in sides_of(f, Case::Longest) {
        let who = format!("{} in {}", task(&side.task.comm, side.task.tid), side.site);
        let mut block = vec![Text::new(Tone::Label, format!("{name}: ")).and(Tone::Plain, who)];
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

/// Returns all parties of a finding.
pub fn sides(evidence: &Evidence) -> Vec<&Side> {
    match evidence {
        Evidence::Window(w) => {
            [&w.first, &w.longest].into_iter().flat_map(|c| [&c.holder, &c.unlinker]).collect()
        }
        Evidence::Prediction(p) => vec![&p.holder, &p.unlinker],
        Evidence::Cycle(c) => c.steps.iter().map(|step| &step.side).collect(),
        Evidence::AgainstOrder(a) => vec![&a.step.side],
        Evidence::Relock(r) => vec![&r.side],
        Evidence::FreedShared(f) => vec![&f.side],
        Evidence::OrphanWait(o) => vec![&o.side],
    }
}

/// Returns every party with its name.
fn sides_of(f: &Finding, which: Case) -> Vec<(String, &Side)> {
    match &f.evidence {
        Evidence::Window(w) => {
            let case = case_of(w, which);
            let mut sides = vec![("holder".into(), &case.holder), ("unlinker".into(), &case.unlinker)];
            if let Some(used) = &case.at_use
                && used.stack != case.holder.stack
            {
                sides.push(("use".into(), used));
            }
            sides
        }
        Evidence::Prediction(p) => vec![("holder".into(), &p.holder), ("unlinker".into(), &p.unlinker)],
        Evidence::Cycle(cycle) => {
            let steps = cycle.steps.iter().enumerate().map(|(i, s)| (format!("side {}", i + 1), &s.side));
            steps.chain(cycle.queued.iter().map(|q| ("writer".to_owned(), &q.side))).collect()
        }
        Evidence::AgainstOrder(a) => vec![("side".into(), &a.step.side)],
        Evidence::Relock(r) => vec![("side".into(), &r.side)],
        Evidence::FreedShared(f) => vec![("by".into(), &f.side)],
        Evidence::OrphanWait(o) => vec![("waiter".into(), &o.side)],
    }
}

fn table_of(f: &Finding, which: Case) -> Option<Page> {
    let (table, generation) = match &f.evidence {
        Evidence::Window(w) => (case_of(w, which).table, case_of(w, which).generation),
        Evidence::Prediction(p) => (p.table, p.generation),
        Evidence::FreedShared(f) => (f.table, f.generation),
        _ => return None,
    };
    Some(Page::Table(table, generation))
}

/// Event time at which a case began.
pub fn when(f: &Finding, which: Case) -> u64 {
    sides_of(f, which).iter().map(|(_, side)| side.time_ns).min().unwrap_or(f.first_ns)
}

/// Returns a look at the events of the finding's tasks around it.
fn look(s: &Snapshot, f: &Finding, which: Case) -> Option<Look> {
    let sides = sides_of(f, which);
    let mut tids: Vec<String> = sides.iter().map(|(_, side)| side.task.tid.0.to_string()).collect();
    tids.sort();
    tids.dedup();
    let (mut lo, mut hi) = (u64::MAX, 0);
    for (_, side) in &sides {
        lo = lo.min(side.time_ns);
        hi = hi.max(side.time_ns);
    }
    if let Evidence::Window(w) = &f.evidence {
        let c = case_of(w, which);
        hi = hi.max(c.unlink_hi_ns + c.certain_ns).max(c.unlink_lo_ns + c.possible_ns);
    }
    let from_ns = lo.saturating_sub(AROUND_NS).max(s.meta.start_ns);
    let to_ns = (hi + AROUND_NS).min(from_ns + RANGE_MAX_NS);
    let title = "around it".to_owned();
    let filter = format!("task={}", tids.join(","));
    (lo <= hi).then_some(Look { title, from_ns, to_ns, filter, around_ns: Some(lo) })
}

/// Events that the picture needs in addition to the evidence.
pub fn needs(s: &Snapshot, f: &Finding) -> Option<Look> {
    match f.evidence {
        Evidence::Window(_) | Evidence::Prediction(_) => look(s, f, Case::Longest),
        _ => None,
    }
}

pub fn shortcut(s: &Snapshot, f: &Finding, which: Case, to: Shortcut) -> Option<Page> {
    match to {
        Shortcut::Table => table_of(f, which),
        Shortcut::Events => look(s, f, which).map(Page::Events),
        Shortcut::Stacks => {
            let any = sides_of(f, which).iter().any(|(_, side)| side.stack.is_some());
            any.then(|| Page::Stacks(f.id.clone()))
        }
    }
}
