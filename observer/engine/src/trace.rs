#![doc = include_str!("../../../docs/text-traces.md")]
//!
//! `print` writes an event as a line. The rest is for tests, and compiled with the feature `traces` only: `parse` reads a whole trace,
//! `whole` runs it, and `expect` compares findings with expectations. They do not read files.

#[cfg(feature = "traces")]
mod expect;
#[cfg(feature = "traces")]
mod parse;
mod print;
#[cfg(feature = "traces")]
mod whole;

#[cfg(feature = "traces")]
pub use expect::Expectation;
pub use print::line;
#[cfg(feature = "traces")]
pub use whole::{Error, Step, Trace};
