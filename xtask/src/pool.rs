//! Runs guests side by side: limits how many run at once, and starts the next. The caller defines their work.

use std::{
    num::NonZero,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use clap::Args;

/// Maximum number of guests at once, on any number of processors: each takes 2 GiB.
const JOBS_MAX: usize = 4;

#[derive(Args)]
pub struct Jobs {
    /// Guests at once; without it one for each processor, and no more than four
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    jobs: Option<u32>,
}

impl Jobs {
    /// Returns the number of guests at once. A guest has two virtual processors and keeps one of them busy most of the time:
    /// while it boots, and while a scenario runs. On two processors, two bare boots took 12.8 s one after the other and 7.9 s
    /// at once. Four guests that kept both busy took 32 s one by one, 28 s in pairs, and 31 s all at once.
    pub fn count(&self) -> usize {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        self.jobs.map_or(processors.min(JOBS_MAX), |jobs| jobs as usize)
    }
}

/// Runs the tasks in order, up to `jobs` at once, and returns their results in the order of the tasks.
pub fn run<T: Sync, R: Send>(jobs: usize, tasks: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let worker = || {
        while let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some(task) = tasks.get(index)
        {
            let result = work(task);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, tasks.len().max(1)) {
            scope.spawn(worker);
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Barrier, time::Duration};

    #[test]
    fn results_are_in_the_order_of_the_tasks() {
        let work = |&ms: &u64| {
            thread::sleep(Duration::from_millis(ms));
            ms
        };
        assert_eq!(run(3, &[30, 1, 10, 0], work), [30, 1, 10, 0]);
        assert_eq!(run(3, &[], work), [0; 0]);
    }

    #[test]
    fn the_number_of_concurrent_tasks_is_limited() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let both = Barrier::new(2);
        run(2, &[(); 6], |()| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            both.wait();
            now.fetch_sub(1, Ordering::SeqCst);
        });
        assert_eq!(most.into_inner(), 2);
    }
}
