//! `docs/coverage.md`, made from `docs/coverage.json`; equal data give equal bytes.

use std::fmt::Write as _;

use super::{
    coverage::{Documented, Kernel},
    grid::{self, Grid},
    report::Coverage,
    table,
};

const WIDTH: usize = 128;
const HEAD: &str = "\
# Coverage

What observer sees of each stock kernel under test, and whether its counts are the witness's. Made from what guests measured by
`cargo xtask matrix --write`; other grades than these fail `cargo xtask matrix` and `cargo xtask test`. `observer doctor` says
what a kernel of yours has.

**Grades.** *exact*: every occurrence is seen at its moment. *bounded*: every occurrence is seen, its moment only within an
interval. *inferred*: known from other evidence only. *blind*: not seen. Below a role stand its lookup
sites, unlink sites, lock classes and functions; a kernel that has no word of one has no such thing, or sees it as its role.

**The witness** counts the same thing in the same boot by other means that share no code with observer, and on other probes than
observer's. Where it cannot count, observer's number stands alone and is not held against anything.
";

pub fn document(documented: &Documented) -> String {
    let kernels = &documented.0;
    let mut text = HEAD.to_owned();
    write!(text, "\n## Roles\n\n{}", roles_by_kernel(kernels).markdown()).ok();
    write!(text, "\n## Holes\n\n{}", holes(kernels)).ok();
    text.push_str(
        "\n## Scenarios\n\n`42 =`: both counted 42. `41/42 !`: observer 41, the witness 42. `41/42 ~`: the same, and the kernel \
         told observer that it\nskipped as many hits or more, since an earlier run of the program on that CPU was preempted. `42`: \
         the witness cannot count it.\n`-`: skipped. The numbers are of one boot; the next one's differ, for both.\n",
    );
    for kernel in kernels {
        let table = grid::scenarios(&kernel.scenarios).markdown();
        write!(text, "\n### {} ({})\n\n{table}", kernel.name, kernel.kernel).ok();
    }
    text
}

fn all_roles(kernels: &[Kernel]) -> Vec<&str> {
    let mut roles: Vec<&str> = Vec::new();
    for role in kernels.iter().flat_map(|kernel| table::roles(&kernel.coverage)) {
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    roles
}

/// Builds a table with a line for each role and each of its parts.
fn roles_by_kernel(kernels: &[Kernel]) -> Grid {
    let names = kernels.iter().map(|kernel| kernel.name.clone());
    let mut rows = vec![["role".to_owned()].into_iter().chain(names).collect::<Vec<_>>()];
    for (role, part) in roles_and_parts(kernels) {
        let name = if part.is_empty() { role.to_owned() } else { format!("{role}: {part}") };
        let grade = |kernel: &Kernel| {
            let row = kernel.coverage.iter().find(|row| row.role == role && row.part == part);
            row.map_or("", |row| row.grade.name()).to_owned()
        };
        rows.push([name].into_iter().chain(kernels.iter().map(grade)).collect());
    }
    Grid(rows)
}

fn roles_and_parts(kernels: &[Kernel]) -> Vec<(&str, &str)> {
    let mut all: Vec<(&str, &str)> = Vec::new();
    for role in all_roles(kernels) {
        for row in kernels.iter().flat_map(|kernel| &kernel.coverage).filter(|row| row.role == role) {
            if !all.contains(&(role, &row.part)) {
                all.push((role, &row.part));
            }
        }
    }
    all
}

/// Lists each hole with its reason, once for all kernels with the same text.
fn holes(kernels: &[Kernel]) -> String {
    let mut holes: Vec<(&Coverage, Vec<&str>)> = Vec::new();
    for role in all_roles(kernels) {
        for kernel in kernels {
            let of_role = kernel.coverage.iter().filter(|row| row.role == role && !row.reason.is_empty());
            for row in of_role {
                match holes.iter_mut().find(|(known, _)| *known == row) {
                    Some((_, names)) => names.push(&kernel.name),
                    None => holes.push((row, vec![&kernel.name])),
                }
            }
        }
    }
    if holes.is_empty() {
        return "None.\n".into();
    }
    let lines = holes.iter().map(|(row, names)| {
        let part = if row.part.is_empty() { String::new() } else { format!(" ({})", row.part) };
        let advice = if row.advice.is_empty() { String::new() } else { format!(" To do: {}.", row.advice) };
        let (grade, reason) = (row.grade.name(), row.reason.trim_end_matches('.'));
        wrapped(&format!("- **{}**{part} is {grade} on {}: {reason}.{advice}", row.role, names.join(", ")))
    });
    lines.collect()
}

/// Wraps a list entry to the width of the documents.
fn wrapped(entry: &str) -> String {
    let mut lines = vec![String::new()];
    for word in entry.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line + 1 + word.chars().count() > WIDTH {
            lines.push(" ".into());
        }
        if let Some(line) = lines.last_mut() {
            let space = if line.is_empty() { "" } else { " " };
            write!(line, "{space}{word}").ok();
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{host, matrix::fixture};

    fn documented() -> Documented {
        let mut old = fixture::run();
        old.kernel.name = "5.10".into();
        let mut report = fixture::report();
        report.kernel = "5.10.0-32-cloud-amd64".into();
        report.coverage.remove(0);
        report.coverage[2].reason = "another one".into();
        report.scenarios[0].measures[0].observer = 1041;
        old.report = Ok(report);
        let mut documented = Documented::default();
        documented.record(&[&fixture::run(), &old], &["5.10".into(), "6.12".into()]);
        documented
    }

    #[test]
    fn the_document_is_as_drawn() {
        let text = document(&documented());
        assert_eq!(text.strip_prefix(HEAD).unwrap(), include_str!("document.golden"), "\n{text}");
    }

    #[test]
    fn long_entries_are_wrapped() {
        let text = wrapped(&format!("- {}", "word ".repeat(60)));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("  word")), "{text}");
        assert_eq!(wrapped("- a\nb"), "- a b\n");
    }

    /// The document is generated, not edited by hand.
    #[test]
    fn the_document_of_the_project_is_made_from_its_data() {
        let read = |name: &str| std::fs::read_to_string(host::workspace().join(name));
        let (Ok(json), Ok(text)) = (read("docs/coverage.json"), read("docs/coverage.md")) else {
            let either = ["docs/coverage.json", "docs/coverage.md"].map(|name| read(name).is_ok());
            assert_eq!(either, [false; 2], "one without the other");
            return;
        };
        assert!(
            document(&Documented::parse(&json).unwrap()) == text,
            "docs/coverage.md is not what docs/coverage.json says; try: cargo xtask matrix --write"
        );
    }
}
