//! The names of Debian's kernel packages, and the texts by which a user may name one.
//!
//! A release is the start of `uname -r` ("6.1.0-47", "6.12.95+deb12"), and a flavour is its end ("cloud-amd64"). A package's
//! version differs from both ("6.1.170-3"). Up to 6.18 the image is in `linux-image-*`; from 6.19 on, that is an empty shell
//! around `linux-binary-*`. Both kinds are accepted, and the file inside decides.

use super::FLAVOUR;

const KINDS: [&str; 2] = ["linux-image-", "linux-binary-"];
const UNSIGNED: &str = "unsigned-";

/// A package of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
}

/// A package that may contain a kernel, and its suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub suite: String,
    pub package: Package,
    pub release: String,
    pub flavour: String,
}

/// Interprets a package as a kernel; `None` for others: debug symbols, headers, packages that only depend on others.
pub fn offer(suite: &str, package: &Package) -> Option<Offer> {
    let (release, flavour) = parts(&package.name)?;
    Some(Offer {
        suite: suite.to_owned(),
        package: package.clone(),
        release: release.to_owned(),
        flavour: flavour?.to_owned(),
    })
}

/// A kernel that a user requests by a version or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The user's text, plus the flavour if it is not the default; it differs from every row's name.
    pub name: String,
    /// A release, a package's version, or the beginning of either.
    pub needle: String,
    pub flavour: String,
}

impl Wanted {
    /// Parses a user's text; `None` if it does not contain a version. A flavour in the text overrides `flavour`.
    pub fn parse(text: &str, flavour: &str) -> Option<Wanted> {
        let is_sign = |sign: char| sign.is_ascii_alphanumeric() || ".+~-".contains(sign);
        if !text.chars().all(is_sign) {
            return None;
        }
        let bare =
            if text.starts_with(|sign: char| sign.is_ascii_digit()) { split(text) } else { parts(text) };
        let (needle, own) = bare?;
        let name = match own {
            None if flavour != FLAVOUR => format!("{text}-{flavour}"),
            _ => text.to_owned(),
        };
        let flavour = own.unwrap_or(flavour).to_owned();
        Some(Wanted { name, needle: needle.to_owned(), flavour })
    }

    /// Returns true if the offer is exactly the requested release or version.
    pub fn is_exactly(&self, offer: &Offer) -> bool {
        offer.flavour == self.flavour
            && (offer.release == self.needle || offer.package.version == self.needle)
    }

    pub fn begins(&self, offer: &Offer) -> bool {
        offer.flavour == self.flavour
            && (begins_with(&offer.release, &self.needle)
                || begins_with(&offer.package.version, &self.needle))
    }
}

/// Returns true if a version begins with this one, but not with a longer number: 6.12 does not begin with 6.1.
pub fn begins_with(version: &str, beginning: &str) -> bool {
    version
        .strip_prefix(beginning)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '+', '~']))
}

/// Splits a package's name into release and flavour.
fn parts(name: &str) -> Option<(&str, Option<&str>)> {
    let rest = KINDS.iter().find_map(|kind| name.strip_prefix(kind))?;
    split(rest.strip_prefix(UNSIGNED).unwrap_or(rest))
}

/// Splits at the first dash before a letter, where the flavour begins: "6.1.0-47-cloud-amd64"; "7.0.13-1~bpo13+1" has none.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    let text = text.strip_suffix("-unsigned").unwrap_or(text);
    let mut dashes = text.match_indices('-').map(|(at, _)| at);
    let (release, flavour) =
        match dashes.find(|&at| text[at + 1..].starts_with(|sign: char| sign.is_ascii_alphabetic())) {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
    let is_version = release.starts_with(|sign: char| sign.is_ascii_digit()) && release.contains('.');
    let is_symbols = flavour.is_some_and(|flavour| flavour.ends_with("-dbg"));
    (is_version && !is_symbols).then_some((release, flavour))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_packages_are_distinguished_from_similar_packages() {
        for (name, release, flavour) in [
            ("linux-image-6.12.95+deb12-cloud-amd64", "6.12.95+deb12", "cloud-amd64"),
            ("linux-image-6.12.90+deb12.1-amd64", "6.12.90+deb12.1", "amd64"),
            ("linux-image-6.12.95+deb12-cloud-amd64-unsigned", "6.12.95+deb12", "cloud-amd64"),
            ("linux-image-6.1.0-47-rt-amd64", "6.1.0-47", "rt-amd64"),
            ("linux-image-6.1.0-0.deb11.25-cloud-amd64", "6.1.0-0.deb11.25", "cloud-amd64"),
            ("linux-binary-7.3.4+deb13-cloud-amd64", "7.3.4+deb13", "cloud-amd64"),
            ("linux-binary-unsigned-7.3.4+deb13-rt-amd64", "7.3.4+deb13", "rt-amd64"),
        ] {
            let package = Package { name: name.into(), version: "1".into() };
            let found = offer("sid", &package).unwrap();
            assert_eq!((found.release.as_str(), found.flavour.as_str()), (release, flavour), "{name}");
        }
        for name in [
            "linux-image-6.12.95+deb12-cloud-amd64-dbg",
            "linux-headers-6.12.95+deb12-cloud-amd64",
            "linux-image-cloud-amd64",
            "linux-image-amd64-signed-template",
            "linux-image-6.12.95",
        ] {
            assert_eq!(offer("sid", &Package { name: name.into(), version: "1".into() }), None, "{name}");
        }
    }

    #[test]
    fn usual_spellings_of_a_kernel_are_parsed() {
        for (text, needle, flavour) in [
            ("6.19.14", "6.19.14", "cloud-amd64"),
            ("6.16", "6.16", "cloud-amd64"),
            ("6.1.0-47", "6.1.0-47", "cloud-amd64"),
            ("6.1.0-47-rt-amd64", "6.1.0-47", "rt-amd64"),
            ("6.19.14+deb13-cloud-amd64", "6.19.14+deb13", "cloud-amd64"),
            ("7.0.13-1~bpo13+1", "7.0.13-1~bpo13+1", "cloud-amd64"),
            ("linux-image-6.16.12+deb13-amd64", "6.16.12+deb13", "amd64"),
            ("linux-image-6.1.0-47-amd64-unsigned", "6.1.0-47", "amd64"),
            ("linux-binary-7.0.13+deb13-rt-amd64", "7.0.13+deb13", "rt-amd64"),
        ] {
            let found = Wanted::parse(text, "cloud-amd64").unwrap();
            assert_eq!((found.needle.as_str(), found.flavour.as_str()), (needle, flavour), "{text}");
            assert_eq!(found.name, text);
        }
        let plain = Wanted::parse("6.12", "amd64").unwrap();
        assert_eq!(plain.name, "6.12-amd64");
        assert_eq!(Wanted::parse(&plain.name, "rt-amd64"), Some(plain), "may be typed again");
        for text in [
            "",
            "6",
            "newest",
            "6.1/../x",
            "cloud-amd64",
            "linux-headers-6.1.0-47-amd64",
            "linux-image-amd64",
        ] {
            assert_eq!(Wanted::parse(text, "amd64"), None, "{text}");
        }
    }

    #[test]
    fn a_prefix_of_a_version_ends_with_a_whole_number() {
        for (version, beginning, begins) in [
            ("6.12.95-1~bpo12+1", "6.12", true),
            ("6.12.95-1~bpo12+1", "6.12.95", true),
            ("6.12.95-1~bpo12+1", "6.12.9", false),
            ("6.12.95+deb12", "6.1", false),
            ("6.1.0-47", "6.1.0-4", false),
            ("6.1.0-47", "6.1.0-47", true),
            ("7.0.13-1~bpo13+1", "7.0.13-1", true),
        ] {
            assert_eq!(begins_with(version, beginning), begins, "{version} with {beginning}");
        }
    }
}
