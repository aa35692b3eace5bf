//! The documents say what the code says.
//!
//! `docs/cli.md` is written from the command line's own help, and the finding in the README from a fixture:
//! `OBSERVER_BLESS=1 cargo test -p observer --test docs`. `docs/findings.md` is written by hand and held against reports;
//! commands and links in all documents are tried.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "docs/made.rs"]
mod made;
#[path = "docs/schema.rs"]
mod schema;

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use clap::{CommandFactory as _, Parser as _};
use observer::{cli::Cli, diff::Diff, meta::Level, report::Report, sink::json};
use observer_engine::{
    event::Mode,
    finding::{Kind, Manner, Rank},
    lock_class::LockClass,
    setup::{Grade, Role},
    view::{ApartView, Verdict},
};
use schema::Schema;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

fn wire(report: &Report) -> Value {
    written(|out| json::write(out, report))
}

fn written(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Value {
    let mut bytes = Vec::new();
    write(&mut bytes).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn help() -> String {
    let mut text = String::from(
        "# Command line\n\nWhat `observer --help` says. Made from `observer/src/cli.rs` by its tests; do not edit.\n\n\
         Exit codes: 0 done, or nothing found; 1 an error; 2 wrong usage; 3 `report`: findings at or above `--fail-on`, \
         `diff`: such findings came, `doctor`: something essential cannot be seen. A run with a command after `--` exits as the command did.\n",
    );
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut add = |name: &str, help: String| {
        let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
        let _ = write!(text, "\n## {name}\n\n```text\n{}\n```\n", lines.join("\n").trim());
    };
    add("observer", command.render_long_help().to_string());
    for sub in command.get_subcommands_mut().filter(|s| s.get_name() != "help") {
        add(
            &format!("observer {}", sub.get_name()),
            sub.clone().term_width(100).render_long_help().to_string(),
        );
    }
    text
}

#[test]
fn the_command_line_is_documented() {
    let text = help();
    let path = root().join("docs/cli.md");
    if std::env::var_os("OBSERVER_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "docs/cli.md is out of date; try: OBSERVER_BLESS=1 cargo test -p observer --test docs"
    );
}

#[test]
fn ranks_and_kinds_are_those_of_the_code() {
    let text = document("docs/findings.md");
    let ranks = schema::rows(&text, "Ranks");
    let documented: Vec<(&str, bool)> = ranks.iter().map(|r| (schema::code(&r[0]), r[1] == "yes")).collect();
    let real: Vec<(&str, bool)> = Rank::ALL.into_iter().map(|r| (r.name(), r.is_alarm())).collect();
    assert_eq!(documented, real);
    let kinds = schema::rows(&text, "Kinds");
    let documented: Vec<&str> = kinds.iter().map(|r| schema::code(&r[0])).collect();
    assert_eq!(documented, Kind::ALL.map(Kind::name));
    for row in ranks {
        for kind in row[2].split(", ").filter(|k| !["all", "none yet"].contains(k)) {
            assert!(documented.contains(&kind), "{}: {kind} is no kind", row[0]);
        }
    }
}

/// What keeps two sides apart: any lock, or what is no lock.
fn apart() -> Vec<String> {
    let locks = LockClass::ALL.into_iter().map(ApartView::Lock);
    locks.chain([ApartView::VmaLocked, ApartView::LastUser]).map(|a| a.name().to_owned()).collect()
}

#[test]
fn words_are_those_of_the_code() {
    let schema = Schema::read(&document("docs/findings.md"));
    let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let real = [
        ("level", list(&[Level::Light, Level::Locks, Level::Full].map(Level::name))),
        ("grade", list(&Grade::ALL.map(Grade::name))),
        ("role", list(&Role::ALL.map(Role::name))),
        ("class", list(&LockClass::ALL.map(LockClass::name))),
        ("apart", apart()),
        ("manner", list(&[Manner::Asked, Manner::TryThenBlock, Manner::Tried].map(Manner::name))),
        ("verdict", list(&[Verdict::Agrees, Verdict::Exception, Verdict::Against].map(Verdict::name))),
        ("mode", list(&[Mode::Read, Mode::Write, Mode::Exclusive].map(Mode::name))),
        ("reason", observer_ebpf::loss::REASONS.iter().map(|(name, _)| (*name).to_owned()).collect()),
    ];
    for (name, words) in real {
        assert_eq!(schema.words(name), words, "{name}");
    }
}

#[test]
fn every_key_of_a_report_is_documented_and_every_documented_one_occurs() {
    let mut schema = Schema::read(&document("docs/findings.md"));
    schema.check("report", &wire(&made::everything()));
    let (several, diff) = (made::several(), [made::everything(), made::other()]);
    schema.check("reports", &written(|out| json::several::write(out, &several)));
    let diff = Diff::of(&diff[0], &diff[1]);
    schema.check("diff", &written(|out| json::diff::write(out, &diff, ["a.obs", "b.obs"])));
    assert_eq!(
        schema.unseen(),
        Vec::<String>::new(),
        "documented, and never in a report that has everything"
    );
}

#[test]
fn a_key_that_is_not_documented_is_found() {
    let mut value = wire(&made::everything());
    value["findings"][0]["evidence"]["first"]["holder"]["colour"] = Value::from("red");
    let check = || Schema::read(&document("docs/findings.md")).check("report", &value);
    let said = std::panic::catch_unwind(check).unwrap_err();
    let said = said.downcast_ref::<String>().unwrap();
    assert!(said.contains("holder.colour"), "{said}");
}

#[test]
fn expected_findings_of_fixtures_are_as_documented() {
    for file in fs::read_dir(root().join("fixtures")).unwrap().map(|e| e.unwrap().path()) {
        if file.to_str().unwrap().ends_with(".expected.json") {
            let value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
            Schema::read(&document("docs/findings.md")).check("report", &value);
        }
    }
}

/// The documents that people read, and their text.
fn documents() -> Vec<(String, String)> {
    let mut names: Vec<String> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(String::from).to_vec();
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let entry = entry.unwrap();
        // Beside documents there are their pictures.
        if entry.file_type().unwrap().is_file() {
            names.push(format!("docs/{}", entry.file_name().to_str().unwrap()));
        }
    }
    names.sort();
    let read = |name: String| {
        let text = document(&name);
        (name, text)
    };
    names.into_iter().map(read).collect()
}

#[test]
fn the_finding_in_the_readme_is_a_real_one() {
    let fixture = root().join("fixtures/fault-mutex-folio.obs");
    let told = Command::new(env!("CARGO_BIN_EXE_observer"))
        .args(["report", "--fail-on", "never"])
        .arg(&fixture)
        .output()
        .unwrap();
    let report = String::from_utf8(told.stdout).unwrap();
    let first =
        report.lines().skip_while(|line| !line.starts_with("  1. ")).take_while(|line| !line.is_empty());
    let finding = first.collect::<Vec<_>>().join("\n");
    let readme = document("README.md");
    let (before, rest) = readme.split_once("```text\n").unwrap();
    let (_, after) = rest.split_once("\n```").unwrap();
    let text = format!("{before}```text\n{finding}\n```{after}");
    if std::env::var_os("OBSERVER_BLESS").is_some() {
        fs::write(root().join("README.md"), &text).unwrap();
    }
    assert!(finding.starts_with("  1. feasible cycle: fault_mutex -> folio_lock(file)"), "{finding}");
    assert!(
        document("README.md") == text,
        "README.md shows another finding than {}; try: OBSERVER_BLESS=1 cargo test -p observer --test docs",
        fixture.display()
    );
}

#[test]
fn commands_in_documents_are_understood() {
    let mut tried = 0;
    for (name, text) in documents() {
        let blocks = text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"));
        for line in blocks.flat_map(str::lines) {
            let line = line.split(" #").next().unwrap().split(" > ").next().unwrap().trim();
            let line = line.strip_prefix("sudo ").unwrap_or(line);
            if line.starts_with("observer ") {
                let parsed = Cli::try_parse_from(line.split_whitespace());
                assert!(parsed.is_ok(), "{name}: `{line}`: {}", parsed.unwrap_err());
                tried += 1;
            }
        }
    }
    assert!(tried >= 5, "only {tried} commands found");
}

#[test]
fn links_between_documents_lead_somewhere() {
    for (name, text) in documents() {
        let folder = root().join(&name).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(&name) } else { folder.join(file) };
            assert!(target.exists(), "{name}: no {link}");
            if !heading.is_empty() {
                let has = fs::read_to_string(&target).unwrap().lines().any(|line| {
                    line.starts_with('#')
                        && line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-") == heading
                });
                assert!(has, "{name}: no heading {link}");
            }
        }
    }
}
