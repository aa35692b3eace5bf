//! A relock: a task requested, in a way that can block, a lock that it holds.
//!
//! Reported for every pair of modes that exclude each other; for read after read only if another task was seen that can queue
//! for writing between the two. `confirmed` if the task was seen waiting. Merged by site, class and modes.
//!
//! How to word it: one task, twice the same lock. Say how it holds the lock and how it requested it again.

use std::borrow::Cow;

use super::{About, Hold, Kind, Party, Subject, mode_name};
use crate::{event::Mode, lock_class::LockClass, setup::Role};

pub(super) const ABOUT: About = About {
    name: "relock",
    is_of_tables: false,
    needs: &[Role::Lock, Role::FolioHeld, Role::FolioRelease],
    fields: &["class", "held", "asked", "site"],
};

/// A task requested a lock that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relock {
    pub held: Hold,
    pub requested_mode: Option<Mode>,
    pub party: Party,
}

impl Subject for Relock {
    fn kind(&self) -> Kind {
        Kind::Relock
    }

    fn parties(&self) -> Vec<(Cow<'static, str>, &Party)> {
        vec![("side".into(), &self.party)]
    }

    fn field(&self, key: &str) -> Option<String> {
        Some(match key {
            "class" => self.held.class.name().to_owned(),
            "held" => mode_name(self.held.mode),
            "asked" => mode_name(self.requested_mode),
            "site" => self.party.site.to_string(),
            _ => return None,
        })
    }

    fn closing(&self) -> Vec<(LockClass, LockClass)> {
        vec![(self.held.class, self.held.class)]
    }
}
