//! The help: every key from the table of keys, then the marks of pictures and the words that the views use.

use observer_engine::finding::Rank;

use super::Mode;
use super::keys::{self, Binding, Group};
use super::text::{Text, Tone, fit};
use super::widget::Glyphs;

/// Words that a column or a header line uses without room to explain them.
const WORDS: &[(&str, &str)] = &[
    ("window", "a task held a pte pointer while another task unlinked the table that it points into"),
    ("certain", "the part of a window in which the pointer must have been in use"),
    ("possible", "the part in which it may have been in use"),
    ("prediction", "a window that did not happen, and that nothing keeps from happening"),
    (
        "apart",
        "what excludes an unlink from a lookup: locks; vma-locked, entered so; last-user, no other user left",
    ),
    ("lease", "a pte pointer in somebody's hand, from its lookup to its last use"),
    (
        "generation",
        "a page table that is freed and allocated again at the same address is another generation",
    ),
    ("level", "what is probed: light, hugetlb only; locks, mutexes and rwsems too; full, spinlocks too"),
    ("lookup", "the kernel function on whose behalf the pointer was looked up"),
    ("unlink", "the kernel function on whose behalf the table was taken away"),
    ("edge", "a lock requested, in a way that can block, by a task that held another"),
    ("try", "the second lock was only tried: such an edge cannot block"),
    ("removed", "a link to a table went: it was unshared, moved or unmapped"),
    ("sharers", "links to a table: upper-level entries of the mms that share it"),
    ("loss", "records that did not arrive, by reason; late: in order too late, not lost"),
    ("blind", "what this kernel and this level do not let us see: findings there cannot appear"),
    ("coverage", "exact: each at its moment; bounded: within an interval; inferred: from other evidence"),
];

/// Marks of the time bar and of pictures.
fn marks(mode: Mode, g: &Glyphs) -> Vec<(String, &'static str)> {
    let bar = [
        (g.head.to_string(), "on the time bar: the place that is shown"),
        (
            "! *".into(),
            "an alarm happened here, and is reported later; several findings, at least one of them an alarm",
        ),
        ("' \"".into(), "a finding that is not an alarm; several of them"),
    ];
    let pictures = [
        (format!("{0}{0}", g.lease), "a pointer in use, its link there"),
        (format!("{0}{0}", g.certain), "stale for certain: in use after the link was removed"),
        (format!("{0}{0}", g.possible), "perhaps stale"),
        (
            format!("{}{}{} {}", g.begin, g.held, g.end, g.brief),
            "a lock is held, from its begin to its end; for a moment",
        ),
        (format!("?{0}{0}", g.waits), "it was requested: acquired by the end of this, or not yet"),
        (format!("{}{}", g.held, g.unknown), "until when it was held, or since when, is not known"),
        (g.guide.to_string(), "the moment of the unlink"),
        ("L U R".into(), "the pointer: looked up; used, by its table's PTL; looked up again"),
        ("X F B S".into(), "the table: unlinked; page freed; allocated; shared"),
        ("*NAME".into(), "a lock that is in both lanes"),
    ];
    let bar = bar.into_iter().filter(|_| mode == Mode::Replay);
    bar.chain(pictures).collect()
}

/// Cells of the keys' names.
const KEY_WIDTH: usize = 24;

/// Meaning of a rank, in one line.
fn rank_words(rank: Rank) -> &'static str {
    match rank {
        Rank::Confirmed => "a deadlock: its tasks were seen waiting for each other",
        Rank::Freed => "the table was given back while the pointer into it was held",
        Rank::Used => "the pointer was used after the table was taken away",
        Rank::Feasible => "a deadlock that can happen: nothing known excludes its sides from each other",
        Rank::Held => "the pointer was held for certain after that; no use was seen",
        Rank::Predicted => "nothing excludes the two; it did not happen in this run",
        Rank::AgainstOrder => "locks requested against the documented order",
        Rank::Possible => "the pointer may have been given up before",
        Rank::Guarded => "a cycle whose sides exclude each other by a common lock",
        Rank::ClassOnly => "a cycle of lock classes that no lock instances close",
        Rank::Incomplete => "loss touches the evidence",
        Rank::Revalidated => "the pointer was looked up again under the PTL: correct",
    }
}

/// Lines of the help.
#[must_use]
pub fn lines(mode: Mode, width: u16, glyphs: &Glyphs) -> Vec<Text> {
    let width = usize::from(width);
    let mut lines: Vec<Text> = Vec::new();
    for group in Group::ALL {
        let of_group: Vec<_> = keys::bindings(mode).filter(|b| b.group == group).collect();
        if of_group.is_empty() {
            continue;
        }
        lines.push(Text::new(Tone::Label, group.name().to_uppercase()));
        lines.extend(entries(&of_group, width));
    }
    lines.push(Text::default());
    let mut explain = |word: &str, tone, meaning: &str| {
        let text = Text::new(tone, fit(word, 14, false)).and(Tone::Plain, meaning);
        lines.extend(text.wrap(width, 14.min(width / 2)));
    };
    explain("MARKS", Tone::Label, "of the time bar, and what pictures are drawn with");
    for (mark, meaning) in marks(mode, glyphs) {
        explain(&mark, Tone::Label, meaning);
    }
    explain("", Tone::Plain, "");
    for (word, meaning) in WORDS {
        explain(word, Tone::Label, meaning);
    }
    explain("", Tone::Plain, "");
    explain("RANK", Tone::Label, "worst first; an alarm is predicted or worse");
    for rank in Rank::ALL {
        let tone = if rank.is_alarm() { Tone::Alarm } else { Tone::Label };
        explain(rank.name(), tone, rank_words(rank));
    }
    explain("", Tone::Plain, "");
    explain("FILTER", Tone::Label, "of events: words that all have to hold; ! before one: it must not");
    for (word, meaning) in crate::events::filter::HELP {
        explain(word, Tone::Label, meaning);
    }
    lines
}

/// Keys of one group: two columns where there is room.
fn entries(bindings: &[&Binding], width: usize) -> Vec<Text> {
    let entry = |b: &&Binding| {
        let names: Vec<String> = b.keys.iter().map(|k| k.name()).collect();
        Text::new(Tone::Label, fit(&format!("  {}", names.join(" ")), KEY_WIDTH, false))
            .and(Tone::Plain, b.help)
    };
    if width < 140 {
        return bindings.iter().flat_map(|b| entry(b).wrap(width, KEY_WIDTH.min(width / 2))).collect();
    }
    let half = bindings.len().div_ceil(2);
    let line = |(i, left): (usize, &&Binding)| {
        let mut line = entry(left);
        if let Some(right) = bindings.get(half + i) {
            let gap = (width / 2).saturating_sub(line.width());
            line = line.and(Tone::Plain, " ".repeat(gap));
            line.0.extend(entry(right).0);
        }
        line
    };
    bindings[..half].iter().enumerate().map(line).collect()
}
