//! Expectations on the result of a trace or a recording.
//!
//! The expected findings are complete: an unexpected finding is a difference, as is a missing one. Edges, tables and
//! counts are spot checks.

use std::fmt;

use super::parse::number;
use crate::{
    Engine,
    finding::{AcquireKind, Finding, HoldBasis, Kind, Rank},
    lock_class::LockClass,
    setup::{Grade, Role},
    view::{EdgeView, Stats, TableView},
};

/// One `expect` line, without that word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    text: String,
    claim: Claim,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Claim {
    None,
    Finding {
        rank: Rank,
        kind: Kind,
        fields: Vec<(String, String)>,
    },
    Edge {
        from: String,
        to: String,
        absent: bool,
        fields: Vec<(String, String)>,
    },
    Table {
        address: u64,
        fields: Vec<(String, String)>,
    },
    Stats {
        fields: Vec<(String, String)>,
    },
    /// Coverage at the end of the run.
    Coverage {
        role: Role,
        grade: Grade,
    },
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expect {}", self.text)
    }
}

impl std::str::FromStr for Expectation {
    type Err = String;

    fn from_str(text: &str) -> Result<Expectation, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let claim = match words.as_slice() {
            ["none"] => Claim::None,
            ["no", "edge", from, to] => edge(from, to, true, &[])?,
            ["edge", from, to, rest @ ..] => edge(from, to, false, rest)?,
            ["table", address, rest @ ..] => {
                Claim::Table { address: number(address)?, fields: fields(rest, TABLE_FIELDS)? }
            }
            ["coverage", role, grade] => Claim::Coverage {
                role: Role::from_name(role).ok_or_else(|| format!("`{role}` is not a role"))?,
                grade: Grade::from_name(grade).ok_or_else(|| format!("`{grade}` is not a grade"))?,
            },
            ["stat", rest @ ..] => Claim::Stats { fields: fields(rest, STAT_FIELDS)? },
            [rank, kind, rest @ ..] => {
                let kind =
                    Kind::from_name(kind).ok_or_else(|| format!("`{kind}` is not a kind of finding"))?;
                Claim::Finding {
                    rank: Rank::from_name(rank).ok_or_else(|| format!("`{rank}` is not a rank"))?,
                    kind,
                    fields: fields(rest, &finding_fields(kind))?,
                }
            }
            _ => return Err("`expect none`, `expect RANK KIND …` or another form was expected".into()),
        };
        Ok(Expectation { text: words.join(" "), claim })
    }
}

const TABLE_FIELDS: &[&str] = &["generation", "links", "sharers", "lookups", "shares", "unshares", "alive"];
const STAT_FIELDS: &[&str] = &[
    "events",
    "lost",
    "live_leases",
    "leases",
    "live_tasks",
    "live_tables",
    "lookups",
    "other_size_lookups",
    "other_size_walks",
    "shares",
    "removals_exact",
    "removals_diff",
    "removals_both",
    "windows",
    "unmatched_ends",
    "unmatched_begins",
    "unknown_releases",
    "missed_frees",
    "missed_folio_releases",
    "forgotten_leases",
];
const EDGE_FIELDS: &[&str] = &["count", "tasks", "instances", "site", "how"];

fn finding_fields(kind: Kind) -> Vec<&'static str> {
    [kind.about().fields, &["count"]].concat()
}

fn fields(words: &[&str], known: &[&str]) -> Result<Vec<(String, String)>, String> {
    let mut fields = Vec::new();
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| format!("`{word}` has no value"))?;
        if !known.contains(&key) {
            return Err(format!("`{key}` cannot be expected here; there are {}", known.join(", ")));
        }
        fields.push((key.to_owned(), value.to_owned()));
    }
    Ok(fields)
}

fn edge(from: &str, to: &str, absent: bool, rest: &[&str]) -> Result<Claim, String> {
    let check = |end: &str| {
        let name = end.split(':').next().unwrap_or("");
        LockClass::from_name(name).map(|_| ()).ok_or_else(|| format!("`{name}` is not a lock class"))
    };
    check(from)?;
    check(to)?;
    let mut fields = match rest {
        ["try", more @ ..] => {
            let mut fields = fields(more, EDGE_FIELDS)?;
            fields.push(("try".into(), "yes".into()));
            fields
        }
        more => fields(more, EDGE_FIELDS)?,
    };
    if !absent && !fields.iter().any(|(key, _)| key == "try") {
        fields.push(("try".into(), "no".into()));
    }
    Ok(Claim::Edge { from: from.into(), to: to.into(), absent, fields })
}

/// Returns the differences between expectations and the engine's state.
pub(super) fn check(expectations: &[Expectation], engine: &Engine) -> Vec<String> {
    let findings = engine.findings();
    let edges = engine.edges();
    let (tables, stats) = (engine.tables(), engine.stats());
    let mut unexpected: Vec<&Finding> = findings.iter().collect();
    let mut differences = Vec::new();
    for expected in expectations {
        let met = match &expected.claim {
            Claim::None => findings.is_empty(),
            Claim::Finding { rank, kind, fields } => {
                let fits = |f: &&Finding| {
                    f.rank == *rank && f.kind() == *kind && all(fields, |key| finding_field(f, key))
                };
                unexpected.iter().position(fits).map(|at| unexpected.remove(at)).is_some()
            }
            Claim::Edge { from, to, absent, fields } => {
                let fits = |e: &EdgeView| {
                    end_fits(from, e.from, e.from_mode)
                        && end_fits(to, e.to, e.to_mode)
                        && all(fields, |key| edge_field(e, key))
                };
                edges.iter().any(fits) != *absent
            }
            Claim::Table { address, fields } => {
                tables.iter().any(|t| t.table.0 == *address && all(fields, |key| table_field(t, key)))
            }
            Claim::Stats { fields } => all(fields, |key| stat_field(&stats, key)),
            Claim::Coverage { role, grade } => {
                engine.coverage().iter().any(|c| c.role == *role && c.part.is_empty() && c.grade == *grade)
            }
        };
        if !met {
            differences.push(format!("not met: {expected}"));
        }
    }
    differences.extend(unexpected.iter().map(|f| format!("not expected: {}", words(f))));
    differences
}

/// Returns the expectation that a finding would meet, with all its fields.
fn words(finding: &Finding) -> String {
    let kind = finding.kind();
    let mut text = format!("expect {} {}", finding.rank.name(), kind.name());
    for key in finding_fields(kind) {
        if let Some(value) = finding_field(finding, key) {
            text.push_str(&format!(" {key}={value}"));
        }
    }
    text
}

fn all(fields: &[(String, String)], value: impl Fn(&str) -> Option<String>) -> bool {
    fields.iter().all(|(key, expected)| {
        value(key)
            .is_some_and(|v| v == *expected || number(expected).is_ok_and(|n| Some(n) == number(&v).ok()))
    })
}

fn end_fits(expected: &str, class: LockClass, mode: Option<crate::event::Mode>) -> bool {
    match expected.split_once(':') {
        None => class.name() == expected,
        Some((name, m)) => class.name() == name && mode.is_some_and(|mode| mode.name() == m),
    }
}

fn finding_field(finding: &Finding, key: &str) -> Option<String> {
    match key {
        "count" => Some(finding.count.to_string()),
        key => finding.evidence.subject().field(key),
    }
}

/// Returns the word of the trace language for a hold basis. The language does not change with the report's schema.
fn basis(basis: HoldBasis) -> &'static str {
    match basis {
        HoldBasis::Requested => "asked",
        HoldBasis::Requesting => "asking",
        HoldBasis::Try => "tried",
        HoldBasis::InferredFromRelease => "released",
        basis => basis.name(),
    }
}

/// Returns the word of the trace language for a kind of request.
fn acquire(acquire: AcquireKind) -> &'static str {
    match acquire {
        AcquireKind::Blocking => "asked",
        AcquireKind::TryThenBlock => acquire.name(),
        AcquireKind::Try => "tried",
    }
}

fn edge_field(edge: &EdgeView, key: &str) -> Option<String> {
    Some(match key {
        "count" => edge.count.to_string(),
        "tasks" => edge.tasks.to_string(),
        "instances" => edge.instances.to_string(),
        "site" => edge.witness.party.site.to_string(),
        "how" => basis(edge.witness.from_basis).to_owned(),
        "try" => if edge.acquire.can_block() { "no" } else { "yes" }.to_owned(),
        "manner" => acquire(edge.acquire).to_owned(),
        "sure" => if edge.sure { "yes" } else { "no" }.to_owned(),
        _ => return None,
    })
}

fn table_field(table: &TableView, key: &str) -> Option<String> {
    Some(match key {
        "generation" => table.generation.to_string(),
        "links" => table.links.len().to_string(),
        "sharers" => table.sharers().to_string(),
        "lookups" => table.lookups.to_string(),
        "shares" => table.shares.to_string(),
        "unshares" => table.unshares.to_string(),
        "alive" => if table.alive { "yes" } else { "no" }.to_owned(),
        _ => return None,
    })
}

fn stat_field(stats: &Stats, key: &str) -> Option<String> {
    let value = match key {
        "events" => stats.events,
        "lost" => stats.lost,
        "live_leases" => stats.live_leases as u64,
        "leases" => stats.leases,
        "live_tasks" => stats.live_tasks as u64,
        "live_tables" => stats.live_tables as u64,
        "lookups" => stats.lookups,
        "other_size_lookups" => stats.other_sizes.iter().map(|s| s.lookups).sum(),
        "other_size_walks" => stats.other_sizes.iter().map(|s| s.walks).sum(),
        "shares" => stats.shares,
        "removals_exact" => stats.unlinks_exact,
        "removals_diff" => stats.unlinks_diff,
        "removals_both" => stats.unlinks_both,
        "windows" => stats.windows,
        "unmatched_ends" => stats.unmatched_ends,
        "unmatched_begins" => stats.unmatched_begins,
        "unknown_releases" => stats.unknown_releases,
        "missed_frees" => stats.missed_frees,
        "missed_folio_releases" => stats.missed_folio_releases,
        "forgotten_leases" => stats.forgotten_leases,
        _ => return None,
    };
    Some(value.to_string())
}
