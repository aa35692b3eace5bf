//! The stages of an event, each timed over a whole repetition: the clock is read twice for thousands of events.
//! Preparing a stage is not timed. The clock is this thread's processor time, so other users of the processor do not
//! count.

use std::{
    cell::RefCell,
    hint::black_box,
    io::{self, Cursor, Write},
    rc::Rc,
    time::Duration,
};

use anyhow::ensure;
use observer::{
    recording::{Reader, Writer},
    run::pipeline::Pipeline,
    source::Pass,
};
use observer_ebpf::loss;
use observer_ebpf::record::Records;
use observer_engine::{
    Engine, Hole,
    event::{Event, decode},
    order::{Item, Order},
    setup::Setup,
};

use super::repeat::{Addresses, Recording};

/// A recording, repeated.
pub struct Load<'a> {
    pub recording: &'a Recording,
    pub times: u64,
}

/// Input of the engine.
pub enum Step {
    Event(Event),
    Hole(Hole),
    Tick(u64),
}

impl Load<'_> {
    pub fn events(&self) -> u64 {
        self.recording.events * self.times
    }

    fn each(&self, addresses: Addresses, mut timed: impl FnMut(&[Pass])) -> Duration {
        let mut passes = Vec::new();
        let mut took = Duration::ZERO;
        for n in 0..self.times {
            self.recording.nth(n, addresses, &mut passes);
            let begun = busy();
            timed(&passes);
            took += busy().saturating_sub(begun);
        }
        took
    }

    /// Bytes into events.
    pub fn decode(&self) -> Duration {
        self.each(Addresses::Same, |passes| {
            for batch in passes.iter().flat_map(|pass| &pass.batches) {
                for record in Records::of(&batch.bytes) {
                    let _ = black_box(decode(batch.cpu, record));
                }
            }
        })
    }

    /// Bytes to sorted events.
    pub fn order(&self) -> anyhow::Result<Duration> {
        let mut order = Order::new();
        let took = self.each(Addresses::Same, |passes| {
            for pass in passes {
                for batch in &pass.batches {
                    order.batch(batch.cpu, &batch.bytes);
                }
                order.mark(pass.mark, |item| _ = black_box(item));
            }
        });
        order.finish(|_| {});
        self.check(&order.counts())?;
        Ok(took)
    }

    /// Only sorted events.
    pub fn engine(&self, addresses: Addresses) -> anyhow::Result<Duration> {
        let mut engine = self.new_engine()?;
        let mut took = Duration::ZERO;
        self.steps(addresses, |steps| {
            let begun = busy();
            for step in steps {
                match step {
                    Step::Event(event) => engine.push(event),
                    Step::Hole(hole) => engine.hole(*hole),
                    Step::Tick(until_ns) => engine.tick(*until_ns),
                }
            }
            took += busy().saturating_sub(begun);
        });
        Ok(took)
    }

    /// Bytes to findings: the pipeline of the run.
    pub fn all(&self, addresses: Addresses, mut after: impl FnMut(u64)) -> anyhow::Result<Duration> {
        let mut pipeline = Pipeline::new(&self.recording.meta)?;
        let mut n = 0;
        let took = self.each(addresses, |passes| {
            passes.iter().for_each(|pass| pipeline.pass(pass));
            n += 1;
            after(n);
        });
        self.check(&pipeline.finish(&self.recording.meta, None, Vec::new()).counts)?;
        Ok(took)
    }

    /// The repetitions as the bytes of one recording.
    pub fn container(&self) -> anyhow::Result<Vec<u8>> {
        let out = Shared::default();
        let mut writer = Writer::new(Box::new(out.clone()), &self.recording.meta)?;
        let mut passes = Vec::new();
        for n in 0..self.times {
            self.recording.nth(n, Addresses::Same, &mut passes);
            passes.iter().try_for_each(|pass| writer.pass(pass))?;
        }
        writer.finish(None)?;
        Ok(out.0.take())
    }

    /// Container, decompression and columns: passes as read from a file. `and_all`: also the pipeline behind.
    pub fn read(&self, container: &[u8], and_all: bool) -> anyhow::Result<Duration> {
        let input = Box::new(Cursor::new(container.to_vec()));
        let begun = busy();
        let mut reader = Reader::new(input)?;
        let mut pipeline = Pipeline::new(&self.recording.meta)?;
        while let Some(pass) = reader.next_pass()? {
            if and_all {
                pipeline.pass(&pass);
            }
            black_box(pass);
        }
        let took = busy().saturating_sub(begun);
        if and_all {
            self.check(&pipeline.finish(&self.recording.meta, None, Vec::new()).counts)?;
        }
        Ok(took)
    }

    pub fn new_engine(&self) -> anyhow::Result<Engine> {
        Ok(Engine::new(Setup::try_from(&self.recording.meta.setup)?))
    }

    /// Input of the engine, one repetition at a time.
    pub fn steps(&self, addresses: Addresses, mut give: impl FnMut(&[Step])) {
        let mut order = Order::new();
        let (mut passes, mut steps) = (Vec::new(), Vec::new());
        for n in 0..self.times {
            self.recording.nth(n, addresses, &mut passes);
            steps.clear();
            for pass in &passes {
                for batch in &pass.batches {
                    order.batch(batch.cpu, &batch.bytes);
                }
                if let Some(until_ns) = order.mark(pass.mark, |item| steps.push(item.into())) {
                    steps.push(Step::Tick(until_ns));
                }
            }
            if n + 1 == self.times {
                order.finish(|item| steps.push(item.into()));
            }
            give(&steps);
        }
    }

    /// Checks that the repetitions form one run: every event arrived in time, and only the recording's own losses are
    /// missing.
    fn check(&self, counts: &observer_engine::order::Counts) -> anyhow::Result<()> {
        let once = Load { recording: self.recording, times: 1 };
        let mut order = Order::new();
        let mut passes = Vec::new();
        once.recording.nth(0, Addresses::Same, &mut passes);
        for pass in &passes {
            pass.batches.iter().for_each(|batch| order.batch(batch.cpu, &batch.bytes));
            order.mark(pass.mark, |_| {});
        }
        order.finish(|_| {});
        let one = order.counts();
        let total_counts = |c: &observer_engine::order::Counts| [c.events, c.late, c.lost, c.undecodable()];
        let expected = total_counts(&one).map(|n| n * self.times);
        ensure!(
            total_counts(counts) == expected,
            "the repetitions are no run: {counts:?}, where one is {one:?}"
        );
        Ok(())
    }
}

impl From<Item<'_>> for Step {
    fn from(item: Item<'_>) -> Step {
        match item {
            Item::Event(event) => Step::Event(*event),
            Item::Gap(gap) => Step::Hole(Hole {
                site: None,
                cpu: gap.cpu,
                lo_ns: gap.lo_ns,
                hi_ns: gap.hi_ns,
                lost: gap.lost,
                reason: loss::REASONS[loss::RING_FULL].0,
            }),
        }
    }
}

#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns this thread's processor time.
pub fn busy() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the timespec passed to it, and cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Returns the resident memory of this process, in bytes. `None`: the kernel does not report it.
pub fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    // SAFETY: returns a constant of the system.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page_bytes).ok()?)
}
