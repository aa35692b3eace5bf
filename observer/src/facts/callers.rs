//! Rows of `callers.toml`: who calls the lookup functions beside operations and callbacks.

use std::collections::BTreeSet;

use observer_engine::setup::Role;
use serde::Deserialize;

use super::{Facts, On, Site};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallersFile {
    pub caller: Vec<Caller>,
}

/// A function that calls a lookup function, or one that passes on what a lookup returned.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Caller {
    pub function: String,
    /// Its callers count in its place.
    #[serde(default)]
    pub passes_on: bool,
    /// It is only called inside these operations.
    #[serde(default)]
    pub inside: Vec<String>,
    /// Why it never looks up in a mapping of hugetlbfs.
    pub never: Option<String>,
    /// The measured kernels whose text has it among the callers.
    pub on: On,
    pub source: String,
}

/// What the facts know of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<'a> {
    /// It is watched as a row of `sites.toml`, or its own callers count.
    Row,
    /// It runs inside these operations only.
    Inside(&'a [String]),
    /// It never looks up in a mapping of hugetlbfs.
    Never,
    /// No row has it.
    Unknown,
}

impl Caller {
    pub(super) fn problem(&self, facts: &Facts) -> Option<String> {
        let keys = [self.passes_on, !self.inside.is_empty(), self.never.is_some()];
        if keys.into_iter().filter(|has| *has).count() != 1 {
            return Some("a caller has one of passes-on, inside and never".into());
        }
        if facts.sites.iter().any(|s| s.function == self.function && may_look_up(s.role)) {
            return Some("is a row of sites.toml already".into());
        }
        let is_operation =
            |name: &str| facts.sites.iter().any(|s| s.role == Role::Operation && s.function == name);
        if let Some(name) = self.inside.iter().find(|name| !is_operation(name)) {
            return Some(format!("no operation '{name}'"));
        }
        self.source.is_empty().then(|| "a row cites its source".into())
    }
}

/// Whether lookups of functions with rows of this role are accounted for: they are inside an operation, or are lookups themselves.
fn may_look_up(role: Role) -> bool {
    matches!(role, Role::Operation | Role::Callback | Role::Walk | Role::Lookup | Role::Share)
}

impl Facts {
    /// Functions whose callers all have to be known: those that look up, the one that shares, and those that pass on what they
    /// looked up.
    #[must_use]
    pub fn callees(&self) -> BTreeSet<&str> {
        let looks_up = |s: &&Site| matches!(s.role, Role::Lookup | Role::Share);
        let rows = self.sites.iter().filter(looks_up).map(|s| s.function.as_str());
        rows.chain(self.callers.iter().filter(|c| c.passes_on).map(|c| c.function.as_str())).collect()
    }

    /// What is known of a function that calls a lookup function.
    #[must_use]
    pub fn caller(&self, function: &str) -> Known<'_> {
        if self.sites.iter().any(|s| s.function == function && may_look_up(s.role)) {
            return Known::Row;
        }
        match self.callers.iter().find(|c| c.function == function) {
            Some(row) if row.passes_on => Known::Row,
            Some(row) if row.never.is_some() => Known::Never,
            Some(row) => Known::Inside(&row.inside),
            None => Known::Unknown,
        }
    }
}
