//! Tests of the whole way from guest to verdict, with a script in place of the test binary.

use std::os::unix::fs::PermissionsExt as _;

use super::{fixture::JSON, *};

/// A test binary that writes this text and ends with this exit code.
fn script(name: &str, text: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("xtask-matrix-{}-{name}", std::process::id()));
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Needs QEMU and kernels in the cache, so it is not a quick test: `cargo test -p xtask -- --ignored`.
#[test]
#[ignore = "boots guests"]
fn a_report_comes_out_of_the_guest_and_is_judged() {
    let writes = script(
        "writes",
        &format!(
            "echo \"$@ $OBSERVER_GUEST_KERNEL $OBSERVER_MATRIX_SCENARIOS\"\ncat > /out/matrix.json <<'X'\n{JSON}\nX"
        ),
    );
    let writes_none =
        script("none", "echo 'test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out'");
    let kernel = setup::kernel(&kernels::row("6.12").unwrap()).unwrap();
    let tools = setup::guest_tools().unwrap();
    let tests = [writes.clone(), writes_none.clone()];
    let runs = pool::run(2, &tests, |tests| {
        let mut kernel = kernel.clone();
        if *tests == writes_none {
            kernel.name = "none".into();
        }
        let binaries =
            Binaries { observer: writes.clone(), tests: tests.clone(), tools: tools.clone(), tmux: None };
        boot(&binaries, &kernel, &["share".into(), "punch".into()], Some(&kernel.name))
    });
    for path in tests {
        fs::remove_file(path).unwrap();
    }
    let said = "--ignored --test-threads=1 --nocapture --exact matrix_of_this_kernel 6.12 share,punch";
    assert_eq!(runs[0].outcome.console.trim(), said);
    assert_eq!(runs[0].report.as_ref().unwrap(), &fixture::report());
    let verdict = judge::judge(&runs[0], &["share".into()]);
    assert_eq!((verdict.passed, verdict.failures), (2, vec![]));
    assert_eq!(runs[1].report, Err("the guest tests have no matrix_of_this_kernel".into()));
}

#[test]
fn a_guest_that_did_not_run_is_a_failure() {
    let run = Run {
        outcome: Outcome::failed("cannot run QEMU".into()),
        report: Err("the guest did not run".into()),
        ..fixture::run()
    };
    let mut tally = Tally::default();
    print_results(&[run], &[], &Books::default(), &mut tally);
    assert_eq!(
        tally.failures,
        ["6.12: no matrix.json: the guest did not run", "6.12: the guest failed: cannot run QEMU"]
    );
}

#[test]
fn budgets_and_grades_are_judged_with_the_rest() {
    let mut tally = Tally::default();
    print_results(&[fixture::run()], &["share".into()], &Books::default(), &mut tally);
    assert_eq!(tally.passed, 2);
    let of = |what: &str| tally.failures.iter().filter(|failure| failure.contains(what)).count();
    assert_eq!((of("has no budget"), of("docs/coverage.md says nothing of it")), (3, 1));
    assert!(tally.finish().is_err());
}
