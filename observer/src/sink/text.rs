//! The report for people.
//!
//! Decides the order of its sections: what was watched, what was found, how sure that is. The report never says "none"
//! without the coverage that limits it.

pub mod diff;
mod mappings;
mod order;
mod protection;
pub mod several;

use std::io::{self, Write};

use observer_ebpf::loss::REASONS;
use observer_engine::{
    setup::{Coverage, Grade, Role},
    view::{OtherSize, TableView},
};

use super::finding;
use crate::{
    meta::{End, Filter},
    report::Report,
    text::{moment, number, plural, size, span, times},
};

/// Maximum number of tables that the report lists; others are only counted.
const TABLES_MAX: usize = 10;

/// Writes the report.
///
/// # Errors
/// The output cannot be written.
pub fn write(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    header(out, report)?;
    findings(out, report)?;
    protection::write(out, report)?;
    order::write(out, report)?;
    tables(out, report)?;
    mappings::write(out, report)?;
    coverage(out, report)?;
    loss(out, report)
}

/// Writes the report's header, and the number of findings.
///
/// # Errors
/// The output cannot be written.
pub fn summary(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    header(out, report)?;
    let found = plural(report.findings.len() as u64, "finding");
    match report.worst() {
        Some(worst) => {
            let alarms = plural(report.alarms() as u64, "alarm");
            writeln!(out, "found     {found}, {alarms}; the worst is {}", worst.name())
        }
        None => writeln!(out, "found     {}", none(report)),
    }
}

fn header(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    for notice in r.partial() {
        writeln!(out, "PARTIAL   {notice}")?;
    }
    let m = &r.meta;
    let build = m.kernel.build_id.as_ref().map_or(String::new(), |id| format!(", build-id {id}"));
    writeln!(out, "kernel    {} ({}){build}", m.kernel.release, m.kernel.machine)?;
    let end = r.closing.as_ref().map_or("its end is not known".to_owned(), |c| end(&c.end));
    let (span, level) = (span(r.duration_ns()), m.level.name());
    writeln!(out, "run       {span}, level {level}, watching {}; {end}", filter(&m.filter))?;
    let s = &r.stats;
    writeln!(
        out,
        "seen      {}: {}, {}, {}, {}, {}",
        plural(s.events, "event"),
        plural(s.lookups, "lookup"),
        plural(s.shares, "share"),
        plural(s.unlinks_exact + s.unlinks_diff - s.unlinks_both, "unlink"),
        plural(r.tables.len() as u64, "table"),
        plural(r.edges.len() as u64, "lock-order edge"),
    )?;
    for o in &s.other_sizes {
        writeln!(out, "pages     {}", other_size(o))?;
    }
    writeln!(out, "lost      {}", lost(r))?;
    for notice in r.notices.iter().filter(|notice| !notice.is_partial) {
        writeln!(out, "notice    {notice}")?;
    }
    Ok(())
}

/// Pages of another size, in words.
#[must_use]
pub fn other_size(o: &OtherSize) -> String {
    let name = if o.page_bytes == 0 { "other".to_owned() } else { size(o.page_bytes) };
    format!(
        "{name}: {}, {}; their entries are in tables that are never shared: counted, and judged by lock order only",
        plural(o.lookups, "lookup"),
        plural(o.walks, "walk"),
    )
}

/// The outcome of a run without findings.
fn none(r: &Report) -> &'static str {
    match (r.is_partial(), r.stats.bounds().is_empty()) {
        (true, _) => "none in the part that was seen, within this coverage",
        (false, true) => "none within this coverage",
        (false, false) => "none within this coverage and the bounds that were reached",
    }
}

/// Losses in words.
#[must_use]
pub fn lost(r: &Report) -> String {
    let mut lost: Vec<String> = r.loss.iter().map(|(name, n)| format!("{} {name}", number(*n))).collect();
    if r.missed() > 0 {
        lost.push(format!("{} runs of programs that the kernel skipped", number(r.missed())));
    }
    if lost.is_empty() { "nothing".to_owned() } else { lost.join(", ") }
}

/// Watched tasks, in words.
#[must_use]
pub fn filter(f: &Filter) -> String {
    let parts: Vec<String> = [
        f.pid.map(|pid| format!("process {pid}")),
        f.comm.as_ref().map(|comm| format!("command {comm}")),
        f.cgroup.as_ref().map(|path| format!("cgroup {path}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { "everybody".into() } else { parts.join(", ") }
}

fn end(end: &End) -> String {
    match end {
        End::Interrupted => "ended by a signal".into(),
        End::Duration => "ended when its duration was over".into(),
        End::Command(code) => format!("ended with its command, exit code {code}"),
        End::Quit => "ended at the dashboard".into(),
        End::Source => "ended with its source".into(),
    }
}

fn findings(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    writeln!(out)?;
    for (times, what) in r.stats.bounds() {
        writeln!(out, "BOUND     {} {what}", number(times))?;
    }
    if r.findings.is_empty() {
        writeln!(out, "FINDINGS  {}", none(r))?;
        // A part with the same grade as its role adds nothing.
        let of_role = |c: &Coverage| r.coverage.iter().find(|w| w.role == c.role && w.part.is_empty());
        let adds = |c: &&Coverage| {
            c.grade != Grade::Exact && (c.part.is_empty() || of_role(c).is_none_or(|w| w.grade != c.grade))
        };
        for c in r.coverage.iter().filter(adds) {
            writeln!(out, "          {} {}: {}", part(c.role, &c.part), c.grade.name(), c.reason)?;
        }
        if !r.loss.is_empty() || !r.notices.is_empty() || r.missed() > 0 {
            writeln!(out, "          and within what was lost or cut off, see above and at the end")?;
        }
        return Ok(());
    }
    let n = plural(r.findings.len() as u64, "finding");
    writeln!(out, "FINDINGS  {n}, {}, worst first", plural(r.alarms() as u64, "alarm"))?;
    for (i, f) in r.findings.iter().enumerate() {
        writeln!(out)?;
        writeln!(out, "{:>3}. {} {}: {}", i + 1, f.rank.name(), f.kind().name(), finding::summary(f))?;
        writeln!(out, "     {:<9} {}, {}", "id", f.id, finding::seen(f, r.meta.start_ns))?;
        for line in finding::detail(f, &r.stacks, r.meta.start_ns) {
            writeln!(out, "     {}", line.trim_end())?;
        }
    }
    Ok(())
}

fn tables(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    writeln!(out)?;
    let s = &r.stats;
    let alive = r.tables.iter().filter(|t| t.alive).count();
    writeln!(
        out,
        "TABLES  {} alive at the end of {} shown; unlinks seen at their moment {}, by comparing entries {}, both ways {}",
        alive,
        r.tables.len(),
        number(s.unlinks_exact),
        number(s.unlinks_diff),
        number(s.unlinks_both),
    )?;
    if r.tables.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "  {:<18} {:>10} {:>6} {:>9} {:>9} {:>9}  born",
        "table", "generation", "links", "lookups", "shares", "unshares"
    )?;
    let mut rows: Vec<&TableView> = r.tables.iter().collect();
    rows.sort_by_key(|t| {
        (std::cmp::Reverse(t.shares + t.unshares), std::cmp::Reverse(t.lookups), t.birth_ns, t.table)
    });
    for t in rows.iter().take(TABLES_MAX) {
        writeln!(
            out,
            "  {:<18} {:>10} {:>6} {:>9} {:>9} {:>9}  {}{}",
            t.table.to_string(),
            t.generation,
            t.links.len(),
            number(t.lookups),
            number(t.shares),
            number(t.unshares),
            moment(t.birth_ns, r.meta.start_ns),
            if t.birth_seen { "" } else { " or before" },
        )?;
    }
    if rows.len() > TABLES_MAX {
        writeln!(out, "  and {} less active", number((rows.len() - TABLES_MAX) as u64))?;
    }
    Ok(())
}

fn part(role: Role, part: &str) -> String {
    if part.is_empty() { role.name().to_owned() } else { format!("{} ({part})", role.name()) }
}

fn coverage(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    writeln!(out)?;
    writeln!(out, "COVERAGE  what this kernel let us see")?;
    if r.coverage.is_empty() {
        writeln!(out, "  the plan has no roles")?;
    }
    for role in Role::ALL {
        let (exact, others): (Vec<_>, Vec<_>) = r
            .coverage
            .iter()
            .filter(|c| c.role == role)
            .partition(|c| c.grade == Grade::Exact && !c.part.is_empty() && c.reason.is_empty());
        for (i, c) in others.into_iter().enumerate() {
            let line = format!("  {:<34} {:<9} {}", part(c.role, &c.part), c.grade.name(), c.reason);
            writeln!(out, "{}", line.trim_end())?;
            if i == 0 && !exact.is_empty() {
                let parts: Vec<_> = exact.iter().map(|c| c.part.as_str()).collect();
                writeln!(out, "  {:<34} {:<9} {}", "", "exact", parts.join("; "))?;
            }
        }
    }
    let Some(closing) = &r.closing else { return Ok(()) };
    writeln!(out)?;
    writeln!(out, "SITES  calls counted by the probes, before any filter")?;
    writeln!(out, "  {:<34} {:<14} {:>12} {:>12}", "function", "role", "calls", "of its role")?;
    for s in &closing.sites {
        let site = r.meta.setup.sites.iter().find(|site| site.id == s.site);
        let (function, role) = site.map_or(("?", "?"), |s| (s.function.as_str(), s.role.as_str()));
        let (hits, outcomes) = (number(s.hits), number(s.outcomes));
        writeln!(out, "  {function:<34} {role:<14} {hits:>12} {outcomes:>12}")?;
    }
    Ok(())
}

fn loss(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    writeln!(out)?;
    let c = &r.counts;
    let by_interrupts: u64 =
        r.misses().filter(|m| m.is_of_spinlocks()).map(|m| m.recursion).fold(0, u64::saturating_add);
    let spinlocks = |out: &mut dyn Write| match by_interrupts {
        0 => Ok(()),
        n => writeln!(
            out,
            "  (interrupts took spinlocks while a program on one ran: {}, none a page-table lock)",
            times(n)
        ),
    };
    if r.loss.is_empty() && c.late + c.undecodable() + r.missed() == 0 {
        writeln!(out, "LOSS  nothing was lost in {} drain passes", number(r.passes))?;
        return spinlocks(out);
    }
    writeln!(out, "LOSS  in {} drain passes", number(r.passes))?;
    for (name, n) in &r.loss {
        let doc = REASONS.iter().find(|(reason, _)| reason == name).map_or("", |(_, doc)| doc.trim());
        writeln!(out, "  {name:<18} {:>12}  {doc}", number(*n))?;
    }
    let rest = [
        ("late", c.late, "Arrived after its place in the order was passed."),
        ("short", c.short, "Bytes that are not a whole record."),
        ("unknown-kind", c.unknown_kind, "Records of a kind that this version does not know."),
        ("unknown-value", c.unknown_value, "Records with a class or mode that this version does not know."),
        ("missed", r.missed(), "Hits of programs that the kernel did not run."),
    ];
    for (name, n, doc) in rest.into_iter().filter(|(_, n, _)| *n > 0) {
        writeln!(out, "  {name:<18} {:>12}  {doc}", number(n))?;
    }
    for m in r.misses().filter(|m| !m.is_of_spinlocks()) {
        writeln!(out, "  missed by program {}: {}", m.program, number(m.recursion))?;
    }
    spinlocks(out)
}
