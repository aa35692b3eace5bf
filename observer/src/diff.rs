//! Comparison of two runs: findings and lock-order edges that are new, that are gone, or whose rank changed.
//!
//! Decides what is the same in two runs: a finding by its id without the rank, an edge by classes, modes and kind of request.
//! Also decides what affects the comparison: coverage and loss of one run may explain a difference. The two may be of
//! different kernels, before and after a change; that is the purpose.

use std::collections::BTreeMap;

use observer_engine::{
    finding::{Finding, Rank},
    setup::{Coverage, Grade, Role},
    view::EdgeView,
};

use crate::report::Report;

/// Kind of a difference, from the first run to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Only the second has it.
    New,
    /// Both have it, at different ranks.
    Rank,
    /// Only the first has it.
    Gone,
}

impl Change {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Change::New => "new",
            Change::Rank => "rank",
            Change::Gone => "gone",
        }
    }
}

/// A finding in one of the runs, merged over all its ranks.
#[derive(Clone, Copy, Debug)]
pub struct RunFinding<'a> {
    /// The finding with the worst rank.
    pub finding: &'a Finding,
    pub count: u64,
}

/// A finding that differs between the runs.
#[derive(Clone, Debug)]
pub struct FindingChange<'a> {
    pub change: Change,
    /// The id without the rank.
    pub id: &'a str,
    pub a: Option<RunFinding<'a>>,
    pub b: Option<RunFinding<'a>>,
}

/// An edge that differs between the runs.
#[derive(Clone, Copy, Debug)]
pub struct EdgeChange<'a> {
    pub change: Change,
    pub edge: &'a EdgeView,
}

/// A role, or a part of one, that one run sees better than the other; `None` if a run's plan does not contain it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoverageChange {
    pub role: Role,
    pub part: String,
    pub a: Option<Grade>,
    pub b: Option<Grade>,
}

/// Comparison of two runs.
#[derive(Clone, Debug)]
pub struct Diff<'a> {
    pub a: &'a Report,
    pub b: &'a Report,
    /// New findings first, then changed ones, then those that are gone; each worst first.
    pub findings: Vec<FindingChange<'a>>,
    pub same_findings: usize,
    pub edges: Vec<EdgeChange<'a>>,
    pub same_edges: usize,
    pub coverage: Vec<CoverageChange>,
}

impl<'a> Diff<'a> {
    #[must_use]
    pub fn of(a: &'a Report, b: &'a Report) -> Diff<'a> {
        let (findings, same_findings) = findings(a, b);
        let (edges, same_edges) = edges(a, b);
        Diff { a, b, findings, same_findings, edges, same_edges, coverage: coverage(a, b) }
    }

    /// Worst rank of the findings that are new or became worse.
    #[must_use]
    pub fn worst_that_came(&self) -> Option<Rank> {
        self.findings.iter().filter_map(FindingChange::came).min()
    }
}

impl FindingChange<'_> {
    /// The rank in the second run, if it is worse than in the first.
    fn came(&self) -> Option<Rank> {
        let rank = |found: &Option<RunFinding<'_>>| found.map(|f| f.finding.rank);
        rank(&self.b).filter(|b| rank(&self.a).is_none_or(|a| *b < a))
    }

    /// The finding to show: from the second run, else from the first.
    #[must_use]
    pub fn shown(&self) -> Option<&Finding> {
        self.b.or(self.a).map(|t| t.finding)
    }
}

/// The id without the rank that it may end in.
fn key(f: &Finding) -> &str {
    f.id.strip_suffix(f.rank.name()).and_then(|id| id.strip_suffix(':')).unwrap_or(&f.id)
}

fn by_id(r: &Report) -> BTreeMap<&str, RunFinding<'_>> {
    let mut all: BTreeMap<&str, RunFinding<'_>> = BTreeMap::new();
    for finding in &r.findings {
        let merged = all.entry(key(finding)).or_insert(RunFinding { finding, count: 0 });
        merged.count += finding.count;
        if finding.rank < merged.finding.rank {
            merged.finding = finding;
        }
    }
    all
}

fn findings<'a>(a: &'a Report, b: &'a Report) -> (Vec<FindingChange<'a>>, usize) {
    let (a, b) = (by_id(a), by_id(b));
    let mut same = 0;
    let mut changes = Vec::new();
    for (id, was) in &a {
        let is = b.get(id).copied();
        let change = match is {
            None => Change::Gone,
            Some(is) if is.finding.rank != was.finding.rank => Change::Rank,
            Some(_) => {
                same += 1;
                continue;
            }
        };
        changes.push(FindingChange { change, id, a: Some(*was), b: is });
    }
    let came = b.iter().filter(|(id, _)| !a.contains_key(*id));
    changes.extend(came.map(|(id, is)| FindingChange { change: Change::New, id, a: None, b: Some(*is) }));
    changes.sort_by_key(|c| (c.change, c.shown().map(|f| f.rank), c.id));
    (changes, same)
}

fn edges<'a>(a: &'a Report, b: &'a Report) -> (Vec<EdgeChange<'a>>, usize) {
    let key = |e: &EdgeView| (e.from, e.from_mode, e.to, e.to_mode, e.acquire);
    let lacks = |r: &Report, e: &EdgeView| r.edges.iter().all(|other| key(other) != key(e));
    let came = b.edges.iter().filter(|e| lacks(a, e)).map(|edge| EdgeChange { change: Change::New, edge });
    let went = a.edges.iter().filter(|e| lacks(b, e)).map(|edge| EdgeChange { change: Change::Gone, edge });
    let changes: Vec<EdgeChange<'a>> = came.chain(went).collect();
    let went = changes.iter().filter(|c| c.change == Change::Gone).count();
    (changes, a.edges.len() - went)
}

/// Lists the differences in coverage. A part that is in only one plan is a difference if it is blind there, or if it is of
/// locks: the other kernel does not have that class.
fn coverage(a: &Report, b: &Report) -> Vec<CoverageChange> {
    let grade = |r: &Report, c: &Coverage| {
        r.coverage.iter().find(|other| (other.role, &other.part) == (c.role, &c.part)).map(|c| c.grade)
    };
    let mut changes: Vec<CoverageChange> = Vec::new();
    for c in a.coverage.iter().chain(&b.coverage) {
        let (a, b) = (grade(a, c), grade(b, c));
        let counts = match (a, b) {
            (Some(a), Some(b)) => a != b,
            (one, other) => c.role == Role::Lock || one.or(other) == Some(Grade::Blind),
        };
        let change = CoverageChange { role: c.role, part: c.part.clone(), a, b };
        if counts && !changes.contains(&change) {
            changes.push(change);
        }
    }
    changes
}
