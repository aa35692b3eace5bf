//! A model of lock order whose truth is known. Tasks acquire locks as the kernel does, the engine receives the
//! records of one random schedule, and a search visits every interleaving of the same tasks. Every deadlock that the
//! engine calls feasible is reachable; every reachable deadlock whose records arrived is listed.
//!
//! `program` has the operations of a task, `case` and `shapes` generate them, `machine` grants locks and searches,
//! and `run` turns one schedule into events, with those of `crowd` between them. The claims are in `check`, `demand`,
//! `hangs` and `lossy`. The model shares no code with the engine. Everything depends on a seed.
//!
//! By default a small part runs. All of it: `cargo test --release -p observer-engine --test deadlocks -- --ignored
//! in_full`.
//! A million cases: `DEADLOCK_CASES=1000000 cargo test --release … -- --ignored soak`.
//! One case again, and its smallest variant with the same failure: `DEADLOCK_SEED=7 cargo test … -- --ignored
//! one_seed`.

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
