//! `doctor --exercise`: lists what really fires. The exerciser drives the kernel into one path after the other while
//! everything is attached, and what each role saw is compared with what it should have seen.
//!
//! No other witness is needed to know what should have fired. A scenario says how many unshares it causes, the two ways of
//! seeing one check each other, and together the scenarios reach every role and lock class. The tests in guests compare the
//! same counts with a witness that shares no code with observer.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context as _;
use observer_engine::{
    setup::{Coverage, Grade, Role},
    view::Stats,
};
use serde::Serialize;
use tokio::{io::AsyncReadExt as _, process::Command, runtime::Runtime};

use crate::{
    exercise::{self, Kind},
    host::{attach::Attached, attach::Loaded, plan::Plan, probe::Host},
    meta::{Closing, End, Filter, Misses, SiteCount},
    run::pipeline::Pipeline,
    source::{Source as _, live::Live},
};

/// Time limit of a scenario. Each takes a second or two, emulated ten; one that hangs is killed.
const LIMIT: Duration = Duration::from_secs(120);
/// Complete passes after which everything that happened before them is in order and counted.
const SETTLE_PASSES: u32 = 3;

/// Roles whose sites count every entry of their function, before any filter.
pub const COUNTED_WHOLE: [Role; 8] = [
    Role::Operation,
    Role::Callback,
    Role::Walk,
    Role::Lookup,
    Role::Share,
    Role::TableAlloc,
    Role::TableFree,
    Role::Unshare,
];

/// End of a scenario, in the exerciser's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    Done,
    Skipped,
    Failed,
}

impl Ending {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Ending::Done => "done",
            Ending::Skipped => "skipped",
            Ending::Failed => "failed",
        }
    }
}

/// Number of times that something was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fired {
    /// Role, lock class, or `CLASS released`.
    pub name: String,
    pub count: u64,
}

/// One scenario and what was seen of it.
#[derive(Clone, Debug, Serialize)]
pub struct Scenario {
    pub name: String,
    pub outcome: Ending,
    pub text: String,
    pub fired: Vec<Fired>,
    /// Entries by watched function, of those that count before any filter.
    pub functions: Vec<Fired>,
    /// Hits that the kernel skipped: counts may be too low by this number. Those of spinlock functions are separate, because
    /// interrupts cause most of them.
    pub skipped: u64,
    pub skipped_spinlocks: u64,
    /// Stale-pointer windows of any rank: there should be 0, since nothing races.
    pub windows: u64,
    /// Contradictions with the scenario's own claims, or between counts.
    pub problems: Vec<String>,
}

/// Results of all scenarios that were run.
#[derive(Clone, Debug, Serialize)]
pub struct Exercised {
    pub scenarios: Vec<Scenario>,
    /// Problems of the run as a whole.
    pub problems: Vec<String>,
}

impl Exercised {
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        self.problems.is_empty() && self.scenarios.iter().all(|s| s.problems.is_empty())
    }
}

/// The scenarios that are run: all that are deterministic and safe.
pub fn scenarios() -> impl Iterator<Item = &'static exercise::Scenario> {
    exercise::list().iter().filter(|s| matches!(s.kind, Kind::Path | Kind::Once))
}

/// A run with everything attached.
pub struct Run {
    runtime: Runtime,
    live: Live,
    pipeline: Pipeline,
    exe: PathBuf,
    coverage: Vec<Coverage>,
    counted: Counted,
}

#[derive(Clone, Debug, Default)]
struct Counted {
    sites: Vec<SiteCount>,
    stats: Stats,
    lost: u64,
    skipped: u64,
    skipped_spinlocks: u64,
}

impl Run {
    /// Enables attached programs; the exerciser is this executable.
    ///
    /// # Errors
    /// The programs cannot be switched on.
    pub fn start(attached: Attached, host: Host, plan: &Plan) -> anyhow::Result<Run> {
        Run::start_with(attached, host, plan, std::env::current_exe().context("find this executable")?)
    }

    /// Does the same with another executable as the exerciser.
    ///
    /// # Errors
    /// The same as those of [`Run::start`].
    pub fn start_with(attached: Attached, host: Host, plan: &Plan, exe: PathBuf) -> anyhow::Result<Run> {
        let coverage = plan.coverage(&attached.outcomes).into_iter().map(|g| g.coverage).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let live = runtime.block_on(async { Live::start(attached, host, plan, Filter::default()) })?;
        let pipeline = Pipeline::new(live.meta())?;
        let mut run = Run { runtime, live, pipeline, exe, coverage, counted: Counted::default() };
        run.restart()?;
        Ok(run)
    }

    /// Cost of the attached programs.
    #[must_use]
    pub fn loaded(&self) -> Vec<Loaded> {
        self.live.loaded()
    }

    /// Excludes everything seen up to now from the next scenario.
    ///
    /// # Errors
    /// The rings cannot be read.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.settle()?;
        self.counted = self.count()?;
        Ok(())
    }

    /// Runs one scenario and returns what was seen of it.
    ///
    /// # Errors
    /// The exerciser cannot be started, or the rings cannot be read.
    pub fn scenario(&mut self, scenario: &exercise::Scenario) -> anyhow::Result<Scenario> {
        let (ending, text) = self.exercise(&scenario.name)?;
        self.settle()?;
        let now = self.count()?;
        let before = std::mem::replace(&mut self.counted, now);
        let fired = self.fired(&before);
        let functions = self.functions(&before);
        let mut problems = Vec::new();
        if ending == Ending::Failed {
            problems.push(format!("the scenario failed: {text}"));
        }
        if ending == Ending::Done
            && self.is_seen(Role::Unshare)
            && let Some(expected) = scenario.unshares.map(u64::from)
            && expected != count_of(&fired, "unshare")
            && self.counted.skipped == before.skipped
        {
            problems.push(format!("{expected} unshares were expected, {} seen", count_of(&fired, "unshare")));
        }
        if self.is_seen(Role::Unshare) && self.is_seen(Role::Unlink) {
            let (body, entries) = (count_of(&fired, "unshare"), count_of(&fired, "unlink"));
            if body != entries && self.counted.skipped == before.skipped {
                problems.push(format!("unshares: {body} by the body, {entries} by the entries"));
            }
        }
        let windows = self.counted.stats.windows - before.stats.windows;
        let skipped = self.counted.skipped - before.skipped;
        let skipped_spinlocks = self.counted.skipped_spinlocks - before.skipped_spinlocks;
        let lost = self.counted.lost - before.lost;
        // If the begin of an operation was skipped, events inside have no operation, which counts as a loss.
        if lost > 0 && skipped == 0 {
            problems.push(format!("{lost} records lost"));
        }
        let name = scenario.name.to_string();
        let outcome = ending;
        Ok(Scenario { name, outcome, text, fired, functions, skipped, skipped_spinlocks, windows, problems })
    }

    /// Stops and detaches. Something that never fired is a problem of the whole run. So is a loss, unless the kernel skipped
    /// hits, which leaves gaps.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn finish(mut self) -> anyhow::Result<Vec<String>> {
        let silent = self.silent(&self.fired(&Counted::default()));
        let skipped = self.count()?.skipped;
        self.live.stop();
        while let Some(pass) = self.runtime.block_on(self.live.next())? {
            self.pipeline.pass(&pass);
        }
        let Some(Closing { loss, .. }) = self.live.closing(End::Source)? else {
            return Ok(Vec::new());
        };
        let lost = loss.iter().filter(|_| skipped == 0).map(|(reason, n)| format!("{n} lost: {reason}"));
        Ok(silent.into_iter().chain(lost).collect())
    }

    /// Starts the exerciser and drains the rings until it ends.
    fn exercise(&mut self, name: &str) -> anyhow::Result<(Ending, String)> {
        let (live, pipeline, exe) = (&mut self.live, &mut self.pipeline, &self.exe);
        let said = self.runtime.block_on(async {
            let mut child = Command::new(exe)
                .args(["exercise", name])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .with_context(|| format!("start {} exercise {name}", exe.display()))?;
            let mut stdout = child.stdout.take().context("the exerciser's output")?;
            let ended = async {
                let mut said = String::new();
                stdout.read_to_string(&mut said).await?;
                child.wait().await.map(|_| said)
            };
            let mut ended = std::pin::pin!(tokio::time::timeout(LIMIT, ended));
            loop {
                tokio::select! {
                    said = &mut ended => {
                        let said = said.with_context(|| format!("{name} took more than {} s", LIMIT.as_secs()))?;
                        return anyhow::Ok(said?);
                    }
                    pass = live.next() => {
                        if let Some(pass) = pass? {
                            pipeline.pass(&pass);
                        }
                    }
                }
            }
        })?;
        parse_outcome(&said).with_context(|| format!("what did exercise {name} say: {said:?}"))
    }

    /// Drains until everything up to now is counted.
    fn settle(&mut self) -> anyhow::Result<()> {
        let mut complete = 0;
        while complete < SETTLE_PASSES {
            let Some(pass) = self.runtime.block_on(self.live.next())? else { return Ok(()) };
            complete += u32::from(pass.mark.complete);
            self.pipeline.pass(&pass);
        }
        Ok(())
    }

    fn count(&self) -> anyhow::Result<Counted> {
        let (spinlocks, others): (Vec<Misses>, _) =
            self.live.misses().into_iter().partition(Misses::is_of_spinlocks);
        let sum = |misses: Vec<Misses>| misses.iter().map(|m| m.recursion).sum();
        Ok(Counted {
            sites: self.live.site_counts()?,
            stats: self.pipeline.stats(),
            lost: self.live.lost()?,
            skipped: sum(others),
            skipped_spinlocks: sum(spinlocks),
        })
    }

    fn is_seen(&self, role: Role) -> bool {
        self.coverage.iter().any(|c| c.shows(role))
    }

    /// Hits or outcomes since `before`, by site.
    fn risen<'a>(
        &'a self,
        before: &'a Counted,
        of: fn(&SiteCount) -> u64,
    ) -> impl Iterator<Item = (Role, &'a str, u64)> {
        let sites = &self.live.meta().setup.sites;
        sites.iter().enumerate().filter_map(move |(i, site)| {
            let was = before.sites.get(i).map_or(0, of);
            Some((Role::from_name(&site.role)?, site.function.as_str(), of(self.counted.sites.get(i)?) - was))
        })
    }

    fn fired(&self, before: &Counted) -> Vec<Fired> {
        let hits: fn(&SiteCount) -> u64 = |c| c.hits;
        let outcomes: fn(&SiteCount) -> u64 = |c| c.outcomes;
        let rows = [
            ("lookup", Role::Lookup, hits),
            ("walk", Role::Walk, outcomes),
            ("share", Role::Share, outcomes),
            ("unshare", Role::Unshare, outcomes),
            ("unlink", Role::Operation, outcomes),
            ("table-alloc", Role::TableAlloc, outcomes),
            ("table-free", Role::TableFree, hits),
            ("folio-held", Role::FolioHeld, hits),
            ("folio-release", Role::FolioRelease, hits),
        ];
        let mut fired: Vec<Fired> = rows
            .into_iter()
            .map(|(name, role, of)| {
                let count = self.risen(before, of).filter(|(r, ..)| *r == role).map(|(.., n)| n).sum();
                Fired { name: name.to_owned(), count }
            })
            .collect();
        for now in &self.counted.stats.by_class {
            let was =
                before.stats.by_class.iter().find(|c| c.class == now.class).copied().unwrap_or_default();
            fired.push(Fired { name: now.class.to_owned(), count: now.takes - was.takes });
            fired.push(Fired { name: format!("{} released", now.class), count: now.releases - was.releases });
        }
        fired
    }

    fn functions(&self, before: &Counted) -> Vec<Fired> {
        let hits = self.risen(before, |c| c.hits).filter(|(role, ..)| COUNTED_WHOLE.contains(role));
        let mut functions: Vec<Fired> = Vec::new();
        for (_, name, count) in hits {
            // One function can be two sites, which count the same.
            if functions.iter().all(|f| f.name != name) {
                functions.push(Fired { name: name.to_owned(), count });
            }
        }
        functions
    }

    /// Lists the roles and lock classes without events. Together the scenarios reach all of them, so one without events does
    /// not work.
    fn silent(&self, fired: &[Fired]) -> Vec<String> {
        let roles = [
            (Role::Lookup, "lookup"),
            (Role::Walk, "walk"),
            (Role::Share, "share"),
            (Role::TableAlloc, "table-alloc"),
            (Role::TableFree, "table-free"),
            (Role::FolioRelease, "folio-release"),
            (Role::Ptl, "ptl"),
        ];
        // A role that is exact and has a reason does not exist on this kernel.
        let exists =
            |c: &&Coverage| c.grade != Grade::Blind && (c.grade != Grade::Exact || c.reason.is_empty());
        let is_there =
            |role: Role| self.coverage.iter().filter(exists).any(|c| c.role == role && c.part.is_empty());
        let roles = roles.into_iter().filter(|(role, _)| is_there(*role)).map(|(_, name)| name);
        let classes = self.coverage.iter().filter(exists).filter(|c| c.role == Role::Lock);
        roles
            .chain(classes.map(|c| c.part.as_str()))
            .filter(|name| count_of(fired, name) == 0 && fired.iter().any(|f| f.name == **name))
            .map(|name| format!("{name} did not fire in any scenario"))
            .collect()
    }
}

fn count_of(fired: &[Fired], name: &str) -> u64 {
    fired.iter().find(|f| f.name == name).map_or(0, |f| f.count)
}

/// Parses the exerciser's line about a scenario: `NAME  done  WORDS (12 ms)`.
fn parse_outcome(said: &str) -> Option<(Ending, String)> {
    let line = said.lines().next()?;
    let (_, rest) = line.split_once(' ')?;
    let (word, text) = rest.trim_start().split_once(' ')?;
    let ending = match word {
        "done" => Ending::Done,
        "skipped" => Ending::Skipped,
        "failed" | "hung" | "stopped" => Ending::Failed,
        _ => return None,
    };
    let text = text.trim();
    let text = text.rsplit_once(" (").filter(|(_, ms)| ms.ends_with(" ms)")).map_or(text, |(text, _)| text);
    Some((ending, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_exerciser_is_parsed() {
        let line =
            "share                          done     2 tasks, 8 pages (12 ms)\n1 done, 0 skipped, 0 failed\n";
        assert_eq!(parse_outcome(line), Some((Ending::Done, "2 tasks, 8 pages".into())));
        let line = "mremap    skipped  this kernel cannot (mremap: Invalid argument (os error 22)) (3 ms)\n";
        let (ending, text) = parse_outcome(line).unwrap();
        assert_eq!((ending, text.ends_with("(os error 22))")), (Ending::Skipped, true));
        assert_eq!(parse_outcome("error: there is no scenario"), None);
        assert_eq!(parse_outcome(""), None);
    }
}
