//! Rows of each view of a snapshot: their number, their identity, and their cells.
//!
//! Decides the columns, their words and their sort keys. `page` shows what there is to read about one row.

use observer_engine::{
    event::{Mapping, Mode, Pte, Table, Tid},
    finding::{Finding, Manner, Rank},
    lock_class::LockClass,
    setup::{Coverage, Grade},
    view::{EdgeView, LeaseView, MappingView, TableView},
};

use super::page::{self, Page};
use super::state::Tab;
use super::theme::Tone;
use super::words::short_span;
use crate::events::{self, EventRow};
use crate::sink::words::{self, moment, number};
use crate::snapshot::Snapshot;

/// A column of a list.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub title: &'static str,
    /// Width in cells; 0 takes the rest of the line.
    pub width: u16,
    /// True if right-aligned, as numbers are.
    pub right: bool,
    /// Width in cells where there is little room.
    narrow: u16,
    /// Screen width from which on the column is shown.
    pub from_width: u16,
}

const fn left(title: &'static str, width: u16) -> Column {
    Column { title, width, right: false, narrow: width, from_width: 0 }
}

const fn right(title: &'static str, width: u16) -> Column {
    Column { right: true, ..left(title, width) }
}

const fn narrow(column: Column, narrow: u16) -> Column {
    Column { narrow, ..column }
}

const fn wide(column: Column, from_width: u16) -> Column {
    Column { from_width, ..column }
}

const OVERVIEW: &[Column] = &[
    left("RANK", 13),
    left("KIND", 10),
    right("COUNT", 7),
    wide(right("FIRST", 14), 120),
    wide(right("CERTAIN", 8), 120),
    wide(right("POSSIBLE", 8), 120),
    left("WHAT", 0),
];
const WINDOWS: &[Column] = &[
    left("RANK", 12),
    left("KIND", 10),
    right("COUNT", 5),
    right("CERTAIN", 8),
    right("POSSIBLE", 8),
    wide(right("FIRST", 14), 120),
    left("WHAT", 0),
];
const TABLES: &[Column] = &[
    left("WHAT", 7),
    left("ADDRESS", 18),
    left("STATE", 8),
    right("SHARERS", 7),
    right("LOOKUPS", 9),
    right("SHARES", 8),
    right("UNSHARES", 8),
    wide(right("SINCE", 14), 120),
    wide(left("LINKS mm@address, BY WHOM", 0), 100),
];
const LOCKS: &[Column] = &[
    left("HELD", 16),
    left("ASKED FOR", 16),
    left("BY", 8),
    right("COUNT", 8),
    right("TASKS", 5),
    left("CYCLE", 10),
    left("ORDER", 0),
];
const EVENTS: &[Column] = &[
    right("TIME", 13),
    right("CPU", 3),
    narrow(left("TASK", 20), 15),
    narrow(left("WHAT", 30), 21),
    left("OBJECT", 0),
];
const COVERAGE: &[Column] = &[
    left("ROLE", 13),
    narrow(left("PART", 20), 17),
    left("GRADE", 8),
    narrow(right("EVENTS", 9), 7),
    left("WHY", 0),
];
const PROTECTION: &[Column] = &[left("WHAT", 8), left("SITE", 34), right("COUNT", 8), left("LOCKS", 0)];

/// Columns of a view, including hidden ones.
#[must_use]
pub fn all_columns(tab: Tab) -> &'static [Column] {
    match tab {
        Tab::Overview => OVERVIEW,
        Tab::Windows => WINDOWS,
        Tab::Tables => TABLES,
        Tab::Locks => LOCKS,
        Tab::Events => EVENTS,
        Tab::Coverage => COVERAGE,
        Tab::Protection => PROTECTION,
    }
}

/// Columns of a view on a screen of this width, with their widths there.
#[must_use]
pub fn columns(tab: Tab, width: u16) -> Vec<(usize, Column)> {
    fitted(all_columns(tab), width)
}

/// Columns of events, in every view that lists events.
#[must_use]
pub fn event_columns(width: u16) -> Vec<(usize, Column)> {
    fitted(EVENTS, width)
}

/// Screen width below which there is little room.
const NARROW: u16 = 110;

fn fitted(all: &[Column], width: u16) -> Vec<(usize, Column)> {
    let mut shown: Vec<(usize, Column)> =
        all.iter().copied().enumerate().filter(|(_, c)| width >= c.from_width).collect();
    if width < NARROW {
        shown.iter_mut().for_each(|(_, c)| c.width = c.narrow);
    }
    let used: u16 = shown.iter().map(|(_, c)| c.width + 1).sum();
    for (_, c) in &mut shown {
        if c.width == 0 {
            c.width = (width + 1).saturating_sub(used);
        }
    }
    shown
}

/// One cell of a list.
#[derive(Clone, Debug)]
pub struct Cell {
    pub tone: Tone,
    pub text: String,
    /// Sort key, if it is not the text.
    pub value: Option<u64>,
}

impl Cell {
    fn new(tone: Tone, text: impl Into<String>) -> Cell {
        Cell { tone, text: text.into(), value: None }
    }

    fn plain(text: impl Into<String>) -> Cell {
        Cell::new(Tone::Plain, text)
    }

    fn count(n: u64) -> Cell {
        Cell::plain(number(n)).by(n)
    }

    fn by(self, value: u64) -> Cell {
        Cell { value: Some(value), ..self }
    }

    fn toned(self, tone: Tone) -> Cell {
        Cell { tone, ..self }
    }
}

/// True for windows, predictions, and other findings about tables: one view lists them all.
fn is_of_windows(f: &Finding) -> bool {
    f.kind().about().is_of_tables
}

fn window(s: &Snapshot, i: usize) -> Option<&Finding> {
    s.findings.iter().filter(|f| is_of_windows(f)).nth(i)
}

/// Number of rows of a view.
#[must_use]
pub fn count(s: &Snapshot, tab: Tab) -> usize {
    match tab {
        Tab::Overview => s.findings.len(),
        Tab::Windows => s.findings.iter().filter(|f| is_of_windows(f)).count(),
        Tab::Tables => s.mappings.len() + s.tables.len() + s.leases.len(),
        Tab::Locks => s.edges.len(),
        Tab::Events => s.tail.len(),
        Tab::Coverage => s.coverage.len(),
        Tab::Protection => protections(s),
    }
}

fn protections(s: &Snapshot) -> usize {
    s.protection.lookups.len() + s.protection.unlinks.len() + s.protection.pairs.len()
}

/// Number of rows that the run has beyond those in the snapshot.
#[must_use]
pub fn beyond(s: &Snapshot, tab: Tab) -> usize {
    match tab {
        Tab::Overview | Tab::Windows => s.findings_total.saturating_sub(s.findings.len()),
        Tab::Locks => s.edges_total.saturating_sub(s.edges.len()),
        Tab::Tables => s.tables_total.saturating_sub(s.tables.len()),
        Tab::Events | Tab::Coverage | Tab::Protection => 0,
    }
}

enum Row<'a> {
    Finding(&'a Finding),
    Mapping(&'a MappingView),
    Table(&'a TableView),
    Lease(&'a LeaseView),
    Edge(&'a EdgeView),
    Event(&'a EventRow),
    Coverage(&'a Coverage),
    Protection(super::protect::Row<'a>),
}

fn row(s: &Snapshot, tab: Tab, i: usize) -> Option<Row<'_>> {
    match tab {
        Tab::Overview => s.findings.get(i).map(Row::Finding),
        Tab::Windows => window(s, i).map(Row::Finding),
        Tab::Tables => {
            let (files, tables) = (s.mappings.len(), s.tables.len());
            match i {
                _ if i < files => s.mappings.get(i).map(Row::Mapping),
                _ if i < files + tables => s.tables.get(i - files).map(Row::Table),
                _ => s.leases.get(i - files - tables).map(Row::Lease),
            }
        }
        Tab::Locks => s.edges.get(i).map(Row::Edge),
        Tab::Events => s.tail.get(i).map(Row::Event),
        Tab::Coverage => coverage(s, i).map(Row::Coverage),
        Tab::Protection => super::protect::row(s, i).map(Row::Protection),
    }
}

/// Coverage rows: blind ones first, then those that are not exact.
fn coverage(s: &Snapshot, i: usize) -> Option<&Coverage> {
    let place = |c: &Coverage| match c.grade {
        Grade::Blind => 0,
        Grade::Exact => 2,
        _ => 1,
    };
    (0..3).flat_map(|wanted| s.coverage.iter().filter(move |c| place(c) == wanted)).nth(i)
}

/// Badge next to a view's name: the number of rows, where that is useful.
#[must_use]
pub fn badge(s: &Snapshot, tab: Tab) -> String {
    let rows = || number(count(s, tab) as u64) + if beyond(s, tab) > 0 { "+" } else { "" };
    match tab {
        Tab::Overview | Tab::Windows | Tab::Tables | Tab::Locks => rows(),
        Tab::Coverage => {
            let mut blind: Vec<_> =
                s.coverage.iter().filter(|c| c.grade == Grade::Blind).map(|c| c.role as u64).collect();
            blind.sort_unstable();
            blind.dedup();
            if blind.is_empty() { String::new() } else { format!("{} blind", blind.len()) }
        }
        Tab::Events | Tab::Protection => String::new(),
    }
}

/// Page that a row opens. It is also the identity that a selection follows while rows appear and disappear.
#[must_use]
pub fn page(s: &Snapshot, tab: Tab, i: usize) -> Option<Page> {
    Some(match row(s, tab, i)? {
        Row::Finding(f) => Page::Finding(f.id.clone()),
        Row::Mapping(m) => Page::Mapping(m.mapping),
        Row::Table(t) => Page::Table(t.table, t.generation),
        Row::Lease(l) => Page::Pointer(l.task.tid, l.pte),
        Row::Edge(e) => Page::Edge(super::page::EdgeKey::of(e)),
        Row::Event(e) => Page::Event(Box::new(e.clone())),
        Row::Coverage(c) => Page::Role(c.role, c.part.clone()),
        Row::Protection(p) => Page::Site(p.what(), p.site()),
    })
}

/// Returns true if a row shows this page: [`page`] without constructing one.
#[must_use]
pub fn is(s: &Snapshot, tab: Tab, i: usize, page: &Page) -> bool {
    match (row(s, tab, i), page) {
        (Some(Row::Finding(f)), Page::Finding(id)) => f.id == *id,
        (Some(Row::Mapping(m)), Page::Mapping(mapping)) => m.mapping == *mapping,
        (Some(Row::Table(t)), Page::Table(table, generation)) => {
            (t.table, t.generation) == (*table, *generation)
        }
        (Some(Row::Lease(l)), Page::Pointer(tid, pte)) => (l.task.tid, l.pte) == (*tid, *pte),
        (Some(Row::Edge(e)), Page::Edge(key)) => key.is(e),
        (Some(Row::Event(e)), Page::Event(event)) => e.number == event.number,
        (Some(Row::Coverage(c)), Page::Role(role, part)) => c.role == *role && c.part == *part,
        (Some(Row::Protection(p)), Page::Site(what, site)) => p.what() == *what && p.site() == *site,
        _ => false,
    }
}

/// Text that search and filter look at: the cells, and the evidence if the row has any.
#[must_use]
pub fn text(s: &Snapshot, tab: Tab, i: usize) -> String {
    let mut text = cells(s, tab, i).into_iter().map(|c| c.text).collect::<Vec<_>>().join(" ");
    let evidence = match row(s, tab, i) {
        Some(Row::Finding(f)) => words::detail(f, &s.stacks, s.meta.start_ns),
        Some(Row::Edge(e)) => words::edge_detail(e, s.meta.start_ns),
        Some(Row::Table(t)) => words::table_history(t, s.meta.start_ns),
        _ => Vec::new(),
    };
    for line in evidence {
        text.push('\n');
        text.push_str(&line);
    }
    text
}

/// Cells of a row, one for each column of the view, including hidden ones.
#[must_use]
pub fn cells(s: &Snapshot, tab: Tab, i: usize) -> Vec<Cell> {
    match row(s, tab, i) {
        Some(Row::Finding(f)) => finding_cells(s, tab, f),
        Some(Row::Mapping(m)) => mapping_cells(s, m),
        Some(Row::Table(t)) => table_cells(s, t),
        Some(Row::Lease(l)) => lease_cells(s, l),
        Some(Row::Edge(e)) => edge_cells(s, e),
        Some(Row::Event(e)) => event_cells(s, e),
        Some(Row::Coverage(c)) => coverage_cells(s, c),
        Some(Row::Protection(p)) => {
            let tone = if p.is_open() { Tone::Caution } else { Tone::Plain };
            let count = p.count().map_or(Cell::plain(""), Cell::count);
            vec![Cell::plain(p.what()), Cell::plain(p.site()), count, Cell::new(tone, p.ways(s).join("; "))]
        }
        None => Vec::new(),
    }
}

fn finding_cells(s: &Snapshot, tab: Tab, f: &Finding) -> Vec<Cell> {
    let rank = Cell::new(rank_tone(f.rank), f.rank.name()).by(f.rank as u64);
    let (kind, count) = (Cell::plain(f.kind().name()), Cell::count(f.count));
    let first = Cell::plain(since_start(s, f.first_ns)).by(f.first_ns);
    let (certain, possible) =
        f.evidence.subject().cases().first().map_or((0, 0), |c| (c.certain_ns, c.possible_ns));
    let part = |ns| Cell::plain(if ns > 0 { short_span(ns) } else { "-".into() }).by(ns);
    let (certain, possible) = (part(certain), part(possible));
    let what = Cell::plain(words::summary(f));
    match tab {
        Tab::Windows => vec![rank, kind, count, certain, possible, first, what],
        _ => vec![rank, kind, count, first, certain, possible, what],
    }
}

/// Row of a file: the sums over its tables.
fn mapping_cells(s: &Snapshot, m: &MappingView) -> Vec<Cell> {
    let by = m.by.first().map(words::unsharer).unwrap_or_default();
    let cells = [
        Cell::plain("file"),
        Cell::plain(mapping_name(m.mapping)),
        Cell::plain(words::plural(m.tables as u64, "table")).by(m.tables as u64),
        Cell::count(m.sharers as u64),
        Cell::plain(""),
        Cell::count(m.shares),
        Cell::count(m.unshares),
        Cell::plain(since_start(s, m.first_ns)).by(m.first_ns),
        Cell::plain(by),
    ];
    cells.map(|c| c.toned(Tone::Label)).to_vec()
}

fn table_cells(s: &Snapshot, t: &TableView) -> Vec<Cell> {
    let links: Vec<String> = t.links.iter().map(|l| format!("{}@{}", l.mm, l.gib)).collect();
    let tone = if t.alive { Tone::Plain } else { Tone::Faint };
    let life = if t.generation > 1 { format!("{} #{}", state(t), t.generation) } else { state(t).into() };
    let cells = [
        Cell::plain("table"),
        Cell::plain(t.table.to_string()).by(t.table.0),
        Cell::plain(life),
        Cell::count(t.sharers() as u64),
        Cell::count(t.lookups),
        Cell::count(t.shares),
        Cell::count(t.unshares),
        Cell::plain(since_start(s, t.birth_ns)).by(t.birth_ns),
        Cell::plain(links.join(" ")),
    ];
    cells.map(|c| c.toned(tone)).to_vec()
}

/// Row of a pointer in use, listed below the tables that it may point into.
fn lease_cells(s: &Snapshot, l: &LeaseView) -> Vec<Cell> {
    let state = match (l.stale, l.dormant) {
        (true, _) => Cell::new(Tone::Alarm, "STALE"),
        (false, true) => Cell::new(Tone::Faint, "dormant"),
        (false, false) => Cell::plain("in use"),
    };
    vec![
        Cell::plain("pointer"),
        Cell::plain(l.pte.to_string()).by(l.pte.0),
        state,
        Cell::plain(""),
        Cell::plain(""),
        Cell::plain(""),
        Cell::plain(""),
        Cell::plain(since_start(s, l.since_ns)).by(l.since_ns),
        Cell::plain(format!("{}@{} by {} in {}", l.mm, l.addr, task(&l.task.comm, l.task.tid), l.site)),
    ]
}

/// Short form of a lock and its mode: `i_mmap_rwsem(w)`.
fn short_lock(class: LockClass, mode: Option<Mode>) -> String {
    let name = words::lock(class, mode);
    name.replace("(read)", "(r)").replace("(write)", "(w)")
}

fn edge_cells(s: &Snapshot, e: &EdgeView) -> Vec<Cell> {
    // A request that cannot block is not a step of a deadlock, even if other edges of its classes close a cycle.
    let closes = if e.manner.can_block() { closes(s, (e.from, e.to)) } else { None };
    let order = words::order::verdict(e);
    vec![
        Cell::plain(short_lock(e.from, e.from_mode)),
        Cell::plain(short_lock(e.to, e.to_mode)),
        Cell::new(if e.manner == Manner::Tried { Tone::Faint } else { Tone::Plain }, ask(e.manner)),
        Cell::count(e.count),
        Cell::count(e.tasks.into()),
        closes.map_or(Cell::plain("").by(u64::MAX), |r| Cell::new(rank_tone(r), r.name()).by(r as u64)),
        Cell::new(if order == "AGAINST" { Tone::Caution } else { Tone::Plain }, order),
    ]
}

/// An edge in one sentence.
fn edge_words(s: &Snapshot, e: &EdgeView) -> String {
    let (from, to) = (words::lock(e.from, e.from_mode), words::lock(e.to, e.to_mode));
    let how = match e.manner {
        Manner::Asked => "requested",
        Manner::TryThenBlock => "tried, and else waited for,",
        Manner::Tried => "tried, which cannot wait,",
    };
    let order = match words::order::verdict(e) {
        "AGAINST" => "; against the documented order",
        "perhaps" => "; against the documented order, if the first was held by then",
        "exception" => "; a known exception from the documented order",
        "agrees" => "; as documented",
        _ => "; no order of the two is documented",
    };
    let closes = closes(s, (e.from, e.to)).filter(|_| e.manner.can_block());
    let closes = closes.map_or(String::new(), |r| format!("; part of a cycle that is {}", r.name()));
    format!("{to} {how} while {from} is held{order}{closes}")
}

/// Text below a list about the selected row, where there is no room for its page.
#[must_use]
pub fn in_full(s: &Snapshot, tab: Tab, i: usize) -> String {
    match row(s, tab, i) {
        Some(Row::Edge(e)) => edge_words(s, e),
        Some(Row::Event(e)) => events::words(e, &s.setup, s.meta.start_ns).line(),
        _ => cells(s, tab, i).pop().map_or(String::new(), |cell| cell.text),
    }
}

/// Short word for how a lock was requested. `try/wait`: trylock, which would have blocked after a failure.
fn ask(manner: Manner) -> &'static str {
    match manner {
        Manner::Asked => "wait",
        Manner::TryThenBlock => "try/wait",
        Manner::Tried => "try",
    }
}

/// Rank of the worst cycle that contains a step between two classes.
#[must_use]
pub fn closes(s: &Snapshot, (from, to): (LockClass, LockClass)) -> Option<Rank> {
    let has = |f: &&Finding| f.evidence.subject().cycle().iter().any(|s| (s.from, s.to) == (from, to));
    s.findings.iter().filter(has).map(|f| f.rank).min()
}

/// Cells of an event, in every view that lists events.
#[must_use]
pub fn event_cells(s: &Snapshot, e: &EventRow) -> Vec<Cell> {
    let w = events::words(e, &s.setup, s.meta.start_ns);
    vec![
        Cell::plain(w.time).by(e.event.time_ns),
        Cell::plain(w.cpu).by(e.event.cpu.into()),
        Cell::plain(w.task),
        Cell::plain(w.what),
        Cell::plain(w.object),
    ]
}

fn coverage_cells(s: &Snapshot, c: &Coverage) -> Vec<Cell> {
    // Parts of a role share its sites, unless a part is a function.
    let of_it = |function: &str| c.part.is_empty() || c.part == function;
    let sites: Vec<u64> = (s.setup.sites.iter())
        .filter(|site| site.role == c.role && of_it(&site.function))
        .map(|site| fired(s, site.id.0))
        .collect();
    let events = match c.grade {
        Grade::Blind => Cell::plain("-").by(0),
        _ if sites.is_empty() && !c.part.is_empty() => Cell::plain("").by(0),
        _ => Cell::count(sites.iter().sum()),
    };
    vec![
        Cell::plain(c.role.name()).by(c.role as u64),
        Cell::plain(if c.part.is_empty() { "all" } else { &c.part }),
        Cell::new(grade_tone(c.grade), c.grade.name()),
        events,
        Cell::plain(cause_first(&c.reason)),
    ]
}

/// Moves the cause to the front, because the cell may be cut: `no symbol x: came with 6.10`.
fn cause_first(reason: &str) -> String {
    match reason.split_once(": ") {
        Some((what, why)) if what.starts_with("no symbol") && !why.contains("no symbol") => {
            format!("{why} ({what})")
        }
        _ => reason.to_owned(),
    }
}

/// Events of a site up to now.
#[must_use]
pub fn fired(s: &Snapshot, site: u16) -> u64 {
    s.fired.iter().find(|(id, _)| *id == site).map_or(0, |(_, n)| *n)
}

/// Name of a task as far as it is known: `task 212 (ex-reader)`.
#[must_use]
pub fn task(comm: &str, tid: Tid) -> String {
    if comm.is_empty() { format!("task {}", tid.0) } else { format!("task {} ({comm})", tid.0) }
}

#[must_use]
pub fn mapping_name(mapping: Mapping) -> String {
    if mapping.0 == 0 { "file not known".into() } else { mapping.to_string() }
}

#[must_use]
pub fn state(t: &TableView) -> &'static str {
    if t.alive { "alive" } else { "freed" }
}

#[must_use]
pub fn rank_tone(rank: Rank) -> Tone {
    if rank.is_alarm() { Tone::Alarm } else { Tone::Plain }
}

fn grade_tone(grade: Grade) -> Tone {
    match grade {
        Grade::Exact => Tone::Good,
        Grade::Blind => Tone::Alarm,
        _ => Tone::Caution,
    }
}

/// Event time as time since the start of the run.
#[must_use]
pub fn since_start(s: &Snapshot, time_ns: u64) -> String {
    moment(time_ns, s.meta.start_ns)
}

/// Name of a task, if anything in the snapshot has it.
#[must_use]
pub fn comm_of(s: &Snapshot, tid: Tid) -> Option<&str> {
    let sides = s.findings.iter().flat_map(|f| page::finding::sides(&f.evidence)).map(|side| &side.task);
    let holders = s.leases.iter().map(|l| &l.task);
    let askers = s.edges.iter().map(|e| &e.witness.side.task);
    let mut told = sides.chain(holders).chain(askers).filter(|t| t.tid == tid).map(|t| &*t.comm);
    let of_events = s.tail.iter().rev().filter(|row| row.event.tid == tid).map(|row| &*row.comm);
    told.find(|comm| !comm.is_empty()).or_else(|| of_events.into_iter().find(|comm| !comm.is_empty()))
}

/// Latest known table that a pte lies in.
#[must_use]
pub fn table_of(s: &Snapshot, pte: Pte) -> Option<(Table, u32)> {
    let at = |t: &&TableView| t.table == pte.table();
    s.tables.iter().filter(at).max_by_key(|t| t.generation).map(|t| (t.table, t.generation))
}
