//! Protection in the report for programs: the locks held at lookups and unlinks.

use observer_engine::{
    lock_class::LockClass,
    view::{Excluder, LookupProtection, PairProtection, ProtectionView, UnlinkProtection},
};
use serde::Serialize;

#[derive(Serialize)]
pub struct Wire {
    lookups: Vec<Lookup>,
    unlinks: Vec<Unlink>,
    pairs: Vec<Pair>,
}

#[derive(Serialize)]
struct Lookup {
    site: String,
    leases: u64,
    on_unlinked: u64,
    protected: Vec<Cover>,
    unprotected: u64,
    unjudged: u64,
}

/// Leases protected by the same locks.
#[derive(Serialize)]
struct Cover {
    /// Sets of locks. More than one set: protection passed from one set to the next.
    by: Vec<Vec<&'static str>>,
    leases: u64,
}

#[derive(Serialize)]
struct Unlink {
    site: String,
    unlinks: u64,
    held: Vec<Held>,
    unjudged: u64,
}

/// Unlinks with the same locks held.
#[derive(Serialize)]
struct Held {
    classes: Vec<&'static str>,
    unlinks: u64,
}

#[derive(Serialize)]
struct Pair {
    lookup: String,
    unlink: String,
    always: Vec<&'static str>,
    ever: Vec<&'static str>,
    open: bool,
    unsure: bool,
}

/// Converts the protection view.
#[must_use]
pub fn wire(p: &ProtectionView) -> Wire {
    Wire {
        lookups: p.lookups.iter().map(lookup).collect(),
        unlinks: p.unlinks.iter().map(unlink).collect(),
        pairs: p.pairs.iter().map(pair).collect(),
    }
}

fn lookup(l: &LookupProtection) -> Lookup {
    let cover = |(by, leases): &(Vec<Vec<LockClass>>, u64)| Cover {
        by: by.iter().map(|set| names(set)).collect(),
        leases: *leases,
    };
    Lookup {
        site: l.site.to_string(),
        leases: l.leases,
        on_unlinked: l.on_unlinked,
        protected: l.covered.iter().map(cover).collect(),
        unprotected: l.bare,
        unjudged: l.unjudged,
    }
}

fn unlink(u: &UnlinkProtection) -> Unlink {
    Unlink {
        site: u.site.to_string(),
        unlinks: u.unlinks,
        held: u.held.iter().map(|(set, unlinks)| Held { classes: names(set), unlinks: *unlinks }).collect(),
        unjudged: u.unjudged,
    }
}

fn pair(p: &PairProtection) -> Pair {
    let words = |apart: &[Excluder]| apart.iter().map(|a| a.name()).collect();
    Pair {
        lookup: p.lookup.to_string(),
        unlink: p.unlink.to_string(),
        always: words(&p.always),
        ever: words(&p.ever),
        open: p.open,
        unsure: p.unsure,
    }
}

fn names(classes: &[LockClass]) -> Vec<&'static str> {
    classes.iter().copied().map(LockClass::name).collect()
}
