//! Mappings in the report for programs: the tasks that share and unshare their tables, and the time it takes.

use observer_engine::view::{MappingView, UnsharerView};
use serde::Serialize;

#[derive(Serialize)]
pub struct Wire {
    /// Address of the mapping; `0x0` sums up all tables whose mapping is not known.
    mapping: String,
    tables: usize,
    sharers: usize,
    shares: u64,
    unshares: u64,
    first_ns: u64,
    last_ns: u64,
    peak_shares_per_s: u64,
    peak_unshares_per_s: u64,
    by: Vec<Unsharer>,
}

#[derive(Serialize)]
struct Unsharer {
    comm: String,
    site: String,
    unshares: u64,
    operations: u64,
    total_ns: u64,
    max_ns: u64,
}

/// Converts a mapping.
#[must_use]
pub fn wire(m: &MappingView) -> Wire {
    Wire {
        mapping: m.mapping.to_string(),
        tables: m.tables,
        sharers: m.sharers,
        shares: m.shares,
        unshares: m.unshares,
        first_ns: m.first_ns,
        last_ns: m.last_ns,
        peak_shares_per_s: m.peak_shares_per_s,
        peak_unshares_per_s: m.peak_unshares_per_s,
        by: m.by.iter().map(unsharer).collect(),
    }
}

fn unsharer(u: &UnsharerView) -> Unsharer {
    Unsharer {
        comm: u.comm.clone(),
        site: u.site.to_string(),
        unshares: u.unshares,
        operations: u.operations,
        total_ns: u.total_ns,
        max_ns: u.max_ns,
    }
}
