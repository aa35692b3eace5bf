//! `cargo xtask demo`: from nothing to findings of a real kernel. With a terminal it ends in the live dashboard, without
//! one in a report.

use std::time::Duration;

use anyhow::Result;

use crate::{
    build,
    guest::{Guest, terminal},
    kernels, setup,
};

const KERNEL: &str = "6.12";
/// What a person sees: the dashboard over a kernel that is kept busy, until they quit.
const INTERACTIVE: &[&str] = &["observer", "attach", "--", "observer", "exercise", "demo", "--loop"];
/// What a log sees: one recording and its report. The findings are what was asked for, so they are no failure.
const PLAIN: &str = "observer record -o /tmp/demo.obs -- observer exercise demo --duration 12s && \
                     observer report --fail-on never /tmp/demo.obs";
const TIMEOUT: Duration = Duration::from_secs(300);

/// Gives the status that stands for the run.
pub fn run() -> Result<i32> {
    setup::all()?;
    let kernel = setup::kernel(&kernels::row(KERNEL)?)?;
    let guest = Guest::new(&kernel, &setup::guest_tools()?).file("/bin/observer", &build::observer()?);
    eprintln!("booting {kernel} in an emulator, which takes some seconds");
    let outcome = if terminal::is_there() {
        guest.command(INTERACTIVE.iter().copied()).timeout(None).run_interactive()?
    } else {
        guest.command(["sh", "-c", PLAIN]).timeout(Some(TIMEOUT)).echo().run()?
    };
    eprintln!("{}", outcome.report());
    Ok(outcome.status())
}
