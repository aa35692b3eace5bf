//! `cargo xtask pictures`: writes the pictures of the dashboard to `docs/pictures/`. `observer/tests/pictures.rs` defines
//! them and checks them in every test run; here it is run with the order to write them.

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
