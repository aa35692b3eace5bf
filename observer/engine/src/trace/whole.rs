//! A whole trace: what it consists of, and how it is run.

use super::{Expectation, expect};
use crate::{Engine, Hole, event::Event, setup::Setup};

/// One step of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Event(Event),
    Hole(Hole),
    Tick(u64),
}

/// A whole trace: setup of the kernel, steps, and expectations on the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    pub setup: Setup,
    pub steps: Vec<Step>,
    pub expectations: Vec<Expectation>,
}

/// A line that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct Error {
    pub line: usize,
    pub message: String,
}

impl Trace {
    /// Runs all steps and ends the run.
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

    /// Returns the differences between the expectations and the engine's state; empty if there are none.
    #[must_use]
    pub fn check(&self, engine: &Engine) -> Vec<String> {
        expect::check(&self.expectations, engine)
    }
}
