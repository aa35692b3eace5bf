//! The doctor's words for people.

use std::io::{self, Write};

use super::{
    exercise::Exercised,
    wire::{Row, Wire},
};

/// Width of the column of roles and parts; longer ones have a line of their own.
const NAME: usize = 16;

pub(super) fn write(wire: &Wire<'_>, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "kernel   {} {}", wire.kernel.release, wire.kernel.machine)?;
    writeln!(out, "level    {}", wire.level.name())?;
    writeln!(out, "keeps    {} of its privileges, once attached", wire.keeps.join(" and "))?;
    if let Some(refusal) = &wire.refused {
        writeln!(out, "refused  {}\n  try: {}", refusal.what, refusal.r#try)?;
        writeln!(out, "\nWhat its types and symbols would allow:")?;
    } else if !wire.attached {
        writeln!(out, "\nBy types and symbols; `doctor --attach` also asks the kernel to attach each:")?;
    }
    writeln!(out, "\n{:<NAME$} {:<9} reason", "role", "coverage")?;
    for row in &wire.roles {
        role(row, out)?;
    }
    let refused: Vec<_> = wire.sites.iter().filter(|s| !s.refused.is_empty()).collect();
    if !refused.is_empty() {
        writeln!(out, "\nrefused by the kernel")?;
        for site in refused {
            let instead =
                if site.served { format!("; instead {}", site.attempts.join(", ")) } else { String::new() };
            writeln!(out, "  {:<34} {}{instead}", site.function, site.refused)?;
        }
    }
    if !wire.unused.is_empty() {
        writeln!(out, "\nnot watched: this kernel has no such function, or another than the row says")?;
        for row in &wire.unused {
            let instead = row.instead.as_ref().map(|name| format!("; instead {name}")).unwrap_or_default();
            writeln!(out, "  {:<34} {}{instead}", row.function, row.reason)?;
        }
    }
    if let Some(all) = &wire.exercised {
        exercised(all, out)?;
    }
    let verdict = if wire.essential_covered {
        "every essential role is covered"
    } else if wire.exercised.as_ref().is_some_and(|all| !all.is_as_expected()) {
        "not everything fired that should have: see the lines marked ! above"
    } else {
        "not every essential role is covered: findings would be about what is left"
    };
    writeln!(out, "\n{verdict}")
}

fn role(row: &Row, out: &mut dyn Write) -> io::Result<()> {
    let name = if row.part.is_empty() { row.role.to_owned() } else { format!("  {}", row.part) };
    let line = if name.len() > NAME {
        format!("{name}\n{:<NAME$} {:<9} {}", "", row.grade, row.reason)
    } else {
        format!("{name:<NAME$} {:<9} {}", row.grade, row.reason)
    };
    writeln!(out, "{}", line.trim_end())?;
    if !row.r#try.is_empty() {
        writeln!(out, "{:<NAME$} {:<9} try: {}", "", "", row.r#try)?;
    }
    Ok(())
}

/// Writes one line per scenario: what fired, role by role.
fn exercised(all: &Exercised, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\nexercised: what fired, scenario by scenario")?;
    for scenario in &all.scenarios {
        writeln!(out, "  {:<18} {:<8} {}", scenario.name, scenario.outcome.name(), scenario.text)?;
        if !scenario.fired.is_empty() {
            let counts: Vec<_> = scenario
                .fired
                .iter()
                .filter(|m| m.count > 0)
                .map(|m| format!("{} {}", m.name, m.count))
                .collect();
            writeln!(out, "  {:<18} {}", "", counts.join(", "))?;
        }
        if scenario.skipped > 0 {
            writeln!(
                out,
                "  {:<18} {} hits skipped by the kernel: counts may be that much too low",
                "", scenario.skipped
            )?;
        }
        for problem in &scenario.problems {
            writeln!(out, "! {:<18} {problem}", "")?;
        }
    }
    for problem in &all.problems {
        writeln!(out, "! {problem}")?;
    }
    Ok(())
}
