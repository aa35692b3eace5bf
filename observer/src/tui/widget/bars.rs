//! Times at which a task held locks: from its events, else from the holds of the evidence.
//!
//! Decides how requests and releases become bars. A request counts as acquired at once if no wait is recorded, but not while
//! the other task of the picture is known to hold the lock exclusively. Waits for a spinlock are not recorded: it is held by
//! the time that the task does anything else.

use std::collections::BTreeMap;

use observer_engine::{
    event::{Body, How, LockStep, Mode, Tid},
    finding::{Hold, Party},
    lock_class::LockClass,
};

use crate::events::EventRow;

/// End of a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    At(u64),
    /// It is held until the events end.
    Later,
    /// The release was not seen: the lock was certainly held at `at_ns` and, if `by_ns` is known, certainly not held any more
    /// then.
    Unseen {
        at_ns: u64,
        by_ns: u64,
    },
}

/// An unseen release without a known upper bound.
fn unseen(at_ns: u64) -> End {
    End::Unseen { at_ns, by_ns: u64::MAX }
}

/// A lock held, or requested, by one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    pub class: LockClass,
    pub mode: Option<Mode>,
    pub lock: u64,
    /// Moment of the request; `None`: some time before `acquired_ns`.
    pub begin_ns: Option<u64>,
    /// Moment from which on it is known to be held; `None`: not acquired within the events.
    pub acquired_ns: Option<u64>,
    pub end: End,
}

impl Bar {
    /// Known moments of the bar.
    pub fn moments(&self) -> impl Iterator<Item = u64> {
        let end = Some(self.ends()).filter(|ns| *ns < u64::MAX);
        [self.begin_ns, self.acquired_ns, end].into_iter().flatten()
    }

    /// Returns true if any part of the bar is between these times.
    #[must_use]
    pub fn meets(&self, from_ns: u64, to_ns: u64) -> bool {
        self.begin_ns.or(self.acquired_ns).unwrap_or(0) <= to_ns && self.ends() >= from_ns
    }

    fn ends(&self) -> u64 {
        if let End::At(ns) | End::Unseen { by_ns: ns, .. } = self.end { ns } else { u64::MAX }
    }

    #[must_use]
    pub fn is_held_at(&self, ns: u64) -> bool {
        self.acquired_ns.is_some_and(|acquired| acquired <= ns) && ns <= self.ends()
    }

    fn is_alone(&self) -> bool {
        self.mode != Some(Mode::Read)
    }
}

/// Bars built from a stream of events. A long lease sees thousands of them, but a task holds few locks at a time.
#[derive(Default)]
struct Bars {
    all: Vec<Bar>,
    /// Indices of the bars that have no end.
    open: Vec<usize>,
}

impl Bars {
    fn push(&mut self, bar: Bar) {
        if bar.end == End::Later {
            self.open.push(self.all.len());
        }
        self.all.push(bar);
    }

    /// Latest bar of this lock that has no end.
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

    /// Sets the acquisition of the latest request: `None` while it waits.
    fn wait(&mut self, lock: u64, acquired_ns: Option<u64>) {
        if let Some(bar) = self.open_mut(lock) {
            bar.acquired_ns = acquired_ns;
        }
    }

    /// Releases the lock; returns true if there was a bar to end.
    fn release(&mut self, lock: u64, now_ns: u64) -> bool {
        let bar = self.close(lock, End::At(now_ns));
        bar.map(|bar| bar.acquired_ns = bar.acquired_ns.or(Some(now_ns))).is_some()
    }

    /// Handles a release whose acquisition was not seen: the lock was held before the events begin. A folio lock may be
    /// acquired unseen at any time.
    fn release_or_before(&mut self, released: (LockClass, Option<Mode>, u64), now_ns: u64) {
        let (class, mode, lock) = released;
        if !self.release(lock, now_ns) {
            let acquired_ns = Some(if class.is_folio() { now_ns } else { 0 });
            self.push(Bar { class, mode, lock, begin_ns: None, acquired_ns, end: End::At(now_ns) });
        }
    }
}

/// Bars built from the events of one task.
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
            if let Body::Lock { step: LockStep::Request, class, lock, .. } = row.event.body
                && spins_for(class.into())
            {
                bars.wait(lock.0, None);
                spins = Some(lock.0);
            }
        } else if let Body::FolioRelease { folio, .. } = row.event.body {
            // Another task may unlock a folio.
            bars.release(folio.0, row.event.time_ns);
        }
    }
    // No event followed the request: the task may still wait.
    let asked_last = last.is_some_and(|i| {
        matches!(
            events[i].event.body,
            Body::Lock { step: LockStep::Request | LockStep::WaitBegin, .. } | Body::FolioWait { .. }
        )
    });
    if asked_last && let Some(i) = bars.open.last() {
        bars.all[*i].acquired_ns = None;
    }
    forget_unreleased(&mut bars.all, events);
    bars.all
}

/// Marks the ends of locks as unseen if no release of their class is visible: their duration is not known.
fn forget_unreleased(bars: &mut [Bar], events: &[EventRow]) {
    let released = |class: LockClass| {
        events.iter().any(|row| match row.event.body {
            Body::Lock { step: LockStep::Release, class: of, .. } => of == class.wire(),
            Body::FolioRelease { .. } => class.is_folio(),
            _ => false,
        })
    };
    for bar in bars.iter_mut().filter(|b| b.end == End::Later && !released(b.class)) {
        if let Some(acquired_ns) = bar.acquired_ns {
            bar.end = unseen(acquired_ns);
        }
    }
}

/// Returns true if a task that requests such a lock does nothing else until it is acquired.
pub fn spins_for(class: LockClass) -> bool {
    class == LockClass::Ptl
}

fn step(bars: &mut Bars, row: &EventRow) {
    let now_ns = row.event.time_ns;
    match row.event.body {
        Body::Lock { step, class, mode, lock, failed } => {
            let class = LockClass::from(class);
            match step {
                LockStep::Request | LockStep::Try => {
                    // A task does not request a lock that it holds, except to read: the release in between was not seen.
                    let open = bars.open_mut(lock.0).filter(|b| b.is_alone());
                    if let Some(at_ns) = open.map(|b| b.acquired_ns.or(b.begin_ns).unwrap_or(0)) {
                        bars.close(lock.0, End::Unseen { at_ns, by_ns: now_ns });
                    }
                    bars.push(begin(class, mode, lock.0, now_ns));
                }
                LockStep::GaveUp => {
                    if let Some(bar) = bars.close(lock.0, End::At(now_ns)) {
                        bar.acquired_ns = None;
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
            Some(bar) => bar.acquired_ns = bar.acquired_ns.or(Some(now_ns)),
            None => {
                let bar = begin(folio_class(mapping.0), Some(Mode::Exclusive), folio.0, now_ns);
                let begin_ns = bar.begin_ns.filter(|_| how == How::Returned);
                bars.push(Bar { begin_ns, ..bar });
            }
        },
        Body::FolioWait { folio, mapping, .. } => {
            let bar = begin(folio_class(mapping.0), Some(Mode::Exclusive), folio.0, now_ns);
            bars.push(Bar { acquired_ns: None, ..bar });
        }
        Body::FolioRelease { folio, mapping, .. } => {
            let released = (folio_class(mapping.0), Some(Mode::Exclusive), folio.0);
            bars.release_or_before(released, now_ns);
        }
        _ => {}
    }
}

fn begin(class: LockClass, mode: Option<Mode>, lock: u64, now_ns: u64) -> Bar {
    Bar { class, mode, lock, begin_ns: Some(now_ns), acquired_ns: Some(now_ns), end: End::Later }
}

fn folio_class(mapping: u64) -> LockClass {
    match mapping {
        0 => LockClass::Folio,
        m if m & 1 == 1 => LockClass::FolioAnon,
        _ => LockClass::FolioFile,
    }
}

/// Adds the holds of the evidence that no bar shows.
pub fn add_holds(bars: &mut Vec<Bar>, side: &Party) {
    for hold in &side.holds {
        let at_ns = side.time_ns;
        let shown = |b: &&mut Bar| {
            b.lock == hold.lock && (b.meets(at_ns, at_ns) || b.begin_ns.is_none() && b.ends() >= at_ns)
        };
        // The later bar counts, if the earlier one ends where the lock was requested again.
        match bars.iter_mut().rfind(shown) {
            // The evidence completes a bar that began before the events.
            Some(bar) => {
                if bar.begin_ns.is_none() {
                    bar.begin_ns = since(hold);
                    bar.acquired_ns = bar.acquired_ns.min(Some(hold.since_ns.min(at_ns)));
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
                acquired_ns: Some(if spins_for(hold.class) {
                    side.time_ns
                } else {
                    hold.since_ns.min(side.time_ns)
                }),
                end: unseen(side.time_ns),
            }),
        }
    }
}

/// Acquisition time of a hold; not known if the hold is inferred or represents many.
fn since(hold: &Hold) -> Option<u64> {
    (!hold.basis.is_inferred() && hold.since_ns > 0).then_some(hold.since_ns)
}

/// A task that requests a lock held by the other waits until its release, if one of the two requests or holds it exclusively.
pub fn wait_for_each_other(a: &mut [Bar], b: &mut [Bar]) {
    wait_for(a, b);
    wait_for(b, a);
    end_by(a, b);
    end_by(b, a);
}

/// Bounds an unseen release: if one of the two holds the lock exclusively, it was released before the other acquired it.
fn end_by(having: &mut [Bar], others: &[Bar]) {
    let mut by_lock: BTreeMap<u64, Vec<(u64, bool)>> = BTreeMap::new();
    for bar in others {
        if let Some(acquired_ns) = bar.acquired_ns {
            by_lock.entry(bar.lock).or_default().push((acquired_ns, bar.is_alone()));
        }
    }
    by_lock.values_mut().for_each(|bars| bars.sort_unstable());
    for bar in having {
        let is_alone = bar.is_alone();
        let (Some(others), End::Unseen { at_ns, by_ns }) = (by_lock.get(&bar.lock), &mut bar.end) else {
            continue;
        };
        let after = others.partition_point(|(acquired_ns, _)| *acquired_ns <= *at_ns);
        if let Some((acquired_ns, _)) = others[after..].iter().find(|(_, alone)| is_alone || *alone) {
            *by_ns = (*by_ns).min(*acquired_ns);
        }
    }
}

fn wait_for(asking: &mut [Bar], having: &[Bar]) {
    let mut by_lock: BTreeMap<u64, Vec<&Bar>> = BTreeMap::new();
    for bar in having.iter().filter(|b| b.acquired_ns.is_some()) {
        by_lock.entry(bar.lock).or_default().push(bar);
    }
    by_lock.values_mut().for_each(|bars| bars.sort_by_key(|b| b.acquired_ns));
    for bar in asking {
        let Some(bars) = by_lock.get(&bar.lock).filter(|_| bar.acquired_ns.is_some()) else { continue };
        // A task holds a lock once: its latest bar before this one counts.
        let before = bars.partition_point(|b| b.acquired_ns < bar.acquired_ns);
        let Some(other) = before.checked_sub(1).map(|i| bars[i]) else { continue };
        if let End::At(at) = other.end
            && (other.is_alone() || bar.is_alone())
            && bar.acquired_ns < Some(at)
            && at <= bar.ends()
        {
            bar.acquired_ns = Some(at);
        }
    }
}
