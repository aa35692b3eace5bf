//! `cargo xtask pictures`: the pictures of the dashboard in `docs/pictures/`. What is on them is decided, and checked in every
//! test run, by `observer/tests/pictures.rs`; here it is told to write.

use anyhow::Result;

use crate::host;

pub fn run() -> Result<()> {
    host::run(host::cargo().env("OBSERVER_BLESS", "1").args([
        "test",
        "--package",
        "observer",
        "--test",
        "pictures",
    ]))
}
