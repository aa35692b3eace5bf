//! Runs of one kernel build, told together.
//!
//! Decides which recordings may be put together: those of one build, since only there a lock class, a function and a
//! documented order are the same. What they come to is the engine's business.

use observer_engine::{
    finding::Rank,
    merge::{Merged, Part, merge},
};

use super::Report;
use crate::meta::Kernel;

/// One of them.
#[derive(Clone, Debug)]
pub struct Named {
    /// The file, as it was asked for.
    pub name: String,
    pub report: Report,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Several {
    pub parts: Vec<Named>,
    pub merged: Merged,
}

impl Several {
    #[must_use]
    pub fn of(parts: Vec<Named>) -> Several {
        let merged = merge(&parts.iter().map(part).collect::<Vec<_>>());
        Several { parts, merged }
    }

    /// The worst rank of what only all of them together show.
    #[must_use]
    pub fn worst(&self) -> Option<Rank> {
        self.merged.findings.iter().map(|f| f.rank).min()
    }
}

fn part(p: &Named) -> Part<'_> {
    Part { boot: &p.report.meta.boot_id, edges: &p.report.edges, findings: &p.report.findings }
}

/// Recordings that are not of one build.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("recordings of different kernel builds have no lock order in common: {0}")]
pub struct DifferentBuilds(String);

/// Whether recordings may be told together.
///
/// # Errors
/// They are of different builds.
pub fn check_one_build(recordings: &[(&str, &Kernel)]) -> Result<(), DifferentBuilds> {
    let same = |(_, k): &(&str, &Kernel)| build(k) == build(recordings[0].1);
    if recordings.iter().all(same) {
        return Ok(());
    }
    let say = |(name, k): &(&str, &Kernel)| {
        let id = k.build_id.as_ref().map_or_else(|| k.version.clone(), |id| format!("build-id {id}"));
        format!("{name} is of {} ({}), {id}", k.release, k.machine)
    };
    Err(DifferentBuilds(recordings.iter().map(say).collect::<Vec<_>>().join("; ")))
}

/// What names a build; where the kernel gives no id, its version has the date of the build.
fn build(k: &Kernel) -> (&str, &str, &str) {
    (&k.release, &k.machine, k.build_id.as_ref().unwrap_or(&k.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_build_is_told_by_its_id_or_else_by_its_version() {
        let kernel = |id: Option<&str>, version: &str| Kernel {
            release: "6.12.95".into(),
            version: version.into(),
            machine: "x86_64".into(),
            build_id: id.map(str::to_owned),
            btf_hash: None,
        };
        let check = |a: &Kernel, b: &Kernel| check_one_build(&[("a.obs", a), ("b.obs", b)]);
        let (ours, other) = (kernel(Some("1a"), "#1"), kernel(Some("2b"), "#1"));
        assert_eq!(check(&ours, &ours), Ok(()));
        assert_eq!(check(&kernel(None, "#1"), &kernel(None, "#1")), Ok(()));
        assert!(check(&kernel(None, "#1"), &kernel(None, "#2")).is_err());
        let said = check(&ours, &other).unwrap_err().to_string();
        let which = "a.obs is of 6.12.95 (x86_64), build-id 1a; b.obs is of 6.12.95 (x86_64), build-id 2b";
        assert!(said.ends_with(which), "{said}");
    }
}
