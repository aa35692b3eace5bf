//! `observer doctor`: what this kernel, or a stored one, lets us see, role by role, and what to do about the holes.
//!
//! Words the plan; decides nothing about it.

use std::io::Write;

use observer_engine::setup::{Coverage, Grade, Role};
use serde::Serialize;

use crate::{
    facts,
    host::{
        attach,
        plan::{Failure, Plan, plan},
        probe::{self, Host},
    },
    meta::{Kernel, Level},
};

/// Roles without which no finding can be trusted.
const ESSENTIAL: [Role; 5] = [Role::Lookup, Role::Share, Role::Unshare, Role::TableFree, Role::Lock];

/// What to look at.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// BTF and symbol table of another machine; both or none.
    pub files: Option<(String, String)>,
    pub level: Level,
    /// Load and attach everything for a moment, to hear the kernel's answers.
    pub attach: bool,
    /// Functions that are treated as if the kernel had them not.
    pub without: Vec<String>,
    pub json: bool,
}

/// The verdict, for the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything essential is covered.
    Covered,
    /// Something essential is blind, or the kernel refuses tracing.
    Holes,
}

#[derive(Serialize)]
struct Wire<'a> {
    schema: &'static str,
    kernel: &'a Kernel,
    level: Level,
    /// What the kernel refuses this process, and what to do; `null`: nothing, or not asked.
    refused: Option<Refusal>,
    essential_covered: bool,
    attached: bool,
    roles: Vec<Row>,
    sites: Vec<Site>,
    unused: Vec<Unused>,
}

#[derive(Serialize)]
struct Refusal {
    what: String,
    r#try: String,
}

#[derive(Serialize)]
struct Row {
    role: &'static str,
    part: String,
    grade: &'static str,
    reason: String,
}

#[derive(Serialize)]
struct Site {
    site: u16,
    function: String,
    role: &'static str,
    programs: Vec<String>,
    /// The kernel's answer; empty: attached, or not tried.
    refused: String,
}

#[derive(Serialize)]
struct Unused {
    function: String,
    role: &'static str,
    reason: String,
}

/// Looks, plans, and words it.
///
/// # Errors
/// The kernel's types or symbols cannot be read, or the output cannot be written.
pub fn run(options: &Options, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    let facts = facts::load()?.without(&options.without);
    let host = match &options.files {
        Some((btf, symbols)) => probe::probe_files(btf, symbols)?,
        None => probe::probe_host()?,
    };
    let plan = plan(&facts, &host, options.level);
    let refusal = match options.files {
        Some(_) => None,
        None => attach::refusal(&plan),
    };
    let failures = match (&refusal, options.attach && options.files.is_none()) {
        (None, true) => attach::attach(&plan, 0, false)?.failures.clone(),
        _ => Vec::new(),
    };
    let tried = options.attach && options.files.is_none() && refusal.is_none();
    let coverage = plan.coverage(&failures);
    let covered = refusal.is_none() && ESSENTIAL.iter().all(|role| is_seen(&coverage, *role));
    let wire = wire(&plan, &host, &failures, coverage, refusal, covered, tried);
    if options.json {
        serde_json::to_writer_pretty(&mut *out, &wire)?;
        writeln!(out)?;
    } else {
        text(&wire, out)?;
    }
    Ok(if covered { Verdict::Covered } else { Verdict::Holes })
}

fn is_seen(coverage: &[Coverage], role: Role) -> bool {
    coverage.iter().any(|c| c.role == role && c.part.is_empty() && c.grade != Grade::Blind)
}

fn wire<'a>(
    plan: &Plan,
    host: &'a Host,
    failures: &[Failure],
    coverage: Vec<Coverage>,
    refusal: Option<(String, String)>,
    essential_covered: bool,
    attached: bool,
) -> Wire<'a> {
    let roles = coverage.into_iter().map(|c| Row {
        role: c.role.name(),
        part: c.part,
        grade: c.grade.name(),
        reason: c.reason,
    });
    let setup = plan.setup(&[]);
    let sites = plan.sites.iter().zip(&setup.sites).map(|(planned, site)| Site {
        site: planned.id,
        function: site.function.clone(),
        role: site.role.name(),
        programs: planned.programs.iter().map(|p| p.name.clone()).collect(),
        refused: failures.iter().find(|f| f.site == planned.id).map(Failure::reason).unwrap_or_default(),
    });
    let unused = plan.refused.iter().map(|r| Unused {
        function: r.function.clone(),
        role: r.role.name(),
        reason: r.reason.clone(),
    });
    Wire {
        schema: "observer-doctor/1",
        kernel: &host.kernel,
        level: plan.level,
        refused: refusal.map(|(what, hint)| Refusal { what, r#try: hint }),
        essential_covered,
        attached,
        roles: roles.collect(),
        sites: sites.collect(),
        unused: unused.collect(),
    }
}

fn text(wire: &Wire<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(out, "kernel   {} {}", wire.kernel.release, wire.kernel.machine)?;
    writeln!(out, "level    {}", wire.level.name())?;
    if let Some(refusal) = &wire.refused {
        writeln!(out, "refused  {}\n  try: {}", refusal.what, refusal.r#try)?;
        writeln!(out, "\nWhat its types and symbols would allow:")?;
    } else if !wire.attached {
        writeln!(out, "\nBy types and symbols; `doctor --attach` also asks the kernel to attach each:")?;
    }
    writeln!(out, "\n{:<14} {:<9} reason", "role", "coverage")?;
    for row in &wire.roles {
        let name = if row.part.is_empty() { row.role.to_owned() } else { format!("  {}", row.part) };
        if name.len() > 14 {
            writeln!(out, "{name}")?;
            writeln!(out, "{:<14} {:<9} {}", "", row.grade, row.reason)?;
        } else {
            writeln!(out, "{name:<14} {:<9} {}", row.grade, row.reason)?;
        }
    }
    let refused: Vec<_> = wire.sites.iter().filter(|s| !s.refused.is_empty()).collect();
    if !refused.is_empty() {
        writeln!(out, "\nrefused by the kernel")?;
        for site in refused {
            writeln!(out, "  {:<34} {}", site.function, site.refused)?;
        }
    }
    if !wire.unused.is_empty() {
        writeln!(out, "\nnot on this kernel (other rows serve, or the role says so above)")?;
        for row in &wire.unused {
            writeln!(out, "  {:<34} {}", row.function, row.reason)?;
        }
    }
    let verdict = if wire.essential_covered {
        "every essential role is covered"
    } else {
        "not every essential role is covered: findings would be about what is left"
    };
    writeln!(out, "\n{verdict}")?;
    Ok(())
}
