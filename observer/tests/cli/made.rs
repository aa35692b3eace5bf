//! Runs made by hand: records, passes, and a source that returns them.

use std::collections::BTreeMap;

use observer::{
    meta::{Closing, End, FORMAT_VERSION, Filter, Kernel, Level, Meta, SiteCount, Symbol, setup},
    recording::Writer,
    run::{Options, run},
    sink::{json, text},
    source::{Batch, Loss, Mark, Pass, Source, Stack},
};
use observer_ebpf::{WIRE_VERSION, class, kinds, lock_arg, mode};

use super::shared::Shared;

const START_NS: u64 = 5_000_000_000;
/// Time between passes: forty of them are four seconds, several chunks.
const PASS_NS: u64 = 100_000_000;
const PASSES: u64 = 40;

const SMAPS: u16 = 0;
const ZAP: u16 = 1;
const WALK: u16 = 40;
const UNSHARE: u16 = 46;
const DOWN: u16 = 49;

const MM: u64 = 0xffff_8880_0400_0000;
const ADDR: u64 = 0x7f00_4000_0000;
const TABLE: u64 = 0xffff_8880_0123_4000;
const RWSEM: u64 = 0xffff_8880_0777_0040;
const FAULT_MUTEX: u64 = 0xffff_8880_0888_0020;
const MMAP: u64 = MM + 0x78;

/// A record without a sequence number.
struct Record {
    cpu: u16,
    /// Nanoseconds since the start of the run.
    at_ns: u64,
    tid: u32,
    kind: u16,
    site: u16,
    arg: u32,
    words: Vec<u64>,
}

/// A run: the content of its source.
pub struct Run {
    records: Vec<Record>,
    /// Records of this CPU, by number, that found the ring full.
    lost: Option<(u16, std::ops::Range<u32>)>,
    /// Stacks that come with the first pass.
    stacks: Vec<Stack>,
    /// Build id of the kernel.
    build_id: &'static str,
}

impl Run {
    fn of(records: Vec<Record>) -> Run {
        Run { records, lost: None, stacks: vec![], build_id: "00ff" }
    }

    /// The same run on another kernel.
    pub fn on(self, build_id: &'static str) -> Run {
        Run { build_id, ..self }
    }
}

/// Output of a live run.
pub struct Outputs {
    pub text: String,
    pub json: String,
}

fn record(cpu: u16, at_ns: u64, tid: u32, kind: u16, site: u16, arg: u32, words: &[u64]) -> Record {
    Record { cpu, at_ns, tid, kind, site, arg, words: words.to_vec() }
}

fn task(cpu: u16, at_ns: u64, tid: u32, comm: &str) -> Record {
    let mut name = [0; 16];
    name[..comm.len()].copy_from_slice(comm.as_bytes());
    let word = |at: usize| u64::from_le_bytes(name[at..at + 8].try_into().unwrap());
    record(cpu, at_ns, tid, kinds::TASK, 0, tid, &[word(0), word(8), MM])
}

/// Two tasks without a window: a walk, then an unshare.
pub fn quiet() -> Run {
    let read = lock_arg(class::MMAP_LOCK, mode::READ);
    let write = lock_arg(class::I_MMAP, mode::WRITE);
    let records = vec![
        task(0, 1_000, 11, "walker"),
        record(0, 2_000, 11, kinds::LOCK_ASK, DOWN, read, &[MMAP]),
        record(0, 3_000, 11, kinds::OP_BEGIN, SMAPS, 0, &[MM, ADDR, ADDR + 0x20_0000]),
        record(0, 4_000, 11, kinds::LOOKUP, WALK, 0, &[MM, ADDR, TABLE]),
        record(0, 5_000, 11, kinds::OP_END, SMAPS, 0, &[0]),
        record(0, 6_000, 11, kinds::LOCK_RELEASE, DOWN, read, &[MMAP]),
        task(1, 1_000_000, 22, "unmapper"),
        record(1, 1_001_000, 22, kinds::LOCK_ASK, DOWN, lock_arg(class::MMAP_LOCK, mode::WRITE), &[MMAP]),
        record(1, 1_002_000, 22, kinds::OP_BEGIN, ZAP, 0, &[MM, ADDR, ADDR + 0x20_0000]),
        record(1, 1_003_000, 22, kinds::LOCK_ASK, DOWN, write, &[RWSEM]),
        record(1, 1_004_000, 22, kinds::UNSHARE, UNSHARE, 0, &[MM, ADDR, TABLE]),
        record(1, 1_005_000, 22, kinds::LOCK_RELEASE, DOWN, write, &[RWSEM]),
        record(1, 1_006_000, 22, kinds::OP_END, ZAP, 0, &[0]),
    ];
    Run::of(records)
}

/// A task requests the fault mutex while it holds i_mmap_rwsem, or the other way round.
pub fn ordered(fault_mutex_first: bool) -> Run {
    let fault = (lock_arg(class::FAULT_MUTEX, mode::EXCLUSIVE), FAULT_MUTEX);
    let i_mmap = (lock_arg(class::I_MMAP, mode::WRITE), RWSEM);
    let [first, second] = if fault_mutex_first { [fault, i_mmap] } else { [i_mmap, fault] };
    let tid = if fault_mutex_first { 11 } else { 12 };
    let of = |at_ns, kind, (arg, lock)| record(0, at_ns, tid, kind, DOWN, arg, &[lock]);
    Run::of(vec![
        task(0, 1_000, tid, "locker"),
        of(2_000, kinds::LOCK_ASK, first),
        of(3_000, kinds::LOCK_ASK, second),
        of(4_000, kinds::LOCK_RELEASE, second),
        of(5_000, kinds::LOCK_RELEASE, first),
    ])
}

/// The same two tasks, and a window every 200 ms: the walk's callback receives the pointer, and another task unshares.
pub fn race() -> Run {
    let mut run = quiet();
    for i in 1..20u64 {
        let at = i * 2 * PASS_NS;
        let write = lock_arg(class::I_MMAP, mode::WRITE);
        let zap = [MM, ADDR, ADDR + 0x20_0000];
        run.records.extend([
            record(0, at, 11, kinds::CALLBACK_BEGIN, SMAPS, 0, &[MM, ADDR, TABLE]),
            record(1, at + 1_000, 22, kinds::OP_BEGIN, ZAP, 0, &zap),
            record(1, at + 2_000, 22, kinds::LOCK_ASK, DOWN, write, &[RWSEM]),
            record(1, at + 3_000, 22, kinds::UNSHARE, UNSHARE, 0, &[MM, ADDR, TABLE]),
            record(1, at + 4_000, 22, kinds::LOCK_RELEASE, DOWN, write, &[RWSEM]),
            record(1, at + 5_000, 22, kinds::OP_END, ZAP, 0, &[0]),
            record(0, at + 900_000 + i * 1_000, 11, kinds::OP_END, SMAPS, 0, &[0]),
        ]);
    }
    run
}

/// The same two tasks without an excluder: the unlinker holds mmap_lock for reading only. The accesses do not meet.
pub fn predicted() -> Run {
    let mut run = quiet();
    run.records.retain(|r| (r.tid, r.kind) != (11, kinds::OP_BEGIN));
    for r in &mut run.records {
        // The lookup's use is certain: a callback receives the pointer.
        if r.kind == kinds::LOOKUP {
            (r.kind, r.site) = (kinds::CALLBACK_BEGIN, SMAPS);
        }
        if r.kind == kinds::LOCK_ASK && r.words == [MMAP] {
            r.arg = lock_arg(class::MMAP_LOCK, mode::READ);
        }
        // Both tasks exist from the start: a task that starts later could not have raced.
        if r.kind == kinds::TASK {
            r.at_ns = 1_000;
        }
    }
    let stacks = [(0, 2_500, 11, 3, SMAPS), (1, 1_001_500, 22, 4, ZAP)];
    run.records.extend(
        stacks.map(|(cpu, at_ns, tid, id, op)| record(cpu, at_ns, tid, kinds::STACK, op, id, &[op.into()])),
    );
    run.stacks = vec![
        Stack { id: 3, frames: vec![TRAMPOLINE, 0x1005, 0x2010] },
        Stack { id: 4, frames: vec![0x3005, TRAMPOLINE, 0x3009, 0x4010] },
    ];
    run
}

/// The walk and the unlink both hold i_mmap_rwsem. A record is lost during the walk, and none shows the release of the lock: it
/// may have been released there.
pub fn doubtful() -> Run {
    let mut run = predicted();
    let file_lock = lock_arg(class::I_MMAP, mode::READ);
    run.records.retain(|r| (r.tid, r.kind) != (11, kinds::LOCK_RELEASE));
    for r in run.records.iter_mut().filter(|r| r.tid == 11 && r.words == [MMAP]) {
        (r.arg, r.words) = (file_lock, vec![RWSEM]);
    }
    run.records.push(record(0, 4_500, 11, kinds::LOCK_RELEASE, DOWN, file_lock, &[RWSEM]));
    Run { lost: Some((0, 4..5)), ..run }
}

/// An address in no function of the kernel.
const TRAMPOLINE: u64 = 0xffff_ffff_c000_0000;

fn symbols() -> Vec<Symbol> {
    let names = [
        (TRAMPOLINE, "last_symbol", 0x32f5_7ccf),
        (0x1005, "smaps_hugetlb_range", 5),
        (0x2010, "walk_page_range", 0x10),
        (0x3005, "unmap_hugepage_range", 5),
        (0x3009, "unmap_hugepage_range", 9),
        (0x4010, "madvise", 0x10),
    ];
    names.map(|(address, name, offset)| Symbol { address, name: name.into(), offset }).to_vec()
}

/// The race with a hole in the walker's stream: from inside its second callback to inside its last.
pub fn lossy() -> Run {
    Run { lost: Some((0, 9..43)), ..race() }
}

fn site(id: u16, function: &str, role: &str) -> setup::Site {
    let (function, role) = (function.to_owned(), role.to_owned());
    setup::Site {
        id,
        function,
        role,
        foreign_lookup_until: None,
        vma_locked: false,
        last_user: false,
        folio_taken: None,
        late: false,
        try_then_block: Vec::new(),
    }
}

fn exclusion(class: &str) -> setup::Exclusion {
    let modes = ["read", "write"].map(str::to_owned).to_vec();
    setup::Exclusion { class: class.to_owned(), modes, except_unlink_sites: vec![] }
}

fn coverage(role: &str, grade: &str, reason: &str) -> setup::Coverage {
    let (role, grade, reason) = (role.to_owned(), grade.to_owned(), reason.to_owned());
    setup::Coverage { role, part: String::new(), grade, reason }
}

fn meta() -> Meta {
    Meta {
        format_version: FORMAT_VERSION,
        wire_version: WIRE_VERSION,
        observer_version: "0.0.0-test".into(),
        kernel: Kernel {
            release: "6.12.0-made".into(),
            version: "#1 by hand".into(),
            machine: "x86_64".into(),
            build_id: Some("00ff".into()),
            btf_hash: None,
        },
        boot_id: "11111111-2222-3333-4444-555555555555".into(),
        cpus_online: vec![0, 1],
        start_ns: START_NS,
        start_realtime_ns: 1_700_000_000_000_000_000,
        command: vec!["observer".into(), "record".into()],
        level: Level::Full,
        filter: Filter::default(),
        since: None,
        setup: setup::Setup {
            sites: vec![
                site(SMAPS, "smaps_hugetlb_range", "callback"),
                site(ZAP, "unmap_hugepage_range", "operation"),
                site(WALK, "hugetlb_walk", "lookup"),
                site(UNSHARE, "huge_pmd_unshare", "unshare"),
                site(DOWN, "down_write", "lock"),
            ],
            exclusions: ["vma_lock", "i_mmap_rwsem"].map(exclusion).to_vec(),
            orders: vec![],
            coverage: vec![
                coverage("lookup", "exact", ""),
                coverage("unshare", "exact", ""),
                coverage("folio-held", "inferred", "the fast path is inlined"),
                coverage("ptl", "blind", "spin_lock is inlined"),
            ],
        },
    }
}

/// A source that returns a run, in place of a kernel.
struct Made {
    meta: Meta,
    passes: std::vec::IntoIter<Pass>,
    lost: u64,
}

impl Run {
    fn source(&self) -> Made {
        let mut passes: Vec<Pass> = (0..PASSES)
            .map(|number| Pass {
                mark: Mark { number, time_ns: START_NS + (number + 1) * PASS_NS, complete: number % 9 != 4 },
                batches: vec![Batch { cpu: 1, bytes: vec![] }, Batch { cpu: 0, bytes: vec![] }],
                ..Pass::default()
            })
            .collect();
        let mut seq = [0u32; 2];
        let mut records: Vec<&Record> = self.records.iter().collect();
        records.sort_by_key(|r| r.at_ns);
        let mut lost = 0;
        for r in records {
            let number = seq[usize::from(r.cpu)];
            seq[usize::from(r.cpu)] += 1;
            if self.lost.as_ref().is_some_and(|(cpu, numbers)| *cpu == r.cpu && numbers.contains(&number)) {
                lost += 1;
                continue;
            }
            let pass = &mut passes[(r.at_ns / PASS_NS) as usize];
            pass.batches[usize::from(1 - r.cpu)].bytes.extend(r.bytes(number));
        }
        for pass in &mut passes {
            pass.batches.retain(|b| !b.bytes.is_empty());
        }
        if !self.stacks.is_empty() {
            (passes[0].stacks, passes[0].symbols) = (self.stacks.clone(), symbols());
        }
        if lost > 0 {
            passes[30].loss = vec![Loss { cpu: 0, reason: 0, site: None, total: lost, since_ns: START_NS }];
        }
        let mut meta = meta();
        meta.kernel.build_id = Some(self.build_id.into());
        Made { meta, passes: passes.into_iter(), lost }
    }
}

impl Record {
    fn bytes(&self, seq: u32) -> Vec<u8> {
        let mut bytes = (START_NS + self.at_ns).to_le_bytes().to_vec();
        bytes.extend(seq.to_le_bytes());
        bytes.extend(self.tid.to_le_bytes());
        bytes.extend(kinds::on_wire(self.kind).to_le_bytes());
        bytes.extend(self.site.to_le_bytes());
        bytes.extend(self.arg.to_le_bytes());
        for word in &self.words {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }
}

impl Source for Made {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    async fn next(&mut self) -> anyhow::Result<Option<Pass>> {
        Ok(self.passes.next())
    }

    fn stop(&mut self) {}

    fn closing(&mut self, end: End) -> anyhow::Result<Option<Closing>> {
        let loss: BTreeMap<_, _> =
            [("ring-full".to_owned(), self.lost)].into_iter().filter(|l| l.1 > 0).collect();
        let sites = vec![SiteCount { site: UNSHARE, hits: 21, outcomes: 20 }];
        let end_ns = START_NS + (PASSES + 1) * PASS_NS;
        Ok(Some(Closing { end, end_ns, sites, misses: vec![], loss }))
    }
}

/// Runs it with a recorder; returns the live output and the recording.
pub fn recorded(made: &Run) -> (Outputs, Vec<u8>) {
    let mut source = made.source();
    let file = Shared::default();
    let recorder = Writer::new(Box::new(file.clone()), source.meta()).unwrap();
    let options = Options { recorder: Some(recorder), ..Options::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(run(&mut source, options)).unwrap().report;
    let (mut text, mut json) = (Vec::new(), Vec::new());
    text::write(&mut text, &report).unwrap();
    json::write(&mut json, &report).unwrap();
    let outputs = Outputs { text: String::from_utf8(text).unwrap(), json: String::from_utf8(json).unwrap() };
    (outputs, file.bytes())
}
