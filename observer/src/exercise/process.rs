//! Tasks of a scenario: forked, named, and killed when their parent dies. Also the partner, which maps and touches on
//! request. Time limits are the supervisor's job.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use libc::{c_int, pid_t};

use super::outcome::{Outcome, Result, Stop};
use super::region::{HugeFile, Region};
use super::sys::{self, check};

/// A forked task that is killed and reaped on drop.
pub struct Child {
    pid: pid_t,
    name: &'static str,
    reaped: bool,
}

impl Child {
    /// Forks a task named `ex-` plus `name` (at most 12 bytes) in every tool. `body` returns the exit status.
    ///
    /// The calling process must have one thread: the fork copies its memory as it is, locks included.
    pub fn fork(name: &'static str, body: impl FnOnce() -> i32) -> sys::Result<Child> {
        // SAFETY: getpid cannot fail.
        let parent = unsafe { libc::getpid() };
        // SAFETY: one thread, see above; the child runs `body` and leaves by _exit, never by returning.
        let pid = check(unsafe { libc::fork() }.into(), || format!("fork of {name}"))? as pid_t;
        if pid != 0 {
            return Ok(Child { pid, name, reaped: false });
        }
        let status = if die_with(parent) {
            set_name(name);
            catch_unwind(AssertUnwindSafe(body)).unwrap_or(101)
        } else {
            1
        };
        // SAFETY: ends the child here, without running destructors that belong to its parent.
        unsafe { libc::_exit(status) }
    }

    pub fn pid(&self) -> pid_t {
        self.pid
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Waits for the end. An exit status other than 0, or a signal, is an error.
    pub fn join(mut self) -> Result<()> {
        match self.reap()? {
            status if libc::WIFSIGNALED(status) => {
                Err(Stop::Fail(format!("{} was killed by signal {}", self.name, libc::WTERMSIG(status))))
            }
            status if libc::WEXITSTATUS(status) != 0 => {
                Err(Stop::Fail(format!("{} ended with status {}", self.name, libc::WEXITSTATUS(status))))
            }
            _ => Ok(()),
        }
    }

    fn reap(&mut self) -> sys::Result<c_int> {
        self.reaped = true;
        loop {
            let mut status = 0;
            // SAFETY: our own child, not yet reaped; `status` is ours.
            let returned = unsafe { libc::waitpid(self.pid, &mut status, 0) };
            match check(returned.into(), || format!("wait for {}", self.name)) {
                Err(error) if error.errno() == Some(libc::EINTR) => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(status),
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            // SAFETY: our own child, not yet reaped, so the id is still its own.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            let _ = self.reap(); // it was killed; a failed wait changes nothing
        }
    }
}

/// Asks the kernel to kill this task when its parent dies; false if the parent is already dead.
fn die_with(parent: pid_t) -> bool {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number; getppid cannot fail.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 && libc::getppid() == parent }
}

/// Names the task after what it does; the name appears in every finding.
pub fn set_name(name: &str) {
    let name = format!("ex-{name}\0");
    // SAFETY: a NUL-terminated string that lives over the call; the kernel copies 15 bytes of it.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Another task that obeys one order at a time and reports when it is done.
pub struct Partner {
    child: Child,
    line: BufReader<UnixStream>,
}

const EXIT: &str = "exit";

impl Partner {
    /// Forks a partner that maps the first GiB of the file; see [`Partner::mapper_of`].
    pub fn mapper(name: &'static str, file: &HugeFile) -> Result<Partner> {
        Partner::mapper_of(name, || Region::shared(file))
    }

    /// Forks a partner that maps on its first order and touches on every later one. Call it before this process maps the
    /// file, so that the partner inherits no mapping.
    pub fn mapper_of(name: &'static str, map: impl Fn() -> sys::Result<Region>) -> Result<Partner> {
        let mut region = None;
        Partner::fork(name, move |_| {
            match &region {
                Some(region) => Region::fill(region)?,
                None => region = Some(map()?),
            }
            Ok(())
        })
    }

    /// Forks a partner that passes each order to `work`. Everything that `work` owns is freed by the task's exit.
    pub fn fork(name: &'static str, mut work: impl FnMut(&str) -> Result<()>) -> Result<Partner> {
        let pair = UnixStream::pair().map_err(|source| sys::Error::new("socketpair", source))?;
        let (ours, theirs) = pair;
        let child = Child::fork(name, move || {
            let status = obey(theirs, &mut work);
            // Its mappings are removed with its mm: that makes it an exit.
            std::mem::forget(work);
            status
        })?;
        Ok(Partner { child, line: BufReader::new(ours) })
    }

    /// Gives an order and returns when it is done.
    pub fn order(&mut self, order: &str) -> Result<()> {
        let name = self.child.name();
        let lost = |source| sys::Error::new(format!("order {name} to {order}"), source);
        self.line.get_mut().write_all(format!("{order}\n").as_bytes()).map_err(lost)?;
        let mut answer = Vec::new();
        self.line.read_until(0, &mut answer).map_err(lost)?;
        match Outcome::from_bytes(&answer) {
            Some(outcome) => outcome.into_result().map(drop).map_err(|stop| stop.of(name)),
            None => Err(Stop::Fail(format!("{name} died when it was ordered to {order}"))),
        }
    }

    pub fn pid(&self) -> pid_t {
        self.child.pid()
    }

    /// Maps and touches, which shares the table if there is one to share.
    pub fn map_and_touch(&mut self) -> Result<()> {
        self.order("map")?;
        self.touch()
    }

    pub fn touch(&mut self) -> Result<()> {
        self.order("touch")
    }

    /// Ends the partner; its mm is gone when this returns.
    pub fn exit(mut self) -> Result<()> {
        self.order(EXIT)?;
        self.child.join()
    }
}

fn obey(line: UnixStream, work: &mut impl FnMut(&str) -> Result<()>) -> i32 {
    let mut line = BufReader::new(line);
    let mut order = String::new();
    while line.read_line(&mut order).is_ok_and(|bytes| bytes > 0) {
        let word = order.trim_end();
        let done = if word == EXIT { Ok(()) } else { work(word) };
        let answer = Outcome::from(done.map(|()| String::new())).to_bytes();
        if line.get_mut().write_all(&answer).is_err() {
            break;
        }
        if word == EXIT {
            return 0;
        }
        order.clear();
    }
    1
}
