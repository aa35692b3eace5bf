//! The picture of a run for a dashboard: see [`crate::snapshot`].
//!
//! Decides what comes first where not all is shown.

use std::{cmp::Reverse, sync::Arc};

use observer_engine::{setup::Setup, view::TableView};

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
            findings_total: findings.len(),
            findings: first(findings),
            edges_total: edges.len(),
            edges: first(edges),
            tables_total: tables.len(),
            tables: first(most_active(tables)),
            mappings: first(mappings),
            leases: self.engine.leases(ROWS_MAX),
            protection: self.engine.protection(),
            coverage: self.engine.coverage(),
            fired: self.fired(),
            stacks: self.stacks.clone(),
            tail: self.tail(),
            notices: Vec::new(),
        }
    }
}

/// The run as it was at its end.
#[must_use]
pub fn last_snapshot(report: &Report, position: Position) -> Snapshot {
    Snapshot {
        meta: Arc::new(report.meta.clone()),
        // It was understood once, or there were no report.
        setup: Arc::new(Setup::try_from(&report.meta.setup).unwrap_or_default()),
        position: if position == Position::Live { Position::Ended } else { position },
        now_ns: report.end_ns,
        passes: report.passes,
        stats: report.stats.clone(),
        counts: report.counts,
        loss: report.loss.clone(),
        findings: first(report.findings.clone()),
        findings_total: report.findings.len(),
        edges: first(report.edges.clone()),
        edges_total: report.edges.len(),
        tables: first(most_active(report.tables.clone())),
        tables_total: report.tables.len(),
        mappings: first(report.mappings.clone()),
        leases: Vec::new(),
        protection: report.protection.clone(),
        coverage: report.coverage.clone(),
        fired: Vec::new(),
        stacks: Arc::new(report.stacks.clone()),
        tail: Vec::new(),
        notices: report.notices.clone(),
    }
}

fn first<T>(mut rows: Vec<T>) -> Vec<T> {
    rows.truncate(ROWS_MAX);
    rows
}

fn most_active(mut tables: Vec<TableView>) -> Vec<TableView> {
    tables.sort_by_key(|t| (Reverse(t.alive), Reverse(t.shares + t.unshares), Reverse(t.lookups), t.table));
    tables
}
