//! An independent witness of page-table sharing: tracefs kprobe and kretprobe events, counted by hist triggers.
//!
//! It shares no code with observer. Lookups: entries of the two lookup functions. Shares: entries of `huge_pmd_share`
//! less the tables that were made inside it (`__pmd_alloc` called from there). Unshares: returns of 1 from the body.
//! None is the same kind of probe on the same symbol as the role it checks: those are fentry and fexit, and for unshare
//! the comparison of upper-level entries.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};

const TRACEFS: &str = "/sys/kernel/tracing";
const GROUP: &str = "observer_witness";

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub lookups: u64,
    pub shares: u64,
    pub unshares: u64,
}

/// Probes that count until dropped.
pub struct Witness {
    /// Addresses of `huge_pmd_share`, exclusive at the end.
    share: (u64, u64),
}

fn path(rest: &str) -> PathBuf {
    PathBuf::from(TRACEFS).join(rest)
}

fn append(file: &str, line: &str) -> Result<()> {
    use std::io::Write as _;
    let at = path(file);
    let mut f =
        fs::OpenOptions::new().append(true).open(&at).with_context(|| format!("open {}", at.display()))?;
    f.write_all(format!("{line}\n").as_bytes()).with_context(|| format!("write '{line}' to {}", at.display()))
}

/// Name of the body of unshare: the compiler chose its suffix.
fn body(symbols: &str) -> Result<&str> {
    let names = || symbols.lines().filter_map(|l| l.split_ascii_whitespace().nth(2));
    names()
        .find(|n| n.starts_with("__huge_pmd_unshare."))
        .or_else(|| names().find(|n| *n == "huge_pmd_unshare"))
        .context("no body of unshare in the symbol table")
}

/// First address of a function, and of the symbol after it.
fn range(symbols: &str, name: &str) -> Result<(u64, u64)> {
    let mut at: Vec<(u64, &str)> = symbols
        .lines()
        .filter_map(|l| {
            let mut p = l.split_ascii_whitespace();
            let (address, _, name) = (p.next()?, p.next()?, p.next()?);
            Some((u64::from_str_radix(address, 16).ok()?, name))
        })
        .collect();
    at.sort_unstable();
    let i = at.iter().position(|(_, n)| *n == name).with_context(|| format!("no symbol {name}"))?;
    let from = at[i].0;
    let to = at[i..].iter().map(|(a, _)| *a).find(|a| *a > from).context("no symbol behind")?;
    Ok((from, to))
}

impl Witness {
    /// Sets the probes up and starts counting.
    pub fn start() -> Result<Witness> {
        let symbols = fs::read_to_string("/proc/kallsyms")?;
        let events = [
            ("alloc", "p", "huge_pte_alloc", "", "hist:keys=__probe_ip"),
            ("offset", "p", "huge_pte_offset", "", "hist:keys=__probe_ip"),
            ("share", "p", "huge_pmd_share", "", "hist:keys=__probe_ip"),
            ("table", "p", "__pmd_alloc", " caller=$stack0:x64", "hist:keys=caller.hex:size=4096"),
            ("unshare", "r", body(&symbols)?, " ret=$retval:u32", "hist:keys=ret if ret==1"),
        ];
        for (name, kind, symbol, args, trigger) in events {
            append("kprobe_events", &format!("{kind}:{GROUP}/{name} {symbol}{args}"))?;
            append(&format!("events/{GROUP}/{name}/trigger"), trigger)?;
        }
        Ok(Witness { share: range(&symbols, "huge_pmd_share")? })
    }

    /// Hit counts of an event's histogram by key, as text.
    fn histogram(name: &str) -> Result<Vec<(String, u64)>> {
        let text = fs::read_to_string(path(&format!("events/{GROUP}/{name}/hist")))?;
        ensure!(text.contains("Dropped: 0"), "histogram of {name} dropped entries:\n{text}");
        let lines = text.lines().filter(|l| l.starts_with('{'));
        lines
            .map(|l| {
                let (key, rest) = l.split_once('}').context("no key")?;
                let hits = rest.split_once("hitcount:").context("no hitcount")?.1;
                let key = key.split_once(':').context("no key")?.1.trim().to_owned();
                Ok((key, hits.trim().parse()?))
            })
            .collect()
    }

    /// The counts so far, and the misses of each probe, which are printed and must be 0.
    pub fn counts(&self) -> Result<Counts> {
        let sum = |name: &str| -> Result<u64> { Ok(Self::histogram(name)?.iter().map(|(_, n)| n).sum()) };
        let inside: u64 = Self::histogram("table")?
            .iter()
            .filter_map(|(key, n)| {
                let caller = u64::from_str_radix(key.trim_start_matches("0x"), 16).ok()?;
                (caller >= self.share.0 && caller < self.share.1).then_some(n)
            })
            .sum();
        let profile = fs::read_to_string(path("kprobe_profile"))?;
        println!("witness probes (name, hits, misses):");
        for line in profile.lines() {
            println!("  {}", line.trim());
            ensure!(line.split_ascii_whitespace().last() == Some("0"), "the witness itself missed: {line}");
        }
        Ok(Counts {
            lookups: sum("alloc")? + sum("offset")?,
            shares: sum("share")? - inside,
            unshares: sum("unshare")?,
        })
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        for name in ["alloc", "offset", "share", "table", "unshare"] {
            let trigger =
                fs::read_to_string(path(&format!("events/{GROUP}/{name}/trigger"))).unwrap_or_default();
            for line in trigger.lines().filter(|l| l.starts_with("hist:")) {
                let spec = line.split(" [").next().unwrap_or(line);
                let _ = append(&format!("events/{GROUP}/{name}/trigger"), &format!("!{spec}"));
            }
            let _ = append("kprobe_events", &format!("-:{GROUP}/{name}"));
        }
    }
}
