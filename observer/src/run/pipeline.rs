//! Passes in, a report out: order, engine and knowledge of loss.
//!
//! Decides which holes the engine learns of in addition to gaps in the sequence numbers. If a loss counter rose between two
//! readings, there is a hole from the earlier reading to the mark after the later one. Knows no source and no clock; the same
//! passes give the same report.

mod snapshot;
mod steps;
mod tail;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use observer_ebpf::loss;
use observer_engine::{
    Engine, Hole,
    event::{Body, Event, SiteId},
    finding::Finding,
    order::{Counts, Gap, Item, Mark, Order},
    setup,
    view::Stats,
};

pub use self::{
    snapshot::last_snapshot,
    steps::{Taken, Until},
    tail::TAIL_MAX,
};
use self::{
    steps::Step,
    tail::{Seen, Tail},
};
use crate::{
    events::{EventRow, Filter},
    meta::{Closing, Meta, Notice, Since},
    report::{Report, stacks::Stacks},
    source::{Loss, Pass},
    text::plural,
};

/// A run up to now. A clone continues independently.
#[derive(Clone)]
pub struct Pipeline {
    order: Order,
    engine: Engine,
    setup: Arc<setup::Setup>,
    losses: Losses,
    stacks: Arc<Stacks>,
    seen: Seen,
    /// Steps that have not been applied, of a pass that is applied step by step.
    waiting: VecDeque<Step>,
    /// Event time of the end, if the run has ended.
    ended: Option<u64>,
    passes: u64,
    start_ns: u64,
    /// Time of the last mark, and the greatest one.
    before_ns: u64,
    now_ns: u64,
}

/// Loss: counters from the source, and gaps found by the order.
#[derive(Clone, Default)]
struct Losses {
    /// Last total and time of the reading before it, by CPU, reason and site.
    totals: BTreeMap<(u16, u16, Option<u16>), (u64, u64)>,
    /// Holes whose end is the next mark.
    open: Vec<Hole>,
    /// Sequence numbers that the order missed, by CPU.
    gaps: BTreeMap<u16, u64>,
    /// Rises of the counters of full rings, by CPU: the readings before and after it, and the amount. A rise is removed when
    /// a gap in the sequence numbers accounts for it.
    rises: BTreeMap<u16, VecDeque<Rise>>,
}

/// A counter rose between two times.
#[derive(Clone, Copy)]
struct Rise {
    lo_ns: u64,
    /// `u64::MAX` until the next reading.
    hi_ns: u64,
    lost: u64,
}

/// Maximum number of rises kept per CPU; the time of older losses is known only from sequence numbers.
const RISES_MAX: usize = 4096;

impl Pipeline {
    /// # Errors
    /// The setup has names that this version does not know.
    pub fn new(meta: &Meta) -> anyhow::Result<Pipeline> {
        let setup = Arc::new(setup::Setup::try_from(&meta.setup)?);
        let (mut order, mut losses) = (Order::new(), Losses::default());
        if let Some(since) = &meta.since {
            losses.begin(since, &mut order);
        }
        Ok(Pipeline {
            order,
            engine: Engine::new(setup::Setup::clone(&setup)),
            setup,
            losses,
            stacks: Arc::default(),
            seen: Seen::default(),
            waiting: VecDeque::new(),
            ended: None,
            passes: 0,
            start_ns: meta.start_ns,
            before_ns: 0,
            now_ns: meta.start_ns,
        })
    }

    /// Takes a pass.
    pub fn pass(&mut self, pass: &Pass) {
        self.enter(pass);
        let (engine, losses, seen, stacks) =
            (&mut self.engine, &mut self.losses, &mut self.seen, &self.stacks);
        let hand_on = |item: Item<'_>| renumbered(stacks, item, |item| to_engine(engine, losses, seen, item));
        if let Some(until_ns) = self.order.mark(pass.mark, hand_on) {
            self.engine.tick(until_ns);
        }
    }

    /// Takes the parts of a pass other than events, and passes its bytes to the order.
    fn enter(&mut self, pass: &Pass) {
        let Mark { time_ns, .. } = pass.mark;
        self.passes += 1;
        self.now_ns = self.now_ns.max(time_ns);
        self.losses.looked(time_ns);
        for hole in self.losses.open.drain(..) {
            self.engine.hole(Hole { hi_ns: time_ns.max(hole.lo_ns), ..hole });
        }
        if !pass.stacks.is_empty() || !pass.symbols.is_empty() {
            // Copies the stacks if a snapshot still uses them.
            Arc::make_mut(&mut self.stacks).pass(pass, self.before_ns);
        }
        self.before_ns = time_ns;
        for batch in &pass.batches {
            self.order.batch(batch.cpu, &batch.bytes);
        }
        for loss in &pass.loss {
            self.losses.rose(loss, self.start_ns, self.order.missing(loss.cpu));
        }
        // The hole is reported now, before the events that it affects are handed on. It also extends to the next mark, since
        // the counters were read after this one.
        for hole in &mut self.losses.open {
            let hi_ns = time_ns.max(hole.lo_ns);
            self.engine.hole(Hole { hi_ns, ..*hole });
            (hole.lo_ns, hole.hi_ns, hole.lost) = (hi_ns, hi_ns, 0);
        }
    }

    /// Ends the run.
    #[must_use]
    pub fn finish(mut self, meta: &Meta, closing: Option<Closing>, mut notices: Vec<Notice>) -> Report {
        let end_ns = self.end_ns(closing.as_ref());
        self.take(Until::END, usize::MAX);
        if self.ended.is_none() {
            let (engine, losses, seen, stacks) =
                (&mut self.engine, &mut self.losses, &mut self.seen, &self.stacks);
            self.order.finish(|item| renumbered(stacks, item, |item| to_engine(engine, losses, seen, item)));
            self.end(end_ns);
        }
        let undecodable = self.order.counts().undecodable();
        if undecodable > 0 {
            notices.push(Notice::partial(format!("{} could not be decoded", plural(undecodable, "record"))));
        }
        let coverage = self.engine.coverage();
        notices.extend(meta.level.essential_holes(coverage.iter()).into_iter().map(blind));
        let tables = self.engine.tables();
        Report {
            meta: meta.clone(),
            notices,
            coverage,
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

    /// Ends the engine's run, after all events were handed on.
    fn end(&mut self, end_ns: u64) {
        for hole in self.losses.rest(end_ns) {
            self.engine.hole(hole);
        }
        self.engine.tick(self.now_ns);
        self.engine.finish();
        self.ended = Some(end_ns);
    }

    fn end_ns(&self, closing: Option<&Closing>) -> u64 {
        closing.map_or(self.now_ns, |c| c.end_ns.max(self.now_ns))
    }

    /// Begins to keep the last events that pass a filter, for snapshots.
    pub fn keep_tail(&mut self, filter: Filter) {
        self.keep_tail_at(filter, 0);
    }

    /// Does the same for a run that will reach at least this event: rows that would be dropped by then are not kept.
    pub fn keep_tail_at(&mut self, filter: Filter, event: u64) {
        let from = if filter.is_empty() { event.saturating_sub(TAIL_MAX as u64) } else { 0 };
        self.seen.tail = Some(Tail::new(filter.since(self.start_ns), from, &self.engine));
    }

    /// Drops the kept events, and keeps no more.
    pub fn drop_tail(&mut self) {
        self.seen.tail = None;
    }

    /// Number of events handed to the engine.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.engine.events()
    }

    /// Event time up to which the engine knows everything: before [`Pipeline::now_ns`], by the slack of the order.
    #[must_use]
    pub fn event_ns(&self) -> u64 {
        self.ended.unwrap_or(self.engine.now_ns().max(self.start_ns))
    }

    /// True if nothing follows, and the findings are final.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// True if the run is between two passes.
    #[must_use]
    pub fn is_between_passes(&self) -> bool {
        self.waiting.is_empty() && self.ended.is_none()
    }

    /// Events by site number.
    #[must_use]
    pub fn fired(&self) -> Vec<(u16, u64)> {
        self.seen.fired()
    }

    /// The last events that pass the filter of [`Pipeline::keep_tail`], oldest first.
    #[must_use]
    pub fn tail(&self) -> Vec<EventRow> {
        self.seen.rows()
    }

    /// The event that was handed on last, since rows are kept.
    #[must_use]
    pub fn last(&self) -> Option<EventRow> {
        self.seen.last()
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

    /// Total of everything that was lost up to now, for any reason.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.losses.by_reason(None).iter().fold(0, |all: u64, (_, n)| all.saturating_add(*n))
    }

    /// Time of the last mark.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }
}

/// Replaces stack numbers by those of this run, which depend on the passes up to now.
fn renumbered<T>(stacks: &Stacks, item: Item<'_>, to: impl FnOnce(Item<'_>) -> T) -> T {
    match item {
        Item::Event(event @ Event { body: Body::Stack { stack, op }, .. }) => {
            let body = Body::Stack { stack: stacks.number(*stack, event.time_ns), op: *op };
            to(Item::Event(&Event { body, ..*event }))
        }
        other => to(other),
    }
}

fn to_engine(engine: &mut Engine, losses: &mut Losses, seen: &mut Seen, item: Item<'_>) {
    match item {
        Item::Event(event) => {
            seen.note(event, engine);
            engine.push(event);
        }
        Item::Gap(gap) => {
            let gaps = losses.gaps.entry(gap.cpu).or_default();
            *gaps = gaps.saturating_add(gap.lost);
            losses.narrowed(gap).into_iter().for_each(|hole| engine.hole(hole));
        }
    }
}

fn name(reason: u16) -> &'static str {
    loss::REASONS.get(usize::from(reason)).map_or("unknown", |(name, _)| name)
}

impl Losses {
    /// Narrows a gap between two records of a CPU to the rises of its counter, which are narrower if the CPU was quiet.
    fn narrowed(&mut self, gap: Gap) -> Vec<Hole> {
        let Gap { cpu, lo_ns, hi_ns, lost } = gap;
        let hole = |lo_ns, hi_ns, lost| Hole {
            cpu,
            lo_ns,
            hi_ns,
            lost,
            reason: name(loss::RING_FULL as u16),
            site: None,
        };
        let rises = self.rises.entry(cpu).or_default();
        let meets = |r: &Rise| r.lo_ns <= hi_ns && r.hi_ns >= lo_ns;
        let these: Vec<Rise> = rises.iter().copied().filter(meets).collect();
        if these.iter().fold(0, |all: u64, r| all.saturating_add(r.lost)) != lost {
            return vec![hole(lo_ns, hi_ns, lost)];
        }
        rises.retain(|r| !meets(r));
        these.iter().map(|r| hole(r.lo_ns.max(lo_ns), r.hi_ns.min(hi_ns), r.lost)).collect()
    }

    /// Notes that the counters were read before this time.
    fn looked(&mut self, now_ns: u64) {
        for rise in self.rises.values_mut().filter_map(VecDeque::back_mut) {
            rise.hi_ns = rise.hi_ns.min(now_ns.max(rise.lo_ns));
        }
    }

    /// Takes the losses of a run that began earlier: they are not losses of this recording.
    fn begin(&mut self, since: &Since, order: &mut Order) {
        for lost in &since.lost {
            self.totals.insert((lost.cpu, lost.reason, lost.site), (lost.total, lost.since_ns));
        }
        for (&cpu, &seq) in &since.next_seq {
            let full = self.totals.get(&(cpu, loss::RING_FULL as u16, None)).map_or(0, |(total, _)| *total);
            order.begin(cpu, seq, full);
            if full > 0 {
                self.gaps.insert(cpu, full);
            }
        }
    }

    /// Takes a counter that rose. A record that found the ring full has used a sequence number, so the order locates the loss
    /// more exactly; `missing` of these numbers are known to it. The others are reported now as a hole with a count of 0. The
    /// record that closes their gap may arrive long after the affected records of other CPUs were handed on.
    fn rose(&mut self, loss: &Loss, start_ns: u64, missing: u64) {
        let since_ns = loss.since_ns.max(start_ns);
        let key = (loss.cpu, loss.reason, loss.site);
        let (before, _) = self.totals.insert(key, (loss.total, since_ns)).unwrap_or_default();
        let is_numbered = usize::from(loss.reason) == loss::RING_FULL;
        let lost = loss.total.saturating_sub(before);
        if is_numbered && lost > 0 {
            let rises = self.rises.entry(loss.cpu).or_default();
            if rises.len() == RISES_MAX {
                rises.pop_front();
            }
            rises.push_back(Rise { lo_ns: since_ns, hi_ns: u64::MAX, lost });
        }
        if lost > 0 && (!is_numbered || loss.total > missing) {
            let (cpu, reason) = (loss.cpu, name(loss.reason));
            let lost = if is_numbered { 0 } else { lost };
            let site = loss.site.map(SiteId);
            self.open.push(Hole { cpu, lo_ns: since_ns, hi_ns: since_ns, lost, reason, site });
        }
    }

    /// Holes that neither a mark nor a record ends.
    fn rest(&mut self, end_ns: u64) -> Vec<Hole> {
        let mut holes: Vec<Hole> =
            self.open.drain(..).map(|h| Hole { hi_ns: end_ns.max(h.lo_ns), ..h }).collect();
        for (&(cpu, reason, _), &(total, since_ns)) in &self.totals {
            let lost = total.saturating_sub(self.gaps.get(&cpu).copied().unwrap_or(0));
            if usize::from(reason) == loss::RING_FULL && lost > 0 {
                holes.push(Hole {
                    cpu,
                    lo_ns: since_ns,
                    hi_ns: end_ns.max(since_ns),
                    lost,
                    reason: name(reason),
                    site: None,
                });
            }
        }
        holes
    }

    /// Totals by reason; those that are 0 are left out. Gaps count where the counters are lower: a recording may break off
    /// before they were read.
    fn by_reason(&self, closing: Option<&Closing>) -> Vec<(&'static str, u64)> {
        let counted = |reason: usize| -> u64 {
            self.totals
                .iter()
                .filter(|((_, r, _), _)| usize::from(*r) == reason)
                .fold(0, |all, (_, (total, _))| all.saturating_add(*total))
        };
        let total = |(reason, (name, _)): (usize, &(&'static str, &str))| {
            let closed = closing.and_then(|c| c.loss.get(*name)).copied().unwrap_or(0);
            let gaps = if reason == loss::RING_FULL {
                self.gaps.values().copied().fold(0, u64::saturating_add)
            } else {
                0
            };
            (*name, counted(reason).max(closed).max(gaps))
        };
        loss::REASONS.iter().enumerate().map(total).filter(|(_, n)| *n > 0).collect()
    }
}

/// Says that a role is blind which every verdict needs.
fn blind(hole: &setup::Coverage) -> Notice {
    Notice::partial(format!(
        "{} is blind, and no verdict is complete without it: {}",
        hole.role.name(),
        hole.reason
    ))
}

#[cfg(test)]
mod tests;
