//! The order of the archive's versions. Other modules choose by it.

use std::cmp::Ordering;

/// Compares Debian package versions without an epoch: alternately a part without digits and a number; `~` sorts before
/// everything, even the end.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() || !b.is_empty() {
        let (text_a, rest_a) = split_while(a, |byte| !byte.is_ascii_digit());
        let (text_b, rest_b) = split_while(b, |byte| !byte.is_ascii_digit());
        let weights = |text: &str| {
            let mut weights: Vec<i32> = text.bytes().map(weight).collect();
            weights.push(0);
            weights
        };
        let order = weights(text_a).cmp(&weights(text_b));
        if order.is_ne() {
            return order;
        }
        let (number_a, rest_a) = split_while(rest_a, |byte| byte.is_ascii_digit());
        let (number_b, rest_b) = split_while(rest_b, |byte| byte.is_ascii_digit());
        let (number_a, number_b) = (number_a.trim_start_matches('0'), number_b.trim_start_matches('0'));
        let order = number_a.len().cmp(&number_b.len()).then(number_a.cmp(number_b));
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

fn weight(byte: u8) -> i32 {
    match byte {
        b'~' => -1,
        byte if byte.is_ascii_alphabetic() => i32::from(byte),
        byte => i32::from(byte) + 256,
    }
}

fn split_while(text: &str, keep: impl Fn(u8) -> bool) -> (&str, &str) {
    text.split_at(text.bytes().position(|byte| !keep(byte)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_in_the_archive() {
        let ordered =
            ["6.1~rc1-1", "6.1-1~bpo1", "6.1-1", "6.1-1+b1", "6.1-1.1", "6.1.9-1", "6.1.010-1", "6.1.11-1"];
        for (index, a) in ordered.iter().enumerate() {
            for (other, b) in ordered.iter().enumerate() {
                assert_eq!(compare(a, b), index.cmp(&other), "{a} against {b}");
            }
        }
    }
}
