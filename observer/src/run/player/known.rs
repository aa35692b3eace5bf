//! What a player knows of a recording from having read it: where it can go back to, and where findings are.
//!
//! Decides how many clones of the pipeline are kept as checkpoints, and how often it is asked for its findings.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    recording::{Reader, reader::Place},
    run::pipeline::{Pipeline, TAIL_MAX, Until},
    snapshot::FindingMark,
};

/// Checkpoints kept, at most: one for each part of the file of this size. Each takes some megabytes.
const CHECKPOINTS: u64 = 32;
/// Places at which findings are looked for, about, where an event takes so many bytes of the file: a time bar has not more
/// columns.
const LOOKS: u64 = 256;
const EVENT_BYTES: u64 = 4;

/// A run that can be gone on with.
pub struct Checkpoint {
    pub pipeline: Pipeline,
    pub place: Place,
}

/// What was read, from the begin without a break.
pub struct Known {
    checkpoints: Vec<Checkpoint>,
    /// Bytes of the file from one checkpoint to the next, at least.
    part_bytes: u64,
    look_every: u64,
    /// Event time and events of each look at the findings.
    looks: Vec<(u64, u64)>,
    pub events: u64,
    pub read_ns: u64,
    /// It was read to its end.
    pub whole: bool,
    marks: Arc<Vec<FindingMark>>,
    /// Place in `marks`.
    by_id: BTreeMap<String, usize>,
}

impl Known {
    /// `bytes`: of the file.
    pub fn new(begin: Pipeline, place: Place, bytes: u64) -> Known {
        Known {
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

    /// In the order in which they were listed.
    pub fn marks(&self) -> Arc<Vec<FindingMark>> {
        self.marks.clone()
    }

    /// Takes note of where a run stands that came here from the begin. True if it was never so far before.
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
        let told_ns = pipeline.event_ns();
        self.looks.push((told_ns, pipeline.events()));
        let marks = Arc::make_mut(&mut self.marks);
        for finding in pipeline.findings() {
            match self.by_id.get(&finding.id) {
                // A window that goes on may come to be worse than it was.
                Some(at) => marks[*at].rank = finding.rank,
                None => {
                    self.by_id.insert(finding.id.clone(), marks.len());
                    marks.push(FindingMark {
                        id: finding.id,
                        rank: finding.rank,
                        at_ns: finding.first_ns,
                        told_ns,
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

    /// Where findings are looked for next. What comes of a burst of events in one pass is told at its time.
    pub fn next_look(&self) -> Until {
        if self.whole {
            return Until::END;
        }
        Until::Event(self.looks.last().map_or(0, |(_, events)| *events) + self.look_every)
    }

    /// Events that there are up to a place: at least so many, and not many more.
    pub fn events_at(&self, until: Until) -> u64 {
        match until {
            Until::Event(n) => n.min(self.events),
            Until::Time(ns) => {
                let looks = self.looks.partition_point(|(at_ns, _)| *at_ns <= ns);
                looks.checked_sub(1).map_or(0, |last| self.looks[last].1)
            }
        }
    }

    /// Where to begin to come to a place: far enough before it that a tail is full there, if that can be.
    pub fn before(&self, until: Until) -> &Checkpoint {
        let events = self.events_at(until);
        let is_before = |c: &Checkpoint| c.pipeline.events() + TAIL_MAX as u64 <= events;
        &self.checkpoints[self.checkpoints.partition_point(is_before).saturating_sub(1)]
    }
}
