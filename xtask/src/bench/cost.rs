//! `cargo xtask bench cost`: the price of being watched, in instructions. A guest with counted instructions measures each
//! operation bare and at each of observer's levels (`xtask/guest-cost`); this file boots it, compares the result with the kept
//! figures, and writes them. Instructions are exact where time is not, so that a rise is a failure here.

mod document;
mod figures;
mod kept;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Deserialize;

use self::{figures::Figures, kept::Kept};
use crate::{
    build,
    guest::Guest,
    host, kernels,
    setup::{self, GuestTools, Kernel},
};

/// Levels of observer that are measured, in the order of the document.
const LEVELS: &[&str] = &["light", "locks", "full"];
const TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// File that the guest writes, and the directory of such files in the guest.
const OUT: &str = "cost.jsonl";
const GUEST_OUT: &str = "/out";

#[derive(Args)]
pub struct Cost {
    /// The kernel: a row of xtask/kernels.toml, or a version of Debian's kernel packages or the beginning of one; may be given
    /// more than once
    #[arg(long = "kernel", value_name = "KERNEL", default_value = "6.12")]
    kernels: Vec<String>,
    /// Keeps the figures: writes docs/cost.json and docs/cost.md instead of comparing with them
    #[arg(long)]
    write: bool,
}

/// A tracer and its command, to which the guest appends the command that the tracer has to run.
struct Watcher {
    name: String,
    command: String,
}

/// Everything that a guest needs, built once.
struct Binaries {
    observer: PathBuf,
    cost: PathBuf,
    tools: GuestTools,
}

impl Cost {
    pub fn run(self) -> Result<()> {
        let selections = kernels::select_all(&self.kernels, None)?;
        let found = setup::kernels(&selections)?;
        found.absent.iter().for_each(|absent| eprintln!("{absent}"));
        let binaries = Binaries {
            observer: build::observer()?,
            cost: build::static_binary("guest-cost", &[])?,
            tools: setup::guest_tools()?,
        };
        let mut kept = Kept::open()?;
        let mut failures = Vec::new();
        for (_, kernel) in &found.kernels {
            let figures = measure(&binaries, kernel).with_context(|| format!("kernel {}", kernel.name))?;
            print!("{}", document::terminal(&figures));
            failures.extend(figures.disagreements());
            if self.write {
                kept.record(figures);
            } else {
                failures.extend(kept.judge(&figures));
            }
        }
        if !failures.is_empty() {
            bail!("{}", failures.join("\n"));
        }
        if self.write { kept.write() } else { Ok(()) }
    }
}

/// Returns what is measured. Another tracer is one more watcher here, and its files in the guest of `measure`.
fn watchers() -> Vec<Watcher> {
    let level = |level: &&str| Watcher {
        name: (*level).to_owned(),
        command: format!("/bin/observer attach --level {level} --format json --"),
    };
    LEVELS.iter().map(level).collect()
}

/// Boots one kernel and measures everything on it.
fn measure(binaries: &Binaries, kernel: &Kernel) -> Result<Figures> {
    eprintln!("--- cost on {kernel}: several minutes, in an emulator that counts instructions");
    let watchers = watchers();
    let out = host::target_dir()?.join("cost").join(&kernel.name);
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
    }
    let arguments = watchers.iter().flat_map(|watcher| [watcher.name.clone(), watcher.command.clone()]);
    let command = ["/bin/guest-cost".to_owned(), format!("{GUEST_OUT}/{OUT}")].into_iter().chain(arguments);
    let outcome = Guest::new(kernel, &binaries.tools)
        .count_instructions()
        .file("/bin/observer", &binaries.observer)
        .file("/bin/guest-cost", &binaries.cost)
        .command(command)
        .timeout(Some(TIMEOUT))
        .out(&out)
        .echo()
        .run()?;
    eprintln!("{}", outcome.report());
    if outcome.status() != 0 {
        bail!("the guest did not measure everything");
    }
    for level in LEVELS {
        check_loss(&out.join(format!("{level}.out")))?;
    }
    let lines = fs::read_to_string(out.join(OUT)).context("cannot read the guest's figures")?;
    let release = outcome.release.unwrap_or_default();
    Figures::parse(&kernel.name, &release, &lines)
}

/// Fails if observer lost records: a full ring costs less than a record does, so the figures would be too low.
fn check_loss(report: &Path) -> Result<()> {
    let text = fs::read_to_string(report).with_context(|| format!("cannot read {}", report.display()))?;
    match lost(&text)? {
        0 => Ok(()),
        lost => {
            bail!("observer lost {lost} records, so that its cost would be too low: {}", report.display())
        }
    }
}

/// Returns the number of lost records in observer's report. Skipped runs are not among them: a preemptible kernel skips a program in a
/// task that preempted another run of it, which the least batch does not contain.
fn lost(report: &str) -> Result<u64> {
    const SKIPPED: &str = "skipped";
    let report: Report = serde_json::from_str(report).context("cannot read observer's report")?;
    Ok(report.loss.iter().filter(|loss| loss.reason != SKIPPED).map(|loss| loss.total).sum())
}

/// The fields of observer's report that are looked at here.
#[derive(Deserialize)]
struct Report {
    loss: Vec<Loss>,
}

#[derive(Deserialize)]
struct Loss {
    reason: String,
    total: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_records_make_the_figures_void() {
        assert_eq!(lost("{\"loss\":[]}").unwrap(), 0);
        assert_eq!(lost("{\"loss\":[{\"reason\":\"skipped\",\"total\":1}]}").unwrap(), 0);
        let both = "{\"loss\":[{\"reason\":\"skipped\",\"total\":1},{\"reason\":\"ring-full\",\"total\":7}]}";
        assert_eq!(lost(both).unwrap(), 7);
        assert!(lost("").is_err());
    }
}
