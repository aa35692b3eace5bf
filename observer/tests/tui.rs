//! The dashboard: keys in, pictures out, without a terminal; and on one, that it gives it back.
//!
//! Pictures are compared with the ones under `tests/snapshots`.
//! `INSTA_UPDATE=always cargo test -p observer --test tui` writes them anew; the difference is there to be read.

#![allow(clippy::unwrap_used)]

#[path = "tui/stage.rs"]
mod stage;

use stage::Stage;

#[test]
fn look() {
    let name = std::env::var("FIX").unwrap_or("walkers-5.10".into());
    let size = std::env::var("SIZE").map_or((80, 24), |s| {
        let (a, b) = s.split_once('x').unwrap();
        (a.parse().unwrap(), b.parse().unwrap())
    });
    let keys = std::env::var("KEYS").unwrap_or_default();
    let mut stage = Stage::over(&name, size);
    stage.press(&keys);
    println!("{}", stage.picture());
}
