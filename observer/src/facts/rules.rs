//! Rows of `rules.toml`: excluders of unlinks, documented lock orders, lock classes, known holes.

use observer_engine::{lock_class::LockClass, setup::Role};
use serde::Deserialize;

use super::{Mode, role};

/// A lock class and modes that exclude unlinks, with exceptions.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    pub class: String,
    pub modes: Vec<Mode>,
    pub except: Vec<String>,
    pub source: String,
}

/// A documented lock order.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Order {
    /// Field that a kernel must have for this order to apply.
    pub when: Option<String>,
    /// Field that a kernel must lack for this order to apply.
    pub when_not: Option<String>,
    pub source: String,
    pub outer_to_inner: Vec<String>,
    /// Known deviations of the code from this order.
    #[serde(default)]
    pub exceptions: Vec<OrderException>,
}

/// A lock that is requested against an order, for a known reason.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderException {
    /// Lock classes as reports name them: page-cache and anonymous folios are two.
    pub from: String,
    pub to: String,
    /// Operations in which it is requested; empty means everywhere.
    #[serde(default)]
    pub at: Vec<String>,
    /// Reason why it is not a deadlock.
    pub reason: String,
    pub source: String,
}

impl Order {
    /// Returns a problem of its exceptions, if any.
    pub(super) fn problem(&self) -> Option<String> {
        let place = |class: LockClass| self.outer_to_inner.iter().position(|c| c == class.wire().name());
        self.exceptions.iter().find_map(|e| {
            let OrderException { from, to, .. } = e;
            let class = |name: &str| LockClass::from_name(name).ok_or(format!("no lock class '{name}'"));
            match (class(from), class(to)) {
                (Err(what), _) | (_, Err(what)) => Some(what),
                _ if e.reason.is_empty() || e.source.is_empty() => {
                    Some(format!("the exception {from} > {to} says why, and cites its source"))
                }
                (Ok(held), Ok(asked)) => {
                    let is_against = place(held).zip(place(asked)).is_some_and(|(held, asked)| held > asked);
                    (!is_against).then(|| format!("{from} > {to} is not against it"))
                }
            }
        })
    }
}

/// A lock class, and how its instances are found.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    pub name: String,
    pub kind: LockKind,
    /// Fields and variables by which the address of an instance is found.
    pub known: Vec<String>,
    /// Function that ends an instance.
    pub ends: Option<String>,
    /// Reason why a kernel may lack such a lock.
    pub absent: Option<String>,
    pub source: String,
}

/// Kind of lock, which determines the functions that acquire and release it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum LockKind {
    Rwsem,
    Mutex,
}

impl LockKind {
    /// Returns true if a lock row acquires or releases locks of this kind.
    pub fn has(self, mode: Option<Mode>) -> bool {
        mode.is_some_and(|m| (m == Mode::Exclusive) == (self == LockKind::Mutex))
    }
}

/// A hole in coverage that no site can close.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hole {
    #[serde(deserialize_with = "role")]
    pub role: Role,
    #[serde(default)]
    pub part: String,
    pub grade: Grade,
    /// Applies only if no row of the role serves this name, and then instead of "blind".
    pub unserved: Option<String>,
    pub reason: String,
}

/// Grades of coverage as facts spell them.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    Bounded,
    Inferred,
    Blind,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RulesFile {
    pub exclusion: Vec<Exclusion>,
    pub order: Vec<Order>,
    pub class: Vec<Class>,
    pub hole: Vec<Hole>,
}
