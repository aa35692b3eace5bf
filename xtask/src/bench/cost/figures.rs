//! Figures of one kernel, computed from the guest's lines.

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

/// Measurements without a watcher, before and after those with one.
const BARE: [&str; 2] = ["bare", "bare-again"];
/// Difference between the two bare measurements of an operation that fails, as a share and in instructions; both must be exceeded. On
/// 6.12 the largest was 0.23 %; on 5.10 it was 3.7 %, of an open.
const AGREEMENT: f64 = 0.05;
const AGREEMENT_LEAST: u64 = 50;

/// One line of the guest.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    watcher: String,
    unit: Unit,
    group: String,
    operation: String,
    string_bytes: u64,
    /// Least count of a batch, and number of operations in the batch.
    count: u64,
    of: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Unit {
    Instructions,
    Runs,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Name of the kernel, as `--kernel` takes it.
    pub name: String,
    /// The kernel that was booted, as in `uname -r`.
    pub kernel: String,
    pub operations: Vec<Operation>,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    pub group: String,
    pub operation: String,
    /// Bytes that the operation clears or copies by string instructions.
    pub string_bytes: u64,
    /// Instructions of one operation without a watcher, string instructions included: the lower of two measurements.
    pub bare: u64,
    /// Instructions in the other measurement.
    pub bare_again: u64,
    pub watched: Vec<Watched>,
}

/// Cost of an operation under one watcher.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Watched {
    pub watcher: String,
    /// Instructions that the watcher adds to one operation.
    pub added: u64,
    /// Runs of BPF programs in one operation; `None` if the watcher has no programs.
    pub runs: Option<f64>,
}

impl Figures {
    /// Computes the figures. Each operation needs both bare measurements and the instructions of each watcher.
    pub fn parse(name: &str, kernel: &str, lines: &str) -> Result<Figures> {
        let parse =
            |line| serde_json::from_str::<Line>(line).with_context(|| format!("not a figure: {line}"));
        let lines: Vec<Line> = lines.lines().map(parse).collect::<Result<_>>()?;
        let mut watchers: Vec<&str> = Vec::new();
        for line in lines.iter().filter(|line| !BARE.contains(&line.watcher.as_str())) {
            if !watchers.contains(&line.watcher.as_str()) {
                watchers.push(&line.watcher);
            }
        }
        let bare = lines.iter().filter(|line| line.watcher == BARE[0]);
        let operations: Vec<Operation> =
            bare.map(|bare| operation(bare, &lines, &watchers)).collect::<Result<_>>()?;
        if operations.is_empty() {
            bail!("the guest wrote no figures");
        }
        Ok(Figures { name: name.to_owned(), kernel: kernel.to_owned(), operations })
    }

    /// Lists operations whose bare measurements before and after the watchers differ, so that the figures mean little.
    pub fn disagreements(&self) -> Vec<String> {
        let differs = |operation: &&Operation| {
            operation.bare_again - operation.bare > AGREEMENT_LEAST && operation.disagreement() > AGREEMENT
        };
        let text = |operation: &Operation| {
            let Operation { operation, bare, bare_again, .. } = operation;
            format!("{}: {operation}: bare it took {bare} and {bare_again} instructions", self.name)
        };
        self.operations.iter().filter(differs).map(text).collect()
    }

    /// Returns the names of the watchers, in the order of measurement.
    pub fn watchers(&self) -> Vec<&str> {
        let first = self.operations.first();
        first.iter().flat_map(|first| &first.watched).map(|watched| watched.watcher.as_str()).collect()
    }
}

impl Operation {
    /// Difference of the two bare measurements, as a share of the lower one.
    pub fn disagreement(&self) -> f64 {
        (self.bare_again - self.bare) as f64 / self.bare.max(1) as f64
    }

    /// Instructions of the bare operation without its string instructions. Kernels clear and copy in bytes or in words of 8 bytes;
    /// the larger number that fits is the right one, since everything else is much less.
    pub fn bare_without_strings(&self) -> u64 {
        let Operation { bare, string_bytes, .. } = self;
        let without = [*string_bytes, string_bytes / 8].iter().find_map(|string| bare.checked_sub(*string));
        without.unwrap_or(*bare)
    }

    pub fn under(&self, watcher: &str) -> Option<&Watched> {
        self.watched.iter().find(|watched| watched.watcher == watcher)
    }
}

fn operation(bare: &Line, lines: &[Line], watchers: &[&str]) -> Result<Operation> {
    let name = &bare.operation;
    let find = |watcher: &str, unit: Unit| {
        let is_it = |line: &&Line| line.watcher == watcher && line.unit == unit && line.operation == *name;
        lines.iter().find(is_it)
    };
    let instructions = |watcher: &str| {
        let line = find(watcher, Unit::Instructions);
        line.with_context(|| format!("{name}: no figure of {watcher}")).and_then(each)
    };
    let (before, after) = (each(bare)?, instructions(BARE[1])?);
    let (low, high) = (before.min(after), before.max(after));
    let watched = |watcher: &&str| {
        let added = (instructions(watcher)? - low).max(0.0).round() as u64;
        // Hundredths are enough, and equal data give equal bytes.
        let hundredths = |runs: f64| (runs * 100.0).round() / 100.0;
        let runs = find(watcher, Unit::Runs).map(each).transpose()?.map(hundredths);
        Ok(Watched { watcher: (*watcher).to_owned(), added, runs })
    };
    Ok(Operation {
        group: bare.group.clone(),
        operation: name.clone(),
        string_bytes: bare.string_bytes,
        bare: low.round() as u64,
        bare_again: high.round() as u64,
        watched: watchers.iter().map(watched).collect::<Result<_>>()?,
    })
}

/// Count for one operation.
fn each(line: &Line) -> Result<f64> {
    if line.of == 0 {
        bail!("{}: a batch of no operations", line.operation);
    }
    Ok(line.count as f64 / line.of as f64)
}

#[cfg(test)]
pub mod fixture {
    use super::*;

    fn line(watcher: &str, unit: &str, operation: &str, string_bytes: u64, count: u64, of: u64) -> String {
        let group = if operation == "getppid" { "unrelated" } else { "hugetlbfs" };
        format!(
            "{{\"watcher\":\"{watcher}\",\"unit\":\"{unit}\",\"group\":\"{group}\",\"operation\":\"{operation}\",\
             \"string_bytes\":{string_bytes},\"count\":{count},\"of\":{of}}}\n"
        )
    }

    /// Lines of a guest in which the level `full` adds this to each fault.
    pub fn lines(added: u64) -> String {
        let page = 2 << 20;
        [
            line("bare", "instructions", "fault", page, page + 16_000, 1),
            line("bare", "instructions", "getppid", 0, 1_650, 5),
            line("light", "instructions", "fault", page, page + 18_000, 1),
            line("light", "instructions", "getppid", 0, 1_645, 5),
            line("light", "runs", "fault", page, 4, 1),
            line("light", "runs", "getppid", 0, 0, 5),
            line("full", "instructions", "fault", page, page + 16_000 + added, 1),
            line("full", "instructions", "getppid", 0, 1_660, 5),
            line("full", "runs", "fault", page, 25, 2),
            line("full", "runs", "getppid", 0, 0, 5),
            line("bare-again", "instructions", "fault", page, page + 16_010, 1),
            line("bare-again", "instructions", "getppid", 0, 1_650, 5),
        ]
        .concat()
    }

    pub fn figures(added: u64) -> Figures {
        Figures::parse("6.12", "6.12.95+deb12-cloud-amd64", &lines(added)).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_costs_what_it_adds_to_the_lower_bare_measurement() {
        let figures = fixture::figures(10_000);
        assert_eq!(figures.watchers(), ["light", "full"]);
        let [fault, getppid] = figures.operations.as_slice() else { panic!("{figures:?}") };
        assert_eq!((fault.bare, fault.bare_again), ((2 << 20) + 16_000, (2 << 20) + 16_010));
        let full = Watched { watcher: "full".into(), added: 10_000, runs: Some(12.5) };
        assert_eq!(fault.under("full"), Some(&full));
        assert_eq!(getppid.under("full").unwrap().added, 2, "a fifth of a batch");
        assert_eq!(getppid.under("light").unwrap().added, 0, "an operation cannot become cheaper");
        assert_eq!(figures.disagreements(), Vec::<String>::new());
    }

    #[test]
    fn string_instructions_are_subtracted_in_bytes_or_in_words() {
        let bare = |bare: u64| {
            let operation = fixture::figures(0).operations[0].clone();
            Operation { bare, ..operation }.bare_without_strings()
        };
        assert_eq!(bare((2 << 20) + 5), 5);
        assert_eq!(bare((2 << 20) / 8 + 5), 5);
        assert_eq!(bare(5), 5);
    }

    #[test]
    fn incomplete_output_is_refused() {
        let all = fixture::lines(10_000);
        for (number, _) in all.lines().enumerate().filter(|(_, line)| line.contains("\"instructions\"")) {
            let without = all.lines().enumerate().filter(|(other, _)| *other != number);
            let lines: Vec<&str> = without.map(|(_, line)| line).collect();
            let of = Figures::parse("6.12", "", &lines.join("\n"));
            // The first pass says which operations there are.
            let is_first = all.lines().nth(number).is_some_and(|line| line.contains("\"bare\""));
            assert_eq!(of.is_err(), !is_first, "without line {number}");
        }
        assert!(Figures::parse("6.12", "", "").is_err());
        assert!(Figures::parse("6.12", "", "guest-cost: a message\n").is_err());
    }

    #[test]
    fn bare_measurements_that_differ_are_reported() {
        let mut figures = fixture::figures(10_000);
        figures.operations[1].bare_again = 380;
        assert_eq!(figures.disagreements(), Vec::<String>::new(), "50 instructions are little");
        figures.operations[1].bare_again = 381;
        assert_eq!(figures.disagreements(), ["6.12: getppid: bare it took 330 and 381 instructions"]);
    }
}
