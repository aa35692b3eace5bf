//! The report for programs.
//!
//! Decides the schema, [`SCHEMA`]: it has its own types, since the engine's are free to change. Times are nanoseconds of the
//! watched machine's `CLOCK_MONOTONIC`, and spans end in `_ns` too. Addresses are strings in hexadecimal, because some
//! readers' numbers cannot represent 64 bits. Keys are in the order of the types below.

pub mod diff;
pub mod finding;
mod ledger;
pub mod lines;
pub mod order;
pub(super) mod parts;
mod protection;
pub mod several;

use std::io::{self, Write};

use observer_engine::view::{self, Stats, TableView};
use serde::Serialize;

use crate::{
    meta::{Closing, Filter, Kernel, Level, setup::Coverage},
    report::Report,
};

/// Name and version of the schema; the version rises with every change that could break a reader.
pub const SCHEMA: &str = "observer-report/5";

/// The whole report.
#[derive(Serialize)]
struct Wire<'a> {
    schema: &'static str,
    observer_version: &'a str,
    kernel: &'a Kernel,
    boot_id: &'a str,
    level: Level,
    filter: &'a Filter,
    start_ns: u64,
    end_ns: u64,
    /// Worst rank found; `null` if there is no finding within this coverage.
    worst: Option<&'static str>,
    alarms: usize,
    /// The recording was damaged, broke off, or was not read to its end: some of `notices` say how.
    partial: bool,
    notices: Vec<&'a str>,
    findings: Vec<finding::Wire>,
    edges: Vec<order::Wire>,
    tables: Vec<Table>,
    protection: protection::Wire,
    mappings: Vec<ledger::Wire>,
    counts: Counts,
    loss: Vec<Loss>,
    /// Coverage at the end of the run.
    coverage: Vec<Coverage>,
    /// Attached sites, and their counts before any filter.
    sites: Vec<Site<'a>>,
    /// Closing of the run; `null` if the recording breaks off.
    closing: Option<&'a Closing>,
}

#[derive(Serialize)]
struct Table {
    table: String,
    generation: u32,
    birth_ns: u64,
    birth_seen: bool,
    alive: bool,
    links: Vec<parts::Link>,
    lookups: u64,
    shares: u64,
    unshares: u64,
    sharers_max: usize,
    /// Address of the mapping; `0x0` if not known.
    mapping: String,
}

#[derive(Serialize)]
struct Counts {
    passes: u64,
    events: u64,
    /// Kind and count, in the order of the kinds' numbers.
    by_kind: Vec<(&'static str, u64)>,
    late: u64,
    /// Sequence numbers that never arrived.
    gaps: u64,
    undecodable: u64,
    lookups: u64,
    /// Pages whose tables are never shared; no other count includes them.
    other_sizes: Vec<OtherSize>,
    leases: u64,
    shares: u64,
    unlinks_exact: u64,
    unlinks_diff: u64,
    unlinks_both: u64,
    windows: u64,
    unmatched_begins: u64,
    unmatched_ends: u64,
    unknown_releases: u64,
    untried_pairs: u64,
    dropped_pairs: u64,
    dropped_requests: u64,
    dropped_holds: u64,
    dropped_walks: u64,
    forgotten_leases: u64,
}

#[derive(Serialize)]
struct OtherSize {
    page_bytes: u64,
    lookups: u64,
    walks: u64,
}

#[derive(Serialize)]
struct Site<'a> {
    site: u16,
    function: &'a str,
    role: &'a str,
    /// Number of calls; `null` if the recording breaks off.
    hits: Option<u64>,
    /// Calls that did what the role is about.
    outcomes: Option<u64>,
}

#[derive(Serialize)]
struct Loss {
    reason: &'static str,
    total: u64,
}

/// Writes the report, with a newline at its end.
///
/// # Errors
/// The output cannot be written.
pub fn write(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &wire(report))?;
    writeln!(out)
}

fn wire(report: &Report) -> Wire<'_> {
    let m = &report.meta;
    Wire {
        schema: SCHEMA,
        observer_version: &m.observer_version,
        kernel: &m.kernel,
        boot_id: &m.boot_id,
        level: m.level,
        filter: &m.filter,
        start_ns: m.start_ns,
        end_ns: report.end_ns,
        worst: report.worst().map(observer_engine::finding::Rank::name),
        alarms: report.alarms(),
        partial: report.is_partial(),
        notices: report.notices.iter().map(|notice| notice.text.as_str()).collect(),
        findings: report.findings.iter().map(|f| finding::wire(f, &[&report.stacks])).collect(),
        edges: report.edges.iter().map(|e| order::wire(e, &report.stacks)).collect(),
        tables: report.tables.iter().map(table).collect(),
        protection: protection::wire(&report.protection),
        mappings: report.mappings.iter().map(ledger::wire).collect(),
        counts: counts(report, &report.stats),
        loss: loss(report),
        coverage: report.coverage.iter().map(Coverage::from).collect(),
        sites: sites(report),
        closing: report.closing.as_ref(),
    }
}

fn loss(report: &Report) -> Vec<Loss> {
    report.loss.iter().map(|&(reason, total)| Loss { reason, total }).collect()
}

fn sites(report: &Report) -> Vec<Site<'_>> {
    let counted = |id: u16| report.closing.as_ref().and_then(|c| c.sites.iter().find(|s| s.site == id));
    let sites = report.meta.setup.sites.iter().map(|s| Site {
        site: s.id,
        function: &s.function,
        role: &s.role,
        hits: counted(s.id).map(|c| c.hits),
        outcomes: counted(s.id).map(|c| c.outcomes),
    });
    sites.collect()
}

fn table(t: &TableView) -> Table {
    let links = t.links.iter().map(|l| parts::Link::new(l.mm, l.gib));
    Table {
        table: t.table.to_string(),
        generation: t.generation,
        birth_ns: t.birth_ns,
        birth_seen: t.birth_seen,
        alive: t.alive,
        links: links.collect(),
        lookups: t.lookups,
        shares: t.shares,
        unshares: t.unshares,
        sharers_max: t.sharers_max,
        mapping: t.mapping.to_string(),
    }
}

fn other_size(o: &view::OtherSize) -> OtherSize {
    OtherSize { page_bytes: o.page_bytes, lookups: o.lookups, walks: o.walks }
}

fn counts(report: &Report, s: &Stats) -> Counts {
    Counts {
        passes: report.passes,
        events: s.events,
        by_kind: s.by_kind.clone(),
        late: report.counts.late,
        gaps: report.counts.lost,
        undecodable: report.counts.undecodable(),
        lookups: s.lookups,
        other_sizes: s.other_sizes.iter().map(other_size).collect(),
        leases: s.leases,
        shares: s.shares,
        unlinks_exact: s.unlinks_exact,
        unlinks_diff: s.unlinks_diff,
        unlinks_both: s.unlinks_both,
        windows: s.windows,
        unmatched_begins: s.unmatched_begins,
        unmatched_ends: s.unmatched_ends,
        unknown_releases: s.unknown_releases,
        untried_pairs: s.untried_pairs,
        dropped_pairs: s.dropped_pairs,
        dropped_requests: s.dropped_requests,
        dropped_holds: s.dropped_holds,
        dropped_walks: s.dropped_walks,
        forgotten_leases: s.forgotten_leases,
    }
}

#[cfg(test)]
mod tests;
