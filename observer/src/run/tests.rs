//! Tests of the end of a run.

use super::*;
use crate::{
    meta::{Closing, Meta},
    source::Mark,
};

/// A source without events.
struct Endless {
    meta: Meta,
    stopped: bool,
    passes: u64,
}

impl Endless {
    fn new() -> Endless {
        Endless { meta: Meta::default(), stopped: false, passes: 0 }
    }
}

impl Source for Endless {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    async fn next(&mut self) -> anyhow::Result<Option<Pass>> {
        if self.stopped {
            return Ok(None);
        }
        sleep(Duration::from_millis(1)).await;
        self.passes += 1;
        let mark = Mark { number: self.passes, time_ns: self.passes * 10_000_000, complete: true };
        Ok(Some(Pass { mark, ..Pass::default() }))
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn closing(&mut self, end: End) -> anyhow::Result<Option<Closing>> {
        Ok(Some(Closing { end, end_ns: 0, sites: vec![], misses: vec![], loss: Default::default() }))
    }
}

fn run_endless(options: Options) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut source = Endless::new();
        timeout(Duration::from_secs(20), run(&mut source, options)).await.expect("the run does not end")
    })
}

fn shell(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).to_vec()
}

#[test]
fn a_run_ends_with_its_command_and_returns_its_exit_code() {
    let outcome = run_endless(Options { command: shell("exit 7"), ..Options::default() }).unwrap();
    assert_eq!(outcome.command, Some(7));
    assert_eq!(outcome.report.closing.unwrap().end, End::Command(7));
    let outcome = run_endless(Options { command: shell("kill -9 $$"), ..Options::default() }).unwrap();
    assert_eq!(outcome.command, Some(137));
}

#[test]
fn a_run_that_ends_first_ends_its_command() {
    let duration = Some(Duration::from_millis(200));
    let begin = Instant::now();
    let options = Options { command: shell("exec sleep 1000"), duration, ..Options::default() };
    let outcome = run_endless(options).unwrap();
    assert_eq!(outcome.command, None);
    assert_eq!(outcome.report.closing.unwrap().end, End::Duration);
    assert!(begin.elapsed() < CHILD_GRACE);
}

#[test]
fn a_command_that_cannot_be_started_is_an_error_with_a_next_step() {
    let command = vec!["/nonexistent/command".to_owned()];
    let err = run_endless(Options { command, ..Options::default() }).err().unwrap();
    let text = crate::hint::explain(&err);
    assert!(text.starts_with("observer: start /nonexistent/command: No such file"), "{text}");
    assert!(text.contains("\ntry: the command after --"), "{text}");
}

#[test]
fn the_dashboard_can_end_a_run() {
    let (snapshots, shown) = watch::channel(Arc::new(Snapshot::default()));
    let (asked, commands) = mpsc::channel(1);
    asked.try_send(Command::Quit).unwrap();
    let outcome =
        run_endless(Options { dashboard: Some(Dashboard { snapshots, commands }), ..Options::default() });
    assert_eq!(outcome.unwrap().report.closing.unwrap().end, End::Quit);
    assert_eq!(shown.borrow().position, crate::snapshot::Position::Ended);
}

/// Takes this number of bytes, then fails.
struct Small(usize, std::io::ErrorKind);

impl std::io::Write for Small {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::Error::from(self.1))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn run_into(error: std::io::ErrorKind) -> anyhow::Result<Outcome> {
    let recorder = Writer::new(Box::new(Small(1_000, error)), &Meta::default()).unwrap();
    // A chunk is 90 passes here, of a millisecond each.
    let command = shell("sleep 0.6; exit 7");
    run_endless(Options { recorder: Some(recorder), command, ..Options::default() })
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_run() {
    let outcome = run_into(std::io::ErrorKind::StorageFull).unwrap();
    assert_eq!(outcome.command, Some(7));
    assert!(outcome.report.is_partial());
    let notices = &outcome.report.notices;
    assert!(notices.iter().any(|n| n.text.starts_with("the recording breaks off")), "{notices:?}");
    assert!(outcome.report.passes > 250, "{}", outcome.report.passes);
}

#[test]
fn a_reader_that_closes_its_pipe_ends_the_run() {
    assert!(run_into(std::io::ErrorKind::BrokenPipe).is_err());
}
