//! Random streams: the engine does not panic, is deterministic, and forgets dead objects.
//!
//! The text traces decide the findings of real sequences.

use observer_ebpf::kinds;
use observer_engine::{
    Engine, Hole,
    event::{Body, Event, SiteId, Tid},
    finding::Kind,
    trace::Trace,
};

/// xorshift64, so that the streams are the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

const SETUP: &str = "
site 0 operation hugetlb_fault
site 1 operation huge_pmd_share foreign-lookup-until=i_mmap_rwsem
site 2 callback smaps_hugetlb_range
site 3 lookup huge_pte_offset
site 4 lock down_read_trylock try-then-block=i_mmap_rwsem
exclude vma_lock read,write except huge_pmd_share
exclude ptl exclusive
order somewhere: fault_mutex vma_lock i_mmap_rwsem folio_lock ptl
";

/// Events of every kind over few objects, so that they meet.
fn stream(seed: u64, events: usize) -> Vec<Event> {
    let mut random = Random(seed);
    let mut time_ns = 1;
    (0..events)
        .map(|_| {
            time_ns += random.below(1000);
            let kind = &kinds::TABLE[random.below(kinds::TABLE.len() as u64) as usize];
            let arg = match kind.arg.name {
                "class_mode" => (1 + random.below(7) as u32) | ((random.below(4) as u32) << 8),
                "how" => 1 + random.below(3) as u32,
                _ => random.below(3) as u32,
            };
            let mut words = [0; 5];
            for (word, field) in words.iter_mut().zip(kind.words) {
                *word = match field.name {
                    "addr" | "gib" | "start" | "end" => random.below(3) << 30,
                    "lo_ns" => time_ns.saturating_sub(random.below(5000)),
                    "folio" | "mapping" | "index" => random.below(4),
                    _ => random.below(5) << 12,
                };
            }
            let body = Body::from_wire(kind.number, arg, &words).expect("values are in range");
            Event {
                time_ns,
                seq: 0,
                tid: Tid(random.below(6) as u32),
                cpu: random.below(3) as u16,
                site: SiteId(random.below(7) as u16),
                body,
            }
        })
        .collect()
}

fn run(events: &[Event], holes: &[Hole]) -> Engine {
    let mut engine = Engine::new(SETUP.parse::<Trace>().expect("the setup is a trace").setup);
    holes.iter().for_each(|h| engine.hole(*h));
    for (at, event) in events.iter().enumerate() {
        engine.push(event);
        if at % 64 == 0 {
            engine.tick(event.time_ns);
        }
    }
    engine.finish();
    engine
}

#[test]
fn the_same_events_give_the_same_findings() {
    for seed in 1..60 {
        let events = stream(seed, 3000);
        let (a, b) = (run(&events, &[]), run(&events, &[]));
        assert_eq!(a.findings(), b.findings());
        assert_eq!((a.tables(), a.edges(), a.stats()), (b.tables(), b.edges(), b.stats()));
        assert!(
            a.findings().windows(2).all(|w| (w[0].rank, &w[0].id) < (w[1].rank, &w[1].id)),
            "sorted, ids unique"
        );
    }
}

#[test]
fn loss_everywhere_leaves_no_alarm() {
    let mut alarms_without_loss = 0;
    for seed in 1..60 {
        let events = stream(seed, 3000);
        let holes = [0, 1, 2].map(|cpu| Hole {
            cpu,
            lo_ns: 0,
            hi_ns: u64::MAX,
            lost: 1,
            reason: "ring-full",
            site: None,
        });
        alarms_without_loss += run(&events, &[]).findings().iter().filter(|f| f.rank.is_alarm()).count();
        for finding in run(&events, &holes).findings() {
            // The kernel's own count at the free is a fact, not an inference.
            assert!(
                !finding.rank.is_alarm() || finding.kind() == Kind::FreedShared,
                "seed {seed}: {finding:#?}"
            );
        }
    }
    assert!(alarms_without_loss > 100, "only {alarms_without_loss} alarms: the streams test nothing");
}

#[test]
fn dead_objects_are_forgotten() {
    let mut engine = Engine::new(SETUP.parse::<Trace>().expect("the setup is a trace").setup);
    for round in 0..200_000u64 {
        let at = |offset: u64, body| Event {
            time_ns: round * 10 + offset,
            seq: 0,
            tid: Tid(1000 + round as u32),
            cpu: 0,
            site: SiteId(0),
            body,
        };
        let words = |a, b, c| [a, b, c, 0, 0];
        let table = 0x1_0000_0000 + (round << 12);
        for (offset, kind, w) in [
            (0, kinds::OP_BEGIN, words(1, 0, 0)),
            (1, kinds::TABLE_ALLOC, words(1, 0, table)),
            (2, kinds::LOOKUP, words(1, 0, table)),
            (3, kinds::OP_END, words(0, 0, 0)),
            (4, kinds::TABLE_FREE, words(1, table, 0)),
            (5, kinds::TASK_EXIT, words(0, 0, 0)),
        ] {
            engine.push(&at(offset, Body::from_wire(kind, 0, &w).expect("a kind of the wire")));
        }
    }
    let stats = engine.stats();
    assert_eq!((stats.live_tasks, stats.live_tables, stats.live_leases), (0, 0, 0));
    assert!(engine.tables().len() <= 1100, "{} tables are kept", engine.tables().len());
    assert_eq!(stats.leases, 200_000);
}
