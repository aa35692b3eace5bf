//! Ground floor: how values and lines of text are formatted, for reports and dashboard alike.
//!
//! Decides units, separators, and the columns of a row with a name. It knows no finding and no terminal.

/// A time span with a fitting unit.
#[must_use]
pub fn span(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{}.{:03} us", ns / 1_000, ns % 1_000),
        1_000_000..1_000_000_000 => format!("{}.{:03} ms", ns / 1_000_000, ns / 1_000 % 1_000),
        _ => format!("{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1_000),
    }
}

/// Event time as time since the start of the run.
#[must_use]
pub fn moment(ns: u64, start_ns: u64) -> String {
    let since = ns.saturating_sub(start_ns);
    format!("+{}.{:06} s", since / 1_000_000_000, since / 1_000 % 1_000_000)
}

/// A number with thousands separators.
#[must_use]
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

/// Formats a page size: `2 MiB`, `1 GiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    let [kib, mib, gib] = [10, 20, 30].map(|shift| bytes >> shift);
    match bytes.trailing_zeros() {
        30..64 => format!("{gib} GiB"),
        20..30 => format!("{mib} MiB"),
        _ => format!("{kib} KiB"),
    }
}

/// Number and noun: `1 finding`, `2 findings`.
#[must_use]
pub fn plural(n: u64, one: &str) -> String {
    format!("{} {one}{}", number(n), if n == 1 { "" } else { "s" })
}

/// Number of times: `once`, `2 times`.
#[must_use]
pub fn times(n: u64) -> String {
    if n == 1 { "once".into() } else { format!("{} times", number(n)) }
}

/// A row: its name in a column of its own, then its text.
#[must_use]
pub(crate) fn row(name: &str, text: &str) -> String {
    format!("{name:<9} {text}")
}

/// Columns of text beside the name of a row.
const TEXT: usize = 85;

/// Adds rows for a text of any length; the first row has the name.
pub(crate) fn paragraph(out: &mut Vec<String>, name: &str, text: &str) {
    let (mut name, mut line) = (name, String::new());
    for word in text.split(' ') {
        if !line.is_empty() && line.len() + 1 + word.len() > TEXT {
            out.push(row(name, &line));
            (name, line) = ("", "  ".to_owned());
        } else if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push(row(name, &line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_of_spans_and_numbers() {
        let spans = [0, 999, 1_000, 1_400_500, 61_000_000_000].map(span);
        assert_eq!(spans, ["0 ns", "999 ns", "1.000 us", "1.400 ms", "61.000 s"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(moment(3_000_001_000, 1_000_000_000), "+2.000001 s");
        assert_eq!([plural(1, "edge"), plural(2_000, "edge")], ["1 edge", "2,000 edges"]);
    }
}
