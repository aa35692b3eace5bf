//! The doctor's JSON. Its types are its own; [`super::text`] words the same.

use serde::Serialize;

use super::exercise;
use crate::{
    host::{
        plan::{Graded, Outcome, Plan},
        reason::Reason,
    },
    meta::{Kernel, Level},
};

/// All that the doctor has to say.
#[derive(Serialize)]
pub struct Wire<'a> {
    pub schema: &'static str,
    pub kernel: &'a Kernel,
    pub level: Level,
    /// What the kernel refuses this process, and what to do; `null`: nothing, or not asked.
    pub refused: Option<Refusal>,
    pub essential_covered: bool,
    /// The kernel was asked to attach everything.
    pub attached: bool,
    pub roles: Vec<Row>,
    pub sites: Vec<Site>,
    pub unused: Vec<Unused>,
    /// What fired in which scenario; `null`: nothing was exercised.
    pub exercised: Option<exercise::Exercised>,
}

#[derive(Serialize)]
pub struct Refusal {
    pub what: String,
    pub r#try: String,
}

#[derive(Serialize)]
pub struct Row {
    pub role: &'static str,
    /// Lookup site, unlink site, lock class or function within the role; empty: all of it.
    pub part: String,
    pub grade: &'static str,
    pub reason: String,
    /// What can be done about it; empty: nothing.
    pub r#try: String,
}

#[derive(Serialize)]
pub struct Site {
    pub site: u16,
    pub function: String,
    pub role: &'static str,
    /// As in `fexit on hugetlb_fault`, of the way that works, or of the one that would be tried first.
    pub attempts: Vec<String>,
    /// Whether it works; what was not tried is hoped to.
    pub served: bool,
    /// The kernel's answers to ways that do not; empty: none.
    pub refused: String,
}

#[derive(Serialize)]
pub struct Unused {
    pub function: String,
    pub role: &'static str,
    pub reason: String,
    /// The row that serves in its place; `null`: none does.
    pub instead: Option<String>,
}

impl<'a> Wire<'a> {
    #[allow(clippy::too_many_arguments, reason = "one line of what each section is made from")]
    pub(super) fn new(
        kernel: &'a Kernel,
        plan: &Plan,
        outcomes: &[Outcome],
        coverage: Vec<Graded>,
        refusal: Option<(String, String)>,
        attached: bool,
        essential_covered: bool,
        exercised: Option<exercise::Exercised>,
    ) -> Wire<'a> {
        let roles = coverage.into_iter().map(|Graded { coverage: c, advice }| Row {
            role: c.role.name(),
            part: c.part,
            grade: c.grade.name(),
            reason: c.reason,
            r#try: advice,
        });
        let sites = plan.sites.iter().zip(outcomes).map(|(planned, outcome)| {
            let way = &planned.ways[outcome.way.unwrap_or(0)];
            Site {
                site: way.site,
                function: planned.fact.name().to_owned(),
                role: planned.fact.role.name(),
                attempts: way.programs.iter().map(|p| p.attempt()).collect(),
                served: outcome.way.is_some(),
                refused: outcome.reason().words(),
            }
        });
        // What the user left out is told by the role, not by each of its functions.
        let unused = plan.refused.iter().filter(|r| !matches!(r.reason, Reason::Level { .. })).map(|r| {
            let instead = plan.instead_of(outcomes, &r.fact).map(str::to_owned);
            let (function, role) = (r.fact.name().to_owned(), r.fact.role.name());
            Unused { function, role, reason: r.reason.words(), instead }
        });
        Wire {
            schema: "observer-doctor/2",
            kernel,
            level: plan.level,
            refused: refusal.map(|(what, hint)| Refusal { what, r#try: hint }),
            essential_covered,
            attached,
            roles: roles.collect(),
            sites: sites.collect(),
            unused: unused.collect(),
            exercised,
        }
    }
}
