//! The characters that pictures are made of: Unicode where the terminal has it, else ASCII. Letters and the marks of findings
//! are the same in both.

/// A set of characters, each one cell wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glyphs {
    /// A pointer in use while its link exists.
    pub lease: char,
    /// Certainly in use after the unlink.
    pub certain: char,
    /// Possibly in use after the unlink.
    pub possible: char,
    /// A held lock: begin, middle, end; and all of it in one cell.
    pub begin: char,
    pub held: char,
    pub end: char,
    pub brief: char,
    /// A lock that was requested, and is not known to be held.
    pub waits: char,
    /// A lock of which it is not known if it is held.
    pub unknown: char,
    /// A moment on the axis.
    pub tick: char,
    /// The moment of the unlink, through lanes that have nothing there.
    pub guide: char,
    /// An empty cell.
    pub none: char,
    /// The time bar: played, read, its ends, and the place that is shown.
    pub played: char,
    pub read: char,
    pub left: char,
    pub right: char,
    pub head: char,
    /// Bars of a sparkline, from empty to full.
    pub bars: &'static [char],
}

impl Glyphs {
    pub const BLOCKS: Glyphs = Glyphs {
        lease: '═',
        certain: '█',
        possible: '▒',
        begin: '├',
        held: '─',
        end: '┤',
        brief: '┼',
        waits: '·',
        unknown: '╌',
        tick: '┬',
        guide: '┊',
        none: '·',
        played: '━',
        read: '─',
        left: '▕',
        right: '▏',
        head: '┃',
        bars: &[' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
    };

    pub const ASCII: Glyphs = Glyphs {
        lease: '=',
        certain: '#',
        possible: '~',
        begin: '[',
        held: '-',
        end: ']',
        brief: '+',
        waits: '.',
        unknown: ',',
        tick: '\'',
        guide: ':',
        none: '.',
        played: '=',
        read: '-',
        left: '[',
        right: ']',
        head: '|',
        bars: &[' ', '.', ':', '|', '#'],
    };
}
