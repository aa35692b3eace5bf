//! Self-description of a run: the kernel it watched, how it was started, what it could see, how it ended.
//!
//! Decides only the wire types of a recording's first and last messages: they are JSON, so that a person can read them with
//! other tools. Deliberately not the engine's types, which are not `Serialize`; [`setup`] converts.

pub mod setup;

use std::collections::BTreeMap;

use clap::ValueEnum;
use observer_engine::setup::{Coverage, Role};
use serde::{Deserialize, Serialize};

/// Version of the container's layout: channels, messages, the transform of batches. It is independent of the records'
/// version, `observer_ebpf::WIRE_VERSION`.
/// Version 2 seals its chunks; version 1 is still read.
pub const FORMAT_VERSION: u32 = 2;

/// The first message of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// [`FORMAT_VERSION`] of the writer, as recorded.
    pub format_version: u32,
    /// `observer_ebpf::WIRE_VERSION` of the records.
    pub wire_version: u16,
    /// Version of the observer that recorded.
    pub observer_version: String,
    pub kernel: Kernel,
    /// One boot of one machine: recordings of one boot share addresses.
    pub boot_id: String,
    /// CPUs with a ring: those that are present.
    pub cpus_online: Vec<u16>,
    /// `CLOCK_MONOTONIC` at the start; records are on this clock.
    pub start_ns: u64,
    /// `CLOCK_REALTIME` at the same moment, since the epoch.
    pub start_realtime_ns: u64,
    /// Command line of the observer that recorded.
    pub command: Vec<String>,
    pub level: Level,
    pub filter: Filter,
    /// Input of the engine: sites, facts and coverage.
    pub setup: setup::Setup,
    /// Present if the recording begins in the middle of its run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Since>,
}

/// Start of a recording that lacks the start of its run: earlier records were dropped, not lost. One-time records from before
/// are repeated in a pass of its own before all others (the preamble).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// Time of the last mark before it.
    pub mark_ns: u64,
    /// Number of records before it.
    pub records: u64,
    /// Number of a nonexistent CPU, which the repeated records have.
    // The name in files of this format version.
    #[serde(rename = "again_cpu")]
    pub preamble_cpu: u16,
    /// Next sequence number, by CPU.
    pub next_seq: BTreeMap<u16, u32>,
    /// Losses before it.
    pub lost: Vec<Lost>,
}

impl Since {
    pub(crate) fn notice(&self, start_ns: u64) -> Notice {
        let seconds = self.mark_ns.saturating_sub(start_ns) as f64 / 1e9;
        Notice::remark(format!(
            "recording begins {seconds:.1} s after the start of its run: what came before is not in this output"
        ))
    }
}

/// Loss of one CPU for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    pub cpu: u16,
    /// Index into `observer_ebpf::loss::REASONS`.
    pub reason: u16,
    /// Site of the loss, as in [`crate::source::Loss`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<u16>,
    pub total: u64,
    /// Time of the reading before the one that showed the loss.
    pub since_ns: u64,
}

/// The kernel that was watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Output of `uname -r`.
    pub release: String,
    /// Output of `uname -v`.
    pub version: String,
    /// Output of `uname -m`.
    pub machine: String,
    /// GNU build-id of vmlinux, hexadecimal; `None` if the kernel does not give it.
    pub build_id: Option<String>,
    /// Hash of `/sys/kernel/btf/vmlinux`, hexadecimal.
    pub btf_hash: Option<String>,
}

/// How much is probed, chosen by the user for what it costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Functions of hugetlb only: no lock order.
    Light,
    /// With the generic lock functions: no page-table locks.
    Locks,
    /// With the page-table locks.
    #[default]
    Full,
}

impl Level {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Light => "light",
            Level::Locks => "locks",
            Level::Full => "full",
        }
    }

    /// Returns the rows of the coverage by which a role is blind that every verdict needs.
    #[must_use]
    pub fn essential_holes<'a, I>(self, coverage: I) -> Vec<&'a Coverage>
    where
        I: Iterator<Item = &'a Coverage> + Clone,
    {
        let is_seen = |role: Role| coverage.clone().any(|row| row.shows(role));
        let mut needed = vec![Role::Operation, Role::Lookup, Role::Share, Role::TableFree];
        // There are two ways to see an unshare; one is enough.
        needed.extend(if is_seen(Role::Unshare) { None } else { Some(Role::Unlink) });
        needed.extend(if self >= Level::Locks { Some(Role::Lock) } else { None });
        let holes = needed.into_iter().filter(|role| !is_seen(*role));
        holes
            .filter_map(|role| coverage.clone().find(|row| row.role == role && row.part.is_empty()))
            .collect()
    }
}

/// Tasks to watch; all fields empty: every task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Process id to watch.
    pub pid: Option<u32>,
    /// Command name, as the kernel cuts it to 15 bytes.
    pub comm: Option<String>,
    /// Path of a cgroup.
    pub cgroup: Option<String>,
}

/// Reason why a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// `--duration` was over.
    Duration,
    /// The command after `--` ended, with this exit code (128 + signal if it was killed).
    Command(i32),
    /// The person quit the dashboard.
    Quit,
    /// The source had no more passes.
    Source,
}

/// The last message of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    pub end: End,
    /// `CLOCK_MONOTONIC` at the end.
    pub end_ns: u64,
    /// Counts by rising site number.
    pub sites: Vec<SiteCount>,
    /// Programs that the kernel did not run at some hits of their site; others are left out.
    pub misses: Vec<Misses>,
    /// Totals by name of `observer_ebpf::loss::REASONS`; those that are 0 are left out.
    pub loss: BTreeMap<String, u64>,
}

/// Counts of the programs at one site, before any filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteCount {
    pub site: u16,
    /// Number of calls.
    pub hits: u64,
    /// Calls that did what the role is about (see `observer_ebpf::config::PerCpu`).
    pub outcomes: u64,
}

/// Hits at which the kernel did not run a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misses {
    pub program: String,
    /// The program was running already on that CPU.
    pub recursion: u64,
}

impl Misses {
    /// Returns true for programs of spinlock functions. An interrupt during such a program takes spinlocks too, so these
    /// misses come by the hundred. They are not a loss: no page-table lock is acquired in an interrupt.
    #[must_use]
    pub fn is_of_spinlocks(&self) -> bool {
        self.program.starts_with("spin_")
    }
}

/// A code address and its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symbol {
    pub address: u64,
    pub name: String,
    /// Bytes from the symbol's start.
    pub offset: u64,
}

/// A remark about the source that a reader of the findings must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub text: String,
    /// The report is one of a part: the recording was not read to its end, or the run saw only a part.
    pub is_partial: bool,
}

impl Notice {
    /// Returns a remark that leaves the report complete.
    #[must_use]
    pub fn remark(text: String) -> Notice {
        Notice { text, is_partial: false }
    }

    /// Returns the reason why the report is one of a part.
    #[must_use]
    pub fn partial(text: String) -> Notice {
        Notice { text, is_partial: true }
    }
}

impl std::fmt::Display for Notice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
