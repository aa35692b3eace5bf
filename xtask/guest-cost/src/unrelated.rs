//! Operations without huge pages, which pay only for programs at functions that the whole kernel uses.

use std::{
    cell::UnsafeCell,
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::{
    meter::{Batch, Operation},
    sys::{BASE_PAGE, Mapping, check, set_real_time},
};

const GROUP: &str = "unrelated";
const FILE: &str = "/tmp/guest-cost";
/// Threads, all of the real-time class, that request the mutex, and how often each does in a batch.
const THREADS: usize = 4;
const ROUNDS: usize = 32;

/// The mutex is last, because its threads change what later calls of the C library cost.
pub const OPERATIONS: &[Operation] = &[
    operation("getppid", 0, getppid),
    operation("pipe, write and read", 0, pipe),
    operation("pread of 4 KiB", BASE_PAGE as u64, pread),
    operation("open and close", 0, open),
    operation("mmap, touch, munmap of a base page", BASE_PAGE as u64, map),
    operation("fork, exit, wait", 0, fork),
    operation("mutex of four threads", 0, mutex),
];

const fn operation(name: &'static str, string_bytes: u64, start: fn() -> io::Result<Batch>) -> Operation {
    Operation { name, group: GROUP, string_bytes, start }
}

fn times(of: u64, mut work: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    (0..of).try_for_each(|_| work())
}

fn getppid() -> io::Result<Batch> {
    const OF: u64 = 500;
    Ok(Box::new(|meter| {
        meter.batch(OF, || {
            times(OF, || {
                // SAFETY: no argument; cannot fail.
                unsafe { libc::getppid() };
                Ok(())
            })
        })
    }))
}

fn pipe() -> io::Result<Batch> {
    const OF: u64 = 64;
    let mut ends = [0; 2];
    // SAFETY: the array has room for two descriptors, which are new and have no other owner.
    let (reader, writer) = unsafe {
        check(libc::pipe(ends.as_mut_ptr()))?;
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    };
    Ok(Box::new(move |meter| {
        let mut byte = 1_u8;
        meter.batch(OF, || {
            times(OF, || {
                // SAFETY: one byte in each direction.
                unsafe {
                    check(libc::write(writer.as_raw_fd(), (&raw const byte).cast(), 1) as i64)?;
                    check(libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1) as i64).map(drop)
                }
            })
        })
    }))
}

fn pread() -> io::Result<Batch> {
    const OF: u64 = 64;
    std::fs::write(FILE, [1; BASE_PAGE])?;
    let file = File::open(FILE)?;
    let mut buffer = [0_u8; BASE_PAGE];
    Ok(Box::new(move |meter| {
        meter.batch(OF, || {
            times(OF, || {
                // SAFETY: the buffer has the size that is passed.
                let read = unsafe { libc::pread(file.as_raw_fd(), buffer.as_mut_ptr().cast(), BASE_PAGE, 0) };
                check(read as i64).map(drop)
            })
        })
    }))
}

fn open() -> io::Result<Batch> {
    const OF: u64 = 32;
    std::fs::write(FILE, [1; BASE_PAGE])?;
    Ok(Box::new(|meter| {
        meter.batch(OF, || {
            times(OF, || {
                // SAFETY: the path is a C string; the descriptor is closed at once.
                unsafe {
                    let fd = check(libc::open(c"/tmp/guest-cost".as_ptr(), libc::O_RDONLY))?;
                    check(libc::close(fd as libc::c_int)).map(drop)
                }
            })
        })
    }))
}

fn map() -> io::Result<Batch> {
    const OF: u64 = 16;
    Ok(Box::new(|meter| {
        meter.batch(OF, || {
            times(OF, || {
                let mapping = Mapping::private(BASE_PAGE)?;
                mapping.touch(0);
                drop(mapping);
                Ok(())
            })
        })
    }))
}

fn fork() -> io::Result<Batch> {
    const OF: u64 = 4;
    Ok(Box::new(|meter| {
        meter.batch(OF, || {
            times(OF, || {
                // SAFETY: the child calls nothing but `_exit`.
                unsafe {
                    let child = check(libc::fork())? as libc::pid_t;
                    if child == 0 {
                        libc::_exit(0);
                    }
                    check(libc::waitpid(child, std::ptr::null_mut(), 0)).map(drop)
                }
            })
        })
    }))
}

/// A mutex of the C library, which does not spin before it waits.
struct Mutex(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: it is there to be used by several threads, through its own functions only.
unsafe impl Send for Mutex {}
// SAFETY: as above.
unsafe impl Sync for Mutex {}

impl Mutex {
    /// Locks it, lets the other threads run into it, and unlocks it.
    fn contended_round(&self) {
        // SAFETY: initialized, never moved while it is in use, and unlocked by the thread that locked it.
        unsafe {
            libc::pthread_mutex_lock(self.0.get());
            libc::sched_yield();
            libc::pthread_mutex_unlock(self.0.get());
        }
    }
}

/// The threads of the mutex, which end on drop. The measuring thread is the fourth.
struct Crew {
    mutex: Arc<Mutex>,
    barrier: Arc<Barrier>,
    is_over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Crew {
    fn start() -> Crew {
        let mutex = Arc::new(Mutex(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER)));
        let (barrier, is_over) = (Arc::new(Barrier::new(THREADS)), Arc::new(AtomicBool::new(false)));
        let thread = |_| {
            let (mutex, barrier, is_over) = (Arc::clone(&mutex), Arc::clone(&barrier), Arc::clone(&is_over));
            thread::spawn(move || {
                loop {
                    barrier.wait();
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    (0..ROUNDS).for_each(|_| mutex.contended_round());
                    barrier.wait();
                }
            })
        };
        let threads = (1..THREADS).map(thread).collect();
        Crew { mutex, barrier, is_over, threads }
    }

    fn work(&self) {
        self.barrier.wait();
        (0..ROUNDS).for_each(|_| self.mutex.contended_round());
        self.barrier.wait();
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.barrier.wait();
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
        set_real_time(false).ok();
    }
}

fn mutex() -> io::Result<Batch> {
    set_real_time(true)?;
    let crew = Crew::start();
    Ok(Box::new(move |meter| {
        meter.batch((THREADS * ROUNDS) as u64, || crew.work());
        Ok(())
    }))
}
