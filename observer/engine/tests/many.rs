//! Server traffic between the two parties of a finding: thousands of pages, 512 fault mutexes, and tasks that live
//! for one fault. The verdict must be that of the two parties alone.
//!
//! The traces in `fixtures/traces` decide the verdict of such a pair. These tests decide only that amounts do not
//! matter.

use std::fmt::Write as _;

use observer_engine::{
    finding::{Finding, Kind, Rank},
    trace::Trace,
};

/// Number of pages between the two parties. Earlier engines kept 32 groups of accesses per link and 2,048 pairs of
/// locks per edge.
const PAGES: [usize; 5] = [0, 31, 100, 2_500, 10_000];
/// Fault mutexes of a kernel with 64 possible CPUs: `num_fault_mutexes` is 8 for each, rounded up to a power of two.
const MUTEXES: usize = 512;

const SITES: &str = "
site 1 operation hugetlb_fault
site 3 operation __unmap_hugepage_range
site 6 callback smaps_hugetlb_range vma-locked
site 10 lock down_read
site 11 lock down_write
site 14 lock mutex_lock
site 20 folio-held __filemap_get_folio
site 30 task sched_process_fork
site 31 lookup huge_pte_offset
site 32 unshare __huge_pmd_unshare
exclude vma_lock read,write except hugetlb_unshare_pmds
exclude i_mmap_rwsem read,write
exclude ptl exclusive
coverage unshare exact
";

const NAMES: &str = "
900 cpu0 t11 lock_name mmap_lock lock=0x100 owner=0xa000
901 cpu0 t11 lock_name vma_lock lock=0x200 owner=0xf000
902 cpu0 t11 lock_name i_mmap_rwsem lock=0x300 owner=0xf000
903 cpu0 t11 lock_name ptl lock=0x5000 owner=0x7000
904 cpu0 t11 task tgid=11 comm=first mm=0xa000
905 cpu1 t12 task tgid=12 comm=second mm=0xb000
906 cpu2 t13 task tgid=13 comm=faults mm=0xa000
";

/// Tasks that fault the pages in between.
#[derive(Clone, Copy, Debug)]
enum Crowd {
    OneTask,
    /// Each fault is that of a thread that starts, faults and exits.
    TaskPerPage,
}

const CROWDS: [Crowd; 2] = [Crowd::OneTask, Crowd::TaskPerPage];

struct Lines {
    text: String,
    now_ns: u64,
}

impl Lines {
    fn new() -> Lines {
        Lines { text: format!("{SITES}{NAMES}"), now_ns: 1_000 }
    }

    fn event(&mut self, cpu: usize, tid: usize, rest: &str) {
        self.now_ns += 10;
        let _ = writeln!(self.text, "{} cpu{cpu} t{tid} {rest}", self.now_ns);
    }

    fn events(&mut self, cpu: usize, tid: usize, all: &[&str]) {
        all.iter().for_each(|rest| self.event(cpu, tid, rest));
    }

    /// Faults of pages that neither party touches, each under its fault mutex and with its folio locked.
    fn crowd(&mut self, pages: usize, crowd: Crowd) {
        for page in 0..pages {
            let (cpu, tid) = match crowd {
                Crowd::OneTask => (2, 13),
                Crowd::TaskPerPage => (page % 4, 1_000 + page),
            };
            if matches!(crowd, Crowd::TaskPerPage) {
                self.event(2, 13, &format!("site=sched_process_fork fork child_tid={tid} child_tgid=13"));
            }
            let (mutex, folio) = (0x20_0000 + 0x40 * (page % MUTEXES), 0x900_0000 + 0x40 * page);
            // The parties' own page is index 0; a GiB of huge pages has 512 entries.
            let (index, entry) = (1 + page, 1 + page % 511);
            let (addr, pte) = (0x4000_0000 + 0x20_0000 * entry, 0x7000 + 8 * entry);
            self.events(
                cpu,
                tid,
                &[
                    "site=hugetlb_fault op_begin mm=0xa000",
                    &format!("site=mutex_lock ask fault_mutex exclusive lock={mutex:#x}"),
                    "site=down_read ask vma_lock read lock=0x200",
                    &format!("site=huge_pte_offset lookup mm=0xa000 addr={addr:#x} pte={pte:#x}"),
                    &format!("site=__filemap_get_folio folio_ask mapping=0xf000 index={index}"),
                    &format!(
                        "site=__filemap_get_folio folio_held folio={folio:#x} mapping=0xf000 index={index} how=returned-locked"
                    ),
                    &format!("folio_release folio={folio:#x} mapping=0xf000 index={index}"),
                    "release vma_lock read lock=0x200",
                    &format!("release fault_mutex exclusive lock={mutex:#x}"),
                    "site=hugetlb_fault op_end",
                ],
            );
            if matches!(crowd, Crowd::TaskPerPage) {
                self.event(cpu, tid, "task_exit tgid=13");
            }
        }
    }

    /// Protected walks of the parties' page through this many VMAs, each with a vma_lock of its own.
    fn vmas(&mut self, vmas: usize) {
        for vma in 0..vmas {
            let lock = 0x30_0000 + 0x100 * vma;
            self.events(
                2,
                13,
                &[
                    &format!("lock_name vma_lock lock={lock:#x} owner=0xf000"),
                    // In the order of the hole punch.
                    "site=down_read ask i_mmap_rwsem read lock=0x300",
                    &format!("site=down_read ask vma_lock read lock={lock:#x}"),
                    "site=smaps_hugetlb_range callback_begin mm=0xa000 addr=0x40000000 pte=0x7000",
                    "site=smaps_hugetlb_range op_end",
                    &format!("release vma_lock read lock={lock:#x}"),
                    "release i_mmap_rwsem read lock=0x300",
                ],
            );
        }
    }

    fn walker(&mut self, is_locked: bool) {
        if is_locked {
            self.event(0, 11, "site=down_read ask vma_lock read lock=0x200");
        }
        self.events(
            0,
            11,
            &[
                "site=down_read ask mmap_lock read lock=0x100",
                "site=smaps_hugetlb_range callback_begin mm=0xa000 addr=0x40000000 pte=0x7000",
                "site=smaps_hugetlb_range op_end",
                "release mmap_lock read lock=0x100",
            ],
        );
        if is_locked {
            self.event(0, 11, "release vma_lock read lock=0x200");
        }
    }

    fn punch(&mut self) {
        self.events(
            1,
            12,
            &[
                "site=down_write ask i_mmap_rwsem write lock=0x300",
                "site=down_write ask vma_lock write lock=0x200",
                "site=__unmap_hugepage_range op_begin mm=0xa000 start=0x40000000 end=0x80000000",
                "ask ptl exclusive lock=0x5000",
                "site=__huge_pmd_unshare unshare mm=0xa000 addr=0x40000000 pte=0x7000",
                "release ptl exclusive lock=0x5000",
                "site=__unmap_hugepage_range op_end",
                "release vma_lock write lock=0x200",
                "release i_mmap_rwsem write lock=0x300",
            ],
        );
    }

    /// Holds the mutex and requests the folio, or (`is_turned`) the other way round.
    fn party(&mut self, cpu: usize, tid: usize, is_turned: bool, gate: bool) {
        let mutex = [
            "site=mutex_lock ask fault_mutex exclusive lock=0x400",
            "release fault_mutex exclusive lock=0x400",
        ];
        if gate {
            self.event(cpu, tid, "site=down_write ask mmap_lock write lock=0x180");
        }
        if !is_turned {
            self.event(cpu, tid, mutex[0]);
        }
        self.event(cpu, tid, "site=__filemap_get_folio folio_ask mapping=0xf000 index=0");
        self.event(
            cpu,
            tid,
            "site=__filemap_get_folio folio_held folio=0xd000 mapping=0xf000 index=0 how=returned-locked",
        );
        if is_turned {
            self.events(cpu, tid, &mutex);
        }
        self.event(cpu, tid, "folio_release folio=0xd000 mapping=0xf000 index=0");
        if !is_turned {
            self.event(cpu, tid, mutex[1]);
        }
        if gate {
            self.event(cpu, tid, "release mmap_lock write lock=0x180");
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let trace: Trace = self.text.parse().unwrap_or_else(|e| panic!("the trace is not understood: {e}"));
        trace.run().findings()
    }
}

/// Returns the ranks of all findings of a kind whose path of classes or sites is `about`.
fn ranks(findings: &[Finding], kind: Kind, about: &str) -> Vec<Rank> {
    findings.iter().filter(|f| f.kind() == kind && f.id.contains(about)).map(|f| f.rank).collect()
}

const WALKER: &str = "smaps_hugetlb_range/__unmap_hugepage_range";
const PAIR: &str = "cycle:fault_mutex>folio_lock(file)";

#[test]
fn a_walker_and_a_punch_are_predicted_with_any_number_of_faults_between() {
    for crowd in CROWDS {
        for pages in PAGES {
            let mut lines = Lines::new();
            lines.walker(false);
            lines.crowd(pages, crowd);
            lines.punch();
            let found = ranks(&lines.findings(), Kind::Prediction, WALKER);
            assert_eq!(found, [Rank::Predicted], "{pages} pages, {crowd:?}");
        }
    }
}

/// Walks with different locks of the link are different accesses. Up to the documented bound, none is dropped.
#[test]
fn a_walker_is_predicted_among_walks_under_many_vma_locks() {
    for vmas in [3, 31, 62] {
        let mut lines = Lines::new();
        lines.walker(false);
        lines.vmas(vmas);
        lines.punch();
        let findings = lines.findings();
        assert_eq!(ranks(&findings, Kind::Prediction, WALKER), [Rank::Predicted], "{vmas} VMAs");
        assert_eq!(findings.len(), 1, "{findings:#?}");
    }
}

/// Beyond the bound, the finding is incomplete.
#[test]
fn a_walker_beyond_the_bound_is_incomplete_and_not_forgotten() {
    let mut lines = Lines::new();
    lines.walker(false);
    lines.vmas(200);
    lines.punch();
    assert_eq!(ranks(&lines.findings(), Kind::Prediction, WALKER), [Rank::Incomplete]);
}

#[test]
fn a_walker_with_the_vma_lock_is_not_predicted() {
    for pages in PAGES {
        let mut lines = Lines::new();
        lines.walker(true);
        lines.crowd(pages, Crowd::OneTask);
        lines.punch();
        assert_eq!(lines.findings(), [], "{pages} pages");
    }
}

/// The walker comes after a crowd of protected lookups.
#[test]
fn a_walker_after_a_crowd_of_lookups_is_predicted() {
    for pages in PAGES {
        let mut lines = Lines::new();
        lines.punch();
        lines.crowd(pages, Crowd::OneTask);
        lines.walker(false);
        lines.now_ns += 10_000_000_000;
        lines.punch();
        let found = ranks(&lines.findings(), Kind::Prediction, WALKER);
        assert_eq!(found, [Rank::Predicted], "{pages} pages");
    }
}

#[test]
fn a_deadlock_is_found_with_any_number_of_faults_between() {
    for crowd in CROWDS {
        for pages in PAGES {
            let mut lines = Lines::new();
            lines.party(0, 11, false, false);
            lines.crowd(pages, crowd);
            lines.party(1, 12, true, false);
            assert_eq!(
                ranks(&lines.findings(), Kind::Cycle, PAIR),
                [Rank::Feasible],
                "{pages} pages, {crowd:?}"
            );
        }
    }
}

/// The first pair of locks of the edge is one of the crowd.
#[test]
fn a_deadlock_after_a_crowd_is_found() {
    for pages in PAGES {
        let mut lines = Lines::new();
        lines.crowd(pages, Crowd::OneTask);
        lines.party(0, 11, false, false);
        lines.party(1, 12, true, false);
        assert_eq!(ranks(&lines.findings(), Kind::Cycle, PAIR), [Rank::Feasible], "{pages} pages");
    }
}

#[test]
fn a_gated_deadlock_is_guarded_with_any_number_of_faults_between() {
    for pages in PAGES {
        let mut lines = Lines::new();
        lines.party(0, 11, false, true);
        lines.crowd(pages, Crowd::OneTask);
        lines.party(1, 12, true, true);
        assert_eq!(ranks(&lines.findings(), Kind::Cycle, PAIR), [Rank::Guarded], "{pages} pages");
    }
}

/// The first party is many tasks that exit one after the other. The second party exists all the time and acts last.
fn short_lived(tasks: usize, is_last_alive: bool) -> Vec<Finding> {
    let mut lines = Lines::new();
    let exits = |lines: &mut Lines, tid| lines.event(0, tid, "task_exit tgid=13");
    for task in 0..tasks {
        let tid = 1_000 + task;
        lines.event(2, 13, &format!("site=sched_process_fork fork child_tid={tid} child_tgid=13"));
        lines.party(0, tid, false, false);
        if task + 1 < tasks || !is_last_alive {
            exits(&mut lines, tid);
        }
    }
    lines.party(1, 12, true, false);
    if is_last_alive {
        exits(&mut lines, 1_000 + tasks - 1);
    }
    lines.findings()
}

#[test]
fn a_living_witness_replaces_an_exited_one() {
    for tasks in [1, 2, 7, 40, 300, 2_000] {
        let found = ranks(&short_lived(tasks, true), Kind::Cycle, PAIR);
        assert_eq!(found, [Rank::Feasible], "{tasks} tasks, of which the last one lives");
        // All of them exited before the second party acted.
        let found = ranks(&short_lived(tasks, false), Kind::Cycle, PAIR);
        assert!(found.iter().all(|rank| !rank.is_alarm()), "{tasks} tasks, all gone: {found:?}");
    }
}
