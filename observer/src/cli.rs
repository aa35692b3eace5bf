//! The command line: what can be asked for, and in which words.
//!
//! Decides names, defaults and exit codes: 0 done (or nothing found), 1 an error, 2 wrong usage, 3 findings at or above
//! `--fail-on`, 4 a partial report: of a recording that is damaged or breaks off, or of a run that could not see everything that verdicts
//! need; a run with a command after `--` that ended by itself exits as the command did. What the commands do is in the modules below.

mod doctor;
mod exercise;
mod recorded;
mod watch;

use std::{path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use observer_engine::finding::Rank;

use crate::{doctor::Options, meta::Level};

/// Live race observer for Linux hugetlbfs page-table sharing.
#[derive(Debug, Parser)]
#[command(name = "observer", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch the running kernel: a dashboard on a terminal, a line for each finding elsewhere.
    Attach {
        #[command(flatten)]
        live: LiveArgs,
        /// Keep a recording too; - is standard output.
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
        /// Overwrite the recording if it exists.
        #[arg(long, requires = "record")]
        force: bool,
        /// No dashboard: lines on standard error, and at the end the report in this format.
        #[arg(long, value_enum, value_name = "FORMAT")]
        format: Option<Format>,
    },
    /// Record the running kernel, to replay or report on any machine.
    Record {
        #[command(flatten)]
        live: LiveArgs,
        /// The recording; - is standard output.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// Overwrite it if it exists.
        #[arg(long)]
        force: bool,
    },
    /// Show a recording: the dashboard on a terminal, the report elsewhere.
    Replay {
        /// The recording, - is standard input; without it the sample that is built in.
        file: Option<PathBuf>,
        /// Play it from the beginning, at this multiple of real time or at max; without it the dashboard shows the end.
        #[arg(long, value_name = "N|max")]
        speed: Option<Speed>,
        #[command(flatten)]
        partial: Partial,
    },
    /// Report recordings; for several of one kernel build also the cycles that only all of them together show.
    Report {
        /// The recordings; - is standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
        /// Exit with 3 if there is a finding of this rank or a worse one: confirmed, freed, used, feasible, held,
        /// predicted, against-order, possible, guarded, class-only, incomplete, revalidated; never: always exit with 0.
        #[arg(long, default_value = "predicted", value_name = "RANK", value_parser = fail_on)]
        fail_on: FailOn,
        #[command(flatten)]
        partial: Partial,
    },
    /// List the findings and lock-order edges that differ between two recordings.
    Diff {
        /// The recording before.
        #[arg(value_name = "A")]
        before: PathBuf,
        /// The recording after.
        #[arg(value_name = "B")]
        after: PathBuf,
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
        /// Exit with 3 if a finding that is new or got worse has this rank or a worse one; never: always exit with 0.
        #[arg(long, default_value = "predicted", value_name = "RANK", value_parser = fail_on)]
        fail_on: FailOn,
        #[command(flatten)]
        partial: Partial,
    },
    /// Convert a recording for another program.
    Export {
        /// The recording; - is standard input.
        file: PathBuf,
        /// What to write.
        #[arg(long, value_enum)]
        to: Target,
        /// Where to; - is standard output.
        #[arg(short, long, value_name = "OUT")]
        output: PathBuf,
        /// Overwrite it if it exists.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        partial: Partial,
    },
    /// Drive the running kernel into the paths of page-table sharing.
    Exercise {
        /// Scenarios, in this order.
        #[arg(required_unless_present = "list", value_name = "SCENARIO")]
        scenarios: Vec<String>,
        /// List the scenarios.
        #[arg(long)]
        list: bool,
        /// How long each racing scenario runs.
        #[arg(long, default_value = "3s", value_parser = duration)]
        duration: Duration,
        /// Repeat until Ctrl-C.
        #[arg(long = "loop")]
        forever: bool,
        /// Seed for the random choices of the racing scenarios.
        #[arg(long, default_value = "1")]
        seed: u64,
    },
    /// Show what observer can see of this kernel, or of a stored one.
    Doctor {
        /// Types of another kernel: its /sys/kernel/btf/vmlinux.
        #[arg(long, value_name = "FILE", requires = "symbols")]
        btf: Option<String>,
        /// Symbols of another kernel: its /proc/kallsyms.
        #[arg(long, value_name = "FILE", requires = "btf")]
        symbols: Option<String>,
        /// Another kernel, out of a file that --save made.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["btf", "attach", "exercise", "save"])]
        from: Option<String>,
        /// Keep what observer asks of this kernel, and with --attach its answers, in a small file without addresses.
        #[arg(long, value_name = "FILE", conflicts_with = "btf")]
        save: Option<String>,
        /// The level to plan for.
        #[arg(long, value_enum, default_value = "full")]
        level: Level,
        /// Load and attach everything for a moment, to hear the kernel's answers.
        #[arg(long, conflicts_with = "btf")]
        attach: bool,
        /// Also drive the kernel into every path, and compare what fired with what should have. It uses the pool of huge
        /// pages, and costs two pages until the next boot where the kernel has memory failure: use a guest, or a machine
        /// where you may say --on-this-machine.
        #[arg(long, conflicts_with = "btf")]
        exercise: bool,
        /// Allow --exercise on a machine that is not a guest of `cargo xtask`.
        #[arg(long, requires = "exercise")]
        on_this_machine: bool,
        /// Treat this function as absent from the kernel; may be given more than once.
        #[arg(long, value_name = "FUNCTION")]
        without: Vec<String>,
        #[arg(long, value_enum, default_value = "text")]
        format: Format,
    },
}

/// Options of every live run.
#[derive(Debug, Args)]
struct LiveArgs {
    /// Only this process and the objects it touches.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// End after this time: 20s, 5m, 1.5h.
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// How much to probe, and at what cost.
    #[arg(long, value_enum, default_value = "full")]
    level: Level,
    /// Do not probe this function; the roles that it serves may become blind. May be given more than once.
    #[arg(long, value_name = "FUNCTION")]
    without: Vec<String>,
    /// Diagnostics of the eBPF programs on standard error.
    #[arg(short, long)]
    verbose: bool,
    /// Run this command, as the user who ran sudo, and end with it.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Option of the commands that read recordings.
#[derive(Clone, Copy, Debug, Args)]
struct Partial {
    /// Do not exit with 4 if the report is partial: the recording is damaged or breaks off, or its run could not see
    /// everything that verdicts need.
    #[arg(long)]
    accept_partial: bool,
}

/// Formats of the report.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// What can be exported.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    /// The lock-order graph by class, for Graphviz.
    Dot,
    /// JSON lines: an object for each finding and each lock-order edge.
    Jsonl,
}

/// `None`: as fast as possible.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Speed(Option<f32>);

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Speed, String> {
        if text == "max" {
            return Ok(Speed(None));
        }
        match text.parse::<f32>() {
            Ok(n) if n.is_finite() && n > 0.0 => Ok(Speed(Some(n))),
            _ => Err("a number above 0, or max".into()),
        }
    }
}

/// `None`: no rank makes a report fail.
#[derive(Clone, Copy, Debug)]
struct FailOn(Option<Rank>);

/// Exit code for findings.
const FINDINGS: u8 = 3;
/// Exit code if the report is partial.
const PARTIAL: u8 = 4;

impl Partial {
    /// Exit code of a command that would have exited with `code`.
    fn code(self, is_partial: bool, code: ExitCode) -> ExitCode {
        if is_partial && !self.accept_partial { ExitCode::from(PARTIAL) } else { code }
    }
}

impl FailOn {
    /// Exit code for a report whose worst finding has this rank.
    fn code(self, worst: Option<Rank>) -> ExitCode {
        let failed = self.0.zip(worst).is_some_and(|(bar, worst)| worst <= bar);
        if failed { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
    }
}

fn fail_on(text: &str) -> Result<FailOn, String> {
    if text == "never" {
        return Ok(FailOn(None));
    }
    Rank::from_name(text).map(|rank| FailOn(Some(rank))).ok_or_else(|| {
        let names: Vec<_> = Rank::ALL.into_iter().map(Rank::name).collect();
        format!("one of, worst first: {}; or never", names.join(", "))
    })
}

/// A number and its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("a number with its unit, as in 500ms, 20s, 5m, 1.5h".into()),
    };
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|e| e.to_string())
}

/// Runs the command.
///
/// # Errors
/// Any failure, to be explained by [`crate::hint::explain`].
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Attach { live, record, force, format } => watch::attach(live, record, force, format),
        Command::Record { live, output, force } => watch::record(live, output, force),
        Command::Replay { file, speed, partial } => recorded::replay(file, speed, partial),
        Command::Report { files, format, fail_on, partial } => {
            recorded::report(&files, format, fail_on, partial)
        }
        Command::Diff { before, after, format, fail_on, partial } => {
            recorded::diff(&before, &after, format, fail_on, partial)
        }
        Command::Export { file, to, output, force, partial } => {
            recorded::export(&file, to, &output, force, partial)
        }
        Command::Exercise { scenarios, list, duration, forever, seed } => {
            exercise::exercise(&scenarios, list, duration, forever, seed)
        }
        Command::Doctor {
            btf,
            symbols,
            from,
            save,
            level,
            attach,
            exercise,
            on_this_machine,
            without,
            format,
        } => {
            let json = matches!(format, Format::Json);
            let options =
                Options { files: btf.zip(symbols), from, save, level, attach, exercise, without, json };
            doctor::doctor(&options, on_this_machine)
        }
    }
}

/// Runs a future to its end on one thread; dashboards bring their own.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

/// Writes to standard output. A reader that has seen enough is no error.
fn print(write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let done = write(&mut out).and_then(|()| out.flush());
    // Taken apart, so that dropping it does not try again what has failed.
    let _ = out.into_parts();
    done.or_else(|e| if e.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_need_their_unit() {
        let read = |text| duration(text).ok().map(|d| d.as_millis());
        let good = ["500ms", "20s", "5m", "1.5h"].map(read);
        assert_eq!(good, [Some(500), Some(20_000), Some(300_000), Some(5_400_000)]);
        let bad = ["20", "", "s", "-1s", "1d", "1e400s", "nans", "1.5.1h"].map(read);
        assert_eq!(bad, [None; 8]);
    }

    #[test]
    fn speeds_are_above_zero() {
        let read = |text: &str| text.parse::<Speed>().ok();
        assert_eq!(["max", "0.5"].map(read), [Some(Speed(None)), Some(Speed(Some(0.5)))]);
        assert_eq!(["0", "-1", "inf", "nan", "fast"].map(read), [None; 5]);
    }

    #[test]
    fn fail_on_accepts_every_rank() {
        for rank in Rank::ALL {
            assert_eq!(fail_on(rank.name()).unwrap().0, Some(rank));
        }
        assert_eq!(fail_on("never").unwrap().0, None);
        assert!(fail_on("bad").unwrap_err().starts_with("one of, worst first: confirmed, freed, "));
    }
}
