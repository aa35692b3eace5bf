//! A recording in memory that can be replayed without some of its records or in other batches.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
    path::PathBuf,
};

use observer::{
    meta::{Closing, Meta, Notice},
    recording::Reader,
    report::Report,
    run::pipeline::Pipeline,
    sink::{json, text},
    source::{Batch, Loss, Pass},
};
use observer_ebpf::{
    loss,
    record::{Record, Records},
};
use observer_engine::{
    event::Event,
    order::{Item, Order},
    setup::Setup,
};

use super::{fixtures, written::written};

/// A recording, whole or with losses.
pub struct Recording {
    meta: Meta,
    passes: Vec<Pass>,
    pub closing: Option<Closing>,
    notices: Vec<Notice>,
    /// Number of removed records.
    pub lost: u64,
}

/// Report of a recording, in all forms.
pub struct Outputs {
    pub report: Report,
    pub text: String,
    pub json: String,
    /// Number of removed records.
    pub lost: u64,
}

/// Position and kind of a record.
pub struct At {
    pub pass: usize,
    pub cpu: u16,
    pub kind: u16,
}

/// The recordings of `fixtures/`, by name.
pub fn recordings() -> Vec<(String, Recording)> {
    let named = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, Recording::read(&std::fs::read(&path).unwrap()).unwrap())
    };
    fixtures::paths().into_iter().map(named).collect()
}

impl Recording {
    /// Reads a file; `None` if it is refused.
    pub fn read(bytes: &[u8]) -> Option<Recording> {
        let mut reader = Reader::new(Box::new(Cursor::new(bytes.to_vec()))).ok()?;
        let passes = fixtures::passes(&mut reader);
        Some(Recording {
            meta: reader.meta().clone(),
            passes,
            closing: reader.closing().cloned(),
            notices: reader.notices(),
            lost: 0,
        })
    }

    /// The recording as a file.
    pub fn bytes(&self) -> Vec<u8> {
        written(&self.meta, &self.passes, self.closing.as_ref())
    }

    pub fn outputs(&self) -> Outputs {
        let mut pipeline = Pipeline::new(&self.meta).unwrap();
        self.passes.iter().for_each(|pass| pipeline.pass(pass));
        let report = pipeline.finish(&self.meta, self.closing.clone(), self.notices.clone());
        let (mut words, mut data) = (Vec::new(), Vec::new());
        text::write(&mut words, &report).unwrap();
        json::write(&mut data, &report).unwrap();
        let (text, json) = (String::from_utf8(words).unwrap(), String::from_utf8(data).unwrap());
        Outputs { report, text, json, lost: self.lost }
    }

    /// Its events in order, and its setup.
    pub fn events(&self) -> (Setup, Vec<Event>) {
        let (mut order, mut events) = (Order::new(), Vec::new());
        let mut take = |item: Item<'_>| {
            if let Item::Event(event) = item {
                events.push(*event);
            }
        };
        for pass in &self.passes {
            pass.batches.iter().for_each(|batch| order.batch(batch.cpu, &batch.bytes));
            order.mark(pass.mark, &mut take);
        }
        order.finish(&mut take);
        (Setup::try_from(&self.meta.setup).unwrap(), events)
    }

    pub fn passes(&self) -> usize {
        self.passes.len()
    }

    /// Index of the pass with the most bytes.
    pub fn busiest(&self) -> usize {
        let bytes = |pass: &Pass| pass.batches.iter().map(|batch| batch.bytes.len()).sum::<usize>();
        (0..self.passes.len()).max_by_key(|at| bytes(&self.passes[*at])).unwrap()
    }

    /// Kinds of its records.
    pub fn kinds(&self) -> BTreeSet<u16> {
        let batches = self.passes.iter().flat_map(|pass| &pass.batches);
        batches.flat_map(|batch| Records::of(&batch.bytes).map(Record::kind)).collect()
    }

    /// The same recording as if the ring had been full at these records.
    pub fn without(&self, mut is_lost: impl FnMut(&At) -> bool) -> Recording {
        let mut totals: BTreeMap<u16, u64> = BTreeMap::new();
        let mut looked_ns = self.meta.start_ns;
        let mut passes = Vec::new();
        for (number, pass) in self.passes.iter().enumerate() {
            let mut lossy = Pass { batches: Vec::new(), ..pass.clone() };
            let mut rose = BTreeSet::new();
            for batch in &pass.batches {
                let mut bytes = Vec::new();
                for record in Records::of(&batch.bytes) {
                    if is_lost(&At { pass: number, cpu: batch.cpu, kind: record.kind() }) {
                        *totals.entry(batch.cpu).or_default() += 1;
                        rose.insert(batch.cpu);
                    } else {
                        bytes.extend_from_slice(record.bytes());
                    }
                }
                lossy.batches.push(Batch { cpu: batch.cpu, bytes });
            }
            let reason = loss::RING_FULL as u16;
            let loss = |cpu| Loss { cpu, reason, site: None, total: totals[&cpu], since_ns: looked_ns };
            lossy.loss.extend(rose.into_iter().map(loss));
            looked_ns = pass.mark.time_ns;
            passes.push(lossy);
        }
        let lost: u64 = totals.values().sum();
        let mut closing = self.closing.clone();
        if let (Some(closing), 1..) = (&mut closing, lost) {
            closing.loss.insert(loss::REASONS[loss::RING_FULL].0.into(), lost);
        }
        Recording { meta: self.meta.clone(), passes, closing, notices: self.notices.clone(), lost }
    }

    /// The same passes in batches of this number of records.
    pub fn with_batches_of(&self, count: usize) -> Recording {
        let cut = |batch: &Batch| -> Vec<Batch> {
            let all: Vec<&[u8]> = Records::of(&batch.bytes).map(Record::bytes).collect();
            all.chunks(count).map(|some| Batch { cpu: batch.cpu, bytes: some.concat() }).collect()
        };
        let passes = self
            .passes
            .iter()
            .map(|pass| Pass { batches: pass.batches.iter().flat_map(cut).collect(), ..pass.clone() });
        Recording {
            meta: self.meta.clone(),
            passes: passes.collect(),
            closing: self.closing.clone(),
            notices: self.notices.clone(),
            lost: 0,
        }
    }
}
