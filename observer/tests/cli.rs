//! Tests of the command line over recordings: output and exit codes. They need no root and no kernel.
//!
//! The recordings of `fixtures/` are compared with their expected findings. Recordings that are made by hand show damaged and
//! incomplete files.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not `#[test]` functions for clippy")]

#[path = "cli/dot.rs"]
mod dot;
#[path = "cli/made.rs"]
mod made;
#[path = "cli/order.rs"]
mod order;
#[path = "cli/several.rs"]
mod several;
#[path = "common/shared.rs"]
mod shared;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use observer::{meta::Meta, recording::Writer};

/// A folder of this test, removed when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("observer-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn observer(args: &[&str], file: &Path) -> Output {
    observer_of(args, &[file])
}

fn observer_of(args: &[&str], files: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_observer")).args(args).args(files).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error without the scratch folder's name.
fn stderr(output: &Output, scratch: &Scratch) -> String {
    String::from_utf8(output.stderr.clone()).unwrap().replace(scratch.0.to_str().unwrap(), "DIR")
}

#[test]
fn the_live_report_equals_the_report_of_its_recording() {
    let scratch = Scratch::new("same");
    for run in [made::race(), made::predicted()] {
        same_bytes(&scratch, &run);
    }
}

fn same_bytes(scratch: &Scratch, run: &made::Run) {
    let (live, bytes) = made::recorded(run);
    let file = scratch.file("same.obs", &bytes);
    for (format, live) in [("text", &live.text), ("json", &live.json)] {
        for _ in 0..2 {
            let output = observer(&["report", "--fail-on", "never", "--format", format], &file);
            assert_eq!(&stdout(&output), live);
            assert!(output.status.success());
        }
    }
    // Without a terminal, replay is the report.
    assert_eq!(stdout(&observer(&["replay"], &file)), live.text);
}

#[test]
fn text_of_a_report() {
    let (live, _) = made::recorded(&made::race());
    insta::assert_snapshot!("race.txt", live.text);
    insta::assert_snapshot!("race.json", live.json);
}

#[test]
fn text_of_a_prediction() {
    let (live, _) = made::recorded(&made::predicted());
    assert!(live.text.contains("1. predicted prediction: "), "{}", live.text);
    insta::assert_snapshot!("predicted.txt", live.text);
    insta::assert_snapshot!("predicted.json", live.json);
}

#[test]
fn a_common_lock_in_doubt_is_named() {
    let (live, _) = made::recorded(&made::doubtful());
    for words in [
        "1. incomplete prediction: ",
        "it is not certain that i_mmap_rwsem excludes one from the other",
        "perhaps i_mmap_rwsem",
    ] {
        assert!(live.text.contains(words), "{words}: {}", live.text);
    }
    assert!(!live.text.contains("no lock excludes one from the other"), "{}", live.text);
}

#[test]
fn a_report_without_findings_shows_its_coverage() {
    let (live, _) = made::recorded(&made::quiet());
    insta::assert_snapshot!("quiet.txt", live.text);
    assert!(!live.text.contains("clean"));
}

#[test]
fn loss_is_reported_and_affects_the_findings() {
    let (live, _) = made::recorded(&made::lossy());
    insta::assert_snapshot!("lossy.txt", live.text);
}

#[test]
fn exit_codes_follow_the_requested_rank() {
    let scratch = Scratch::new("codes");
    let race = scratch.file("race.obs", &made::recorded(&made::race()).1);
    let quiet = scratch.file("quiet.obs", &made::recorded(&made::quiet()).1);
    let code = |file: &Path, rank: &str| observer(&["report", "--fail-on", rank], file).status.code();
    assert_eq!(code(&race, "revalidated"), Some(3));
    assert_eq!(code(&race, "held"), Some(3));
    assert_eq!(code(&race, "confirmed"), Some(0));
    assert_eq!(code(&race, "never"), Some(0));
    assert_eq!(code(&race, "bad"), Some(2));
    assert_eq!(code(&quiet, "revalidated"), Some(0));
    assert_eq!(observer(&["report"], &race).status.code(), Some(3));
    assert_eq!(observer(&["report"], &quiet).status.code(), Some(0));
    assert_eq!(observer(&["report"], &scratch.0.join("none.obs")).status.code(), Some(1));
}

#[test]
fn a_truncated_recording_gives_its_whole_part_and_a_notice() {
    let scratch = Scratch::new("cut");
    let (_, bytes) = made::recorded(&made::race());
    let cut = scratch.file("cut.obs", &bytes[..bytes.len() * 3 / 4]);
    let output = observer(&["report", "--fail-on", "never"], &cut);
    assert_eq!(output.status.code(), Some(4));
    assert!(observer(&["report", "--fail-on", "never", "--accept-partial"], &cut).status.success());
    assert_eq!(observer(&["report", "--accept-partial"], &cut).status.code(), Some(3));
    assert_eq!(observer(&["replay"], &cut).status.code(), Some(4));
    assert_eq!(observer(&["export", "--to", "dot", "-o", "-"], &cut).status.code(), Some(4));
    let notice = "recording is truncated after 2.7 s: what came later is not in this output";
    let text = stdout(&output);
    assert!(text.starts_with(&format!("PARTIAL   {notice}\n")), "{text}");
    assert!(text.contains("1. used window: "), "{text}");
    assert_eq!(stderr(&output, &scratch), format!("observer: DIR/cut.obs: {notice}\n"));
    let json = stdout(&observer(&["report", "--fail-on", "never", "--format", "json"], &cut));
    assert!(json.contains(notice), "{json}");
    assert!(json.contains("\"closing\": null"), "{json}");
    assert!(json.contains("\"partial\": true"), "{json}");
}

/// A command that waits for its input, or is busy with it, ends at once all the same.
#[test]
fn a_signal_ends_a_command_that_reads_a_recording() {
    use std::os::unix::process::ExitStatusExt as _;
    for command in [&["report", "-"][..], &["replay", "-"]] {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_observer"))
            .args(command)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        let id = i32::try_from(child.id()).unwrap();
        // SAFETY: the child was not waited for, so the process id is still its own.
        assert_eq!(unsafe { libc::kill(id, libc::SIGTERM) }, 0);
        // The pipe stays open: an end of the input would end it too.
        let input = child.stdin.take();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
        drop(input);
    }
}

#[test]
fn the_report_of_a_damaged_recording_names_the_damage() {
    let scratch = Scratch::new("damaged");
    let (_, mut bytes) = made::recorded(&made::race());
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let output = observer(&["report", "--fail-on", "never"], &scratch.file("damaged.obs", &bytes));
    assert_eq!(output.status.code(), Some(4));
    let text = stdout(&output);
    assert!(text.starts_with("PARTIAL   recording is damaged at byte "), "{text}");
}

#[test]
fn an_unreadable_file_is_refused_with_a_next_step() {
    let scratch = Scratch::new("refused");
    let other = {
        let mut out = mcap::WriteOptions::new()
            .profile("ros2")
            .library("x")
            .create(std::io::Cursor::new(Vec::new()))
            .unwrap();
        out.finish().unwrap();
        out.into_inner().into_inner()
    };
    let later = scratch.0.join("later.obs");
    let meta =
        Meta { wire_version: 999, observer_version: "7.0.0".into(), format_version: 2, ..Meta::default() };
    let file = Box::new(std::fs::File::create(&later).unwrap());
    Writer::new(file, &meta).unwrap().finish(None).unwrap();
    let files = [
        scratch.file("empty.obs", b""),
        scratch.file("foreign.obs", b"\x7fELF and so on, long enough for a header"),
        scratch.file("other.obs", &other),
        later,
        scratch.0.join("none.obs"),
    ];
    let mut text = String::new();
    for file in &files {
        for command in ["report", "replay"] {
            let output = observer(&[command], file);
            assert_eq!(output.status.code(), Some(1));
            assert!(output.stdout.is_empty());
            if command == "report" {
                text.push_str(&stderr(&output, &scratch));
            }
        }
    }
    insta::assert_snapshot!("refused", text);
}

#[test]
fn a_closed_output_pipe_is_not_an_error() {
    let scratch = Scratch::new("pipe");
    let file = scratch.file("race.obs", &made::recorded(&made::race()).1);
    let script =
        format!("'{}' report --fail-on never '{}' | true", env!("CARGO_BIN_EXE_observer"), file.display());
    let output = Command::new("bash").args(["-c", &format!("set -o pipefail; {script}")]).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output, &scratch)), (Some(0), String::new()));
}

#[test]
fn fixtures_give_their_expected_findings() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&fixtures).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "obs")) {
        let expected = std::fs::read_to_string(file.with_extension("expected.json")).unwrap();
        let output = observer(&["report", "--fail-on", "never", "--format", "json"], file);
        assert!(stdout(&output) == expected, "{} differs from its expected findings", file.display());
    }
}
