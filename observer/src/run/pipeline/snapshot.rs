//! Makes the snapshot of a run for a dashboard: see [`crate::snapshot`].
//!
//! Decides which rows are first where not all are shown.

use std::{cmp::Reverse, sync::Arc};

use observer_engine::{
    finding::Finding,
    setup::Setup,
    view::{EdgeView, MappingView, TableView},
};

use super::Pipeline;
use crate::{
    meta::Meta,
    report::Report,
    snapshot::{Position, ROWS_MAX, Snapshot},
};

impl Pipeline {
    /// The run as it is now.
    #[must_use]
    pub fn snapshot(&self, meta: &Arc<Meta>, position: Position) -> Snapshot {
        let (findings, edges, tables) = (self.engine.findings(), self.engine.edges(), self.engine.tables());
        let mappings = self.engine.mappings(&tables);
        Snapshot {
            meta: meta.clone(),
            setup: self.setup.clone(),
            position,
            now_ns: self.now_ns,
            passes: self.passes,
            stats: self.engine.stats(),
            counts: self.order.counts(),
            loss: self.losses.by_reason(None),
            leases: self.engine.leases(ROWS_MAX),
            protection: self.engine.protection(),
            coverage: self.engine.coverage(),
            fired: self.fired(),
            stacks: self.stacks.clone(),
            tail: self.tail(),
            last: self.last(),
            ..rows(findings, edges, tables, mappings)
        }
    }
}

/// The run as it was at its end.
#[must_use]
pub fn last_snapshot(report: &Report, position: Position) -> Snapshot {
    let (findings, edges) = (report.findings.clone(), report.edges.clone());
    Snapshot {
        meta: Arc::new(report.meta.clone()),
        // The setup was valid at the start of the run, or there would be no report.
        setup: Arc::new(Setup::try_from(&report.meta.setup).unwrap_or_default()),
        position: if position == Position::Live { Position::Ended } else { position },
        now_ns: report.end_ns,
        passes: report.passes,
        stats: report.stats.clone(),
        counts: report.counts,
        loss: report.loss.clone(),
        protection: report.protection.clone(),
        coverage: report.coverage.clone(),
        stacks: Arc::new(report.stacks.clone()),
        notices: report.notices.iter().map(|notice| notice.text.clone()).collect(),
        ..rows(findings, edges, report.tables.clone(), report.mappings.clone())
    }
}

/// Lists cut to their maximum, and the total counts.
fn rows(
    findings: Vec<Finding>,
    edges: Vec<EdgeView>,
    mut tables: Vec<TableView>,
    mappings: Vec<MappingView>,
) -> Snapshot {
    tables.sort_by_key(|t| (Reverse(t.alive), Reverse(t.shares + t.unshares), Reverse(t.lookups), t.table));
    Snapshot {
        findings_total: findings.len(),
        findings: first(findings),
        edges_total: edges.len(),
        edges: first(edges),
        tables_total: tables.len(),
        tables: first(tables),
        mappings: first(mappings),
        ..Snapshot::default()
    }
}

fn first<T>(mut rows: Vec<T>) -> Vec<T> {
    rows.truncate(ROWS_MAX);
    rows
}
