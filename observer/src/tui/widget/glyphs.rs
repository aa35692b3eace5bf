//! The characters that pictures are made of: those of a terminal that has them, and ASCII. Letters and the marks of findings are
//! the same in both.

use super::super::theme::Theme;

/// A set of characters, each one cell wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glyphs {
    /// A pointer in use while its link is there.
    pub lease: char,
    /// In use for certain after the link was gone.
    pub certain: char,
    /// Perhaps in use after the link was gone.
    pub possible: char,
    /// A lock is held: begin, middle, end; and all of it in one cell.
    pub begin: char,
    pub held: char,
    pub end: char,
    pub brief: char,
    /// A lock was asked for, and it is not known to be held yet.
    pub waits: char,
    /// It is not known whether it is held.
    pub unknown: char,
    /// A moment on the axis.
    pub tick: char,
    /// The moment of the removal, through lanes that have nothing there.
    pub guide: char,
    /// Nothing there.
    pub none: char,
    /// The time bar: played, read, its ends, and the place that is shown.
    pub played: char,
    pub read: char,
    pub left: char,
    pub right: char,
    pub head: char,
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
    };

    /// What this terminal can show.
    #[must_use]
    pub fn of(theme: &Theme) -> &'static Glyphs {
        // Full bars are blocks where there are blocks.
        if theme.bars().last().is_some_and(|full| full.is_ascii()) { &Glyphs::ASCII } else { &Glyphs::BLOCKS }
    }
}
