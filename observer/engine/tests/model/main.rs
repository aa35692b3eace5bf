//! A model of page-table sharing whose truth is known, and a brute-force oracle. For every interleaving, the engine
//! must find every window that existed and no other, with the same evidence, and predict every window that could have
//! existed.
//!
//! `kernel` simulates, `programs` has the paths of the kernel in their variants, `kernels` lists the kernels,
//! `oracle` derives the expected findings, and `compare` checks the engine against it. Everything depends on a seed.
//! A failure prints its seed and the smallest failing run as a text trace.
//!
//! By default a small part runs. All of it: `cargo test --release -p observer-engine --test model -- --ignored`. One
//! run again:
//! `MODEL_KERNEL="late, everything" MODEL_SEED=7 cargo test … -- --ignored one_seed`.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests read files")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod agree;
mod compare;
mod crowd;
mod kernel;
mod kernels;
mod locks;
mod long;
mod oracle;
#[path = "../common/page.rs"]
mod page;
mod predicted;
mod programs;
mod protected;
mod random;
mod scenario;
mod sites;
mod streams;
mod truth;
mod unseen;
