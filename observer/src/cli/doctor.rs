//! `observer doctor`: the plan for a kernel, role by role, with reasons.

use std::{io, process::ExitCode};

use observer_engine::setup::Grade;

use crate::{
    facts,
    host::{attach, plan, probe},
    meta::Level,
};

/// `stored`: files of another kernel, types and symbols.
pub fn doctor(stored: Option<(String, String)>, level: Level) -> anyhow::Result<ExitCode> {
    let facts = facts::load()?;
    let refused = match &stored {
        Some(_) => None,
        None => attach::refusal(&probe::probe_permission()),
    };
    let host = match &stored {
        Some((btf, symbols)) => probe::probe_files(btf, symbols)?,
        None => probe::probe_host()?,
    };
    let plan = plan::plan(&facts, &host, level);
    let coverage = plan.coverage(&[]);
    super::print(|out| {
        writeln!(out, "kernel    {} ({})", host.kernel.release, host.kernel.machine)?;
        match (&stored, &refused) {
            (Some(_), _) => writeln!(out, "tracing   not tried: the kernel is a stored one")?,
            (None, None) => writeln!(out, "tracing   allowed")?,
            (None, Some((what, hint))) => writeln!(out, "tracing   {what}\n          try: {hint}")?,
        }
        writeln!(out, "plan      {} sites at level {}", plan.sites.len(), level.name())?;
        for c in &coverage {
            let part = if c.part.is_empty() { String::new() } else { format!(" ({})", c.part) };
            let line =
                format!("  {:<34} {:<9} {}", format!("{}{part}", c.role.name()), c.grade.name(), c.reason);
            writeln!(out, "{}", line.trim_end())?;
        }
        io::Result::Ok(())
    })?;
    let blind = coverage.iter().any(|c| c.grade == Grade::Blind);
    Ok(if refused.is_some() || blind { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
