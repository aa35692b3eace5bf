//! The picture of a run for a dashboard.
//!
//! Decides which rows make it into the picture and in which words; see [`crate::snapshot`].

use std::cmp::Reverse;

use observer_engine::{
    finding::{Finding, Manner},
    order::Counts,
    setup::Coverage,
    view::{EdgeView, MappingView, ProtectionView, Stats, TableView},
};

use super::Pipeline;
use crate::{
    meta::Meta,
    report::{Report, stacks::Stacks},
    sink::{text, words},
    snapshot::{
        CoverageRow, EdgeRow, FindingRow, MappingRow, Position, ProtectionRow, ROWS_MAX, Snapshot, TableRow,
    },
};

/// Event groups, by the names of their kinds.
const GROUPS: [(&str, &[&str]); 6] = [
    ("lookups", &["lookup"]),
    ("links", &["share", "table_alloc"]),
    ("unlinks", &["unshare", "unlinked", "table_free"]),
    ("operations", &["op_begin", "op_end", "callback_begin"]),
    ("folio locks", &["folio_ask", "folio_held", "folio_release", "folio_wait"]),
    ("tasks", &["task", "task_exit", "fork", "stack"]),
];

/// What both a running and an ended run can show.
struct Parts<'a> {
    meta: &'a Meta,
    coverage: &'a [Coverage],
    findings: &'a [Finding],
    edges: &'a [EdgeView],
    tables: &'a [TableView],
    stacks: &'a Stacks,
    protection: &'a ProtectionView,
    mappings: &'a [MappingView],
    stats: &'a Stats,
    counts: Counts,
    loss: Vec<(&'static str, u64)>,
    notices: &'a [String],
    passes: u64,
    now_ns: u64,
}

impl Pipeline {
    /// The run as it is now.
    #[must_use]
    pub fn snapshot(&self, meta: &Meta, position: Position) -> Snapshot {
        let tables = self.engine.tables();
        let parts = Parts {
            meta,
            coverage: &self.engine.coverage(),
            findings: &self.engine.findings(),
            edges: &self.engine.edges(),
            tables: &tables,
            stacks: &self.stacks,
            protection: &self.engine.protection(),
            mappings: &self.engine.mappings(&tables),
            stats: &self.engine.stats(),
            counts: self.order.counts(),
            loss: self.losses.by_reason(None),
            notices: &[],
            passes: self.passes,
            now_ns: self.now_ns,
        };
        parts.snapshot(position)
    }
}

/// The run as it was at its end.
#[must_use]
pub fn last_snapshot(report: &Report, position: Position) -> Snapshot {
    let parts = Parts {
        meta: &report.meta,
        coverage: &report.coverage,
        findings: &report.findings,
        edges: &report.edges,
        tables: &report.tables,
        stacks: &report.stacks,
        protection: &report.protection,
        mappings: &report.mappings,
        stats: &report.stats,
        counts: report.counts,
        loss: report.loss.clone(),
        notices: &report.notices,
        passes: report.passes,
        now_ns: report.end_ns,
    };
    parts.snapshot(if position == Position::Live { Position::Ended } else { position })
}

impl Parts<'_> {
    fn snapshot(self, position: Position) -> Snapshot {
        let start_ns = self.meta.start_ns;
        let filter = &self.meta.filter;
        let anybody = *filter == crate::meta::Filter::default();
        let mut tables: Vec<&TableView> = self.tables.iter().collect();
        tables
            .sort_by_key(|t| (Reverse(t.alive), Reverse(t.shares + t.unshares), Reverse(t.lookups), t.table));
        Snapshot {
            kernel_release: self.meta.kernel.release.clone(),
            machine: self.meta.kernel.machine.clone(),
            level: self.meta.level.name(),
            filter: if anybody { String::new() } else { text::filter(filter) },
            position,
            now_ns: self.now_ns,
            elapsed_ns: self.now_ns.saturating_sub(start_ns),
            drains: self.passes,
            events: groups(self.stats),
            loss: self.loss,
            late: self.counts.late,
            undecodable: self.counts.undecodable(),
            leases: self.stats.live_leases as u64,
            tasks: self.stats.live_tasks as u64,
            findings: self
                .findings
                .iter()
                .take(ROWS_MAX)
                .map(|f| finding(f, self.stacks, start_ns))
                .collect(),
            findings_total: self.findings.len(),
            edges: self.edges.iter().take(ROWS_MAX).map(|e| edge(e, start_ns)).collect(),
            edges_total: self.edges.len(),
            mappings: self.mappings.iter().take(ROWS_MAX).map(mapping).collect(),
            protection: protection(self.protection, self.meta, self.coverage),
            tables: tables.iter().take(ROWS_MAX).map(|t| table(t, start_ns)).collect(),
            tables_total: self.tables.len(),
            coverage: self.coverage.iter().map(coverage).collect(),
            notices: self.notices.to_vec(),
        }
    }
}

fn groups(stats: &Stats) -> Vec<(&'static str, u64)> {
    let of = |names: &[&str]| stats.by_kind.iter().filter(|(n, _)| names.contains(n)).map(|(_, c)| c).sum();
    let mut groups: Vec<(&'static str, u64)> =
        GROUPS.iter().map(|(name, kinds)| (*name, of(kinds))).collect();
    let grouped: u64 = groups.iter().map(|(_, n)| n).sum();
    groups.push(("locks", stats.events.saturating_sub(grouped)));
    groups
}

fn finding(f: &Finding, stacks: &Stacks, start_ns: u64) -> FindingRow {
    let (certain_ns, possible_ns) = match &f.evidence {
        observer_engine::finding::Evidence::Window(w) => (w.longest.certain_ns, w.longest.possible_ns),
        _ => (0, 0),
    };
    FindingRow {
        id: f.id.clone(),
        rank: f.rank.name(),
        alarm: f.rank.is_alarm(),
        kind: f.kind().name(),
        summary: words::summary(f),
        count: f.count,
        first_ns: f.first_ns,
        certain_ns,
        possible_ns,
        detail: words::detail(f, stacks, start_ns),
    }
}

fn edge(e: &EdgeView, start_ns: u64) -> EdgeRow {
    EdgeRow {
        from: words::lock(e.from, e.from_mode),
        to: words::lock(e.to, e.to_mode),
        ask: match e.manner {
            Manner::Asked => "wait",
            Manner::TryThenBlock => "try/wait",
            Manner::Tried => "try",
        },
        order: words::order::verdict(e),
        count: e.count,
        tasks: u64::from(e.tasks),
        detail: words::edge_detail(e, start_ns),
    }
}

fn mapping(m: &MappingView) -> MappingRow {
    let seconds = words::seconds(m);
    let rate = |what: &str, n, peak| {
        let (mean, peak) = (words::per_second(n, seconds), words::number(peak));
        format!("{}: {mean} per second, {peak} at most", words::plural(n, what))
    };
    let rates =
        [rate("share", m.shares, m.peak_shares_per_s), rate("unshare", m.unshares, m.peak_unshares_per_s)];
    MappingRow {
        mapping: m.mapping.0,
        tables: m.tables as u64,
        sharers: m.sharers as u64,
        shares: m.shares,
        unshares: m.unshares,
        first_ns: m.first_ns,
        detail: rates.into_iter().chain(m.by.iter().map(words::unsharer)).collect(),
    }
}

/// What is worth a look comes first, in each of the three parts.
fn protection(p: &ProtectionView, meta: &Meta, coverage: &[Coverage]) -> Vec<ProtectionRow> {
    let pairs = p.pairs.iter().map(|pair| ProtectionRow {
        what: "apart",
        site: format!("{} / {}", pair.lookup, pair.unlink),
        count: 0,
        open: pair.open,
        ways: vec![words::protection::kept_apart(pair)],
    });
    let excluding = words::protection::excluding(&meta.setup);
    let lookups = p.lookups.iter().map(|l| ProtectionRow {
        what: "lookup",
        site: l.site.to_string(),
        count: l.leases,
        open: l.bare > 0,
        ways: words::protection::lookup_ways(l, &excluding),
    });
    let removals = p.unlinks.iter().map(|u| ProtectionRow {
        what: "removal",
        site: u.site.to_string(),
        count: u.unlinks,
        open: false,
        ways: words::protection::unlink_ways(u, coverage),
    });
    let mut rows: Vec<ProtectionRow> = lookups.chain(removals).chain(pairs).collect();
    rows.sort_by_key(|r| (["lookup", "removal", "apart"].iter().position(|w| *w == r.what), Reverse(r.open)));
    rows
}

fn table(t: &TableView, start_ns: u64) -> TableRow {
    TableRow {
        address: t.table.0,
        generation: t.generation,
        alive: t.alive,
        born_ns: t.birth_ns,
        sharers: t.links.iter().map(|l| (l.mm.0, l.gib.0)).collect(),
        lookups: t.lookups,
        shares: t.shares,
        unshares: t.unshares,
        sharers_max: t.sharers_max as u64,
        mapping: t.mapping.0,
        history: words::table_history(t, start_ns),
    }
}

fn coverage(c: &Coverage) -> CoverageRow {
    CoverageRow { role: c.role.name(), part: c.part.clone(), grade: c.grade.name(), reason: c.reason.clone() }
}
