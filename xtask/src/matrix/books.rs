//! Records of earlier runs that a new run is compared with: the budget and the document.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    Run,
    budget::Budget,
    coverage::{DOCUMENT, Documented},
    document,
    report::Report,
};
use crate::{host, kernels};

const BUDGET: &str = "xtask/budget.toml";
const DATA: &str = "docs/coverage.json";

#[derive(Default)]
pub struct Books {
    /// Root directory of the workspace.
    root: PathBuf,
    budget: Budget,
    documented: Documented,
}

impl Books {
    pub fn open() -> Result<Books> {
        Books::open_in(host::workspace())
    }

    /// Opens the records; a missing file counts as empty.
    fn open_in(root: &Path) -> Result<Books> {
        let budget = read(root, BUDGET)?.map_or(Ok(Budget::default()), |text| Budget::parse(&text))?;
        let documented =
            read(root, DATA)?.map_or(Ok(Documented::default()), |text| Documented::parse(&text))?;
        Ok(Books { root: root.to_owned(), budget, documented })
    }

    pub fn judge(&self, run: &Run) -> Vec<String> {
        self.budget.judge(run).into_iter().chain(self.documented.judge(run)).collect()
    }

    /// Records the measurements, writes the files, and returns a line that names them.
    pub fn record(&mut self, runs: &[Run]) -> Result<String> {
        let is_whole = |run: &&Run| run.report.as_ref().is_ok_and(Report::is_whole);
        let runs: Vec<&Run> = runs.iter().filter(is_whole).collect();
        if runs.is_empty() {
            return Ok("nothing written: no kernel reported everything".into());
        }
        let rows: Vec<String> =
            kernels::rows()?.into_iter().filter(kernels::Row::has_matrix).map(|row| row.name).collect();
        self.budget.record(&runs);
        self.documented.record(&runs, &rows);
        self.write(BUDGET, &self.budget.to_toml())?;
        if !runs.iter().any(|run| run.kernel.is_row) {
            return Ok(format!("written: {BUDGET}"));
        }
        self.write(DATA, &self.documented.to_json()?)?;
        self.write(DOCUMENT, &document::document(&self.documented))?;
        Ok(format!("written: {BUDGET}, {DATA}, {DOCUMENT}"))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.root.join(name), text).with_context(|| format!("cannot write {name}"))
    }
}

fn read(root: &Path, name: &str) -> Result<Option<String>> {
    match fs::read_to_string(root.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::fixture;

    #[test]
    fn a_recorded_run_is_compared_with_the_next_run() {
        let root = std::env::temp_dir().join(format!("xtask-books-{}", std::process::id()));
        for directory in ["docs", "xtask"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        let mut books = Books::open_in(&root).unwrap();
        assert_eq!(books.judge(&fixture::run()).len(), 4, "three budgets and the document are missing");

        let broken = Run { report: Err("x".into()), ..fixture::run() };
        let mut empty = fixture::run();
        if let Ok(report) = &mut empty.report {
            report.scenarios.clear();
        }
        assert!(books.record(&[broken, empty]).unwrap().starts_with("nothing written"));
        let mut other = fixture::run();
        other.kernel.is_row = false;
        assert_eq!(books.record(&[other]).unwrap(), "written: xtask/budget.toml");
        assert!(!root.join(DATA).exists(), "a kernel of no row is not documented");

        books.record(&[fixture::run()]).unwrap();
        let again = Books::open_in(&root).unwrap();
        assert_eq!(again.judge(&fixture::run()), Vec::<String>::new());
        let text = fs::read_to_string(root.join(DOCUMENT)).unwrap();
        assert!(text.contains("| lookup: gup | blind |"), "{text}");
        fs::remove_dir_all(root).unwrap();
    }
}
