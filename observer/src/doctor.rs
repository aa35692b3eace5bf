//! `observer doctor`: lists what this kernel, or a stored one, lets us see, role by role, and what to do about the holes.
//!
//! Words the plan and the result of attaching it; decides nothing about either. [`exercise`] adds what really fires.

pub mod exercise;
mod text;
mod wire;

use std::{io::Write, path::Path};

use anyhow::Context as _;

use crate::{
    facts::{self, Facts},
    host::{
        attach,
        plan::{self, Failure, Plan, plan},
        probe::{self, Host},
        saved::Saved,
    },
    meta::Level,
    output::Output,
};
pub use wire::Wire;

/// Options of the doctor.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// BTF and symbol table of another machine; both or none.
    pub files: Option<(String, String)>,
    /// A file that [`Options::save`] made, perhaps on another machine.
    pub from: Option<String>,
    /// File for the queries to this kernel and its answers.
    pub save: Option<String>,
    pub level: Level,
    /// Load and attach everything for a moment, to get the kernel's answers.
    pub attach: bool,
    /// Also drive the kernel into every path, and compare what fired with what should have.
    pub exercise: bool,
    /// Functions that are treated as absent from the kernel.
    pub without: Vec<String>,
    pub json: bool,
}

/// The verdict, for the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything essential is covered.
    Covered,
    /// Something essential is blind, or the kernel refuses tracing, or something did not fire that should have.
    Holes,
}

/// Probes, plans, and writes the result.
///
/// # Errors
/// The kernel's types or symbols cannot be read, the exerciser cannot run, or the output cannot be written.
pub fn run(options: &Options, out: &mut dyn Write) -> anyhow::Result<Verdict> {
    let facts = facts::load()?;
    let saved = options.from.as_deref().map(Saved::read).transpose()?;
    let host = match (&saved, &options.files) {
        (Some(saved), _) => saved.host(),
        (None, Some((btf, symbols))) => probe::probe_files(btf, symbols)?,
        (None, None) => probe::probe_host(&facts)?,
    };
    let is_here = saved.is_none() && options.files.is_none();
    let chosen = plan::Options { level: options.level, without: &options.without };
    chosen.check(&facts)?;
    let plan = plan(&facts, &host, chosen);
    let kernel = host.kernel.clone();
    let refusal = if is_here { attach::refusal(&plan) } else { None };
    let mut answers = saved.and_then(|saved| saved.refused());
    let mut outcomes = plan.answered(answers.as_deref().unwrap_or_default());
    let mut fired = None;
    if is_here && refusal.is_none() && (options.attach || options.exercise) {
        let attached = attach::attach(&plan, 0, false)?;
        outcomes = attached.outcomes.clone();
        answers = Some(outcomes.iter().flat_map(|o| o.failures.clone()).collect());
        save(options, &facts, &host, answers.as_deref())?;
        if options.exercise {
            fired = Some(exercised(attached, host, &plan)?);
        }
    } else {
        save(options, &facts, &host, None)?;
    }
    let asked = answers.is_some();
    let coverage = plan.coverage(&outcomes);
    let is_covered = refusal.is_none()
        && options.level.essential_holes(coverage.iter().map(|row| &row.coverage)).is_empty()
        && fired.as_ref().is_none_or(exercise::Exercised::is_as_expected);
    let wire = Wire::new(&kernel, &plan, &outcomes, coverage, refusal, asked, is_covered, fired);
    if options.json {
        serde_json::to_writer_pretty(&mut *out, &wire)?;
        writeln!(out)?;
    } else {
        text::write(&wire, out)?;
    }
    Ok(if is_covered { Verdict::Covered } else { Verdict::Holes })
}

fn save(options: &Options, facts: &Facts, host: &Host, answers: Option<&[Failure]>) -> anyhow::Result<()> {
    let Some(path) = &options.save else { return Ok(()) };
    let text = Saved::of(facts, host, answers).text()?;
    let write = || {
        let mut output = Output::create(Path::new(path), true)?;
        output.write_all(text.as_bytes())?;
        output.commit()
    };
    write().with_context(|| format!("cannot write {path}"))
}

/// Runs every safe and deterministic scenario, one after the other.
fn exercised(attached: attach::Attached, host: Host, plan: &Plan) -> anyhow::Result<exercise::Exercised> {
    let mut run = exercise::Run::start(attached, host, plan)?;
    let mut scenarios = Vec::new();
    for scenario in exercise::scenarios() {
        eprintln!("observer: {}", scenario.name);
        scenarios.push(run.scenario(scenario)?);
    }
    Ok(exercise::Exercised { scenarios, problems: run.finish()? })
}
