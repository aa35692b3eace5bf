//! `cargo xtask demo`: goes from nothing to findings of a real kernel. It ends in the live dashboard on a terminal, else in a
//! report.

use std::time::Duration;

use anyhow::Result;

use crate::{
    build,
    guest::{Guest, terminal},
    kernels, setup,
};

const KERNEL: &str = "6.12";
/// Command for a terminal: the dashboard over a busy kernel, until the user quits.
const INTERACTIVE: &[&str] = &["observer", "attach", "--", "observer", "exercise", "demo", "--loop"];
/// Command for a log: one recording and its report. Findings are the purpose here, so they are not a failure.
const PLAIN: &str = "observer record -o /tmp/demo.obs -- observer exercise demo --duration 12s && \
                     observer report --fail-on never /tmp/demo.obs";
const TIMEOUT: Duration = Duration::from_secs(300);

/// Runs the demo and returns its exit status.
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
