//! Lock order as a matrix: rows are held, columns are requested.
//!
//! Decides the order of the classes, outer before inner as documented, so that requests in order are above the diagonal; and
//! what a cell says about its edges. The edges of a cell distinguish modes, the matrix does not.

use observer_engine::{
    event::Class,
    finding::{AcquireKind, Finding},
    lock_class::LockClass,
    setup::DocumentedOrder,
    view::{EdgeView, Verdict},
};

use super::super::text::{Text, Tone, fit};
use super::canvas::{clip, legend, words};
use super::glyphs::Glyphs;
use crate::text::{plural, times};

/// Order, outermost to innermost, of classes that no document orders.
const OTHERWISE: [Class; 7] = [
    Class::Inode,
    Class::MmapLock,
    Class::FaultMutex,
    Class::VmaLock,
    Class::IMmap,
    Class::Folio,
    Class::Ptl,
];

/// Cells of a count and of its marks.
const COUNT: usize = 4;
const MARKS: usize = 2;

/// Worst cycle that a pair of classes closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Closes {
    Nothing,
    /// A cycle that is not an alarm.
    Cycle,
    Alarm,
}

/// The edges of one pair of classes.
#[derive(Clone, Debug)]
struct Cell {
    /// Indices of the edges.
    edges: Vec<usize>,
    /// Number of requests that can block.
    count: u64,
    /// Number of requests that only tried.
    tried: u64,
    closes: Closes,
    /// Verdict of the documents on the requests that can block: against them, or an exception.
    order: Option<Verdict>,
}

impl Cell {
    const NONE: Cell = Cell { edges: Vec::new(), count: 0, tried: 0, closes: Closes::Nothing, order: None };

    fn add(&mut self, i: usize, edge: &EdgeView) {
        self.edges.push(i);
        if edge.acquire == AcquireKind::Try {
            self.tried = self.tried.saturating_add(edge.count);
            return;
        }
        self.count = self.count.saturating_add(edge.count);
        let worst = edge.documented.iter().map(|d| d.verdict).max().filter(|v| *v != Verdict::Agrees);
        self.order = self.order.max(worst);
    }

    /// True if all requests only tried, so that no request can block.
    fn is_tried_only(&self) -> bool {
        self.count == 0 && self.tried > 0
    }

    /// Count to show: requests that can block, else tries.
    fn shown(&self) -> u64 {
        if self.is_tried_only() { self.tried } else { self.count }
    }

    fn marks(&self) -> String {
        let mut marks = String::new();
        match self.closes {
            Closes::Nothing => {}
            Closes::Cycle => marks.push('c'),
            Closes::Alarm => marks.push('C'),
        }
        match self.order {
            Some(Verdict::Against) => marks.push('!'),
            Some(Verdict::Exception) => marks.push('x'),
            _ if self.is_tried_only() => marks.push('t'),
            _ => {}
        }
        marks
    }

    fn tone(&self) -> Tone {
        match (self.closes, self.order) {
            (Closes::Alarm, _) => Tone::Alarm,
            (Closes::Cycle, _) | (_, Some(Verdict::Against)) => Tone::Caution,
            _ if self.edges.is_empty() || self.is_tried_only() => Tone::Faint,
            _ => Tone::Plain,
        }
    }
}

/// The matrix of a run.
#[derive(Clone, Debug)]
pub struct Matrix {
    classes: Vec<LockClass>,
    /// Cells by row, then column.
    cells: Vec<Cell>,
}

/// Builds the matrix of the classes of these edges. `orders`: documented for this kernel.
#[must_use]
pub fn of(edges: &[EdgeView], findings: &[Finding], orders: &[DocumentedOrder]) -> Matrix {
    let mut classes: Vec<LockClass> = edges.iter().flat_map(|e| [e.from, e.to]).collect();
    let order = outer_to_inner(orders);
    let place = |class: &LockClass| (order.iter().position(|c| *c == class.wire()), *class);
    classes.sort_by_key(place);
    classes.dedup();
    let mut matrix = Matrix { cells: vec![Cell::NONE; classes.len() * classes.len()], classes };
    for (i, edge) in edges.iter().enumerate() {
        if let Some(cell) = matrix.of_pair(edge.from, edge.to) {
            cell.add(i, edge);
        }
    }
    for finding in findings {
        let closes = if finding.rank.is_alarm() { Closes::Alarm } else { Closes::Cycle };
        for (from, to) in finding.evidence.subject().closing() {
            if let Some(cell) = matrix.of_pair(from, to) {
                cell.closes = cell.closes.max(closes);
            }
        }
    }
    matrix
}

/// Orders all classes so that a class comes after those documented as outer. Where documents contradict each other, this
/// cannot always hold.
fn outer_to_inner(orders: &[DocumentedOrder]) -> Vec<Class> {
    let mut left = OTHERWISE.to_vec();
    let mut order = Vec::new();
    while !left.is_empty() {
        let outer = |inner: &Class| {
            orders.iter().any(|o| {
                let place = o.outer_to_inner.iter().position(|c| c == inner);
                place.is_some_and(|at| o.outer_to_inner[..at].iter().any(|c| left.contains(c) && c != inner))
            })
        };
        let next = left.iter().position(|class| !outer(class)).unwrap_or(0);
        order.push(left.remove(next));
    }
    order
}

impl Matrix {
    /// Number of rows, which is also the number of columns.
    #[must_use]
    pub fn size(&self) -> usize {
        self.classes.len()
    }

    /// Class that is held in a row and requested in a column.
    #[must_use]
    pub fn class(&self, at: usize) -> Option<LockClass> {
        self.classes.get(at).copied()
    }

    /// Indices of the edges of a cell.
    #[must_use]
    pub fn cell(&self, row: usize, column: usize) -> Vec<usize> {
        self.at(row, column).map_or_else(Vec::new, |cell| cell.edges.clone())
    }

    /// Cell of an edge.
    #[must_use]
    pub fn of_edge(&self, edge: usize) -> Option<(usize, usize)> {
        let place = self.cells.iter().position(|c| c.edges.contains(&edge))?;
        Some((place / self.size(), place % self.size()))
    }

    fn at(&self, row: usize, column: usize) -> Option<&Cell> {
        let n = self.size();
        (row < n && column < n).then(|| &self.cells[row * n + column])
    }

    fn of_pair(&mut self, from: LockClass, to: LockClass) -> Option<&mut Cell> {
        let place = |class| self.classes.iter().position(|c| *c == class);
        let at = place(from)? * self.size() + place(to)?;
        self.cells.get_mut(at)
    }

    /// Draws the matrix, and below it the selected cell and the marks.
    #[must_use]
    pub fn lines(&self, selected: Option<(usize, usize)>, width: usize, glyphs: &Glyphs) -> Vec<Text> {
        let mut out = Vec::new();
        if self.classes.is_empty() {
            words(&mut out, Text::new(Tone::Faint, "no lock was requested while another was held"), width);
            return out;
        }
        let layout = Layout::of(&self.classes, selected.map_or(0, |(_, column)| column), width);
        out.push(layout.head(&self.classes));
        for row in 0..self.size() {
            out.push(self.row(row, selected, &layout, glyphs));
        }
        out.push(self.totals(&layout));
        let hidden = self.size() - layout.columns.len();
        if hidden > 0 {
            let text = format!("{} not shown: the screen is too narrow", plural(hidden as u64, "column"));
            words(&mut out, Text::new(Tone::Caution, text), width);
        }
        if let Some((row, column)) = selected {
            self.describe_cell(&mut out, row, column, width);
        }
        self.legend(&mut out, &layout, width, glyphs);
        out.into_iter().map(|line| clip(line, width)).collect()
    }

    fn row(&self, row: usize, selected: Option<(usize, usize)>, layout: &Layout, glyphs: &Glyphs) -> Text {
        let here = selected.is_some_and(|(selected, _)| selected == row);
        let tone = if here { Tone::Label } else { Tone::Plain };
        let mut text = Text::new(tone, layout.name(&self.classes, row));
        for column in layout.columns.clone() {
            let Some(cell) = self.at(row, column) else { continue };
            let none = if row == column { '\\' } else { glyphs.none };
            let tone = if selected == Some((row, column)) { Tone::Selected } else { cell.tone() };
            text = text.and(Tone::Plain, " ".repeat(layout.gap)).and(tone, layout.cell(cell, none));
        }
        let sum: u64 = self.cells[row * self.size()..][..self.size()].iter().map(|c| c.count).sum();
        text.and(Tone::Faint, layout.total(&short(sum)))
    }

    fn totals(&self, layout: &Layout) -> Text {
        let n = self.size();
        let sum = |column: usize| (0..n).map(|row| self.cells[row * n + column].count).sum::<u64>();
        let mut text = Text::new(Tone::Faint, fit("total", layout.names, false));
        for column in layout.columns.clone() {
            let sum = Cell { count: sum(column), edges: vec![0], ..Cell::NONE };
            text = text.and(Tone::Faint, " ".repeat(layout.gap) + &layout.cell(&sum, ' '));
        }
        text.and(Tone::Faint, layout.total(&short(self.cells.iter().map(|c| c.count).sum())))
    }

    /// Describes a cell in words.
    fn describe_cell(&self, out: &mut Vec<Text>, row: usize, column: usize, width: usize) {
        let (Some(held), Some(asked), Some(cell)) =
            (self.class(row), self.class(column), self.at(row, column))
        else {
            return;
        };
        let mut text = Text::new(Tone::Label, asked.name())
            .and(Tone::Plain, " requested with ")
            .and(Tone::Label, held.name())
            .and(Tone::Plain, " held: ");
        if cell.edges.is_empty() {
            return words(out, text.and(Tone::Faint, "never seen"), width);
        }
        let edges = plural(cell.edges.len() as u64, "edge");
        let often = match (cell.count, cell.tried) {
            (0, tried) => format!("only ever tried, which cannot wait: {}", times(tried)),
            (asked, 0) => times(asked),
            (asked, tried) => format!("{} in a way that can wait, tried {}", times(asked), times(tried)),
        };
        text = text.and(Tone::Plain, format!("{often}, {edges}"));
        match cell.closes {
            Closes::Nothing => {}
            Closes::Cycle => text = text.and(Tone::Caution, "; closes a cycle, no alarm"),
            Closes::Alarm => text = text.and(Tone::Alarm, "; closes a cycle"),
        }
        match cell.order {
            Some(Verdict::Against) => text = text.and(Tone::Caution, "; against a documented order"),
            Some(Verdict::Exception) => {
                text = text.and(Tone::Plain, "; against a documented order, and known why");
            }
            _ => {}
        }
        words(out, text, width);
    }

    /// Legend of only the marks that are shown.
    fn legend(&self, out: &mut Vec<Text>, layout: &Layout, width: usize, glyphs: &Glyphs) {
        let mut parts = vec![
            (Tone::Faint, "row held, column requested".to_owned()),
            (Tone::Faint, "outer locks first".to_owned()),
        ];
        let mut add = |is: &dyn Fn(&Cell) -> bool, tone, text: &str| {
            if self.cells.iter().any(is) {
                parts.push((tone, text.to_owned()));
            }
        };
        add(&|c| c.closes == Closes::Alarm, Tone::Alarm, "C closes a cycle");
        add(&|c| c.closes == Closes::Cycle, Tone::Caution, "c closes a cycle, no alarm");
        add(&|c| c.order == Some(Verdict::Against), Tone::Caution, "! against a documented order");
        add(&|c| c.order == Some(Verdict::Exception), Tone::Plain, "x known exception");
        add(&|c| c.marks().ends_with('t'), Tone::Faint, "t only tried: cannot wait, and is in no total");
        if layout.width < COUNT {
            add(&|c| c.shown() > 99, Tone::Faint, "+ many");
        }
        add(&|c| c.edges.is_empty(), Tone::Faint, &format!("{} never", glyphs.none));
        legend(out, &parts, width);
    }
}

/// Layout of a matrix for a width.
struct Layout {
    names: usize,
    /// Cells before each column.
    gap: usize,
    /// Cells of a column.
    width: usize,
    heads: Heads,
    columns: std::ops::Range<usize>,
    totals: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Heads {
    Names,
    Short,
    /// Letters a, b, c, repeated at the rows.
    Letters,
}

impl Layout {
    /// Fits the matrix to a width. `shown`: a column that must be among those shown.
    fn of(classes: &[LockClass], shown: usize, width: usize) -> Layout {
        let n = classes.len();
        let longest = classes.iter().map(|c| c.name().len()).max().unwrap_or(0);
        let full = COUNT + MARKS;
        // Each kind of head needs room for the names of rows, the gap and the column.
        let ways = [
            (Heads::Names, longest, 1, longest + MARKS),
            (Heads::Short, longest, 1, full),
            (Heads::Short, longest, 0, full),
            (Heads::Letters, (longest + 2).min(width / 3), 1, COUNT),
            (Heads::Letters, (longest + 2).min(width / 3), 1, 2),
        ];
        for (heads, names, gap, column) in ways {
            let used = names + n * (gap + column);
            if used <= width {
                let totals = used + gap + COUNT < width;
                return Layout { names, gap, width: column, heads, columns: 0..n, totals };
            }
        }
        let names = (longest + 2).min(width / 3);
        let fits = (width.saturating_sub(names) / 3).clamp(1, n);
        let first = shown.min(n - 1).saturating_sub(fits - 1);
        Layout { names, gap: 1, width: 2, heads: Heads::Letters, columns: first..first + fits, totals: false }
    }

    fn head(&self, classes: &[LockClass]) -> Text {
        let mut text = Text::new(Tone::Label, " ".repeat(self.names));
        for column in self.columns.clone() {
            let name = match self.heads {
                Heads::Names => classes[column].name(),
                Heads::Short => short_name(classes[column]),
                Heads::Letters => &letter(column).to_string(),
            };
            text = text.and(Tone::Label, " ".repeat(self.gap) + &self.head_of(name));
        }
        text.and(Tone::Faint, self.total("all"))
    }

    fn name(&self, classes: &[LockClass], row: usize) -> String {
        let name = classes[row].name();
        match self.heads {
            Heads::Letters => fit(&format!("{} {name}", letter(row)), self.names, false),
            _ => fit(name, self.names, false),
        }
    }

    /// Text of a cell: numbers end in the same column, marks follow them.
    fn cell(&self, cell: &Cell, none: char) -> String {
        let marks = cell.marks();
        let count = if cell.edges.is_empty() { none.to_string() } else { short(cell.shown()) };
        if self.width >= COUNT + MARKS {
            return fit(&count, self.width - MARKS, true) + &fit(&marks, MARKS, false);
        }
        // Without room for both, marks take precedence: a violation matters more than the count.
        let text = if marks.is_empty() { count } else { marks };
        if text.len() > self.width { fit("+", self.width, true) } else { fit(&text, self.width, true) }
    }

    /// Head above the numbers; a longer name also takes the room of the marks.
    fn head_of(&self, name: &str) -> String {
        let room = self.width.saturating_sub(MARKS);
        if self.width < COUNT + MARKS || name.len() > room {
            return fit(name, self.width, true);
        }
        fit(name, room, true) + &" ".repeat(MARKS)
    }

    fn total(&self, text: &str) -> String {
        if self.totals { " ".repeat(self.gap + 1) + &fit(text, COUNT, true) } else { String::new() }
    }
}

fn letter(at: usize) -> char {
    char::from(b'a' + (at % 26) as u8)
}

/// Six letters that distinguish a class from the others: `mmap`, `fault`, `file`.
fn short_name(class: LockClass) -> &'static str {
    let name = class.name();
    if let Some((_, kind)) = name.split_once('(') {
        return kind.trim_end_matches(')');
    }
    name.rsplit_once('_').map_or(name, |(what, _)| what)
}

/// Number in at most four characters: `999`, `1.2k`, `12k`, `3.4M`.
fn short(n: u64) -> String {
    let mut by = 1;
    for unit in ["", "k", "M", "G", "T", "P"] {
        if n / by < 1000 {
            let (whole, tenth) = (n / by, n % by * 10 / by);
            return if by > 1 && whole < 10 {
                format!("{whole}.{tenth}{unit}")
            } else {
                format!("{whole}{unit}")
            };
        }
        by *= 1000;
    }
    "many".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short() {
        let cases = [0, 999, 1000, 1250, 12_345, 999_999, 1_500_000, u64::MAX];
        assert_eq!(cases.map(short), ["0", "999", "1.0k", "1.2k", "12k", "999k", "1.5M", "many"]);
    }

    #[test]
    fn each_class_has_its_own_short_name() {
        let mut names = LockClass::ALL.map(short_name);
        assert!(names.iter().all(|n| n.len() <= COUNT + MARKS), "{names:?}");
        names.sort_unstable();
        assert!(names.windows(2).all(|n| n[0] != n[1]), "{names:?}");
    }

    #[test]
    fn classes_are_in_the_documented_order() {
        let order = |outer_to_inner: &[Class]| DocumentedOrder {
            source: String::new(),
            outer_to_inner: outer_to_inner.to_vec(),
            exceptions: Vec::new(),
        };
        let orders = [
            order(&[Class::IMmap, Class::FaultMutex, Class::Folio]),
            order(&[Class::Inode, Class::MmapLock, Class::Folio, Class::Ptl]),
            order(&[Class::MmapLock, Class::IMmap]),
        ];
        let order = outer_to_inner(&orders);
        let place = |class| order.iter().position(|c| *c == class);
        assert!(
            place(Class::MmapLock) < place(Class::IMmap) && place(Class::IMmap) < place(Class::FaultMutex)
        );
        // Documents that contradict each other must not loop for ever.
        assert_eq!(
            outer_to_inner(&[
                orders[0].clone(),
                DocumentedOrder { outer_to_inner: vec![Class::Folio, Class::IMmap], ..orders[0].clone() }
            ])
            .len(),
            Class::ALL.len()
        );
    }
}
