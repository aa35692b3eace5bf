//! Lock order in the report for programs: every edge, with the verdict of the kernel's documents.

use observer_engine::view::{Documented as EngineDocumented, EdgeView};
use serde::Serialize;

use super::parts::{Step, mode, step};
use crate::report::stacks::Stacks;

/// An edge of the lock order.
#[derive(Serialize)]
pub struct Wire {
    from: &'static str,
    from_mode: Option<&'static str>,
    to: &'static str,
    to_mode: Option<&'static str>,
    /// One of `asked`, `try-then-block` or `tried`.
    acquire: &'static str,
    sure: bool,
    count: u64,
    tasks: u32,
    instances: usize,
    lossy: bool,
    first_ns: u64,
    last_ns: u64,
    gates: Vec<&'static str>,
    documented: Vec<Documented>,
    witness: Step,
}

/// Verdict of one documented order on the edge.
#[derive(Serialize)]
struct Documented {
    /// One of `agrees`, `exception` or `against`.
    verdict: &'static str,
    source: String,
    reason: String,
}

/// Converts an edge.
#[must_use]
pub fn wire(e: &EdgeView, stacks: &Stacks) -> Wire {
    Wire {
        from: e.from.name(),
        from_mode: mode(e.from_mode),
        to: e.to.name(),
        to_mode: mode(e.to_mode),
        acquire: e.acquire.name(),
        sure: e.sure,
        count: e.count,
        tasks: e.tasks,
        instances: e.instances,
        lossy: e.lossy,
        first_ns: e.first_ns,
        last_ns: e.last_ns,
        gates: e.gates.iter().map(|class| class.name()).collect(),
        documented: e.documented.iter().map(documented).collect(),
        witness: step(&e.witness, stacks),
    }
}

fn documented(d: &EngineDocumented) -> Documented {
    Documented { verdict: d.verdict.name(), source: d.source.clone(), reason: d.reason.clone() }
}
