//! Numbers as people read them. Decides digits and units only.

/// `1234567` as `1,234,567`.
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A number of things: `1 task`, `1,234 tasks`.
#[must_use]
pub fn some(n: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(n), if n == 1 { "" } else { "s" })
}

/// Events a second in at most five characters: `0`, `12.3k`, `4.56M`.
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

/// A span with three digits and its unit: `830 ns`, `1.25 ms`, `12.0 s`.
#[must_use]
pub fn span(ns: u64) -> String {
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
    fn counts() {
        assert_eq!(
            [0, 12, 123, 1234, 1_234_567].map(count),
            ["0", "12", "123", "1,234", "1,234,567"].map(String::from)
        );
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!(
            [0, 1, 2000].map(|n| some(n, "task")),
            ["0 tasks", "1 task", "2,000 tasks"].map(String::from)
        );
    }

    #[test]
    fn rates_stay_short() {
        let cases = [0.0, 0.5, 9.9, 10.0, 999.4, 999.9, 12_345.0, 999_499.0, 999_600.0, 4_560_000.0];
        let words = ["0", "0.5", "9.9", "10", "999", "1.00k", "12.3k", "999k", "1.00M", "4.56M"];
        assert_eq!(cases.map(rate), words.map(String::from));
    }

    #[test]
    fn spans() {
        let cases = [0, 999, 1000, 12_345, 999_499, 999_500, 1_250_000, 12_000_000_000];
        let words = ["0 ns", "999 ns", "1.00 us", "12.3 us", "999 us", "1.00 ms", "1.25 ms", "12.0 s"];
        assert_eq!(cases.map(span), words.map(String::from));
    }

    #[test]
    fn clocks() {
        assert_eq!(clock(83_450_000_000), "00:01:23.4");
    }
}
