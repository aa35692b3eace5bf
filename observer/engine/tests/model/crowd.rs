//! Thousands of faults of other tasks on the same links, between the steps of a run, as on a busy server.
//!
//! Each fault holds the file's lock and one of 512 fault mutexes, and ends before the next step. So it changes
//! nothing for the other tasks: every finding that is not about the crowd must be the same without it.

use std::collections::{BTreeMap, BTreeSet};

use observer_engine::{
    Engine,
    event::{Addr, Body, Class, Event, LockAddr, LockStep, Mm, Mode, Pte, SiteId, Table, Tid},
    finding::Rank,
    setup::{Role, Setup, Site as Row},
};

use super::{
    kernels::{KERNELS, UnlinkReport},
    locks::Lock,
    page::{PAGES, Page, lock},
    random::Random,
    scenario::Scenario,
    sites::{self, Site},
};

const FIRST_TID: u32 = 5_000;
/// Number of tasks that live through the whole run.
const STAYING: usize = 6;
/// The function in which the crowd looks up.
const FAULT: &str = "crowd_fault";
const FAULT_ID: SiteId = SiteId(100);
const FOLIO_ID: SiteId = SiteId(101);

fn setup(protocol: &super::kernels::Protocol) -> Setup {
    let mut setup = sites::setup(protocol);
    for (id, function, role) in
        [(FAULT_ID, FAULT, Role::Operation), (FOLIO_ID, "__filemap_get_folio", Role::FolioHeld)]
    {
        setup.sites.push(Row {
            id,
            function: function.to_owned(),
            role,
            foreign_lookup_until: None,
            folio_taken: None,
            late: false,
            try_then_block: Vec::new(),
            vma_locked: false,
            last_user: false,
        });
    }
    setup
}

/// Links that exist according to the records, by mm and GiB.
#[derive(Default)]
struct Links {
    tables: BTreeMap<(Mm, Addr), Table>,
    /// The mm of each mmap_lock.
    mms: BTreeMap<LockAddr, Mm>,
}

impl Links {
    fn follow(&mut self, body: &Body) {
        match *body {
            Body::Lookup { mm, addr, pte, .. } if pte != Pte(0) => {
                self.tables.insert((mm, addr.gib()), pte.table());
            }
            Body::Unshare { mm, addr, .. } => drop(self.tables.remove(&(mm, addr.gib()))),
            Body::Unlinked { mm, gib, .. } => drop(self.tables.remove(&(mm, gib.gib()))),
            Body::TableFree { table, .. } => self.tables.retain(|_, t| *t != table),
            Body::LockName { class: Class::MmapLock, lock, owner, .. } => {
                self.mms.insert(lock, Mm(owner));
            }
            Body::LockForget { class: Class::MmapLock, lock } => {
                let gone = self.mms.remove(&lock);
                self.tables.retain(|(mm, _), _| Some(*mm) != gone);
            }
            _ => {}
        }
    }
}

struct Crowd {
    random: Random,
    /// Number of short-lived tasks so far.
    born: u32,
    introduced: BTreeSet<u32>,
    faults: usize,
}

impl Crowd {
    fn fault(&mut self, now_ns: u64, (mm, gib): (Mm, Addr), table: Table, engine: &mut Engine) {
        self.faults += 1;
        let cpu = 4 + self.random.below(4) as u16;
        let mut send = |tid: u32, site: SiteId, body: Body| {
            engine.push(&Event { time_ns: now_ns, seq: 0, tid: Tid(tid), cpu, site, body });
        };
        let parent = FIRST_TID + self.random.below(STAYING) as u32;
        let is_short = self.random.once_in(5);
        let tid = if is_short {
            self.born += 1;
            let child = FIRST_TID + STAYING as u32 + self.born;
            send(parent, Site::Tasks.id(), Body::Fork { child: Tid(child), child_tgid: FIRST_TID });
            child
        } else {
            parent
        };
        if self.introduced.insert(tid) {
            send(
                tid,
                SiteId(u16::MAX),
                Body::Task { tgid: FIRST_TID, comm: *b"crowd\0\0\0\0\0\0\0\0\0\0\0", mm },
            );
        }
        let page = Page::new(self.random.below(PAGES), self.random.below(PAGES));
        let entry = self.random.below(512) as u64;
        let (addr, pte) = (Addr(gib.0 + (entry << 21)), Pte(table.0 + 8 * entry));
        let i_mmap = |step| lock(step, Class::IMmap, Mode::Read, Lock::IMmap.addr());
        let (request, release, sleeping) = (LockStep::Request, LockStep::Release, Site::Sleeping.id());
        send(tid, FAULT_ID, Body::OpBegin { mm, start: addr, end: addr, page_kib: 0 });
        send(tid, sleeping, page.mutex(request));
        send(tid, sleeping, i_mmap(request));
        send(tid, Site::Offset.id(), Body::Lookup { mm, addr, pte, repeats: 0 });
        send(tid, FOLIO_ID, page.request());
        send(tid, FOLIO_ID, page.held());
        send(tid, FOLIO_ID, page.unlock());
        send(tid, FAULT_ID, Body::OpEnd { ret: 0 });
        send(tid, sleeping, i_mmap(release));
        send(tid, sleeping, page.mutex(release));
        if is_short {
            send(tid, Site::Tasks.id(), Body::TaskExit { tgid: FIRST_TID, mm: Mm(0) });
        }
    }
}

/// Findings about other tasks: id, rank and count. The shown occurrence may differ, because occurrences are merged if
/// no task was added or removed in between.
type Reported = Vec<(String, Rank, u64)>;

fn reported(
    protocol: &super::kernels::Protocol,
    events: &[Event],
    faults: usize,
    seed: u64,
) -> (Reported, usize) {
    let mut engine = Engine::new(setup(protocol));
    let (mut links, mut left) = (Links::default(), faults);
    let mut crowd = Crowd { random: Random(seed), born: 0, introduced: BTreeSet::new(), faults: 0 };
    for (no, event) in events.iter().enumerate() {
        engine.push(event);
        links.follow(&event.body);
        if left > 0 && !links.tables.is_empty() && crowd.random.once_in(8) {
            let burst = (1 + crowd.random.below(1 + faults / 6)).min(left);
            left -= burst;
            let all: Vec<_> = links.tables.iter().map(|(at, table)| (*at, *table)).collect();
            for _ in 0..burst {
                let (at, table) = all[crowd.random.below(all.len())];
                crowd.fault(event.time_ns, at, table, &mut engine);
            }
        }
        if no % 32 == 0 {
            engine.tick(event.time_ns);
        }
    }
    engine.finish();
    let is_of_crowd = |id: &str| id.contains(FAULT) || id.contains("folio_lock");
    let findings = engine.findings();
    let others = findings.into_iter().filter(|f| !is_of_crowd(&f.id));
    (others.map(|f| (f.id, f.rank, f.count)).collect(), crowd.faults)
}

fn nothing_changes(seeds: u64, crowds: &[usize]) {
    let (mut runs, mut faults, mut findings) = (0_u64, 0, 0);
    // If the moment of an unlink is not recorded, lookups of a crowd before and after it cannot be distinguished.
    for row in KERNELS.iter().filter(|row| row.protocol.unlink_report != UnlinkReport::Entries) {
        for seed in 0..seeds {
            let kernel = Scenario::random(&row.protocol, !seed).run();
            let (alone, _) = reported(&row.protocol, &kernel.events, 0, seed);
            let crowd = crowds[seed as usize % crowds.len()];
            let (among, came) = reported(&row.protocol, &kernel.events, crowd, seed);
            assert_eq!(alone, among, "{}, seed {seed}, with a crowd of {came}", row.name);
            (runs, faults, findings) = (runs + 1, faults + came, findings + alone.len());
        }
    }
    println!("{runs} runs with {faults} faults of others, {findings} findings");
    assert!(findings as u64 > runs / 4 && faults as u64 > runs * 50, "too little happens");
}

#[test]
fn other_tasks_on_the_same_links_change_no_finding() {
    nothing_changes(8, &[300, 3_000]);
}

#[test]
#[ignore = "long: up to 20,000 faults in each of 1,400 runs"]
fn other_tasks_on_the_same_links_change_no_finding_in_full() {
    nothing_changes(50, &[600, 2_500, 10_000, 20_000]);
}
