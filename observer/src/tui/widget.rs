//! Pictures: what happened, drawn with characters.
//!
//! Each is a pure function from engine data and a width to lines. A kind of finding without a picture needs no line here. They keep no state, know no terminal, and do not panic at
//! any width; lines are never wider than asked for. Characters carry the whole meaning: tones only help.

mod apart;
mod axis;
mod bars;
mod canvas;
mod glyphs;
mod lane;
pub mod life;
pub mod matrix;
mod sides;
pub mod timebar;
pub mod timeline;

use observer_engine::{
    finding::{Evidence, Finding},
    setup::Setup,
};

use super::text::Text;
use crate::events::EventRow;

pub use self::glyphs::Glyphs;

/// Picture of a finding; empty where there is nothing to draw. `events`: known events of its tasks around it.
#[must_use]
pub fn of_finding(
    finding: &Finding,
    events: &[EventRow],
    setup: &Setup,
    start_ns: u64,
    width: usize,
    glyphs: &Glyphs,
) -> Vec<Text> {
    match &finding.evidence {
        Evidence::Window(w) => {
            timeline::lines(&w.longest, finding.rank, events, setup, start_ns, width, glyphs)
        }
        Evidence::Prediction(p) => apart::lines(p, finding.rank, start_ns, width, glyphs),
        Evidence::Cycle(c) => sides::of_cycle(c, finding.rank, start_ns, width, glyphs),
        Evidence::AgainstOrder(a) => sides::of_against(a, start_ns, width, glyphs),
        Evidence::Relock(r) => sides::of_relock(r, start_ns, width, glyphs),
        _ => Vec::new(),
    }
}

/// Returns true if the picture shows events of the finding's tasks in addition to the evidence.
#[must_use]
pub fn needs_events(finding: &Finding) -> bool {
    matches!(finding.evidence, Evidence::Window(_) | Evidence::Prediction(_))
}

/// Names the lock that would have excluded the parties, if the picture alone does not.
#[must_use]
pub fn missing(finding: &Finding, setup: &Setup) -> Option<Text> {
    match &finding.evidence {
        Evidence::Window(w) => Some(timeline::missing(&w.longest, setup)),
        _ => None,
    }
}
