//! The section on files: the tasks that share and unshare their page tables, how often, and how long it takes.

use std::io::{self, Write};

use observer_engine::view::{MappingView, UnsharerView};

use crate::{
    report::Report,
    sink::words,
    text::{number, plural},
};

/// Maximum number of mappings listed, and of unsharers of each; others are only counted.
const MAPPINGS_MAX: usize = 10;
const UNSHARERS_MAX: usize = 5;

/// Writes the section.
pub fn write(out: &mut dyn Write, r: &Report) -> io::Result<()> {
    if r.mappings.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(out, "MAPPINGS  whose page tables are shared and unshared, most unshares first")?;
    writeln!(
        out,
        "  {:<18} {:>6} {:>7} {:>9} {:>15} {:>9} {:>15}",
        "file's mapping", "tables", "sharers", "shares", "per s, at most", "unshares", "per s, at most"
    )?;
    for m in r.mappings.iter().take(MAPPINGS_MAX) {
        mapping(out, m)?;
    }
    let beyond = r.mappings.len().saturating_sub(MAPPINGS_MAX);
    if beyond > 0 {
        writeln!(out, "  and {} with fewer", number(beyond as u64))?;
    }
    Ok(())
}

fn mapping(out: &mut dyn Write, m: &MappingView) -> io::Result<()> {
    let name = if m.mapping.0 == 0 { "not known".to_owned() } else { m.mapping.to_string() };
    let rates = |n, peak| format!("{}, {}", words::per_second(n, words::seconds(m)), number(peak));
    writeln!(
        out,
        "  {name:<18} {:>6} {:>7} {:>9} {:>15} {:>9} {:>15}",
        m.tables,
        m.sharers,
        number(m.shares),
        rates(m.shares, m.peak_shares_per_s),
        number(m.unshares),
        rates(m.unshares, m.peak_unshares_per_s),
    )?;
    for u in m.by.iter().take(UNSHARERS_MAX) {
        writeln!(out, "    {}", words::unsharer(u))?;
    }
    let beyond = m.by.iter().skip(UNSHARERS_MAX);
    if beyond.len() > 0 {
        let unshares: u64 = beyond.clone().map(|u: &UnsharerView| u.unshares).sum();
        writeln!(out, "    and {} with {}", beyond.len(), plural(unshares, "unshare"))?;
    }
    Ok(())
}
