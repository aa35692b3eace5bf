//! The one order of the CPUs' streams, and what is missing in it.
//!
//! Decides when an event may be handed on and which sequence numbers are holes. Knows nothing of what events mean.
//!
//! **Watermark rule.** A pass looks at every ring once; its mark says when it began ([`Mark::time_ns`], read before the
//! first ring was looked at) and whether every ring was read to what came after that ([`Mark::complete`]). After a complete
//! pass all events older than the mark of the *previous* complete pass are released, sorted by time, then CPU, then place in the ring.
//! The slack of one pass is for records that were stamped but not yet committed when their ring was looked at. An
//! event that comes after its time was released is handed on with the next release and counted as late, never
//! dropped. A pass that is not complete releases nothing, until [`PENDING_MAX`] events wait: then it counts as complete.
//!
//! **Holes.** Each CPU numbers its records without a break, those that found no room too. A number that was passed over
//! and has not come by the time the record before it is released is a hole between its neighbours' times. A number
//! that comes twice is no hole.

use std::collections::{BTreeMap, BinaryHeap};

use crate::event::{Event, Undecodable, decode, record_bytes};
use observer_ebpf::HEADER_BYTES;

/// Events that may wait for a complete pass.
pub const PENDING_MAX: usize = 1 << 21;

/// A jump of more numbers than this is a restarted or damaged stream; what it hides cannot be counted.
const JUMP_MAX: u32 = 1 << 30;

/// The end of a drain pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Counts passes of this run.
    pub number: u64,
    /// `CLOCK_MONOTONIC` read before the first ring was looked at.
    pub time_ns: u64,
    /// Every ring was read to its end or to a record that was stamped after `time_ns`, and what was lost until then is known.
    pub complete: bool,
}

/// Sequence numbers of one CPU that never came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub cpu: u16,
    /// Time of the record before.
    pub lo_ns: u64,
    /// Time of the record after.
    pub hi_ns: u64,
    pub lost: u64,
}

/// What is handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Event(&'a Event),
    /// Comes where the record before it has its place.
    Gap(Gap),
}

/// Sequence numbers are counted on past their 32 bits from here, so that one behind the first is no less than 0.
const FIRST: u64 = 1 << 32;

/// What was counted on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub events: u64,
    /// Handed on after their time had been released.
    pub late: u64,
    /// Sequence numbers in gaps that were handed on.
    pub lost: u64,
    /// Bytes that are no whole record; the rest of that CPU's pass is skipped.
    pub short: u64,
    /// Records of a kind that this version does not know.
    pub unknown_kind: u64,
    /// Records with a class, mode or `how` that this version does not know.
    pub unknown_value: u64,
}

impl Counts {
    /// Records that were not understood.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.short + self.unknown_kind + self.unknown_value
    }
}

/// Merges the streams. Feed batches, then the mark of their pass.
#[derive(Clone, Debug, Default)]
pub struct Order {
    cpus: Vec<Cpu>,
    /// CPU number to place in `cpus`, which is sorted by CPU number.
    places: Vec<Option<usize>>,
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
    /// Events of `queue` that were released already.
    head: usize,
    /// `queue` from `head` on is not sorted by time.
    unsorted: bool,
    /// First bytes of a record whose rest comes with the next batch.
    torn: Vec<u8>,
    /// Bytes that are no record were met in this pass: the record boundaries are lost.
    astray: bool,
    /// Sequence number, counted on, and time of the last record in the order of numbers.
    last: Option<(u64, u64)>,
    /// By their first number, counted on. Damaged streams have them by the hundred thousand.
    gaps: BTreeMap<u64, OpenGap>,
    /// Numbers in `gaps`.
    open: u64,
    /// Numbers in gaps that were handed on.
    lost: u64,
}

/// Numbers up to `last` did not come yet.
#[derive(Clone, Copy, Debug)]
struct OpenGap {
    last: u64,
    lo_ns: u64,
    hi_ns: u64,
}

/// The next item of one CPU in the merge; the smallest (time, place) is the greatest of the heap.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    time_ns: u64,
    place: usize,
}

impl Ord for Head {
    fn cmp(&self, other: &Head) -> std::cmp::Ordering {
        (other.time_ns, other.place).cmp(&(self.time_ns, self.place))
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

    /// Numbers of a CPU that were passed over so far. A number that nothing came after is not among them.
    #[must_use]
    pub fn missing(&self, cpu: u16) -> u64 {
        self.cpus.iter().find(|c| c.number == cpu).map_or(0, |c| c.lost + c.open)
    }

    /// The next mark releases what is older than this, if it releases anything.
    #[must_use]
    pub fn releases_ns(&self) -> u64 {
        self.previous_mark_ns
    }

    /// The stream of a CPU begins with this number: what was before is not missing. `lost` of it were.
    pub fn begin(&mut self, cpu: u16, seq: u32, lost: u64) {
        let place = self.place(cpu);
        self.cpus[place].last = Some((FIRST + u64::from(seq.wrapping_sub(1)), 0));
        self.cpus[place].lost = lost;
    }

    /// Takes bytes of one CPU's ring. Where a pass's bytes are cut into batches makes no difference.
    pub fn batch(&mut self, cpu: u16, bytes: &[u8]) {
        let place = self.place(cpu);
        let stream = &mut self.cpus[place];
        let before = stream.queue.len();
        stream.take(bytes, self.released_ns, &mut self.counts);
        self.pending += stream.queue.len() - before;
    }

    /// Ends a pass: releases what may be released, in order. Returns the time up to which everything is handed on, if
    /// that moved.
    pub fn mark(&mut self, mark: Mark, mut to: impl FnMut(Item<'_>)) -> Option<u64> {
        for cpu in &mut self.cpus {
            // Rings hold whole records: what is still torn at the end of a pass has no rest.
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
        self.release((u64::MAX, usize::MAX), &mut to);
    }

    fn place(&mut self, cpu: u16) -> usize {
        let slot = usize::from(cpu);
        if let Some(&Some(place)) = self.places.get(slot) {
            return place;
        }
        let place = self.cpus.partition_point(|c| c.number < cpu);
        self.cpus.insert(place, Cpu { number: cpu, ..Cpu::default() });
        for (i, c) in self.cpus.iter().enumerate() {
            let at = usize::from(c.number);
            if self.places.len() <= at {
                self.places.resize(at + 1, None);
            }
            self.places[at] = Some(i);
        }
        place
    }

    /// Hands on everything before `until`, a time and a place.
    fn release(&mut self, until: (u64, usize), to: &mut impl FnMut(Item<'_>)) {
        self.heap.clear();
        for (place, cpu) in self.cpus.iter_mut().enumerate() {
            cpu.sort();
            if let Some(time_ns) = cpu.next_ns().filter(|&t| (t, place) < until) {
                self.heap.push(Head { time_ns, place });
            }
        }
        while let Some(Head { place, .. }) = self.heap.pop() {
            // Streams come in long runs of one CPU: hand the run on up to the next CPU's head.
            let bound = self.heap.peek().map_or(until, |h| (h.time_ns, h.place));
            let cpu = &mut self.cpus[place];
            self.pending -= cpu.hand_on(bound, place, &mut self.counts, to);
            if let Some(time_ns) = cpu.next_ns().filter(|&t| (t, place) < until) {
                self.heap.push(Head { time_ns, place });
            }
        }
        for cpu in &mut self.cpus {
            cpu.shrink();
        }
        self.released_ns = self.released_ns.max(until.0);
    }
}

impl Cpu {
    fn take(&mut self, mut bytes: &[u8], released_ns: u64, counts: &mut Counts) {
        while !self.torn.is_empty() && !bytes.is_empty() && !self.astray {
            self.torn.push(bytes[0]);
            bytes = &bytes[1..];
            if let Some(n) = record_bytes(&self.torn) {
                let torn = std::mem::take(&mut self.torn);
                self.record(&torn[..n], released_ns, counts);
            } else if is_no_record(&self.torn) {
                self.go_astray(counts);
            }
        }
        while !bytes.is_empty() && !self.astray {
            let Some(n) = record_bytes(bytes) else {
                if is_no_record(bytes) {
                    self.go_astray(counts);
                } else {
                    self.torn.extend_from_slice(bytes);
                }
                return;
            };
            self.record(&bytes[..n], released_ns, counts);
            bytes = &bytes[n..];
        }
    }

    fn go_astray(&mut self, counts: &mut Counts) {
        self.astray = true;
        self.torn.clear();
        counts.short += 1;
    }

    fn record(&mut self, bytes: &[u8], released_ns: u64, counts: &mut Counts) {
        let (time_ns, seq) = stamp(bytes);
        self.number(seq, time_ns);
        match decode(self.number, bytes) {
            Ok(event) => {
                counts.events += 1;
                counts.late += u64::from(time_ns < released_ns);
                self.unsorted |=
                    self.queue.last().is_some_and(|l| l.time_ns > time_ns && self.queue.len() > self.head);
                self.queue.push(event);
            }
            Err(Undecodable::Short) => counts.short += 1,
            Err(Undecodable::UnknownKind(_)) => counts.unknown_kind += 1,
            Err(Undecodable::UnknownValue(_)) => counts.unknown_value += 1,
        }
    }

    /// Notes that `seq` came: opens, narrows or closes gaps.
    fn number(&mut self, seq: u32, time_ns: u64) {
        let Some((last, last_ns)) = self.last else {
            // Number 0 opens every stream; what came before the first record that we see has no earlier neighbour.
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

    /// An older number came after all (a program that interrupted another one reserved first).
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
            // Stable, and linear where the input is made of sorted runs.
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

    /// Hands on the items before `bound`, of which equal times are decided by the place. Returns how many events.
    fn hand_on(
        &mut self,
        bound: (u64, usize),
        place: usize,
        counts: &mut Counts,
        to: &mut impl FnMut(Item<'_>),
    ) -> usize {
        let from = self.head;
        loop {
            let gap_ns = self.gaps.first_key_value().map_or(u64::MAX, |(_, gap)| gap.lo_ns);
            while let Some(event) = self.queue.get(self.head)
                && event.time_ns <= gap_ns
                && (event.time_ns, place) < bound
            {
                to(Item::Event(event));
                self.head += 1;
            }
            if (gap_ns, place) >= bound {
                return self.head - from;
            }
            let Some((first, gap)) = self.gaps.pop_first() else { return self.head - from };
            let lost = gap.len(first);
            self.open -= lost;
            self.lost += lost;
            counts.lost += lost;
            to(Item::Gap(Gap { cpu: self.number, lo_ns: gap.lo_ns, hi_ns: gap.hi_ns, lost }));
        }
    }

    /// Gives the room of released events back to the queue.
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

/// Time and sequence number of a record, which every kind has.
fn stamp(record: &[u8]) -> (u64, u32) {
    let mut time = [0; 8];
    let mut seq = [0; 4];
    time.copy_from_slice(&record[..8]);
    seq.copy_from_slice(&record[8..12]);
    (u64::from_le_bytes(time), u32::from_le_bytes(seq))
}

/// Bytes that hold a whole header and yet are no record, whatever follows.
fn is_no_record(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER_BYTES
        && observer_ebpf::kinds::from_wire(u16::from_le_bytes([bytes[16], bytes[17]])).1 == 0
}

#[cfg(test)]
mod tests;
