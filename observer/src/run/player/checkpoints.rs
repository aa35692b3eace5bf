//! Knowledge of a player about the part of a recording that it has read: checkpoints, and marks of findings.
//!
//! Decides how many clones of the pipeline are kept as checkpoints, and how often it is asked for its findings.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    recording::{Reader, reader::Place},
    run::pipeline::{Pipeline, TAIL_MAX, Until},
    snapshot::FindingMark,
};

/// Maximum number of checkpoints kept: one for each part of the file of this size. Each takes some megabytes.
const CHECKPOINTS: u64 = 32;
/// Approximate number of looks at the findings, if an event takes `EVENT_BYTES` of the file: a time bar does not have more
/// columns.
const LOOKS: u64 = 256;
const EVENT_BYTES: u64 = 4;

/// A stored state of the run from which it can continue.
pub struct Checkpoint {
    pub pipeline: Pipeline,
    pub place: Place,
}

/// Everything that was read, from the start without a break.
pub struct Checkpoints {
    checkpoints: Vec<Checkpoint>,
    /// Minimum number of file bytes between two checkpoints.
    part_bytes: u64,
    look_every: u64,
    /// Event time and events of each look at the findings.
    looks: Vec<(u64, u64)>,
    pub events: u64,
    pub read_ns: u64,
    /// True if the recording was read to its end.
    pub whole: bool,
    marks: Arc<Vec<FindingMark>>,
    /// Index of each finding in `marks`.
    by_id: BTreeMap<String, usize>,
}

impl Checkpoints {
    /// Starts with one checkpoint. `bytes`: size of the file.
    pub fn new(begin: Pipeline, place: Place, bytes: u64) -> Checkpoints {
        Checkpoints {
            read_ns: begin.event_ns(),
            checkpoints: vec![Checkpoint { pipeline: begin, place }],
            part_bytes: bytes.div_ceil(CHECKPOINTS),
            look_every: (bytes / EVENT_BYTES / LOOKS).max(1),
            looks: Vec::new(),
            events: 0,
            whole: false,
            marks: Arc::default(),
            by_id: BTreeMap::new(),
        }
    }

    /// Marks in the order in which they were found.
    pub fn marks(&self) -> Arc<Vec<FindingMark>> {
        self.marks.clone()
    }

    /// Notes the state of a run that has come here from the start. Returns true if no run was further before.
    pub fn note(&mut self, pipeline: &Pipeline, reader: &Reader) -> bool {
        let events = pipeline.events();
        if self.whole || events < self.events || pipeline.event_ns() < self.read_ns {
            return false;
        }
        (self.events, self.read_ns, self.whole) = (events, pipeline.event_ns(), pipeline.has_ended());
        if self.whole || matches!(self.next_look(), Until::Event(due) if events >= due) {
            self.look(pipeline);
        }
        if pipeline.is_between_passes() {
            self.keep(pipeline, reader.place());
        }
        true
    }

    fn look(&mut self, pipeline: &Pipeline) {
        let reported_ns = pipeline.event_ns();
        self.looks.push((reported_ns, pipeline.events()));
        let marks = Arc::make_mut(&mut self.marks);
        for finding in pipeline.findings() {
            match self.by_id.get(&finding.id) {
                // A window that is still open may become worse.
                Some(at) => marks[*at].rank = finding.rank,
                None => {
                    self.by_id.insert(finding.id.clone(), marks.len());
                    marks.push(FindingMark {
                        id: finding.id,
                        rank: finding.rank,
                        at_ns: finding.first_ns,
                        reported_ns,
                    });
                }
            }
        }
    }

    fn keep(&mut self, pipeline: &Pipeline, place: Place) {
        let (offset, events) =
            self.checkpoints.last().map_or((0, 0), |c| (c.place.offset, c.pipeline.events()));
        if place.offset < offset + self.part_bytes || pipeline.events() < events + TAIL_MAX as u64 {
            return;
        }
        let mut pipeline = pipeline.clone();
        pipeline.drop_tail();
        self.checkpoints.push(Checkpoint { pipeline, place });
    }

    /// Next look at the findings. Findings from a burst of events in one pass are marked at their own time.
    pub fn next_look(&self) -> Until {
        if self.whole {
            return Until::END;
        }
        Until::Event(self.looks.last().map_or(0, |(_, events)| *events) + self.look_every)
    }

    /// Number of events up to a place: a lower bound, close to the true number.
    pub fn events_at(&self, until: Until) -> u64 {
        match until {
            Until::Event(n) => n.min(self.events),
            Until::Time(ns) => {
                let looks = self.looks.partition_point(|(at_ns, _)| *at_ns <= ns);
                looks.checked_sub(1).map_or(0, |last| self.looks[last].1)
            }
        }
    }

    /// Checkpoint to start from to reach a place: far enough before it that a tail is full there, if possible.
    pub fn before(&self, until: Until) -> &Checkpoint {
        let events = self.events_at(until);
        let is_before = |c: &Checkpoint| c.pipeline.events() + TAIL_MAX as u64 <= events;
        &self.checkpoints[self.checkpoints.partition_point(is_before).saturating_sub(1)]
    }
}
