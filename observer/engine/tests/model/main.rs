//! A model of page-table sharing whose truth is known, and a brute-force oracle: whatever the interleaving, the engine finds
//! every window that was there, none that was not, and says the same of it; and it predicts what could have been.
//!
//! `kernel` simulates, `programs` has the paths of the kernel in their variants, `kernels` lists the kernels, `oracle` says what
//! there is to find and `compare` holds the engine to it. Everything comes from a seed. A failure prints its seed, and the
//! smallest run that fails too as a text trace.
//!
//! The default is a small part of it. All of it: `cargo test --release -p observer-engine --test model -- --ignored`. One run again:
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
