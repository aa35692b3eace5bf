//! A table's page that was freed while others still use the table.
//!
//! Reported when the page is freed and the kernel's own share count says that the table has other users (`freed`), or only the
//! engine's list of links says so (`possible`). Merged by site and rank.
//!
//! How to word it: one task *freed* the page. Name the share count as the kernel kept it, and the links of the others.

use std::borrow::Cow;

use super::{About, Kind, Party, Subject};
use crate::{
    event::{Addr, Mm, Table},
    setup::Role,
};

pub(super) const ABOUT: About = About {
    name: "freed-shared",
    is_of_tables: true,
    needs: &[Role::Share, Role::Unshare, Role::TableFree],
    fields: &["table", "links", "shared", "site"],
};

/// A table's page was freed while others use the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreedShared {
    pub party: Party,
    pub table: Table,
    pub generation: u32,
    pub mm: Mm,
    /// Share count as the kernel kept it.
    pub count: u32,
    /// Links of others that the engine knows: mm and GiB.
    pub links: Vec<(Mm, Addr)>,
}

impl Subject for FreedShared {
    fn kind(&self) -> Kind {
        Kind::FreedShared
    }

    fn parties(&self) -> Vec<(Cow<'static, str>, &Party)> {
        vec![("by".into(), &self.party)]
    }

    fn field(&self, key: &str) -> Option<String> {
        Some(match key {
            "table" => self.table.to_string(),
            "links" => self.links.len().to_string(),
            "shared" => self.count.to_string(),
            "site" => self.party.site.to_string(),
            _ => return None,
        })
    }

    fn tables(&self) -> Vec<(Table, u32)> {
        vec![(self.table, self.generation)]
    }
}
