//! Passes in, a report out: order, engine and what is known of loss.
//!
//! Decides what the engine is told of loss besides the gaps in the numbers: counters that rose between two looks become
//! a hole between the look before and the mark after. Knows no source and no clock; the same passes give the same
//! report.

mod snapshot;

use std::{collections::BTreeMap, sync::Arc};

use observer_ebpf::loss;
use observer_engine::{
    Engine, Hole,
    event::{Body, Event},
    finding::Finding,
    order::{Counts, Item, Mark, Order},
    setup,
    view::Stats,
};

pub use self::snapshot::last_snapshot;
use crate::{
    meta::{Closing, Meta},
    report::{Report, stacks::Stacks},
    source::{Loss, Pass},
};

/// A run so far. A clone goes on from there by itself.
#[derive(Clone)]
pub struct Pipeline {
    order: Order,
    engine: Engine,
    setup: Arc<setup::Setup>,
    losses: Losses,
    stacks: Arc<Stacks>,
    passes: u64,
    start_ns: u64,
    /// Time of the last mark, and the greatest one.
    before_ns: u64,
    now_ns: u64,
}

/// Counters of loss, as told by the source and as found in the order.
#[derive(Clone, Default)]
struct Losses {
    /// Last total and time of the look before it, by CPU and reason.
    totals: BTreeMap<(u16, u16), (u64, u64)>,
    /// Holes whose end is the next mark.
    open: Vec<Hole>,
    /// Numbers that the order missed, by CPU.
    gaps: BTreeMap<u16, u64>,
}

impl Pipeline {
    /// # Errors
    /// The setup has names that this version does not know.
    pub fn new(meta: &Meta) -> anyhow::Result<Pipeline> {
        let setup = Arc::new(setup::Setup::try_from(&meta.setup)?);
        Ok(Pipeline {
            order: Order::new(),
            engine: Engine::new(setup::Setup::clone(&setup)),
            setup,
            losses: Losses::default(),
            stacks: Arc::default(),
            passes: 0,
            start_ns: meta.start_ns,
            before_ns: 0,
            now_ns: meta.start_ns,
        })
    }

    /// Takes a pass.
    pub fn pass(&mut self, pass: &Pass) {
        let Mark { time_ns, .. } = pass.mark;
        self.passes += 1;
        self.now_ns = self.now_ns.max(time_ns);
        for hole in self.losses.open.drain(..) {
            self.engine.hole(Hole { hi_ns: time_ns.max(hole.lo_ns), ..hole });
        }
        if !pass.stacks.is_empty() || !pass.symbols.is_empty() {
            // Copied if a picture still has them.
            Arc::make_mut(&mut self.stacks).pass(pass, self.before_ns);
        }
        self.before_ns = time_ns;
        for batch in &pass.batches {
            self.order.batch(batch.cpu, &batch.bytes);
        }
        for loss in &pass.loss {
            self.losses.rose(loss, self.start_ns, self.order.missing(loss.cpu));
        }
        // Now, before the events that it bears on are handed on; and to the next mark, since the counters were read after this.
        for hole in &mut self.losses.open {
            let hi_ns = time_ns.max(hole.lo_ns);
            self.engine.hole(Hole { hi_ns, ..*hole });
            (hole.lo_ns, hole.hi_ns, hole.lost) = (hi_ns, hi_ns, 0);
        }
        let (engine, gaps, stacks) = (&mut self.engine, &mut self.losses.gaps, &self.stacks);
        if let Some(until_ns) = self.order.mark(pass.mark, |item| hand_on(engine, gaps, stacks, item)) {
            self.engine.tick(until_ns);
        }
    }

    /// Ends the run.
    #[must_use]
    pub fn finish(mut self, meta: &Meta, closing: Option<Closing>, notices: Vec<String>) -> Report {
        let (engine, gaps, stacks) = (&mut self.engine, &mut self.losses.gaps, &self.stacks);
        self.order.finish(|item| hand_on(engine, gaps, stacks, item));
        let end_ns = closing.as_ref().map_or(self.now_ns, |c| c.end_ns.max(self.now_ns));
        for hole in self.losses.rest(end_ns) {
            self.engine.hole(hole);
        }
        self.engine.tick(self.now_ns);
        self.engine.finish();
        let tables = self.engine.tables();
        Report {
            meta: meta.clone(),
            notices,
            coverage: self.engine.coverage(),
            findings: self.engine.findings(),
            edges: self.engine.edges(),
            protection: self.engine.protection(),
            mappings: self.engine.mappings(&tables),
            tables,
            stacks: Arc::unwrap_or_clone(self.stacks),
            stats: self.engine.stats(),
            counts: self.order.counts(),
            passes: self.passes,
            loss: self.losses.by_reason(closing.as_ref()),
            end_ns,
            closing,
        }
    }

    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        self.engine.findings()
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.order.counts()
    }

    /// Everything that was lost so far, for whatever reason.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.losses.by_reason(None).iter().map(|(_, n)| n).sum()
    }

    /// Time of the last mark.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }
}

fn hand_on(engine: &mut Engine, gaps: &mut BTreeMap<u16, u64>, stacks: &Stacks, item: Item<'_>) {
    match item {
        Item::Event(event @ Event { body: Body::Stack { stack, op }, .. }) => {
            let body = Body::Stack { stack: stacks.number(*stack, event.time_ns), op: *op };
            engine.push(&Event { body, ..*event });
        }
        Item::Event(event) => engine.push(event),
        Item::Gap(gap) => {
            *gaps.entry(gap.cpu).or_default() += gap.lost;
            let (cpu, lo_ns, hi_ns, lost) = (gap.cpu, gap.lo_ns, gap.hi_ns, gap.lost);
            engine.hole(Hole { cpu, lo_ns, hi_ns, lost, reason: name(loss::RING_FULL as u16) });
        }
    }
}

fn name(reason: u16) -> &'static str {
    loss::REASONS.get(usize::from(reason)).map_or("unknown", |(name, _)| name)
}

impl Losses {
    /// A counter rose. What found the ring full took a number, so that the order finds it more exactly: of `missing`
    /// numbers it knows. The others are told now as a hole of nothing: the record that closes their gap may come when
    /// the records of other CPUs that it bears on were handed on long ago.
    fn rose(&mut self, loss: &Loss, start_ns: u64, missing: u64) {
        let since_ns = loss.since_ns.max(start_ns);
        let (before, _) =
            self.totals.insert((loss.cpu, loss.reason), (loss.total, since_ns)).unwrap_or_default();
        let is_numbered = usize::from(loss.reason) == loss::RING_FULL;
        let lost = loss.total.saturating_sub(before);
        if lost > 0 && (!is_numbered || loss.total > missing) {
            let (cpu, reason) = (loss.cpu, name(loss.reason));
            let lost = if is_numbered { 0 } else { lost };
            self.open.push(Hole { cpu, lo_ns: since_ns, hi_ns: since_ns, lost, reason });
        }
    }

    /// The holes that no mark and no record ends.
    fn rest(&mut self, end_ns: u64) -> Vec<Hole> {
        let mut holes: Vec<Hole> =
            self.open.drain(..).map(|h| Hole { hi_ns: end_ns.max(h.lo_ns), ..h }).collect();
        for (&(cpu, reason), &(total, since_ns)) in &self.totals {
            let lost = total.saturating_sub(self.gaps.get(&cpu).copied().unwrap_or(0));
            if usize::from(reason) == loss::RING_FULL && lost > 0 {
                holes.push(Hole {
                    cpu,
                    lo_ns: since_ns,
                    hi_ns: end_ns.max(since_ns),
                    lost,
                    reason: name(reason),
                });
            }
        }
        holes
    }

    /// Totals by reason; those that are 0 are left out. Gaps count where the counters say less: a recording may break
    /// off before they were looked at.
    fn by_reason(&self, closing: Option<&Closing>) -> Vec<(&'static str, u64)> {
        let told = |reason: usize| -> u64 {
            self.totals
                .iter()
                .filter(|((_, r), _)| usize::from(*r) == reason)
                .map(|(_, (total, _))| total)
                .sum()
        };
        let total = |(reason, (name, _)): (usize, &(&'static str, &str))| {
            let closed = closing.and_then(|c| c.loss.get(*name)).copied().unwrap_or(0);
            let gaps = if reason == loss::RING_FULL { self.gaps.values().sum() } else { 0 };
            (*name, told(reason).max(closed).max(gaps))
        };
        loss::REASONS.iter().enumerate().map(total).filter(|(_, n)| *n > 0).collect()
    }
}

#[cfg(test)]
mod tests;
