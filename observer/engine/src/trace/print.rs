//! Writes an event as a line of a text trace.
//!
//! Field names are those of the wire's table, so a new field of a kind needs no change here.

use std::fmt::Write as _;

use observer_ebpf::{class, how, kinds, mode};

use crate::{
    event::{Event, SiteId},
    setup::Setup,
};

/// Site number that means "none" on the wire.
const NO_SITE: u16 = 0xffff;

/// Returns the event as a trace line. A site is written as its function if the setup has exactly one site of that
/// function.
#[must_use]
pub fn line(event: &Event, setup: &Setup) -> String {
    let mut out = format!("{} cpu{} t{}", event.time_ns, event.cpu, event.tid.0);
    if event.site.0 != NO_SITE {
        let _ = write!(out, " site={}", site(event.site, setup));
    }
    if event.seq != 0 {
        let _ = write!(out, " seq={}", event.seq);
    }
    let Some(kind) = kinds::by_number(event.body.kind()) else { return out };
    let (arg, words) = event.body.wire();
    let _ = write!(out, " {}", kind.name);
    let mut fields = kind.words.iter().zip(words).peekable();
    match kind.arg.name {
        "class_mode" => {
            let _ = write!(out, " {}", class::NAMES[(arg & 0xff) as usize % class::NAMES.len()]);
            if arg >> 8 & 0xff != 0 {
                let _ = write!(out, " {}", mode::NAMES[(arg >> 8 & 0xff) as usize % mode::NAMES.len()]);
            }
            if arg >> 31 == 1 {
                out.push_str(" failed");
            }
        }
        "how" => {
            let _ = write!(out, " how={}", how::NAMES[arg as usize % how::NAMES.len()]);
        }
        name if arg != 0 => {
            let _ = write!(out, " {name}={arg}");
        }
        _ => {}
    }
    if kind.number == kinds::TASK {
        let (lo, hi) = (words[0].to_le_bytes(), words[1].to_le_bytes());
        comm(&mut out, &[lo, hi].concat());
        fields.next();
        fields.next();
    }
    for (field, word) in fields.filter(|(_, word)| *word != 0) {
        let decimal = field.name.ends_with("_ns") || field.name.ends_with("tgid") || word < 10;
        let _ = if kind.number == kinds::STACK {
            write!(out, " {}={}", field.name, site(SiteId(word as u16), setup))
        } else if decimal || field.name == "index" {
            write!(out, " {}={word}", field.name)
        } else {
            write!(out, " {}={word:#x}", field.name)
        };
    }
    out
}

fn site(id: SiteId, setup: &Setup) -> String {
    let name = setup.sites.iter().find(|s| s.id == id).map(|s| s.function.as_str());
    match name {
        Some(name) if setup.sites.iter().filter(|s| s.function == name).count() == 1 => name.to_owned(),
        _ => id.0.to_string(),
    }
}

/// Bytes that would break the line are written as %XX.
fn comm(out: &mut String, bytes: &[u8]) {
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    if end == 0 {
        return;
    }
    out.push_str(" comm=");
    for b in &bytes[..end] {
        let _ = match b {
            b'!' | b'"' | b'$' | b'&'..=b'~' => write!(out, "{}", char::from(*b)),
            _ => write!(out, "%{b:02x}"),
        };
    }
}
