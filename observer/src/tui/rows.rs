//! Rows of each view out of a snapshot: how many, which is which, their cells, and the detail of one.
//!
//! Decides the columns and the words. Sorting and cutting to a bound is the snapshot's.

use observer_engine::finding::Kind;

use super::state::Tab;
use super::text::Text;
use super::theme::Tone;
use super::words::short_span;
use crate::sink::words::{moment, number, plural, span};
use crate::snapshot::{CoverageRow, EdgeRow, FindingRow, MappingRow, ProtectionRow, Snapshot, TableRow};

/// Which row it is, whatever its place: what a selection holds on to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowKey {
    Finding(String),
    Edge(String, String, &'static str),
    Mapping(u64),
    Table(u64, u32),
    Protection(&'static str, String),
    Coverage(&'static str, String),
}

/// A column of a list.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub title: &'static str,
    /// Cells; 0: what is left of the line.
    pub width: u16,
    /// Numbers stand right.
    pub right: bool,
    /// Narrower screens leave it out.
    pub from_width: u16,
}

const fn left(title: &'static str, width: u16) -> Column {
    Column { title, width, right: false, from_width: 0 }
}

const fn right(title: &'static str, width: u16) -> Column {
    Column { title, width, right: true, from_width: 0 }
}

const fn wide(column: Column, from_width: u16) -> Column {
    Column { from_width, ..column }
}

const OVERVIEW: &[Column] = &[
    left("RANK", 13),
    left("KIND", 12),
    right("COUNT", 7),
    wide(right("FIRST", 14), 120),
    wide(right("CERTAIN", 8), 120),
    wide(right("POSSIBLE", 8), 120),
    left("WHAT", 0),
];
const WINDOWS: &[Column] = &[
    left("RANK", 13),
    left("KIND", 10),
    right("COUNT", 7),
    right("CERTAIN", 8),
    right("POSSIBLE", 8),
    wide(right("FIRST", 14), 120),
    left("WHAT", 0),
];
const LOCKS: &[Column] = &[
    left("HELD", 22),
    left("ASKED FOR", 22),
    left("BY", 8),
    right("COUNT", 10),
    right("TASKS", 6),
    left("ORDER", 0),
];
const TABLES: &[Column] = &[
    left("TABLE", 18),
    right("GEN", 4),
    left("STATE", 5),
    right("SHARERS", 7),
    right("LOOKUPS", 10),
    right("SHARES", 8),
    right("UNSHARES", 8),
    wide(right("SEEN FROM", 14), 120),
    wide(left("LINKS mm@address", 0), 100),
];
const PROTECTION: &[Column] = &[left("WHAT", 8), left("SITE", 34), right("COUNT", 8), left("LOCKS", 0)];
const COVERAGE: &[Column] = &[left("ROLE", 14), left("PART", 22), left("GRADE", 9), left("WHY", 0)];

/// The columns of a view on a screen of this width, with their widths there.
#[must_use]
pub fn columns(tab: Tab, width: u16) -> Vec<(usize, Column)> {
    let all = match tab {
        Tab::Overview => OVERVIEW,
        Tab::Windows => WINDOWS,
        Tab::Locks => LOCKS,
        Tab::Tables => TABLES,
        Tab::Coverage => COVERAGE,
        Tab::Protection => PROTECTION,
    };
    let mut shown: Vec<(usize, Column)> =
        all.iter().copied().enumerate().filter(|(_, c)| width >= c.from_width).collect();
    let used: u16 = shown.iter().map(|(_, c)| c.width + 1).sum();
    for (_, c) in &mut shown {
        if c.width == 0 {
            c.width = (width + 1).saturating_sub(used);
        }
    }
    shown
}

fn is_window(row: &FindingRow) -> bool {
    row.kind == Kind::Window.name()
}

/// Windows seen and predicted stand in one view.
fn is_of_windows(row: &FindingRow) -> bool {
    is_window(row) || row.kind == Kind::Prediction.name()
}

fn window(s: &Snapshot, i: usize) -> Option<&FindingRow> {
    s.findings.iter().filter(|f| is_of_windows(f)).nth(i)
}

/// Rows of a view.
#[must_use]
pub fn count(s: &Snapshot, tab: Tab) -> usize {
    match tab {
        Tab::Overview => s.findings.len(),
        Tab::Windows => s.findings.iter().filter(|f| is_of_windows(f)).count(),
        Tab::Locks => s.edges.len(),
        Tab::Tables => s.mappings.len() + s.tables.len(),
        Tab::Coverage => s.coverage.len(),
        Tab::Protection => s.protection.len(),
    }
}

/// How many there are of a view's rows in the run, where the snapshot holds a part of them only.
#[must_use]
pub fn beyond(s: &Snapshot, tab: Tab) -> usize {
    match tab {
        Tab::Overview | Tab::Windows => s.findings_total.saturating_sub(s.findings.len()),
        Tab::Locks => s.edges_total.saturating_sub(s.edges.len()),
        Tab::Tables => s.tables_total.saturating_sub(s.tables.len()),
        Tab::Coverage | Tab::Protection => 0,
    }
}

enum Row<'a> {
    Finding(&'a FindingRow),
    Edge(&'a EdgeRow),
    Mapping(&'a MappingRow),
    Table(&'a TableRow),
    Protection(&'a ProtectionRow),
    Coverage(&'a CoverageRow),
}

fn row(s: &Snapshot, tab: Tab, i: usize) -> Option<Row<'_>> {
    match tab {
        Tab::Overview => s.findings.get(i).map(Row::Finding),
        Tab::Windows => window(s, i).map(Row::Finding),
        Tab::Locks => s.edges.get(i).map(Row::Edge),
        Tab::Tables => match i.checked_sub(s.mappings.len()) {
            Some(i) => s.tables.get(i).map(Row::Table),
            None => s.mappings.get(i).map(Row::Mapping),
        },
        Tab::Coverage => s.coverage.get(i).map(Row::Coverage),
        Tab::Protection => s.protection.get(i).map(Row::Protection),
    }
}

/// Identity of a row; `None`: no such row.
#[must_use]
pub fn key(s: &Snapshot, tab: Tab, i: usize) -> Option<RowKey> {
    Some(match row(s, tab, i)? {
        Row::Finding(f) => RowKey::Finding(f.id.clone()),
        Row::Edge(e) => RowKey::Edge(e.from.clone(), e.to.clone(), e.ask),
        Row::Mapping(m) => RowKey::Mapping(m.mapping),
        Row::Table(t) => RowKey::Table(t.address, t.generation),
        Row::Protection(p) => RowKey::Protection(p.what, p.site.clone()),
        Row::Coverage(c) => RowKey::Coverage(c.role, c.part.clone()),
    })
}

/// What a filter looks at: the cells and, for what has one, the evidence.
#[must_use]
pub fn text(s: &Snapshot, tab: Tab, i: usize) -> String {
    let mut text = cells(s, tab, i).into_iter().map(|(_, t)| t).collect::<Vec<_>>().join(" ");
    let evidence = match row(s, tab, i) {
        Some(Row::Finding(f)) => f.detail.as_slice(),
        Some(Row::Edge(e)) => e.detail.as_slice(),
        Some(Row::Mapping(m)) => m.detail.as_slice(),
        Some(Row::Table(t)) => t.history.as_slice(),
        Some(Row::Protection(p)) => p.ways.as_slice(),
        Some(Row::Coverage(_)) | None => &[],
    };
    for line in evidence {
        text.push('\n');
        text.push_str(line);
    }
    text
}

/// Cells of a row, one for each of the view's columns, the hidden ones too.
#[must_use]
pub fn cells(s: &Snapshot, tab: Tab, i: usize) -> Vec<(Tone, String)> {
    match row(s, tab, i) {
        Some(Row::Finding(f)) => finding_cells(s, tab, f),
        Some(Row::Edge(e)) => vec![
            (Tone::Plain, e.from.clone()),
            (Tone::Plain, e.to.clone()),
            (if e.ask == "try" { Tone::Faint } else { Tone::Plain }, e.ask.into()),
            (Tone::Plain, number(e.count)),
            (Tone::Plain, number(e.tasks)),
            (if e.order == "AGAINST" { Tone::Caution } else { Tone::Plain }, e.order.into()),
        ],
        Some(Row::Mapping(m)) => mapping_cells(s, m),
        Some(Row::Table(t)) => table_cells(s, t),
        Some(Row::Protection(p)) => protection_cells(p),
        Some(Row::Coverage(c)) => vec![
            (Tone::Plain, c.role.into()),
            (Tone::Plain, if c.part.is_empty() { "all".into() } else { c.part.clone() }),
            (grade_tone(c.grade), c.grade.into()),
            (Tone::Plain, c.reason.clone()),
        ],
        None => Vec::new(),
    }
}

fn finding_cells(s: &Snapshot, tab: Tab, f: &FindingRow) -> Vec<(Tone, String)> {
    let rank = (rank_tone(f), f.rank.to_owned());
    let number = (Tone::Plain, number(f.count));
    let first = (Tone::Plain, since_start(s, f.first_ns));
    let part = |ns| if is_window(f) && ns > 0 { short_span(ns) } else { "-".into() };
    let certain = (Tone::Plain, part(f.certain_ns));
    let possible = (Tone::Plain, part(f.possible_ns));
    let what = (Tone::Plain, f.summary.clone());
    match tab {
        Tab::Overview => vec![rank, (Tone::Plain, f.kind.into()), number, first, certain, possible, what],
        _ => vec![rank, (Tone::Plain, f.kind.into()), number, certain, possible, first, what],
    }
}

fn table_cells(s: &Snapshot, t: &TableRow) -> Vec<(Tone, String)> {
    let links: Vec<String> = t.sharers.iter().map(|(mm, gib)| format!("{mm:#x}@{gib:#x}")).collect();
    let tone = if t.alive { Tone::Plain } else { Tone::Faint };
    vec![
        (tone, format!("{:#x}", t.address)),
        (tone, t.generation.to_string()),
        (tone, state(t).into()),
        (tone, t.sharers.len().to_string()),
        (tone, number(t.lookups)),
        (tone, number(t.shares)),
        (tone, number(t.unshares)),
        (tone, since_start(s, t.born_ns)),
        (tone, links.join(" ")),
    ]
}

/// A file stands among the tables as what they add up to.
fn mapping_cells(s: &Snapshot, m: &MappingRow) -> Vec<(Tone, String)> {
    let by = m.detail.last().cloned().unwrap_or_default();
    let cells = [
        mapping_name(m.mapping),
        String::new(),
        "file".into(),
        number(m.sharers),
        String::new(),
        number(m.shares),
        number(m.unshares),
        since_start(s, m.first_ns),
        by,
    ];
    cells.map(|cell| (Tone::Label, cell)).to_vec()
}

fn mapping_name(mapping: u64) -> String {
    if mapping == 0 { "file not known".into() } else { format!("{mapping:#x}") }
}

fn protection_cells(p: &ProtectionRow) -> Vec<(Tone, String)> {
    let tone = if p.open { Tone::Caution } else { Tone::Plain };
    let count = if p.count == 0 { String::new() } else { number(p.count) };
    let ways = p.ways.join("; ");
    vec![(Tone::Plain, p.what.into()), (Tone::Plain, p.site.clone()), (Tone::Plain, count), (tone, ways)]
}

fn state(t: &TableRow) -> &'static str {
    if t.alive { "alive" } else { "freed" }
}

fn rank_tone(f: &FindingRow) -> Tone {
    if f.alarm { Tone::Alarm } else { Tone::Plain }
}

fn grade_tone(grade: &str) -> Tone {
    match grade {
        "exact" => Tone::Good,
        "blind" => Tone::Alarm,
        _ => Tone::Caution,
    }
}

/// Event time as time since the start of the run.
fn since_start(s: &Snapshot, time_ns: u64) -> String {
    moment(time_ns, s.now_ns.saturating_sub(s.elapsed_ns))
}

/// The detail of a row, wrapped to a width.
#[must_use]
pub fn detail(s: &Snapshot, tab: Tab, i: usize, width: u16) -> Vec<Text> {
    let width = usize::from(width);
    let (head, evidence): (Vec<Text>, Vec<Text>) = match row(s, tab, i) {
        Some(Row::Finding(f)) => (finding_head(s, f), words(&f.detail)),
        Some(Row::Edge(e)) => (vec![edge_head(e)], words(&e.detail)),
        Some(Row::Mapping(m)) => (vec![mapping_head(s, m)], words(&m.detail)),
        Some(Row::Table(t)) => (vec![table_head(s, t)], links(t)),
        Some(Row::Protection(p)) => (vec![protection_head(p)], words(&p.ways)),
        Some(Row::Coverage(c)) => (coverage_lines(c), Vec::new()),
        None => return Vec::new(),
    };
    head.into_iter()
        .chain(evidence)
        .flat_map(|line| {
            let indent = indent(&line);
            line.wrap(width, indent)
        })
        .collect()
}

/// Wrapped lines stand two cells further in than the line they belong to.
fn indent(line: &Text) -> usize {
    let first = line.0.first().map_or("", |(_, t)| t.as_str());
    first.len() - first.trim_start_matches(' ').len() + 2
}

fn words(lines: &[String]) -> Vec<Text> {
    lines.iter().map(|l| Text::new(Tone::Plain, l.as_str())).collect()
}

fn finding_head(s: &Snapshot, f: &FindingRow) -> Vec<Text> {
    let mut times = Text::new(Tone::Label, "seen ")
        .and(Tone::Plain, format!("{} x, first at {}", number(f.count), since_start(s, f.first_ns)));
    if is_window(f) {
        let certain = if f.certain_ns > 0 { span(f.certain_ns) } else { "none".into() };
        times = times
            .and(Tone::Label, "  certain part ")
            .and(Tone::Plain, certain)
            .and(Tone::Label, "  possible part ")
            .and(Tone::Plain, span(f.possible_ns));
    }
    let name = Text::new(rank_tone(f), f.rank).and(Tone::Plain, format!(" {}: {}", f.kind, f.summary));
    vec![name, times, Text::default()]
}

fn edge_head(e: &EdgeRow) -> Text {
    let how = match e.ask {
        "try" => "only ever tried, which cannot block",
        "try/wait" => "tried in a way that blocks on failure",
        _ => "asked for in a way that can block",
    };
    Text::new(Tone::Label, format!("{} -> {}", e.from, e.to)).and(
        Tone::Plain,
        format!(
            ": the second was {how} while the first was held; {} x by {}",
            number(e.count),
            plural(e.tasks, "task")
        ),
    )
}

fn table_head(s: &Snapshot, t: &TableRow) -> Text {
    Text::new(Tone::Label, format!("table {:#x} generation {}", t.address, t.generation)).and(
        Tone::Plain,
        format!(
            ": {}, of mapping {}, seen from {} on; {} lookups, {} shares, {} unshares, at most {}",
            state(t),
            mapping_name(t.mapping),
            since_start(s, t.born_ns),
            number(t.lookups),
            number(t.shares),
            number(t.unshares),
            plural(t.sharers_max, "sharer")
        ),
    )
}

fn mapping_head(s: &Snapshot, m: &MappingRow) -> Text {
    Text::new(Tone::Label, format!("mapping {}", mapping_name(m.mapping))).and(
        Tone::Plain,
        format!(
            ": {} alive, at most {} of one; shared or unshared from {} on",
            plural(m.tables, "table"),
            plural(m.sharers, "sharer"),
            since_start(s, m.first_ns)
        ),
    )
}

fn protection_head(p: &ProtectionRow) -> Text {
    let means = match p.what {
        "lookup" => "locks held from the lookup to the last use of its pointer",
        "removal" => "locks that it held in a way that keeps others out",
        _ => "what kept the lookup and the removal apart, on links that both came to",
    };
    Text::new(Tone::Label, p.site.as_str()).and(Tone::Plain, format!(": {means}"))
}

fn links(t: &TableRow) -> Vec<Text> {
    let head = match t.sharers.len() {
        0 => "no link to it is known now".to_owned(),
        1 => "one link, not shared:".to_owned(),
        n => format!("{n} links share it:"),
    };
    let link = |(mm, gib): &(u64, u64)| Text::new(Tone::Plain, format!("  mm {mm:#x} at address {gib:#x}"));
    let past =
        if t.history.is_empty() { None } else { Some(Text::new(Tone::Label, "what happened to it last:")) };
    let step = |line: &String| Text::new(Tone::Plain, format!("  {line}"));
    std::iter::once(Text::new(Tone::Label, head))
        .chain(t.sharers.iter().map(link))
        .chain(past)
        .chain(t.history.iter().map(step))
        .collect()
}

fn coverage_lines(c: &CoverageRow) -> Vec<Text> {
    let part = if c.part.is_empty() { String::new() } else { format!(", of it: {}", c.part) };
    let name = Text::new(Tone::Label, format!("{}{part}: ", c.role)).and(grade_tone(c.grade), c.grade);
    let means = match c.grade {
        "exact" => "every occurrence is seen at its moment",
        "bounded" => "every occurrence is seen, its moment only within an interval",
        "inferred" => "known from other evidence only",
        "blind" => "not seen: no finding that needs it can appear",
        _ => "",
    };
    let mut lines = vec![name, Text::new(Tone::Plain, means)];
    if !c.reason.is_empty() {
        lines.push(Text::new(Tone::Label, "why: ").and(Tone::Plain, c.reason.as_str()));
    }
    lines
}
