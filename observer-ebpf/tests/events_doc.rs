//! Checks that `docs/events.md` matches the code. `OBSERVER_BLESS=1 cargo test -p observer-ebpf` writes the file.

use std::{fmt::Write as _, fs, path::PathBuf};

use observer_ebpf::{HEADER_BYTES, WIRE_VERSION, class, how, kinds, loss, mode};

fn render() -> String {
    let mut s = String::new();
    let _ = writeln!(
        s,
        "# Events\n\n\
         What the eBPF programs send, wire version {WIRE_VERSION}. Made from `observer-ebpf/src` by its tests; do not edit.\n\n\
         A record is a header of {HEADER_BYTES} bytes and one, three or five words of 8 bytes, little endian. The header:\n\n\
         | field | bytes | meaning |\n| --- | --- | --- |\n\
         | `time_ns` | 8 | `CLOCK_MONOTONIC`, nanoseconds |\n\
         | `seq` | 4 | number in the CPU's stream; lost records have one too |\n\
         | `tid` | 4 | thread id of the current task |\n\
         | `kind` | 2 | number in bits 0..14, size class in bits 14..16 (1, 2, 3: one, three, five words) |\n\
         | `site` | 2 | which site sent it: index into the site table of the recording |\n\
         | `arg` | 4 | see the kind |\n\n\
         ## Kinds\n\n\
         The names of kinds and fields are those of text traces ([text-traces.md](text-traces.md)).\n"
    );
    for kind in kinds::TABLE {
        let _ = writeln!(s, "### {} `{}`\n\n{}\n", kind.number, kind.name, kind.doc.trim());
        if !kind.arg.name.is_empty() {
            let _ = writeln!(s, "- `arg`: `{}`, {}", kind.arg.name, kind.arg.doc);
        }
        for field in kind.words {
            let _ = writeln!(s, "- `{}`: {}", field.name, field.doc);
        }
        s.push('\n');
    }
    let mut list = |title: &str, names: &[&str]| {
        let _ = writeln!(s, "## {title}\n");
        for (n, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let _ = writeln!(s, "- {n} `{name}`");
        }
        s.push('\n');
    };
    list("Lock classes", &class::NAMES);
    list("Lock modes", &mode::NAMES);
    list("How a folio lock is known", &how::NAMES);
    let _ = writeln!(s, "## Reasons of loss\n");
    for (name, doc) in loss::REASONS {
        let _ = writeln!(s, "- `{name}`: {}", doc.trim());
    }
    s
}

#[test]
fn the_document_matches_the_code() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/events.md");
    let text = render();
    if std::env::var_os("OBSERVER_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "docs/events.md is out of date; try: OBSERVER_BLESS=1 cargo test -p observer-ebpf");
}

#[test]
fn kinds_are_sorted_and_sized() {
    assert!(kinds::TABLE.windows(2).all(|w| w[0].number < w[1].number));
    for kind in kinds::TABLE {
        assert_eq!(
            kinds::from_wire(kinds::on_wire(kind.number)),
            (kind.number, kind.words.len()),
            "{}",
            kind.name
        );
        assert!(HEADER_BYTES + 8 * kind.words.len() <= observer_ebpf::RECORD_BYTES_MAX);
    }
}
