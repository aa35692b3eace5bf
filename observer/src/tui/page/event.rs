//! Pages of events, and of what produces them: the sites of a role.

use observer_engine::event::{Body, Pte, Table};
use observer_engine::setup::Role;

use super::{Context, Go, Line, Page, Shortcut, link, named, plain, table, wrapped};
use crate::events::{self, EventRow};
use crate::library;
use crate::snapshot::Snapshot;
use crate::text::{number, plural};
use crate::tui::answers::{Answer, Look};
use crate::tui::cells::fitted;
use crate::tui::names::since_start;
use crate::tui::text::{Text, Tone, fit};
use crate::tui::views::{self, fired};

/// Events from the recording, one per line.
pub fn list(c: &Context<'_>, look: &Look) -> Vec<Line> {
    let page = match c.answers.get(look) {
        None | Some(Answer::Asked) => return vec![plain("looking in the recording ...")],
        Some(Answer::Failed(why)) => return vec![Text::new(Tone::Alarm, why.as_str()).into()],
        Some(Answer::Found(page)) => page,
    };
    let columns = fitted(views::events::COLUMNS, c.width.saturating_sub(2));
    let line = |row: &EventRow| {
        let row = &renumbered(c, row);
        let cells = views::events::cells(c.snapshot, row);
        let mut text = Text::default();
        for (n, column) in &columns {
            if let Some(cell) = cells.get(*n) {
                text = text.and(cell.tone, fit(&cell.text, usize::from(column.width), column.right) + " ");
            }
        }
        Line { text, link: Some(Go::Page(Page::Event(Box::new(row.clone())))) }
    };
    let mut lines: Vec<Line> = page.events.iter().map(line).collect();
    let cut = format!("only {}: narrow it with &", plural(page.events.len() as u64, "event"));
    if page.earlier {
        lines.insert(0, Text::new(Tone::Faint, format!("there are earlier ones; {cut}")).into());
    }
    if let Some(from_ns) = gone_before(page, look) {
        let from = since_start(c.snapshot, from_ns);
        let text = format!("events before {from} are not kept any more; --record FILE keeps all");
        lines.insert(0, Text::new(Tone::Caution, text).into());
    }
    let last = match (page.more, page.read_until_ns < look.to_ns) {
        (true, _) => format!("there are later ones; {cut}"),
        (false, true) => "what is newer is not in the recording yet".to_owned(),
        (false, false) if page.events.is_empty() => format!("no event of this time passes {}", look.filter),
        (false, false) => plural(page.events.len() as u64, "event"),
    };
    lines.push(Text::new(Tone::Faint, last).into());
    lines
}

/// Replaces a kernel's stack number by the run's number: recordings store the kernel's, views show the run's.
fn renumbered(c: &Context<'_>, row: &EventRow) -> EventRow {
    let mut row = row.clone();
    if let Body::Stack { stack, .. } = &mut row.event.body {
        *stack = c.stacks.number(*stack, row.event.time_ns);
    }
    row
}

/// Line to begin with: the first event at or after the moment that the look is about.
pub fn first_line(c: &Context<'_>, look: &Look) -> Option<usize> {
    let Some(Answer::Found(page)) = c.answers.get(look) else { return None };
    let at = match look.around_ns {
        Some(around_ns) => page.events.partition_point(|row| row.event.time_ns < around_ns),
        None if page.earlier => page.events.len(),
        None => 0,
    };
    Some(at + usize::from(page.earlier) + usize::from(gone_before(page, look).is_some()))
}

/// Event time from which on events are kept, if older ones that were asked for are gone.
fn gone_before(page: &library::Page, look: &Look) -> Option<u64> {
    page.kept_from_ns.filter(|ns| look.from_ns < *ns)
}

/// One event: all its fields, and links to the objects that it names.
pub fn lines(c: &Context<'_>, row: &EventRow) -> Vec<Line> {
    let s = c.snapshot;
    let w = events::words(row, &s.setup, s.meta.start_ns);
    let trace = events::trace_line(row, &s.setup);
    let fields = [
        ("time", w.time),
        ("cpu", w.cpu),
        ("task", w.task),
        ("what", w.action),
        ("object", w.object),
        ("trace", trace),
    ];
    // Event pages are not cut; lists are.
    let mut lines: Vec<Line> = wrapped(c, fields.into_iter().map(|(name, text)| named(name, text)));
    lines.push(Line::default());
    if let Some(pte) = pte(row) {
        lines.push(link(
            "pte",
            format!("{pte}: everything that named it"),
            "",
            Go::Page(table::history_of(s, pte)),
        ));
    }
    if let Some(page @ Page::Table(table, _)) = table(s, row) {
        lines.push(link("table", table.to_string(), "t", Go::Page(page)));
    }
    if let Body::Lock { lock, class, .. } = row.event.body {
        let title = format!("of {} {lock} around it", class.name());
        let events = Look::around(s, row.event.time_ns, title, format!("lock={lock}"));
        lines.push(link(
            "lock",
            format!("{} {lock} around this", class.name()),
            "",
            Go::Page(Page::Events(events)),
        ));
    }
    let tid = row.event.tid.0;
    lines.push(link(
        "task",
        format!("what task {tid} did around this"),
        "e",
        Go::Page(Page::Events(of_task(s, row))),
    ));
    lines.push(link("stacks", "that were taken of it", "s", Go::Page(stacks_of_task(s, row))));
    if c.replay {
        lines.push(link("go to", "this moment of the recording", "", Go::Seek(row.event.time_ns)));
    }
    if let Body::Stack { stack, .. } = row.event.body {
        let frames = c.stacks.symbolised(Some(stack));
        let none = "its frames are not recorded up to this time of the run";
        lines.push(Line::default());
        lines.push(Text::new(Tone::Label, "stack of the task's first call of this:").into());
        if frames.is_empty() {
            lines.push(Text::new(Tone::Faint, format!("  {none}")).into());
        }
        lines.extend(wrapped(c, frames.into_iter().map(|f| Text::new(Tone::Plain, format!("  {f}")))));
    }
    lines
}

fn pte(row: &EventRow) -> Option<Pte> {
    match row.event.body {
        Body::Lookup { pte, .. }
        | Body::Share { pte, .. }
        | Body::Unshare { pte, .. }
        | Body::CallbackBegin { pte, .. } => (pte.0 != 0).then_some(pte),
        _ => None,
    }
}

fn table(s: &Snapshot, row: &EventRow) -> Option<Page> {
    let table = match row.event.body {
        Body::TableAlloc { table, .. } | Body::TableFree { table, .. } | Body::Unlinked { table, .. } => {
            table
        }
        _ => pte(row)?.table(),
    };
    let life = |t: &&observer_engine::view::TableView| t.table == table && t.birth_ns <= row.event.time_ns;
    let generation = s.tables.iter().filter(life).map(|t| t.generation).max().unwrap_or(1);
    Some(Page::Table(Table(table.0), generation))
}

/// Events of the same task around an event.
fn of_task(s: &Snapshot, row: &EventRow) -> Look {
    let tid = row.event.tid.0;
    Look::around(s, row.event.time_ns, format!("of task {tid} around it"), format!("task={tid}"))
}

/// Stack events of a task: one is recorded at its first call of each operation.
fn stacks_of_task(s: &Snapshot, row: &EventRow) -> Page {
    let tid = row.event.tid.0;
    let (title, filter) = (format!("with stacks of task {tid}"), format!("kind=stack task={tid}"));
    Page::Events(Look::through(s, title, filter))
}

pub fn shortcut(s: &Snapshot, row: &EventRow, to: Shortcut) -> Option<Page> {
    match to {
        Shortcut::Table => table(s, row),
        Shortcut::Events => Some(Page::Events(of_task(s, row))),
        Shortcut::Stacks => Some(stacks_of_task(s, row)),
    }
}

/// A role: its coverage grade and reason, and the functions that serve it.
pub fn role(c: &Context<'_>, role: Role, part: &str) -> Vec<Line> {
    let s = c.snapshot;
    let mut lines = Vec::new();
    for row in s.coverage.iter().filter(|row| row.role == role && row.part == part) {
        let of = if part.is_empty() { String::new() } else { format!(", of it: {part}") };
        let text =
            Text::new(Tone::Label, format!("{}{of}: ", role.name())).and(Tone::Plain, row.grade.name());
        let why = if row.reason.is_empty() { "every occurrence at its moment" } else { &row.reason };
        lines.extend(wrapped(c, [text, Text::new(Tone::Plain, why), Text::default()]));
    }
    let mut sites: Vec<_> = s.setup.sites.iter().filter(|site| site.role == role).collect();
    sites.sort_by_key(|site| std::cmp::Reverse(fired(s, site.id.0)));
    let head = format!(
        "{} attached for this role, and the events that came of each:",
        plural(sites.len() as u64, "site")
    );
    lines.push(Text::new(Tone::Label, head).into());
    for site in sites {
        let fired = fired(s, site.id.0);
        let tone = if fired == 0 { Tone::Faint } else { Tone::Plain };
        lines.push(Text::new(tone, format!("{:>14}  {}", number(fired), site.function)).into());
    }
    let note = "No events does not mean that the probe did not fire: it may have seen only objects that are not watched.";
    lines.push(Line::default());
    lines.extend(wrapped(c, [Text::new(Tone::Faint, note)]));
    lines
}
