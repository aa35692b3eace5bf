//! `observer exercise`: drives the real kernel into each path of page-table sharing, by name.
//!
//! This file lists the scenarios and decides which of them run, in which order, and whether they can run here. Each scenario
//! runs in its own process, which is gone when the run returns. A scenario neither looks at page tables nor judges the
//! kernel: that is the observer's task, and any observer may watch.

mod abba;
mod crew;
mod crowd;
mod demo;
mod gigantic;
mod outcome;
mod paths;
mod poison;
mod pool;
mod process;
mod race;
mod reader;
mod region;
mod supervise;
mod sys;
mod touch;
mod turns;
mod uffd;
mod wide;

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::bail;

use outcome::{Outcome, Stop};
use pool::Pool;
use supervise::Ending;

/// One exercise of the kernel. A new one is one row in a file below.
#[derive(Clone)]
pub struct Scenario {
    pub name: Cow<'static, str>,
    pub summary: Cow<'static, str>,
    pub kind: Kind,
    pub needs: Cow<'static, [Need]>,
    /// Number of unshares that it causes on a stock kernel that can run it, equal on 5.10 to 7.3. `None` if scheduling
    /// decides.
    pub unshares: Option<u32>,
    pool: Pool,
    run: Run,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A deterministic scenario that ends within moments.
    Path,
    /// Like `Path`, but it costs the machine something, so a loop does not repeat it.
    Once,
    /// Tasks that race for the requested duration.
    Race,
    /// Tasks that take turns and end within moments. The unshares are not counted.
    Turns,
    /// Like `Race`, but it can hang the kernel; selected only by its full name.
    Hang,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Root,
    /// Two memory nodes to migrate between.
    TwoNodes,
    /// A feature that only a system call can find out. The scenario is skipped if the kernel answers that it lacks it.
    Kernel(&'static str),
}

#[derive(Clone)]
enum Run {
    Fixed(fn(&Context) -> outcome::Result<String>),
    Pass(&'static reader::Reader),
    Pair(&'static reader::Reader, &'static race::Writer),
    Turns(&'static reader::Reader, &'static race::Writer),
}

/// Parameters of a scenario.
#[derive(Clone, Copy)]
pub struct Context {
    duration: Duration,
    seed: u64,
    /// Two memory nodes, if the machine has two.
    nodes: Option<(i32, i32)>,
}

impl Context {
    fn two_nodes(&self) -> outcome::Result<(i32, i32)> {
        self.nodes.ok_or_else(|| {
            let reason =
                "needs two memory nodes, this machine has one; try: a guest with two (qemu -numa node)";
            Stop::Skip(reason.into())
        })
    }
}

pub struct Options {
    /// Duration of each racing scenario.
    pub duration: Duration,
    /// Repeats the selection until Ctrl-C.
    pub loop_forever: bool,
    /// Seed for the choices of racing scenarios; two runs with one seed still differ in scheduling.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { duration: Duration::from_secs(3), loop_forever: false, seed: 1 }
    }
}

/// Huge pages for one scenario: several files of 8 pages, and room to migrate one.
const POOL: Pool = Pool::Free(32);

impl Scenario {
    const fn new(
        name: &'static str,
        summary: &'static str,
        kind: Kind,
        needs: &'static [Need],
        run: fn(&Context) -> outcome::Result<String>,
    ) -> Scenario {
        Scenario {
            name: Cow::Borrowed(name),
            summary: Cow::Borrowed(summary),
            kind,
            needs: Cow::Borrowed(needs),
            unshares: None,
            pool: POOL,
            run: Run::Fixed(run),
        }
    }

    const fn unshares(mut self, number: u32) -> Scenario {
        self.unshares = Some(number);
        self
    }

    const fn with_pool(mut self, pool: Pool) -> Scenario {
        self.pool = pool;
        self
    }

    /// Time limit, far above the normal run time even under emulation; a task that still runs then is stuck.
    fn limit(&self, duration: Duration) -> Duration {
        match self.kind {
            Kind::Path | Kind::Once | Kind::Turns => Duration::from_secs(60),
            Kind::Race => duration + Duration::from_secs(60),
            // This kind is expected to get stuck, so the wait is short.
            Kind::Hang => duration + Duration::from_secs(10),
        }
    }

    /// Returns true if the scenario is in this group.
    fn in_group(&self, group: &str) -> bool {
        match group {
            "all" => matches!(self.kind, Kind::Path | Kind::Once) || self.name == race::FAULT_TRUNCATE.name,
            "race" => self.kind == Kind::Race && self.name != demo::DEMO.name,
            "turns" => self.kind == Kind::Turns,
            _ => false,
        }
    }
}

static SCENARIOS: LazyLock<Vec<Scenario>> = LazyLock::new(|| {
    let mut all = [paths::SCENARIOS, wide::SCENARIOS, crowd::SCENARIOS, gigantic::SCENARIOS].concat();
    all.extend(reader::scenarios());
    all.extend([abba::SAFE, &[race::FAULT_TRUNCATE]].concat());
    all.extend(race::scenarios().chain(turns::scenarios()));
    // Scenarios that poison memory run after all others of their groups.
    all.extend([&[demo::DEMO], poison::SCENARIOS, abba::HANGING].concat());
    all
});

/// Names that select several scenarios.
pub const GROUPS: [(&str, &str); 3] = [
    ("all", "every deterministic scenario that is safe, and fault-truncate"),
    ("race", "every race, one after the other"),
    ("turns", "the same pairs without a race: each side in turn"),
];

/// Returns every scenario, in the order in which a group runs them.
pub fn list() -> &'static [Scenario] {
    &SCENARIOS
}

/// Writes the table for `--list`.
pub fn write_list(out: &mut dyn Write) -> std::io::Result<()> {
    for (name, summary) in GROUPS {
        writeln!(out, "{name:<30} group: {summary}")?;
    }
    for scenario in list() {
        let mut notes: Vec<String> = scenario.needs.iter().map(Need::to_string).collect();
        if scenario.kind == Kind::Hang {
            notes.push("can hang the kernel, in no group".into());
        }
        let notes = if notes.is_empty() { String::new() } else { format!(" [{}]", notes.join("; ")) };
        writeln!(out, "{:<30} {}{notes}", scenario.name, scenario.summary)?;
    }
    Ok(())
}

/// Returns the named scenarios, in the given order; a group is replaced by its members.
fn select(names: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    const TRY: &str = "try: observer exercise --list";
    let mut selected = Vec::new();
    for name in names {
        let before = selected.len();
        selected.extend(list().iter().filter(|scenario| scenario.name == *name || scenario.in_group(name)));
        if selected.len() == before {
            bail!("there is no scenario or group {name:?}\n{TRY}");
        }
    }
    if selected.is_empty() {
        bail!("no scenario was named\n{TRY}");
    }
    Ok(selected)
}

/// Result counts of a run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    pub done: usize,
    pub skipped: usize,
    pub failed: usize,
    /// True if Ctrl-C or SIGTERM ended the run early.
    pub interrupted: bool,
    /// True if tasks of a scenario are stuck in the kernel, apparently for ever.
    pub hung: bool,
}

/// Runs the scenarios one after the other, writes one line to `out` for each, and leaves nothing behind.
///
/// The calling process must have one thread, because scenarios are forked. Ctrl-C and SIGTERM end a run in an orderly way.
pub fn run(names: &[String], options: &Options, out: &mut dyn Write) -> anyhow::Result<Report> {
    let selected = select(names)?;
    let signals = supervise::Signals::take_over()?;
    let mut pool = pool::Guard::new();
    let mut report = Report::default();
    let mut context = Context { duration: options.duration, seed: options.seed, nodes: pool::two_nodes() };
    for pass in 0u64.. {
        let before = report.done;
        context.seed = options.seed.wrapping_add(pass);
        for scenario in &selected {
            if pass > 0 && scenario.kind == Kind::Once {
                continue;
            }
            run_one(scenario, &context, &mut pool, &mut report, out)?;
            if report.interrupted || report.hung {
                break;
            }
        }
        // If a pass could run nothing, repeating it would only spin.
        if !options.loop_forever || report.done == before || report.interrupted || report.hung {
            break;
        }
    }
    drop(pool);
    drop(signals);
    writeln!(out, "{report}")?;
    Ok(report)
}

fn run_one(
    scenario: &Scenario,
    context: &Context,
    pool: &mut pool::Guard,
    report: &mut Report,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    let ready = check_needs(scenario, context).and_then(|()| pool.provide(scenario.pool));
    let ending = match ready {
        Err(stop) => Ending::Outcome(Err(stop).into()),
        Ok(()) => supervise::supervise(scenario.limit(context.duration), || match scenario.run {
            Run::Fixed(run) => run(context),
            Run::Pass(reader) => reader::run(reader),
            Run::Pair(reader, writer) => race::run(reader, writer, context),
            Run::Turns(reader, writer) => turns::run(reader, writer, context),
        })?,
    };
    let took_ms = begin.elapsed().as_millis();
    match ending {
        Ending::Outcome(outcome) => {
            match outcome {
                Outcome::Done(_) => report.done += 1,
                Outcome::Skipped(_) => report.skipped += 1,
                Outcome::Failed(_) => report.failed += 1,
            }
            writeln!(out, "{:<30} {outcome} ({took_ms} ms)", scenario.name)?;
        }
        Ending::Interrupted => {
            report.interrupted = true;
            writeln!(out, "{:<30} stopped by a signal ({took_ms} ms)", scenario.name)?;
        }
        Ending::Hung(tasks) => {
            report.hung = true;
            report.failed += 1;
            writeln!(out, "{:<30} hung     tasks cannot be killed:", scenario.name)?;
            for task in tasks {
                writeln!(out, "{:<30}          {task}", "")?;
            }
            writeln!(out, "{:<30}          try: note the stacks (sysrq w), then reboot", "")?;
        }
    }
    out.flush()?;
    Ok(())
}

fn check_needs(scenario: &Scenario, context: &Context) -> outcome::Result<()> {
    for need in scenario.needs.iter() {
        match need {
            Need::Root if !sys::is_root() => return Err(Stop::Skip("needs root; try: sudo".into())),
            Need::TwoNodes => context.two_nodes().map(drop)?,
            Need::Root | Need::Kernel(_) => {}
        }
    }
    Ok(())
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Root => f.write_str("root"),
            Need::TwoNodes => f.write_str("two memory nodes"),
            Need::Kernel(what) => f.write_str(what),
        }
    }
}

impl Report {
    pub fn is_failure(&self) -> bool {
        self.failed > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} done, {} skipped, {} failed", self.done, self.skipped, self.failed)?;
        if self.interrupted {
            f.write_str(", stopped by a signal")?;
        }
        if self.hung {
            f.write_str("; the kernel has stuck tasks, the rest was not run")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn selected(names: &[&str]) -> Vec<&'static str> {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        select(&names).unwrap().iter().map(|scenario| scenario.name.as_ref()).collect()
    }

    #[test]
    fn names_of_scenarios_and_groups_are_unique() {
        let names: HashSet<&str> = list().iter().map(|scenario| scenario.name.as_ref()).collect();
        assert_eq!(names.len(), list().len());
        for (group, _) in GROUPS {
            assert!(!names.contains(group), "{group} is both");
            assert!(!selected(&[group]).is_empty());
        }
    }

    #[test]
    fn deterministic_scenarios_declare_their_unshares() {
        let unknown = |scenario: &&Scenario| scenario.unshares.is_none();
        let fixed = |scenario: &&Scenario| matches!(scenario.kind, Kind::Path | Kind::Once);
        let names: Vec<&str> = list().iter().filter(fixed).filter(unknown).map(|s| s.name.as_ref()).collect();
        assert_eq!(names, ["crowd-punch"], "only what runs at once with others may not know");
        assert!(list().iter().filter(|s| !fixed(s)).all(|s| unknown(&s)), "a race knows no number");
    }

    #[test]
    fn every_reader_has_its_own_pass() {
        for name in
            ["smaps", "pagemap", "numa_maps", "mincore", "vmread", "movestat", "mbind", "pagemap-scan"]
        {
            assert_eq!(selected(&[name]), [name]);
            assert!(selected(&["all"]).contains(&name));
        }
    }

    #[test]
    fn every_reader_meets_every_writer() {
        assert_eq!(list().iter().filter(|scenario| scenario.name.starts_with("race:")).count(), 7 * 4);
        assert_eq!(selected(&["race:smaps:dontneed"]), ["race:smaps:dontneed"]);
        assert_eq!(selected(&["turns"]).len(), 7 * 4 + 1);
    }

    #[test]
    fn scenarios_that_can_hang_are_in_no_group() {
        let hang = |scenario: &&Scenario| scenario.kind == Kind::Hang;
        let hanging: Vec<String> = list().iter().filter(hang).map(|s| s.name.to_string()).collect();
        assert!(hanging.len() >= 4, "{hanging:?}");
        for (group, _) in GROUPS {
            assert!(selected(&[group]).iter().all(|name| !hanging.iter().any(|h| h == name)), "{group}");
        }
        for name in &hanging {
            assert_eq!(selected(&[name.as_str()]), [name.as_str()]);
        }
    }

    #[test]
    fn poison_runs_last() {
        assert_eq!(selected(&["all"])[0], "share");
        assert!(selected(&["all"]).contains(&"fault-truncate"));
        assert_eq!(*selected(&["all"]).last().unwrap(), "hwpoison");
    }

    #[test]
    fn scenarios_run_in_the_requested_order() {
        assert_eq!(selected(&["punch", "share", "punch"]), ["punch", "share", "punch"]);
    }

    #[test]
    fn an_unknown_name_is_refused_with_a_next_step() {
        for names in [vec!["punsh".to_string()], vec!["race:smaps".to_string()], vec![]] {
            let error = select(&names).err().unwrap().to_string();
            assert!(error.ends_with("try: observer exercise --list"), "{error}");
        }
    }

    #[test]
    fn the_list_has_every_scenario() {
        let mut text = Vec::new();
        write_list(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), GROUPS.len() + list().len());
        assert!(text.contains("[root; two memory nodes]"));
        assert!(!text.contains("root; root"), "a need of both sides is one need");
    }
}
