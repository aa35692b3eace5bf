//! The kernels that guests boot: the rows of `kernels.toml`, and the names that a user may give instead of a row. Pure:
//! `choose` selects among an archive's packages, and `setup::kernel` downloads.

mod choose;
mod package;
mod version;

use std::collections::HashSet;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

pub use self::{
    choose::{Choice, in_series, near, nearest, wanted},
    package::{Offer, Package, Wanted, offer},
    version::compare,
};

/// Flavour of a version given without one: these images are small and boot fastest.
pub const FLAVOUR: &str = "cloud-amd64";

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub name: String,
    pub flavour: String,
    pub suites: Vec<String>,
    /// Upstream version in which the facts were read.
    pub known: Option<String>,
    /// Accept no other version.
    #[serde(default)]
    pub exact: bool,
    #[serde(default)]
    pub test: bool,
    #[serde(default)]
    pub tests: Tests,
}

/// Selects the guest tests that run on a kernel.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Tests {
    All,
    #[default]
    Matrix,
    /// The lock-order tests, without the matrix.
    Order,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    suites: Vec<String>,
    kernel: Vec<Row>,
}

/// A kernel to boot, not yet looked up in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    Row(Row),
    /// A version of Debian's kernel packages.
    Version(Wanted),
}

impl Selection {
    /// Returns its name in output: the row's name, or the user's text.
    pub fn name(&self) -> &str {
        match self {
            Selection::Row(row) => &row.name,
            Selection::Version(wanted) => &wanted.name,
        }
    }

    pub fn row(&self) -> Option<&Row> {
        match self {
            Selection::Row(row) => Some(row),
            Selection::Version(_) => None,
        }
    }
}

/// Returns the rows of the project's table.
pub fn rows() -> Result<Vec<Row>> {
    Ok(table()?.kernel)
}

/// Returns every suite to search for a kernel that no row names.
pub fn suites() -> Result<Vec<String>> {
    Ok(table()?.suites)
}

pub fn row(name: &str) -> Result<Selection> {
    let rows = rows()?;
    match rows.iter().find(|row| row.name == name) {
        Some(row) => Ok(Selection::Row(row.clone())),
        None => bail!("no kernel {name:?} in xtask/kernels.toml\ntry: one of {}", names(&rows)),
    }
}

/// Interprets `--kernel` and `--flavour`: a row, otherwise a version. A row has one flavour; its name with another flavour
/// means the newest kernel of its series.
pub fn select(text: &str, flavour: Option<&str>) -> Result<Selection> {
    select_from(&rows()?, text.trim(), flavour)
}

fn select_from(rows: &[Row], text: &str, flavour: Option<&str>) -> Result<Selection> {
    let is_meant = |row: &&Row| row.name == text && flavour.is_none_or(|flavour| flavour == row.flavour);
    if let Some(row) = rows.iter().find(is_meant) {
        return Ok(Selection::Row(row.clone()));
    }
    match Wanted::parse(text, flavour.unwrap_or(FLAVOUR)) {
        Some(wanted) => Ok(Selection::Version(wanted)),
        None => bail!(
            "{text:?} names no kernel\ntry: a row of xtask/kernels.toml ({}), or a version of Debian's kernel packages \
             such as 6.19.14 or 6.1.0-47-rt-amd64",
            names(rows)
        ),
    }
}

/// Interprets every `--kernel`, without duplicates; with none, returns the rows under test.
pub fn select_all(texts: &[String], flavour: Option<&str>) -> Result<Vec<Selection>> {
    let rows = rows()?;
    if texts.is_empty() {
        let tested = rows.iter().filter(|row| row.test);
        return tested.map(|row| select_from(&rows, &row.name, flavour)).collect();
    }
    let mut selections: Vec<Selection> = Vec::new();
    for text in texts {
        let selection = select_from(&rows, text.trim(), flavour)?;
        if !selections.contains(&selection) {
            selections.push(selection);
        }
    }
    Ok(selections)
}

fn names(rows: &[Row]) -> String {
    rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn table() -> Result<Table> {
    parse(include_str!("../kernels.toml"))
}

fn parse(text: &str) -> Result<Table> {
    let table: Table = toml::from_str(text).context("cannot read xtask/kernels.toml")?;
    let mut names = HashSet::new();
    for row in &table.kernel {
        if row.suites.is_empty() {
            bail!("xtask/kernels.toml: kernel {} names no suite", row.name);
        }
        if !names.insert(&row.name) {
            bail!("xtask/kernels.toml: kernel {} is there twice", row.name);
        }
        if row.exact && row.known.is_none() {
            bail!("xtask/kernels.toml: kernel {} is exact, and no version is known", row.name);
        }
    }
    Ok(table)
}

impl Row {
    /// Returns true if a release or package version belongs to the row's series.
    pub fn has(&self, version: &str) -> bool {
        package::begins_with(version, &self.name)
    }

    pub fn is_known(&self, version: &str) -> bool {
        let upstream = version.split_once('-').map_or(version, |(upstream, _)| upstream);
        self.known.as_deref().is_none_or(|known| known == upstream)
    }

    /// Returns true if the matrix runs on it, and facts, grades and budget are recorded for it.
    pub fn has_matrix(&self) -> bool {
        self.tests != Tests::Order
    }

    /// Returns a notice for the user if this version is not the one that the row names.
    pub fn notice(&self, version: &str) -> Option<String> {
        let Row { name, .. } = self;
        let known = self.known.as_deref().unwrap_or(name);
        if !self.has(version) {
            let side = if compare(version, known).is_gt() { "after" } else { "before" };
            return Some(format!(
                "kernel {name}: no suite has the series any more, {version} is the nearest {side} it"
            ));
        }
        (!self.is_known(version))
            .then(|| format!("kernel {name}: its suites have no {known} any more, taking {version}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn row(name: &str, known: Option<&str>) -> Row {
        Row {
            name: name.into(),
            flavour: "cloud-amd64".into(),
            suites: vec!["trixie".into()],
            known: known.map(str::to_owned),
            exact: false,
            test: false,
            tests: Tests::Matrix,
        }
    }

    #[test]
    fn the_kernel_table_of_the_project_parses() {
        let rows = rows().unwrap();
        assert!(rows.iter().any(|row| row.name == "6.12" && row.test && row.tests == Tests::All));
        let suites = suites().unwrap();
        for suite in rows.iter().flat_map(|row| &row.suites) {
            assert!(suites.contains(suite), "{suite} is not among the suites that are looked through");
        }
    }

    #[test]
    fn a_bad_table_is_refused() {
        let row = "[[kernel]]\nname='6.1'\nflavour='cloud-amd64'\nsuites=['bookworm']\n";
        let good = format!("suites=['bookworm']\n{row}");
        assert_eq!(parse(&good).map(|table| table.kernel.len()).ok(), Some(1));
        let error = |text: String| parse(&text).map(drop).unwrap_err().to_string();
        assert!(error(format!("{good}{row}")).contains("twice"));
        assert!(error(format!("suites=[]\n{}", row.replace("'bookworm'", ""))).contains("no suite"));
        assert!(parse(&format!("{good}sweets=1\n")).is_err());
        assert!(parse(&format!("{good}tests='some'\n")).is_err());
        assert!(error(format!("{good}exact=true\n")).contains("no version is known"));
        assert!(parse(&format!("{good}exact=true\nknown='6.1.2'\n")).is_ok());
        assert!(parse(row).is_err(), "no suites to look through");
    }

    #[test]
    fn a_row_wins_unless_another_flavour_is_requested() {
        let rows = [row("6.1", None), row("6.12", None)];
        let select = |text: &str, flavour| select_from(&rows, text, flavour).unwrap();
        assert_eq!(select("6.1", None), Selection::Row(rows[0].clone()));
        assert_eq!(select("6.12", Some("cloud-amd64")), Selection::Row(rows[1].clone()));
        for (text, flavour, needle, wanted) in [
            ("6.12", Some("rt-amd64"), "6.12", "rt-amd64"),
            ("6.16", None, "6.16", FLAVOUR),
            ("6.1.0-47-rt-amd64", None, "6.1.0-47", "rt-amd64"),
            ("6.1.0-47-rt-amd64", Some("amd64"), "6.1.0-47", "rt-amd64"),
            ("6.12.95", Some("amd64"), "6.12.95", "amd64"),
        ] {
            let Selection::Version(found) = select(text, flavour) else { panic!("{text} is no row") };
            assert_eq!((found.needle.as_str(), found.flavour.as_str()), (needle, wanted), "{text}");
        }
        let error = select_from(&rows, "newest", None).unwrap_err().to_string();
        assert!(error.contains("\"newest\"") && error.contains("\ntry: ") && error.contains("6.1, 6.12"));
    }

    #[test]
    fn a_substitute_for_a_row_has_a_notice() {
        let row = row("6.12", Some("6.12.95"));
        assert_eq!(row.notice("6.12.95-1~bpo12+1"), None);
        assert!(row.notice("6.12.107-1").unwrap().contains("no 6.12.95 any more, taking 6.12.107-1"));
        assert!(row.notice("6.16.3-1~bpo13+1").unwrap().contains("nearest after"));
        assert!(row.notice("6.1.176-1").unwrap().contains("nearest before"));
        assert_eq!(super::tests::row("6.12", None).notice("6.12.3-1"), None);
    }
}
