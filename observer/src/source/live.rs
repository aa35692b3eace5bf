//! The live source: drains the rings on a timer.
//!
//! Decides when a pass is complete, and bounds it. A timer is used, not a wake-up: a wake-up per record costs the traced
//! kernel more than the record (385 to 430 instructions against some 190, measured).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use observer_ebpf::{config::PerCpu, kinds, loss, record::Record};
use observer_engine::Hole;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::{
    host::{
        attach::{Attached, Loaded},
        own_call,
        plan::Plan,
        probe,
        probe::Host,
        ready,
        symbols::Symbols,
    },
    meta::{Closing, End, FORMAT_VERSION, Filter, Meta, Misses, Notice, SiteCount, Symbol, setup},
    source::{Batch, Loss, Mark, Pass, Source, Stack},
};

/// Time between passes. The ring of a CPU holds ten times what an exerciser produces in that time.
const PERIOD: Duration = Duration::from_millis(5);
/// Passes between readings of the loss counters, and so the width of a hole. Reading the skipped hits costs a system call per
/// program, 125 on 6.12 (96 on 5.10): after every pass they would be 25,000 a second.
const LOSS_EVERY: u64 = 20;
/// Passes between looks at the switch of function tracing: one second.
const SWITCH_EVERY: u64 = 200;
/// Longest time for which detaching waits for that switch.
const SWITCH_WAIT: Duration = Duration::from_secs(60);

/// The running kernel.
pub struct Live {
    attached: Attached,
    meta: Meta,
    ticks: Interval,
    passes: u64,
    state: State,
    /// Time at which it was switched off. Detaching the programs takes seconds, in which nothing is watched any more.
    stopped_ns: Option<u64>,
    /// Time at which function tracing was found switched off.
    switched_off_ns: Option<u64>,
    /// Sites that observer's own call reaches.
    own_sites: Vec<u16>,
    /// Found by observer's own calls.
    unseen: Vec<Notice>,
    /// Totals reported up to now, by CPU and reason.
    sent_lost: Vec<[u64; loss::COUNT]>,
    /// Skipped hits reported up to now, by site.
    sent_skipped: BTreeMap<u16, u64>,
    /// Time of the last reading of the counters.
    looked_ns: u64,
    symbols: Symbols,
    /// Frames by stack number; reported again if the kernel has reused the number for another stack.
    sent_stacks: BTreeMap<u32, Vec<u64>>,
    sent_symbols: BTreeSet<u64>,
}

#[derive(PartialEq, Eq)]
enum State {
    Running,
    /// Switched off; this number of passes is left to give.
    Draining(u32),
}

fn switched_off(after_ns: u64) -> String {
    let seconds = after_ns as f64 / 1e9;
    format!(
        "function tracing was switched off (kernel.ftrace_enabled=0) before {seconds:.1} s: nothing is seen while it is off"
    )
}

/// Waits until function tracing is on, for a while: programs that are detached while it is off make the kernel warn and leave
/// tracing dead until the next boot (6.12).
fn wait_for_tracing() {
    let deadline = Instant::now() + SWITCH_WAIT;
    if !ready::is_tracing_enabled() {
        eprintln!(
            "observer: detaching waits until kernel.ftrace_enabled is 1, at most {} s",
            SWITCH_WAIT.as_secs()
        );
    }
    while !ready::is_tracing_enabled() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock of the records.
fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid pointer; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl Live {
    /// Enables the attached programs. Needs a tokio runtime with time.
    ///
    /// # Errors
    /// The programs cannot be switched on.
    pub fn start(mut attached: Attached, host: Host, plan: &Plan, filter: Filter) -> anyhow::Result<Live> {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let meta = Meta {
            format_version: FORMAT_VERSION,
            wire_version: observer_ebpf::WIRE_VERSION,
            observer_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: host.kernel,
            boot_id: probe::boot_id(),
            cpus_online: attached.rings.iter().map(|(cpu, _)| *cpu).collect(),
            start_ns: monotonic_ns(),
            start_realtime_ns: since_epoch.as_nanos() as u64,
            command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
            level: plan.level,
            filter,
            setup: setup::Setup::from(&plan.setup(&attached.outcomes)),
            since: None,
        };
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        attached.enable(true)?;
        let own_sites = plan.own_call_sites(&attached.outcomes);
        let mut live = Live {
            attached,
            meta,
            ticks,
            passes: 0,
            state: State::Running,
            stopped_ns: None,
            switched_off_ns: None,
            own_sites,
            unseen: Vec::new(),
            sent_lost: Vec::new(),
            sent_skipped: BTreeMap::new(),
            looked_ns: 0,
            symbols: host.symbols,
            sent_stacks: BTreeMap::new(),
            sent_symbols: BTreeSet::new(),
        };
        live.check_that_programs_run("at the beginning")?;
        Ok(live)
    }

    /// Makes a call of observer's own, and notes which programs did not run for it.
    fn check_that_programs_run(&mut self, when: &str) -> anyhow::Result<()> {
        let hits = |live: &Live| -> anyhow::Result<Vec<u64>> {
            let counters = live.attached.counters()?;
            let of = |site: &u16| counters.iter().map(|cpu| cpu.hits[usize::from(*site)]).sum();
            Ok(live.own_sites.iter().map(of).collect())
        };
        let before = hits(self)?;
        if let Err(why) = own_call::map_and_unmap() {
            let text = format!("it was not checked that programs run: mmap of a huge page: {why}");
            self.unseen.push(Notice::remark(text));
            return Ok(());
        }
        let after = hits(self)?;
        let sites = self.own_sites.iter().zip(before.iter().zip(&after));
        let silent: Vec<u16> = sites.filter(|(_, (b, a))| a == b).map(|(site, _)| *site).collect();
        if !silent.is_empty() {
            let sites = self.meta.setup.sites.iter().filter(|site| silent.contains(&site.id));
            let functions = sites.map(|site| site.function.as_str()).collect::<Vec<_>>().join(", ");
            let text = format!(
                "programs are attached and do not run: observer's own munmap {when} was not seen at {functions}"
            );
            eprintln!("observer: {text}");
            self.unseen.push(Notice::partial(text));
        }
        Ok(())
    }

    /// Cost of the attached programs.
    #[must_use]
    pub fn loaded(&self) -> Vec<Loaded> {
        self.attached.loaded()
    }

    /// Counts up to now, by site in the order of the setup.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn site_counts(&self) -> anyhow::Result<Vec<SiteCount>> {
        let counters = self.attached.counters()?;
        let sites = self.meta.setup.sites.iter().map(|s| {
            let at = usize::from(s.id);
            let sum = |of: fn(&PerCpu, usize) -> u64| counters.iter().map(|c| of(c, at)).sum();
            SiteCount { site: s.id, hits: sum(|c, at| c.hits[at]), outcomes: sum(|c, at| c.outcomes[at]) }
        });
        Ok(sites.collect())
    }

    /// Hits that the kernel skipped up to now, by program.
    #[must_use]
    pub fn misses(&self) -> Vec<Misses> {
        self.attached.misses()
    }

    /// Losses up to now, of every reason that the programs know.
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn lost(&self) -> anyhow::Result<u64> {
        Ok(self.attached.counters()?.iter().flat_map(|c| c.lost).sum())
    }

    fn pass(&mut self) -> anyhow::Result<Pass> {
        let time_ns = monotonic_ns();
        let (mut batches, mut stack_ids) = (Vec::new(), Vec::new());
        for (cpu, ring) in &mut self.attached.rings {
            let mut bytes = Vec::new();
            // Reads up to the first record stamped after the pass began: a ring that is filled as fast as it is read is never
            // empty.
            while let Some(sample) = ring.next() {
                bytes.extend_from_slice(&sample);
                // Bytes that are not a record are reported by the order.
                let Ok(record) = Record::first(&sample) else { break };
                let header = record.header();
                if record.kind() == kinds::STACK {
                    stack_ids.push(header.arg);
                }
                if header.time_ns >= time_ns {
                    break;
                }
            }
            if !bytes.is_empty() {
                batches.push(Batch { cpu: *cpu, bytes });
            }
        }
        self.attached.flush_log();
        let number = self.passes;
        self.passes += 1;
        if number.is_multiple_of(SWITCH_EVERY)
            && self.switched_off_ns.is_none()
            && !ready::is_tracing_enabled()
        {
            self.switched_off_ns = Some(time_ns);
            eprintln!("observer: {}", switched_off(time_ns.saturating_sub(self.meta.start_ns)));
        }
        let look = number.is_multiple_of(LOSS_EVERY) || self.state != State::Running;
        let loss = if look { self.new_loss()? } else { Vec::new() };
        let (stacks, symbols) = self.new_stacks(&stack_ids);
        // Events are handed on after a complete pass, when the losses among them are known.
        let mark = Mark { number, time_ns, complete: look };
        Ok(Pass { mark, batches, loss, stacks, symbols })
    }

    /// Frames and address names that were not reported before.
    fn new_stacks(&mut self, ids: &[u32]) -> (Vec<Stack>, Vec<Symbol>) {
        let (mut stacks, mut symbols) = (Vec::new(), Vec::new());
        for &id in ids {
            let frames = self.attached.stack(id);
            if self.sent_stacks.get(&id) == Some(&frames) {
                continue;
            }
            for &address in &frames {
                if self.sent_symbols.insert(address)
                    && let Some((name, offset)) = self.symbols.resolve(address)
                {
                    symbols.push(Symbol { address, name: name.to_owned(), offset });
                }
            }
            self.sent_stacks.insert(id, frames.clone());
            stacks.push(Stack { id, frames });
        }
        (stacks, symbols)
    }

    fn new_loss(&mut self) -> anyhow::Result<Vec<Loss>> {
        let since_ns = std::mem::replace(&mut self.looked_ns, monotonic_ns());
        let counters = self.attached.counters()?;
        self.sent_lost.resize(counters.len(), [0; loss::COUNT]);
        let mut changed = Vec::new();
        for (cpu, (now, sent)) in counters.iter().zip(&mut self.sent_lost).enumerate() {
            for (reason, (total, sent)) in now.lost.iter().zip(sent).enumerate() {
                if *total != *sent {
                    *sent = *total;
                    let (cpu, reason) = (cpu as u16, reason as u16);
                    changed.push(Loss { cpu, reason, site: None, total: *total, since_ns });
                }
            }
        }
        for (site, total) in self.attached.skipped() {
            if self.sent_skipped.insert(site, total) != Some(total) {
                let (cpu, reason) = (Hole::ANY_CPU, loss::SKIPPED as u16);
                changed.push(Loss { cpu, reason, site: Some(site), total, since_ns });
            }
        }
        Ok(changed)
    }
}

impl Source for Live {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    async fn next(&mut self) -> anyhow::Result<Option<Pass>> {
        match self.state {
            State::Running => {
                self.ticks.tick().await;
            }
            State::Draining(0) => return Ok(None),
            State::Draining(ref mut left) => *left -= 1,
        }
        let pass = self.pass()?;
        if let State::Draining(0) = self.state
            && !pass.mark.complete
        {
            self.state = State::Draining(1);
        }
        Ok(Some(pass))
    }

    fn stop(&mut self) {
        if self.state == State::Running {
            // If the counters cannot be read now, closing fails too.
            let _ = self.check_that_programs_run("at the end");
            // If it cannot be switched off, detaching stops it too, but not all programs at once.
            let _ = self.attached.enable(false);
            self.stopped_ns = Some(monotonic_ns());
            // Two passes: the order keeps back everything younger than the last complete pass but one.
            self.state = State::Draining(2);
        }
    }

    fn notices(&self) -> Vec<Notice> {
        let after = |off_ns: u64| off_ns.saturating_sub(self.meta.start_ns);
        let off = self.switched_off_ns.map(|off_ns| Notice::partial(switched_off(after(off_ns))));
        off.into_iter().chain(self.unseen.iter().cloned()).collect()
    }

    fn closing(&mut self, end: End) -> anyhow::Result<Option<Closing>> {
        wait_for_tracing();
        let misses = self.attached.detach();
        let counters = self.attached.counters()?;
        let loss = loss::REASONS.iter().enumerate().filter_map(|(i, (name, _))| {
            let total: u64 = counters.iter().map(|c| c.lost[i]).sum();
            (total > 0).then(|| ((*name).to_owned(), total))
        });
        Ok(Some(Closing {
            end,
            end_ns: self.stopped_ns.unwrap_or_else(monotonic_ns),
            sites: self.site_counts()?,
            misses,
            loss: loss.collect(),
        }))
    }
}
