//! Deadlocks of stock kernels that really happen. Both sides run at once while observer records; the guest hangs and is
//! killed from outside. Its streamed recording must name the deadlock, and which task waits for which lock.
//!
//! The kernels' deadlocks were found by other means (the kernels' own stacks). Here they are expected, not searched for.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{
    guest::Guest,
    guest_tests::Binaries,
    host,
    kernels::{self, Row},
    setup::{GuestTools, Kernel},
};

/// Name by which a filter of `cargo xtask test` selects them.
pub const NAME: &str = "hang";

/// A deadlock: its kernel, the scenario that causes it, and the start of the finding's id.
#[derive(Clone, Copy)]
struct Hang {
    kernel: &'static str,
    scenario: &'static str,
    finding: &'static str,
    /// Class of a read lock that a party waits for behind a writer, if the kernel does not report waits: to observer, the
    /// party may have acquired it. The deadlock is then `feasible`, with all other parties waiting.
    silent: Option<&'static str>,
}

const HANGS: &[Hang] = &[
    // A fault waits for the folio lock that migration holds. Migration waits, behind a queued mmap, for the i_mmap_rwsem that
    // the fault holds.
    Hang {
        kernel: "5.10",
        scenario: "abba-migrate:concurrent",
        finding: "cycle:i_mmap_rwsem>folio_lock(file)",
        silent: Some("i_mmap_rwsem"),
    },
    Hang {
        kernel: "6.1",
        scenario: "abba-fault-mutex:concurrent",
        finding: "cycle:fault_mutex>folio_lock(file)",
        silent: None,
    },
    Hang {
        kernel: "6.12.57",
        scenario: "abba-punch-migrate:concurrent",
        finding: "cycle:i_mmap_rwsem>folio_lock(file)",
        silent: None,
    },
    // A move of an unshared table holds i_mmap_rwsem for writing, and requests it for reading to share at the new place.
    Hang {
        kernel: "7.3",
        scenario: "mremap:alone",
        finding: "relock:huge_pmd_share:i_mmap_rwsem",
        silent: None,
    },
];

/// Time limit. A hang occurs within three seconds, and a wait is recognized after one more; a busy host gets a multiple.
const LIMIT: Duration = Duration::from_secs(100);
/// Attempts if records were lost. On a busy host, those that show the deadlock may be among them.
const ATTEMPTS_MAX: u32 = 3;
/// Time that the machine continues with the deadlock in it; that time must be recorded too.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// Allowed loss at the end: a chunk covers at most a second, a look at the files a tenth; the rest is for a busy host.
const LOST_MAX: Duration = Duration::from_millis(2500);

/// Result of one deadlock.
pub struct Run {
    /// Names of kernel and scenario.
    pub what: String,
    pub verdict: Verdict,
}

pub enum Verdict {
    /// Found, with a line for the summary.
    Found(String),
    Failed(String),
    /// The kernel that has the deadlock is no longer available.
    NotTestable(String),
}

/// Returns true if a kernel has a known deadlock.
pub fn is_known(row: &Row) -> bool {
    HANGS.iter().any(|hang| hang.kernel == row.name)
}

/// Runs all deadlocks of a kernel.
pub fn run(binaries: &Binaries, kernel: &Kernel) -> Vec<Run> {
    let own = HANGS.iter().filter(|hang| hang.kernel == kernel.name);
    own.map(|hang| Run {
        what: format!("{}: {}", kernel.name, hang.scenario),
        verdict: hang.verdict(binaries, kernel).unwrap_or_else(|error| Verdict::Failed(format!("{error:#}"))),
    })
    .collect()
}

impl Hang {
    fn verdict(&self, binaries: &Binaries, kernel: &Kernel) -> Result<Verdict> {
        let row = kernels::row(self.kernel)?;
        let row = row.row().context("a row of kernels.toml")?;
        if !row.is_known(&kernel.version) {
            let known = row.known.as_deref().unwrap_or_default();
            return Ok(Verdict::NotTestable(format!("{known} has it, and this is {}", kernel.version)));
        }
        eprintln!("--- {} on {kernel}, until it hangs", self.scenario);
        let out = host::target_dir()?.join("hang").join(self.kernel);
        let mut attempt = 1;
        loop {
            let recording = record((&binaries.observer, &binaries.tools), kernel, self, &out);
            let error = match recording.and_then(|recording| self.judge(&recording)) {
                Ok(line) if attempt == 1 => return Ok(Verdict::Found(line)),
                Ok(line) => {
                    return Ok(Verdict::Found(format!("{line}; attempt {attempt}, the others lost records")));
                }
                Err(error) => error,
            };
            let report = report(&binaries.observer, &out.join(FILE));
            let is_lossy = report.is_ok_and(|report| is_lossy(&report));
            if !is_lossy || attempt == ATTEMPTS_MAX {
                return Err(error.context(format!("attempt {attempt}")));
            }
            eprintln!("--- {}: records were lost, another attempt: {error:#}", self.scenario);
            attempt += 1;
        }
    }

    fn rank(&self) -> &'static str {
        if self.silent.is_some() { "feasible" } else { "confirmed" }
    }

    fn judge(&self, recording: &Recording) -> Result<String> {
        let Recording { report, seconds, .. } = recording;
        let rank = self.rank();
        let found =
            deadlock(report, self).with_context(|| format!("no {rank} deadlock in what was recorded"))?;
        let waits = waits(found, self.silent)?;
        ensure!(report["closing"].is_null(), "the guest ended in order: it did not hang");
        let recorded_s = span_s(report)?;
        ensure!(
            recorded_s + LOST_MAX.as_secs_f64() >= *seconds,
            "of {seconds:.1} s that the guest lived after the recording was there, {recorded_s:.1} s are in it"
        );
        Ok(format!("{rank} {}: {waits}; {recorded_s:.1} s of {seconds:.1} s recorded", self.finding))
    }
}

/// Remains of a guest that hung.
struct Recording {
    report: Value,
    /// Time from the recording's first byte to the end of the guest, in seconds.
    seconds: f64,
}

/// File name of a deadlock's recording, below `out`.
const FILE: &str = "hang.obs";

/// Records a kernel's first deadlock for a fixture, and returns the recording's path.
pub fn leave(observer: &Path, tools: &GuestTools, kernel: &Kernel, out: &Path) -> Result<PathBuf> {
    let hang = HANGS.iter().find(|hang| hang.kernel == kernel.name);
    let hang = hang.with_context(|| format!("kernel {} has no deadlock that is known", kernel.name))?;
    eprintln!("{}", hang.judge(&record((observer, tools), kernel, hang, out)?)?);
    Ok(out.join(FILE))
}

/// Runs the guest until the deadlock has been present for a while.
fn record(
    (observer, tools): (&Path, &GuestTools),
    kernel: &Kernel,
    hang: &Hang,
    out: &Path,
) -> Result<Recording> {
    let file = out.join(FILE);
    if out.exists() {
        std::fs::remove_dir_all(out).with_context(|| format!("cannot remove {}", out.display()))?;
    }
    let wanted = *hang;
    let (first, found) = (Rc::new(Cell::new(None)), Cell::new(None));
    let look = {
        let (observer, file, first) = (observer.to_owned(), file.clone(), Rc::clone(&first));
        move || {
            if first.get().is_none() && file.exists() {
                first.set(Some(Instant::now()));
            }
            if found.get().is_none() && is_there(&observer, &file, &wanted) {
                found.set(Some(Instant::now()));
            }
            found.get().is_some_and(|at: Instant| at.elapsed() >= AFTERWARDS)
        }
    };
    let outcome = Guest::new(kernel, tools)
        .file("/bin/observer", observer)
        .command(
            ["observer", "record", "-o", &format!("/out/{FILE}"), "--", "observer", "exercise"]
                .into_iter()
                .chain([hang.scenario, "--duration", "600s"]),
        )
        .out(out)
        .timeout(Some(LIMIT))
        .until(look)
        .run()?;
    let seconds = first.get().map_or(0.0, |at| at.elapsed().as_secs_f64());
    if !outcome.problems.is_empty() {
        bail!("the guest failed: {}", outcome.problems.join("\n    "));
    }
    Ok(Recording { report: report(observer, &file)?, seconds })
}

/// Returns true if the recording shows the deadlock. It may not be a complete recording yet.
fn is_there(observer: &Path, file: &Path, wanted: &Hang) -> bool {
    report(observer, file).is_ok_and(|report| deadlock(&report, wanted).is_some())
}

fn report(observer: &Path, file: &Path) -> Result<Value> {
    // A guest that hangs is ended from outside, so that its recording breaks off.
    let arguments = ["report", "--format", "json", "--fail-on", "never", "--accept-partial"];
    let output = Command::new(observer).args(arguments).arg(file).output().context("cannot run observer")?;
    ensure!(output.status.success(), "observer report: {}", String::from_utf8_lossy(&output.stderr).trim());
    serde_json::from_slice(&output.stdout).context("observer report wrote no JSON")
}

/// Returns the finding, if its rank is right. A feasible one must contain waiting tasks, not only lock order.
fn deadlock<'a>(report: &'a Value, wanted: &Hang) -> Option<&'a Value> {
    let waits = |finding: &Value| {
        finding["evidence"]["steps"]
            .as_array()
            .is_some_and(|steps| steps.iter().any(|s| s["waiting"] == true))
    };
    let is_it = |finding: &&Value| {
        let id = finding["id"].as_str().and_then(|id| id.strip_prefix(wanted.finding));
        id.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
            && finding["rank"] == wanted.rank()
            && (wanted.silent.is_none() || waits(finding))
    };
    report["findings"].as_array()?.iter().find(is_it)
}

/// Describes which task waits for which lock, for the summary. At least two tasks each wait for another's lock.
fn waits(finding: &Value, silent: Option<&str>) -> Result<String> {
    if finding["kind"] == "relock" {
        let evidence = &finding["evidence"];
        let comm = evidence["side"]["comm"].as_str().context("the name of a task")?;
        let held = evidence["held"]["class"].as_str().context("a lock that is held")?;
        return Ok(format!("{comm} has {held}, and waits for it"));
    }
    let steps = finding["evidence"]["steps"].as_array().context("a cycle has steps")?;
    ensure!(steps.len() >= 2, "a deadlock has two sides at least: {finding}");
    let mut words = Vec::new();
    for step in steps {
        let is_silent = silent.is_some_and(|class| step["to"] == class);
        ensure!(step["waiting"] == true || is_silent, "a side that was not seen waiting: {step}");
        let comm = step["side"]["comm"].as_str().context("the name of a task")?;
        let (held, asked) = (step["from"].as_str().unwrap_or("?"), step["to"].as_str().unwrap_or("?"));
        words.push(format!("{comm} has {held}, waits for {asked}"));
    }
    let tasks: std::collections::BTreeSet<u64> =
        steps.iter().filter_map(|step| step["side"]["tid"].as_u64()).collect();
    ensure!(tasks.len() == steps.len(), "a side of its own for each step: {finding}");
    Ok(words.join("; "))
}

/// Returns true if records were lost, so that a deadlock may be missing.
fn is_lossy(report: &Value) -> bool {
    report["loss"].as_array().is_some_and(|loss| !loss.is_empty())
}

/// Returns the time that a recording covers, in seconds.
fn span_s(report: &Value) -> Result<f64> {
    let time = |name: &str| report[name].as_f64().with_context(|| format!("the report has no {name}"));
    Ok((time("end_ns")? - time("start_ns")?) / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(comm: &str, tid: u32, waiting: bool) -> Value {
        json!({ "from": "a", "to": "b", "waiting": waiting, "side": { "comm": comm, "tid": tid } })
    }

    fn judged(change: impl FnOnce(&mut Recording)) -> String {
        judged_as(None, change)
    }

    fn judged_as(silent: Option<&'static str>, change: impl FnOnce(&mut Recording)) -> String {
        let evidence = json!({ "steps": [step("one", 1, true), step("two", 2, true)] });
        let finding = json!({ "id": "cycle:a>b:f>g", "rank": "confirmed", "evidence": evidence });
        let report =
            json!({ "findings": [finding], "closing": null, "start_ns": 0, "end_ns": 9_000_000_000_u64 });
        let mut recording = Recording { report, seconds: 10.0 };
        change(&mut recording);
        let hang = Hang { kernel: "6.1", scenario: "x", finding: "cycle:a>b", silent };
        hang.judge(&recording).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn a_deadlock_is_confirmed_if_all_parties_wait_up_to_the_end() {
        let good = judged(|_| ());
        assert_eq!(
            good,
            "confirmed cycle:a>b: one has a, waits for b; two has a, waits for b; 9.0 s of 10.0 s recorded"
        );
        let finding = |r: &mut Recording, key: &str, value: Value| r.report["findings"][0][key] = value;
        assert!(judged(|r| finding(r, "rank", json!("feasible"))).contains("no confirmed"));
        assert!(judged(|r| finding(r, "id", json!("cycle:a>c:f>g"))).contains("no confirmed"));
        let steps = |r: &mut Recording, steps: Value| r.report["findings"][0]["evidence"]["steps"] = steps;
        assert!(judged(|r| steps(r, json!([step("one", 1, true)]))).contains("two sides"));
        let idle = json!([step("one", 1, true), step("two", 2, false)]);
        assert!(judged(|r| steps(r, idle)).contains("not seen waiting"));
        let alone = json!([step("one", 1, true), step("one", 1, true)]);
        assert!(judged(|r| steps(r, alone)).contains("a side of its own"));
        assert!(judged(|r| r.seconds = 12.0).contains("9.0 s are in it"));
        assert!(judged(|r| r.report["closing"] = json!({})).contains("did not hang"));
    }

    #[test]
    fn a_deadlock_with_unseen_readers_is_feasible_if_the_others_wait() {
        let feasible = |steps: Value| {
            judged_as(Some("b"), |r| {
                r.report["findings"][0]["rank"] = json!("feasible");
                r.report["findings"][0]["evidence"]["steps"] = steps;
            })
        };
        let good = feasible(json!([step("one", 1, true), step("two", 2, false)]));
        assert!(good.starts_with("feasible cycle:a>b: one has a"), "{good}");
        assert!(feasible(json!([step("one", 1, false), step("two", 2, false)])).contains("no feasible"));
        assert!(judged_as(Some("c"), |_| ()).contains("no feasible"));
    }
}
