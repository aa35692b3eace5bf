//! Colours, and the choice of glyphs. Decides how something looks by its meaning; never what is shown.
//!
//! Uses only the terminal's own sixteen colours and attributes, on the terminal's own background, so that light and dark both
//! work. Colour alone never carries information.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::text::{Text, Tone};
use super::widget::Glyphs;

/// Look of tones and glyphs on this terminal.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    color: bool,
    blocks: bool,
}

impl Theme {
    /// Colours, and glyphs beyond ASCII.
    pub const FULL: Theme = Theme { color: true, blocks: true };
    /// Attributes and ASCII only.
    pub const PLAIN: Theme = Theme { color: false, blocks: false };

    /// Theme that `NO_COLOR`, `TERM` and the locale ask for.
    #[must_use]
    pub fn from_environment() -> Theme {
        let var = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        let locale = var("LC_ALL").or_else(|| var("LC_CTYPE")).or_else(|| var("LANG"));
        Theme::of(var("NO_COLOR").is_some(), &var("TERM").unwrap_or_default(), locale.as_deref())
    }

    fn of(no_color: bool, term: &str, locale: Option<&str>) -> Theme {
        // No locale at all means a guest's bare shell on a serial line, whose other end is usually a UTF-8 terminal.
        let utf8 = locale.is_none_or(|l| {
            let l = l.to_ascii_lowercase();
            l.contains("utf-8") || l.contains("utf8")
        });
        // The Linux console's fonts lack the eighths of a block, a vt100 lacks all blocks.
        let old = term == "linux" || term.starts_with("vt");
        Theme { color: !no_color && !term.starts_with("vt"), blocks: utf8 && !old }
    }

    #[must_use]
    pub fn style(&self, tone: Tone) -> Style {
        let plain = Style::new();
        let colored = |color| if self.color { plain.fg(color) } else { plain };
        match tone {
            Tone::Plain => plain,
            Tone::Label => plain.add_modifier(Modifier::BOLD),
            Tone::Faint => plain.add_modifier(Modifier::DIM),
            Tone::Alarm => colored(Color::Red).add_modifier(Modifier::BOLD),
            // Yellow, the usual choice, is not readable on a light background.
            Tone::Caution => colored(Color::Magenta).add_modifier(if self.color {
                Modifier::empty()
            } else {
                Modifier::BOLD
            }),
            Tone::Found => plain.add_modifier(Modifier::UNDERLINED | Modifier::BOLD),
            Tone::Good => colored(Color::Green),
            Tone::Bar => colored(Color::Cyan).add_modifier(Modifier::REVERSED),
            Tone::Selected => plain.add_modifier(Modifier::REVERSED),
        }
    }

    /// A line as the terminal shows it.
    #[must_use]
    pub fn line(&self, text: &Text) -> Line<'static> {
        Line::from_iter(text.0.iter().map(|(tone, t)| Span::styled(t.clone(), self.style(*tone))))
    }

    /// Characters that this terminal can show.
    #[must_use]
    pub fn glyphs(&self) -> &'static Glyphs {
        if self.blocks { &Glyphs::BLOCKS } else { &Glyphs::ASCII }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_turns_colors_off() {
        for tone in [Tone::Alarm, Tone::Caution, Tone::Good, Tone::Bar] {
            assert_eq!(Theme::PLAIN.style(tone).fg, None);
            assert_ne!(Theme::FULL.style(tone).fg, None);
        }
    }

    #[test]
    fn glyphs_depend_on_the_terminal() {
        let full = |term, locale| Theme::of(false, term, locale).blocks;
        assert!(full("xterm-256color", Some("en_US.UTF-8")));
        assert!(full("xterm", None));
        assert!(!full("xterm", Some("C")));
        assert!(!full("linux", Some("C.UTF-8")));
    }
}
