//! Runs of one kernel build, reported together.
//!
//! Decides which recordings may be combined: those of one build, since only there a lock class, a function and a documented
//! order are the same. The engine merges them.

use observer_engine::{
    finding::Rank,
    merge::{Merged, Part, merge},
};

use super::Report;
use crate::meta::Kernel;

/// One of several recordings.
#[derive(Clone, Debug)]
pub struct Named {
    /// File name as it was given.
    pub name: String,
    pub report: Report,
}

/// Several recordings with their merged findings.
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

    /// Worst rank of the findings that only the combination shows.
    #[must_use]
    pub fn worst(&self) -> Option<Rank> {
        self.merged.findings.iter().map(|f| f.rank).min()
    }
}

fn part(p: &Named) -> Part<'_> {
    Part { boot: &p.report.meta.boot_id, edges: &p.report.edges, findings: &p.report.findings }
}

/// Recordings from different builds.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("recordings of different kernel builds have no lock order in common: {0}")]
pub struct DifferentBuilds(String);

/// Checks if recordings may be combined.
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

/// Identity of a build; where the kernel has no build id, its version has the date of the build.
fn build(k: &Kernel) -> (&str, &str, &str) {
    (&k.release, &k.machine, k.build_id.as_ref().unwrap_or(&k.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_identified_by_its_id_or_else_by_its_version() {
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
