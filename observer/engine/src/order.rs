//! Merges the CPUs' streams into one order and finds the missing records.
//!
//! This module decides when an event may be released and which sequence numbers are holes. It does not interpret
//! events.
//!
//! **Watermark rule.** A pass reads every ring once. Its mark states when the pass began ([`Mark::time_ns`], read
//! before the first ring) and if every ring was read up to records that are later than that ([`Mark::complete`]). After
//! a complete pass, all events older than the mark of the *previous* complete pass are released, sorted by time, then
//! CPU, then position in the ring. The slack of one pass is for records that were stamped but not committed yet when
//! their ring was read. An event that arrives after its time was released is passed on with the next release and
//! counted as late, never dropped. An incomplete pass releases nothing until [`PENDING_MAX`] events wait; then it
//! counts as complete.
//!
//! **Holes.** Each CPU numbers its records without a break, including those that found no room. A skipped number that
//! has not arrived by the time the record before it is released is a hole between its neighbours' times. A duplicate
//! number is not a hole.

use std::collections::{BTreeMap, BinaryHeap};

use observer_ebpf::{
    Header,
    record::{Incomplete, Record, Records},
};

use crate::event::{Event, Undecodable, decode};

/// Maximum number of events that wait for a complete pass.
pub const PENDING_MAX: usize = 1 << 21;

/// A jump by more than this is a restarted or damaged stream; its hidden records cannot be counted.
const JUMP_MAX: u32 = 1 << 30;

/// End of a drain pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Number of the pass within this run.
    pub number: u64,
    /// Value of `CLOCK_MONOTONIC`, read before the first ring was read.
    pub time_ns: u64,
    /// Every ring was read to its end or to a record stamped after `time_ns`, and the losses up to then are known.
    pub complete: bool,
}

/// Sequence numbers of one CPU that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub cpu: u16,
    /// Time of the record before.
    pub lo_ns: u64,
    /// Time of the record after.
    pub hi_ns: u64,
    pub lost: u64,
}

/// Output of the merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Event(&'a Event),
    /// Position in the order: that of the record before it.
    Gap(Gap),
}

/// Base of extended sequence numbers, which continue past 32 bits: a number before the first one is not negative.
const FIRST: u64 = 1 << 32;

/// Counts of the merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub events: u64,
    /// Events passed on after later events were released.
    pub late: u64,
    /// Sequence numbers in gaps that were passed on.
    pub lost: u64,
    /// Bytes that are not a whole record; the rest of that CPU's pass is skipped.
    pub short: u64,
    /// Records of a kind that this version does not know.
    pub unknown_kind: u64,
    /// Records with a class, mode or `how` that this version does not know.
    pub unknown_value: u64,
}

impl Counts {
    /// Records that could not be decoded.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.short + self.unknown_kind + self.unknown_value
    }
}

/// Merges the streams. Feed batches, then the mark of their pass.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// CPUs in the order of their first records.
    cpus: Vec<Cpu>,
    /// Index into `cpus` by CPU number.
    places: Vec<Option<usize>>,
    /// Places of the CPUs that have something to release or to clear. A file may name 65,536 CPUs and end as many passes in each of which
    /// one has records.
    busy: Vec<usize>,
    previous_mark_ns: u64,
    released_ns: u64,
    pending: usize,
    counts: Counts,
    heap: BinaryHeap<Head>,
}

#[derive(Clone, Debug, Default)]
struct Cpu {
    number: u16,
    queue: Vec<Event>,
    /// Number of events at the start of `queue` that are already released.
    head: usize,
    /// The part of `queue` from `head` on is not sorted by time.
    unsorted: bool,
    /// First bytes of a record whose rest is in the next batch.
    torn: Vec<u8>,
    /// This pass contained bytes that are not a record: the record boundaries are lost.
    astray: bool,
    /// Extended sequence number and time of the record with the highest number.
    last: Option<(u64, u64)>,
    /// Gaps by their first extended number. Damaged streams have hundreds of thousands.
    gaps: BTreeMap<u64, OpenGap>,
    /// Count of the numbers in `gaps`.
    open: u64,
    /// Count of the numbers in gaps that were passed on.
    lost: u64,
    /// It is in [`Order::busy`].
    is_busy: bool,
}

/// Missing numbers up to `last`.
#[derive(Clone, Copy, Debug)]
struct OpenGap {
    last: u64,
    lo_ns: u64,
    hi_ns: u64,
}

/// The next item of one CPU in the merge; the smallest (time, CPU number) is the greatest in the heap.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    time_ns: u64,
    number: u16,
    place: usize,
}

/// A time and a CPU number: what is before it is released. Every number is below [`ALL_CPUS`].
type Bound = (u64, u32);
const ALL_CPUS: u32 = u32::MAX;

impl Head {
    fn bound(&self) -> Bound {
        (self.time_ns, self.number.into())
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> std::cmp::Ordering {
        other.bound().cmp(&self.bound())
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Head) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Order {
    #[must_use]
    pub fn new() -> Order {
        Order::default()
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the count of skipped numbers of a CPU so far. A missing number after the last record is not included.
    #[must_use]
    pub fn missing(&self, cpu: u16) -> u64 {
        let place = self.places.get(usize::from(cpu)).copied().flatten();
        place.map_or(0, |place| self.cpus[place].lost.saturating_add(self.cpus[place].open))
    }

    /// Time before which the next mark releases everything, if it releases anything.
    #[must_use]
    pub fn releases_ns(&self) -> u64 {
        self.previous_mark_ns
    }

    /// Starts the stream of a CPU at this number: earlier numbers are not missing, except `lost` of them.
    pub fn begin(&mut self, cpu: u16, seq: u32, lost: u64) {
        let place = self.place(cpu);
        self.cpus[place].last = Some((FIRST + u64::from(seq.wrapping_sub(1)), 0));
        self.cpus[place].lost = lost;
    }

    /// Takes bytes of one CPU's ring. The division of a pass into batches does not matter.
    pub fn batch(&mut self, cpu: u16, bytes: &[u8]) {
        let place = self.place(cpu);
        let stream = &mut self.cpus[place];
        let before = stream.queue.len();
        stream.take(bytes, self.released_ns, &mut self.counts);
        self.pending += stream.queue.len() - before;
        if !std::mem::replace(&mut stream.is_busy, true) {
            self.busy.push(place);
        }
    }

    /// Ends a pass and releases events in order. Returns the time up to which everything is released, if it advanced.
    pub fn mark(&mut self, mark: Mark, mut to: impl FnMut(Item<'_>)) -> Option<u64> {
        for place in &self.busy {
            let cpu = &mut self.cpus[*place];
            // Rings contain whole records: a torn record at the end of a pass has no rest.
            self.counts.short += u64::from(!cpu.torn.is_empty() && !cpu.astray);
            cpu.torn.clear();
            cpu.astray = false;
        }
        if !mark.complete && self.pending <= PENDING_MAX {
            return None;
        }
        let until = self.previous_mark_ns;
        self.previous_mark_ns = until.max(mark.time_ns);
        self.release((until, 0), &mut to);
        (until > 0).then_some(until)
    }

    /// Ends the stream: releases everything.
    pub fn finish(&mut self, mut to: impl FnMut(Item<'_>)) {
        self.release((u64::MAX, ALL_CPUS), &mut to);
    }

    fn place(&mut self, cpu: u16) -> usize {
        let slot = usize::from(cpu);
        if let Some(&Some(place)) = self.places.get(slot) {
            return place;
        }
        if self.places.len() <= slot {
            self.places.resize(slot + 1, None);
        }
        self.places[slot] = Some(self.cpus.len());
        self.cpus.push(Cpu { number: cpu, ..Cpu::default() });
        self.cpus.len() - 1
    }

    /// Releases everything before `until`.
    fn release(&mut self, until: Bound, to: &mut impl FnMut(Item<'_>)) {
        self.heap.clear();
        for &place in &self.busy {
            let cpu = &mut self.cpus[place];
            cpu.sort();
            self.heap.extend(cpu.head(place).filter(|head| head.bound() < until));
        }
        while let Some(Head { place, .. }) = self.heap.pop() {
            // Streams have long runs of one CPU: pass a run on up to the next CPU's head.
            let bound = self.heap.peek().map_or(until, Head::bound);
            let cpu = &mut self.cpus[place];
            self.pending -= cpu.hand_on(bound, &mut self.counts, to);
            self.heap.extend(cpu.head(place).filter(|head| head.bound() < until));
        }
        self.busy.retain(|place| {
            let cpu = &mut self.cpus[*place];
            cpu.shrink();
            cpu.is_busy = cpu.next_ns().is_some();
            cpu.is_busy
        });
        self.released_ns = self.released_ns.max(until.0);
    }
}

impl Cpu {
    fn take(&mut self, mut bytes: &[u8], released_ns: u64, counts: &mut Counts) {
        while !self.torn.is_empty() && !bytes.is_empty() && !self.astray {
            self.torn.push(bytes[0]);
            bytes = &bytes[1..];
            match Record::first(&self.torn) {
                Ok(_) => {
                    let torn = std::mem::take(&mut self.torn);
                    for record in Records::of(&torn) {
                        self.record(record, released_ns, counts);
                    }
                }
                Err(Incomplete::Torn) => {}
                Err(Incomplete::NotARecord) => self.go_astray(counts),
            }
        }
        if self.astray {
            return;
        }
        let mut records = Records::of(bytes);
        for record in records.by_ref() {
            self.record(record, released_ns, counts);
        }
        match Record::first(records.rest()) {
            Err(Incomplete::NotARecord) => self.go_astray(counts),
            _ => self.torn.extend_from_slice(records.rest()),
        }
    }

    fn go_astray(&mut self, counts: &mut Counts) {
        self.astray = true;
        self.torn.clear();
        counts.short += 1;
    }

    fn record(&mut self, record: Record<'_>, released_ns: u64, counts: &mut Counts) {
        let Header { time_ns, seq, .. } = record.header();
        self.number(seq, time_ns);
        match decode(self.number, record) {
            Ok(event) => {
                counts.events += 1;
                counts.late += u64::from(time_ns < released_ns);
                self.unsorted |=
                    self.queue.last().is_some_and(|l| l.time_ns > time_ns && self.queue.len() > self.head);
                self.queue.push(event);
            }
            Err(Undecodable::UnknownKind(_)) => counts.unknown_kind += 1,
            Err(Undecodable::UnknownValue(_)) => counts.unknown_value += 1,
        }
    }

    /// Records the arrival of `seq`: opens, narrows or closes gaps.
    fn number(&mut self, seq: u32, time_ns: u64) {
        let Some((last, last_ns)) = self.last else {
            // Every stream starts at number 0; the records before the first one seen have no earlier neighbour.
            let number = FIRST + u64::from(seq);
            if seq > 0 && seq < JUMP_MAX {
                self.miss(FIRST, OpenGap { last: number - 1, lo_ns: 0, hi_ns: time_ns });
            }
            self.last = Some((number, time_ns));
            return;
        };
        let ahead = seq.wrapping_sub(last as u32);
        match (ahead, ahead.wrapping_neg()) {
            (0, _) => {}
            (_, behind) if behind < JUMP_MAX => self.fill(last - u64::from(behind)),
            (ahead, _) => {
                let number = last + u64::from(ahead);
                if ahead > 1 && ahead < JUMP_MAX {
                    let (lo_ns, hi_ns) = (last_ns.min(time_ns), last_ns.max(time_ns));
                    self.miss(last + 1, OpenGap { last: number - 1, lo_ns, hi_ns });
                }
                self.last = Some((number, time_ns));
            }
        }
    }

    fn miss(&mut self, first: u64, gap: OpenGap) {
        self.open += gap.len(first);
        self.gaps.insert(first, gap);
    }

    /// Fills a gap with an older number that arrived late (a program that interrupted another one reserved its number
    /// first).
    fn fill(&mut self, number: u64) {
        let Some((first, gap)) = self.gaps.range(..=number).next_back().map(|(first, gap)| (*first, *gap))
        else {
            return;
        };
        if gap.last < number {
            return;
        }
        self.gaps.remove(&first);
        self.open -= 1;
        if number > first {
            self.gaps.insert(first, OpenGap { last: number - 1, ..gap });
        }
        if number < gap.last {
            self.gaps.insert(number + 1, gap);
        }
    }

    fn sort(&mut self) {
        if self.unsorted {
            // The sort is stable, and linear if the input consists of sorted runs.
            self.queue[self.head..].sort_by_key(|e| e.time_ns);
            self.unsorted = false;
        }
    }

    /// Time of the next item.
    fn next_ns(&self) -> Option<u64> {
        let event = self.queue.get(self.head).map(|e| e.time_ns);
        let gap = self.gaps.first_key_value().map(|(_, gap)| gap.lo_ns);
        [event, gap].into_iter().flatten().min()
    }

    /// The next item, of this CPU at its place.
    fn head(&self, place: usize) -> Option<Head> {
        Some(Head { time_ns: self.next_ns()?, number: self.number, place })
    }

    /// Passes on the items before `bound`. Returns the number of events.
    fn hand_on(&mut self, bound: Bound, counts: &mut Counts, to: &mut impl FnMut(Item<'_>)) -> usize {
        let (from, number) = (self.head, u32::from(self.number));
        loop {
            let gap_ns = self.gaps.first_key_value().map_or(u64::MAX, |(_, gap)| gap.lo_ns);
            while let Some(event) = self.queue.get(self.head)
                && event.time_ns <= gap_ns
                && (event.time_ns, number) < bound
            {
                to(Item::Event(event));
                self.head += 1;
            }
            if (gap_ns, number) >= bound {
                return self.head - from;
            }
            let Some((first, gap)) = self.gaps.pop_first() else { return self.head - from };
            let lost = gap.len(first);
            self.open -= lost;
            // A recording that begins in its middle says how many are missing before it, and may say any number.
            self.lost = self.lost.saturating_add(lost);
            counts.lost += lost;
            to(Item::Gap(Gap { cpu: self.number, lo_ns: gap.lo_ns, hi_ns: gap.hi_ns, lost }));
        }
    }

    /// Frees the room of released events in the queue.
    fn shrink(&mut self) {
        if self.head == self.queue.len() {
            self.queue.clear();
            self.head = 0;
        } else if self.head >= self.queue.len() / 2 {
            self.queue.drain(..self.head);
            self.head = 0;
        }
    }
}

impl OpenGap {
    fn len(&self, first: u64) -> u64 {
        self.last - first + 1
    }
}

#[cfg(test)]
mod tests;
