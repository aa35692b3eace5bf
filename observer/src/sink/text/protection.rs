//! The section on protection: the reason why a report may have no findings.

use std::io::{self, Write};

use observer_engine::setup::{Grade, Role};

use crate::{report::Report, sink::words::protection, text::number};

/// Writes the section.
pub fn write(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    writeln!(out)?;
    let p = &r.protection;
    if p.lookups.is_empty() && p.unlinks.is_empty() {
        writeln!(out, "PROTECTION  {}", protection::nothing(&r.coverage))?;
        return not_judged(out, r);
    }
    writeln!(out, "PROTECTION  locks that exclude unlinks from lookups, whether or not the two met")?;
    let head = |out: &mut dyn Write, [a, b, c, d]: [&str; 4]| writeln!(out, "  {a:<30} {b:>9} {c:>9}  {d}");
    if !p.lookups.is_empty() {
        head(out, ["lookup in", "leases", "unlinked", "locks held from the lookup to the last use"])?;
    }
    let excluding = protection::excluding(&r.meta.setup);
    for l in &p.lookups {
        let counts = [number(l.leases), number(l.on_unlinked)];
        rows(out, &l.site, &counts, &protection::lookup_ways(l, &excluding))?;
    }
    if !p.unlinks.is_empty() {
        head(out, ["unlink in", "links", "", "locks held that exclude others"])?;
    }
    for u in &p.unlinks {
        let counts = [number(u.unlinks), String::new()];
        rows(out, &u.site, &counts, &protection::unlink_ways(u, &r.coverage))?;
    }
    if !p.pairs.is_empty() {
        let (lookup, unlink) = ("lookup in", "unlink in");
        writeln!(out, "  {lookup:<30} {unlink:<30} excluded by, on links that both reached")?;
    }
    for pair in &p.pairs {
        writeln!(out, "  {:<30} {:<30} {}", pair.lookup, pair.unlink, protection::kept_apart(pair))?;
    }
    not_judged(out, r)
}

fn rows(out: &mut dyn Write, site: &str, [a, b]: &[String; 2], ways: &[String]) -> io::Result<()> {
    let mut head = format!("  {site:<30} {a:>9} {b:>9}");
    let width = head.len();
    for way in ways {
        writeln!(out, "{head:<width$}  {way}")?;
        head.clear();
    }
    Ok(())
}

/// Lists the lookups that are not seen.
fn not_judged(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    for c in r.coverage.iter().filter(|c| c.role == Role::Lookup && c.grade == Grade::Blind) {
        let part = if c.part.is_empty() { "all lookups" } else { &c.part };
        writeln!(out, "  not seen and not judged: {part}")?;
    }
    Ok(())
}
