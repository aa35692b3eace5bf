//! The words for what affects a comparison of two runs.

use observer_engine::setup::Grade;

use crate::{
    diff::{CoverageChange, Diff},
    report::Report,
    sink::text,
};

/// Reasons why a difference may be due to coverage or loss instead of behaviour.
#[must_use]
pub fn bears(d: &Diff<'_>) -> Vec<String> {
    let mut out = Vec::new();
    let both = [("A", d.a), ("B", d.b)];
    let (a, b) = (&d.a.meta, &d.b.meta);
    if a.level != b.level {
        out.push(format!("level {} in A, {} in B", a.level.name(), b.level.name()));
    }
    if a.filter != b.filter {
        out.push(format!("A watches {}, B {}", text::filter(&a.filter), text::filter(&b.filter)));
    }
    let lost = |r: &Report| !r.loss.is_empty() || r.missed() > 0;
    out.extend(
        both.iter().filter(|(_, r)| lost(r)).map(|(name, r)| format!("lost in {name}: {}", text::lost(r))),
    );
    for (name, r) in both {
        out.extend(
            r.notices.iter().filter(|notice| !notice.is_partial).map(|notice| format!("{name}: {notice}")),
        );
    }
    out.extend(d.coverage.iter().map(coverage));
    out
}

fn coverage(c: &CoverageChange) -> String {
    let part = if c.part.is_empty() { String::new() } else { format!(" ({})", c.part) };
    let grade = |g: Option<Grade>| g.map_or("not there", Grade::name);
    format!("{}{part} is {} in A, {} in B", c.role.name(), grade(c.a), grade(c.b))
}
