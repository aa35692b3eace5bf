//! Edges beside the documented lock orders.
//!
//! Decides what is against an order: a lock that is asked for, in a way that can block, under one that the order has inside
//! it. Where the facts know that an operation does so and say why, it is an exception and no finding.

use std::sync::Arc;

use crate::{
    event::SiteId,
    finding::{AgainstOrder, Doubt, Evidence, Finding, Rank},
    graph::{At, Edge, Graph},
    lock_class::LockClass,
    setup::{DocumentedOrder, OrderException},
    view::{Documented, Verdict},
};

/// Whether an order has the second class inside the first; `None`: it does not name both, or they are one class to it.
fn agrees(order: &DocumentedOrder, (from, to): (LockClass, LockClass)) -> Option<bool> {
    let place = |class: LockClass| order.outer_to_inner.iter().position(|c| *c == class.wire());
    let (outer, inner) = (place(from)?, place(to)?);
    (outer != inner).then_some(outer < inner)
}

/// Why an edge is known to be against an order at a site.
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

/// What each order that names both classes says of an edge.
pub(crate) fn beside(
    edge: &Edge,
    orders: &[DocumentedOrder],
    name: impl Fn(SiteId) -> Arc<str>,
) -> Vec<Documented> {
    let told = |verdict, source: &str, reason: &str| Documented {
        verdict,
        source: source.to_owned(),
        reason: reason.to_owned(),
    };
    let beside = |order: &DocumentedOrder| {
        if agrees(order, (edge.from.0, edge.to.0))? {
            return Some(told(Verdict::Agrees, &order.source, ""));
        }
        let known: Option<Vec<&OrderException>> =
            edge.at.iter().map(|at| exception(order, edge, at, &name)).collect();
        Some(match known.as_deref() {
            Some([first, ..]) => told(Verdict::Exception, &first.source, &first.reason),
            _ => told(Verdict::Against, &order.source, ""),
        })
    };
    orders.iter().filter_map(beside).collect()
}

/// Edges against the documented orders, one finding for classes and site: by the first order that they are against.
pub(crate) fn against(
    graph: &Graph,
    orders: &[DocumentedOrder],
    name: impl Fn(SiteId) -> Arc<str>,
) -> Vec<Finding> {
    let mut all: Vec<Finding> = Vec::new();
    for edge in graph.edges().iter().filter(|e| e.manner.can_block()) {
        for at in &edge.at {
            let against = |order: &&DocumentedOrder| {
                agrees(order, (edge.from.0, edge.to.0)) == Some(false)
                    && exception(order, edge, at, &name).is_none()
            };
            if let Some(order) = orders.iter().find(against) {
                add(&mut all, told(edge, at, order, &name));
            }
        }
    }
    all
}

/// Edges of the same classes in different modes are one finding.
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

fn told(edge: &Edge, at: &At, order: &DocumentedOrder, name: impl Fn(SiteId) -> Arc<str>) -> Finding {
    let (seen, from) = (&at.first, edge.from.0);
    let lossy = seen.lossy || seen.site_unsure;
    let mut doubts = Vec::new();
    doubts.extend(lossy.then_some(Doubt::Loss));
    doubts.extend(seen.from_known.is_inferred().then_some(Doubt::InferredHold(from)));
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
