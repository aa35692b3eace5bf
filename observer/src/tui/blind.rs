//! Roles that cannot be observed, in the same words wherever they are named or counted.
//!
//! Decides what is *blind* (a whole role) and what is *partly blind* (a role with a blind part), and that a role is one of both.

use observer_engine::setup::{Coverage, Grade};

use crate::snapshot::Snapshot;
use crate::text::number;

/// Roles of a run that are blind, and roles that are partly blind.
#[derive(Debug)]
pub struct Blind {
    pub wholly: Vec<&'static str>,
    pub partly: Vec<&'static str>,
}

impl Blind {
    #[must_use]
    pub fn of(s: &Snapshot) -> Blind {
        let wholly = roles(s, |c| c.grade == Grade::Blind && c.part.is_empty());
        let mut partly = roles(s, |c| c.grade == Grade::Blind && !c.part.is_empty());
        partly.retain(|role| !wholly.contains(role));
        Blind { wholly, partly }
    }

    #[must_use]
    pub fn is_none(&self) -> bool {
        self.wholly.is_empty() && self.partly.is_empty()
    }

    /// Number of the roles: `1 blind, 2 partly`, `3 partly blind`; empty if there are none.
    #[must_use]
    pub fn counts(&self) -> String {
        match (self.wholly.len(), self.partly.len()) {
            (0, 0) => String::new(),
            (b, 0) => format!("{b} blind"),
            (0, p) => format!("{p} partly blind"),
            (b, p) => format!("{b} blind, {p} partly"),
        }
    }

    /// Names of the roles: `blind: walk; partly blind: lookup, unlink`.
    #[must_use]
    pub fn names(&self) -> String {
        let list =
            |name: &str, roles: &[&str]| (!roles.is_empty()).then(|| format!("{name}: {}", roles.join(", ")));
        let words: Vec<String> =
            [list("blind", &self.wholly), list("partly blind", &self.partly)].into_iter().flatten().collect();
        if words.is_empty() { "no role blind".into() } else { words.join("; ") }
    }
}

/// Coverage and loss in words, for a list that is empty.
#[must_use]
pub fn coverage(s: &Snapshot) -> String {
    if s.coverage.is_empty() {
        return "unknown".into();
    }
    let weak = roles(s, |c| !matches!(c.grade, Grade::Exact | Grade::Blind));
    let weak = if weak.is_empty() { String::new() } else { format!("; not exact: {}", weak.join(", ")) };
    format!("{}{weak}; loss {}", Blind::of(s).names(), number(s.lost()))
}

/// Roles with a matching coverage row, each once.
fn roles(s: &Snapshot, which: impl Fn(&Coverage) -> bool) -> Vec<&'static str> {
    let mut roles = Vec::new();
    for c in s.coverage.iter().filter(|c| which(c)) {
        if !roles.contains(&c.role.name()) {
            roles.push(c.role.name());
        }
    }
    roles
}
