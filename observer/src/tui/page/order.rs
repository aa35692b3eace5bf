//! Pages of lock order, and of the excluders between lookups and unlinks.

use observer_engine::finding::{AcquireKind, Finding};
use observer_engine::lock_class::LockClass;
use observer_engine::view::{EdgeView, LookupProtection, PairProtection};

use super::{Context, EdgeKey, Go, Line, Page, Shortcut, evidence, link, plain, wrapped};
use crate::sink::{finding::summary, words};
use crate::snapshot::Snapshot;
use crate::text::{number, plural};
use crate::tui::answers::Look;
use crate::tui::names::task;
use crate::tui::text::{Text, Tone};
use crate::tui::views::protect;

pub fn edge(c: &Context<'_>, key: &EdgeKey) -> Vec<Line> {
    match c.snapshot.edges.iter().find(|e| key.is(e)) {
        Some(e) => {
            let mut lines = one(c, e);
            lines.extend(findings(c.snapshot, (e.from, e.to)));
            if let Some(Page::Events(look)) = shortcut(c.snapshot, e, Shortcut::Events) {
                lines.push(link("events", look.title.clone(), "e", Go::Page(Page::Events(look))));
            }
            lines.push(Line::default());
            lines.extend(wrapped(c, evidence(words::edge_detail(e, c.snapshot.meta.start_ns))));
            lines.extend(stack(c, e));
            lines
        }
        None => vec![plain("this edge was not seen up to this time of the run")],
    }
}

fn one(c: &Context<'_>, e: &EdgeView) -> Vec<Line> {
    let how = match e.acquire {
        AcquireKind::Try => "only ever tried, which cannot block",
        AcquireKind::TryThenBlock => "tried in a way that blocks on failure",
        AcquireKind::Blocking => "requested in a way that can block",
    };
    let name = EdgeKey::of(e).name();
    let text = Text::new(Tone::Label, name).and(
        Tone::Plain,
        format!(
            ": the second was {how} while the first was held; {} x by {}",
            number(e.count),
            plural(u64::from(e.tasks), "task")
        ),
    );
    wrapped(c, [text, Text::default()])
}

fn stack(c: &Context<'_>, e: &EdgeView) -> Vec<Line> {
    let frames = c.snapshot.stacks.symbolised(e.witness.party.stack);
    if frames.is_empty() {
        return Vec::new();
    }
    let head = Text::new(Tone::Label, "stack of the task's first call of this:");
    wrapped(c, std::iter::once(head).chain(frames.iter().map(|f| Text::new(Tone::Plain, format!("  {f}")))))
}

/// Links to cycles and documented-order findings that involve two classes.
fn findings(s: &Snapshot, pair: (LockClass, LockClass)) -> Vec<Line> {
    let about = |f: &&Finding| f.evidence.subject().steps().iter().any(|s| (s.from, s.to) == pair);
    s.findings.iter().filter(about).map(finding).collect()
}

/// A line with a link to a finding.
pub fn finding(f: &Finding) -> Line {
    let text = format!("{}: {}", f.rank.name(), summary(f));
    link("finding", text, "", Go::Page(Page::Finding(f.id.clone())))
}

/// Page of all edges between two classes.
pub fn classes(c: &Context<'_>, (from, to): (LockClass, LockClass)) -> Vec<Line> {
    let s = c.snapshot;
    let edges: Vec<&EdgeView> = s.edges.iter().filter(|e| (e.from, e.to) == (from, to)).collect();
    if edges.is_empty() {
        return vec![plain(format!("{} was not requested while {} was held", to.name(), from.name()))];
    }
    let mut lines = findings(s, (from, to));
    for e in &edges {
        let key = EdgeKey::of(e);
        let text = format!("{}, {}, {} x", key.name(), e.acquire.name(), number(e.count));
        lines.push(link("edge", text, "", Go::Page(Page::Edge(key))));
    }
    for e in edges {
        lines.push(Line::default());
        lines.extend(one(c, e));
        lines.extend(wrapped(c, evidence(words::edge_detail(e, s.meta.start_ns))));
    }
    lines
}

pub fn shortcut(s: &Snapshot, e: &EdgeView, to: Shortcut) -> Option<Page> {
    let side = &e.witness.party;
    match to {
        Shortcut::Events => {
            let title = format!("of {} around it", task(&side.task.comm, side.task.tid));
            let look = Look::around(s, side.time_ns, title, format!("task={}", side.task.tid.0));
            Some(Page::Events(look))
        }
        Shortcut::Table | Shortcut::Stacks => None,
    }
}

/// Locks at the lookups or unlinks of a site.
pub fn site(c: &Context<'_>, kind: &str, site: &str) -> Vec<Line> {
    let Some(row) = protect::of_site(c.snapshot, kind, site) else {
        return vec![plain("nothing of this site is known at this time of the run")];
    };
    let head = Text::new(Tone::Label, site).and(Tone::Plain, format!(": {}", row.means()));
    let mut lines = wrapped(c, [head, Text::default()]);
    lines.extend(wrapped(c, evidence(row.ways(c.snapshot))));
    let findings = findings_of_sites(c.snapshot, &row);
    if let (protect::Row::Lookup(l), true) = (&row, findings.is_empty()) {
        let why = no_finding(c.snapshot, l).map(|why| Text::new(Tone::Plain, why));
        lines.extend(wrapped(c, why));
    }
    let pairs = pairs_of_site(c.snapshot, &row);
    if !findings.is_empty() || !pairs.is_empty() {
        lines.push(Line::default());
    }
    lines.extend(findings);
    lines.extend(pairs);
    lines
}

/// Links to windows, observed and predicted, of these sites.
fn findings_of_sites(s: &Snapshot, row: &protect::Row<'_>) -> Vec<Line> {
    let about = |f: &&Finding| {
        let Some((holder, unlinker)) = f.evidence.subject().accesses() else { return false };
        match row {
            protect::Row::Lookup(l) => l.site == holder.site,
            protect::Row::Unlink(u) => u.site == unlinker.site,
            protect::Row::Pair(p) => p.lookup == holder.site && p.unlink == unlinker.site,
        }
    };
    s.findings.iter().filter(about).map(finding).collect()
}

/// Links to the pairs that a site is part of.
fn pairs_of_site(s: &Snapshot, row: &protect::Row<'_>) -> Vec<Line> {
    let about = |p: &&PairProtection| match row {
        protect::Row::Lookup(l) => l.site == p.lookup,
        protect::Row::Unlink(u) => u.site == p.unlink,
        protect::Row::Pair(_) => false,
    };
    let line = |p: &PairProtection| {
        let pair = protect::Row::Pair(p);
        let text = format!("{}: {}", pair.site(), pair.ways(s).join("; "));
        link(pair.kind(), text, "", Go::Page(Page::Site(pair.kind(), pair.site())))
    };
    s.protection.pairs.iter().filter(about).map(line).collect()
}

/// Says why an unprotected lookup is in no finding. `None` if every lease was protected.
fn no_finding(s: &Snapshot, l: &LookupProtection) -> Option<String> {
    if l.bare == 0 {
        return None;
    }
    let met = s.protection.pairs.iter().any(|p| p.lookup == l.site);
    let why = match (l.on_unlinked, met) {
        (0, _) => "no pointer of it was on a link that was unlinked during the run",
        (_, true) => "every unlink of a link that it reached was excluded in some other way",
        (_, false) => "no unlink by another task met it on a link",
    };
    Some(format!("in no finding: {why}"))
}
