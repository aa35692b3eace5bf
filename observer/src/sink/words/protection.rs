//! The words for protection: the locks held while pointers were in use and at unlinks.
//!
//! Decides which unlinks are described as done without a lock that others hold: only if that lock is visible on this kernel.

use observer_engine::{
    lock_class::LockClass,
    setup::{Coverage, Grade, Role},
    view::{Excluder, LookupProtection, PairProtection, UnlinkProtection},
};

use crate::{meta::setup::Setup, text::number};

/// Locks whose absence at an unlink is worth a note: other tasks may hold them and rely on them.
const EXPECTED: [LockClass; 2] = [LockClass::IMmap, LockClass::Ptl];

/// Locks that protected the leases of a site, most frequent first: `27 under vma_lock, then ptl`. `excluding`: the classes
/// that exclude unlinks.
#[must_use]
pub fn lookup_ways(l: &LookupProtection, excluding: &[String]) -> Vec<String> {
    let ways = l.covered.iter().map(|(by, n)| (*n, handed(by))).collect();
    let none = match excluding {
        [] => "unprotected at some point (no lock that excludes unlinks)".to_owned(),
        [one] => format!("at some moment not under {one}"),
        more => format!("unprotected at some point (no {})", more.join(", ")),
    };
    let bare = (l.bare > 0).then(|| said(l.bare, l.leases, &none));
    let unjudged = "not judged: records were lost, or in no watched operation";
    let unjudged = (l.unjudged > 0).then(|| said(l.unjudged, l.leases, unjudged));
    under(ways, l.leases).into_iter().chain(bare).chain(unjudged).collect()
}

/// Locks held at the unlinks of a site, most frequent first.
#[must_use]
pub fn unlink_ways(u: &UnlinkProtection, coverage: &[Coverage]) -> Vec<String> {
    let way = |(set, n): &(Vec<LockClass>, u64)| {
        let held = if set.is_empty() { "none".to_owned() } else { all(set) };
        let missing = EXPECTED.iter().filter(|c| !set.contains(c) && is_seen(coverage, **c));
        let missing: Vec<&str> = missing.map(|c| c.name()).collect();
        let without =
            if missing.is_empty() { String::new() } else { format!(", without {}", missing.join(" and ")) };
        (*n, held + &without)
    };
    let unjudged = (u.unjudged > 0).then(|| said(u.unjudged, u.unlinks, "not judged: records were lost"));
    under(u.held.iter().map(way).collect(), u.unlinks).into_iter().chain(unjudged).collect()
}

fn under(mut ways: Vec<(u64, String)>, of: u64) -> Vec<String> {
    ways.sort_by_key(|(n, _)| std::cmp::Reverse(*n));
    ways.iter().map(|(n, way)| said(*n, of, &format!("under {way}"))).collect()
}

/// A count in words; `all` if it is the whole number.
fn said(n: u64, of: u64, what: &str) -> String {
    if n == of { format!("all {what}") } else { format!("{} {what}", number(n)) }
}

/// Joins sets of locks: `vma_lock, then ptl`, passed from one to the next without a gap.
fn handed(by: &[Vec<LockClass>]) -> String {
    by.iter().map(|set| all(set)).collect::<Vec<_>>().join(", then ")
}

fn all(set: &[LockClass]) -> String {
    set.iter().map(|c| c.name()).collect::<Vec<_>>().join(" + ")
}

/// Returns true if a lock that was not recorded was certainly not held.
fn is_seen(coverage: &[Coverage], class: LockClass) -> bool {
    let role = if class == LockClass::Ptl { Role::Ptl } else { Role::Lock };
    let mut rows = coverage
        .iter()
        .filter(|c| c.role == role && (c.part.is_empty() || c.part == class.name()))
        .peekable();
    rows.peek().is_some() && rows.all(|c| c.grade != Grade::Blind)
}

/// Excluders of a lookup site and an unlink site.
#[must_use]
pub fn kept_apart(p: &PairProtection) -> String {
    let names = |apart: &[Excluder]| apart.iter().map(|a| a.name()).collect::<Vec<_>>();
    let (always, ever) = (names(&p.always), names(&p.ever));
    let sometimes: Vec<&str> = ever.iter().copied().filter(|e| !always.contains(e)).collect();
    let sometimes = if sometimes.is_empty() {
        String::new()
    } else {
        format!(", at times also {}", sometimes.join(", "))
    };
    match (p.open, always.as_slice()) {
        (true, _) if ever.is_empty() => "by nothing".to_owned(),
        (true, _) => format!("by nothing at least once, else by {}", ever.join(", ")),
        (false, []) if p.unsure => {
            format!(
                "by {}, as far as is known: a lost record or a bound may hide a time at which nothing did",
                ever.join(", ")
            )
        }
        (false, []) => format!("by one or another: {}", ever.join(", ")),
        (false, always) => format!("each time by {}{sometimes}", always.join(" + ")),
    }
}

/// Lock classes that exclude unlinks on this kernel.
#[must_use]
pub fn excluding(setup: &Setup) -> Vec<String> {
    let mut classes: Vec<String> = Vec::new();
    for e in &setup.exclusions {
        if !classes.contains(&e.class) {
            classes.push(e.class.clone());
        }
    }
    classes
}

/// Reason why there is nothing to show.
#[must_use]
pub fn nothing(coverage: &[Coverage]) -> &'static str {
    if coverage.iter().any(|c| c.role == Role::Lock && c.grade == Grade::Blind) {
        "not judged: not all locks that exclude unlinks are seen"
    } else {
        "no lookup and no unlink"
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn coverage(role: Role, grade: Grade) -> Coverage {
        Coverage { role, part: String::new(), grade, reason: String::new() }
    }

    #[test]
    fn a_lock_is_listed_as_missing_only_if_it_is_visible() {
        let unlinks = UnlinkProtection {
            site: Arc::from("move_page_tables"),
            unlinks: 3,
            held: vec![(vec![LockClass::VmaLock, LockClass::IMmap], 3)],
            unjudged: 0,
        };
        let ways =
            |ptl| unlink_ways(&unlinks, &[coverage(Role::Lock, Grade::Exact), coverage(Role::Ptl, ptl)]);
        assert_eq!(ways(Grade::Exact), ["all under vma_lock + i_mmap_rwsem, without ptl"]);
        assert_eq!(ways(Grade::Blind), ["all under vma_lock + i_mmap_rwsem"]);
    }

    #[test]
    fn the_most_frequent_protection_is_first_and_unjudged_is_last() {
        let lookups = LookupProtection {
            site: Arc::from("walk"),
            leases: 11,
            on_unlinked: 2,
            covered: vec![
                (vec![vec![LockClass::IMmap]], 2),
                (vec![vec![LockClass::VmaLock], vec![LockClass::Ptl]], 5),
            ],
            bare: 3,
            unjudged: 1,
        };
        let ways = lookup_ways(&lookups, &["vma_lock".into(), "ptl".into()]);
        assert_eq!(ways[0], "5 under vma_lock, then ptl");
        assert_eq!(ways[1], "2 under i_mmap_rwsem");
        assert!(ways[2] == "3 unprotected at some point (no vma_lock, ptl)", "{ways:?}");
        assert!(ways[3].starts_with("1 not judged"), "{ways:?}");
    }

    #[test]
    fn excluders_of_a_pair_are_worded() {
        let (vma, last) = (Excluder::Lock(LockClass::VmaLock), Excluder::LastUser);
        let words = |always: &[Excluder], ever: &[Excluder], open| {
            let (lookup, unlink) = (Arc::from("walk"), Arc::from("zap"));
            let (always, ever, unsure) = (always.into(), ever.into(), false);
            kept_apart(&PairProtection { lookup, unlink, always, ever, open, unsure })
        };
        assert_eq!(words(&[vma], &[vma, last], false), "each time by vma_lock, at times also last-user");
        assert_eq!(words(&[], &[vma, last], false), "by one or another: vma_lock, last-user");
        assert_eq!(words(&[], &[vma], true), "by nothing at least once, else by vma_lock");
        assert_eq!(words(&[], &[], true), "by nothing");
    }
}
