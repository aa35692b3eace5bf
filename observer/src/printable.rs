//! Text that a terminal shows as it is.
//!
//! Decides what becomes of characters in a file's text that would steer a terminal, or forge lines or their order: each is
//! replaced by U+FFFD. It is done once, where the text is read, for all sinks.

use serde_json::Value;

/// Maximum length of a text in characters. Names of functions, files and kernels are shorter.
const CHARS_MAX: usize = 4096;

/// Replaces what is not printable in all texts of a JSON value, names of keys included.
pub fn value(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(self::text(text)),
        Value::Array(all) => all.into_iter().map(self::value).collect(),
        Value::Object(all) => all.into_iter().map(|(key, value)| (text(key), self::value(value))).collect(),
        other => other,
    }
}

fn text(text: String) -> String {
    if text.len() <= CHARS_MAX && text.chars().all(is_printable) {
        return text;
    }
    text.chars()
        .take(CHARS_MAX)
        .map(|c| if is_printable(c) { c } else { char::REPLACEMENT_CHARACTER })
        .collect()
}

/// Returns false for control characters, line separators, and characters without width that change the order or the shape
/// of others.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        && !matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_steer_a_terminal_are_replaced() {
        let given = serde_json::json!({
            "release": "6.1\u{1b}[2J\nFINDINGS none", "key\r": ["a\u{9b}b", {"n": 7, "plain": "ä b\u{202e}c"}],
        });
        let expected = serde_json::json!({
            "release": "6.1\u{fffd}[2J\u{fffd}FINDINGS none",
            "key\u{fffd}": ["a\u{fffd}b", {"n": 7, "plain": "ä b\u{fffd}c"}],
        });
        assert_eq!(value(given), expected);
        assert_eq!(text("x".repeat(CHARS_MAX + 1)).len(), CHARS_MAX);
    }
}
