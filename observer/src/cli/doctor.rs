//! `observer doctor`: the plan in words, and its exit code.

use std::process::ExitCode;

use crate::{
    doctor::{self, Options, Verdict},
    hint::Hint as _,
};

/// Exit code for a kernel on which something essential cannot be seen.
const HOLES: u8 = 3;

/// Variable set by the guest's init (`xtask/guest-init`), which marks a machine that may be exercised.
const IS_GUEST: &str = "OBSERVER_GUEST";

pub fn doctor(options: &Options, on_this_machine: bool) -> anyhow::Result<ExitCode> {
    if options.exercise && !on_this_machine && std::env::var_os(IS_GUEST).is_none() {
        return Err(anyhow::anyhow!(
            "--exercise drives this machine's kernel, and this is not a guest of observer's"
        ))
        .hint("`cargo xtask vm -- observer doctor --exercise`; or, where you may, add --on-this-machine");
    }
    let mut text = Vec::new();
    let verdict = doctor::run(options, &mut text)?;
    super::print(|out| out.write_all(&text))?;
    Ok(match verdict {
        Verdict::Covered => ExitCode::SUCCESS,
        Verdict::Holes => ExitCode::from(HOLES),
    })
}
