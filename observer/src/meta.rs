//! What a run says about itself: the kernel it watched, how it was started, what it could see, how it ended.
//!
//! Decides the wire types of a recording's first and last messages and nothing else: they are JSON, so that a person
//! can read them with other tools. Deliberately not the engine's types, which are not `Serialize`; [`setup`] converts.

pub mod setup;

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Version of the container's layout: channels, messages, the transform of batches. Not the records' version, which
/// is `observer_ebpf::WIRE_VERSION`.
pub const FORMAT_VERSION: u32 = 1;

/// The first message of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// `observer_ebpf::WIRE_VERSION` of the records.
    pub wire_version: u16,
    /// Version of the observer that recorded.
    pub observer_version: String,
    pub kernel: Kernel,
    /// One boot of one machine: recordings of one boot share addresses.
    pub boot_id: String,
    pub cpus_online: Vec<u16>,
    /// `CLOCK_MONOTONIC` at the start; records are on this clock.
    pub start_ns: u64,
    /// `CLOCK_REALTIME` at the same moment, since the epoch.
    pub start_realtime_ns: u64,
    /// Command line of the observer that recorded.
    pub command: Vec<String>,
    pub level: Level,
    pub filter: Filter,
    /// Sites, facts and coverage: what the engine is told.
    pub setup: setup::Setup,
    /// Of a recording that begins in the midst of its run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Since>,
}

/// From when on a recording has its run, where that is not its start: what was before was dropped, not lost. What had been
/// told only once is told again, in a pass of its own before all others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// Time of the last mark before it.
    pub mark_ns: u64,
    /// Records before it.
    pub records: u64,
    /// Number of the CPU, of none that there is, whose records are those that are told again.
    pub again_cpu: u16,
    /// The next sequence number, by CPU.
    pub next_seq: BTreeMap<u16, u32>,
    /// What had been lost before it.
    pub lost: Vec<Lost>,
}

impl Since {
    pub(crate) fn notice(&self, start_ns: u64) -> Notice {
        let seconds = self.mark_ns.saturating_sub(start_ns) as f64 / 1e9;
        Notice(format!(
            "recording begins {seconds:.1} s after the start of its run: what came before is not in this output"
        ))
    }
}

/// What one CPU had lost for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    pub cpu: u16,
    /// Index into `observer_ebpf::loss::REASONS`.
    pub reason: u16,
    /// As in [`crate::source::Loss`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<u16>,
    pub total: u64,
    /// Time of the look before the one that told it.
    pub since_ns: u64,
}

/// The kernel that was watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// `uname -v`.
    pub version: String,
    /// `uname -m`.
    pub machine: String,
    /// GNU build-id of vmlinux, hexadecimal; `None` where the kernel does not give it.
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
}

/// Whom to watch; all empty: everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Process id.
    pub pid: Option<u32>,
    /// Command name, as the kernel cuts it to 15 bytes.
    pub comm: Option<String>,
    /// Path of a cgroup.
    pub cgroup: Option<String>,
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// `--duration` was over.
    Duration,
    /// The command after `--` ended, with this exit code (128 + signal if it was killed).
    Command(i32),
    /// Somebody quit the dashboard.
    Quit,
    /// The source had no more.
    Source,
}

/// The last message of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    pub end: End,
    /// `CLOCK_MONOTONIC` at the end.
    pub end_ns: u64,
    /// Per site, by rising site number.
    pub sites: Vec<SiteCount>,
    /// Programs that the kernel did not run at some hits of their site; those with none are left out.
    pub misses: Vec<Misses>,
    /// Totals by name of `observer_ebpf::loss::REASONS`; those that are 0 are left out.
    pub loss: BTreeMap<String, u64>,
}

/// What the programs counted at one site before any filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteCount {
    pub site: u16,
    /// Calls.
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
    /// An interrupt that comes while a spinlock function's program runs takes spinlocks too, so that these come by the
    /// hundred, and are no loss: no page-table lock is taken in an interrupt.
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

/// Something about the source that a reader of the findings has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice(pub String);
