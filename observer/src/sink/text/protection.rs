//! The section on protection: under which locks pointers were in use, and under which links were removed.
//!
//! Decides which removals are told to go without a lock that others take: only where that lock is seen on this kernel.

use std::io::{self, Write};

use observer_engine::{
    lock_class::LockClass,
    setup::{Coverage, Grade, Role},
    view::{ApartView, LookupProtection, PairProtection, UnlinkProtection},
};

use crate::{report::Report, sink::words};

/// Locks of which a removal without them is worth a word: others may hold them and feel safe.
const EXPECTED: [LockClass; 2] = [LockClass::IMmap, LockClass::Ptl];

/// Writes it.
pub fn write(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    writeln!(out)?;
    let p = &r.protection;
    if p.lookups.is_empty() && p.unlinks.is_empty() {
        writeln!(out, "PROTECTION  {}", nothing(r))?;
        return not_judged(out, r);
    }
    writeln!(out, "PROTECTION  which locks kept pointers and removals apart, whether or not they met")?;
    if !p.lookups.is_empty() {
        writeln!(
            out,
            "  {:<30} {:>9} {:>9}  locks held from the lookup to the last use",
            "looked up in", "leases", "link gone"
        )?;
    }
    for l in &p.lookups {
        lookup(out, l)?;
    }
    if !p.unlinks.is_empty() {
        writeln!(out, "  {:<30} {:>9} {:>9}  locks that keep others out", "removed in", "links", "")?;
    }
    for u in &p.unlinks {
        unlink(out, u, r)?;
    }
    if !p.pairs.is_empty() {
        writeln!(
            out,
            "  {:<30} {:<30} kept apart on the links that both came to",
            "looked up in", "removed in"
        )?;
    }
    for pair in &p.pairs {
        writeln!(out, "  {:<30} {:<30} {}", pair.lookup, pair.unlink, kept_apart(pair))?;
    }
    not_judged(out, r)
}

/// Why there is nothing to show.
fn nothing(r: &Report) -> &'static str {
    let blind = |c: &&Coverage| c.role == Role::Lock && c.grade == Grade::Blind;
    if r.coverage.iter().any(|c| blind(&&c)) {
        "not judged: not all locks that exclude removals are seen"
    } else {
        "nothing was looked up and nothing removed"
    }
}

fn lookup(out: &mut dyn Write, l: &LookupProtection) -> io::Result<()> {
    let mut ways: Vec<(u64, String)> = l.covered.iter().map(|(by, n)| (*n, handed(by))).collect();
    ways.sort_by(|a, b| b.0.cmp(&a.0));
    ways.extend((l.bare > 0).then(|| (l.bare, "no lock that excludes a removal, at some moment".to_owned())));
    ways.extend((l.unjudged > 0).then(|| (l.unjudged, NOT_JUDGED.to_owned())));
    rows(out, &l.site, l.leases, &words::number(l.on_unlinked), &ways)
}

const NOT_JUDGED: &str = "not judged: records were lost, or in no watched operation";

/// `vma_lock, then ptl`.
fn handed(by: &[Vec<LockClass>]) -> String {
    by.iter().map(|set| all(set)).collect::<Vec<_>>().join(", then ")
}

fn all(set: &[LockClass]) -> String {
    set.iter().map(|c| c.name()).collect::<Vec<_>>().join(" + ")
}

fn unlink(out: &mut dyn Write, u: &UnlinkProtection, r: &Report) -> io::Result<()> {
    let seen = |class: &LockClass| is_seen(r, *class);
    let way = |(set, n): &(Vec<LockClass>, u64)| {
        let held = if set.is_empty() { "none".to_owned() } else { all(set) };
        let without: Vec<&str> =
            EXPECTED.iter().filter(|c| !set.contains(c) && seen(c)).map(|c| c.name()).collect();
        let without =
            if without.is_empty() { String::new() } else { format!("; without {}", without.join(" and ")) };
        (*n, held + &without)
    };
    let mut ways: Vec<(u64, String)> = u.held.iter().map(way).collect();
    ways.sort_by(|a, b| b.0.cmp(&a.0));
    ways.extend((u.unjudged > 0).then(|| (u.unjudged, "not judged: records were lost".to_owned())));
    rows(out, &u.site, u.unlinks, "", &ways)
}

/// Whether a lock that is not told was not held.
fn is_seen(r: &Report, class: LockClass) -> bool {
    let role = if class == LockClass::Ptl { Role::Ptl } else { Role::Lock };
    let bears = |c: &&Coverage| c.role == role && (c.part.is_empty() || c.part == class.name());
    let mut rows = r.coverage.iter().filter(bears).peekable();
    rows.peek().is_some() && rows.all(|c| c.grade != Grade::Blind)
}

fn rows(out: &mut dyn Write, site: &str, times: u64, more: &str, ways: &[(u64, String)]) -> io::Result<()> {
    let head = format!("  {site:<30} {:>9} {more:>9}", words::number(times));
    for (i, (n, way)) in ways.iter().enumerate() {
        let head = if i == 0 { head.as_str() } else { "" };
        let line = if ways.len() == 1 && *n == times {
            format!("{head:<52}  {way}")
        } else {
            format!("{head:<52}  {} under {way}", words::number(*n))
        };
        writeln!(out, "{}", line.replace("under not judged", "not judged"))?;
    }
    Ok(())
}

fn kept_apart(p: &PairProtection) -> String {
    let names = |apart: &[ApartView]| apart.iter().map(|a| a.name()).collect::<Vec<_>>();
    let (always, ever) = (names(&p.always), names(&p.ever));
    let sometimes: Vec<&str> = ever.iter().copied().filter(|e| !always.contains(e)).collect();
    let also = |list: &[&str]| {
        if list.is_empty() { String::new() } else { format!(", at times also {}", list.join(", ")) }
    };
    match (p.open, always.as_slice()) {
        (true, _) if ever.is_empty() => "by nothing".to_owned(),
        (true, _) => format!("by nothing at least once; else by {}", ever.join(", ")),
        (false, []) => format!("by one or another: {}", ever.join(", ")),
        (false, always) => format!("each time by {}{}", always.join(" + "), also(&sometimes)),
    }
}

/// Lookups that are out of sight.
fn not_judged(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    let blind = r.coverage.iter().filter(|c| c.role == Role::Lookup && c.grade == Grade::Blind);
    for c in blind {
        let part = if c.part.is_empty() { "any lookup" } else { &c.part };
        writeln!(out, "  not judged: {part}, which is not seen")?;
    }
    Ok(())
}
