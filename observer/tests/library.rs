//! Tests of searches for past events: in recordings, in growing ones, and in the in-memory recording of a live run.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not `#[test]` functions for clippy")]

use std::{
    fs::File,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::AtomicBool,
};

use observer::{
    events::{Context, EventRow, Filter},
    library::{Export, Library, Page, Query},
    meta::Meta,
    output::Output,
    recording::{InMemory, Reader, Writer},
    report::Report,
    run::{Options, run},
    source::{Loss, Pass, Stack, replay::Replay},
};
use observer_ebpf::loss;
use observer_engine::{
    event::Body,
    finding::{Evidence, Rank, Use, WindowCase},
    lock_class::LockClass,
    order::{Item, Order},
    setup::Setup,
};

const FIXTURES: [&str; 3] = ["share-unmap", "walkers-6.1", "walkers-5.10"];
const EVER: RangeInclusive<u64> = 0..=u64::MAX;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(format!("{name}.obs"))
}

/// A directory of this test, removed when it is dropped.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("observer-library-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn reader(path: &Path) -> Reader {
    Reader::new(Box::new(File::open(path).unwrap())).unwrap()
}

fn passes(path: &Path) -> (Reader, Vec<Pass>) {
    let mut reader = reader(path);
    let mut passes = Vec::new();
    while let Some(pass) = reader.next_pass().unwrap() {
        passes.push(pass);
    }
    (reader, passes)
}

/// All events in order, by the order alone. If not `whole`, without the rest that no pass releases.
fn rows(passes: &[Pass], whole: bool) -> Vec<EventRow> {
    let (mut order, mut context, mut rows) = (Order::new(), Context::default(), Vec::new());
    let mut take = |item: Item<'_>| {
        if let Item::Event(event) = item {
            let number = rows.len() as u64 + 1;
            rows.extend(context.pick(number, event, &Filter::default()));
        }
    };
    for pass in passes {
        pass.batches.iter().for_each(|b| order.batch(b.cpu, &b.bytes));
        order.mark(pass.mark, &mut take);
    }
    if whole {
        order.finish(&mut take);
    }
    rows
}

fn setup(meta: &Meta) -> Setup {
    Setup::try_from(&meta.setup).unwrap()
}

fn ask(library: &Library, times: RangeInclusive<u64>, filter: Filter, limit: usize) -> Page {
    let query = Query { from_ns: *times.start(), to_ns: *times.end(), filter, limit, around_ns: 0 };
    library.events(query, &AtomicBool::new(false)).unwrap()
}

fn all(library: &Library, times: RangeInclusive<u64>) -> Vec<EventRow> {
    ask(library, times, Filter::default(), usize::MAX).events
}

fn report(path: &Path) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(async { run(&mut Replay::open(path).unwrap(), Options::default()).await })
        .unwrap()
        .report
}

/// Writes each pass as a separate chunk, so that reading can begin at many positions.
fn in_small_chunks(passes: &[Pass], meta: &Meta, path: &Path) {
    let mut writer = Writer::begin(Some(Output::create(path, true).unwrap()), meta).unwrap();
    for pass in passes {
        writer.pass(pass).unwrap();
        writer.flush().unwrap();
    }
    writer.finish(None).unwrap();
}

#[test]
fn a_search_finds_every_event_and_its_number_from_any_start() {
    let dir = Dir::new("numbers");
    for name in FIXTURES {
        let (original, passes) = passes(&fixture(name));
        let rows = rows(&passes, true);
        let path = dir.path(name);
        in_small_chunks(&passes, original.meta(), &path);
        let warm = Library::file(path.clone());
        assert_eq!(all(&warm, EVER), rows, "{name}");
        for part in 0..24 {
            let at = |n: usize| rows[(rows.len() - 1) * n / 24].event.time_ns;
            let times = at(part)..=at((part + 3).min(24));
            let expected: Vec<_> =
                rows.iter().filter(|r| times.contains(&r.event.time_ns)).cloned().collect();
            assert_eq!(all(&warm, times.clone()), expected, "{name} {part}");
            assert_eq!(all(&Library::file(path.clone()), times), expected, "{name} {part}, opened again");
        }
    }
}

#[test]
fn a_page_is_limited_and_shows_that_more_events_follow() {
    let (reader, passes) = passes(&fixture("share-unmap"));
    let rows = rows(&passes, true);
    let library = Library::file(fixture("share-unmap"));
    let filter = Filter::parse("kind=lookup", &setup(reader.meta())).unwrap();
    let lookups: Vec<_> = rows.iter().filter(|r| filter.matches(r)).cloned().collect();
    let page = ask(&library, EVER, filter.clone(), 10);
    assert_eq!((page.events.as_slice(), page.more), (&lookups[..10], true));
    let page = ask(&library, EVER, filter.clone(), lookups.len());
    assert_eq!((page.events.as_slice(), page.more), (&lookups[..], false));
    let query = Query { from_ns: 0, to_ns: u64::MAX, filter, limit: 10, around_ns: 0 };
    let stopped = library.events(query, &AtomicBool::new(true)).unwrap();
    assert!(stopped.events.is_empty() && stopped.more);
}

#[test]
fn a_page_around_a_moment_has_the_nearest_events() {
    let (_, passes) = passes(&fixture("share-unmap"));
    let rows = rows(&passes, true);
    let library = Library::file(fixture("share-unmap"));
    let n = rows.len();
    let around = |around_ns, limit| {
        let query = Query { from_ns: 0, to_ns: u64::MAX - 1, filter: Filter::default(), limit, around_ns };
        let page = library.events(query, &AtomicBool::new(false)).unwrap();
        (page.events, page.earlier, page.more)
    };
    let at = |i: usize| rows[i].event.time_ns;
    assert!(at(n / 2 - 1) < at(n / 2), "the middle is no moment of its own");
    assert_eq!(around(at(n / 2), 10), (rows[n / 2 - 5..n / 2 + 5].to_vec(), true, true));
    assert_eq!(around(at(0), 10), (rows[..10].to_vec(), false, true));
    assert_eq!(around(at(2), 10), (rows[..10].to_vec(), false, true), "what is free before is used after");
    assert_eq!(around(u64::MAX, 10), (rows[n - 10..].to_vec(), true, false));
    assert_eq!(around(at(n / 2), n), (rows.clone(), false, false));
}

/// Events of the page at this time by this task.
fn there(page: &Page, time_ns: u64, tid: u32) -> Vec<&Body> {
    let rows = page.events.iter().filter(|r| r.event.time_ns == time_ns && r.event.tid.0 == tid);
    rows.map(|r| &r.event.body).collect()
}

fn check_window(library: &Library, setup: &Setup, case: &WindowCase) -> bool {
    let until = case.holder.time_ns..=case.unlink_hi_ns + case.possible_ns;
    let find = |words: &str| ask(library, until.clone(), Filter::parse(words, setup).unwrap(), usize::MAX);
    let page = find(&format!("table={}", case.table));
    let looked_up = there(&page, case.holder.time_ns, case.holder.task.tid.0);
    assert!(
        looked_up.iter().any(|b| matches!(b, Body::Lookup { .. } | Body::CallbackBegin { .. })),
        "no lookup of {case:?}"
    );
    let gone = there(&page, case.unlink_hi_ns, case.unlinker.task.tid.0);
    assert!(
        gone.iter()
            .any(|b| matches!(b, Body::Unshare { .. } | Body::Unlinked { .. } | Body::TableFree { .. })),
        "no unlink of {case:?}"
    );
    let by_pte = find(&format!("pte={}", case.pte));
    assert!(!there(&by_pte, case.holder.time_ns, case.holder.task.tid.0).is_empty(), "by pte: {case:?}");
    let (Use::Seen(_), Some(used)) = (case.used, &case.at_use) else { return false };
    // Acquired then, or held when the link was unlinked.
    let ptl = used.holds.iter().find(|h| h.class == LockClass::Ptl).unwrap();
    let taken = |b: &Body| matches!(b, Body::Lock { lock, .. } if lock.0 == ptl.lock);
    let times = [used.time_ns, ptl.since_ns];
    let found = times.into_iter().any(|t| there(&page, t, used.task.tid.0).into_iter().any(taken));
    assert!(found, "no use of {case:?}");
    true
}

#[test]
fn a_search_by_table_finds_the_events_of_a_window() {
    let path = fixture("walkers-5.10");
    let library = Library::file(path.clone());
    let setup = setup(reader(&path).meta());
    let (mut windows, mut used) = (0, 0);
    for finding in report(&path).findings {
        let Evidence::Window(window) = finding.evidence else { continue };
        for case in [&window.first, &window.longest] {
            windows += 1;
            used += usize::from(check_window(&library, &setup, case));
        }
    }
    assert!(windows >= 4 && used >= 1, "{windows} windows, {used} with a use that was seen");
}

#[test]
fn a_search_by_table_finds_both_accesses_of_a_prediction() {
    let mut sides = 0;
    for name in ["walkers-6.1", "walkers-5.10"] {
        let path = fixture(name);
        let library = Library::file(path.clone());
        let setup = setup(reader(&path).meta());
        for finding in report(&path).findings {
            let Evidence::Prediction(p) = finding.evidence else { continue };
            let filter = Filter::parse(&format!("table={} mm={}", p.table, p.mm), &setup).unwrap();
            let page = ask(&library, EVER, filter, usize::MAX);
            for side in [&p.holder, &p.unlinker] {
                sides += 1;
                assert!(!there(&page, side.time_ns, side.task.tid.0).is_empty(), "{name}: {side:?}");
            }
        }
    }
    assert!(sides >= 10, "{sides}");
}

/// Output of the command line.
fn observer(args: &[&str]) -> Vec<u8> {
    let out = Command::new(env!("CARGO_BIN_EXE_observer")).args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

#[test]
fn exports_equal_the_output_of_the_command_line() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Dir::new("exports");
    let path = fixture("walkers-6.1");
    let name = path.to_str().unwrap();
    let library = Library::file(path.clone());
    let report = ["report", name, "--fail-on", "never"];
    for (what, args) in [
        (Export::Text, report.to_vec()),
        (Export::Json, [&report[..], &["--format", "json"]].concat()),
        (Export::Jsonl, vec!["export", name, "--to", "jsonl", "-o", "-"]),
        (Export::Dot, vec!["export", name, "--to", "dot", "-o", "-"]),
    ] {
        let to = dir.path("out");
        let bytes = library.export(what, &to, true).unwrap();
        let written = std::fs::read(&to).unwrap();
        assert_eq!(written, observer(&args), "{what:?}");
        assert_eq!(bytes, written.len() as u64);
        assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let to = dir.path("copy.obs");
    library.export(Export::Recording, &to, false).unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), std::fs::read(&path).unwrap());
    let why = observer::hint::explain(&library.export(Export::Recording, &to, false).unwrap_err());
    assert!(why.ends_with("try: another name, or --force to overwrite it\n"), "{why}");
    let itself = Library::file(to.clone()).export(Export::Recording, &to, true).unwrap_err();
    assert!(itself.to_string().contains("is the recording itself"));
    assert!(to.metadata().unwrap().len() > 0);
}

#[test]
fn a_recording_is_read_while_it_is_written() {
    let dir = Dir::new("growing");
    let (reader, passes) = passes(&fixture("share-unmap"));
    let whole = rows(&passes, true);
    let path = dir.path("growing.obs");
    let mut writer = Writer::begin(Some(Output::create(&path, false).unwrap()), reader.meta()).unwrap();
    let library = Library::written(path.clone());
    let mut found = 0;
    for (n, pass) in passes.iter().enumerate() {
        writer.pass(pass).unwrap();
        writer.flush().unwrap();
        if n % 16 == 0 || n + 1 == passes.len() {
            let page = ask(&library, EVER, Filter::default(), usize::MAX);
            let released = rows(&passes[..=n], false);
            assert_eq!(page.events, released, "after {n} passes");
            let last = released.last().map_or(0, |r| r.event.time_ns);
            assert!(!page.more && page.read_until_ns >= last);
            found = released.len();
        }
    }
    assert!(found > whole.len() / 2);
    // The written part is already a whole recording.
    let to = dir.path("saved.obs");
    library.export(Export::Recording, &to, false).unwrap();
    let (saved, of_saved) = self::passes(&to);
    assert_eq!(of_saved, passes);
    assert!(saved.notices()[0].text.starts_with("recording has no end after"), "{:?}", saved.notices());
    writer.finish(reader.closing()).unwrap();
    assert_eq!(all(&library, EVER), whole);
}

#[test]
fn a_cut_recording_gives_its_whole_passes() {
    let dir = Dir::new("cut");
    let (original, all_passes) = passes(&fixture("share-unmap"));
    let path = dir.path("whole.obs");
    in_small_chunks(&all_passes, original.meta(), &path);
    let bytes = std::fs::read(&path).unwrap();
    let mut shorter = 0;
    for part in 2..8 {
        let cut = bytes.len() * part / 10;
        let path = dir.path("cut.obs");
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let (_, left) = passes(&path);
        assert!(!left.is_empty());
        shorter += usize::from(left.len() < all_passes.len());
        let library = Library::file(path);
        assert_eq!(all(&library, EVER), rows(&left, true), "cut at {cut}");
        let to = dir.path("saved.obs");
        library.export(Export::Recording, &to, true).unwrap();
        assert_eq!(passes(&to).1, left, "cut at {cut}");
    }
    assert!(shorter >= 4, "{shorter} were cut short");
    let none = dir.path("none.obs");
    std::fs::write(&none, &bytes[..30]).unwrap();
    let query = Query { from_ns: 0, to_ns: 1, filter: Filter::default(), limit: 1, around_ns: 0 };
    let why = Library::file(none).events(query, &AtomicBool::new(false)).unwrap_err();
    assert!(observer::hint::explain(&why).contains("\ntry: "), "{why:#}");
}

/// Records a run in memory, in segments so small that the first ones are dropped.
fn keep(passes: &[Pass], reader: &Reader, segment_bytes: u64) -> Library {
    let mut keep = InMemory::in_segments(reader.meta(), segment_bytes).unwrap();
    let library = Library::in_memory(keep.handle());
    passes.iter().for_each(|pass| keep.pass(pass).unwrap());
    keep.finish(reader.closing()).unwrap();
    library
}

#[test]
fn an_in_memory_recording_has_the_end_of_the_run() {
    let dir = Dir::new("kept");
    let (reader, passes) = passes(&fixture("walkers-6.1"));
    let rows = rows(&passes, true);
    let length = fixture("walkers-6.1").metadata().unwrap().len();
    let library = keep(&passes, &reader, length / 3);
    let from_ns = library.kept_from_ns().expect("nothing was dropped");
    // An event later than the pass with which the segment begins.
    let first = passes.iter().map(|p| p.mark.time_ns).find(|t| *t > from_ns).unwrap();
    let expected: Vec<_> = rows.iter().filter(|r| r.event.time_ns >= first).cloned().collect();
    assert!(expected.len() > 100 && expected.len() < rows.len());
    assert_eq!(all(&library, first..=u64::MAX), expected);

    let to = dir.path("kept.obs");
    library.export(Export::Recording, &to, false).unwrap();
    let (whole, kept) = (report(&fixture("walkers-6.1")), report(&to));
    assert_eq!(kept.loss, whole.loss);
    assert!(kept.notices[0].text.starts_with("recording begins "), "{:?}", kept.notices);
    assert_eq!(kept.closing, whole.closing);
    assert_eq!(kept.findings.iter().filter(|f| f.rank == Rank::Incomplete).count(), 0);
    let mut sides = 0;
    for finding in &kept.findings {
        let Evidence::Prediction(p) = &finding.evidence else { continue };
        for side in [&p.holder, &p.unlinker] {
            sides += 1;
            assert!(!side.task.comm.is_empty() && side.task.tgid != 0, "{side:?}");
            assert!(!kept.stacks.symbolised(side.stack).is_empty(), "no stack: {side:?}");
        }
    }
    assert!(sides >= 2, "{sides} sides in what is kept");
    // The export of findings equals the report of the saved recording.
    let json = dir.path("kept.json");
    library.export(Export::Json, &json, false).unwrap();
    let saved = observer(&["report", to.to_str().unwrap(), "--format", "json", "--fail-on", "never"]);
    assert_eq!(std::fs::read(json).unwrap(), saved);
}

/// The number of a stack is reused: findings recorded under it before must not show the new frames.
#[test]
fn a_stack_whose_number_was_reused_is_not_repeated() {
    let (reader, mut passes) = passes(&fixture("walkers-6.1"));
    let at = passes.iter().position(|p| p.mark.time_ns > reader.meta().start_ns + 1_900_000_000).unwrap();
    let wrong = vec![0xdead_0000];
    let ids: Vec<u32> = passes[..at].iter().flat_map(|p| p.stacks.iter().map(|s| s.id)).collect();
    assert!(!ids.is_empty());
    passes[at].stacks.extend(ids.into_iter().map(|id| Stack { id, frames: wrong.clone() }));
    let dir = Dir::new("stacks");
    let to = dir.path("kept.obs");
    let length = fixture("walkers-6.1").metadata().unwrap().len();
    let library = keep(&passes, &reader, length / 3);
    assert!(library.kept_from_ns().unwrap() > passes[at].mark.time_ns);
    library.export(Export::Recording, &to, false).unwrap();
    let kept = report(&to);
    assert!(!kept.findings.is_empty());
    for finding in &kept.findings {
        let Evidence::Prediction(p) = &finding.evidence else { continue };
        for side in [&p.holder, &p.unlinker] {
            let frames = kept.stacks.symbolised(side.stack);
            assert!(!frames.iter().any(|f| f.contains("dead0000")), "{side:?}: {frames:?}");
        }
    }
}

/// Loss before the start of a segment is counted in the segment, and makes no hole in it.
#[test]
fn loss_before_a_segment_is_reported_and_affects_no_finding() {
    let (reader, mut passes) = passes(&fixture("walkers-6.1"));
    let since_ns = reader.meta().start_ns;
    passes[2].loss.push(Loss { cpu: 0, reason: loss::RING_FULL as u16, site: None, total: 5, since_ns });
    let dir = Dir::new("loss");
    let to = dir.path("kept.obs");
    let length = fixture("walkers-6.1").metadata().unwrap().len();
    keep(&passes, &reader, length / 3).export(Export::Recording, &to, false).unwrap();
    let kept = report(&to);
    assert_eq!(kept.loss, [("ring-full", 5)]);
    assert!(!kept.findings.is_empty() && kept.findings.iter().all(|f| f.rank != Rank::Incomplete));
}

#[test]
fn a_dropped_segment_is_freed_after_its_last_reader() {
    let (reader, passes) = passes(&fixture("walkers-6.1"));
    let length = fixture("walkers-6.1").metadata().unwrap().len();
    let mut keep = InMemory::in_segments(reader.meta(), length / 8).unwrap();
    let kept = keep.handle();
    let (half, rest) = passes.split_at(passes.len() / 2);
    half.iter().for_each(|pass| keep.pass(pass).unwrap());
    let look = kept.look();
    rest.iter().for_each(|pass| keep.pass(pass).unwrap());
    assert!(kept.look().segments[0].number > look.segments[0].number + 1);
    let inputs: Vec<_> = look.segments.iter().map(|s| s.input.clone()).collect();
    assert!(inputs.iter().all(|i| i.len().unwrap() > 0));
    drop(look);
    assert!(inputs.iter().all(|i| i.is_empty().unwrap()));
    assert_eq!(kept.look().segments.len(), 2);
}

/// `cargo test -p observer --release --test library -- --ignored --nocapture cost_of_the_in_memory_recording`
#[test]
#[ignore = "a measurement"]
fn cost_of_the_in_memory_recording() {
    let dir = Dir::new("cost");
    let (reader, passes) = passes(&fixture("walkers-5.10"));
    let events = rows(&passes, true).len();
    const ROUNDS: usize = 40;
    let each = |what: &str, pass: &mut dyn FnMut(&Pass)| {
        let begun = std::time::Instant::now();
        (0..ROUNDS).for_each(|_| passes.iter().for_each(&mut *pass));
        println!("{:6.1} ns an event: {what}", begun.elapsed().as_nanos() as f64 / (ROUNDS * events) as f64);
    };
    let mut writer =
        Writer::begin(Some(Output::create(&dir.path("cost.obs"), true).unwrap()), reader.meta()).unwrap();
    each("a recorder to a file", &mut |pass| writer.pass(pass).unwrap());
    for (what, bytes) in [("kept, never rotated", u64::MAX), ("kept, rotated each MiB", 1 << 20)] {
        let mut keep = InMemory::in_segments(reader.meta(), bytes).unwrap();
        each(what, &mut |pass| keep.pass(pass).unwrap());
    }
}
