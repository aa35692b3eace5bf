//! Coverage of each role, given what attaching refused: per role, and per lookup site, unlink site or lock class of a role.
//!
//! A role is blind if an essential part of it is not watched, even if the rest is: users of a role rely on all of it. A part
//! that is not essential is only blind itself.

use observer_engine::setup::{Coverage, Grade, Role};

use super::{Outcome, Plan, PlannedSite, level_of};
use crate::{
    facts::{self, Class},
    host::reason::Reason,
};

/// Coverage of a role or part, and advice to improve it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graded {
    pub coverage: Coverage,
    /// Empty if nothing is missing, or if nothing can be done.
    pub advice: String,
}

fn graded(role: Role, part: &str, grade: Grade, reason: Option<&Reason>) -> Graded {
    Graded {
        coverage: Coverage {
            role,
            part: part.to_owned(),
            grade,
            reason: reason.map(Reason::words).unwrap_or_default(),
        },
        advice: reason.map(Reason::advice).unwrap_or_default(),
    }
}

impl Plan {
    /// Returns the coverage of each role. Roles above the chosen level are blind by choice.
    pub fn coverage(&self, outcomes: &[Outcome]) -> Vec<Graded> {
        let view = View { plan: self, outcomes };
        Role::ALL.into_iter().flat_map(|role| view.role(role)).collect()
    }

    /// Returns the working row that covers the same as a refused one.
    #[must_use]
    pub fn instead_of<'a>(&'a self, outcomes: &'a [Outcome], refused: &facts::Site) -> Option<&'a str> {
        View { plan: self, outcomes }.instead_of(refused)
    }
}

/// A plan together with its outcomes.
struct View<'a> {
    plan: &'a Plan,
    outcomes: &'a [Outcome],
}

impl<'a> View<'a> {
    /// Returns every row that is meant to serve here, and whether it does.
    fn rows(&self) -> impl Iterator<Item = (&'a facts::Site, Result<(), Reason>)> {
        let planned =
            self.plan.sites.iter().zip(self.outcomes).map(|(site, outcome): (&PlannedSite, &Outcome)| {
                (&site.fact, if outcome.way.is_some() { Ok(()) } else { Err(outcome.reason()) })
            });
        let refused = self.plan.refused.iter().map(|r| (&r.fact, Err(r.reason.clone())));
        planned.chain(refused)
    }

    /// Returns whether one of the chosen rows serves; `None` if no such row applies here.
    fn served(&self, chosen: impl Fn(&facts::Site) -> bool) -> Option<Result<(), Reason>> {
        let rows: Vec<_> = self.rows().filter(|(fact, _)| chosen(fact)).map(|(_, served)| served).collect();
        if rows.is_empty() {
            return None;
        }
        if rows.iter().any(Result::is_ok) {
            return Some(Ok(()));
        }
        Some(Err(Reason::all(rows.into_iter().filter_map(Result::err))))
    }

    fn role(&self, role: Role) -> Vec<Graded> {
        let whole = self.whole(role);
        let is_blind = whole.coverage.grade == Grade::Blind;
        let mut rows = vec![whole];
        match role {
            Role::Operation | Role::Callback | Role::Walk => rows.extend(self.refused_functions(role)),
            Role::Lookup => rows.extend(self.lookup_sites()),
            Role::Unlink => rows.extend(self.unlink_sites()),
            Role::Lock if !is_blind => rows.extend(self.plan.classes.iter().map(|c| self.class(c))),
            _ => {}
        }
        if !is_blind && !matches!(role, Role::Operation | Role::Callback | Role::Walk | Role::Unlink) {
            rows.extend(self.unserved_parts(role));
        }
        if role == Role::Lookup && !is_blind {
            rows.extend(self.plan.unwatched.iter().map(|(caller, callee)| {
                let reason = Reason::Caller { caller: caller.clone(), callee: callee.clone() };
                graded(role, caller, Grade::Blind, Some(&reason))
            }));
        }
        let level_is_enough = level_of(role) <= self.plan.level;
        let holes = self
            .plan
            .holes
            .iter()
            .filter(|h| h.role == role && !h.part.is_empty() && h.unserved.is_none() && level_is_enough);
        rows.extend(holes.map(|h| graded(role, &h.part, grade_of(h), Some(&Reason::Fact(h.reason.clone())))));
        rows
    }

    /// Grades the role as a whole.
    fn whole(&self, role: Role) -> Graded {
        let of_role = |fact: &facts::Site| match role {
            Role::Unlink => !fact.unlinks.is_empty(),
            // The end of an object is bookkeeping for its locks, not a lock event.
            _ => fact.role == role && fact.object.is_none(),
        };
        if let Some(Err(reason)) = self.served(of_role)
            && self.hole_instead(role, None).is_none()
        {
            // If a lookup function serves all of it, the walk role has nothing to see and misses nothing.
            let grade = if self.is_seen_otherwise(role) { Grade::Exact } else { Grade::Blind };
            return graded(role, "", grade, Some(&reason));
        }
        if let Some((_, reason)) = self.plan.blind.iter().find(|(r, _)| *r == role) {
            return graded(role, "", Grade::Blind, Some(reason));
        }
        let is_essential = |fact: &facts::Site| of_role(fact) && fact.essential && role != Role::Operation;
        let (mut missing, mut covered) = (Vec::new(), Vec::new());
        for (fact, _) in self.rows().filter(|(fact, _)| is_essential(fact)) {
            let what = fact.covers();
            if !covered.contains(&what) {
                covered.push(what);
                missing.extend(
                    self.served(|f| is_essential(f) && f.covers() == what)
                        .and_then(Result::err)
                        .map(|r| (what, r)),
                );
            }
        }
        if role == Role::Unlink
            && let Some(Err(reason)) =
                self.served(|f| f.role == Role::Lookup && f.essential && self.unlinks_through(f))
        {
            missing.push(("lookup", reason));
        }
        if let Some((what, _)) = missing.first() {
            let hole = self.hole_instead(role, Some(what));
            let why = Reason::all(
                missing.into_iter().map(|(_, r)| r).chain(hole.map(|h| Reason::Fact(h.reason.clone()))),
            );
            return graded(role, "", hole.map_or(Grade::Blind, grade_of), Some(&why));
        }
        match self.plan.holes.iter().find(|h| h.role == role && h.part.is_empty() && h.unserved.is_none()) {
            Some(hole) => graded(role, "", grade_of(hole), Some(&Reason::Fact(hole.reason.clone()))),
            None => graded(role, "", Grade::Exact, None),
        }
    }

    /// Returns a fact that explains how something is known although no row serves it.
    fn hole_instead(&self, role: Role, what: Option<&str>) -> Option<&'a facts::Hole> {
        self.plan.holes.iter().find(|h| {
            h.role == role
                && h.unserved.as_deref().is_some_and(|u| what.is_none_or(|w| w == u))
                && h.part.is_empty()
        })
    }

    fn unlinks_through(&self, lookup: &facts::Site) -> bool {
        self.rows().any(|(f, _)| {
            !f.unlinks.is_empty() && f.looks_up.iter().any(|l| l.through.as_ref() == Some(&lookup.function))
        })
    }

    /// Returns the operations that are not watched and that no other row covers. An operation that the kernel may lack, for a
    /// reason given in its row, is not a gap.
    fn refused_functions(&self, role: Role) -> Vec<Graded> {
        let rows = self.rows().filter(|(fact, _)| fact.role == role);
        rows.filter_map(|(fact, served)| match served.err()? {
            Reason::NoSymbol { absent: Some(_), .. } => None,
            _ if self.served(|f| f.role == role && f.covers() == fact.covers()) == Some(Ok(())) => None,
            reason => Some(graded(role, fact.name(), Grade::Blind, Some(&reason))),
        })
        .collect()
    }

    /// Returns the working row that covers the same as a refused one.
    fn instead_of(&self, refused: &facts::Site) -> Option<&'a str> {
        self.rows()
            .find(|(f, served)| served.is_ok() && f.role == refused.role && f.covers() == refused.covers())
            .map(|(f, _)| f.name())
    }

    /// Grades each lookup site: both its operation and its lookup function must be watched. A walk without a lookup function
    /// counts as a whole.
    fn lookup_sites(&self) -> Vec<Graded> {
        let sites = by_name(self.rows().flat_map(|(fact, _)| &fact.looks_up).map(|l| l.site.as_str()));
        let grade = |site: &&str| {
            if let Some(reason) = self.whole_path(|f| looks_up(f, site)) {
                return graded(Role::Lookup, site, Grade::Blind, Some(&reason));
            }
            let mut serving = self.rows().filter(|(f, served)| served.is_ok() && looks_up(f, site).is_some());
            match serving.find_map(|(f, _)| Some((f.name(), f.until.as_ref()?))) {
                Some((begin, end)) => {
                    let words = format!(
                        "the walk itself is the lease, of the whole VMA: from {begin}, which returns with the lock, to {end}"
                    );
                    graded(Role::Lookup, site, Grade::Bounded, Some(&Reason::Fact(words)))
                }
                None => graded(Role::Lookup, site, Grade::Exact, None),
            }
        };
        sites.iter().map(grade).collect()
    }

    /// Returns true if rows of other roles serve every lookup site of a walk.
    fn is_seen_otherwise(&self, role: Role) -> bool {
        let sites = || self.rows().filter(|(f, _)| f.role == role).flat_map(|(f, _)| &f.looks_up);
        let by_others =
            |site: &str| self.whole_path(|f| if f.role == role { None } else { looks_up(f, site) }).is_none();
        role == Role::Walk && sites().all(|l| by_others(&l.site))
    }

    /// Grades each unlink site, like [`View::lookup_sites`].
    fn unlink_sites(&self) -> Vec<Graded> {
        let sites = by_name(self.rows().flat_map(|(fact, _)| &fact.unlinks).map(|u| u.site.as_str()));
        let bounded = self.plan.holes.iter().find(|h| h.role == Role::Unlink && h.part.is_empty());
        let grade = |site: &&str| {
            let through = |f: &'a facts::Site| {
                f.unlinks
                    .iter()
                    .any(|u| u.site == **site)
                    .then(|| f.looks_up.first().map(|l| l.through.as_deref()))?
            };
            match self.whole_path(through) {
                Some(reason) => graded(Role::Unlink, site, Grade::Blind, Some(&reason)),
                None => {
                    let by = self.rows().filter(|(f, served)| served.is_ok() && through(f).is_some());
                    let by: Vec<_> = by.map(|(f, _)| f.name()).collect();
                    let how = Reason::Fact(format!("the entries behind the lookups of {}", by.join(", ")));
                    graded(Role::Unlink, site, bounded.map_or(Grade::Exact, grade_of), Some(&how))
                }
            }
        };
        sites.iter().map(grade).collect()
    }

    /// Returns why every chosen row fails, or lacks the lookup function that it uses; `None` if one of them works.
    fn whole_path(&self, through: impl Fn(&'a facts::Site) -> Option<Option<&'a str>>) -> Option<Reason> {
        let mut reasons = Vec::new();
        for (fact, served) in self.rows() {
            let Some(lookup) = through(fact) else { continue };
            if let Err(reason) = served {
                reasons.push(reason);
                continue;
            }
            let lookup = lookup?;
            match self.served(|f| f.role == Role::Lookup && f.function == lookup) {
                Some(Err(why)) => reasons.push(Reason::Needs { what: lookup.to_owned(), why: Box::new(why) }),
                _ => return None,
            }
        }
        Some(Reason::all(reasons))
    }

    /// Grades a lock class: its instances must be known, and all functions of its kind must be watched.
    fn class(&self, class: &Class) -> Graded {
        let row = |grade, reason: Option<&Reason>| graded(Role::Lock, &class.name, grade, reason);
        let unknown: Vec<_> = class.known.iter().filter_map(|k| self.plan.unknown.get(k)).cloned().collect();
        if !unknown.is_empty() {
            return match &class.absent {
                // There is nothing to see, so nothing is missed.
                Some(absent) => row(Grade::Exact, Some(&Reason::Fact(absent.clone()))),
                None => row(Grade::Blind, Some(&Reason::all(unknown))),
            };
        }
        let takes = |f: &facts::Site| f.role == Role::Lock && f.essential && class.kind.has(f.mode);
        let missing: Vec<_> =
            self.rows().filter(|(f, _)| takes(f)).filter_map(|(_, served)| served.err()).collect();
        if !missing.is_empty() {
            return row(Grade::Blind, Some(&Reason::all(missing)));
        }
        let ends =
            class.ends.as_ref().and_then(|end| self.served(|f| f.object.is_some() && f.function == *end));
        match ends {
            Some(Err(why)) => {
                let what = "the end of its object".to_owned();
                row(Grade::Inferred, Some(&Reason::Needs { what, why: Box::new(why) }))
            }
            _ => row(Grade::Exact, None),
        }
    }

    /// Grades the parts that are not essential and that no row serves.
    fn unserved_parts(&self, role: Role) -> Vec<Graded> {
        let mut rows: Vec<Graded> = Vec::new();
        for (fact, _) in self.rows().filter(|(f, _)| f.role == role && f.object.is_none() && !f.essential) {
            let what = fact.covers();
            if rows.iter().any(|r| r.coverage.part == what) {
                continue;
            }
            let Some(Err(reason)) = self.served(|f| f.role == role && f.covers() == what) else { continue };
            let hole = self.plan.holes.iter().find(|h| h.role == role && h.unserved.as_deref() == Some(what));
            rows.push(match hole {
                Some(hole) => {
                    let reason = Reason::all([reason, Reason::Fact(hole.reason.clone())]);
                    graded(role, what, grade_of(hole), Some(&reason))
                }
                None => graded(role, what, Grade::Blind, Some(&reason)),
            });
        }
        rows
    }
}

/// Returns the function through which a row looks up at a site; `None` if the row does not look up there.
fn looks_up<'a>(fact: &'a facts::Site, site: &str) -> Option<Option<&'a str>> {
    fact.looks_up.iter().find(|l| l.site == site).map(|l| l.through.as_deref())
}

/// Returns each name once, sorted, because the order of the rows depends on the kernel.
fn by_name<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn grade_of(hole: &facts::Hole) -> Grade {
    match hole.grade {
        facts::Grade::Bounded => Grade::Bounded,
        facts::Grade::Inferred => Grade::Inferred,
        facts::Grade::Blind => Grade::Blind,
    }
}
