//! The kernels under test: the rows of `kernels.toml`, and which of an archive's packages a row means. Pure; downloading
//! is `setup::kernel`'s.

use std::{cmp::Ordering, collections::HashSet};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub name: String,
    pub flavour: String,
    pub suites: Vec<String>,
    /// Upstream version that the facts were read on.
    pub known: Option<String>,
    #[serde(default)]
    pub test: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    kernel: Vec<Row>,
}

/// The rows of the project's own table.
pub fn rows() -> Result<Vec<Row>> {
    parse(include_str!("../kernels.toml"))
}

pub fn row(name: &str) -> Result<Row> {
    let rows = rows()?;
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let names = names.join(", ");
    match rows.iter().find(|row| row.name == name) {
        Some(row) => Ok(row.clone()),
        None => bail!("no kernel {name:?} in xtask/kernels.toml\ntry: one of {names}"),
    }
}

fn parse(text: &str) -> Result<Vec<Row>> {
    let table: Table = toml::from_str(text).context("cannot read xtask/kernels.toml")?;
    let mut names = HashSet::new();
    for row in &table.kernel {
        if row.suites.is_empty() {
            bail!("xtask/kernels.toml: kernel {} names no suite", row.name);
        }
        if !names.insert(&row.name) {
            bail!("xtask/kernels.toml: kernel {} is there twice", row.name);
        }
    }
    Ok(table.kernel)
}

/// A package of an archive that may hold the row's kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
}

impl Row {
    /// Up to 6.18 the image is in `linux-image-*`; from 6.19 on that is an empty shell around `linux-binary-*`. Both
    /// are candidates, and the file inside decides.
    pub fn is_candidate(&self, package: &str) -> bool {
        ["linux-image-", "linux-binary-"].iter().any(|prefix| {
            package
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_prefix(&self.name))
                .and_then(|rest| rest.strip_prefix(['.', '-', '+']))
                .map(|rest| rest.strip_suffix("-unsigned").unwrap_or(rest))
                .is_some_and(|rest| rest.ends_with(&format!("-{}", self.flavour)))
        })
    }

    /// The version to take out of what an archive has: the known one, else the nearest after it, else the nearest before
    /// it. Without a known one the newest.
    pub fn choose<'a>(&self, versions: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        let mut versions: Vec<&str> = versions.into_iter().collect();
        versions.sort_by(|a, b| compare(a, b));
        let Some(known) = &self.known else { return versions.last().copied() };
        // "6.12.95" sorts before every package version of 6.12.95, and after those of 6.12.94.
        let after = versions.partition_point(|version| compare(version, known) == Ordering::Less);
        versions.get(after).or_else(|| versions.last()).copied()
    }

    pub fn is_known(&self, version: &str) -> bool {
        let upstream = version.split_once('-').map_or(version, |(upstream, _)| upstream);
        self.known.as_deref().is_none_or(|known| known == upstream)
    }
}

/// Order of Debian package versions without an epoch: parts that are not numbers and parts that are, in turn; `~` comes
/// before everything, the end included.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() || !b.is_empty() {
        let (text_a, rest_a) = split_while(a, |byte| !byte.is_ascii_digit());
        let (text_b, rest_b) = split_while(b, |byte| !byte.is_ascii_digit());
        let weights = |text: &str| {
            let mut weights: Vec<i32> = text.bytes().map(weight).collect();
            weights.push(0);
            weights
        };
        let order = weights(text_a).cmp(&weights(text_b));
        if order.is_ne() {
            return order;
        }
        let (number_a, rest_a) = split_while(rest_a, |byte| byte.is_ascii_digit());
        let (number_b, rest_b) = split_while(rest_b, |byte| byte.is_ascii_digit());
        let (number_a, number_b) = (number_a.trim_start_matches('0'), number_b.trim_start_matches('0'));
        let order = number_a.len().cmp(&number_b.len()).then(number_a.cmp(number_b));
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

fn weight(byte: u8) -> i32 {
    match byte {
        b'~' => -1,
        byte if byte.is_ascii_alphabetic() => i32::from(byte),
        byte => i32::from(byte) + 256,
    }
}

fn split_while(text: &str, keep: impl Fn(u8) -> bool) -> (&str, &str) {
    text.split_at(text.bytes().position(|byte| !keep(byte)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, known: Option<&str>) -> Row {
        Row {
            name: name.into(),
            flavour: "cloud-amd64".into(),
            suites: vec!["trixie".into()],
            known: known.map(str::to_owned),
            test: false,
        }
    }

    #[test]
    fn the_projects_own_table_reads() {
        let rows = rows().unwrap();
        assert!(rows.iter().any(|row| row.name == "6.12" && row.test));
    }

    #[test]
    fn a_bad_table_is_refused() {
        let good = "[[kernel]]\nname='6.1'\nflavour='cloud-amd64'\nsuites=['bookworm']\n";
        assert_eq!(parse(good).unwrap().len(), 1);
        assert!(parse(&good.repeat(2)).unwrap_err().to_string().contains("twice"));
        assert!(parse(&good.replace("'bookworm'", "")).unwrap_err().to_string().contains("no suite"));
        assert!(parse(&format!("{good}sweets=1\n")).is_err());
    }

    #[test]
    fn candidates_are_told_from_neighbours() {
        let six = row("6.12", None);
        for yes in [
            "linux-image-6.12.95+deb12-cloud-amd64",
            "linux-image-6.12.95+deb12-cloud-amd64-unsigned",
            "linux-binary-6.12.95+deb12-cloud-amd64",
        ] {
            assert!(six.is_candidate(yes), "{yes}");
        }
        for no in [
            "linux-image-6.12.95+deb12-cloud-amd64-dbg",
            "linux-image-6.12.95+deb12-amd64",
            "linux-image-6.1.0-40-cloud-amd64",
            "linux-headers-6.12.95+deb12-cloud-amd64",
            "linux-image-cloud-amd64",
        ] {
            assert!(!six.is_candidate(no), "{no}");
        }
        assert!(row("6.1", None).is_candidate("linux-image-6.1.0-40-cloud-amd64"));
        assert!(!row("6.1", None).is_candidate("linux-image-6.12.95+deb12-cloud-amd64"));
    }

    #[test]
    fn the_known_version_is_taken_else_its_nearest() {
        let have = ["6.12.43-1~bpo12+1", "6.12.95-1~bpo12+1", "6.12.94-1~bpo12+1", "6.12.107-1"];
        let choose = |known: Option<&str>| row("6.12", known).choose(have);
        assert_eq!(choose(Some("6.12.95")), Some("6.12.95-1~bpo12+1"));
        assert_eq!(choose(Some("6.12.90")), Some("6.12.94-1~bpo12+1"));
        assert_eq!(choose(Some("6.12.200")), Some("6.12.107-1"));
        assert_eq!(choose(None), Some("6.12.107-1"));
        assert_eq!(row("6.12", None).choose([]), None);
        assert!(row("6.12", Some("6.12.95")).is_known("6.12.95-1~bpo12+1"));
        assert!(!row("6.12", Some("6.12.9")).is_known("6.12.95-1~bpo12+1"));
    }

    #[test]
    fn versions_order_as_the_archive_orders_them() {
        let ordered =
            ["6.1~rc1-1", "6.1-1~bpo1", "6.1-1", "6.1-1+b1", "6.1-1.1", "6.1.9-1", "6.1.010-1", "6.1.11-1"];
        for (index, a) in ordered.iter().enumerate() {
            for (other, b) in ordered.iter().enumerate() {
                assert_eq!(compare(a, b), index.cmp(&other), "{a} against {b}");
            }
        }
    }
}
