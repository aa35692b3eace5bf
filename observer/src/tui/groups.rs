//! Events in a few groups, for totals, rates and sparklines.
//!
//! Decides which kinds belong together. Lost events are a group too, because loss must be visible when it happens.

use super::words::rate;
use crate::snapshot::Snapshot;

/// Groups by the names of their kinds; all other kinds are lock events.
const GROUPS: [(&str, &[&str]); 6] = [
    ("lookups", &["lookup", "lookup_other_size"]),
    ("links", &["share", "table_alloc"]),
    ("unlinks", &["unshare", "unlinked", "table_free"]),
    ("operations", &["op_begin", "op_end", "callback_begin"]),
    ("folio locks", &["folio_ask", "folio_held", "folio_release", "folio_wait"]),
    ("tasks", &["task", "task_exit", "fork", "stack"]),
];

/// Name of the group of lost events.
pub const LOST: &str = "lost";

/// Group names, always the same in the same order.
pub const NAMES: [&str; GROUPS.len() + 2] = {
    let mut names = [""; GROUPS.len() + 2];
    let mut i = 0;
    while i < GROUPS.len() {
        names[i] = GROUPS[i].0;
        i += 1;
    }
    names[GROUPS.len()] = "locks";
    names[GROUPS.len() + 1] = LOST;
    names
};

/// Events up to now, per group.
#[must_use]
pub fn totals(s: &Snapshot) -> Vec<u64> {
    let of = |names: &[&str]| -> u64 {
        s.stats.by_kind.iter().filter(|(n, _)| names.contains(n)).map(|(_, c)| c).sum()
    };
    let mut totals: Vec<u64> = GROUPS.iter().map(|(_, kinds)| of(kinds)).collect();
    let grouped: u64 = totals.iter().sum();
    totals.push(s.stats.events.saturating_sub(grouped));
    totals.push(s.lost());
    totals
}

/// Events per second of event time, from the start of the run up to now.
#[must_use]
pub fn average(total: u64, s: &Snapshot) -> String {
    match s.elapsed_ns() {
        0 => "-".into(),
        ns => rate(total as f64 * 1e9 / ns as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_the_wire_is_in_one_group() {
        let all: Vec<&str> = GROUPS.iter().flat_map(|(_, kinds)| kinds.iter().copied()).collect();
        for name in &all {
            assert!(observer_ebpf::kinds::TABLE.iter().any(|k| k.name == *name), "{name}");
            assert_eq!(all.iter().filter(|n| *n == name).count(), 1, "{name}");
        }
    }
}
