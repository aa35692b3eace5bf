//! One generation of a table: its links over time, and the tasks that shared and unlinked it.
//!
//! Decides which part of the kept history has room. Only the last steps are kept, so a link may be older than all of them.

use observer_engine::{
    event::{Addr, Mm, Tid},
    view::{TableEvent, TableStep, TableView},
};

use super::super::text::{Text, Tone};
use super::super::words::short_span;
use super::axis::Axis;
use super::canvas::{Frame, Row, clip, legend, words};
use super::glyphs::Glyphs;
use crate::text::{moment, plural, span};

/// Links shown, on a narrow and on a wide screen.
const LINKS: [usize; 2] = [10, 24];

/// Maximum number of tasks named.
const TASKS: usize = 8;

/// One period in which an entry pointed to the table.
struct Stay {
    /// Time and mark of its begin; `None`: before the kept history.
    begin: Option<(u64, char)>,
    end_ns: Option<u64>,
}

/// One entry, with all periods in which it pointed to the table.
struct Link {
    mm: Mm,
    gib: Addr,
    stays: Vec<Stay>,
    /// Tasks that made and unlinked it, each once.
    makers: Vec<Tid>,
    unlinkers: Vec<Tid>,
}

/// A table with the context that its picture needs.
#[derive(Clone, Copy)]
pub struct Life<'a> {
    pub table: &'a TableView,
    /// Start of the run.
    pub start_ns: u64,
    /// Moment that the person looks at.
    pub here_ns: Option<u64>,
    /// Name of a task, where it is known.
    pub comm: &'a dyn Fn(Tid) -> Option<String>,
}

impl Life<'_> {
    /// Draws the picture and its words.
    #[must_use]
    pub fn lines(&self, width: usize, glyphs: &Glyphs) -> Vec<Text> {
        let links = links(self.table);
        let mut out = Vec::new();
        if let Some(frame) = Frame::of(width) {
            Picture { life: self, table: self.table, links: &links, start_ns: self.start_ns, frame, glyphs }
                .draw(&mut out);
        }
        self.said(&mut out, &links, width);
        out.into_iter().map(|line| clip(line, width)).collect()
    }

    /// Name of a task as far as it is known: `ex-vmread (99)`.
    fn task(&self, tid: Tid) -> String {
        (self.comm)(tid).map_or_else(|| tid.0.to_string(), |comm| format!("{comm} ({})", tid.0))
    }
}

/// Links of the table, by the time at which each first pointed to it.
fn links(table: &TableView) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    let mut of = |mm, gib| -> usize {
        let known = links.iter().position(|l: &Link| (l.mm, l.gib) == (mm, gib));
        known.unwrap_or_else(|| {
            links.push(Link { mm, gib, stays: Vec::new(), makers: Vec::new(), unlinkers: Vec::new() });
            links.len() - 1
        })
    };
    let events: Vec<(usize, &TableEvent)> = table
        .history
        .iter()
        .filter(|e| e.generation == table.generation && e.what != TableStep::Freed)
        .map(|e| (of(e.mm, e.gib), e))
        .collect();
    let alive: Vec<(usize, u64)> = table.links.iter().map(|l| (of(l.mm, l.gib), l.since_ns)).collect();
    for (at, e) in events {
        links[at].take(e);
    }
    for (at, since_ns) in alive {
        let open = links[at].stays.last().is_some_and(|s| s.end_ns.is_none());
        if !open {
            links[at].stays.push(Stay { begin: Some((since_ns, '?')), end_ns: None });
        }
    }
    links.sort_by_key(|l| l.stays.first().map(|s| s.begin.map_or(0, |(ns, _)| ns)));
    links
}

impl Link {
    fn take(&mut self, e: &TableEvent) {
        let open = self.stays.last().is_some_and(|s| s.end_ns.is_none());
        let tids = match e.what {
            TableStep::Unshared if open => {
                if let Some(stay) = self.stays.last_mut() {
                    stay.end_ns = Some(e.time_ns);
                }
                &mut self.unlinkers
            }
            TableStep::Unshared => {
                self.stays.push(Stay { begin: None, end_ns: Some(e.time_ns) });
                &mut self.unlinkers
            }
            _ if open => return,
            made => {
                let mark = match made {
                    TableStep::Born => 'B',
                    TableStep::Shared => 'S',
                    _ => '?',
                };
                self.stays.push(Stay { begin: Some((e.time_ns, mark)), end_ns: None });
                &mut self.makers
            }
        };
        if e.tid != Tid(0) && !tids.contains(&e.tid) {
            tids.push(e.tid);
        }
    }
}

struct Picture<'a> {
    life: &'a Life<'a>,
    table: &'a TableView,
    links: &'a [Link],
    start_ns: u64,
    frame: Frame,
    glyphs: &'a Glyphs,
}

impl Picture<'_> {
    fn draw(&self, out: &mut Vec<Text>) {
        let t = self.table;
        let freed_ns = self.freed_ns();
        let last_ns = freed_ns.unwrap_or(t.last_ns).max(t.birth_ns);
        let others: Vec<u64> = t.history.iter().map(|e| e.time_ns).collect();
        let (from_ns, to_ns) = (t.birth_ns, last_ns);
        let here_ns = self.life.here_ns.filter(|ns| (from_ns..=to_ns).contains(ns));
        let moments: Vec<u64> = [from_ns, to_ns].into_iter().chain(here_ns).collect();
        let axis = Axis::new(&moments, &others, self.frame.cells);
        let mut times = vec![(from_ns, moment(from_ns, self.start_ns))];
        times.extend(here_ns.map(|ns| (ns, "looked at".to_owned())));
        if to_ns > from_ns {
            times.push((to_ns, format!("+{}", short_span(to_ns - from_ns))));
        }
        let rows = axis.head(&times, self.frame.cells, self.glyphs);
        for (i, row) in rows.iter().enumerate() {
            let name = match (i + 1 == rows.len(), t.birth_seen) {
                (false, _) => "",
                (true, true) => "from its birth",
                (true, false) => "from its first sight",
            };
            out.push(self.frame.line((Tone::Faint, name), row, ""));
        }
        self.sharers(out, &axis);
        let most = LINKS[usize::from(self.frame.is_wide())];
        let one_gib = self.links.iter().all(|l| l.gib == self.links[0].gib);
        for link in self.links.iter().take(most) {
            self.link(out, &axis, link, one_gib, freed_ns);
        }
        let more = self.links.len().saturating_sub(most);
        if more > 0 {
            let text = format!(" +{} more", plural(more as u64, "link"));
            out.push(Text::new(Tone::Faint, text));
        }
        self.legend(out, freed_ns.is_some());
    }

    fn freed_ns(&self) -> Option<u64> {
        let of_this = |e: &&TableEvent| e.generation == self.table.generation && e.what == TableStep::Freed;
        self.table.history.iter().rfind(of_this).map(|e| e.time_ns)
    }

    /// Draws the number of links to the table; each cell shows the most in its time.
    fn sharers(&self, out: &mut Vec<Text>, axis: &Axis) {
        let mut row = Row::new(self.frame.cells);
        let (from, to) = (axis.column(self.table.birth_ns), axis.column(self.end_ns()));
        let mut most = vec![0_usize; self.frame.cells];
        for link in self.links {
            let mut there = vec![false; self.frame.cells];
            for stay in &link.stays {
                let begin = stay.begin.map_or(from, |(ns, _)| axis.column(ns));
                let end = stay.end_ns.map_or(to, |ns| axis.column(ns));
                there[begin.min(end)..=end].fill(true);
            }
            most.iter_mut().zip(there).for_each(|(n, there)| *n += usize::from(there));
        }
        // The links before the kept steps are not known.
        let kept = self.table.history.first().filter(|_| is_cut(self.table, self.links));
        let known = kept.map_or(from, |e| axis.column(e.time_ns).max(from));
        row.fill(from, known, Tone::Faint, '?');
        for (column, n) in most.iter().enumerate().take(to + 1).skip(known) {
            let c = u32::try_from(*n).ok().and_then(|n| char::from_digit(n, 10)).unwrap_or('+');
            row.set(column, if *n > 1 { Tone::Label } else { Tone::Faint }, c);
        }
        out.push(self.frame.line((Tone::Label, "links at a time"), &row, ""));
    }

    fn end_ns(&self) -> u64 {
        self.freed_ns().unwrap_or(self.table.last_ns).max(self.table.birth_ns)
    }

    fn link(&self, out: &mut Vec<Text>, axis: &Axis, link: &Link, one_gib: bool, freed_ns: Option<u64>) {
        let mut row = Row::new(self.frame.cells);
        for stay in &link.stays {
            let begin = stay.begin.map_or(0, |(ns, _)| axis.column(ns));
            let end = stay.end_ns.or(freed_ns).map_or(self.frame.cells - 1, |ns| axis.column(ns));
            let is_known = stay.begin.is_some();
            row.fill(begin, end, Tone::Plain, if is_known { self.glyphs.held } else { self.glyphs.unknown });
            if let Some((_, mark)) = stay.begin {
                row.set(begin, Tone::Label, mark);
            }
            if stay.end_ns.is_some() {
                row.set(end, Tone::Label, 'X');
            }
        }
        if let Some(ns) = freed_ns {
            row.set(axis.column(ns), Tone::Label, 'F');
        }
        let name = if one_gib { format!(" {}", link.mm) } else { format!(" {}", self.name(link)) };
        let actors =
            |named: bool| tasks(link, &|tid| if named { self.life.task(tid) } else { tid.0.to_string() });
        // One cell is the gap before it.
        let room = self.frame.addresses.saturating_sub(1);
        let actors =
            Some(actors(true)).filter(|text| text.chars().count() <= room).unwrap_or_else(|| actors(false));
        out.push(self.frame.line((Tone::Plain, &name), &row, &actors));
    }

    /// Name of a link. The last digits of an mm are shown: the first ones are the same for all.
    fn name(&self, link: &Link) -> String {
        let gib = format!("@{:#x}", link.gib.0);
        let mm = format!("{:x}", link.mm.0);
        let room = self.frame.names.saturating_sub(gib.len() + 1);
        format!("{}{gib}", &mm[mm.len().saturating_sub(room.max(4))..])
    }

    fn legend(&self, out: &mut Vec<Text>, freed: bool) {
        let marks: Vec<char> =
            self.links.iter().flat_map(|l| &l.stays).filter_map(|s| s.begin).map(|b| b.1).collect();
        let mut parts = Vec::new();
        for (mark, text) in [('B', "B made with the table"), ('S', "S shared"), ('?', "? first seen")] {
            if marks.contains(&mark) {
                parts.push((Tone::Faint, text.to_owned()));
            }
        }
        if self.links.iter().flat_map(|l| &l.stays).any(|s| s.end_ns.is_some()) {
            parts.push((Tone::Faint, "X removed".to_owned()));
        }
        if freed {
            parts.push((Tone::Faint, "F page given back".to_owned()));
        }
        if !parts.is_empty() {
            let width = self.frame.names + 1 + self.frame.cells + self.frame.addresses;
            legend(out, &parts, width);
        }
    }
}

/// True if there were more steps than are kept.
fn is_cut(table: &TableView, links: &[Link]) -> bool {
    table.shares + 1 > links.iter().map(|l| l.stays.len()).sum::<usize>() as u64
}

/// Tasks of a link: `S 99 X 98`, those that made it and those that unlinked it.
fn tasks(link: &Link, name: &dyn Fn(Tid) -> String) -> String {
    let list = |tids: &[Tid]| tids.iter().map(|t| name(*t)).collect::<Vec<_>>().join(",");
    match (&link.makers[..], &link.unlinkers[..]) {
        ([], []) => String::new(),
        (by, []) => format!("S {}", list(by)),
        ([], by) => format!("X {}", list(by)),
        (made, removed) => format!("S {} X {}", list(made), list(removed)),
    }
}

impl Life<'_> {
    /// Says the same in words, with the tasks.
    fn said(&self, out: &mut Vec<Text>, links: &[Link], width: usize) {
        let table = self.table;
        let mut gibs: Vec<Addr> = links.iter().map(|l| l.gib).collect();
        gibs.sort_unstable();
        gibs.dedup();
        let is_cut = is_cut(table, links);
        let kept = if is_cut { " in the steps that are kept" } else { "" };
        let at = if let [gib] = gibs[..] { format!(", all for the GiB of {gib}") } else { String::new() };
        let text = format!("{}{kept}{at}", plural(links.len() as u64, "link"));
        let life = span(table.last_ns.saturating_sub(table.birth_ns));
        let state = if table.alive {
            format!("; alive, used last {life} on")
        } else {
            format!("; gone after {life}")
        };
        words(out, Text::new(Tone::Plain, text + &state), width);
        let made: fn(&Link) -> Vec<Tid> = |l| l.makers.clone();
        let gone: fn(&Link) -> Vec<Tid> = |l| l.unlinkers.clone();
        for (what, tids_of) in [("linked", made), ("removed", gone)] {
            let mut tids: Vec<Tid> = links.iter().flat_map(tids_of).collect();
            tids.sort_unstable();
            tids.dedup();
            if !tids.is_empty() {
                let list: Vec<String> = tids.iter().take(TASKS).map(|tid| self.task(*tid)).collect();
                let task = if tids.len() == 1 { "task" } else { "tasks" };
                let more = tids.len().saturating_sub(TASKS);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let text = format!("{what} by {task} {}{more}", list.join(", "));
                words(out, Text::new(Tone::Plain, text), width);
            }
        }
        if is_cut {
            let (shares, removals) = (plural(table.shares, "share"), plural(table.unshares, "unshare"));
            let steps = plural(table.history.len() as u64, "step");
            let text = format!("the last {steps} only, of {shares} and {removals}; ? is what was before");
            words(out, Text::new(Tone::Faint, text), width);
        }
    }
}
