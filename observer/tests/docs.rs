//! Checks that the documents match the code.
//!
//! `docs/cli.md` is written from the command line's help, and the finding in the README from a fixture: `OBSERVER_BLESS=1 cargo
//! test -p observer --test docs`. Commands and links in all documents are tried. The tests of `sink::json` compare
//! `docs/findings.md` with reports.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not `#[test]` functions for clippy")]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clap::{CommandFactory as _, Parser as _};
use observer::cli::Cli;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

fn help() -> String {
    let mut text = String::from(
        "# Command line\n\nWhat `observer --help` says. Made from `observer/src/cli.rs` by its tests; do not edit.\n\n\
         Exit codes: 0 done, or nothing found; 1 an error; 2 wrong usage; 3 `report`: findings at or above `--fail-on`, \
         `diff`: such findings came, `doctor`: something essential cannot be seen; 4 the report is partial: the recording is damaged \
         or breaks off, or its run could not see everything that verdicts need. A run with a command after `--` exits as the command did.\n",
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

/// The documents that people read, and their text.
fn documents() -> Vec<(String, String)> {
    let mut names: Vec<String> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(String::from).to_vec();
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let entry = entry.unwrap();
        // The folder also contains pictures.
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
    let output = Command::new(env!("CARGO_BIN_EXE_observer"))
        .args(["report", "--fail-on", "never"])
        .arg(&fixture)
        .output()
        .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
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
fn commands_in_documents_are_valid() {
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
fn links_between_documents_have_targets() {
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
