//! Rows of `callers.toml`: callers of the lookup functions other than operations and callbacks.

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
    /// Operations that contain all its calls.
    #[serde(default)]
    pub inside: Vec<String>,
    /// Reason why it never looks up in a mapping of hugetlbfs.
    pub never: Option<String>,
    /// Measured kernels whose code has it among the callers.
    pub on: On,
    pub source: String,
}

/// Knowledge of the facts about a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<'a> {
    /// It is watched as a row of `sites.toml`, or its own callers count.
    Row,
    /// It runs only inside these operations.
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

/// Returns true if lookups by functions with this role are accounted for: inside an operation, or lookups themselves.
fn may_look_up(role: Role) -> bool {
    matches!(role, Role::Operation | Role::Callback | Role::Walk | Role::Lookup | Role::Share)
}

impl Facts {
    /// Functions whose callers must all be known: those that look up, the one that shares, and those that pass on the result
    /// of a lookup.
    #[must_use]
    pub fn callees(&self) -> BTreeSet<&str> {
        let looks_up = |s: &&Site| matches!(s.role, Role::Lookup | Role::Share);
        let rows = self.sites.iter().filter(looks_up).map(|s| s.function.as_str());
        rows.chain(self.callers.iter().filter(|c| c.passes_on).map(|c| c.function.as_str())).collect()
    }

    /// Looks up a function that calls a lookup function.
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
