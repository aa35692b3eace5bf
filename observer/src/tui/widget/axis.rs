//! Event time across a picture. Decides the column of each moment, and whether the axis is to scale.
//!
//! A window may last three microseconds in a lease of four seconds. The axis is to scale where that shows every important
//! moment in its own column. Otherwise it is linear only between neighbouring moments, with widths by the logarithm of the
//! time between them, and it says so.

use super::super::text::Tone;
use super::canvas::Row;
use super::glyphs::Glyphs;

/// Cells before the first moment and after the last one.
const MARGIN: usize = 3;
/// Smallest number of cells between two distinct moments.
const APART: usize = 2;
/// Cells between two moments on an axis that is not to scale, so that what happened between them is visible too.
const BETWEEN: usize = 4;

/// An axis of time.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Time and column, both rising; the first and the last are the edges.
    knots: Vec<(u64, usize)>,
    to_scale: bool,
}

impl Axis {
    /// Each of the `moments` gets its own column; `others` get one while there is room.
    #[must_use]
    pub fn new(moments: &[u64], others: &[u64], width: usize) -> Axis {
        let last_column = width.saturating_sub(1);
        let mut moments = moments.to_vec();
        moments.sort_unstable();
        moments.dedup();
        let (Some(&first), Some(&last)) = (moments.first(), moments.last()) else {
            return Axis { knots: vec![(0, 0), (1, last_column)], to_scale: true };
        };
        let pad = ((last - first) / 16).max(1);
        let edges = (first.saturating_sub(pad), last.saturating_add(pad));
        let linear = Axis { knots: vec![(edges.0, 0), (edges.1, last_column)], to_scale: true };
        let apart = |pair: &[u64]| linear.column(pair[1]) >= linear.column(pair[0]) + APART;
        if moments.windows(2).all(apart) {
            return linear;
        }
        match stretched(&moments, others, edges, last_column) {
            Some(knots) => Axis { knots, to_scale: false },
            None => linear,
        }
    }

    #[must_use]
    pub fn is_to_scale(&self) -> bool {
        self.to_scale
    }

    /// Times at the two edges.
    #[must_use]
    pub fn edges(&self) -> (u64, u64) {
        let time = |knot: Option<&(u64, usize)>| knot.map_or(0, |(ns, _)| *ns);
        (time(self.knots.first()), time(self.knots.last()))
    }

    /// Column of this moment; a moment beyond an edge is clamped to it.
    #[must_use]
    pub fn column(&self, ns: u64) -> usize {
        let after = self.knots.partition_point(|(at, _)| *at <= ns);
        let (Some(before), after) = (after.checked_sub(1), self.knots.get(after)) else { return 0 };
        let (from_ns, from) = self.knots[before];
        let Some(&(to_ns, to)) = after else { return from };
        let cells = u128::from(ns - from_ns) * (to - from) as u128 / u128::from(to_ns - from_ns);
        from + cells as usize
    }

    /// Labels of times above their ticks, the most important first; a label without room is left out. Returns one or two
    /// rows, then the row of ticks.
    #[must_use]
    pub fn head(&self, times: &[(u64, String)], width: usize, glyphs: &Glyphs) -> Vec<Row> {
        let mut rows = [Row::new(width), Row::new(width)];
        let mut ticks = Row::new(width);
        let mut upper = false;
        for (ns, text) in times {
            let column = self.column(*ns);
            ticks.set(column, Tone::Faint, glyphs.tick);
            let length = text.chars().count();
            // The label begins at its tick, or else ends at it.
            let places = [Some(column), (column + 1).checked_sub(length)];
            let free = |row: &Row, at: usize| {
                at + length <= width && row.is_free(at.saturating_sub(1), (at + length).min(width - 1))
            };
            let found = [1, 0].into_iter().find_map(|n: usize| {
                places.into_iter().flatten().find(|at| free(&rows[n], *at)).map(|at| (n, at))
            });
            if let Some((n, at)) = found {
                rows[n].put(at, Tone::Plain, text);
                upper |= n == 0;
            }
        }
        let [first, second] = rows;
        if upper { vec![first, second, ticks] } else { vec![second, ticks] }
    }
}

/// Knots with room between them; `None` if there are more moments than columns.
fn stretched(
    moments: &[u64],
    others: &[u64],
    edges: (u64, u64),
    last_column: usize,
) -> Option<Vec<(u64, usize)>> {
    let room = last_column.checked_sub(2 * MARGIN)?;
    let between = if moments.len() * BETWEEN <= room { BETWEEN } else { 1 };
    let mut all: Vec<(u64, bool)> = moments.iter().map(|ns| (*ns, true)).collect();
    let nearest = |ns: u64| moments.iter().map(|m| m.abs_diff(ns)).min();
    let inside = |ns: &&u64| edges.0 < **ns && **ns < edges.1 && !moments.contains(ns);
    let mut others: Vec<u64> = others.iter().filter(inside).copied().collect();
    others.sort_unstable_by_key(|ns| (nearest(*ns), *ns));
    others.dedup();
    // A third of the room is reserved for length.
    let spare = (room * 2 / 3).saturating_sub((moments.len() - 1) * between) / APART;
    all.extend(others.into_iter().take(spare).map(|ns| (ns, false)));
    all.sort_unstable();
    let least: Vec<usize> =
        all.windows(2).map(|pair| if pair[0].1 && pair[1].1 { between } else { APART }).collect();
    let rest = room.checked_sub(least.iter().sum())? as f64;
    let weights: Vec<f64> = all.windows(2).map(|pair| ((pair[1].0 - pair[0].0) as f64 + 1.0).ln()).collect();
    let total: f64 = weights.iter().sum();
    let mut knots = vec![(edges.0, 0)];
    let (mut column, mut weight) = (MARGIN, 0.0);
    for (i, (ns, _)) in all.iter().enumerate() {
        if let Some(before) = i.checked_sub(1) {
            column += least[before];
            weight += weights[before];
        }
        // Other moments may be as far out as the margin.
        if *ns > edges.0 {
            knots.push((*ns, column + (rest * weight / total.max(1.0)) as usize));
        }
    }
    knots.push((edges.1, last_column));
    Some(knots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_moment_has_its_own_column() {
        for width in [16, 40, 58, 160] {
            for moments in [vec![5], vec![1000, 1003, 4_000_000_000], vec![0, 1, 2, 3, u64::MAX]] {
                let axis = Axis::new(&moments, &[1001, 2_000_000_000], width);
                let columns: Vec<usize> = moments.iter().map(|ns| axis.column(*ns)).collect();
                assert!(columns.windows(2).all(|c| c[0] < c[1]), "{columns:?} of {width}");
                assert!(columns.iter().all(|c| *c < width), "{columns:?} of {width}");
            }
        }
    }

    #[test]
    fn evenly_spaced_moments_are_to_scale() {
        assert!(Axis::new(&[0, 100, 200], &[], 40).is_to_scale());
        assert!(!Axis::new(&[0, 1, 200], &[], 40).is_to_scale());
    }
}
