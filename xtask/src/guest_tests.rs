//! The test binary of `observer/tests/guest.rs` in a guest: building what it needs, calling it, and parsing its output.
//! `matrix` and `test` decide which of its tests run on which kernel.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;

use crate::{
    build,
    guest::Guest,
    setup::{self, GuestTools, Kernel, Tmux},
};

/// Name of the one test whose report is judged here.
pub const MATRIX: &str = "matrix_of_this_kernel";
/// Module of the tests that have a guest of their own, since the others would disturb them or be disturbed: its kernel has pages of 1 GiB
/// and what else its command line changes about huge pages and page tables, limits are set and processors go. The last test locks the
/// kernel down.
pub const OWN_GUEST: &str = "own_guest::";
/// Module of the tests that run on every kernel.
pub const EVERYWHERE: &str = "on_every_kernel::";
/// Module of the lock-order tests among them, for kernels that have their own deadlock.
pub const ORDER: &str = "on_every_kernel::order::";
/// Time limit for all guest tests on one kernel, emulated and on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(45 * 60);

/// Binaries that are built once for all guests.
pub struct Binaries {
    pub observer: PathBuf,
    pub tests: PathBuf,
    pub tools: GuestTools,
    /// Terminal multiplexer for the tests of the dashboard.
    pub tmux: Option<Tmux>,
}

impl Binaries {
    pub fn build() -> Result<Binaries> {
        let object = build::bpf_object()?;
        let observer = build::observer_with(&object)?;
        let tests = build::guest_tests(&object)?;
        Ok(Binaries { observer, tests, tools: setup::guest_tools()?, tmux: Some(setup::tmux()?) })
    }

    /// Returns the guest for tests of [`OWN_GUEST`]. 1 GiB pages need memory in aligned whole GiB on each node. With four levels of
    /// page tables and without the descriptors of huge pages' tails, it differs from all other guests.
    pub fn own_guest(&self, kernel: &Kernel, filter: &str, label: Option<&str>) -> Guest {
        self.guest(kernel, &[filter], label)
            .memory_mib(6144)
            .append("hugepagesz=1G hugepages=2 no5lvl hugetlb_free_vmemmap=on")
    }

    /// Returns a guest that runs the test binary with these arguments and shows its output, prefixed with `label` if other
    /// guests run beside it.
    pub fn guest(&self, kernel: &Kernel, arguments: &[&str], label: Option<&str>) -> Guest {
        let fixed = ["/bin/guest-tests", "--ignored", "--test-threads=1", "--nocapture"];
        let terminal = self.tmux.iter().flat_map(|tmux| &tmux.0);
        let guest = terminal
            .fold(Guest::new(kernel, &self.tools), |guest, (path, file)| guest.file(path, file))
            .file("/bin/observer", &self.observer)
            .file("/bin/guest-tests", &self.tests)
            .env("OBSERVER_BIN", "/bin/observer")
            .env("OBSERVER_GUEST_KERNEL", &kernel.name)
            .env("RUST_BACKTRACE", "1")
            .command(fixed.iter().chain(arguments).copied())
            .timeout(Some(TIMEOUT));
        match label {
            Some(label) => guest.echo_as(label),
            None => guest.echo(),
        }
    }
}

/// Parses the counts of passed and failed tests from the last line of a test binary's output.
pub fn summary(console: &str) -> Option<(u32, u32)> {
    let line = console.lines().rev().find_map(|line| line.trim().strip_prefix("test result: "))?;
    let count = |what: &str| {
        let (before, _) = line.split_once(&format!(" {what}"))?;
        before.rsplit(' ').next()?.parse().ok()
    };
    Some((count("passed")?, count("failed")?))
}

/// Returns the test names below the last "failures:" of the output.
pub fn failed_tests(console: &str) -> Vec<&str> {
    let Some((_, after)) = console.rsplit_once("failures:\n") else { return Vec::new() };
    after.lines().take_while(|line| line.starts_with("    ")).map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "\
running 2 tests
test attaches ... test result: this is a test's own word
ok
test counts ... FAILED

failures:

---- counts stdout ----
failures:
    counts
    counts_again

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.00s

";

    #[test]
    fn the_summary_is_the_last_one() {
        assert_eq!(summary(CONSOLE), Some((1, 2)));
        assert_eq!(failed_tests(CONSOLE), ["counts", "counts_again"]);
    }

    #[test]
    fn an_aborted_run_has_no_summary() {
        assert_eq!(summary("running 2 tests\ntest attaches ... "), None);
        assert!(failed_tests("running 2 tests\n").is_empty());
    }
}
