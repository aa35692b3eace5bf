//! Latest state of each finding whose page is open. In a recording one may seek to a time before the finding is reported, or
//! before its shown case happened; the page still shows that later state.
//!
//! Decides how long a finding is kept: while its page is open.

use std::sync::Arc;

use observer_engine::finding::Finding;

use crate::report::stacks::Stacks;
use crate::snapshot::Snapshot;

/// A finding as it was reported.
#[derive(Clone, Debug)]
pub struct Reported {
    pub finding: Finding,
    /// Table that the finding's stack numbers refer to.
    pub stacks: Arc<Stacks>,
    /// Event time of the snapshot that it is from.
    pub at_ns: u64,
}

/// Findings of all open pages.
#[derive(Debug, Default)]
pub struct Kept(Vec<Reported>);

impl Kept {
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Reported> {
        self.0.iter().find(|latest| latest.finding.id == id)
    }

    /// Takes the state of these findings from a snapshot, and drops all others.
    pub fn renew(&mut self, s: &Snapshot, ids: &[&str]) {
        self.0.retain(|latest| ids.contains(&latest.finding.id.as_str()));
        for f in s.findings.iter().filter(|f| ids.contains(&f.id.as_str())) {
            let latest = Reported { finding: f.clone(), stacks: s.stacks.clone(), at_ns: s.now_ns };
            match self.0.iter_mut().find(|old| old.finding.id == f.id) {
                Some(old) if old.at_ns <= latest.at_ns => *old = latest,
                Some(_) => {}
                None => self.0.push(latest),
            }
        }
    }
}
