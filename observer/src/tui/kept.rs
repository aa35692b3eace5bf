//! Findings that a page is open of, as they were told latest: in a recording one may go to before they are told, or before the
//! case that is shown of them is, and what is read there is about just that time.
//!
//! Decides how long one is kept: while its page is open.

use std::sync::Arc;

use observer_engine::finding::Finding;

use crate::report::stacks::Stacks;
use crate::snapshot::Snapshot;

/// A finding as it was told.
#[derive(Clone, Debug)]
pub struct Told {
    pub finding: Finding,
    /// Numbers of its stacks mean these.
    pub stacks: Arc<Stacks>,
    /// Event time of the picture that it is from.
    pub at_ns: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Kept(Vec<Told>);

impl Kept {
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Told> {
        self.0.iter().find(|told| told.finding.id == id)
    }

    /// Takes what a picture tells of these findings, and forgets all others.
    pub fn renew(&mut self, s: &Snapshot, ids: &[&str]) {
        self.0.retain(|told| ids.contains(&told.finding.id.as_str()));
        for f in s.findings.iter().filter(|f| ids.contains(&f.id.as_str())) {
            let told = Told { finding: f.clone(), stacks: s.stacks.clone(), at_ns: s.now_ns };
            match self.0.iter_mut().find(|old| old.finding.id == f.id) {
                Some(old) if old.at_ns <= told.at_ns => *old = told,
                Some(_) => {}
                None => self.0.push(told),
            }
        }
    }
}
