//! Tests of the dashboard's pictures, over the recordings of `fixtures/`.
//!
//! `INSTA_UPDATE=always cargo test -p observer --test widgets` writes the snapshots; review the difference.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not `#[test]` functions for clippy")]

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use observer::{
    events::EventRow,
    recording::Reader,
    run::pipeline::Pipeline,
    tui::widget::{self, Glyphs, life::Life, matrix, timebar, timeline},
};
use observer_engine::{
    event::{Event, Mode, Tid},
    finding::{Evidence, Finding, Hold, HoldBasis, Kind, Rank, Use, WindowCase},
    lock_class::LockClass,
    order::{Item, Order},
    setup::Setup,
    trace::{Step, Trace},
    view::{EdgeView, TableView},
};

/// Text of a picture, as a terminal without styles shows it.
macro_rules! text {
    ($lines:expr) => {
        $lines
            .iter()
            .map(|l| l.0.iter().map(|(_, t)| t.as_str()).collect::<String>() + "\n")
            .collect::<String>()
    };
}

const WIDTHS: [usize; 2] = [80, 200];

/// A recording, read and judged.
struct Run {
    setup: Setup,
    start_ns: u64,
    findings: Vec<Finding>,
    edges: Vec<EdgeView>,
    tables: Vec<TableView>,
    events: Vec<Event>,
}

impl Run {
    fn of(name: &str) -> Run {
        let path = fixtures().join(format!("{name}.obs"));
        let mut reader = Reader::new(Box::new(File::open(path).unwrap())).unwrap();
        let meta = reader.meta().clone();
        let mut pipeline = Pipeline::new(&meta).unwrap();
        let (mut order, mut events) = (Order::new(), Vec::new());
        let mut take = |item: Item<'_>| {
            if let Item::Event(event) = item {
                events.push(*event);
            }
        };
        while let Some(pass) = reader.next_pass().unwrap() {
            for batch in &pass.batches {
                order.batch(batch.cpu, &batch.bytes);
            }
            order.mark(pass.mark, &mut take);
            pipeline.pass(&pass);
        }
        order.finish(&mut take);
        let report = pipeline.finish(&meta, reader.closing().cloned(), Vec::new());
        Run {
            setup: Setup::try_from(&meta.setup).unwrap(),
            start_ns: meta.start_ns,
            findings: report.findings,
            edges: report.edges,
            tables: report.tables,
            events,
        }
    }

    /// Events of the two tasks of a window, from shortly before it to shortly after it.
    fn around(&self, c: &WindowCase) -> Vec<EventRow> {
        let end_ns = (c.unlink_hi_ns + c.certain_ns).max(c.unlink_lo_ns + c.possible_ns);
        let pad = 10_000_000;
        let times = c.holder.time_ns.saturating_sub(pad)..=end_ns + pad;
        let tids = [c.holder.task.tid, c.unlinker.task.tid];
        let wanted = |e: &&Event| times.contains(&e.time_ns) && tids.contains(&e.tid);
        let row = |(i, event): (usize, &Event)| EventRow {
            number: i as u64 + 1,
            event: *event,
            comm: Arc::from(""),
            owner: 0,
        };
        self.events.iter().filter(wanted).enumerate().map(row).collect()
    }

    /// Runs a text trace to its end.
    fn of_trace(name: &str) -> Run {
        let path = fixtures().join(format!("traces/{name}.trace"));
        let trace: Trace = std::fs::read_to_string(path).unwrap().parse().unwrap();
        let event = |step: &Step| if let Step::Event(event) = step { Some(*event) } else { None };
        let events: Vec<Event> = trace.steps.iter().filter_map(event).collect();
        let engine = trace.run();
        let (findings, edges, tables) = (engine.findings(), engine.edges(), engine.tables());
        Run { setup: trace.setup, start_ns: 0, findings, edges, tables, events }
    }

    fn picture(&self, finding: &Finding, width: usize, glyphs: &Glyphs) -> String {
        let events = match &finding.evidence {
            Evidence::Window(w) => self.around(&w.longest),
            _ => Vec::new(),
        };
        let lines = widget::of_finding(finding, &events, &self.setup, self.start_ns, width, glyphs);
        text!(lines)
    }

    /// Draws every finding of some kinds, at every width.
    fn pictures(&self, kinds: &[Kind]) -> String {
        let mut out = String::new();
        for f in self.findings.iter().filter(|f| kinds.contains(&f.kind())) {
            for width in WIDTHS {
                out += &format!("--- {} at {width}\n{}\n", f.id, self.picture(f, width, &Glyphs::BLOCKS));
            }
        }
        out
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

fn compare(name: &str, text: &str) {
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(format!("widget-{name}"), text);
    });
}

#[test]
fn windows() {
    compare("windows-5.10", &Run::of("walkers-5.10").pictures(&[Kind::Window]));
}

#[test]
fn predictions() {
    compare("predictions-6.1", &Run::of("walkers-6.1").pictures(&[Kind::Prediction]));
}

#[test]
fn lock_findings() {
    let kinds = [Kind::Cycle, Kind::AgainstOrder, Kind::Relock];
    for name in ["fault-truncate", "fault-mutex-folio", "hang-fault-mutex-6.1"] {
        compare(&format!("cycles-{name}"), &Run::of(name).pictures(&kinds));
    }
}

#[test]
fn lock_order() {
    for name in ["walkers-6.1", "walkers-5.10", "fault-truncate", "hang-fault-mutex-6.1"] {
        let run = Run::of(name);
        let matrix = matrix::of(&run.edges, &run.findings, &run.setup.orders);
        let mut out = String::new();
        for (width, glyphs) in [(80, Glyphs::BLOCKS), (200, Glyphs::BLOCKS), (40, Glyphs::ASCII)] {
            let selected = Some((1, matrix.size() - 1));
            let lines = matrix.lines(selected, width, &glyphs);
            out += &format!("--- at {width}\n{}\n", text!(lines));
        }
        compare(&format!("matrix-{name}"), &out);
    }
}

/// Names some of the tasks of the recordings, whose ids are around 100.
fn life(table: &TableView, start_ns: u64) -> Life<'_> {
    let here_ns = Some(table.birth_ns + (table.last_ns - table.birth_ns) / 3);
    let comm = &|tid: Tid| tid.0.is_multiple_of(2).then(|| format!("ex-{}", tid.0));
    Life { table, start_ns, here_ns, comm }
}

#[test]
fn lives() {
    for name in ["share-unmap", "walkers-5.10"] {
        let run = Run::of(name);
        let mut out = String::new();
        for table in &run.tables {
            for width in WIDTHS {
                let lines = life(table, run.start_ns).lines(width, &Glyphs::BLOCKS);
                let head = format!("--- {} life {} at {width}\n", table.table, table.generation);
                out += &format!("{head}{}\n", text!(lines));
            }
        }
        compare(&format!("lives-{name}"), &out);
    }
}

#[test]
fn windows_of_every_rank() {
    for name in [
        "window-callback-used",
        "window-freed",
        "window-ptl-wait",
        "revalidated",
        "revalidated-retry",
        "diff-alone",
        "trap-sleep-then-ptl",
        "walk-window",
        "no-operation",
        "loss-holder",
    ] {
        compare(&format!("window-{name}"), &Run::of_trace(name).pictures(&[Kind::Window]));
    }
}

#[test]
fn a_window_without_events_is_drawn_from_its_evidence() {
    let mut run = Run::of("walkers-5.10");
    run.events.clear();
    compare("windows-5.10-no-events", &run.pictures(&[Kind::Window]));
}

/// Shapes that no recording has: a window of three microseconds in a lease of four seconds, many locks, one site for both
/// parties.
#[test]
fn made_up_windows() {
    let run = Run::of_trace("window-freed");
    let finding = run.findings.iter().find(|f| f.kind() == Kind::Window).unwrap();
    let Evidence::Window(window) = &finding.evidence else { panic!("no window") };
    let mut case = window.longest.clone();
    let lookup_ns = 5_000_000_000;
    case.holder.time_ns = lookup_ns;
    (case.unlink_lo_ns, case.unlink_hi_ns) = (lookup_ns + 4_000_000_000, lookup_ns + 4_000_000_000);
    (case.certain_ns, case.possible_ns) = (3_000, 3_200);
    case.freed_ns = Some(case.unlink_hi_ns + 1_500);
    case.used = Use::Seen(case.unlink_hi_ns + 2_000);
    case.holder.task.comm = "esc\u{1b}[2J\u{4e2d}".into();
    case.unlinker.site = case.holder.site.clone();
    let hold = |(i, class): (usize, LockClass)| Hold {
        class,
        lock: 0xffff_8880_0000_1000 + i as u64 * 64,
        mode: Some(if i % 2 == 0 { Mode::Write } else { Mode::Read }),
        basis: HoldBasis::Requested,
        since_ns: lookup_ns - 1_000 * (i as u64 + 1),
        lossy: false,
    };
    case.holder.holds = LockClass::ALL.into_iter().enumerate().map(hold).collect();
    let mut out = String::new();
    for width in [80, 200, 40, 15] {
        let lines =
            timeline::lines(&case, Rank::Freed, &[], &run.setup, 4_000_000_000, width, &Glyphs::BLOCKS);
        out += &format!("--- at {width}\n{}\n", text!(lines));
    }
    assert!(!out.contains('\u{1b}'), "{out}");
    compare("windows-made-up", &out);
}

#[test]
fn a_plain_terminal_shows_ascii_only() {
    let run = Run::of("walkers-5.10");
    let finding = run.findings.iter().find(|f| f.kind() == Kind::Window).unwrap();
    let shown = run.picture(finding, 80, &Glyphs::ASCII);
    assert!(shown.is_ascii(), "{shown}");
    compare("windows-ascii", &shown);
}

const BAR: timebar::Bar<'static> = timebar::Bar {
    start_ns: 5_000_000_000,
    end_ns: 65_000_000_000,
    read_ns: 65_000_000_000,
    now_ns: 20_000_000_000,
    marks: &[
        (10_000_000_000, false),
        (20_000_000_000, true),
        (35_000_000_000, false),
        (35_000_000_001, false),
        (50_000_000_000, true),
        (50_000_000_001, false),
        (64_900_000_000, true),
    ],
    selected: None,
    paused: false,
    speed: Some(1.0),
    event: 1_234_567,
    events: 9_999_999,
    reading: false,
};

#[test]
fn time_bars() {
    let read = BAR.start_ns + 26_000_000_000;
    let bars = [
        BAR,
        timebar::Bar { paused: true, speed: Some(0.25), ..BAR },
        timebar::Bar { speed: None, now_ns: BAR.end_ns, ..BAR },
        timebar::Bar { reading: true, read_ns: read, now_ns: read, ..BAR },
        timebar::Bar { end_ns: BAR.start_ns, now_ns: BAR.start_ns, read_ns: 0, ..BAR },
    ];
    let mut out = String::new();
    for glyphs in [Glyphs::BLOCKS, Glyphs::ASCII] {
        for width in [200, 80, 50, 30, 20, 5] {
            for bar in &bars {
                out += &text!([timebar::drawn(bar, width, &glyphs).0]);
            }
        }
    }
    compare("timebar", &out);
}

/// A click on a cell seeks to a time that the bar shows in that cell.
#[test]
fn a_click_lands_on_the_drawn_position() {
    for width in 0..260 {
        let mut cells = 0;
        let scale = timebar::drawn(&BAR, width, &Glyphs::ASCII).1;
        for column in 0..width {
            let Some(now_ns) = scale.time_at(column) else { continue };
            cells += 1;
            let there = timebar::Bar { now_ns, marks: &[], ..BAR };
            let line = text!([timebar::drawn(&there, width, &Glyphs::ASCII).0]);
            let head = line.chars().position(|c| c == '|');
            assert_eq!(head, Some(column), "{width}: {line}");
            assert!((BAR.start_ns..=BAR.end_ns).contains(&now_ns));
        }
        assert_eq!(cells > 0, width >= 24, "{cells} cells of {width}");
    }
}

/// No line is wider than its width, and no width panics: findings of all kinds, with events and without.
#[test]
fn every_width_can_be_drawn() {
    let mut runs = ["walkers-6.1", "walkers-5.10", "hang-fault-mutex-6.1", "share-unmap"]
        .map(Run::of)
        .into_iter()
        .collect::<Vec<_>>();
    runs.extend(
        ["diff-alone", "revalidated", "relock", "cycle-read-read", "window-freed"].map(Run::of_trace),
    );
    for run in &mut runs {
        for width in (1..=130).chain([200, 1000]) {
            for glyphs in [Glyphs::BLOCKS, Glyphs::ASCII] {
                let matrix = matrix::of(&run.edges, &run.findings, &run.setup.orders);
                let last = matrix.size().saturating_sub(1);
                let mut shown = text!(matrix.lines(Some((0, last)), width, &glyphs));
                shown += &text!(matrix.lines(None, width, &glyphs));
                for table in &run.tables {
                    shown += &text!(life(table, run.start_ns).lines(width, &glyphs));
                }
                for finding in &run.findings {
                    shown += &run.picture(finding, width, &glyphs);
                }
                shown += &text!([timebar::drawn(&BAR, width, &glyphs).0]);
                for line in shown.lines() {
                    assert!(line.chars().count() <= width, "{width}: {line}");
                }
            }
        }
    }
}

/// Impossible times, from a damaged recording, are drawn somewhere.
#[test]
fn damaged_times_do_not_panic() {
    let run = Run::of_trace("window-freed");
    let finding = run.findings.iter().find(|f| f.kind() == Kind::Window).unwrap();
    let Evidence::Window(window) = &finding.evidence else { panic!("no window") };
    let times = [0, 1, 1000, u64::MAX - 1, u64::MAX];
    for lookup in times {
        for unlink in times {
            for length in times {
                let mut case: WindowCase = window.longest.clone();
                case.holder.time_ns = lookup;
                (case.unlink_lo_ns, case.unlink_hi_ns) = (unlink.min(length), unlink);
                (case.certain_ns, case.possible_ns, case.freed_ns) = (length, lookup, Some(length));
                for rank in Rank::ALL {
                    let _ = timeline::lines(&case, rank, &[], &run.setup, 7, 80, &Glyphs::BLOCKS);
                }
            }
        }
    }
}

#[test]
fn every_edge_is_in_its_cell_of_the_matrix() {
    let run = Run::of("hang-fault-mutex-6.1");
    let matrix = matrix::of(&run.edges, &run.findings, &run.setup.orders);
    let mut all = Vec::new();
    for row in 0..matrix.size() {
        for column in 0..matrix.size() {
            for i in matrix.cell(row, column) {
                let classes = (run.edges[i].from, run.edges[i].to);
                assert_eq!((matrix.class(row), matrix.class(column)), (Some(classes.0), Some(classes.1)));
                assert_eq!(matrix.of_edge(i), Some((row, column)));
                all.push(i);
            }
        }
    }
    all.sort_unstable();
    assert_eq!(all, (0..run.edges.len()).collect::<Vec<_>>());
    assert!(matrix.cell(matrix.size(), 0).is_empty());
}
