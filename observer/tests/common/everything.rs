//! Everything that observer makes of a recording: each sink, comparisons, lookups, a copy, the dashboard.
//!
//! Nothing here expects a result of its own; it fails where two outputs contradict each other, where JSON does not parse, and
//! where a text could steer a terminal.

use std::{
    fs,
    io::{self, Cursor, Write},
    path::PathBuf,
    sync::atomic::AtomicBool,
    time::Duration,
};

use observer::{
    diff::Diff,
    events::{Filter, trace_line, words},
    library::{Export, Library, Query},
    recording::{Input, Reader},
    report::{
        Report,
        several::{Named, Several},
    },
    run::{pipeline::Pipeline, player::Player},
    sink::{
        dot, json,
        line::{Lines, Progress},
        text,
    },
};
use observer_engine::setup::Setup;
use serde::de::IgnoredAny;

use super::{random::Random, shared::Shared, stage::Stage};

/// Sizes of the screen; the last one has room for almost nothing.
const SIZES: [(u16, u16); 3] = [(80, 24), (200, 50), (20, 5)];
/// Keys of the dashboard that change the picture.
const KEYS: [&str; 30] = [
    "1", "2", "3", "4", "5", "6", "7", "<Enter>", "<Enter>", "<Enter>", "<Esc>", "<Down>", "<Down>",
    "<PgDn>", "<End>", "<Tab>", "e", "e", "t", "s", "m", ">", "R", ".", ",", "]", "[", "}", "{", "?",
];

/// Reads a recording to its end; `None` if it is refused.
pub fn report(bytes: &[u8]) -> Option<Report> {
    let mut reader = Reader::new(Box::new(Cursor::new(bytes.to_vec()))).ok()?;
    let mut pipeline = Pipeline::new(reader.meta()).ok()?;
    while let Some(pass) = reader.next_pass().unwrap() {
        pipeline.pass(&pass);
    }
    Some(pipeline.finish(reader.meta(), reader.closing().cloned(), reader.notices()))
}

/// Writes a report to every sink.
pub fn sinks(report: &Report) {
    is_text(&written(|out| text::write(out, report)));
    is_text(&written(|out| dot::write(out, report)));
    is_json(&written(|out| json::write(out, report)));
    written(|out| json::lines::write(out, report)).split(|byte| *byte == b'\n').for_each(|line| {
        assert!(line.is_empty() || serde_json::from_slice::<IgnoredAny>(line).is_ok());
    });
    let (out, loss) = (Shared::default(), &report.loss);
    let mut lines = Lines::new(Box::new(out.clone()), report.meta.start_ns);
    lines.findings(&report.findings).unwrap();
    let progress = Progress {
        events: report.stats.events,
        lost: loss.iter().fold(0, |all, (_, n)| n.saturating_add(all)),
        findings: report.findings.len(),
        ..Progress::default()
    };
    lines.progress(report.end_ns, progress).unwrap();
    is_text(&out.bytes());
}

/// Writes what differs between two reports, and both as one.
pub fn comparisons(before: &Report, after: &Report) {
    let diff = Diff::of(before, after);
    is_text(&written(|out| text::diff::write(out, &diff, ["a", "b"])));
    is_json(&written(|out| json::diff::write(out, &diff, ["a", "b"])));
    let named = |report: &Report| Named { name: "x".into(), report: report.clone() };
    let several = Several::of(vec![named(before), named(after)]);
    is_text(&written(|out| text::several::write(out, &several)));
    is_json(&written(|out| json::several::write(out, &several)));
}

/// A recording as a file, with room for a copy beside it. Each thread has one.
pub struct OnDisk {
    recording: PathBuf,
    copy: PathBuf,
}

impl OnDisk {
    pub fn new(bytes: &[u8]) -> OnDisk {
        let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "-");
        let name =
            |what| std::env::temp_dir().join(format!("observer-{what}-{}-{thread}.obs", std::process::id()));
        let disk = OnDisk { recording: name("hostile"), copy: name("copy") };
        fs::write(&disk.recording, bytes).unwrap();
        disk
    }

    /// Looks events up and copies the recording. The copy has the same passes and the same kind of end.
    pub fn lookups(&self, bytes: &[u8], report: &Report, random: &mut Random) {
        let library = Library::file(self.recording.clone());
        let setup = Setup::try_from(&report.meta.setup).unwrap();
        let (start_ns, span_ns) = (report.meta.start_ns, report.duration_ns().saturating_add(1));
        for filter in ["", "tid=100", "comm=a"] {
            let filter = Filter::parse(filter, &setup).unwrap();
            let at_ns = start_ns.saturating_add(random.below(span_ns));
            let around_ns = [0, at_ns, u64::MAX][random.below(3) as usize];
            let (from_ns, to_ns) = [(0, u64::MAX), (at_ns, u64::MAX)][random.below(2) as usize];
            let query = Query { from_ns, to_ns, filter, limit: 50, around_ns };
            let page = library.events(query, &AtomicBool::new(false)).unwrap();
            for row in &page.events {
                is_text(words(row, &setup, start_ns).line().as_bytes());
                is_text(trace_line(row, &setup).as_bytes());
            }
        }
        library.export(Export::Recording, &self.copy, true).unwrap();
        let copied = fs::read(&self.copy).unwrap();
        let read = |bytes: Vec<u8>| {
            let mut reader = Reader::new(Box::new(Cursor::new(bytes))).unwrap();
            let passes: Vec<_> = std::iter::from_fn(|| reader.next_pass().unwrap()).collect();
            (passes, reader.closing().cloned())
        };
        assert!(read(bytes.to_vec()) == read(copied), "the copy is another recording");
    }

    /// Plays the recording on the dashboard, with random keys. Its end shows the findings of the report.
    pub fn dashboard(&self, report: &Report, random: &mut Random) {
        let player = Player::open("x.obs".into(), Input::File(self.recording.clone()), None).unwrap();
        let size = SIZES[random.below(3) as usize];
        let mut stage = Stage::playing(player, Library::file(self.recording.clone()), size);
        let shown = stage.state.latest();
        assert_eq!(shown.findings_total, report.findings.len());
        assert!(shown.findings.iter().eq(report.findings.iter().take(shown.findings.len())));
        for _ in 0..random.below(12) {
            stage.press(KEYS[random.below(KEYS.len() as u64) as usize]);
            is_text(stage.picture().as_bytes());
        }
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        for path in [&self.recording, &self.copy] {
            drop(fs::remove_file(path));
        }
    }
}

/// Processor time of this thread, which does not depend on what else the machine does.
pub fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid pointer; the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    out
}

fn is_json(bytes: &[u8]) {
    serde_json::from_slice::<IgnoredAny>(bytes).unwrap();
}

/// Checks for characters that steer a terminal or change the order of others.
fn is_text(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap();
    let steers = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!text.contains(steers), "{text:?}");
}
