//! Numbers that must fit a column. `crate::text` formats those that have room, as in the reports.

/// Events per second in at most five characters: `0`, `12.3k`, `4.56M`.
#[must_use]
pub fn rate(per_s: f64) -> String {
    if per_s < 9.95 && per_s > 0.0 {
        return format!("{per_s:.1}");
    }
    // The limits are where rounding would need one more digit.
    for (limit, unit, by) in [(999.5, "", 1.0), (999_500.0, "k", 1e3), (999_500_000.0, "M", 1e6)] {
        if per_s < limit {
            let n = per_s / by;
            let decimals = match n {
                _ if by == 1.0 || n >= 99.95 => 0,
                _ if n >= 9.995 => 1,
                _ => 2,
            };
            return format!("{n:.decimals$}{unit}");
        }
    }
    format!("{:.3}G", per_s / 1e9)
}

/// A time span with three digits and its unit: `830 ns`, `1.25 ms`, `12.0 s`.
#[must_use]
pub fn short_span(ns: u64) -> String {
    for (limit_ns, unit, by) in [(999_500, "us", 1e3), (999_500_000, "ms", 1e6), (u64::MAX, "s", 1e9)] {
        if ns < 1000 {
            return format!("{ns} ns");
        }
        if ns < limit_ns {
            let n = ns as f64 / by;
            let decimals = match n {
                n if n >= 99.95 => 0,
                n if n >= 9.995 => 1,
                _ => 2,
            };
            return format!("{n:.decimals$} {unit}");
        }
    }
    "for ever".into()
}

/// Time since the start: `00:01:23.4`.
#[must_use]
pub fn clock(ns: u64) -> String {
    let (s, tenth) = (ns / 1_000_000_000, ns / 100_000_000 % 10);
    format!("{:02}:{:02}:{:02}.{tenth}", s / 3600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short() {
        let cases = [0.0, 0.5, 9.9, 10.0, 999.4, 999.9, 12_345.0, 999_499.0, 999_600.0, 4_560_000.0];
        let words = ["0", "0.5", "9.9", "10", "999", "1.00k", "12.3k", "999k", "1.00M", "4.56M"];
        assert_eq!(cases.map(rate), words.map(String::from));
    }

    #[test]
    fn format_of_spans() {
        let cases = [0, 999, 1000, 12_345, 999_499, 999_500, 1_250_000, 12_000_000_000];
        let words = ["0 ns", "999 ns", "1.00 us", "12.3 us", "999 us", "1.00 ms", "1.25 ms", "12.0 s"];
        assert_eq!(cases.map(short_span), words.map(String::from));
    }

    #[test]
    fn format_of_clocks() {
        assert_eq!(clock(83_450_000_000), "00:01:23.4");
    }
}
