//! `observer doctor`: the plan in words, and its exit code.

use std::process::ExitCode;

use crate::doctor::{self, Options, Verdict};

/// Exit code for a kernel on which something essential cannot be seen.
const HOLES: u8 = 3;

pub fn doctor(options: &Options) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    let verdict = doctor::run(options, &mut text)?;
    super::print(|out| out.write_all(&text))?;
    Ok(match verdict {
        Verdict::Covered => ExitCode::SUCCESS,
        Verdict::Holes => ExitCode::from(HOLES),
    })
}
