//! Several concurrent tasks, each looping over its own work until time is up or one fails. This file does not know the work.

use std::io::{PipeReader, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use libc::{c_long, pid_t};

use super::outcome::{Outcome, Result, Stop};
use super::process::Child;
use super::sys::{self, check};

/// Maximum number of tasks in a crew; bounds the shared page.
const MEMBERS: usize = 16;
const TICK: Duration = Duration::from_millis(10);

/// Memory shared by the tasks: one page that every fork inherits. All zeros is its initial state.
#[repr(C)]
struct Board {
    stop: AtomicBool,
    rounds: [AtomicU64; MEMBERS],
}

pub struct Crew {
    board: &'static Board,
    members: Vec<(Child, PipeReader)>,
    /// Name of the task at each place of the board.
    places: Vec<&'static str>,
    seed: u64,
}

impl Crew {
    pub fn new(seed: u64) -> Result<Crew> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh anonymous mapping at an address that the kernel chooses.
        let page = unsafe {
            libc::mmap(std::ptr::null_mut(), std::mem::size_of::<Board>(), protection, flags, -1, 0)
        };
        check(page as c_long, || "mmap of a shared page".into())?;
        // SAFETY: big enough, page aligned, zeroed, and never unmapped: a crew lives as long as its process.
        let board = unsafe { &*page.cast::<Board>() };
        Ok(Crew { board, members: Vec::new(), places: Vec::new(), seed })
    }

    /// Returns the place of the next task.
    pub fn next_place(&self) -> usize {
        self.places.len()
    }

    /// Reserves a place on the board for a task, or for a thread of a task (see [`Shift::at`]).
    pub fn place(&mut self, name: &'static str) -> Result<usize> {
        if self.places.len() == MEMBERS {
            return Err(Stop::Fail(format!("start of {name}: a crew has at most {MEMBERS} tasks")));
        }
        self.places.push(name);
        Ok(self.places.len() - 1)
    }

    /// Starts a task, which loops while [`Shift::go_on`] is true. If it returns a [`Stop`], the whole crew ends.
    pub fn add(&mut self, name: &'static str, body: impl FnOnce(&mut Shift) -> Result<()>) -> Result<pid_t> {
        let place = self.place(name)?;
        let (reader, mut writer) = std::io::pipe().map_err(|source| sys::Error::new("pipe", source))?;
        let mut shift = Shift::new(self.board, place, self.seed);
        let child = Child::fork(name, || {
            let result = body(&mut shift);
            if result.is_err() {
                shift.stop();
            }
            let outcome = Outcome::from(result.map(|()| String::new()));
            i32::from(writer.write_all(&outcome.to_bytes()).is_err())
        })?;
        let pid = child.pid();
        self.members.push((child, reader));
        Ok(pid)
    }

    /// Returns when every task has begun a round. Two tasks that touch a file at the same moment get a table each and never
    /// share, so the first must be working before the second starts.
    pub fn wait_until_working(&self) {
        let working = |place: usize| self.board.rounds[place].load(Ordering::Relaxed) > 0;
        while !(0..self.places.len()).all(working) && !self.board.stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets the tasks work for a time, stops them, and returns the number of rounds that each did.
    pub fn run_for(self, duration: Duration) -> Result<String> {
        let end = Instant::now() + duration;
        while Instant::now() < end && !self.board.stop.load(Ordering::Relaxed) {
            std::thread::sleep(TICK);
        }
        self.board.stop.store(true, Ordering::Relaxed);
        self.run_to_end()
    }

    /// Waits until every task has ended, either by itself or because one of them failed.
    pub fn run_to_end(self) -> Result<String> {
        for (child, mut reader) in self.members {
            let name = child.name();
            child.join()?;
            let mut bytes = Vec::new();
            let read = reader.read_to_end(&mut bytes).ok().and_then(|_| Outcome::from_bytes(&bytes));
            let outcome = read.ok_or_else(|| Stop::Fail(format!("{name} ended without a word")))?;
            outcome.into_result().map_err(|stop| stop.of(name))?;
        }
        let rounds = self
            .places
            .iter()
            .zip(&self.board.rounds)
            .map(|(name, rounds)| format!("{} {}", name, rounds.load(Ordering::Relaxed)));
        Ok(format!("rounds: {}", rounds.collect::<Vec<_>>().join(", ")))
    }
}

/// One task's view of its crew.
pub struct Shift {
    board: &'static Board,
    place: usize,
    seed: u64,
    random: u64,
}

impl Shift {
    fn new(board: &'static Board, place: usize, seed: u64) -> Shift {
        // Odd, and so never zero, where the generator would stay.
        let random = (seed.wrapping_mul(MEMBERS as u64).wrapping_add(place as u64) << 1) | 1;
        Shift { board, place, seed, random }
    }

    /// Returns the same crew seen from another place, for a thread of this task.
    pub fn at(&self, place: usize) -> Shift {
        Shift::new(self.board, place, self.seed)
    }

    /// Returns when the task at `place` has begun a round.
    pub fn wait_for(&self, place: usize) {
        let is_working = || self.board.rounds[place].load(Ordering::Relaxed) > 0;
        while !is_working() && !self.board.stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns true if another round should begin, and counts it. Call it at the start of each round.
    pub fn go_on(&self) -> bool {
        let on = !self.board.stop.load(Ordering::Relaxed);
        if on {
            self.board.rounds[self.place].fetch_add(1, Ordering::Relaxed);
        }
        on
    }

    /// Ends the work of every task.
    pub fn stop(&self) {
        self.board.stop.store(true, Ordering::Relaxed);
    }

    /// Returns a number below `bound`: xorshift64, from the run's seed and the task's place in the crew.
    pub fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % bound as u64) as usize
    }

    /// Sleeps a random time with the given mean; returns early if the crew stops.
    pub fn pause(&mut self, mean: Duration) {
        let micros = mean.as_micros() as usize;
        let end = Instant::now() + Duration::from_micros((micros / 2 + self.below(micros)) as u64);
        while !self.board.stop.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(TICK));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tasks_work_until_the_time_is_up() {
        let mut crew = Crew::new(1).unwrap();
        for name in ["one", "two"] {
            crew.add(name, |shift| {
                while shift.go_on() {
                    shift.pause(Duration::from_millis(1));
                }
                Ok(())
            })
            .unwrap();
        }
        let text = crew.run_for(Duration::from_millis(100)).unwrap();
        assert!(text.starts_with("rounds: one ") && text.contains(", two "), "{text}");
    }

    #[test]
    fn a_task_that_stops_ends_the_crew() {
        let begin = Instant::now();
        let mut crew = Crew::new(1).unwrap();
        crew.add("idle", |shift| {
            while shift.go_on() {
                shift.pause(Duration::from_millis(5));
            }
            Ok(())
        })
        .unwrap();
        crew.add("refused", |_| Err(Stop::Skip("no such call".into()))).unwrap();
        let stop = crew.run_for(Duration::from_secs(20)).unwrap_err();
        assert_eq!(stop, Stop::Skip("refused: no such call".into()));
        assert!(begin.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_killed_task_is_a_failure() {
        let mut crew = Crew::new(1).unwrap();
        crew.add("killed", |_| {
            // SAFETY: kills only this process.
            unsafe { libc::raise(libc::SIGKILL) };
            Ok(())
        })
        .unwrap();
        let stop = crew.run_for(Duration::from_millis(50)).unwrap_err();
        assert_eq!(stop, Stop::Fail("killed was killed by signal 9".into()));
    }
}
