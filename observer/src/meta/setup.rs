//! Wire form of the engine's setup.
//!
//! Decides how roles, classes, modes and grades are spelled in a recording: by name, as everywhere else. A name of a later
//! version is an error, because an engine that lacks a rule must not judge by the rest.

use observer_engine::{
    event::{Class, Mode, SiteId},
    lock_class::LockClass,
    setup as engine,
};
use serde::{Deserialize, Deserializer, Serialize};

/// Wire form of [`engine::Setup`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    pub sites: Vec<Site>,
    pub exclusions: Vec<Exclusion>,
    pub orders: Vec<DocumentedOrder>,
    pub coverage: Vec<Coverage>,
}

/// Wire form of [`engine::Site`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    pub id: u16,
    pub function: String,
    pub role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_lookup_until: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vma_locked: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last_user: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folio_taken: Option<FolioTaken>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "classes_or_all")]
    pub try_then_block: Vec<String>,
}

/// Names of classes. Older versions wrote a boolean instead: `true` for all classes, `false` for an empty list.
fn classes_or_all<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Classes {
        All(bool),
        These(Vec<String>),
    }
    Ok(match Classes::deserialize(deserializer)? {
        Classes::All(true) => names(&Class::ALL),
        Classes::All(false) => Vec::new(),
        Classes::These(names) => names,
    })
}

/// Wire form of [`engine::FolioTaken`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolioTaken {
    pub after: Vec<String>,
    pub first: bool,
    pub blocks: bool,
}

/// Wire form of [`engine::Exclusion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclusion {
    pub class: String,
    pub modes: Vec<String>,
    pub except_unlink_sites: Vec<String>,
}

/// Wire form of [`engine::DocumentedOrder`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentedOrder {
    pub source: String,
    pub outer_to_inner: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<OrderException>,
}

/// Wire form of [`engine::OrderException`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderException {
    pub from: String,
    pub to: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<String>,
    pub reason: String,
    pub source: String,
}

/// Wire form of [`engine::Coverage`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    pub role: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub part: String,
    pub grade: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// A name that this version does not know.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{what} {name:?} is not known to this version")]
pub struct Unknown {
    pub what: &'static str,
    pub name: String,
}

fn class(name: &str) -> Result<Class, Unknown> {
    let found = Class::ALL.into_iter().find(|c| c.name() == name);
    found.ok_or_else(|| Unknown { what: "lock class", name: name.to_owned() })
}

fn classes(names: &[String]) -> Result<Vec<Class>, Unknown> {
    names.iter().map(|name| class(name)).collect()
}

fn lock_class(name: &str) -> Result<LockClass, Unknown> {
    LockClass::from_name(name).ok_or_else(|| Unknown { what: "lock class", name: name.to_owned() })
}

fn mode(name: &str) -> Result<Mode, Unknown> {
    let found = [Mode::Read, Mode::Write, Mode::Exclusive].into_iter().find(|m| m.name() == name);
    found.ok_or_else(|| Unknown { what: "lock mode", name: name.to_owned() })
}

fn role(name: &str) -> Result<engine::Role, Unknown> {
    engine::Role::from_name(name).ok_or_else(|| Unknown { what: "role", name: name.to_owned() })
}

fn grade(name: &str) -> Result<engine::Grade, Unknown> {
    engine::Grade::from_name(name).ok_or_else(|| Unknown { what: "grade", name: name.to_owned() })
}

fn names(classes: &[Class]) -> Vec<String> {
    classes.iter().map(|c| c.name().to_owned()).collect()
}

impl From<&engine::Setup> for Setup {
    fn from(s: &engine::Setup) -> Setup {
        let site = |s: &engine::Site| Site {
            id: s.id.0,
            function: s.function.clone(),
            role: s.role.name().to_owned(),
            foreign_lookup_until: s.foreign_lookup_until.map(|c| c.name().to_owned()),
            vma_locked: s.vma_locked,
            last_user: s.last_user,
            folio_taken: s.folio_taken.as_ref().map(|t| FolioTaken {
                after: names(&t.after),
                first: t.first,
                blocks: t.blocks,
            }),
            late: s.late,
            try_then_block: names(&s.try_then_block),
        };
        let exclusion = |e: &engine::Exclusion| Exclusion {
            class: e.class.name().to_owned(),
            modes: e.modes.iter().map(|m| m.name().to_owned()).collect(),
            except_unlink_sites: e.except_unlink_sites.clone(),
        };
        let order = |o: &engine::DocumentedOrder| DocumentedOrder {
            source: o.source.clone(),
            outer_to_inner: names(&o.outer_to_inner),
            exceptions: o.exceptions.iter().map(OrderException::from).collect(),
        };
        Setup {
            sites: s.sites.iter().map(site).collect(),
            exclusions: s.exclusions.iter().map(exclusion).collect(),
            orders: s.orders.iter().map(order).collect(),
            coverage: s.coverage.iter().map(Coverage::from).collect(),
        }
    }
}

impl From<&engine::OrderException> for OrderException {
    fn from(e: &engine::OrderException) -> OrderException {
        OrderException {
            from: e.from.name().to_owned(),
            to: e.to.name().to_owned(),
            at: e.at.clone(),
            reason: e.reason.clone(),
            source: e.source.clone(),
        }
    }
}

impl TryFrom<&OrderException> for engine::OrderException {
    type Error = Unknown;

    fn try_from(e: &OrderException) -> Result<engine::OrderException, Unknown> {
        Ok(engine::OrderException {
            from: lock_class(&e.from)?,
            to: lock_class(&e.to)?,
            at: e.at.clone(),
            reason: e.reason.clone(),
            source: e.source.clone(),
        })
    }
}

impl From<&engine::Coverage> for Coverage {
    fn from(c: &engine::Coverage) -> Coverage {
        Coverage {
            role: c.role.name().to_owned(),
            part: c.part.clone(),
            grade: c.grade.name().to_owned(),
            reason: c.reason.clone(),
        }
    }
}

fn folio_taken(t: &FolioTaken) -> Result<engine::FolioTaken, Unknown> {
    let after = t.after.iter().map(|c| class(c)).collect::<Result<_, _>>()?;
    Ok(engine::FolioTaken { after, first: t.first, blocks: t.blocks })
}

impl TryFrom<&Setup> for engine::Setup {
    type Error = Unknown;

    fn try_from(s: &Setup) -> Result<engine::Setup, Unknown> {
        let site = |s: &Site| {
            Ok(engine::Site {
                id: SiteId(s.id),
                function: s.function.clone(),
                role: role(&s.role)?,
                foreign_lookup_until: s.foreign_lookup_until.as_deref().map(class).transpose()?,
                vma_locked: s.vma_locked,
                last_user: s.last_user,
                folio_taken: s.folio_taken.as_ref().map(folio_taken).transpose()?,
                late: s.late,
                try_then_block: classes(&s.try_then_block)?,
            })
        };
        let exclusion = |e: &Exclusion| {
            Ok(engine::Exclusion {
                class: class(&e.class)?,
                modes: e.modes.iter().map(|m| mode(m)).collect::<Result<_, _>>()?,
                except_unlink_sites: e.except_unlink_sites.clone(),
            })
        };
        let order = |o: &DocumentedOrder| {
            Ok(engine::DocumentedOrder {
                source: o.source.clone(),
                outer_to_inner: classes(&o.outer_to_inner)?,
                exceptions: o.exceptions.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            })
        };
        let coverage = |c: &Coverage| {
            Ok(engine::Coverage {
                role: role(&c.role)?,
                part: c.part.clone(),
                grade: grade(&c.grade)?,
                reason: c.reason.clone(),
            })
        };
        Ok(engine::Setup {
            sites: s.sites.iter().map(site).collect::<Result<_, _>>()?,
            exclusions: s.exclusions.iter().map(exclusion).collect::<Result<_, _>>()?,
            orders: s.orders.iter().map(order).collect::<Result<_, _>>()?,
            coverage: s.coverage.iter().map(coverage).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_survives_a_round_trip() {
        let setup = engine::Setup {
            sites: vec![engine::Site {
                id: SiteId(7),
                function: "huge_pmd_share".into(),
                role: engine::Role::Operation,
                foreign_lookup_until: Some(Class::IMmap),
                vma_locked: true,
                last_user: true,
                folio_taken: Some(engine::FolioTaken {
                    after: vec![Class::FaultMutex],
                    first: true,
                    blocks: true,
                }),
                late: true,
                try_then_block: vec![Class::IMmap, Class::MmapLock],
            }],
            exclusions: vec![engine::Exclusion {
                class: Class::VmaLock,
                modes: vec![Mode::Read, Mode::Write],
                except_unlink_sites: vec!["hugetlb_unshare_pmds".into()],
            }],
            orders: vec![engine::DocumentedOrder {
                source: "mm/rmap.c".into(),
                outer_to_inner: vec![Class::FaultMutex, Class::VmaLock, Class::Folio],
                exceptions: vec![engine::OrderException {
                    from: LockClass::FolioAnon,
                    to: LockClass::FaultMutex,
                    at: vec!["hugetlb_wp".into()],
                    reason: "r".into(),
                    source: "s".into(),
                }],
            }],
            coverage: engine::Grade::ALL
                .into_iter()
                .zip(engine::Role::ALL)
                .map(|(grade, role)| engine::Coverage { role, part: "p".into(), grade, reason: "r".into() })
                .collect(),
        };
        let wire = Setup::from(&setup);
        let text = serde_json::to_string(&wire).unwrap();
        let back: Setup = serde_json::from_str(&text).unwrap();
        assert_eq!(engine::Setup::try_from(&back), Ok(setup));
    }

    #[test]
    fn a_site_of_an_older_version_is_read() {
        let site = |mark: &str| {
            let text = format!(r#"{{"id": 1, "function": "f", "role": "lock"{mark}}}"#);
            serde_json::from_str::<Site>(&text).unwrap().try_then_block
        };
        assert_eq!(site(""), Vec::<String>::new());
        assert_eq!(site(r#", "try_then_block": false"#), Vec::<String>::new());
        assert_eq!(site(r#", "try_then_block": true"#), names(&Class::ALL));
        assert_eq!(site(r#", "try_then_block": ["ptl"]"#), ["ptl"]);
    }

    #[test]
    fn a_class_of_a_later_version_is_refused_by_name() {
        let orders = vec![DocumentedOrder {
            source: String::new(),
            outer_to_inner: vec!["rcu".into()],
            exceptions: Vec::new(),
        }];
        let err = engine::Setup::try_from(&Setup { orders, ..Setup::default() }).unwrap_err();
        assert_eq!(err.to_string(), "lock class \"rcu\" is not known to this version");
    }
}
