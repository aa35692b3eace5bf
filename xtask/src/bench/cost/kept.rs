//! `docs/cost.json`: the kept figures, with which a run is compared, and the source of `docs/cost.md`.

use std::{fmt::Write as _, fs, io::ErrorKind};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{document, figures::Figures};
use crate::{host, kernels};

const SCHEMA: &str = "observer-cost/1";
const DATA: &str = "docs/cost.json";
const DOCUMENT: &str = "docs/cost.md";

/// Rise of a figure that fails, as a share of the figure.
const RISE: f64 = 0.05;
/// Noise, which is not a rise: in instructions, and as a share of the bare operation. Two runs of one build differed by 0.12 % of a
/// fork, and two bare measurements of one run by 0.23 % of an mmap.
const NOISE: u64 = 10;
const NOISE_OF_BARE: f64 = 0.005;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept(pub Vec<Figures>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: String,
    kernels: Vec<Figures>,
}

impl Kept {
    /// Reads the kept figures; without the file there are none.
    pub fn open() -> Result<Kept> {
        match fs::read_to_string(host::workspace().join(DATA)) {
            Ok(text) => Kept::parse(&text),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Kept::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {DATA}")),
        }
    }

    pub fn parse(text: &str) -> Result<Kept> {
        let file: File = serde_json::from_str(text).with_context(|| format!("cannot read {DATA}"))?;
        if file.schema != SCHEMA {
            bail!("{DATA} has the schema {:?}, and {SCHEMA:?} is read here", file.schema);
        }
        Ok(Kept(file.kernels))
    }

    /// Formats a line for each operation, so that a change is a small diff.
    pub fn to_json(&self) -> Result<String> {
        fn json(value: &impl Serialize) -> Result<String> {
            Ok(serde_json::to_string(value)?)
        }
        let mut text = format!("{{\"schema\":\"{SCHEMA}\",\"kernels\":[");
        for (index, Figures { name, kernel, operations }) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let operations: Vec<String> = operations.iter().map(json).collect::<Result<_>>()?;
            let operations = operations.join(",\n  ");
            let (name, kernel) = (json(name)?, json(kernel)?);
            write!(
                text,
                "{comma}\n {{\"name\":{name},\"kernel\":{kernel},\"operations\":[\n  {operations}]}}"
            )?;
        }
        text.push_str("\n]}\n");
        Ok(text)
    }

    /// Replaces the figures of this kernel.
    pub fn record(&mut self, figures: Figures) {
        self.0.retain(|kept| kept.name != figures.name);
        self.0.push(figures);
        self.0.sort_by(|a, b| kernels::compare(&a.name, &b.name));
    }

    pub fn write(&self) -> Result<()> {
        for (name, text) in [(DATA, self.to_json()?), (DOCUMENT, document::document(self))] {
            fs::write(host::workspace().join(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        eprintln!("written: {DATA}, {DOCUMENT}");
        Ok(())
    }

    /// Lists the figures that rose, and those that exist on one side only.
    pub fn judge(&self, now: &Figures) -> Vec<String> {
        let name = &now.name;
        let again = format!("keep the new figures by `cargo xtask bench cost --kernel {name} --write`");
        let Some(kept) = self.0.iter().find(|kept| kept.name == *name) else {
            return vec![format!("{DATA} has no figures of {name}; {again}")];
        };
        let (kept, now) = (costs(kept), costs(now));
        let mut failures = Vec::new();
        for (key @ (operation, watcher), before) in &kept {
            match now.iter().find(|(other, _)| other == key) {
                None => failures.push(format!("{name}: {operation}: {watcher} was not measured; {again}")),
                Some((_, now)) if rose(before, now) => {
                    failures.push(format!(
                        "{name}: {operation}: {watcher} adds {} instructions, {} before; {again}",
                        now.added, before.added
                    ));
                }
                Some(_) => {}
            }
        }
        for ((operation, watcher), _) in now.iter().filter(|(key, _)| !kept.iter().any(|(k, _)| k == key)) {
            failures.push(format!("{name}: {operation}: {DATA} has no figure of {watcher}; {again}"));
        }
        failures
    }
}

/// Instructions that a watcher adds to an operation, and those of the operation alone.
struct Cost {
    added: u64,
    bare: u64,
}

fn rose(before: &Cost, now: &Cost) -> bool {
    let rise = now.added.saturating_sub(before.added);
    let at_least = [RISE * before.added as f64, NOISE as f64, NOISE_OF_BARE * before.bare as f64];
    at_least.iter().all(|least| rise as f64 > *least)
}

/// Lists the costs by operation and watcher.
fn costs(figures: &Figures) -> Vec<((&str, &str), Cost)> {
    let of = figures.operations.iter().flat_map(|operation| {
        let bare = operation.bare_without_strings();
        let cost = move |added| Cost { added, bare };
        let of = operation.watched.iter();
        of.map(move |watched| ((operation.operation.as_str(), watched.watcher.as_str()), cost(watched.added)))
    });
    of.collect()
}

#[cfg(test)]
mod tests {
    use super::{super::figures::fixture, *};

    fn judge(kept: u64, now: u64) -> Vec<String> {
        Kept(vec![fixture::figures(kept)]).judge(&fixture::figures(now))
    }

    #[test]
    fn a_rise_above_5_percent_fails() {
        assert_eq!(judge(10_000, 10_400), Vec::<String>::new());
        assert_eq!(judge(10_000, 9_000), Vec::<String>::new(), "cheaper is not a failure");
        let failures = judge(10_000, 10_600);
        assert_eq!(
            failures,
            [
                "6.12: fault: full adds 10600 instructions, 10000 before; keep the new figures by `cargo xtask bench \
              cost --kernel 6.12 --write`"
            ]
        );
        assert_eq!(judge(0, 80), Vec::<String>::new(), "half a percent of the bare operation");
        assert_eq!(judge(0, 81).len(), 1);
    }

    #[test]
    fn a_row_on_one_side_only_fails() {
        let (all, mut less) = (fixture::figures(10_000), fixture::figures(10_000));
        less.operations.pop();
        let missing = Kept(vec![all.clone()]).judge(&less);
        assert_eq!(missing.len(), 2, "both levels: {missing:?}");
        assert!(missing[0].starts_with("6.12: getppid: light was not measured; "));
        let new = Kept(vec![less]).judge(&all);
        assert!(new[0].starts_with("6.12: getppid: docs/cost.json has no figure of light; "), "{new:?}");
        let mut without_level = all.clone();
        without_level.operations.iter_mut().for_each(|operation| drop(operation.watched.pop()));
        assert_eq!(Kept(vec![all.clone()]).judge(&without_level).len(), 2);
        assert_eq!(Kept::default().judge(&all).len(), 1, "a kernel without figures");
    }

    #[test]
    fn kept_figures_survive_a_round_trip() {
        let mut kept = Kept::default();
        kept.record(Figures { name: "6.18".into(), ..fixture::figures(1) });
        kept.record(Figures { name: "5.10".into(), ..fixture::figures(2) });
        kept.record(Figures { name: "6.18".into(), ..fixture::figures(3) });
        assert_eq!(kept.0.iter().map(|figures| figures.name.as_str()).collect::<Vec<_>>(), ["5.10", "6.18"]);
        assert_eq!(Kept::parse(&kept.to_json().unwrap()).unwrap(), kept);
        assert_eq!(kept.judge(&Figures { name: "6.18".into(), ..fixture::figures(3) }), Vec::<String>::new());
        assert!(Kept::parse("{\"schema\":\"observer-cost/0\",\"kernels\":[]}").is_err());
    }

    #[test]
    fn the_kept_files_are_as_formatted() {
        let read = |name: &str| fs::read_to_string(host::workspace().join(name)).unwrap();
        let data = read(DATA);
        let kept = Kept::parse(&data).unwrap();
        assert_eq!(kept.to_json().unwrap(), data);
        assert_eq!(document::document(&kept), read(DOCUMENT));
        assert!(
            kept.0.iter().any(|figures| figures.name == "6.12"),
            "the kernel that is compared by default"
        );
    }
}
