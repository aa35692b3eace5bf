//! A model of lock order whose truth is known: tasks that take locks as the kernel does, one random schedule of them told to
//! the engine, and a search through every interleaving for what the same tasks could have come to. What the engine calls
//! feasible can be reached; what can be reached and was told is listed.
//!
//! `program` is what tasks do, `case` and `shapes` make it up, `machine` grants locks and searches, `run` tells one schedule as
//! events, with `crowd` between them. The claims are in `check`, `demand`, `hangs` and `lossy`. No code is shared with the engine.
//! Everything comes from a seed.
//!
//! The default is a small part of it. All of it: `cargo test --release -p observer-engine --test deadlocks -- --ignored in_full`.
//! A million cases: `DEADLOCK_CASES=1000000 cargo test --release … -- --ignored soak`.
//! One case again, and the smallest that fails like it: `DEADLOCK_SEED=7 cargo test … -- --ignored one_seed`.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a search needs a set, and a seed may come from outside"
)]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod agree;
mod case;
mod check;
mod crowd;
mod demand;
mod hangs;
mod known;
mod lossy;
mod machine;
#[path = "../common/page.rs"]
mod page;
mod program;
mod random;
mod run;
mod shapes;
mod sites;
