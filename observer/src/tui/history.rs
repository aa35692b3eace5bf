//! Rates from running totals, over event time, for the header's numbers and the sparklines.
//!
//! Decides how totals at moments become events per second. The snapshot decides what is counted and how it is named.

use std::collections::VecDeque;

/// Event time of one column of a sparkline, ns.
pub const COLUMN_NS: u64 = 500_000_000;
/// Maximum number of columns kept: more than the widest terminal shows.
const COLUMNS: usize = 512;
/// Time over which a rate is taken: 2 s, short enough to move and long enough to be read.
const RATE_NS: u64 = 2_000_000_000;

/// Running totals of several series over event time.
#[derive(Debug, Default)]
pub struct History {
    /// `(time_ns, totals)`, at most one per column, by rising time; the last one is the newest.
    samples: VecDeque<(u64, Vec<u64>)>,
}

impl History {
    /// Takes the totals at a moment. If time runs backwards, a new run began: the old samples are dropped.
    pub fn push(&mut self, time_ns: u64, totals: Vec<u64>) {
        let fits = |(t, former): &(u64, Vec<u64>)| *t <= time_ns && former.len() == totals.len();
        if !self.samples.back().is_none_or(fits) {
            self.samples.clear();
        }
        // Only the newest sample may lie inside a column: it is replaced until the column is full.
        let column = |t: u64| t / COLUMN_NS;
        let n = self.samples.len();
        if n >= 2 && column(self.samples[n - 2].0) == column(self.samples[n - 1].0) {
            self.samples.pop_back();
        }
        self.samples.push_back((time_ns, totals));
        while self.samples.len() > COLUMNS {
            self.samples.pop_front();
        }
    }

    /// Events per second of a series, over the last two seconds of event time; `None` until two moments are known.
    #[must_use]
    pub fn rate(&self, series: usize) -> Option<f64> {
        let (now, totals) = self.samples.back()?;
        let since = now.saturating_sub(RATE_NS);
        let at = self.samples.partition_point(|(t, _)| *t <= since).saturating_sub(1);
        let (then, former) = self.samples.get(at)?;
        (then < now).then(|| per_second(*totals.get(series)?, *former.get(series)?, now - then))?
    }

    /// The newest `width` columns of a series, oldest first, in events per second.
    #[must_use]
    pub fn columns(&self, series: usize, width: usize) -> Vec<f64> {
        let Some(newest) = self.samples.back() else { return Vec::new() };
        let oldest_ns = self.samples[0].0;
        let mut columns = Vec::new();
        let mut hi = newest.0;
        while columns.len() < width && hi > oldest_ns {
            let lo = hi.saturating_sub(COLUMN_NS).max(oldest_ns);
            let taken = self.total_at(series, hi) - self.total_at(series, lo);
            columns.push(taken * 1e9 / (hi - lo) as f64);
            hi = lo;
        }
        columns.reverse();
        columns
    }

    /// Total of a series at a moment, interpolated linearly between the samples around it.
    fn total_at(&self, series: usize, time_ns: u64) -> f64 {
        let total = |i: usize| self.samples[i].1.get(series).copied().unwrap_or(0) as f64;
        let after = self.samples.partition_point(|(t, _)| *t < time_ns).min(self.samples.len() - 1);
        let before = after.saturating_sub(1);
        let (t0, t1) = (self.samples[before].0, self.samples[after].0);
        if t1 <= t0 || time_ns >= t1 {
            return total(after);
        }
        let part = time_ns.saturating_sub(t0) as f64 / (t1 - t0) as f64;
        total(before) + (total(after) - total(before)) * part
    }
}

fn per_second(total: u64, former: u64, over_ns: u64) -> Option<f64> {
    Some(total.checked_sub(former)? as f64 * 1e9 / over_ns as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn steady(per_s: u64, step_ns: u64, n: u64) -> History {
        let mut h = History::default();
        for i in 0..n {
            h.push(i * step_ns, vec![i * step_ns / 1000 * per_s / 1_000_000, 0]);
        }
        h
    }

    #[test]
    fn a_steady_stream_has_a_steady_rate() {
        for step_ns in [S / 20, S / 10, S, 7 * S] {
            let h = steady(4000, step_ns, 60);
            assert_eq!(h.rate(0), Some(4000.0), "step {step_ns}");
            assert_eq!(h.rate(1), Some(0.0));
            let columns = h.columns(0, 5);
            assert_eq!(columns.len(), 5);
            assert!(columns.iter().all(|c| (c - 4000.0).abs() < 1.0), "step {step_ns}: {columns:?}");
        }
    }

    #[test]
    fn a_single_sample_has_no_rate() {
        let h = steady(1, S, 1);
        assert_eq!((h.rate(0), h.columns(0, 9).len()), (None, 0));
        assert_eq!(History::default().rate(0), None);
    }

    #[test]
    fn a_step_back_in_time_clears_the_history() {
        let mut h = steady(10, S, 9);
        h.push(S, vec![10, 0]);
        assert_eq!(h.rate(0), None);
        h.push(2 * S, vec![30, 0]);
        assert_eq!(h.rate(0), Some(20.0));
    }

    #[test]
    fn memory_is_bounded() {
        assert!(steady(1, S, 100_000).samples.len() <= COLUMNS);
    }
}
