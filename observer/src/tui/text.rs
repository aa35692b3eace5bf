//! Text before styling: pieces with tones, cut and wrapped to a width. Decides where lines break.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Meaning of a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    /// Names of things: titles, column heads, labels.
    Label,
    /// Details for completeness, never needed first.
    Faint,
    /// An alarm, or loss.
    Alarm,
    /// Weakens what is shown: blind roles, inferred evidence, lower ranks.
    Caution,
    /// A good sign.
    Good,
    /// The bar of column heads.
    Bar,
    /// The selected row.
    Selected,
    /// Match of a search.
    Found,
}

/// One line of text pieces, each with its meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(pub Vec<(Tone, String)>);

impl Text {
    #[must_use]
    pub fn new(tone: Tone, text: impl Into<String>) -> Text {
        Text(vec![(tone, text.into())])
    }

    #[must_use]
    pub fn and(mut self, tone: Tone, text: impl Into<String>) -> Text {
        self.0.push((tone, text.into()));
        self
    }

    /// The text without tones.
    #[must_use]
    pub fn plain(&self) -> String {
        self.0.iter().flat_map(|(_, t)| t.chars()).filter(|c| is_shown(*c)).collect()
    }

    #[must_use]
    pub fn width(&self) -> usize {
        self.0.iter().map(|(_, t)| t.width()).sum()
    }

    /// Breaks the text between words at `width`; lines after the first are indented by `indent`.
    #[must_use]
    pub fn wrap(self, width: usize, indent: usize) -> Vec<Text> {
        let mut lines = vec![Text::default()];
        let mut used = 0;
        for (tone, text) in self.0 {
            for word in text.split_inclusive(' ') {
                let bare = word.trim_end_matches(' ').width();
                if used + bare > width && used > indent {
                    lines.push(Text::new(Tone::Plain, " ".repeat(indent)));
                    used = indent;
                }
                used += word.width();
                if let Some(Text(last)) = lines.last_mut() {
                    match last.last_mut() {
                        Some((t, former)) if *t == tone => former.push_str(word),
                        _ => last.push((tone, word.to_owned())),
                    }
                }
            }
        }
        lines
    }
}

/// Cuts the text to `width` cells, with `~` where something is missing, or fills it up with spaces.
#[must_use]
pub fn fit(text: &str, width: usize, right: bool) -> String {
    let has = text.width();
    if has <= width {
        let fill = " ".repeat(width - has);
        return if right { fill + text } else { text.to_owned() + &fill };
    }
    let Some(room) = width.checked_sub(1) else { return String::new() };
    let mut cut = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w > room {
            break;
        }
        used += w;
        cut.push(c);
    }
    cut + "~" + &" ".repeat(room - used)
}

/// Returns true if a character may be sent to a terminal: a task's name may contain any byte.
#[must_use]
pub fn is_shown(c: char) -> bool {
    !c.is_control() && c.width().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_text_is_marked() {
        assert_eq!(fit("hugetlb_fault", 8, false), "hugetlb~");
        assert_eq!(fit("ptl", 5, false), "ptl  ");
        assert_eq!(fit("12", 4, true), "  12");
        assert_eq!(fit("12", 0, true), "");
    }

    #[test]
    fn lines_break_between_words() {
        let text = Text::new(Tone::Label, "blind: ").and(Tone::Plain, "the body of unshare has no BTF");
        let lines: Vec<String> =
            text.wrap(20, 2).iter().map(|l| l.0.iter().map(|(_, t)| t.as_str()).collect()).collect();
        assert_eq!(lines, ["blind: the body of ", "  unshare has no BTF"]);
    }
}
