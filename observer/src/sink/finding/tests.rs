//! Samples that the tests of each kind use, and checks of every kind.

use std::sync::Arc;

use observer_engine::{
    event::{Mode, Tid},
    finding::{AcquireKind, Evidence, Finding, Hold, HoldBasis, Party, Rank, Step, TaskRef},
    lock_class::LockClass,
};

use super::{detail, samples, summary};
use crate::report::stacks::Stacks;

const BASES: [HoldBasis; 7] = [
    HoldBasis::Requested,
    HoldBasis::Requesting,
    HoldBasis::Try,
    HoldBasis::ReturnedLocked,
    HoldBasis::Contract,
    HoldBasis::SlowPath,
    HoldBasis::InferredFromRelease,
];

/// A new variant stops this from compiling until `BASES` and the document contain it.
fn is_listed(basis: HoldBasis) {
    match basis {
        HoldBasis::Requested
        | HoldBasis::Requesting
        | HoldBasis::Try
        | HoldBasis::ReturnedLocked
        | HoldBasis::Contract
        | HoldBasis::SlowPath
        | HoldBasis::InferredFromRelease => {}
    }
}

pub fn hold(basis: HoldBasis) -> Hold {
    is_listed(basis);
    Hold { class: LockClass::IMmap, lock: 0x40, mode: Some(Mode::Read), basis, since_ns: 1, lossy: false }
}

/// A party with a hold of every basis.
pub fn side() -> Party {
    Party {
        task: TaskRef { tid: Tid(11), tgid: 10, comm: "walker".into(), cpu: 1 },
        site: Arc::from("smaps_hugetlb_range"),
        time_ns: 1,
        stack: Some(0),
        holds: BASES.map(hold).to_vec(),
    }
}

pub fn step(to_mode: Option<Mode>) -> Step {
    Step {
        from: LockClass::FaultMutex,
        from_mode: Some(Mode::Exclusive),
        from_lock: 1,
        from_basis: HoldBasis::Requested,
        to: LockClass::FolioFile,
        to_mode,
        to_lock: 2,
        acquire: AcquireKind::TryThenBlock,
        sure: true,
        party: side(),
        count: 1,
        waiting: true,
    }
}

/// A finding with this evidence and rank.
pub fn finding(rank: Rank, evidence: Evidence) -> Finding {
    Finding { id: "made".into(), rank, count: 1, first_ns: 1, last_ns: 2, doubts: vec![], evidence }
}

/// The detail of a finding as one text.
pub fn text(finding: &Finding) -> String {
    detail(finding, &Stacks::default(), 0).join("\n")
}

#[test]
fn every_kind_has_a_headline_of_one_line_and_a_reason_or_a_table() {
    for evidence in samples() {
        let f = finding(Rank::Incomplete, evidence);
        assert!(!summary(&f).is_empty() && !summary(&f).contains('\n'), "{}", summary(&f));
        let lines = detail(&f, &Stacks::default(), 0);
        assert!(lines.iter().any(|l| l.starts_with("rank") || l.starts_with("table")), "{lines:#?}");
        let names = f.evidence.subject().parties().len();
        assert!(names > 0 && f.evidence.subject().span_ns().is_some());
    }
}
