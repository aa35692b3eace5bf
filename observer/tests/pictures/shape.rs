//! Blocks and lines of a terminal as parts of an SVG path. Decides how thick a line is; other characters are written as text.

use std::fmt::Write as _;

/// Widths of thin and thick lines.
const THIN: f64 = 1.2;
const THICK: f64 = 2.6;
/// Distance of each line of a double line from the middle.
const APART: f64 = 2.0;

/// Style of a line from the middle of a cell to one side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arm {
    No,
    Thin,
    Thick,
    Double,
}

use Arm::{Double, No, Thick, Thin};

/// Parts of a character.
enum Shape {
    /// Eighths from the bottom, or from the left.
    Below(u32),
    Left(u32),
    /// The right eighth.
    Right,
    /// Dots of a shade.
    Shade,
    /// Lines to the left, right, top and bottom.
    Lines([Arm; 4]),
    /// A thin line of dashes from top to bottom.
    Dashes,
}

fn shape(c: char) -> Option<Shape> {
    Some(match c {
        '▁'..='█' => Shape::Below(c as u32 - '▁' as u32 + 1),
        '▉'..='▏' => Shape::Left('▏' as u32 - c as u32 + 1),
        '▕' => Shape::Right,
        '▒' => Shape::Shade,
        '─' => Shape::Lines([Thin, Thin, No, No]),
        '━' => Shape::Lines([Thick, Thick, No, No]),
        '═' => Shape::Lines([Double, Double, No, No]),
        '│' => Shape::Lines([No, No, Thin, Thin]),
        '┃' => Shape::Lines([No, No, Thick, Thick]),
        '├' => Shape::Lines([No, Thin, Thin, Thin]),
        '┤' => Shape::Lines([Thin, No, Thin, Thin]),
        '┬' => Shape::Lines([Thin, Thin, No, Thin]),
        '┴' => Shape::Lines([Thin, Thin, Thin, No]),
        '┼' => Shape::Lines([Thin, Thin, Thin, Thin]),
        '┌' => Shape::Lines([No, Thin, No, Thin]),
        '┐' => Shape::Lines([Thin, No, No, Thin]),
        '└' => Shape::Lines([No, Thin, Thin, No]),
        '┘' => Shape::Lines([Thin, No, Thin, No]),
        '┊' => Shape::Dashes,
        _ => return None,
    })
}

pub fn is_drawn(c: char) -> bool {
    shape(c).is_some()
}

/// Adds a character's shape, in a cell whose corner is at `x`, `y`; adds nothing for a character without one.
pub fn draw(c: char, path: &mut String, x: f64, y: f64, (width, height): (f64, f64)) {
    let eighths = |n: u32, of: f64| f64::from(n) * of / 8.0;
    match shape(c) {
        None => {}
        Some(Shape::Below(n)) => {
            let tall = eighths(n, height);
            rect(path, x, y + height - tall, width, tall);
        }
        Some(Shape::Left(n)) => rect(path, x, y, eighths(n, width), height),
        Some(Shape::Right) => rect(path, x + width - eighths(1, width), y, eighths(1, width), height),
        Some(Shape::Shade) => {
            for line in 0..4 {
                let from = f64::from(line % 2) * width / 4.0;
                for dot in 0..2 {
                    let (dx, dy) = (width / 4.0, height / 4.0);
                    rect(path, x + from + f64::from(dot) * 2.0 * dx, y + f64::from(line) * dy, dx, dy);
                }
            }
        }
        Some(Shape::Dashes) => {
            for dash in 0..3 {
                rect(
                    path,
                    x + (width - THIN) / 2.0,
                    y + 1.0 + f64::from(dash) * height / 3.0,
                    THIN,
                    height / 6.0,
                );
            }
        }
        Some(Shape::Lines(arms)) => {
            for (side, arm) in arms.into_iter().enumerate() {
                line(path, (x, y), (width, height), side, arm);
            }
        }
    }
}

/// One arm, from the edge to a little beyond the middle, so that arms meet.
fn line(path: &mut String, (x, y): (f64, f64), (width, height): (f64, f64), side: usize, arm: Arm) {
    let (thick, places): (f64, &[f64]) = match arm {
        No => return,
        Thin => (THIN, &[0.0]),
        Thick => (THICK, &[0.0]),
        Double => (THIN, &[-APART, APART]),
    };
    for place in places {
        let (across, down) = (y + height / 2.0 + place - thick / 2.0, x + width / 2.0 + place - thick / 2.0);
        let (half_width, half_height) = ((width + thick) / 2.0, (height + thick) / 2.0);
        match side {
            0 => rect(path, x, across, half_width, thick),
            1 => rect(path, x + width - half_width, across, half_width, thick),
            2 => rect(path, down, y, thick, half_height),
            _ => rect(path, down, y + height - half_height, thick, half_height),
        }
    }
}

/// Adds a rectangle.
pub fn rect(path: &mut String, x: f64, y: f64, width: f64, height: f64) {
    // Two decimal places are enough.
    let n = |n: f64| (n * 100.0).round() / 100.0;
    let (x, y, width, height) = (n(x), n(y), n(width), n(height));
    let _ = write!(path, "M{x} {y}h{width}v{height}h-{width}z");
}

#[test]
fn blocks_are_eighths() {
    let of = |c| {
        let mut path = String::new();
        draw(c, &mut path, 0.0, 0.0, (8.0, 16.0));
        path
    };
    assert_eq!(of('▄'), "M0 8h8v8h-8z");
    assert_eq!(of('█'), "M0 0h8v16h-8z");
    assert_eq!(of('▏'), "M0 0h1v16h-1z");
    assert_eq!(of('▌'), "M0 0h4v16h-4z");
    assert_eq!(of('─'), "M0 7.4h4.6v1.2h-4.6zM3.4 7.4h4.6v1.2h-4.6z");
    assert_eq!(of('a'), "");
}
