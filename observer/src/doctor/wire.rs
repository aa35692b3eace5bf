//! The doctor's JSON. Its types are its own; [`super::text`] words the same.

use serde::Serialize;

use super::exercise;
use crate::{
    host::{
        plan::{Graded, Outcome, Plan},
        privileges,
        reason::Reason,
    },
    meta::{Kernel, Level},
};

/// Complete results of the doctor.
#[derive(Serialize)]
pub struct Wire<'a> {
    pub schema: &'static str,
    pub kernel: &'a Kernel,
    pub level: Level,
    /// Refusal of the kernel for this process, and what to do; `null` if nothing is refused, or nothing was attached.
    pub refused: Option<Refusal>,
    /// Capabilities that a live run keeps once everything is attached; all others are dropped for good.
    pub keeps: Vec<&'static str>,
    pub essential_covered: bool,
    /// True if the kernel was asked to attach everything.
    pub attached: bool,
    pub roles: Vec<Row>,
    pub sites: Vec<Site>,
    pub unused: Vec<Unused>,
    /// Events of each scenario; `null` if nothing was exercised.
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
    /// Lookup site, unlink site, lock class or function within the role; empty for the whole role.
    pub part: String,
    pub grade: &'static str,
    pub reason: String,
    /// Advice about it; empty if nothing can be done.
    pub r#try: String,
}

#[derive(Serialize)]
pub struct Site {
    pub site: u16,
    pub function: String,
    pub role: &'static str,
    /// Attachments such as `fexit on hugetlb_fault`: of the way that works, or of the one that would be tried first.
    pub attempts: Vec<String>,
    /// True if it works, or was not tried.
    pub served: bool,
    /// The kernel's answers to ways that do not work; empty if there are no such answers.
    pub refused: String,
}

#[derive(Serialize)]
pub struct Unused {
    pub function: String,
    pub role: &'static str,
    pub reason: String,
    /// The row that serves in its place; `null` if no row does.
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
        // Rows that the user's level leaves out are shown by role, not for each of their functions.
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
            keeps: privileges::KEPT.iter().map(|(name, _)| *name).collect(),
            essential_covered,
            attached,
            roles: roles.collect(),
            sites: sites.collect(),
            unused: unused.collect(),
            exercised,
        }
    }
}
