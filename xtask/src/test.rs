//! `cargo xtask test`: the rings of tests. Quick ones need no kernel; guest tests run on every kernel that the table marks;
//! soak repeats them. Nothing stops at the first failure: all of them are told together at the end.

use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::{guest_tests::Binaries, host, kernels, setup, tally::Tally};

#[derive(Args)]
pub struct Test {
    /// Formatting, lints and the tests that need no guest
    #[arg(long, conflicts_with = "soak")]
    quick: bool,
    /// Repeats the guest tests
    #[arg(long)]
    soak: bool,
    /// How long the soak repeats them
    #[arg(long, default_value_t = 1.0, requires = "soak")]
    hours: f64,
    /// Only this kernel: a row of xtask/kernels.toml, or a version of Debian's kernel packages or the beginning of one; may be
    /// given more than once
    #[arg(long = "kernel", value_name = "KERNEL", conflicts_with = "quick")]
    kernels: Vec<String>,
    /// The flavour of kernels that are named without one: cloud-amd64, amd64 or rt-amd64
    #[arg(long, conflicts_with = "quick")]
    flavour: Option<String>,
    /// Only guest tests whose name contains this
    #[arg(long, conflicts_with = "quick")]
    filter: Option<String>,
}

impl Test {
    pub fn run(self) -> Result<()> {
        let mut tally = Tally::default();
        if self.quick {
            quick(&mut tally);
            return tally.finish();
        }
        if !self.soak {
            setup::all()?;
            quick(&mut tally);
        }
        if let Err(error) = self.guests(&mut tally) {
            tally.failures.push(format!("{error:#}"));
        }
        tally.finish()
    }

    fn guests(&self, tally: &mut Tally) -> Result<()> {
        let kernels = setup::kernels(&kernels::select_all(&self.kernels, self.flavour.as_deref())?)?;
        let binaries = Binaries::build()?;
        let begun = Instant::now();
        loop {
            for kernel in &kernels {
                eprintln!("--- guest tests on kernel {}", kernel.name);
                let filter: Vec<&str> = self.filter.as_deref().into_iter().collect();
                tally.guest(&kernel.name, &binaries.guest(kernel, &filter).run()?);
            }
            if !self.soak || begun.elapsed().as_secs_f64() >= self.hours * 3600.0 {
                return Ok(());
            }
        }
    }
}

fn quick(tally: &mut Tally) {
    let steps: [(&str, &[&str]); 3] = [
        ("formatting", &["fmt", "--all", "--check"]),
        ("lints", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
        ("tests", &["test", "--workspace", "--quiet", "--no-fail-fast"]),
    ];
    for (name, arguments) in steps {
        eprintln!("--- {name}: cargo {}", arguments.join(" "));
        match host::run(host::cargo().args(arguments)) {
            Ok(()) => tally.passed += 1,
            Err(error) => tally.failures.push(format!("{name}: {error:#}")),
        }
    }
}
