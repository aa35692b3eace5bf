//! Sinks: a run's outcome for people and for programs.
//!
//! Decides the words and the wire types of output. A sink converts and writes; it never analyses.

pub mod dot;
pub mod finding;
pub mod json;
pub mod line;
pub mod text;
pub mod words;
