//! Tests of several recordings: merged, compared and exported.

use std::path::{Path, PathBuf};

use super::*;

/// Two recordings of one kernel, each with one order of two locks.
fn both_orders(scratch: &Scratch) -> [PathBuf; 2] {
    [(true, "fault-first.obs"), (false, "rmap-first.obs")]
        .map(|(first, name)| scratch.file(name, &made::recorded(&made::ordered(first)).1))
}

fn paths(files: &[PathBuf; 2]) -> [&Path; 2] {
    [&files[0], &files[1]]
}

fn without_folder(text: &str, scratch: &Scratch) -> String {
    text.replace(scratch.0.to_str().unwrap(), "DIR")
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn two_recordings_without_a_cycle_merge_to_a_cycle() {
    let scratch = Scratch::new("merge");
    let files = both_orders(&scratch);
    let [a, b] = paths(&files);
    for file in [a, b] {
        assert_eq!(observer(&["report", "--fail-on", "revalidated"], file).status.code(), Some(0));
    }
    let output = observer_of(&["report", "--fail-on", "class-only"], &[a, b]);
    assert_eq!(output.status.code(), Some(3));
    let text = without_folder(&stdout(&output), &scratch);
    let (_, merged) = text.split_once("== merged: ").unwrap();
    insta::assert_snapshot!("merged", merged);
    assert!(text.starts_with("== DIR/fault-first.obs\nkernel    6.12.0-made"), "{text}");

    let output = observer_of(&["report", "--format", "json"], &[a, b]);
    assert_eq!(output.status.code(), Some(0), "no merged finding is an alarm");
    let value = json(&output);
    assert_eq!(value["reports"].as_array().unwrap().len(), 2);
    let finding = &value["merged"]["findings"][0];
    assert_eq!(finding["id"], "cycle:i_mmap_rwsem>fault_mutex");
    assert_eq!(finding["evidence"]["recordings"], serde_json::json!([1, 0]));
    // For one recording it is the report itself.
    assert_eq!(json(&observer(&["report", "--format", "json"], a))["schema"], "observer-report/5");
}

#[test]
fn a_recording_merged_with_itself_adds_nothing() {
    let scratch = Scratch::new("twice");
    let files = both_orders(&scratch);
    let text = stdout(&observer_of(&["report"], &[&files[0], &files[0]]));
    assert!(text.contains("MERGED  no lock-order cycle that a single recording has not shown"), "{text}");
}

#[test]
fn recordings_of_different_kernels_are_not_merged() {
    let scratch = Scratch::new("builds");
    let ours = scratch.file("ours.obs", &made::recorded(&made::ordered(true)).1);
    let other = scratch.file("other.obs", &made::recorded(&made::ordered(false).on("11ee")).1);
    let output = observer_of(&["report"], &[&ours, &other]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), String::new()));
    insta::assert_snapshot!("builds", stderr(&output, &scratch));
    // They may be compared.
    let output = observer_of(&["diff"], &[&ours, &other]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stdout(&output).contains("kernels   are different ones"), "{}", stdout(&output));
}

#[test]
fn a_diff_fails_only_by_new_findings() {
    let scratch = Scratch::new("diff");
    let quiet = scratch.file("quiet.obs", &made::recorded(&made::quiet()).1);
    let lossy = scratch.file("lossy.obs", &made::recorded(&made::lossy()).1);
    let race = scratch.file("race.obs", &made::recorded(&made::race()).1);
    let code =
        |args: &[&str], files: [&Path; 2]| observer_of(&[&["diff"], args].concat(), &files).status.code();
    assert_eq!(code(&[], [&race, &race]), Some(0));
    assert_eq!(code(&[], [&quiet, &race]), Some(3));
    assert_eq!(code(&[], [&race, &quiet]), Some(0), "what went is no failure");
    assert_eq!(code(&["--fail-on", "confirmed"], [&quiet, &race]), Some(0));
    assert_eq!(code(&["--fail-on", "never"], [&quiet, &race]), Some(0));
    let text = stdout(&observer_of(&["diff"], &[&lossy, &race]));
    insta::assert_snapshot!("diff", without_folder(&text, &scratch));
    let value = json(&observer_of(&["diff", "--format", "json"], &[&quiet, &race]));
    let came = &value["findings"][0];
    let id = "window:smaps_hugetlb_range/unmap_hugepage_range";
    assert_eq!((&came["change"], &came["id"], &came["a"]), (&"new".into(), &id.into(), &().into()));
    assert_eq!(value["worst"], "used");
}

#[test]
fn new_and_removed_edges_are_listed() {
    let scratch = Scratch::new("edges");
    let files = both_orders(&scratch);
    let text = stdout(&observer_of(&["diff"], &paths(&files)));
    let order = text.split_once("LOCK ORDER").unwrap().1;
    insta::assert_snapshot!("diff-edges", order);
}

#[test]
fn a_truncated_recording_is_compared_and_merged_with_a_notice() {
    let scratch = Scratch::new("cut");
    let (_, bytes) = made::recorded(&made::race());
    let whole = scratch.file("whole.obs", &bytes);
    let cut = scratch.file("cut.obs", &bytes[..bytes.len() * 3 / 4]);
    let notice = "recording is truncated after 2.7 s: what came later is not in this output";
    let output = observer_of(&["diff"], &[&cut, &whole]);
    assert_eq!(output.status.code(), Some(4));
    assert!(stdout(&output).contains(&format!("A: {notice}")), "{}", stdout(&output));
    assert_eq!(stderr(&output, &scratch), format!("observer: DIR/cut.obs: {notice}\n"));
    let output = observer_of(&["report", "--fail-on", "never"], &[&cut, &whole]);
    assert!(stdout(&output).contains(notice) && stdout(&output).contains("== merged: "));
    assert_eq!(output.status.code(), Some(4));
    let output = observer_of(&["report", "--fail-on", "never", "--accept-partial"], &[&cut, &whole]);
    assert!(output.status.success());
}

#[test]
fn a_file_that_is_not_a_recording_is_refused_before_output() {
    let scratch = Scratch::new("bad");
    let good = scratch.file("good.obs", &made::recorded(&made::quiet()).1);
    let foreign = scratch.file("foreign.obs", b"\x7fELF and so on, long enough for a header");
    let missing = scratch.0.join("none.obs");
    for bad in [&foreign, &missing] {
        for command in ["report", "diff"] {
            for files in [[&good, bad], [bad, &good]] {
                let output = observer_of(&[command], &files.map(PathBuf::as_path));
                assert_eq!((output.status.code(), stdout(&output)), (Some(1), String::new()));
                let said = stderr(&output, &scratch);
                assert!(said.contains(bad.file_name().unwrap().to_str().unwrap()), "{said}");
            }
        }
        let output = observer(&["export", "--to", "dot", "-o", "-"], bad);
        assert_eq!((output.status.code(), stdout(&output)), (Some(1), String::new()));
    }
}

#[test]
fn an_export_goes_to_a_new_file_or_to_standard_output() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("export");
    let file = scratch.file("order.obs", &made::recorded(&made::ordered(true)).1);
    let out = scratch.0.join("order.dot");
    let to = ["export", "--to", "dot", "-o", out.to_str().unwrap()];
    assert!(observer(&to, &file).status.success());
    let written = std::fs::read_to_string(&out).unwrap();
    assert_eq!(written, stdout(&observer(&["export", "--to", "dot", "-o", "-"], &file)));
    assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let again = observer(&to, &file);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again, &scratch).ends_with("try: another name, or --force to overwrite it\n"));
    assert!(observer(&[&to[..], &["--force"]].concat(), &file).status.success());
    assert_eq!(observer(&["export", "--to", "xml", "-o", "-"], &file).status.code(), Some(2));
}

#[test]
fn exported_lines_are_the_findings_and_edges_of_the_report() {
    let scratch = Scratch::new("lines");
    let file = scratch.file("race.obs", &made::recorded(&made::race()).1);
    let report = json(&observer(&["report", "--fail-on", "never", "--format", "json"], &file));
    let lines = stdout(&observer(&["export", "--to", "jsonl", "-o", "-"], &file));
    let mut output: Vec<serde_json::Value> =
        lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let take = |value: &mut serde_json::Value| value.as_object_mut().unwrap().remove("line").unwrap();
    let kinds: Vec<serde_json::Value> = output.iter_mut().map(take).collect();
    let expected = ["findings", "edges"].map(|list| report[list].as_array().unwrap().clone());
    let (findings, edges) = (expected[0].len(), expected[1].len());
    assert!(findings > 0 && edges > 0);
    assert_eq!(output, expected.concat());
    assert_eq!(kinds, [vec!["finding"; findings], vec!["edge"; edges]].concat());
}

#[test]
fn every_fixture_exports_a_valid_graph() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    for file in std::fs::read_dir(&fixtures).unwrap().map(|e| e.unwrap().path()) {
        if file.extension().is_none_or(|e| e != "obs") {
            continue;
        }
        let graph = dot::parse(&stdout(&observer(&["export", "--to", "dot", "-o", "-"], &file)));
        let report = json(&observer(&["report", "--fail-on", "never", "--format", "json"], &file));
        let edges = report["edges"].as_array().unwrap();
        assert_eq!(graph.edges.len(), edges.len());
        for (drawn, edge) in graph.edges.iter().zip(edges) {
            assert_eq!([&drawn.from, &drawn.to], [&edge["from"], &edge["to"]].map(|c| c.as_str().unwrap()));
            assert!(graph.nodes.contains(&drawn.from) && graph.nodes.contains(&drawn.to));
            let has = |attribute: &str| drawn.attributes.get(attribute).map(String::as_str);
            assert_eq!(has("style") == Some("dashed"), edge["acquire"] == "try");
            let against = edge["documented"].as_array().unwrap().iter().any(|d| d["verdict"] == "against");
            let red = against && edge["acquire"] != "try" && edge["sure"] == true;
            assert_eq!(has("color") == Some("red"), red);
        }
        let bold = |e: &&dot::Edge| e.attributes.contains_key("penwidth");
        let cycles = report["findings"].as_array().unwrap().iter().filter(|f| f["kind"] == "cycle").count();
        assert_eq!(graph.edges.iter().any(|e| bold(&e)), cycles > 0, "{}", file.display());
    }
}
