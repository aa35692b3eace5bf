//! Pages of lock order, and of what keeps lookups and removals apart.

use observer_engine::finding::{Evidence, Finding, Manner};
use observer_engine::lock_class::LockClass;
use observer_engine::view::EdgeView;

use super::{Context, EdgeKey, Go, Line, Page, Shortcut, evidence, link, plain, wrapped};
use crate::sink::words::{self, number, plural};
use crate::snapshot::Snapshot;
use crate::tui::answers::Look;
use crate::tui::protect;
use crate::tui::rows;
use crate::tui::text::Text;
use crate::tui::theme::Tone;

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
    let how = match e.manner {
        Manner::Tried => "only ever tried, which cannot block",
        Manner::TryThenBlock => "tried in a way that blocks on failure",
        Manner::Asked => "asked for in a way that can block",
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
    let frames = c.snapshot.stacks.symbolised(e.witness.side.stack);
    if frames.is_empty() {
        return Vec::new();
    }
    let head = Text::new(Tone::Label, "stack of the task's first call of this:");
    wrapped(c, std::iter::once(head).chain(frames.iter().map(|f| Text::new(Tone::Plain, format!("  {f}")))))
}

/// Cycles and orders that two classes are part of.
fn findings(s: &Snapshot, pair: (LockClass, LockClass)) -> Vec<Line> {
    let about = |f: &&Finding| match &f.evidence {
        Evidence::Cycle(c) => c.steps.iter().any(|step| (step.from, step.to) == pair),
        Evidence::AgainstOrder(a) => (a.step.from, a.step.to) == pair,
        _ => false,
    };
    let line = |f: &Finding| {
        let text = format!("{}: {}", f.rank.name(), words::summary(f));
        link("finding", text, "", Go::Page(Page::Finding(f.id.clone())))
    };
    s.findings.iter().filter(about).map(line).collect()
}

/// All edges of two classes.
pub fn classes(c: &Context<'_>, (from, to): (LockClass, LockClass)) -> Vec<Line> {
    let s = c.snapshot;
    let edges: Vec<&EdgeView> = s.edges.iter().filter(|e| (e.from, e.to) == (from, to)).collect();
    if edges.is_empty() {
        return vec![plain(format!("{} was not asked for while {} was held", to.name(), from.name()))];
    }
    let mut lines = findings(s, (from, to));
    for e in &edges {
        let key = EdgeKey::of(e);
        let text = format!("{}, {}, {} x", key.name(), e.manner.name(), number(e.count));
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
    let side = &e.witness.side;
    match to {
        Shortcut::Events => {
            let title = format!("of {} around it", rows::task(&side.task.comm, side.task.tid));
            let look = Look::around(s, side.time_ns, title, format!("task={}", side.task.tid.0));
            Some(Page::Events(look))
        }
        Shortcut::Table | Shortcut::Stacks => None,
    }
}

/// What the lookups or removals of a site were under.
pub fn site(c: &Context<'_>, what: &str, site: &str) -> Vec<Line> {
    let rows = (0..rows::count(c.snapshot, crate::tui::state::Tab::Protection))
        .filter_map(|i| protect::row(c.snapshot, i));
    let Some(row) = rows.into_iter().find(|r| r.what() == what && r.site() == site) else {
        return vec![plain("nothing of this site is known at this time of the run")];
    };
    let head = Text::new(Tone::Label, site).and(Tone::Plain, format!(": {}", row.means()));
    let mut lines = wrapped(c, [head, Text::default()]);
    lines.extend(wrapped(c, evidence(row.ways(c.snapshot))));
    lines
}
