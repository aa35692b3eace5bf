//! An edge against a documented order: a lock requested while another was held, which the kernel's source documents as inner.
//!
//! Reported for every blocking request that a documented order contradicts and that no exception of the facts explains. Merged by
//! the two classes and the site.
//!
//! How to word it: the order alone is broken, nothing waits. Name the document, and leave cycles to their own findings.

use std::{borrow::Cow, slice};

use super::{About, Kind, Party, Step, Subject};
use crate::setup::Role;

pub(super) const ABOUT: About = About {
    name: "order",
    is_of_tables: false,
    needs: &[Role::Lock, Role::FolioHeld, Role::FolioRelease],
    fields: &["from", "to", "source"],
};

/// An edge against a documented order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgainstOrder {
    pub step: Step,
    /// Document that states the order.
    pub source: String,
}

impl Subject for AgainstOrder {
    fn kind(&self) -> Kind {
        Kind::AgainstOrder
    }

    fn parties(&self) -> Vec<(Cow<'static, str>, &Party)> {
        vec![("side".into(), &self.step.party)]
    }

    fn field(&self, key: &str) -> Option<String> {
        Some(match key {
            "from" => self.step.from.name().to_owned(),
            "to" => self.step.to.name().to_owned(),
            "source" => self.source.replace(' ', "_"),
            _ => return None,
        })
    }

    fn steps(&self) -> &[Step] {
        slice::from_ref(&self.step)
    }
}
