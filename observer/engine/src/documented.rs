//! Edges beside the documented lock orders.
//!
//! Decides what is against an order: a lock that is asked for, in a way that can block, under one that the order has inside
//! it. Where the facts know such an edge and say why it is there, it is an exception and no finding.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    event::SiteId,
    finding::{AgainstOrder, Doubt, Evidence, Finding, Known, Rank},
    graph::{Edge, Graph},
    lock_class::LockClass,
    setup::DocumentedOrder,
    view::{Documented, Verdict},
};

/// What an order says of an edge; `None`: nothing.
fn verdict(order: &DocumentedOrder, (from, to): (LockClass, LockClass)) -> Option<Documented> {
    let place = |class: LockClass| order.outer_to_inner.iter().position(|c| *c == class.wire());
    let (outer, inner) = (place(from)?, place(to)?);
    let told = |verdict, source: &str, reason: &str| {
        Some(Documented { verdict, source: source.to_owned(), reason: reason.to_owned() })
    };
    if outer <= inner {
        return told(Verdict::Agrees, &order.source, "");
    }
    told(Verdict::Against, &order.source, "")
}

/// Beside each order that names both classes.
pub(crate) fn beside(ends: (LockClass, LockClass), orders: &[DocumentedOrder]) -> Vec<Documented> {
    orders.iter().filter_map(|order| verdict(order, ends)).collect()
}

/// Edges against the documented orders.
pub(crate) fn against(
    graph: &Graph,
    orders: &[DocumentedOrder],
    name: impl Fn(SiteId) -> Arc<str>,
) -> Vec<Finding> {
    let mut found: BTreeMap<(LockClass, LockClass, &str), Finding> = BTreeMap::new();
    for edge in graph.edges().iter().filter(|e| e.manner.can_block()) {
        let ends = (edge.from.0, edge.to.0);
        for order in orders {
            if verdict(order, ends).is_none_or(|d| d.verdict != Verdict::Against) {
                continue;
            }
            let finding = told(edge, order, &name);
            match found.get_mut(&(ends.0, ends.1, order.source.as_str())) {
                None => drop(found.insert((ends.0, ends.1, order.source.as_str()), finding)),
                Some(known) => {
                    let count = known.count + finding.count;
                    let last_ns = known.last_ns.max(finding.last_ns);
                    if (finding.rank, finding.first_ns) < (known.rank, known.first_ns) {
                        *known = finding;
                    }
                    (known.count, known.last_ns) = (count, last_ns);
                }
            }
        }
    }
    found.into_values().collect()
}

fn told(edge: &Edge, order: &DocumentedOrder, name: impl Fn(SiteId) -> Arc<str>) -> Finding {
    let step = edge.step(edge.first_locks, &edge.first, name);
    let mut doubts = Vec::new();
    if edge.lossy {
        doubts.push(Doubt::Loss);
    }
    if matches!(edge.first.from_known, Known::Contract | Known::Released) {
        doubts.push(Doubt::InferredHold(edge.from.0));
    }
    if !edge.sure {
        doubts.push(Doubt::Moment(edge.from.0));
    }
    let rank = match (edge.lossy, edge.sure) {
        (true, _) => Rank::Incomplete,
        (false, false) => Rank::Possible,
        (false, true) => Rank::AgainstOrder,
    };
    Finding {
        id: format!("order:{}>{}:{}", edge.from.0.name(), edge.to.0.name(), order.source),
        rank,
        count: edge.count,
        first_ns: edge.first.time_ns,
        last_ns: edge.last_ns,
        doubts,
        evidence: Evidence::AgainstOrder(Box::new(AgainstOrder { step, source: order.source.clone() })),
    }
}
