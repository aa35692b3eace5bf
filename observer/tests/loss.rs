//! Tests of loss, on every recording of `fixtures/`: it invents no finding, and the report always shows it.
//!
//! Records are removed from a recording as a full ring loses them: their sequence numbers remain used, and the CPU's counter
//! has the number of lost records in the same pass. Pipeline, text and JSON are those of a run.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not `#[test]` functions for clippy")]

#[path = "common/fixtures.rs"]
mod fixtures;
#[path = "../engine/tests/common/lossy.rs"]
mod lossy;
#[path = "common/random.rs"]
mod random;
#[path = "loss/recording.rs"]
mod recording;
#[path = "loss/retention.rs"]
mod retention;
#[path = "common/shared.rs"]
mod shared;
#[path = "common/written.rs"]
mod written;

use observer::meta::Notice;
use observer_engine::finding::{Finding, Kind, Rank};

use self::{
    random::Random,
    recording::{Outputs, Recording, recordings},
};

/// Number of seeds for each share of lost records; `OBSERVER_LOSS_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("OBSERVER_LOSS_SEEDS").map_or(6, |seeds| seeds.parse().unwrap())
}

/// The subject of a finding, without its rank.
fn subject(finding: &Finding) -> &str {
    if finding.kind() == Kind::Cycle {
        // The record of the operation may be lost.
        let classes = finding.id.match_indices(':').nth(1).map_or(finding.id.len(), |(at, _)| at);
        return &finding.id[..classes];
    }
    let rank = format!(":{}", finding.rank.name());
    finding.id.strip_suffix(&rank).unwrap_or(&finding.id)
}

/// Faults of a lossy report, compared with that of the whole recording; one line each.
fn faults(whole: &Outputs, lossy: &Outputs) -> Vec<String> {
    let mut faults = Vec::new();
    // A reported window hides its prediction: if loss removes the window, the prediction shows.
    let hides = |w: &Finding, f: &Finding| {
        let pair = subject(w).strip_prefix("window:");
        pair.is_some() && pair == subject(f).strip_prefix("prediction:")
    };
    let same = |w: &Finding, f: &Finding| subject(w) == subject(f) && w.rank <= f.rank;
    let known = |f: &Finding| whole.report.findings.iter().any(|w| same(w, f) || hides(w, f));
    for finding in lossy.report.findings.iter().filter(|f| f.rank < Rank::Incomplete && !known(f)) {
        faults.push(format!("invented: {} {}", finding.rank.name(), finding.id));
    }
    let says_nothing =
        lossy.text.contains("lost      nothing\n") || lossy.text.contains("LOSS  nothing was lost");
    if lossy.lost > 0 && says_nothing {
        faults.push("the text says that nothing was lost".into());
    }
    let notice = |n: &Notice| {
        let line = if n.is_partial { format!("PARTIAL   {n}\n") } else { format!("\nnotice    {n}\n") };
        lossy.text.contains(&line)
    };
    if !lossy.report.notices.iter().all(notice) || (lossy.lost == 0 && lossy.report.notices.is_empty()) {
        faults.push("the text does not say that the end is missing".into());
    }
    let in_part = "\nFINDINGS  none in the part that was seen, within this coverage\n";
    let none = lossy.text.contains("\nFINDINGS  none within this coverage\n") || lossy.text.contains(in_part);
    if none != lossy.report.findings.is_empty() {
        faults.push("the text says none, and there are some, or the other way round".into());
    }
    if none
        && !lossy.text.contains("          and within what was lost or cut off, see above and at the end\n")
    {
        faults.push("the text says none without the loss beside it".into());
    }
    let json: serde_json::Value = serde_json::from_str(&lossy.json).unwrap();
    let is_reported =
        !json["loss"].as_array().unwrap().is_empty() || !json["notices"].as_array().unwrap().is_empty();
    if !is_reported {
        faults.push("the JSON reports no loss".into());
    }
    faults
}

/// Compares each fixture with its lossy variants.
fn check(ways: impl Fn(&Recording) -> Vec<(String, Outputs)>) {
    let mut wrong = String::new();
    let mut checked = 0;
    for (name, recording) in recordings() {
        let whole = recording.outputs();
        let before = checked;
        assert!(whole.text.contains("lost      nothing\n"), "{name} is no whole recording");
        for (way, lossy) in ways(&recording) {
            checked += 1;
            for fault in faults(&whole, &lossy) {
                wrong.push_str(&format!("{name}, {way}: {fault}\n"));
            }
        }
        assert!(checked > before, "{name} loses nothing in any way");
    }
    assert!(checked > 0, "nothing was checked");
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn scattered_loss_invents_no_finding_and_is_reported() {
    check(|recording| {
        let shares =
            [1, 10, 100].into_iter().flat_map(|permille| (0..seeds()).map(move |seed| (permille, seed)));
        // A short recording may lose no record at one in a thousand.
        let outputs = shares.filter_map(|(permille, seed)| {
            let mut random = Random::new(seed + 1);
            let lossy = recording.without(|_| random.below(1000) < permille);
            assert!(lossy.lost > 0 || permille < 100, "{permille} per mille and seed {seed} lose nothing");
            (lossy.lost > 0).then(|| (format!("{permille} per mille, seed {seed}"), lossy.outputs()))
        });
        outputs.collect()
    });
}

/// A ring that is full for a while loses records like this.
#[test]
fn loss_of_runs_on_a_cpu_invents_no_finding_and_is_reported() {
    check(|recording| {
        let outputs = (0..3 * seeds()).filter_map(|seed| {
            let mut random = Random::new(seed + 100);
            let mut left = [0_u64; 64];
            let lossy = recording.without(|at| {
                let left = &mut left[usize::from(at.cpu) % 64];
                if *left == 0 && random.below(1000) == 0 {
                    *left = 1 + random.below(200);
                }
                *left = left.saturating_sub(1);
                *left > 0
            });
            // A short recording may end before the first run of lost records.
            (lossy.lost > 0).then(|| (format!("runs, seed {seed}"), lossy.outputs()))
        });
        outputs.collect()
    });
}

#[test]
fn loss_of_passes_invents_no_finding_and_is_reported() {
    check(|recording| {
        let outputs = (0..seeds()).map(|seed| {
            let mut random = Random::new(seed + 200);
            let lost: Vec<bool> = (0..recording.passes()).map(|_| random.below(10) == 0).collect();
            let busiest = recording.busiest();
            let lossy = recording.without(|at| lost[at.pass] || at.pass == busiest);
            assert!(lossy.lost > 0, "seed {seed} loses nothing");
            (format!("passes, seed {seed}"), lossy.outputs())
        });
        outputs.collect()
    });
}

/// Loses all records of one kind, for each kind that a report uses.
#[test]
fn loss_of_kinds_invents_no_finding_and_is_reported() {
    check(|recording| {
        let kinds = recording.kinds();
        let outputs = kinds.into_iter().map(|kind| {
            let mut random = Random::new(u64::from(kind));
            let lossy = recording.without(|at| at.kind == kind && random.below(2) == 0);
            (format!("half of kind {kind}"), lossy)
        });
        outputs.filter(|(_, lossy)| lossy.lost > 0).map(|(way, lossy)| (way, lossy.outputs())).collect()
    });
}

/// A killed or crashed observer leaves a file that ends anywhere.
#[test]
fn a_cut_tail_invents_no_finding_and_is_reported() {
    check(|recording| {
        let bytes = recording.bytes();
        let mut random = Random::new(300);
        let mut outputs = Vec::new();
        for _ in 0..2 * seeds() {
            let at = random.below(bytes.len() as u64) as usize;
            // A file that ends before the description of the run is refused; another test covers that.
            if let Some(cut) = Recording::read(&bytes[..at])
                && cut.closing.is_none()
            {
                outputs.push((format!("cut at byte {at} of {}", bytes.len()), cut.outputs()));
            }
        }
        assert!(outputs.len() as u64 >= seeds(), "only {} cuts", outputs.len());
        outputs
    });
}

#[test]
fn the_report_does_not_depend_on_the_batches_of_a_pass() {
    for (name, recording) in recordings() {
        let whole = recording.outputs();
        for (cut, records) in [("a batch for each record", 1), ("three records to a batch", 3)] {
            let outputs = recording.with_batches_of(records).outputs();
            assert!(outputs.json == whole.json, "{name}, {cut}: other JSON");
            assert!(outputs.text == whole.text, "{name}, {cut}: other text");
        }
    }
}

/// Without this test, a filter that drops nothing or a report that never changes would pass.
#[test]
fn total_loss_gives_a_report_of_loss_without_findings() {
    for (name, recording) in recordings() {
        let lossy = recording.without(|_| true).outputs();
        assert!(lossy.report.findings.is_empty(), "{name}");
        assert_eq!(lossy.report.stats.events, 0, "{name}");
        assert_eq!(faults(&recording.outputs(), &lossy), Vec::<String>::new(), "{name}");
    }
}
