//! Tests of the dashboard: keys in, pictures out, without a terminal; and on a terminal, that it is restored.
//!
//! Pictures are compared with the ones under `tests/snapshots`. `INSTA_UPDATE=always cargo test -p observer --test tui` writes
//! them; review the difference.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not `#[test]` functions for clippy")]

#[allow(dead_code, reason = "the bench has its tests here, since it is none itself")]
#[path = "../benches/dashboard/figures.rs"]
mod figures;
#[allow(dead_code, reason = "benches and pictures need more of a terminal than these tests")]
#[path = "tui/pty.rs"]
mod pty;
#[path = "tui/stage.rs"]
mod stage;
#[path = "tui/terminal.rs"]
mod terminal;

use observer::snapshot::{Command, Position, Snapshot, To};
use observer::tui::keys::{self, Action};
use observer::tui::state::Body;
use observer::tui::tab::Tab;
use observer::tui::{Mode, Theme, help};
use observer_engine::setup::Grade;

use stage::{Stage, live, recorded};

const SIZES: [(u16, u16); 3] = [(80, 24), (200, 50), (20, 5)];

/// Draws one scene at every size into one file.
fn scene(name: &str, stage: impl Fn((u16, u16)) -> Stage, keys: &str) {
    let mut text = String::new();
    for size in SIZES {
        let mut stage = stage(size);
        stage.press(keys);
        text.push_str(&format!("--- {}x{}\n{}", size.0, size.1, stage.picture()));
    }
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(format!("tui-{name}"), text);
    });
}

/// A run without any event so far.
fn empty() -> Snapshot {
    live("share-unmap", 0.0)
}

/// More rows than any screen and than a snapshot can hold.
fn thousands() -> Snapshot {
    let mut s = recorded("walkers-6.1");
    let (findings, edges, tables) = (s.findings.clone(), s.edges.clone(), s.tables.clone());
    s.findings = (0..1000).map(|i| findings[i % findings.len()].clone()).collect();
    for (i, f) in s.findings.iter_mut().enumerate() {
        f.id = format!("{}-{i}", f.id);
        f.count = i as u64;
    }
    s.findings.sort_by(|a, b| (a.rank, &a.id).cmp(&(b.rank, &b.id)));
    s.findings_total = 4711;
    s.edges = (0..1000).map(|i| edges[i % edges.len()].clone()).collect();
    s.tables = (0..1000).map(|i| tables[i % tables.len()].clone()).collect();
    for (i, t) in s.tables.iter_mut().enumerate() {
        t.generation = i as u32 + 1;
    }
    s.tables_total = 2048;
    s
}

/// A run with one row in every list.
fn one_row() -> Snapshot {
    let mut s = live("walkers-5.10", 0.9);
    s.findings.truncate(1);
    s.edges.truncate(1);
    s.mappings.truncate(1);
    s.tables.truncate(1);
    s.leases.truncate(1);
    s.coverage.truncate(1);
    s.tail.truncate(1);
    s.protection.lookups.truncate(1);
    s.protection.unlinks.clear();
    s.protection.pairs.clear();
    (s.findings_total, s.edges_total, s.tables_total) = (s.findings.len(), s.edges.len(), s.tables.len());
    s
}

fn lossy() -> Snapshot {
    Snapshot { loss: vec![("ring-full", 120_340), ("no-task-slot", 12)], ..recorded("walkers-6.1") }
}

fn blind() -> Snapshot {
    let mut s = live("share-unmap", 0.0);
    for c in &mut s.coverage {
        (c.grade, c.reason) = (Grade::Blind, "nothing could be attached".to_owned());
    }
    s
}

#[test]
fn scenes_of_recordings() {
    let of = |name: &'static str| move |size| Stage::over(name, size);
    scene("overview", of("walkers-5.10"), "");
    scene("windows", of("walkers-5.10"), "2");
    scene("window", of("walkers-5.10"), "2<Enter>");
    scene("window-lease", of("walkers-5.10"), "2<Enter><Enter>");
    scene("window-table", of("walkers-5.10"), "2<Enter>t");
    scene("window-events", of("walkers-5.10"), "2<Enter>e");
    scene("window-event", of("walkers-5.10"), "2<Enter>ej<Enter>");
    scene("window-stacks", of("walkers-5.10"), "2<Enter>s");
    scene("prediction", of("walkers-6.1"), "2<Enter>");
    scene("tables", of("share-unmap"), "3");
    scene("table", of("share-unmap"), "3j<Enter>");
    scene("locks", of("fault-mutex-folio"), "4");
    scene("matrix", of("fault-mutex-folio"), "4m");
    scene("cycle", of("fault-mutex-folio"), "<Enter>");
    scene("deadlock", of("hang-fault-mutex-6.1"), "<Enter>");
    scene("coverage", of("walkers-5.10"), "6");
    scene("coverage-role", of("walkers-5.10"), "6<Enter>");
    scene("protect", of("walkers-6.1"), "7");
    scene("help", of("walkers-5.10"), "?");
    scene("export", of("walkers-5.10"), "x");
}

#[test]
fn scenes_of_a_replay() {
    let sample = |size| Stage::played("sample", size);
    scene("replay", sample, "@#9,000<Enter>");
    scene("replay-events", sample, "@#9,000<Enter>5<Home>");
    scene("replay-locks", sample, "4");
    scene("replay-not-reported", sample, "2<Enter>/go to<Enter><Enter><Home>");
}

#[test]
fn scenes_of_made_up_runs() {
    let of = |made: fn() -> Snapshot| move |size| Stage::new(made(), size);
    scene("thousands-filtered", of(thousands), "&mincore<Enter>");
    scene("lossy-window", of(lossy), "2<Enter>");
    scene("blind-role", of(blind), "6<Enter>");
}

/// Draws extreme runs in every view and in the matrix.
#[test]
fn every_view_of_made_up_runs() {
    type Made = fn() -> Snapshot;
    let runs: [(&str, Made); 5] = [
        ("empty", empty),
        ("one-row", one_row),
        ("thousands", thousands),
        ("lossy", lossy),
        ("blind", blind),
    ];
    for (name, made) in runs {
        let snapshot = made();
        let mut text = String::new();
        for size in [(80, 24), (200, 50)] {
            for keys in ["1", "2", "3", "4", "4m", "5", "6", "7"] {
                // A long list is shown in its middle.
                let keys = if name == "thousands" { format!("{keys}<PgDn>") } else { keys.to_owned() };
                let mut stage = Stage::new(snapshot.clone(), size);
                let picture = stage.press(&keys).picture();
                text.push_str(&format!("--- {keys} at {}x{}\n{picture}", size.0, size.1));
            }
        }
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
            insta::assert_snapshot!(format!("tui-every-{name}"), text);
        });
    }
}

#[test]
fn no_size_and_no_key_panics() {
    let every = "?jk/x<Backspace><Enter>2<Enter><PgDn><PgUp><End><Home>jj<Enter><Esc><Esc><Tab><End><Enter>fj<Esc>\
                 4mjl<Enter><Esc>56<Enter>j7<Enter>3<Enter>tes>>R<&a<Enter>y[].,{}@5%<Enter>x";
    for snapshot in [empty(), one_row(), recorded("walkers-5.10"), thousands(), lossy(), blind()] {
        for width in [1, 2, 7, 20, 40, 79, 120, 300] {
            for height in [1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 17, 40] {
                let mut stage = Stage::with(snapshot.clone(), (width, height), Theme::FULL);
                let mut rest = every;
                while !rest.is_empty() {
                    let end = if rest.starts_with('<') { rest.find('>').map_or(1, |i| i + 1) } else { 1 };
                    stage.press(&rest[..end]);
                    rest = &rest[end..];
                }
                stage.picture();
            }
        }
    }
}

#[test]
fn loss_and_blindness_are_on_every_screen() {
    for size in SIZES {
        for tab in 1..=Tab::ALL.len() {
            for open in ["", "<Enter>"] {
                let mut stage = Stage::new(lossy(), size);
                stage.press(&format!("{tab}{open}"));
                let shown = stage.picture();
                assert!(
                    shown.contains("loss 120,352") || shown.contains("loss 120k"),
                    "{tab} {size:?}\n{shown}"
                );
                let mut stage = Stage::new(blind(), size);
                stage.press(&format!("{tab}{open}"));
                assert!(stage.picture().contains("blind"), "tab {tab} at {size:?}");
            }
        }
    }
}

#[test]
fn the_help_lists_exactly_the_existing_keys() {
    for mode in [Mode::Live, Mode::Replay] {
        let help: Vec<String> =
            help::lines(mode, 300, Theme::PLAIN.glyphs()).iter().map(|l| l.plain()).collect();
        for b in &keys::BINDINGS {
            let names: Vec<String> = b.keys.iter().map(|k| k.name()).collect();
            let there = help.iter().any(|l| l.contains(&names.join(" ")) && l.contains(b.help));
            let meant = keys::bindings(mode).any(|other| std::ptr::eq(other, b));
            assert!(!meant || there, "{names:?} in {mode:?}");
        }
    }
    for tab in Tab::ALL {
        assert!(keys::BINDINGS.iter().any(|b| b.action == Action::Show(tab)), "{tab:?}");
    }
}

/// Opens the lease, table, events and stacks of a finding, and goes all the way back.
#[test]
fn links_of_a_finding_lead_forward_and_back() {
    let mut stage = Stage::over("walkers-5.10", (120, 40));
    let shown = |stage: &mut Stage, keys: &str, text: &str| {
        let picture = stage.press(keys).picture();
        assert!(picture.contains(text), "{keys:?}: no {text:?} in\n{picture}");
    };
    shown(&mut stage, "2<Enter>", "Windows > finding");
    shown(&mut stage, "<Enter>", "Windows > finding > lease");
    shown(&mut stage, "t", "lease > table 0x");
    shown(&mut stage, "e", "> events of table 0x");
    shown(&mut stage, "<Enter>", "> event ");
    shown(&mut stage, "<Esc><Esc><Esc><Esc>", "Windows > finding  ");
    shown(&mut stage, "s", "follow_hugetlb_page+0x");
    shown(&mut stage, "<Esc>e", "looked up");
    shown(&mut stage, "& kind=unshare<Enter>", "unshared");
    shown(&mut stage, "<Esc><Esc>", "WHAT");
}

#[test]
fn a_selection_follows_its_row() {
    let mut stage = Stage::new(thousands(), (80, 24));
    stage.press("2jjj");
    let before = stage.state.shown_list().row();
    let mut next = thousands();
    let mut new = next.findings[0].clone();
    new.id = "new".into();
    next.findings.insert(0, new);
    stage.show(next);
    assert_eq!(stage.state.shown_list().row(), before.map(|i| i + 1));
    stage.press("<Home>");
    stage.show(thousands());
    assert_eq!(stage.state.shown_list().row(), Some(0), "the first place is where the worst is");
}

#[test]
fn frozen_rows_stay_while_the_header_updates() {
    let mut stage = Stage::new(live("walkers-5.10", 0.3), (80, 24));
    let rows = stage.state.shown_list().visible.len();
    stage.press("f");
    stage.show(Snapshot { loss: vec![("ring-full", 999)], ..live("walkers-5.10", 1.0) });
    let shown = stage.picture();
    assert!(shown.contains("FROZEN at") && shown.contains("loss 999"), "{shown}");
    assert_eq!(stage.state.shown_list().visible.len(), rows);
    stage.press("f");
    assert!(stage.state.shown_list().visible.len() > rows);
}

#[test]
fn rows_are_searched_filtered_and_sorted() {
    let mut stage = Stage::new(thousands(), (80, 24));
    stage.press("/mincore<Enter>");
    let first = stage.state.shown_list().selected;
    assert!(first > 0);
    stage.press("n");
    assert!(stage.state.shown_list().selected > first);
    stage.press("N");
    assert_eq!(stage.state.shown_list().selected, first);
    stage.press("/zzz<Enter>");
    assert!(stage.picture().contains("no \"zzz\" here"));
    stage.press("<Home>&mincore");
    let some = stage.state.shown_list().visible.len();
    assert!(some > 0 && some < 1000, "{some}");
    stage.press("<Esc>");
    assert_eq!(stage.state.shown_list().visible.len(), 1000);
    stage.press(">>>R");
    let shown = stage.picture();
    assert!(shown.contains("COUNTv"), "{shown}");
    let first = stage.state.shown_list().visible[0];
    assert_eq!(stage.state.snapshot().findings[first].count, 999);
}

#[test]
fn a_cancelled_filter_restores_the_filter_of_its_list() {
    let mut stage = Stage::new(thousands(), (80, 24));
    stage.press("&mincore<Enter>2&zzz<Esc>");
    assert_eq!(stage.state.shown_list().filter, "");
    stage.press("1");
    assert_eq!(stage.state.shown_list().filter, "mincore");
    stage.press("&xx<Esc>");
    assert_eq!(stage.state.shown_list().filter, "mincore");
}

#[test]
fn a_search_begins_on_each_page() {
    let mut stage = Stage::over("walkers-5.10", (80, 24));
    stage.press("2<Enter>/holding ptl<Enter>");
    assert!(stage.state.top().unwrap().found.unwrap() > 20);
    stage.press("e");
    assert_eq!(stage.state.top().unwrap().found, None, "another page");
}

#[test]
fn keys_move_in_a_recording() {
    let mut stage = Stage::over("walkers-5.10", (80, 24));
    stage.press(" ");
    assert_eq!(stage.sent, [Command::Pause(false)]);
    stage.sent.clear();
    stage.press(",");
    assert_eq!(stage.sent, [Command::Pause(true), Command::Seek(To::Steps(-1))]);
    stage.sent.clear();
    stage.press("@#1,200<Enter>@end<Enter>");
    assert_eq!(stage.sent, [Command::Seek(To::Event(1200)), Command::Seek(To::End)]);
    stage.sent.clear();
    stage.press("[");
    let Position::Replay(r) = stage.state.snapshot().position.clone() else { panic!("no replay") };
    let last =
        r.marks.iter().rev().find(|m| m.reported_ns < stage.state.snapshot().now_ns).unwrap().reported_ns;
    assert_eq!(stage.sent, [Command::Seek(To::Time(last))]);
    stage.sent.clear();
    stage.press("*-");
    assert_eq!(stage.sent, [Command::Speed(None), Command::Speed(Some(1024.0))]);
    let mut kernel = Stage::new(live("walkers-5.10", 0.5), (80, 24));
    kernel.press(".,[]{}@+-*");
    assert_eq!(kernel.sent, []);
}

#[test]
fn a_step_shows_the_event_it_took() {
    let mut stage = Stage::played("sample", (80, 24));
    for (keys, event) in [("@#500<Enter>", "#500 +"), (".", "#501 +"), (",,", "#499 +")] {
        let shown = stage.press(keys).picture();
        assert!(shown.contains(event), "{keys}: no {event} in\n{shown}");
        let (_, after) = shown.split_once(event).unwrap();
        let time = format!(" +{} s", after.split_once(' ').unwrap().0);
        assert!(shown.lines().next().unwrap().ends_with(&time), "{time} is the clock\n{shown}");
        assert!(shown.lines().any(|l| l.starts_with(&time) && l.contains("PAUSED")), "{time}\n{shown}");
    }
    // The step shows its event, whether or not it passes the filter of the list, and while a page is open.
    let shown = stage.press("5&kind=unshare<Enter>1<Enter>.").picture();
    assert!(
        shown.contains("#500 +") && shown.contains("> finding") == stage.state.top().is_some(),
        "{shown}"
    );
    let shown = stage.press(" ").picture();
    assert!(!shown.contains("PAUSED"), "{shown}");
}

/// The way to a position and the speed do not change its picture.
#[test]
fn a_position_is_shown_the_same_by_every_way_to_it() {
    for size in [(80, 24), (160, 50)] {
        let at = |keys| {
            let mut stage = Stage::played("sample", size);
            stage.press(keys).picture()
        };
        let direct = at("@#9000<Enter>");
        assert_eq!(direct, at("@#100<Enter>@50%<Enter>.@#9000<Enter>"));
        assert!(
            direct.contains("AVG/s") && !direct.contains("NOW/s") && !direct.contains("PEAK"),
            "{direct}"
        );
    }
    assert!(Stage::new(live("walkers-5.10", 0.5), (80, 24)).picture().contains("PEAK/s"));
}

/// Each mark is at the moment at which its finding is listed; the header counts other findings.
#[test]
fn keys_move_between_marks() {
    let mut stage = Stage::played("sample", (110, 30));
    let Position::Replay(end) = stage.state.snapshot().position.clone() else { panic!("no replay") };
    stage.press("@#0<Enter>");
    for (i, mark) in end.marks.iter().enumerate() {
        let shown = stage.press("]").picture();
        assert!(shown.contains(&format!("mark {} of {}: ", i + 1, end.marks.len())), "{shown}");
        assert!(stage.state.snapshot().findings.iter().any(|f| f.id == mark.id), "{}\n{shown}", mark.id);
    }
    assert!(stage.press("]").picture().contains("no mark after this"));
}

#[test]
fn a_finding_can_be_read_before_it_is_reported() {
    let mut stage = Stage::played("sample", (110, 40));
    let shown = stage.press("2<Enter>").picture();
    assert!(shown.contains("held a pte pointer") && !shown.contains("not reported yet"), "{shown}");
    let shown = stage.press("/go to<Enter><Enter><Home>").picture();
    assert!(shown.contains("this case is reported later than this time of the recording"), "{shown}");
    assert!(shown.contains("held a pte pointer") && shown.contains("HOLDER"), "{shown}");
    let stacks = stage.press("s").picture();
    assert!(stacks.contains("reported later") && stacks.contains("+0x"), "{stacks}");
    let lease = stage.press("<Esc><Home><Enter>").picture();
    assert!(lease.contains("reported later") && lease.contains("looked up"), "{lease}");
    let early = stage.press("<Esc>@#100<Enter><Home>").picture();
    assert!(early.contains("not reported yet at this time of the recording: first reported at +"), "{early}");
    assert!(early.contains("held a pte pointer") && early.contains("HOLDER"), "{early}");
    let back = stage.press("@end<Enter>").picture();
    assert!(back.contains("held a pte pointer") && !back.contains("not reported yet"), "{back}");
}

/// The page, its picture and its links show the same case.
#[test]
fn a_finding_shows_one_case() {
    let mut stage = Stage::played("sample", (110, 40));
    stage.press("2<Enter>y");
    let observer_engine::finding::Evidence::Window(w) = &stage.state.selected_finding().unwrap().evidence
    else {
        panic!("no window")
    };
    assert!(w.first != w.longest, "vacuous");
    let (longest, start_ns) = (w.longest.holder.time_ns, stage.state.snapshot().meta.start_ns);
    let at = observer::text::moment(longest, start_ns);
    assert!(stage.copied[0].contains(&format!("looked up at {at}")), "{}", stage.copied[0]);
    assert_eq!(stage.copied[0].matches("unlinked at").count(), 1, "{}", stage.copied[0]);
    stage.press("/go to<Enter>");
    stage.sent.clear();
    stage.press("<Enter>");
    assert_eq!(stage.sent, [Command::Seek(To::Time(longest))]);
}

#[test]
fn an_unexcluded_pair_leads_to_its_finding() {
    let mut stage = Stage::over("walkers-6.1", (120, 40));
    let shown = stage.press("7/by nothing<Enter><Enter>").picture();
    assert!(shown.contains("> pair ") && shown.contains("finding   "), "{shown}");
    let shown = stage.press("<Enter>").picture();
    assert!(shown.contains("> finding") && shown.contains("HOLDER"), "{shown}");
    // A lookup without a lock that is in no finding.
    let shown = stage.press("7<Home><Enter>").picture();
    assert!(shown.contains("follow_huge_pmd_pte") && shown.contains("in no finding: "), "{shown}");
}

#[test]
fn blind_roles_are_listed_first_and_without_counts() {
    let shown = Stage::over("walkers-5.10", (160, 24)).press("6").picture();
    let first = shown.lines().find(|l| l.starts_with(">lookup")).unwrap();
    assert!(
        first.contains("blind") && first.contains(" - ") && shown.contains("6 Coverage 3 partly blind"),
        "{shown}"
    );
}

/// A role that is blind, as a whole or in parts, has one name and one count on all screens.
#[test]
fn the_badge_counts_the_roles_that_the_header_names() {
    let mut s = recorded("walkers-5.10");
    let shown = Stage::new(s.clone(), (200, 50)).picture();
    assert!(shown.contains("  partly blind: lookup, unlink, folio-held\n"), "{shown}");
    assert!(shown.contains("6 Coverage 3 partly blind"), "{shown}");
    for c in s.coverage.iter_mut().filter(|c| c.role.name() == "unlink" && c.part.is_empty()) {
        c.grade = Grade::Blind;
    }
    let shown = Stage::new(s.clone(), (200, 50)).picture();
    assert!(shown.contains("  blind: unlink; partly blind: lookup, folio-held\n"), "{shown}");
    assert!(shown.contains("6 Coverage 1 blind, 2 partly"), "{shown}");
    assert!(Stage::new(s.clone(), (40, 5)).picture().contains("loss 0  1 blind, 2 partly"));
    assert!(Stage::new(s, (20, 5)).picture().contains("loss 0 blind 1, 2"));
}

/// The history of a table contains its lookups, and its tasks have names.
#[test]
fn the_page_of_a_table_lists_its_accesses() {
    let shown = Stage::over("walkers-5.10", (200, 50)).press("2<Enter>t").picture();
    let here = shown.lines().position(|l| l.contains("what is looked at from here"));
    let removed = shown.lines().position(|l| l.contains("unlinked by ex-migrate (98)"));
    assert!(here.is_some() && removed.is_some(), "{shown}");
    assert!(shown.contains("16 steps of 47 shares and 47 unshares"), "{shown}");
}

#[test]
fn the_footer_shows_the_most_important_keys() {
    let last = |stage: &Stage| stage.picture().lines().last().unwrap().to_owned();
    let mut stage = Stage::played("sample", (80, 24));
    for keys in ["", "2<Enter>"] {
        stage.press(keys);
        let line = last(&stage);
        for key in ["? ", "Enter ", "Tab ", "/ ", "Space ", "] ", ". ", "@ ", " e", " t", " s"] {
            assert!(line.contains(key), "{keys}: no {key:?} in {line}");
        }
        assert_eq!(line.contains("Esc "), !keys.is_empty(), "{line}");
    }
    let mut stage = Stage::played("sample", (110, 30));
    let line = last(stage.press("4"));
    assert!(line.contains("m matrix") || line.contains("e events") && !line.contains("t table"), "{line}");
}

#[test]
fn a_copied_finding_is_plain_text() {
    let mut stage = Stage::over("walkers-5.10", (80, 24));
    stage.press("2y");
    let text = &stage.copied[0];
    assert!(text.contains("used window: follow_hugetlb_page") && text.contains("UNLINKER"), "{text}");
    assert!(stage.picture().contains("copied"));
}

#[test]
fn a_task_name_cannot_contain_control_characters() {
    let mut snapshot = recorded("walkers-5.10");
    for f in &mut snapshot.findings {
        if let observer_engine::finding::Evidence::Window(w) = &mut f.evidence {
            w.longest.holder.task.comm = "\x1b[2J\x07evil\ntask".into();
        }
    }
    let mut stage = Stage::new(snapshot, (200, 50));
    for keys in ["2", "<Enter>", "y"] {
        let shown = stage.press(keys).picture();
        assert!(!shown.contains(['\x1b', '\x07']), "{shown}");
    }
    assert!(stage.copied[0].contains("evil") && !stage.copied[0].contains(['\x1b', '\x07']));
}

#[test]
fn keys_move_in_the_matrix_and_open_a_cell() {
    let mut stage = Stage::over("fault-mutex-folio", (120, 40));
    stage.press("4m");
    assert_eq!(stage.state.body(), Body::Matrix);
    stage.press("jl");
    assert_eq!(stage.state.cell(), Some((1, 1)));
    stage.press("<Enter><Esc>m");
    assert_eq!(stage.state.body(), Body::List);
}
