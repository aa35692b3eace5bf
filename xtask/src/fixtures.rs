//! `cargo xtask fixtures`: records scenarios in a guest, and stores each recording with the findings that it must give from
//! now on. A new fixture is one row.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    build,
    guest::Guest,
    hang, host, kernels,
    setup::{self, Kernel},
};

/// A recording: its name, its kernel, and the command that runs while it is made.
struct Fixture {
    name: &'static str,
    kernel: &'static str,
    /// Command to record; if empty, the kernel's hanging scenario is recorded until it hangs.
    command: &'static str,
}

/// Every fixture. The first is the sample that `observer replay` shows if it is given no file.
const FIXTURES: &[Fixture] = &[
    // A bit of everything: stale pointers (used and predicted), a deadlock, sharing and its end.
    Fixture {
        name: "sample",
        kernel: "5.10",
        command: "observer exercise share abba-migrate exit turns:mincore:punch race:vmread:migrate --duration 700ms",
    },
    // Stock 6.12.95 has this deadlock (mm/hugetlb.c, fixed by 6.18). It is found from a run in which nothing hangs.
    Fixture {
        name: "fault-mutex-folio",
        kernel: "6.12",
        command: "observer exercise share punch abba-fault-mutex",
    },
    Fixture { name: "share-unmap", kernel: "6.12", command: "observer exercise share unmap exit mprotect" },
    Fixture {
        name: "fault-truncate",
        kernel: "6.12",
        command: "observer exercise fault-truncate --duration 500ms",
    },
    Fixture { name: "migrate", kernel: "6.12", command: "observer exercise migrate punch" },
    // Walkers that hold only mmap_lock, in turns and in a race, and the same walkers where the vma_lock excludes them. Also
    // 6.1's split against a migration's walk, and the same where the split acquires the file's lock.
    Fixture {
        name: "walkers-5.10",
        kernel: "5.10",
        command: "observer exercise turns:mincore:punch turns:fault:punch race:vmread:migrate --duration 500ms",
    },
    Fixture {
        name: "walkers-6.1",
        kernel: "6.1",
        command: "observer exercise turns:mincore:punch turns:migrate:split race:vmread:dontneed --duration 500ms",
    },
    Fixture {
        name: "walkers-6.12",
        kernel: "6.12",
        command: "observer exercise turns:mincore:punch turns:migrate:split turns:vmread:dontneed",
    },
    // The three deadlocks of stock kernels, each from a run in which nothing hangs, and the remains of one that hung.
    Fixture { name: "fault-migrate-5.10", kernel: "5.10", command: "observer exercise abba-migrate" },
    Fixture { name: "fault-mutex-6.1", kernel: "6.1", command: "observer exercise abba-fault-mutex" },
    Fixture {
        name: "folio-immap-6.12.57",
        kernel: "6.12.57",
        command: "observer exercise abba-punch-migrate",
    },
    Fixture { name: "hang-fault-mutex-6.1", kernel: "6.1", command: "" },
];
const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Args)]
pub struct Fixtures {
    /// Only these; all without
    names: Vec<String>,
}

impl Fixtures {
    pub fn run(self) -> Result<()> {
        let known: Vec<&str> = FIXTURES.iter().map(|fixture| fixture.name).collect();
        if let Some(unknown) = self.names.iter().find(|name| !known.contains(&name.as_str())) {
            bail!("no fixture {unknown:?}\ntry: one of {}", known.join(", "));
        }
        let observer = build::observer()?;
        for fixture in FIXTURES {
            if self.names.is_empty() || self.names.iter().any(|name| name == fixture.name) {
                fixture
                    .make(&observer)
                    .with_context(|| format!("cannot make the fixture {}", fixture.name))?;
            }
        }
        Ok(())
    }
}

impl Fixture {
    fn make(&self, observer: &Path) -> Result<()> {
        let directory = host::workspace().join("fixtures");
        let kernel = setup::kernel(&kernels::row(self.kernel)?)?;
        let made = host::target_dir()?.join("fixtures").join(self.name);
        let recording = match self.command {
            "" => hang::leave(observer, &setup::guest_tools()?, &kernel, &made)?,
            _ => self.record(observer, &kernel, &made)?,
        };
        // The findings of this build: a test compares those of every later build with them.
        let report = std::process::Command::new(observer)
            .args(["report", "--format", "json", "--fail-on", "never", "--accept-partial"])
            .arg(&recording)
            .output()
            .context("cannot run observer report")?;
        if !report.status.success() {
            bail!("observer report: {}: {}", report.status, String::from_utf8_lossy(&report.stderr).trim());
        }
        fs::create_dir_all(&directory).context("cannot make fixtures/")?;
        let kept = directory.join(format!("{}.obs", self.name));
        fs::copy(recording, &kept).context("cannot keep the recording")?;
        fs::write(directory.join(format!("{}.expected.json", self.name)), report.stdout)
            .context("cannot keep the expected findings")?;
        eprintln!("{}: {} KiB", kept.display(), fs::metadata(&kept)?.len() >> 10);
        Ok(())
    }

    /// Records the command in a guest until it ends.
    fn record(&self, observer: &Path, kernel: &Kernel, made: &Path) -> Result<PathBuf> {
        let recording = format!("{}.obs", self.name);
        eprintln!("--- {}: {} on {kernel}", self.name, self.command);
        let record = format!("observer record -o /out/{recording} -- {}", self.command);
        let outcome = Guest::new(kernel, &setup::guest_tools()?)
            .file("/bin/observer", observer)
            .command(["sh", "-c", &record])
            .out(made)
            .timeout(Some(TIMEOUT))
            .echo()
            .run()?;
        eprintln!("{}", outcome.report());
        if outcome.status() != 0 {
            bail!("the recording failed");
        }
        Ok(made.join(recording))
    }
}
