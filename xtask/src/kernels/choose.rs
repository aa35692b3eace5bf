//! Chooses among the kernels of an archive. Pure; `offers` are in the order of the suites.

use std::cmp::Ordering;

use super::{Offer, Row, Wanted, compare};

/// Number of kernels before and after a missing one that an error names.
const NEAR: usize = 3;

/// A kernel of a suite; more than one package may contain it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub suite: String,
    pub version: String,
    pub flavour: String,
}

impl Choice {
    fn of(offer: &Offer) -> Choice {
        Choice {
            suite: offer.suite.clone(),
            version: offer.package.version.clone(),
            flavour: offer.flavour.clone(),
        }
    }

    /// Returns the packages to search. The signed and the unsigned image contain the same kernel; the shorter name is signed.
    pub fn packages<'a>(&self, offers: &'a [Offer]) -> Vec<&'a Offer> {
        let mut same: Vec<&Offer> = offers.iter().filter(|offer| Choice::of(offer) == *self).collect();
        same.sort_by_key(|offer| offer.package.name.len());
        same
    }
}

/// Returns the row's kernel from its own suites. The first suite with the series wins. Within it, the known version is
/// preferred, then the nearest after it, then the nearest before it; if no version is known, the newest. An exact row accepts
/// only the known version.
pub fn in_series(row: &Row, offers: &[Offer]) -> Option<Choice> {
    let may_be = |offer: &Offer| !row.exact || row.is_known(&offer.package.version);
    let is_meant = |offer: &&Offer| offer.flavour == row.flavour && row.has(&offer.release) && may_be(offer);
    let suite = &offers.iter().find(is_meant)?.suite;
    let offers = offers.iter().filter(is_meant).filter(|offer| offer.suite == *suite);
    match &row.known {
        Some(known) => closest(known, offers),
        None => newest(offers),
    }
}

/// Returns a substitute for a row whose series has left its suites: the nearest kernel after it with the same flavour,
/// otherwise the nearest before it.
pub fn nearest(row: &Row, offers: &[Offer]) -> Option<Choice> {
    let known = row.known.as_ref().unwrap_or(&row.name);
    closest(known, offers.iter().filter(|offer| offer.flavour == row.flavour))
}

/// Returns the kernel that a user named: the exact one, otherwise the newest with this prefix.
pub fn wanted(wanted: &Wanted, offers: &[Offer]) -> Option<Choice> {
    newest(offers.iter().filter(|offer| wanted.is_exactly(offer)))
        .or_else(|| newest(offers.iter().filter(|offer| wanted.begins(offer))))
}

/// Lists alternatives near a kernel that does not exist: releases of the same flavour, otherwise the flavours.
pub fn near(wanted: &Wanted, offers: &[Offer]) -> String {
    let mut same: Vec<&Offer> = offers.iter().filter(|offer| offer.flavour == wanted.flavour).collect();
    if same.is_empty() {
        let mut flavours: Vec<&str> = offers.iter().map(|offer| offer.flavour.as_str()).collect();
        flavours.sort_unstable();
        flavours.dedup();
        return format!("one of the flavours {}", flavours.join(", "));
    }
    same.sort_by(|a, b| compare(&a.package.version, &b.package.version));
    same.dedup_by(|a, b| a.release == b.release);
    let at = same.partition_point(|offer| is_before(&offer.package.version, &wanted.needle));
    let near = &same[at.saturating_sub(NEAR)..same.len().min(at + NEAR)];
    let near: Vec<&str> = near.iter().map(|offer| offer.release.as_str()).collect();
    format!("one near it: {}", near.join(", "))
}

/// Returns true if `version` sorts before `known`. "6.12.95" sorts before every package version of 6.12.95, after those of
/// 6.12.94.
fn is_before(version: &str, known: &str) -> bool {
    compare(version, known) == Ordering::Less
}

fn closest<'a>(known: &str, offers: impl Iterator<Item = &'a Offer>) -> Option<Choice> {
    let (before, after): (Vec<&Offer>, Vec<&Offer>) =
        offers.partition(|offer| is_before(&offer.package.version, known));
    // Among equals, min_by takes the first, which is from the first suite.
    let nearest = after.into_iter().min_by(|a, b| compare(&a.package.version, &b.package.version));
    nearest.map(Choice::of).or_else(|| newest(before.into_iter()))
}

fn newest<'a>(offers: impl Iterator<Item = &'a Offer>) -> Option<Choice> {
    let newer = |best: &'a Offer, offer: &'a Offer| {
        if is_before(&best.package.version, &offer.package.version) { offer } else { best }
    };
    offers.reduce(newer).map(Choice::of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Package, offer, tests::row};

    /// Suites with package names and versions of an archive.
    fn archive() -> Vec<Offer> {
        [
            ("bullseye", "image-5.10.0-30-cloud-amd64", "5.10.218-1"),
            ("bullseye", "image-5.10.0-32-cloud-amd64", "5.10.223-1"),
            ("bookworm", "image-6.1.0-47-cloud-amd64", "6.1.170-3"),
            ("bookworm", "image-6.1.0-47-rt-amd64", "6.1.170-3"),
            ("bookworm", "image-6.1.0-50-cloud-amd64-unsigned", "6.1.176-1"),
            ("bookworm", "image-6.1.0-50-cloud-amd64", "6.1.176-1"),
            ("bookworm", "image-6.1.0-50-rt-amd64", "6.1.176-1"),
            ("bookworm-backports", "image-6.12.90+deb12-cloud-amd64", "6.12.90-1~bpo12+1"),
            ("bookworm-backports", "image-6.12.90+deb12.1-cloud-amd64", "6.12.90-2~bpo12+1"),
            ("bookworm-backports", "image-6.12.95+deb12-cloud-amd64", "6.12.95-1~bpo12+1"),
            ("trixie", "image-6.12.107+deb13-cloud-amd64", "6.12.107-1"),
            ("trixie-backports", "image-6.16.3+deb13-amd64", "6.16.3-1~bpo13+1"),
            ("trixie-backports", "image-6.16.12+deb13-amd64", "6.16.12-1~bpo13+1"),
            ("trixie-backports", "image-6.16.12+deb13-cloud-amd64", "6.16.12-1~bpo13+1"),
            ("trixie-backports", "image-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1"),
            ("trixie-backports", "binary-7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1"),
        ]
        .map(|(suite, name, version)| {
            let package = Package { name: format!("linux-{name}"), version: version.into() };
            offer(suite, &package).unwrap()
        })
        .into()
    }

    fn version(choice: Option<Choice>) -> String {
        choice.map_or("none".into(), |choice| choice.version)
    }

    #[test]
    fn a_row_takes_the_known_version_else_its_nearest() {
        for (name, known, expected) in [
            ("6.12", Some("6.12.95"), "6.12.95-1~bpo12+1"),
            ("6.12", Some("6.12.94"), "6.12.95-1~bpo12+1"),
            // The first suite with the series wins, though the second one is nearer.
            ("6.12", Some("6.12.107"), "6.12.95-1~bpo12+1"),
            ("6.12", None, "6.12.95-1~bpo12+1"),
            ("5.10", Some("5.10.100"), "5.10.218-1"),
            ("6.1", Some("6.1.176"), "6.1.176-1"),
            ("6.15", Some("6.15.1"), "none"),
        ] {
            assert_eq!(version(in_series(&row(name, known), &archive())), expected, "{name} {known:?}");
        }
        assert_eq!(in_series(&row("6.12", None), &[]), None);
        for (name, known, expected) in [
            ("6.12", "6.12.95", "6.12.95-1~bpo12+1"),
            ("6.12", "6.12.94", "none"),
            ("6.12", "6.12.9", "none"),
            ("6.12.90", "6.12.90", "6.12.90-1~bpo12+1"),
        ] {
            let exact = Row { exact: true, ..row(name, Some(known)) };
            assert_eq!(version(in_series(&exact, &archive())), expected, "{known} exactly");
        }
    }

    #[test]
    fn a_removed_series_has_a_successor_or_else_a_predecessor() {
        for (name, known, expected) in [
            ("5.4", Some("5.4.3"), "5.10.218-1"),
            ("5.15", Some("5.15.9"), "6.1.170-3"),
            ("6.15", None, "6.16.12-1~bpo13+1"),
            ("6.18", Some("6.18.15"), "7.3.4-1~bpo13+1"),
            ("7.4", Some("7.4.1"), "7.3.4-1~bpo13+1"),
        ] {
            let found = nearest(&row(name, known), &archive());
            assert_eq!(found.as_ref().map(|choice| choice.flavour.as_str()), Some("cloud-amd64"));
            assert_eq!(version(found), expected, "{name} {known:?}");
        }
        let rt = Row { flavour: "rt-amd64".into(), ..row("6.18", None) };
        assert_eq!(version(nearest(&rt, &archive())), "6.1.176-1", "of the same flavour");
        assert_eq!(nearest(&Row { flavour: "alpha".into(), ..rt }, &archive()), None);
    }

    #[test]
    fn a_named_kernel_is_the_exact_one_or_else_the_newest_with_that_prefix() {
        for (text, expected) in [
            ("6.12.90+deb12", "6.12.90-1~bpo12+1"),
            ("6.12.90", "6.12.90-2~bpo12+1"),
            ("6.12", "6.12.107-1"),
            ("6.1", "6.1.176-1"),
            ("6.1.0-47", "6.1.170-3"),
            ("6.1.170-3", "6.1.170-3"),
            ("6.1.0-47-rt-amd64", "6.1.170-3"),
            ("linux-image-6.16.3+deb13-amd64", "6.16.3-1~bpo13+1"),
            ("6.16-amd64", "6.16.12-1~bpo13+1"),
            ("6.16.3", "none"),
            ("6.1.0-4", "none"),
            ("7.3.4-1~bpo13+1", "7.3.4-1~bpo13+1"),
        ] {
            let found = wanted(&Wanted::parse(text, "cloud-amd64").unwrap(), &archive());
            assert_eq!(version(found), expected, "{text}");
        }
    }

    #[test]
    fn a_missing_kernel_has_neighbours() {
        let near = |text: &str| near(&Wanted::parse(text, "cloud-amd64").unwrap(), &archive());
        assert_eq!(
            near("6.12.99"),
            "one near it: 6.12.90+deb12, 6.12.90+deb12.1, 6.12.95+deb12, 6.12.107+deb13, 6.16.12+deb13, 7.3.4+deb13"
        );
        assert_eq!(near("4.19"), "one near it: 5.10.0-30, 5.10.0-32, 6.1.0-47");
        assert_eq!(near("6.1.0-47-s390x"), "one of the flavours amd64, cloud-amd64, rt-amd64");
    }

    #[test]
    fn every_package_of_a_kernel_is_searched_and_the_signed_one_first() {
        let offers = archive();
        let names = |choice: Choice| -> Vec<String> {
            choice.packages(&offers).iter().map(|offer| offer.package.name.clone()).collect()
        };
        let six = in_series(&row("6.1", None), &offers).unwrap();
        assert_eq!(
            names(six),
            ["linux-image-6.1.0-50-cloud-amd64", "linux-image-6.1.0-50-cloud-amd64-unsigned"]
        );
        let seven = in_series(&row("7.3", None), &offers).unwrap();
        assert_eq!(names(seven).len(), 2);
    }
}
