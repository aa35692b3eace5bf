//! Runs without end: dead objects are forgotten, and memory stays flat.
//!
//! One engine receives run after run. In each run, everything is new: tasks, mms, VMAs and their locks. Pages of
//! tables are reused, since a machine has a limited number. At the end of a run no object of it exists.

use std::fs;

use observer_engine::{
    Engine,
    event::{Body, Class, Event, LockAddr, Mm, Pte, Table, Tid},
};

use super::{kernel::Kernel, kernels::Protocol, kernels::WALKERS, random::Random, scenario::Scenario, sites};

const PROTOCOL: Protocol = Protocol { slow: true, ..WALKERS };

/// Kilobytes of memory in use.
fn resident_kb() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("a Linux machine");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number of pages") * 4
}

/// Gives the objects of a run other names than in earlier runs, and moves the run behind them in time.
struct Round {
    since_ns: u64,
    no: u64,
    /// Offset of the tables of this round. Pages are reused after many rounds.
    pages: u64,
}

impl Round {
    fn event(&self, event: &Event) -> Event {
        let tid = |t: Tid| Tid(t.0 + (self.no as u32 % 100_000) * 20);
        let mm = |mm: Mm| Mm(if mm.0 == 0 { 0 } else { mm.0 + (self.no << 24) });
        let table = |table: Table| Table(if table.0 == 0 { 0 } else { table.0 + self.pages });
        let pte = |pte: Pte| Pte(if pte.0 == 0 { 0 } else { pte.0 + self.pages });
        let lock = |class, lock: LockAddr| match class {
            Class::Ptl => LockAddr(lock.0 + (self.pages >> 6)),
            Class::FaultMutex => lock,
            _ => LockAddr(lock.0 + (self.no << 24)),
        };
        let mut e = Event { time_ns: event.time_ns + self.since_ns, tid: tid(event.tid), ..*event };
        match &mut e.body {
            Body::Task { mm: m, .. } | Body::TaskExit { mm: m, .. } | Body::OpBegin { mm: m, .. } => {
                *m = mm(*m)
            }
            Body::OpEnd { .. } => {}
            Body::Fork { child, .. } => *child = tid(*child),
            Body::CallbackBegin { mm: m, pte: p, .. }
            | Body::Lookup { mm: m, pte: p, .. }
            | Body::LookupOtherSize { mm: m, pte: p, .. }
            | Body::Share { mm: m, pte: p, .. }
            | Body::Unshare { mm: m, pte: p, .. } => (*m, *p) = (mm(*m), pte(*p)),
            Body::TableAlloc { mm: m, table: t, .. } | Body::TableFree { mm: m, table: t, .. } => {
                (*m, *t) = (mm(*m), table(*t));
            }
            Body::Unlinked { mm: m, table: t, lo_ns, now, .. } => {
                (*m, *t, *lo_ns) = (mm(*m), table(*t), *lo_ns + self.since_ns);
                *now = table(Table(*now)).0;
            }
            Body::Lock { class, lock: l, .. } | Body::LockForget { class, lock: l } => *l = lock(*class, *l),
            Body::LockName { class, lock: l, owner, .. } => {
                *l = lock(*class, *l);
                *owner = match class {
                    Class::Ptl => table(Table(*owner)).0,
                    _ => *owner + (self.no << 24),
                };
            }
            other => unreachable!("the model sends no {other:?}"),
        }
        e
    }
}

/// Number of different pages for tables, in multiples of those of one run.
const ROOMS: u64 = 512;

fn rounds(events_max: u64) {
    let mut engine = Engine::new(sites::setup(&PROTOCOL));
    let (mut events, mut no, mut since_ns, mut half_kb, mut tenth_kb) = (0, 0, 1_000_000, 0, 0);
    while events < events_max {
        let kernel: Kernel = Scenario::random(&PROTOCOL, Random(no).next()).run();
        let round = Round { since_ns, no, pages: (no % ROOMS) << 20 };
        for (at, event) in kernel.events.iter().enumerate() {
            let event = round.event(event);
            engine.push(&event);
            if at % 64 == 0 {
                engine.tick(event.time_ns);
            }
            since_ns = event.time_ns;
        }
        // The file is removed, and its lock with it.
        let lock = LockAddr(0x3_0000 + (no << 24));
        let last = kernel.events.last().expect("something happens");
        let body = Body::LockForget { class: Class::IMmap, lock };
        since_ns += 1;
        engine.push(&Event { time_ns: since_ns, body, ..round.event(last) });
        let body = Body::TaskExit { tgid: 0, mm: Mm(0) };
        since_ns += 1;
        engine.push(&Event { time_ns: since_ns, body, ..round.event(last) });
        events += kernel.events.len() as u64 + 2;
        no += 1;
        let stats = engine.stats();
        assert_eq!((stats.live_tasks, stats.live_tables, stats.live_leases), (0, 0, 0), "after run {no}");
        if tenth_kb == 0 && events >= events_max / 10 {
            tenth_kb = resident_kb();
        }
        if half_kb == 0 && events >= events_max / 2 {
            half_kb = resident_kb();
        }
    }
    let end_kb = resident_kb();
    println!(
        "{no} runs, {events} events: {tenth_kb} KB after a tenth, {half_kb} at half, {end_kb} at the end"
    );
    let findings = engine.findings().len();
    assert!(findings > 3, "only {findings} findings");
    assert!(end_kb < half_kb + half_kb / 10 + 512, "from {half_kb} KB at half to {end_kb} KB");
}

#[test]
fn memory_is_flat_over_twelve_million_events() {
    rounds(12_000_000);
}

#[test]
#[ignore = "long"]
fn memory_is_flat_over_a_hundred_million_events() {
    rounds(100_000_000);
}
