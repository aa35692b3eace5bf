//! Checks that `docs/findings.md` matches the code: every rank, kind, word and key of a report is documented, and every
//! documented one occurs.

mod made;
mod schema;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use observer_engine::{
    event::Mode,
    finding::{AcquireKind, Kind, Rank},
    lock_class::LockClass,
    setup::{Grade, Role},
    view::{Excluder, Verdict},
};
use serde_json::Value;

use self::schema::Schema;
use crate::{diff::Diff, meta::Level, report::Report, sink::finding::samples};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

fn written_report(report: &Report) -> Value {
    written(|out| super::write(out, report))
}

fn written(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Value {
    let mut bytes = Vec::new();
    write(&mut bytes).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn documented_ranks_and_kinds_match_the_code() {
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

/// Returns everything that can exclude an unlink from a lookup.
fn excluders() -> Vec<String> {
    let locks = LockClass::ALL.into_iter().map(Excluder::Lock);
    locks.chain([Excluder::VmaLocked, Excluder::LastUser]).map(|a| a.name().to_owned()).collect()
}

#[test]
fn documented_values_match_the_code() {
    let schema = Schema::read(&document("docs/findings.md"));
    let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let real = [
        ("level", list(&[Level::Light, Level::Locks, Level::Full].map(Level::name))),
        ("grade", list(&Grade::ALL.map(Grade::name))),
        ("role", list(&Role::ALL.map(Role::name))),
        ("class", list(&LockClass::ALL.map(LockClass::name))),
        ("excluder", excluders()),
        (
            "acquire",
            list(
                &[AcquireKind::Blocking, AcquireKind::TryThenBlock, AcquireKind::Try].map(AcquireKind::name),
            ),
        ),
        ("verdict", list(&[Verdict::Agrees, Verdict::Exception, Verdict::Against].map(Verdict::name))),
        ("mode", list(&[Mode::Read, Mode::Write, Mode::Exclusive].map(Mode::name))),
        ("reason", observer_ebpf::loss::REASONS.iter().map(|(name, _)| (*name).to_owned()).collect()),
    ];
    for (name, words) in real {
        assert_eq!(schema.words(name), words, "{name}");
    }
}

#[test]
fn every_key_is_documented_and_every_documented_key_occurs() {
    let mut schema = Schema::read(&document("docs/findings.md"));
    schema.check("report", &written_report(&made::everything()));
    let (several, diff) = (made::several(), [made::everything(), made::other()]);
    schema.check("reports", &written(|out| super::several::write(out, &several)));
    let diff = Diff::of(&diff[0], &diff[1]);
    schema.check("diff", &written(|out| super::diff::write(out, &diff, ["a.obs", "b.obs"])));
    assert_eq!(
        schema.unseen(),
        Vec::<String>::new(),
        "documented, and never in a report that has everything"
    );
}

#[test]
fn an_undocumented_key_is_found() {
    let mut value = written_report(&made::everything());
    value["findings"][0]["evidence"]["first"]["holder"]["colour"] = Value::from("red");
    let check = || Schema::read(&document("docs/findings.md")).check("report", &value);
    let said = std::panic::catch_unwind(check).unwrap_err();
    let said = said.downcast_ref::<String>().unwrap();
    assert!(said.contains("holder.colour"), "{said}");
}

#[test]
fn expected_findings_of_fixtures_follow_the_schema() {
    for file in fs::read_dir(root().join("fixtures")).unwrap().map(|e| e.unwrap().path()) {
        if file.to_str().unwrap().ends_with(".expected.json") {
            let value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
            Schema::read(&document("docs/findings.md")).check("report", &value);
        }
    }
}

#[test]
fn every_kind_has_a_sample() {
    let mut kinds: Vec<Kind> = samples().iter().map(|evidence| evidence.subject().kind()).collect();
    kinds.dedup();
    assert_eq!(kinds, Kind::ALL);
}
