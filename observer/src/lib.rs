//! The daemon behind the `observer` command, as a library so that its tests can reach it.

pub mod meta;
pub mod snapshot;
pub mod source;
pub mod tui;
