//! What a task held, and when: from its events, else from the holds of the evidence.
//!
//! Decides how asks and releases become bars. An ask is the having too where nothing tells of a wait, but not while the other
//! task of the picture is known to have the lock alone. Of a spinlock no wait is told: it is held by the time that the task does
//! anything else.

use std::collections::BTreeMap;

use observer_engine::{
    event::{Body, How, LockStep, Mode, Tid},
    finding::{Hold, Side},
    lock_class::LockClass,
};

use crate::events::EventRow;

/// How a bar ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    At(u64),
    /// It is held as far as the events go.
    Later,
    /// Its release was not seen: it was held at the one time for certain, and at the other, if any is known, not any more.
    Unseen {
        at_ns: u64,
        by_ns: u64,
    },
}

/// An end of which nothing is known.
fn unseen(at_ns: u64) -> End {
    End::Unseen { at_ns, by_ns: u64::MAX }
}

/// A lock held, or asked for, by one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    pub class: LockClass,
    pub mode: Option<Mode>,
    pub lock: u64,
    /// When it was asked for; `None`: some time before `got_ns`.
    pub begin_ns: Option<u64>,
    /// From when on it is known to be held; `None`: never, as far as the events go.
    pub got_ns: Option<u64>,
    pub end: End,
}

impl Bar {
    /// All moments that are known.
    pub fn moments(&self) -> impl Iterator<Item = u64> {
        let end = Some(self.ends()).filter(|ns| *ns < u64::MAX);
        [self.begin_ns, self.got_ns, end].into_iter().flatten()
    }

    /// Whether any of it is between these times.
    #[must_use]
    pub fn meets(&self, from_ns: u64, to_ns: u64) -> bool {
        self.begin_ns.or(self.got_ns).unwrap_or(0) <= to_ns && self.ends() >= from_ns
    }

    fn ends(&self) -> u64 {
        if let End::At(ns) | End::Unseen { by_ns: ns, .. } = self.end { ns } else { u64::MAX }
    }

    #[must_use]
    pub fn is_held_at(&self, ns: u64) -> bool {
        self.got_ns.is_some_and(|got| got <= ns) && ns <= self.ends()
    }

    fn is_alone(&self) -> bool {
        self.mode != Some(Mode::Read)
    }
}

/// Bars as events come in. A long lease sees thousands of them, a task has few locks at a time.
#[derive(Default)]
struct Bars {
    all: Vec<Bar>,
    /// Indices of those that have no end yet.
    open: Vec<usize>,
}

impl Bars {
    fn push(&mut self, bar: Bar) {
        if bar.end == End::Later {
            self.open.push(self.all.len());
        }
        self.all.push(bar);
    }

    /// The last one of this lock that has no end yet.
    fn open_mut(&mut self, lock: u64) -> Option<&mut Bar> {
        let i = self.open.iter().rfind(|i| self.all[**i].lock == lock)?;
        self.all.get_mut(*i)
    }

    fn close(&mut self, lock: u64, end: End) -> Option<&mut Bar> {
        let place = self.open.iter().rposition(|i| self.all[*i].lock == lock)?;
        let bar = self.all.get_mut(self.open.remove(place))?;
        bar.end = end;
        Some(bar)
    }

    /// The last ask for it waits, or waits no more.
    fn wait(&mut self, lock: u64, got_ns: Option<u64>) {
        if let Some(bar) = self.open_mut(lock) {
            bar.got_ns = got_ns;
        }
    }

    /// Whether there was one to release.
    fn release(&mut self, lock: u64, now_ns: u64) -> bool {
        let bar = self.close(lock, End::At(now_ns));
        bar.map(|bar| bar.got_ns = bar.got_ns.or(Some(now_ns))).is_some()
    }

    /// A release of what was not seen to be taken: it was held before the events begin. A folio may be taken unseen at any time.
    fn release_or_before(&mut self, what: (LockClass, Option<Mode>, u64), now_ns: u64) {
        let (class, mode, lock) = what;
        if !self.release(lock, now_ns) {
            let got_ns = Some(if class.is_folio() { now_ns } else { 0 });
            self.push(Bar { class, mode, lock, begin_ns: None, got_ns, end: End::At(now_ns) });
        }
    }
}

/// Bars out of the events of one task.
#[must_use]
pub fn of_task(events: &[EventRow], tid: Tid) -> Vec<Bar> {
    let mut bars = Bars::default();
    let mut last = None;
    let mut spins = None;
    for (i, row) in events.iter().enumerate() {
        if row.event.tid == tid {
            last = Some(i);
            if let Some(lock) = spins.take() {
                bars.wait(lock, Some(row.event.time_ns));
            }
            step(&mut bars, row);
            if let Body::Lock { step: LockStep::Ask, class, lock, .. } = row.event.body
                && spins_for(class.into())
            {
                bars.wait(lock.0, None);
                spins = Some(lock.0);
            }
        } else if let Body::FolioRelease { folio, .. } = row.event.body {
            // A folio may be unlocked by somebody else.
            bars.release(folio.0, row.event.time_ns);
        }
    }
    // Nothing came after it: perhaps it waits yet.
    let asked_last = last.is_some_and(|i| {
        matches!(
            events[i].event.body,
            Body::Lock { step: LockStep::Ask | LockStep::WaitBegin, .. } | Body::FolioWait { .. }
        )
    });
    if asked_last && let Some(i) = bars.open.last() {
        bars.all[*i].got_ns = None;
    }
    forget_unreleased(&mut bars.all, events);
    bars.all
}

/// Of a class of which no release is seen at all, it is not known how long a lock is held.
fn forget_unreleased(bars: &mut [Bar], events: &[EventRow]) {
    let released = |class: LockClass| {
        events.iter().any(|row| match row.event.body {
            Body::Lock { step: LockStep::Release, class: of, .. } => of == class.wire(),
            Body::FolioRelease { .. } => class.is_folio(),
            _ => false,
        })
    };
    for bar in bars.iter_mut().filter(|b| b.end == End::Later && !released(b.class)) {
        if let Some(got_ns) = bar.got_ns {
            bar.end = unseen(got_ns);
        }
    }
}

/// Who asks for such a lock does nothing else until it has it.
pub fn spins_for(class: LockClass) -> bool {
    class == LockClass::Ptl
}

fn step(bars: &mut Bars, row: &EventRow) {
    let now_ns = row.event.time_ns;
    match row.event.body {
        Body::Lock { step, class, mode, lock, failed } => {
            let class = LockClass::from(class);
            match step {
                LockStep::Ask | LockStep::Try => {
                    // Nobody asks for what it has, but for reading: the release in between was not seen.
                    let open = bars.open_mut(lock.0).filter(|b| b.is_alone());
                    if let Some(at_ns) = open.map(|b| b.got_ns.or(b.begin_ns).unwrap_or(0)) {
                        bars.close(lock.0, End::Unseen { at_ns, by_ns: now_ns });
                    }
                    bars.push(begin(class, mode, lock.0, now_ns));
                }
                LockStep::GaveUp => {
                    if let Some(bar) = bars.close(lock.0, End::At(now_ns)) {
                        bar.got_ns = None;
                    }
                }
                LockStep::Release => bars.release_or_before((class, mode, lock.0), now_ns),
                LockStep::Downgrade => {
                    bars.release_or_before((class, Some(Mode::Write), lock.0), now_ns);
                    bars.push(begin(class, Some(Mode::Read), lock.0, now_ns));
                }
                LockStep::WaitBegin => bars.wait(lock.0, None),
                LockStep::WaitEnd => bars.wait(lock.0, (!failed).then_some(now_ns)),
                LockStep::Busy => {}
            }
        }
        Body::FolioHeld { folio, mapping, how, .. } => match bars.open_mut(folio.0) {
            Some(bar) => bar.got_ns = bar.got_ns.or(Some(now_ns)),
            None => {
                let bar = begin(folio_class(mapping.0), Some(Mode::Exclusive), folio.0, now_ns);
                let begin_ns = bar.begin_ns.filter(|_| how == How::Returned);
                bars.push(Bar { begin_ns, ..bar });
            }
        },
        Body::FolioWait { folio, mapping, .. } => {
            let bar = begin(folio_class(mapping.0), Some(Mode::Exclusive), folio.0, now_ns);
            bars.push(Bar { got_ns: None, ..bar });
        }
        Body::FolioRelease { folio, mapping, .. } => {
            let what = (folio_class(mapping.0), Some(Mode::Exclusive), folio.0);
            bars.release_or_before(what, now_ns);
        }
        _ => {}
    }
}

fn begin(class: LockClass, mode: Option<Mode>, lock: u64, now_ns: u64) -> Bar {
    Bar { class, mode, lock, begin_ns: Some(now_ns), got_ns: Some(now_ns), end: End::Later }
}

fn folio_class(mapping: u64) -> LockClass {
    match mapping {
        0 => LockClass::Folio,
        m if m & 1 == 1 => LockClass::FolioAnon,
        _ => LockClass::FolioFile,
    }
}

/// Adds the holds of the evidence that no bar shows.
pub fn add_holds(bars: &mut Vec<Bar>, side: &Side) {
    for hold in &side.holds {
        let at_ns = side.time_ns;
        let shown = |b: &&mut Bar| {
            b.lock == hold.lock && (b.meets(at_ns, at_ns) || b.begin_ns.is_none() && b.ends() >= at_ns)
        };
        // The later one, where it ends with being asked for again.
        match bars.iter_mut().rfind(shown) {
            // What is known of one that began before the events.
            Some(bar) => {
                if bar.begin_ns.is_none() {
                    bar.begin_ns = since(hold);
                    bar.got_ns = bar.got_ns.min(Some(hold.since_ns.min(at_ns)));
                }
                bar.class = hold.class;
                bar.mode = hold.mode.or(bar.mode);
                if let End::Unseen { at_ns, by_ns } = &mut bar.end {
                    *at_ns = side.time_ns.max(*at_ns).min(*by_ns);
                }
            }
            None => bars.push(Bar {
                class: hold.class,
                mode: hold.mode,
                lock: hold.lock,
                begin_ns: since(hold),
                got_ns: Some(if spins_for(hold.class) {
                    side.time_ns
                } else {
                    hold.since_ns.min(side.time_ns)
                }),
                end: unseen(side.time_ns),
            }),
        }
    }
}

/// When it was taken; of an inferred hold, or one that stands for many, that is not known.
fn since(hold: &Hold) -> Option<u64> {
    (!hold.known.is_inferred() && hold.since_ns > 0).then_some(hold.since_ns)
}

/// Who asks for what the other has waits until it is released, where one of the two wants it alone.
pub fn wait_for_each_other(a: &mut [Bar], b: &mut [Bar]) {
    wait_for(a, b);
    wait_for(b, a);
    end_by(a, b);
    end_by(b, a);
}

/// What the other one has, where one of the two has it alone, was released before.
fn end_by(having: &mut [Bar], others: &[Bar]) {
    let mut by_lock: BTreeMap<u64, Vec<(u64, bool)>> = BTreeMap::new();
    for bar in others {
        if let Some(got_ns) = bar.got_ns {
            by_lock.entry(bar.lock).or_default().push((got_ns, bar.is_alone()));
        }
    }
    by_lock.values_mut().for_each(|bars| bars.sort_unstable());
    for bar in having {
        let is_alone = bar.is_alone();
        let (Some(others), End::Unseen { at_ns, by_ns }) = (by_lock.get(&bar.lock), &mut bar.end) else {
            continue;
        };
        let after = others.partition_point(|(got_ns, _)| *got_ns <= *at_ns);
        if let Some((got_ns, _)) = others[after..].iter().find(|(_, alone)| is_alone || *alone) {
            *by_ns = (*by_ns).min(*got_ns);
        }
    }
}

fn wait_for(asking: &mut [Bar], having: &[Bar]) {
    let mut by_lock: BTreeMap<u64, Vec<&Bar>> = BTreeMap::new();
    for bar in having.iter().filter(|b| b.got_ns.is_some()) {
        by_lock.entry(bar.lock).or_default().push(bar);
    }
    by_lock.values_mut().for_each(|bars| bars.sort_by_key(|b| b.got_ns));
    for bar in asking {
        let Some(bars) = by_lock.get(&bar.lock).filter(|_| bar.got_ns.is_some()) else { continue };
        // One task has a lock once: the last time before this counts.
        let before = bars.partition_point(|b| b.got_ns < bar.got_ns);
        let Some(other) = before.checked_sub(1).map(|i| bars[i]) else { continue };
        if let End::At(at) = other.end
            && (other.is_alone() || bar.is_alone())
            && bar.got_ns < Some(at)
            && at <= bar.ends()
        {
            bar.got_ns = Some(at);
        }
    }
}
