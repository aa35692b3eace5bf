//! The daemon behind the `observer` command, as a library so that its tests can reach it.

pub mod cli;
pub mod diff;
pub mod doctor;
pub mod events;
pub mod exercise;
pub mod facts;
pub mod hint;
pub mod host;
pub mod library;
pub mod meta;
pub mod output;
mod printable;
pub mod recording;
pub mod report;
pub mod run;
pub mod sink;
pub mod snapshot;
pub mod source;
pub mod text;
pub mod tui;
