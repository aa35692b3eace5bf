//! Comparison of edges with the documented lock orders.
//!
//! An edge is against an order if a lock is requested, in a way that can block, under a lock that the order places
//! inside it. If the facts state that an operation does so, and why, it is an exception and not a finding.

use std::sync::Arc;

use crate::{
    event::SiteId,
    finding::{AgainstOrder, Doubt, Evidence, Finding, Rank},
    lock_class::LockClass,
    lock_order::graph::{At, Edge, Graph},
    setup::{DocumentedOrder, OrderException},
    view::{Documented, EdgeView, Verdict},
};

/// Returns true if the order places the second class inside the first. `None`: it names only one of them, or they are
/// one class.
fn agrees(order: &DocumentedOrder, (from, to): (LockClass, LockClass)) -> Option<bool> {
    let place = |class: LockClass| order.outer_to_inner.iter().position(|c| *c == class.wire());
    let (outer, inner) = (place(from)?, place(to)?);
    (outer != inner).then_some(outer < inner)
}

/// Returns the known exception for an edge that is against an order at a site.
fn exception<'a>(
    order: &'a DocumentedOrder,
    edge: &Edge,
    at: &At,
    name: impl Fn(SiteId) -> Arc<str>,
) -> Option<&'a OrderException> {
    let site = name(at.first.site);
    order.exceptions.iter().find(|e| {
        (e.from, e.to) == (edge.from.0, edge.to.0)
            && (e.at.is_empty() || e.at.iter().any(|function| **function == *site))
    })
}

/// Views of all edges, sorted by class and mode.
pub(crate) fn views(
    graph: &Graph,
    orders: &[DocumentedOrder],
    name: impl Fn(SiteId) -> Arc<str>,
) -> Vec<EdgeView> {
    let view = |(e, at): (&Edge, &At)| EdgeView {
        from: e.from.0,
        from_mode: e.from.1,
        to: e.to.0,
        to_mode: e.to.1,
        acquire: e.acquire,
        sure: at.first.sure,
        count: e.count,
        tasks: e.tasks.len() as u32,
        instances: e.instances(),
        lossy: at.first.lossy,
        first_ns: e.first_ns,
        last_ns: e.last_ns,
        gates: e.gates(),
        documented: beside(e, orders, &name),
        witness: e.step(at.locks, &at.first, &name),
    };
    let mut views: Vec<EdgeView> = graph.edges().iter().map(|e| (e, e.best())).map(view).collect();
    views.sort_unstable_by_key(|v| (v.from, v.from_mode, v.to, v.to_mode, v.acquire));
    views
}

/// Compares an edge with each order that names both classes.
fn beside(edge: &Edge, orders: &[DocumentedOrder], name: impl Fn(SiteId) -> Arc<str>) -> Vec<Documented> {
    let documented = |verdict, source: &str, reason: &str| Documented {
        verdict,
        source: source.to_owned(),
        reason: reason.to_owned(),
    };
    let beside = |order: &DocumentedOrder| {
        if agrees(order, (edge.from.0, edge.to.0))? {
            return Some(documented(Verdict::Agrees, &order.source, ""));
        }
        let known: Option<Vec<&OrderException>> =
            edge.at.iter().map(|at| exception(order, edge, at, &name)).collect();
        Some(match known.as_deref() {
            Some([first, ..]) => documented(Verdict::Exception, &first.source, &first.reason),
            _ => documented(Verdict::Against, &order.source, ""),
        })
    };
    orders.iter().filter_map(beside).collect()
}

/// Returns the edges against the documented orders, one finding per classes and site, with the first order that is
/// contradicted.
pub(crate) fn against(
    graph: &Graph,
    orders: &[DocumentedOrder],
    name: impl Fn(SiteId) -> Arc<str>,
) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::new();
    for edge in graph.edges().iter().filter(|e| e.acquire.can_block()) {
        for at in &edge.at {
            let against = |order: &&DocumentedOrder| {
                agrees(order, (edge.from.0, edge.to.0)) == Some(false)
                    && exception(order, edge, at, &name).is_none()
            };
            if let Some(order) = orders.iter().find(against) {
                add(&mut all, finding(edge, at, order, &name));
            }
        }
    }
    all
}

/// Adds a finding; edges of the same classes in different modes are one finding.
fn add(all: &mut Vec<Finding>, finding: Finding) {
    let Some(known) = all.iter_mut().find(|f| f.id == finding.id) else {
        all.push(finding);
        return;
    };
    let (count, last_ns) = (known.count + finding.count, known.last_ns.max(finding.last_ns));
    if (finding.rank, finding.first_ns) < (known.rank, known.first_ns) {
        *known = finding;
    }
    (known.count, known.last_ns) = (count, last_ns);
}

fn finding(edge: &Edge, at: &At, order: &DocumentedOrder, name: impl Fn(SiteId) -> Arc<str>) -> Finding {
    let (seen, from) = (&at.first, edge.from.0);
    let lossy = seen.lossy || seen.site_unsure;
    let mut doubts = Vec::new();
    doubts.extend(lossy.then_some(Doubt::Loss));
    doubts.extend(seen.from_basis.is_inferred().then_some(Doubt::InferredHold(from)));
    doubts.extend((!seen.sure).then_some(Doubt::Moment(from)));
    let rank = match (lossy, seen.sure) {
        (true, _) => Rank::Incomplete,
        (false, false) => Rank::Possible,
        (false, true) => Rank::AgainstOrder,
    };
    let step = edge.step(at.locks, seen, &name);
    Finding {
        id: format!("order:{}>{}:{}", from.name(), edge.to.0.name(), name(seen.site)),
        rank,
        count: at.count,
        first_ns: seen.time_ns(),
        last_ns: at.last_ns,
        doubts,
        evidence: Evidence::AgainstOrder(Box::new(AgainstOrder { step, source: order.source.clone() })),
    }
}
