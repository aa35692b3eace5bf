//! A small handwritten `matrix.json` for the unit tests of this module's parts.

use std::path::PathBuf;

use super::{Run, report::Report};
use crate::{guest, setup::Kernel};

pub const JSON: &str = include_str!("fixture.json");

pub fn report() -> Report {
    Report::parse(JSON).unwrap()
}

/// A successful run of a kernel of the table.
pub fn run() -> Run {
    Run {
        kernel: Kernel {
            name: "6.12".into(),
            is_row: true,
            version: "6.12.95-1~bpo12+1".into(),
            flavour: "cloud-amd64".into(),
            vmlinuz: PathBuf::new(),
            notice: None,
        },
        outcome: guest::Outcome {
            exit: Some(0),
            release: Some("6.12.95+deb12-cloud-amd64".into()),
            console: "test matrix_of_this_kernel ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored\n"
                .into(),
            problems: Vec::new(),
            notices: Vec::new(),
            seconds: 7.0,
        },
        report: Ok(report()),
    }
}
