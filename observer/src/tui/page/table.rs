//! Pages of page tables, of the files that they map, and of pointers in use.

use observer_engine::event::{Mapping, Pte, Table, Tid};
use observer_engine::finding::Finding;
use observer_engine::view::{LeaseView, TableView};

use super::{Context, Go, Line, Page, Shortcut, comm_of, link, named, plain, table_of, wrapped};
use crate::sink::words;
use crate::snapshot::Snapshot;
use crate::text::{number, plural};
use crate::tui::answers::Look;
use crate::tui::names::{mapping_name, since_start, state, task};
use crate::tui::text::{Text, Tone};
use crate::tui::widget::life;

/// Maximum number of links and pointers listed on a page.
const LISTED: usize = 200;

pub fn lines(c: &Context<'_>, table: Table, generation: u32) -> Vec<Line> {
    let s = c.snapshot;
    let found = s.tables.iter().find(|t| (t.table, t.generation) == (table, generation));
    let Some(t) = found else {
        return vec![
            plain("this table is not known at this time of the run: not allocated yet, or freed long ago"),
            link("events", "that name it", "e", Go::Page(events(s, table))),
        ];
    };
    let head = Text::new(Tone::Label, format!("table {table}, generation {generation} at this address")).and(
        Tone::Plain,
        format!(
            ": {}, {} from {} on; {} lookups, {} shares, {} unshares, at most {}",
            state(t),
            if t.birth_seen { "made" } else { "known" },
            since_start(s, t.birth_ns),
            number(t.lookups),
            number(t.shares),
            number(t.unshares),
            plural(t.sharers_max as u64, "sharer")
        ),
    );
    let mut lines = wrapped(c, [head]);
    lines.push(Line::default());
    lines.push(link("file", mapping_name(t.mapping), "", Go::Page(Page::Mapping(t.mapping))));
    lines.push(link("events", "that name it, or a pte in it", "e", Go::Page(events(s, table))));
    lines.extend(findings(s, t));
    lines.extend(pointers(s, |l| (l.table, l.generation) == (table, generation)));
    lines.push(Line::default());
    lines.extend(
        life::Life {
            table: t,
            start_ns: s.meta.start_ns,
            here_ns: c.came_for_ns,
            comm: &|tid| comm_of(s, tid).map(str::to_owned),
        }
        .lines(usize::from(c.width.saturating_sub(2)), c.glyphs)
        .into_iter()
        .map(Line::from),
    );
    lines.push(Line::default());
    lines.extend(wrapped(c, links(t)));
    lines.extend(wrapped(c, history(c, t)));
    lines
}

fn links(t: &TableView) -> Vec<Text> {
    let head = match t.links.len() {
        0 => "no link to it is known now".to_owned(),
        1 => "one link, not shared:".to_owned(),
        n => format!("{n} links share it:"),
    };
    let link = |l: &observer_engine::view::LinkView| {
        Text::new(Tone::Plain, format!("  mm {} at address {}", l.mm, l.gib))
    };
    let rest = t.links.len().saturating_sub(LISTED);
    let more = (rest > 0).then(|| Text::new(Tone::Faint, format!("  and {} more", number(rest as u64))));
    std::iter::once(Text::new(Tone::Label, head))
        .chain(t.links.iter().take(LISTED).map(link))
        .chain(more)
        .collect()
}

/// Kept steps of a table, with the moment that led here marked among them.
fn history(c: &Context<'_>, t: &TableView) -> Vec<Text> {
    let s = c.snapshot;
    let steps = words::table_history(t, s.meta.start_ns);
    if steps.is_empty() {
        return Vec::new();
    }
    let all = format!("{} and {}", plural(t.shares, "share"), plural(t.unshares, "unshare"));
    let head = format!("what happened to it last, {} of {all}:", plural(steps.len() as u64, "step"));
    let mut lines = vec![Text::new(Tone::Label, head)];
    let here = |ns| {
        let text = format!("  {}  what is looked at from here", since_start(s, ns));
        Text::new(Tone::Caution, text)
    };
    let mut coming = c.came_for_ns;
    for (e, step) in t.history.iter().zip(&steps) {
        if let Some(ns) = coming.filter(|ns| *ns < e.time_ns) {
            lines.push(here(ns));
            coming = None;
        }
        let (tid, comm) = (e.tid.0, comm_of(s, e.tid));
        let named =
            comm.map(|comm| step.replacen(&format!("by task {tid}"), &format!("by {comm} ({tid})"), 1));
        lines.push(Text::new(Tone::Plain, format!("  {}", named.as_ref().unwrap_or(step))));
    }
    lines.extend(coming.map(here));
    lines
}

/// Links to findings about a table.
fn findings(s: &Snapshot, t: &TableView) -> Vec<Line> {
    let about = |f: &&Finding| f.evidence.subject().tables().contains(&(t.table, t.generation));
    s.findings.iter().filter(about).map(super::order::finding).collect()
}

/// Links to the pointers in use now.
fn pointers(s: &Snapshot, which: impl Fn(&LeaseView) -> bool) -> Vec<Line> {
    let line = |l: &LeaseView| {
        let text = format!("{} of {} in {}, {}", l.pte, task(&l.task.comm, l.task.tid), l.site, use_words(l));
        link("pointer", text, "", Go::Page(Page::Pointer(l.task.tid, l.pte)))
    };
    s.leases.iter().filter(|l| which(l)).take(LISTED).map(line).collect()
}

fn use_words(l: &LeaseView) -> &'static str {
    match (l.stale, l.dormant) {
        (true, _) => "STALE: its link was unlinked",
        (false, true) => "dormant: the locks held at the lookup were released",
        (false, false) => "in use",
    }
}

/// Page of a file: operations on its tables, and the tasks that did them.
pub fn mapping(c: &Context<'_>, mapping: Mapping) -> Vec<Line> {
    let s = c.snapshot;
    let Some(m) = s.mappings.iter().find(|m| m.mapping == mapping) else {
        return vec![plain("no table of this file was shared or unshared up to this time of the run")];
    };
    let head = Text::new(Tone::Label, format!("file {}", mapping_name(mapping))).and(
        Tone::Plain,
        format!(
            ": {} alive, at most {} of one; shared or unshared from {} on",
            plural(m.tables as u64, "table"),
            plural(m.sharers as u64, "sharer"),
            since_start(s, m.first_ns)
        ),
    );
    let seconds = words::seconds(m);
    let rate = |what: &str, n, peak| {
        let (mean, peak) = (words::per_second(n, seconds), number(peak));
        Text::new(Tone::Plain, format!("{}: {mean} per second, {peak} at most", plural(n, what)))
    };
    let rates =
        [rate("share", m.shares, m.peak_shares_per_s), rate("unshare", m.unshares, m.peak_unshares_per_s)];
    let by = m.by.iter().map(|u| Text::new(Tone::Plain, words::unsharer(u)));
    let mut lines = wrapped(c, std::iter::once(head).chain(rates).chain(by).collect::<Vec<_>>());
    lines.push(Line::default());
    let table = |t: &TableView| {
        let text = format!("{} {}, {}", t.table, state(t), plural(t.links.len() as u64, "link"));
        link("table", text, "", Go::Page(Page::Table(t.table, t.generation)))
    };
    lines.extend(s.tables.iter().filter(|t| t.mapping == mapping).take(LISTED).map(table));
    lines
}

/// Page of a pointer in use.
pub fn pointer(c: &Context<'_>, tid: Tid, pte: Pte) -> Vec<Line> {
    let s = c.snapshot;
    let history = link("history", "of this pte: everything that named it", "e", Go::Page(history_of(s, pte)));
    let Some(l) = s.leases.iter().find(|l| (l.task.tid, l.pte) == (tid, pte)) else {
        return vec![plain("the task does not use this pointer at this time"), history];
    };
    let head =
        Text::new(if l.stale { Tone::Alarm } else { Tone::Label }, format!("pte {pte}: {}", use_words(l)));
    let mut lines = wrapped(
        c,
        [
            head,
            named(
                "holder",
                format!("{} in {}, since {}", task(&l.task.comm, tid), l.site, since_start(s, l.since_ns)),
            ),
            named("address", format!("{} of mm {}", l.addr, l.mm)),
        ],
    );
    lines.push(Line::default());
    lines.push(link(
        "table",
        format!("{}, generation {}", l.table, l.generation),
        "t",
        Go::Page(Page::Table(l.table, l.generation)),
    ));
    lines.push(history);
    lines.push(Line::default());
    let held =
        l.holds.iter().map(|h| named("holds", format!("{} {:#x}", words::lock(h.class, h.mode), h.lock)));
    lines.extend(wrapped(c, held.collect::<Vec<_>>()));
    lines
}

/// Events of the whole run that name a pte.
pub fn history_of(s: &Snapshot, pte: Pte) -> Page {
    Page::Events(Look::through(s, format!("of pte {pte}"), format!("pte={pte}")))
}

/// Events of the whole run that name a table or a pte in it.
pub fn events(s: &Snapshot, table: Table) -> Page {
    Page::Events(Look::through(s, format!("of table {table}"), format!("table={table}")))
}

pub fn of_pointer(s: &Snapshot, tid: Tid, pte: Pte, to: Shortcut) -> Option<Page> {
    match to {
        Shortcut::Events => Some(history_of(s, pte)),
        Shortcut::Table => {
            let known = s.leases.iter().find(|l| (l.task.tid, l.pte) == (tid, pte));
            let (table, generation) = known.map(|l| (l.table, l.generation)).or_else(|| table_of(s, pte))?;
            Some(Page::Table(table, generation))
        }
        Shortcut::Stacks => None,
    }
}
