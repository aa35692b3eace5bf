//! The words for tasks that share and unshare.

use observer_engine::view::{MappingView, UnsharerView};

use crate::text::{number, plural, span};

/// A rate over whole seconds, with one decimal below 10.
#[must_use]
pub fn per_second(n: u64, seconds: u64) -> String {
    let seconds = seconds.max(1);
    let tenths = n.saturating_mul(10) / seconds;
    if tenths >= 100 { number(tenths / 10) } else { format!("{}.{}", tenths / 10, tenths % 10) }
}

/// Line for an unsharer: `unmapper in exit_mmap: 4 unshares; 2 operations of 3.000 ms on average, 4.000 ms at most`.
#[must_use]
pub fn unsharer(u: &UnsharerView) -> String {
    let comm = if u.comm.is_empty() { "?" } else { &u.comm };
    let took = match u.operations {
        0 => "no end of an operation seen".to_owned(),
        1 => format!("one operation of {}", span(u.total_ns)),
        n => {
            let average = span(u.total_ns / n);
            format!("{} operations of {average} on average, {} at most", number(n), span(u.max_ns))
        }
    };
    format!("{comm} in {}: {}; {took}", u.site, plural(u.unshares, "unshare"))
}

const SECOND_NS: u64 = 1_000_000_000;

/// Clock seconds from the first share or unshare to the last, counted as for the peak rate.
#[must_use]
pub fn seconds(m: &MappingView) -> u64 {
    (m.last_ns / SECOND_NS).saturating_sub(m.first_ns / SECOND_NS) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_of_rates() {
        let rates = [(0, 1), (1, 3), (99, 10), (1000, 1), (5, 0)].map(|(n, s)| per_second(n, s));
        assert_eq!(rates, ["0.0", "0.3", "9.9", "1,000", "5.0"]);
    }
}
