//! Text in columns: aligned for a terminal, or as a Markdown table. Also the format of a count in both.

use super::report::{Measure, Outcome, Scenario};

/// Rows of cells; the first row is the heading.
#[derive(Default)]
pub struct Grid(pub Vec<Vec<String>>);

impl Grid {
    /// Formats lines with this indent and two spaces between columns.
    pub fn aligned(&self, indent: &str) -> String {
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            let line = format!("{indent}{}", cells.collect::<Vec<_>>().join("  "));
            format!("{}\n", line.trim_end())
        };
        self.0.iter().map(line).collect()
    }

    pub fn markdown(&self) -> String {
        let mut lines = self.0.iter().map(|row| {
            let cells = row.iter().map(|cell| cell.replace('|', "\\|"));
            format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
        });
        let head = lines.next().unwrap_or_default();
        let columns = self.0.first().map_or(0, Vec::len);
        let rule = format!("|{}\n", " --- |".repeat(columns));
        format!("{head}{rule}{}", lines.collect::<String>())
    }
}

/// Builds a table of scenarios by measure; the last column holds everything else about a scenario.
pub fn scenarios(scenarios: &[Scenario]) -> Grid {
    let mut measures: Vec<&str> = Vec::new();
    for measure in scenarios.iter().flat_map(|scenario| &scenario.measures) {
        if !measures.contains(&measure.name.as_str()) {
            measures.push(&measure.name);
        }
    }
    let head = ["scenario"].into_iter().chain(measures.iter().copied()).chain([""]);
    let mut rows = vec![head.map(str::to_owned).collect::<Vec<String>>()];
    for scenario in scenarios {
        let cell = |name: &&str| match scenario.measures.iter().find(|measure| measure.name == **name) {
            Some(measure) => count(measure),
            None if scenario.outcome == Outcome::Skipped => "-".into(),
            None => String::new(),
        };
        let mut row = vec![scenario.name.clone()];
        row.extend(measures.iter().map(cell));
        row.push(said(scenario));
        rows.push(row);
    }
    Grid(rows)
}

/// Formats a count: `42 =` if both agree, `41/42 ~` if skipped hits explain the difference, `41/42 !` if not; `42` without
/// witness.
pub fn count(measure: &Measure) -> String {
    let Measure { observer, witness, .. } = measure;
    match witness {
        Some(witness) if witness == observer => format!("{witness} ="),
        Some(witness) if !measure.differs() => format!("{observer}/{witness} ~"),
        Some(witness) => format!("{observer}/{witness} !"),
        None => observer.to_string(),
    }
}

fn said(scenario: &Scenario) -> String {
    let word = match scenario.outcome {
        Outcome::Done => "",
        Outcome::Skipped => "skipped",
        Outcome::Failed => "failed",
    };
    // Keep it on one line, even if the text has line breaks.
    let text = scenario.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let parts = [word, &text].into_iter().filter(|part| !part.is_empty());
    let said = parts.collect::<Vec<_>>().join(": ");
    let extra = scenario.extra.iter().map(|extra| format!("{} {}", extra.name, extra.value));
    let said = Some(said).filter(|said| !said.is_empty());
    said.into_iter().chain(extra).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_shows_the_agreement_with_the_witness() {
        let measure =
            |witness, observer| count(&Measure { name: "lookup".into(), witness, observer, skipped: 0 });
        assert_eq!(measure(Some(7), 7), "7 =");
        assert_eq!(measure(Some(0), 0), "0 =");
        assert_eq!(measure(Some(8), 7), "7/8 !");
        assert_eq!(measure(None, 7), "7");
        // Hits that the kernel reports as skipped may be missing; none may be too many.
        let skipped = |witness, observer| {
            count(&Measure { name: "lookup".into(), witness: Some(witness), observer, skipped: 2 })
        };
        assert_eq!(
            [(7, 7), (9, 7), (10, 7), (6, 7)].map(|(w, o)| skipped(w, o)),
            ["7 =", "7/9 ~", "7/10 !", "7/6 !"]
        );
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_blanks_at_their_end() {
        let grid =
            Grid([["a", "é|e", ""], ["long", "", "x"]].map(|row| row.map(str::to_owned).to_vec()).to_vec());
        assert_eq!(grid.aligned("  "), "  a     é|e\n  long       x\n");
        assert_eq!(grid.markdown(), "| a | é\\|e |  |\n| --- | --- | --- |\n| long |  | x |\n");
        assert_eq!(Grid::default().aligned(""), "");
    }
}
