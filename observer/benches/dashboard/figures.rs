//! Figures from observations: numbers on the screen, processor time of threads, and percentiles.
//!
//! Pure, except [`Busy`], which reads `/proc`.

use std::{collections::BTreeMap, fs, io};

/// Name of the dashboard's threads; the others belong to the player.
const VIEW_THREADS: &str = "tui";

/// Smallest value that is not below this percentage of all values; 0 without values.
pub fn percentile(values: &[f64], hundredths: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (sorted.len() * hundredths).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

/// The number after a label in the header, as in `total 1,234,567`.
pub fn number_after(text: &str, label: &str) -> Option<u64> {
    let (_, rest) = text.split_once(&format!("{label} "))?;
    let digits = rest.split(|c: char| !c.is_ascii_digit() && c != ',').next()?;
    digits.replace(',', "").parse().ok()
}

/// Index of the shown view, from its column heads; views are in the order of their keys.
pub fn view(screen: &str) -> Option<usize> {
    const HEADS: [&[&str]; 7] = [
        &["COUNT WHAT", "COUNT FIRST"],
        &["COUNT CERTAIN"],
        &["WHAT ADDRESS"],
        &["HELD REQUESTED"],
        &["TIME CPU"],
        &["ROLE PART"],
        &["WHAT SITE"],
    ];
    screen.lines().find_map(|line| {
        let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
        HEADS.iter().position(|heads| heads.iter().any(|head| words.contains(head)))
    })
}

/// Processor time of a process, including its threads that have exited.
pub struct Busy {
    pid: u32,
    /// By thread: true for a thread of the view, and its processor time in nanoseconds at the last look.
    threads: BTreeMap<u32, (bool, u64)>,
}

impl Busy {
    pub fn of(pid: u32) -> Busy {
        Busy { pid, threads: BTreeMap::new() }
    }

    /// Reads the times of all threads. A thread that starts and exits between two calls is missed: call it often.
    pub fn look(&mut self) -> io::Result<()> {
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let path = thread?.path();
            let tid = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            // The thread may have exited.
            let (Ok(name), Ok(times)) =
                (fs::read_to_string(path.join("comm")), fs::read_to_string(path.join("schedstat")))
            else {
                continue;
            };
            if let (Some(tid), Some(ns)) = (tid, on_processor_ns(&times)) {
                self.threads.insert(tid, (name.starts_with(VIEW_THREADS), ns));
            }
        }
        Ok(())
    }

    /// Processor time in nanoseconds: of the view's threads, and of all threads.
    pub fn ns(&self) -> (u64, u64) {
        let sum = |which: fn(bool) -> bool| {
            self.threads.values().filter(|(view, _)| which(*view)).map(|(_, ns)| ns).sum()
        };
        (sum(|view| view), sum(|_| true))
    }
}

/// The first number of `schedstat`.
fn on_processor_ns(schedstat: &str) -> Option<u64> {
    schedstat.split(' ').next()?.parse().ok()
}

#[cfg(test)]
#[allow(
    unused_imports,
    reason = "they are run by the tests of the dashboard; a bench without a harness has none"
)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!([50, 95, 99, 100].map(|p| percentile(&values, p)), [100.0, 190.0, 198.0, 200.0]);
        assert_eq!(percentile(&[7.0], 50), 7.0);
        assert_eq!(percentile(&[], 50), 0.0);
    }

    #[test]
    fn numbers_of_the_header_are_parsed() {
        let header = "events/s 498k  total 1,234,567  findings 3 (1 alarm)\nloss 12 (ring-full 12)";
        assert_eq!(number_after(header, "total"), Some(1_234_567));
        assert_eq!(number_after(header, "loss"), Some(12));
        assert_eq!(number_after(header, "tables"), None);
    }

    #[test]
    fn a_view_is_recognised_by_its_column_heads() {
        assert_eq!(view("1 Overview\nRANK          KIND         COUNT WHAT"), Some(0));
        assert_eq!(view("RANK         KIND       COUNT  CERTAIN POSSIBLE          FIRST WHAT"), Some(1));
        assert_eq!(view("a page of something"), None);
    }

    #[test]
    fn processor_time_of_this_process_is_measured() {
        let mut busy = Busy::of(std::process::id());
        busy.look().unwrap();
        let (view, all) = busy.ns();
        assert!(all > view);
        assert_eq!(on_processor_ns("123456 7 8\n"), Some(123_456));
    }
}
