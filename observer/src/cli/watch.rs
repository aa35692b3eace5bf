//! `observer attach` and `observer record`: the running kernel through the pipeline; and the channels of a dashboard.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use tokio::sync::{mpsc, watch};

use super::{Format, LiveArgs};
use crate::{
    facts,
    host::{attach, plan, privileges, probe, ready},
    library::Library,
    meta::{Filter, Meta},
    output::Output,
    recording::{InMemory, Writer},
    run::{
        Dashboard, Options, Outcome,
        player::{self, Player},
        run,
    },
    sink::{json, line::Lines, text},
    snapshot::{Command, Snapshot},
    source::{Source, live::Live},
    tui,
};

/// Maximum number of commands of the dashboard that may be queued.
const COMMANDS: usize = 16;

pub fn attach(
    live: LiveArgs,
    record: Option<PathBuf>,
    force: bool,
    format: Option<Format>,
) -> anyhow::Result<ExitCode> {
    let dashboard =
        format.is_none() && on_terminal() && record.as_ref().is_none_or(|path| path.as_os_str() != "-");
    let to_stdout = record.as_ref().is_some_and(|path| path.as_os_str() == "-");
    let outcome = super::block_on(async {
        let output = record.as_ref().map(|path| output(path, force)).transpose()?;
        let (source, mut options) = start(&live)?;
        if let Some(output) = output {
            options.recorder = Some(Writer::begin(output, source.meta())?);
        }
        if dashboard {
            options.privileges.iter_mut().for_each(|keep| keep.push(privileges::DAC_OVERRIDE));
            let library = look_back(record.as_ref(), source.meta(), &mut options);
            return with_dashboard(source, options, library).await;
        }
        options.stdout_is_taken = to_stdout || format.is_some();
        let out: Box<dyn io::Write> =
            if options.stdout_is_taken { Box::new(io::stderr()) } else { Box::new(io::stdout()) };
        options.lines = Some(Lines::new(out, source.meta().start_ns));
        plain(source, options).await
    })?;
    if dashboard || to_stdout {
        print_summary(&outcome, record.as_ref())?;
    } else {
        super::print(|out| match format {
            Some(Format::Json) => json::write(out, &outcome.report),
            Some(Format::Text) | None => text::write(out, &outcome.report),
        })?;
    }
    Ok(code(&outcome))
}

pub fn record(live: LiveArgs, output: PathBuf, force: bool) -> anyhow::Result<ExitCode> {
    let outcome = super::block_on(async {
        let file = self::output(&output, force)?;
        let (source, mut options) = start(&live)?;
        options.recorder = Some(Writer::begin(file, source.meta())?);
        options.stdout_is_taken = output.as_os_str() == "-";
        options.lines = Some(Lines::new(Box::new(io::stderr()), source.meta().start_ns));
        plain(source, options).await
    })?;
    print_summary(&outcome, Some(&output))?;
    Ok(code(&outcome))
}

/// Opens the file of a recording, before anything is attached; `None`: standard output.
fn output(path: &Path, force: bool) -> anyhow::Result<Option<Output>> {
    if path.as_os_str() == "-" {
        return Ok(None);
    }
    Output::create(path, force).with_context(|| format!("create recording {}", path.display())).map(Some)
}

/// Returns true if a dashboard can be shown and controlled.
pub fn on_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Shows a recording until the person leaves the dashboard.
pub fn play(recording: Player, library: Option<Library>) -> anyhow::Result<()> {
    super::block_on(async {
        let (dashboard, shown, asked) = channels();
        let (played, dashboard) = tokio::join!(
            player::play(recording, dashboard),
            tui::run(shown, asked, library, tui::Mode::Replay)
        );
        dashboard?;
        played
    })
}

/// Source of the dashboard's lookups: the recording, or the in-memory recording. Without either it still shows the run.
fn look_back(record: Option<&PathBuf>, meta: &Meta, options: &mut Options) -> Option<Library> {
    if let Some(path) = record {
        return Some(Library::written(path.clone()));
    }
    match InMemory::new(meta) {
        Ok(keep) => {
            let library = Library::in_memory(keep.handle());
            options.keep = Some(keep);
            Some(library)
        }
        Err(why) => {
            eprintln!("observer: nothing is kept to look back at: {why:#}");
            None
        }
    }
}

/// Attaches the programs. Everything is detached when the source is dropped.
fn start(args: &LiveArgs) -> anyhow::Result<(Live, Options)> {
    ready::check_host()?;
    args.pid.map_or(Ok(()), ready::check_pid)?;
    ready::check_command(&args.command)?;
    let facts = facts::load()?;
    let host = probe::probe_host(&facts)?;
    let chosen = plan::Options { level: args.level, without: &args.without };
    chosen.check(&facts)?;
    let plan = plan::plan(&facts, &host, chosen);
    // Attaching and detaching take some seconds where tracing functions is slow, as in an emulator.
    eprintln!("observer: attaching to {} functions of {}", plan.sites.len(), host.kernel.release);
    let attached = attach::attach(&plan, args.pid.unwrap_or(0), args.verbose)?;
    let filter = Filter { pid: args.pid, ..Filter::default() };
    let options = Options {
        duration: args.duration,
        command: args.command.clone(),
        privileges: Some(privileges::KEPT.to_vec()),
        ..Options::default()
    };
    let graded = plan.coverage(&attached.outcomes);
    for hole in plan.level.essential_holes(graded.iter().map(|row| &row.coverage)) {
        eprintln!("observer: {} is blind: {}", hole.role.name(), hole.reason);
        let row = graded.iter().find(|row| row.coverage == *hole).filter(|row| !row.advice.is_empty());
        row.into_iter().for_each(|row| eprintln!("try: {}", row.advice));
    }
    Ok((Live::start(attached, host, &plan, filter)?, options))
}

async fn plain(mut source: impl Source, options: Options) -> anyhow::Result<Outcome> {
    run(&mut source, options).await
}

/// Shows the running kernel until the person leaves the dashboard.
async fn with_dashboard(
    mut source: impl Source,
    mut options: Options,
    library: Option<Library>,
) -> anyhow::Result<Outcome> {
    let (dashboard, shown, asked) = channels();
    options.dashboard = Some(dashboard);
    // The dashboard has a thread of its own. The run ends with it, because nobody could quit any more.
    let (outcome, dashboard) = tokio::join!(run(&mut source, options), async {
        let shown = tui::run(shown, asked, library, tui::Mode::Live).await;
        eprintln!("observer: detaching");
        shown
    });
    dashboard?;
    outcome
}

fn channels() -> (Dashboard, watch::Receiver<Arc<Snapshot>>, mpsc::Sender<Command>) {
    let (snapshots, shown) = watch::channel(Arc::new(Snapshot::default()));
    let (asked, commands) = mpsc::channel(COMMANDS);
    (Dashboard { snapshots, commands }, shown, asked)
}

/// Prints a summary for the person who was watching.
fn print_summary(outcome: &Outcome, recorded: Option<&PathBuf>) -> io::Result<()> {
    let mut text = Vec::new();
    text::summary(&mut text, &outcome.report)?;
    if let Some(path) = recorded {
        text.extend_from_slice(format!("recorded  {}\n", path.display()).as_bytes());
    }
    io::Write::write_all(&mut io::stderr(), &text)
}

fn code(outcome: &Outcome) -> ExitCode {
    if outcome.report.is_partial() {
        return ExitCode::from(super::PARTIAL);
    }
    outcome.command.map_or(ExitCode::SUCCESS, |code| ExitCode::from(u8::try_from(code).unwrap_or(1)))
}
