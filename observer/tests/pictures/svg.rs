//! A screen as an SVG picture, readable on light and dark pages.
//!
//! Decides the look of a terminal: its colours and its cells. Each run of text with one style has its start and length, so that
//! any monospace font fits. Blocks and lines are shapes instead of text, because no font joins them alike.

mod shape;

use std::{collections::BTreeMap, fmt::Write as _};

use vt100::{Color, Screen};

/// Size of a cell, in units of the picture.
const CELL: (f64, f64) = (8.0, 17.0);
const MARGIN: f64 = 14.0;
/// Distance from the top of a cell to the baseline of its letters.
const BASELINE: f64 = 13.0;

const FONTS: &str = "ui-monospace,SFMono-Regular,Menlo,Consolas,DejaVu Sans Mono,Liberation Mono,monospace";
const BACKGROUND: &str = "#0d1117";
const FOREGROUND: &str = "#d0d7de";
/// The terminal's sixteen colours.
const PALETTE: [&str; 16] = [
    "#484f58", "#ff7b72", "#4ac26b", "#d29922", "#58a6ff", "#d2a8ff", "#56d4dd", "#b1bac4", "#6e7681",
    "#ffa198", "#6fdd8b", "#e3b341", "#79c0ff", "#e2c5ff", "#b3f0ff", "#f0f6fc",
];

/// Style of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Look {
    /// Index in the palette; `None`: the terminal's default.
    color: Option<u8>,
    on: Option<u8>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    reverse: bool,
}

/// Adjacent cells of one style, without two spaces in a row.
struct Run {
    look: Look,
    row: u16,
    column: u16,
    text: String,
}

/// Draws a screen; `title` and `description` are for people who cannot see it.
pub fn draw(screen: &Screen, title: &str, description: &str) -> String {
    let (rows, columns) = screen.size();
    let (width, height) = (x(columns.get()) + MARGIN, y(rows.get()) + MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-labelledby=\"title description\">\n<title id=\"title\">{}</title>\n<desc id=\"description\">{}</desc>\n",
        escaped(title),
        escaped(description)
    );
    let _ = writeln!(
        svg,
        "<rect x=\".5\" y=\".5\" width=\"{}\" height=\"{}\" rx=\"8\" fill=\"{BACKGROUND}\" stroke=\"#3d444d\"/>",
        width - 1.0,
        height - 1.0
    );
    // One path per colour for all shapes, in the order in which they overlap.
    let (mut grounds, mut shapes): (BTreeMap<_, String>, BTreeMap<_, String>) = Default::default();
    let mut texts = String::new();
    for row in 0..rows.get() {
        for run in ground_runs(screen, row) {
            let path = grounds.entry(run.0).or_default();
            shape::rect(path, x(run.1), y(row), f64::from(run.2) * CELL.0, CELL.1);
        }
        for run in text_runs(screen, row) {
            write_run(&mut texts, &run);
            if run.look.underline {
                let path = shapes.entry(run.look.ink()).or_default();
                let cells = run.text.chars().count() as f64;
                shape::rect(path, x(run.column), y(row) + BASELINE + 2.0, cells * CELL.0, 1.0);
            }
        }
        for column in 0..columns.get() {
            if let Some((look, c)) = drawn(screen, row, column) {
                let path = shapes.entry(look.ink()).or_default();
                shape::draw(c, path, x(column), y(row), CELL);
            }
        }
    }
    for (color, path) in grounds {
        let _ = writeln!(svg, "<path fill=\"{color}\" d=\"{path}\"/>");
    }
    for ((color, opacity), path) in shapes {
        let _ = writeln!(svg, "<path fill=\"{color}\"{opacity} d=\"{path}\"/>");
    }
    // Attributes instead of a style sheet, which not every reader of SVG understands.
    let _ = writeln!(svg, "<g font-family=\"{FONTS}\" font-size=\"13.3\" fill=\"{FOREGROUND}\">");
    svg + &texts + "</g>\n</svg>\n"
}

impl Look {
    fn of(cell: &vt100::Cell) -> Look {
        let color = |color| match color {
            Color::Idx(n) => Some(n),
            // This program uses at most sixteen colours.
            Color::Default | Color::Rgb(..) => None,
        };
        Look {
            color: color(cell.fgcolor()),
            on: color(cell.bgcolor()),
            bold: cell.bold(),
            dim: cell.dim(),
            italic: cell.italic(),
            underline: cell.underline(),
            reverse: cell.inverse(),
        }
    }

    /// Colour of the text, and of its ground if that differs from the picture's.
    fn colors(self) -> (&'static str, Option<&'static str>) {
        let of = |n: u8| PALETTE[usize::from(n) % PALETTE.len()];
        let (color, on) = (self.color.map_or(FOREGROUND, of), self.on.map(of));
        if self.reverse { (on.unwrap_or(BACKGROUND), Some(color)) } else { (color, on) }
    }

    /// Colour, and its attribute if it is dim.
    fn ink(self) -> (&'static str, &'static str) {
        (self.colors().0, if self.dim { " opacity=\".62\"" } else { "" })
    }
}

fn x(column: u16) -> f64 {
    MARGIN + f64::from(column) * CELL.0
}

fn y(row: u16) -> f64 {
    MARGIN + f64::from(row) * CELL.1
}

/// Style and text of a cell; an empty cell is a space.
fn cell(screen: &Screen, row: u16, column: u16) -> Option<(Look, &str)> {
    let cell = screen.cell(row, column)?;
    let text = if cell.has_contents() { cell.contents() } else { " " };
    (!cell.is_wide_continuation()).then(|| (Look::of(cell), text))
}

/// The shape of a cell that is drawn instead of written.
fn drawn(screen: &Screen, row: u16, column: u16) -> Option<(Look, char)> {
    let (look, text) = cell(screen, row, column)?;
    Some((look, text.chars().next().filter(|c| shape::is_drawn(*c))?))
}

/// Colour, first column and number of cells of each run whose ground differs from the picture's.
fn ground_runs(screen: &Screen, row: u16) -> Vec<(&'static str, u16, u16)> {
    let mut runs: Vec<(&str, u16, u16)> = Vec::new();
    for column in 0..screen.size().1.get() {
        let Some(color) = screen.cell(row, column).and_then(|c| Look::of(c).colors().1) else { continue };
        match runs.last_mut() {
            Some((last, from, cells)) if *last == color && *from + *cells == column => *cells += 1,
            _ => runs.push((color, column, 1)),
        }
    }
    runs
}

fn text_runs(screen: &Screen, row: u16) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut open = false;
    for column in 0..screen.size().1.get() {
        let Some((look, text)) = cell(screen, row, column) else { continue };
        if text.starts_with(shape::is_drawn) {
            open = false;
            continue;
        }
        match runs.last_mut().filter(|run| open && run.look == look) {
            // Two spaces end a run: not every reader of SVG keeps them.
            Some(run) if text == " " && run.text.ends_with(' ') => open = false,
            Some(run) => run.text.push_str(text),
            None => {
                open = text != " ";
                if open {
                    runs.push(Run { look, row, column, text: text.into() });
                }
            }
        }
    }
    for run in &mut runs {
        run.text.truncate(run.text.trim_end().len());
    }
    runs
}

fn write_run(svg: &mut String, run: &Run) {
    let (color, opacity) = run.look.ink();
    let cells = run.text.chars().count();
    let _ = write!(svg, "<text x=\"{}\" y=\"{}\"", x(run.column), y(run.row) + BASELINE);
    if cells > 1 {
        let _ = write!(svg, " textLength=\"{}\"", cells as f64 * CELL.0);
    }
    if run.look.bold {
        svg.push_str(" font-weight=\"700\"");
    }
    if run.look.italic {
        svg.push_str(" font-style=\"italic\"");
    }
    if color != FOREGROUND {
        let _ = write!(svg, " fill=\"{color}\"");
    }
    let _ = writeln!(svg, "{opacity}>{}</text>", escaped(&run.text));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(bytes: &str) -> String {
        let mut parser = vt100::Parser::default();
        parser.process(bytes.as_bytes());
        draw(parser.screen(), "a < b", "c & d")
    }

    #[test]
    fn runs_have_a_position_and_a_length() {
        let svg = drawn("ab cd   \x1b[1;31mx<y\x1b[m z");
        assert!(svg.contains("<text x=\"14\" y=\"27\" textLength=\"40\">ab cd</text>"), "{svg}");
        assert!(
            svg.contains(
                "<text x=\"78\" y=\"27\" textLength=\"24\" font-weight=\"700\" fill=\"#ff7b72\">x&lt;y</text>"
            ),
            "{svg}"
        );
        assert!(svg.contains("<text x=\"110\" y=\"27\">z</text>"), "{svg}");
        assert!(svg.contains("<title id=\"title\">a &lt; b</title>") && svg.contains("c &amp; d"));
    }

    #[test]
    fn reversed_text_is_dark_on_a_bright_ground() {
        let svg = drawn("\x1b[36;7mHEAD  \x1b[m");
        assert!(svg.contains("<path fill=\"#56d4dd\" d=\"M14 14h48v17h-48z\"/>"), "{svg}");
        assert!(svg.contains(&format!("fill=\"{BACKGROUND}\">HEAD</text>")), "{svg}");
    }

    #[test]
    fn dim_and_underlined_text_are_styled() {
        assert!(drawn("\x1b[2mx\x1b[m").contains(" opacity=\".62\">x</text>"));
        assert!(drawn("\x1b[4mxy\x1b[m").contains("d=\"M14 29h16v1h-16z\""));
    }

    #[test]
    fn bars_are_shapes_instead_of_text() {
        let svg = drawn("a█\x1b[32m▄─b");
        assert!(!svg.contains(['█', '▄', '─']), "{svg}");
        assert!(svg.contains(">a</text>") && svg.contains(">b</text>"), "{svg}");
        assert!(svg.contains("<path fill=\"#4ac26b\""), "{svg}");
    }
}
