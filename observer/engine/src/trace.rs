#![doc = include_str!("../../../docs/text-traces.md")]
//!
//! This module decides what a trace may say; `parse` reads it, `print` writes an event as a line of it, `expect` holds
//! findings against what was expected. None of them reads a file.

mod expect;
mod parse;
mod print;

pub use expect::Expectation;
pub use print::line;

use crate::{Engine, Hole, event::Event, setup::Setup};

/// One line that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Event(Event),
    Hole(Hole),
    Tick(u64),
}

/// A whole trace: what the kernel is, what happens, and what the engine has to say to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub setup: Setup,
    pub steps: Vec<Step>,
    pub expectations: Vec<Expectation>,
}

/// A line that is no trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Error {
    pub line: usize,
    pub what: String,
}

impl Trace {
    /// Lets it happen, to its end.
    #[must_use]
    pub fn run(&self) -> Engine {
        let mut engine = Engine::new(self.setup.clone());
        for step in &self.steps {
            match step {
                Step::Event(event) => engine.push(event),
                Step::Hole(hole) => engine.hole(*hole),
                Step::Tick(now_ns) => engine.tick(*now_ns),
            }
        }
        engine.finish();
        engine
    }

    /// Differences between what was expected and what the engine says; none: all is as expected.
    #[must_use]
    pub fn check(&self, engine: &Engine) -> Vec<String> {
        expect::check(&self.expectations, engine)
    }
}
